"""The linear layers of SmolLM2-135M-Instruct alone, each with the inputs that it meets in the model."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

import crossbar_sim as cs

TOKENS = 512


def tokens_for(model: Any, count: int = TOKENS) -> torch.Tensor:
    """A batch (1, count) of random tokens."""
    return torch.randint(0, model.config.vocab_size, (1, count), generator=torch.Generator().manual_seed(0))


class _Shared(dict[str, torch.Tensor]):
    """Inputs that a mapped copy of the layers does not copy."""

    def __deepcopy__(self, memo: dict[int, Any]) -> _Shared:
        return self


class Layers(nn.Module):
    """Linear layers side by side; a forward runs each on inputs of its own, (count, n_in)."""

    def __init__(self, layers: dict[str, nn.Linear], inputs: dict[str, torch.Tensor]):
        super().__init__()
        self.names = {name.replace(".", "_"): name for name in layers}
        for flat, name in self.names.items():
            self.add_module(flat, layers[name])
        self.inputs = _Shared(inputs)

    def forward(self) -> None:
        for flat, name in self.names.items():
            self.get_submodule(flat)(self.inputs[name])


@torch.no_grad()
def smollm2_layers(blocks: int, only: str = "") -> Layers:
    """Layers of the first blocks whose names hold `only`."""
    model, _ = cs.load_model()
    wanted = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and only in name and any(f"layers.{k}." in name for k in range(blocks))
    }
    inputs: dict[str, torch.Tensor] = {}
    hooks = [
        module.register_forward_hook(lambda _, given, __, name=name: inputs.update({name: given[0][0].clone()}))
        for name, module in wanted.items()
    ]
    model(tokens_for(model), use_cache=False)
    for hook in hooks:
        hook.remove()
    return Layers(wanted, inputs)


def random_llama(blocks: int) -> nn.Module:
    """A Llama of SmolLM2-135M's shape with so many blocks and random weights."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=blocks, num_attention_heads=9,
        num_key_value_heads=3, tie_word_embeddings=True, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()
