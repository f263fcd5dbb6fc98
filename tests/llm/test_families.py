"""Every supported family of models: on an ideal chip it is the digital model, and it stays the model it was."""

import copy
import inspect
from dataclasses import dataclass
from functools import cache

import pytest
import torch
from torch import nn

import crossbar_sim as cs

transformers = pytest.importorskip("transformers")

IDEAL = cs.ChipSpec.preset("ideal")
PCM = cs.ChipSpec.preset("pcm_1m")
SIZES = {
    "vocab_size": 100,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "initializer_range": 0.2,
    "bos_token_id": 1,
    "eos_token_id": None,
    "pad_token_id": 0,
}
GROUPED = {**SIZES, "num_key_value_heads": 2}
CAUSAL = {
    "llama": ("LlamaConfig", GROUPED),
    "llama_tied": ("LlamaConfig", {**GROUPED, "tie_word_embeddings": True}),
    "mistral": ("MistralConfig", {**GROUPED, "sliding_window": 4}),
    "qwen2": ("Qwen2Config", GROUPED),
    "qwen3": ("Qwen3Config", {**GROUPED, "head_dim": 8}),
    "phi3": ("Phi3Config", GROUPED),
    "gemma2": ("Gemma2Config", {**GROUPED, "head_dim": 8, "sliding_window": 4}),
    "gpt_neox": ("GPTNeoXConfig", SIZES),
    "gpt2": ("GPT2Config", {**SIZES, "n_positions": 64, "n_inner": 48}),
    "opt": ("OPTConfig", {**SIZES, "ffn_dim": 48, "word_embed_proj_dim": 32, "init_std": 0.2}),
}
TIED = ("llama_tied", "gemma2", "gpt2", "opt")
ENCODERS = {"bert": ("BertConfig", SIZES)}
ALL = [*CAUSAL, *ENCODERS, "sequential"]
KINDS = ["llama", "gpt2", "bert", "sequential"]  # separate head, Conv1D and tied head, encoder, no language model


@dataclass
class Family:
    """A model with random weights and what it is called with."""

    model: nn.Module
    inputs: dict

    def output(self, model):
        with torch.no_grad():
            result = model(**self.inputs)
        if isinstance(result, torch.Tensor):
            return result
        return result.logits if hasattr(result, "logits") else result.last_hidden_state


@cache
def _digital(name):
    torch.manual_seed(0)
    if name == "sequential":
        return nn.Sequential(nn.Linear(24, 40), nn.GELU(), nn.LayerNorm(40), nn.Linear(40, 10, bias=False)).eval()
    config_name, settings = (CAUSAL | ENCODERS)[name]
    auto = transformers.AutoModelForCausalLM if name in CAUSAL else transformers.AutoModel
    return auto.from_config(getattr(transformers, config_name)(**settings)).eval()


def make(name, dtype=torch.float32):
    """A fresh model of a family, the same at every call."""
    model = copy.deepcopy(_digital(name)).to(dtype)
    torch.manual_seed(1)
    if name == "sequential":
        return Family(model, {"input": torch.randn(2, 7, 24, dtype=dtype)})
    return Family(model, {"input_ids": torch.randint(2, 100, (2, 7))})


def relative(found, expected):
    return float((found.double() - expected.double()).abs().max() / expected.double().abs().max())


def greedy(model, tokens, use_cache):
    with torch.no_grad():
        return model.generate(
            input_ids=tokens,
            attention_mask=torch.ones_like(tokens),
            max_new_tokens=6,
            do_sample=False,
            use_cache=use_cache,
        )


def seen_inputs(family, names):
    """What the digital model feeds each named layer, and what the layer answers."""
    seen = {}
    hooks = [
        family.model.get_submodule(name).register_forward_hook(
            lambda _, inputs, output, name=name: seen.update({name: (inputs[0], output)})
        )
        for name in names
    ]
    family.output(family.model)
    for hook in hooks:
        hook.remove()
    return seen


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_ideal_chip_equals_digital(name, dtype, tolerance):
    family = make(name, dtype)
    mapped = cs.map_model(family.model, IDEAL)
    layers = seen_inputs(family, mapped.chip.matrices)
    assert len(layers) == len(mapped.chip.matrices) >= 2
    for layer, (x, expected) in layers.items():
        with torch.no_grad():
            found = mapped.get_submodule(layer)(x)
        assert found.dtype == dtype
        assert relative(found, expected) < tolerance, layer
    assert relative(family.output(mapped), family.output(family.model)) < tolerance


@pytest.mark.parametrize("name", ALL)
def test_every_linear_layer_is_on_the_chip(name):
    mapped = cs.map_model(make(name).model, IDEAL)
    kinds = {type(module).__name__ for module in mapped.modules()}
    assert "AnalogLinear" in kinds
    assert not kinds & {"Linear", "Conv1D"}


@pytest.mark.parametrize("name", CAUSAL)
def test_same_greedy_tokens_with_and_without_cache(name):
    family = make(name)
    mapped = cs.map_model(family.model, IDEAL)
    tokens = family.inputs["input_ids"][:1]
    expected = greedy(family.model, tokens, use_cache=True)
    assert expected.shape == (1, 13)
    assert torch.equal(greedy(mapped, tokens, use_cache=True), expected)
    assert torch.equal(greedy(mapped, tokens, use_cache=False), expected)


@pytest.mark.parametrize("name", KINDS)
def test_state_dict_is_that_of_the_model(name):
    family = make(name)
    before = {key: value.clone() for key, value in family.model.state_dict().items()}
    mapped = cs.map_model(family.model, PCM)
    mapped.chip.set_time("1d")
    after = mapped.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[key], before[key]) for key in before)


@pytest.mark.parametrize("name", KINDS)
def test_new_weights_are_refused_until_reprogrammed(name):
    family = make(name)
    mapped = cs.map_model(family.model, PCM)
    weights = {key: value.clone() * 1.5 for key, value in mapped.state_dict().items()}
    assert mapped.load_state_dict(weights).missing_keys == []
    with pytest.raises(cs.StateError, match=r"weights changed after they were programmed; call chip.reprogram\(\)"):
        family.output(mapped)
    mapped.chip.reprogram()
    expected = cs.map_model(copy.deepcopy(family.model), PCM)  # whose weights are shared, so they are the new ones
    assert torch.equal(family.output(mapped), family.output(expected))


@pytest.mark.parametrize("name", ALL)
def test_class_and_signature_are_kept(name):
    model = make(name).model
    mapped = cs.map_model(model, IDEAL)
    assert type(mapped) is type(model)
    assert inspect.signature(mapped.forward) == inspect.signature(model.forward)
    assert [key for key, _ in mapped.named_modules()] == [key for key, _ in model.named_modules()]


@pytest.mark.parametrize("name", ALL)
def test_original_is_left_alone_and_shared(name):
    family = make(name)
    kinds = [type(module) for module in family.model.modules()]
    values = {key: value.clone() for key, value in family.model.state_dict().items()}
    digital = family.output(family.model)
    mapped = cs.map_model(family.model, PCM)
    mapped.chip.set_time("1y")
    family.output(mapped)

    assert not hasattr(family.model, "chip")
    assert [type(module) for module in family.model.modules()] == kinds
    assert all(torch.equal(value, values[key]) for key, value in family.model.state_dict().items())
    assert torch.equal(family.output(family.model), digital)
    for own, other in (
        (family.model.named_parameters(), mapped.named_parameters()),
        (family.model.named_buffers(), mapped.named_buffers()),
    ):
        own, other = dict(own), dict(other)
        assert list(own) == list(other)
        assert all(own[key] is other[key] for key in own)


@pytest.mark.parametrize("name", TIED)
def test_tied_head_leaves_the_embedding_digital(name):
    family = make(name)
    embedding, head = family.model.get_input_embeddings(), family.model.get_output_embeddings()
    assert embedding.weight is head.weight
    table = embedding.weight.detach().clone()
    mapped = cs.map_model(family.model, PCM)
    mapped.chip.set_time("1y")
    own = mapped.get_input_embeddings()
    assert isinstance(own, nn.Embedding)
    assert own.weight is mapped.get_output_embeddings().weight is embedding.weight
    tokens = family.inputs["input_ids"]
    assert torch.equal(own(tokens), embedding(tokens))
    assert torch.equal(own.weight, table)
    assert type(mapped.get_output_embeddings()).__name__ == "AnalogLinear"


@pytest.mark.parametrize("name", TIED)
def test_tied_head_follows_a_change_of_type(name):
    family = make(name)
    mapped = cs.map_model(family.model, IDEAL).to(torch.float64)
    expected = make(name, torch.float64)
    assert relative(expected.output(mapped), expected.output(expected.model)) < 1e-12


@pytest.mark.parametrize("name", KINDS)
def test_deepcopy_is_another_chip(name):
    family = make(name)
    with torch.no_grad():
        for parameter in family.model.parameters():
            parameter.mul_(1.25)  # as training would: in place
    mapped = cs.map_model(family.model, PCM, seed=3)
    mapped.chip.set_time("1d")
    twin = copy.deepcopy(mapped)
    first = family.output(mapped)
    assert torch.equal(family.output(twin), first)
    layer = next(iter(twin.chip.matrices))
    assert twin.get_submodule(layer).programmed is twin.chip.matrices[layer]

    twin.chip.set_time("1y")
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    mapped.chip.reset_reads()
    assert mapped.chip.time_s == 86400
    assert torch.equal(family.output(mapped), first)


@pytest.mark.parametrize("name", ALL)
def test_to_float64_is_the_digital_model_in_float64(name):
    mapped = cs.map_model(make(name).model, IDEAL).to(torch.float64)
    expected = make(name, torch.float64)
    assert {p.dtype for p in mapped.parameters()} == {torch.float64}
    assert relative(expected.output(mapped), expected.output(expected.model)) < 1e-12


@pytest.mark.parametrize("name", ALL)
def test_to_bfloat16_reads_the_rounded_weights(name):
    family = make(name, torch.bfloat16)
    mapped = cs.map_model(make(name).model, IDEAL).to(torch.bfloat16)
    for layer, (x, _) in seen_inputs(family, mapped.chip.matrices).items():
        digital, analog = family.model.get_submodule(layer), mapped.get_submodule(layer)
        weight = digital.weight.float().t() if type(digital).__name__ == "Conv1D" else digital.weight.float()
        bias = None if digital.bias is None else digital.bias.float()
        with torch.no_grad():
            found, exact = analog(x), nn.functional.linear(x.float(), weight, bias)
        assert found.dtype == torch.bfloat16
        one_rounding = 2.0**-8 * exact.abs() + 1e-6 * exact.abs().max()
        assert ((found.float() - exact).abs() <= one_rounding).all(), layer
    assert relative(family.output(mapped), family.output(family.model)) < 0.1


@pytest.mark.parametrize("name", KINDS)
def test_training_mode_reaches_every_module_of_the_copy_only(name):
    family = make(name)
    mapped = cs.map_model(family.model, IDEAL)
    assert not any(module.training for module in mapped.modules())
    mapped.train()
    assert all(module.training for module in mapped.modules())
    assert not any(module.training for module in family.model.modules())
    mapped.eval()
    assert not any(module.training for module in mapped.modules())


@pytest.mark.parametrize("leading", [(), (5,), (2, 5), (2, 3, 5), (0,), (2, 0)])
@pytest.mark.parametrize("backend", ["numba", "torch"])
@pytest.mark.parametrize("chip", [IDEAL, PCM], ids=lambda spec: spec.name)
def test_any_leading_shape(leading, backend, chip):
    layer = make("sequential", torch.float64).model[0]
    mapped = cs.map_model(nn.Sequential(layer), chip, backend=backend)
    x = torch.randn(*leading, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        found, digital = mapped(x), layer(x)
        assert found.shape == digital.shape
        if x.numel():
            assert relative(found, digital) < (1e-12 if chip is IDEAL else 0.5)
            mapped.chip.reset_reads()
            assert torch.equal(found.reshape(-1, 40), mapped(x.reshape(-1, 24)))


@pytest.mark.parametrize("name", [*CAUSAL, *ENCODERS])
def test_save_pretrained_writes_the_digital_weights(name, tmp_path):
    family = make(name)
    mapped = cs.map_model(family.model, PCM)
    mapped.chip.set_time("1y")
    mapped.save_pretrained(tmp_path)
    loaded = type(family.model).from_pretrained(tmp_path)
    expected = family.model.state_dict()
    assert {key: value.shape for key, value in loaded.state_dict().items()} == {k: v.shape for k, v in expected.items()}
    assert all(torch.equal(value, expected[key]) for key, value in loaded.state_dict().items())
