"""Models that do not fit into memory with their state: mapped, aged and read with the state regenerated layer by layer.

    python tests/benchmarks/large.py [llama-3.2-1b] [phi-3-mini] [smollm2]

The first two have published shapes, random bfloat16 weights, and every linear layer, the head included, on the chip.
They need up to 7 GB and 11 GB. SmolLM2 shows what regenerating costs: the same reads with the state kept, alternating.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable

import torch
from accelerate import init_empty_weights
from paired import paired, peak_bytes, resident_bytes, seconds
from torch import nn
from transformers import AutoModelForCausalLM, LlamaConfig, Phi3Config, PretrainedConfig

import crossbar_sim as cs
from crossbar_sim.bridge.layers import AnalogLinear
from crossbar_sim.progress import Reporter

WINDOWS, TOKENS = 4, 128
SPEC = cs.ChipSpec.preset("pcm_1m")
MODELS: dict[str, Callable[[], PretrainedConfig]] = {
    "llama-3.2-1b": lambda: LlamaConfig(
        hidden_size=2048,
        num_hidden_layers=16,
        intermediate_size=8192,
        num_attention_heads=32,
        num_key_value_heads=8,
        vocab_size=128256,
        tie_word_embeddings=True,
    ),
    "phi-3-mini": lambda: Phi3Config(
        hidden_size=3072,
        num_hidden_layers=32,
        intermediate_size=8192,
        num_attention_heads=32,
        num_key_value_heads=32,
        vocab_size=32064,
    ),
}


def random_model(config: PretrainedConfig) -> nn.Module:
    """The model with normal weights in bfloat16, made parameter by parameter; norms are 1 and biases 0."""
    generator = torch.Generator().manual_seed(0)
    with init_empty_weights():
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    for module in model.modules():
        for name, empty in list(module._parameters.items()):
            if empty is not None and empty.is_meta:
                value = torch.empty(empty.shape, dtype=torch.bfloat16)
                matrix = value.dim() > 1
                value.normal_(0, 0.02, generator=generator) if matrix else value.fill_(float(name == "weight"))
                module._parameters[name] = nn.Parameter(value, requires_grad=False)
                del value, empty
        if module is model.get_input_embeddings() and config.tie_word_embeddings:
            model.get_output_embeddings()._parameters["weight"] = module.weight
    model.tie_weights()
    return model.eval()


def perplexity(model: nn.Module, windows: torch.Tensor) -> float:
    """Of the next tokens of all windows, read at once; with progress over the layers on the chip."""
    layers = [module for module in model.modules() if isinstance(module, AnalogLinear)]
    with Reporter("forward", len(layers)) as reporter:

        def done(layer: AnalogLinear, *_: object) -> None:
            reporter.note("forward")
            reporter.advance()

        hooks = [layer.register_forward_hook(done) for layer in layers]
        logits = model(windows, use_cache=False).logits[:, :-1]
        for hook in hooks:
            hook.remove()
    losses = [nn.functional.cross_entropy(own.float(), ids) for own, ids in zip(logits, windows[:, 1:], strict=True)]
    return float(torch.stack(losses).mean().exp())


@torch.no_grad()
def measure(name: str) -> None:
    """Seconds of each stage and memory of one model."""
    warm = cs.map_model(nn.Linear(600, 300), SPEC, state="regenerated")  # loads the kernels, which are not the model's
    warm.chip.set_time("1d")
    warm(torch.zeros(TOKENS, 600))
    base, found = resident_bytes(), []
    config = MODELS[name]()
    windows = torch.randint(0, config.vocab_size, (WINDOWS, TOKENS), generator=torch.Generator().manual_seed(1))

    def stage(what: str, work: Callable[[], object]) -> None:
        took: list[float] = []
        peak = peak_bytes(lambda: took.append(seconds(work)))
        print(f"  {what:40} {took[0]:7.1f} s   peak {(peak - base) / 1e9:5.2f} GB", flush=True)

    def build() -> None:
        found.append(random_model(config))

    def put_on_chip() -> None:
        found[0] = cs.map_model(found[0], SPEC, state="regenerated", inplace=True)

    def read() -> None:
        found.append(perplexity(found[0], windows))

    print(f"{name}: memory above that of the libraries and kernels, {base / 1e9:.2f} GB")
    stage("random weights in bfloat16", build)
    own = sum(parameter.numel() * parameter.element_size() for parameter in found[0].parameters())
    stage("map_model", put_on_chip)
    stage("set_time, with the compensation read", lambda: found[0].chip.set_time("30d"))
    stage(f"forward of {WINDOWS} x {TOKENS} tokens", read)
    chip = found[0].chip
    weights = sum(plan.n_in * plan.n_out for _, _, plan in chip.plan)
    largest = max(plan.n_in * plan.n_out for _, _, plan in chip.plan)
    shared = next(iter(chip.matrices.values())).memory.n_bytes
    references = chip.summary().compensation_bytes
    kept = shared / largest * weights
    print(f"  perplexity of random weights on random tokens {found[1]:.0f}, {config.vocab_size} tokens are known")
    print(
        f"  {weights / 1e9:.2f} G weights on {len(chip.tiles)} tiles. Model {own / 1e9:.2f} GB, reference reads "
        f"{references / 1e9:.2f} GB, state {shared / 1e9:.2f} GB (the largest layer); kept, the state would need "
        f"{kept / 1e9:.2f} GB, all together {(own + references + kept) / 1e9:.1f} GB",
        flush=True,
    )


@torch.no_grad()
def compare() -> None:
    """A forward of 8 x 512 tokens of SmolLM2 with its state regenerated, over the same with its state kept."""
    model, _ = cs.load_model()
    tokens = torch.randint(0, model.config.vocab_size, (8, 512), generator=torch.Generator().manual_seed(1))
    for name, spec in (("frozen noise", SPEC.evolve(read_noise="frozen")), ("per-read noise", SPEC)):
        kept, regenerated = (cs.map_model(model, spec, state=state) for state in ("kept", "regenerated"))
        for mapped in (kept, regenerated):
            mapped.chip.set_time("30d")
        same = torch.equal(kept(tokens[:1]).logits, regenerated(tokens[:1]).logits)
        ratio = paired(lambda m=regenerated: m(tokens, use_cache=False), lambda m=kept: m(tokens, use_cache=False), 3)
        print(f"smollm2, {name}: 8 x 512 tokens regenerated / kept: {ratio}; same logits: {same}", flush=True)


def main() -> int:
    chosen = sys.argv[1:] or [*MODELS, "smollm2"]
    for name in chosen:
        if name not in {*MODELS, "smollm2"}:
            print(f"model = {name!r}: must be one of {', '.join(MODELS)}, smollm2", file=sys.stderr)
            return 2
    for name in chosen:
        compare() if name == "smollm2" else measure(name)
        gc.collect()
    return 0


if __name__ == "__main__":
    sys.exit(main())
