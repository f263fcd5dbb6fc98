"""Models in 16-bit types, and models whose weights accelerate keeps in memory or on disk until a layer runs."""

import os

import numpy as np
import pytest
import torch
from torch import nn

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # ahead of transformers: nothing is asked of the network

import crossbar_sim as cs

accelerate = pytest.importorskip("accelerate")
transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")

PCM = cs.ChipSpec.preset("pcm_1m").evolve(**{"tile.rows": 24})
X = torch.randn(9, 40, generator=torch.Generator().manual_seed(7))
SIZES = {
    "vocab_size": 60,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "initializer_range": 0.2,
    "bos_token_id": 1,
    "eos_token_id": None,
    "pad_token_id": 0,
}
FAMILIES = {
    "llama": ("LlamaConfig", {**SIZES, "num_key_value_heads": 2, "tie_word_embeddings": True}),
    "phi3": ("Phi3Config", SIZES),
    "opt": ("OPTConfig", {**SIZES, "ffn_dim": 48, "word_embed_proj_dim": 32, "init_std": 0.2}),
    "gpt2": ("GPT2Config", {**SIZES, "n_positions": 64, "n_inner": 48}),
}
TOKENS = torch.randint(2, 60, (2, 7), generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request, tmp_path_factory):
    """A language model with random bfloat16 weights and a tokenizer of whole words, as Hugging Face saves them."""
    target = tmp_path_factory.mktemp(request.param)
    torch.manual_seed(0)
    name, settings = FAMILIES[request.param]
    config = getattr(transformers, name)(**settings)
    transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(target)
    words = tokenizers.models.WordLevel({"<unk>": 0, **{f"w{i}": i for i in range(1, 60)}}, unk_token="<unk>")
    tokenizer = tokenizers.Tokenizer(words)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>").save_pretrained(target)
    return str(target)


def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(40, 30), nn.ReLU(), nn.Linear(30, 80), nn.ReLU(), nn.Linear(80, 3)).eval()


OFFLOADS = {
    "memory": lambda folder: accelerate.cpu_offload(model(), "cpu"),
    "disk": lambda folder: accelerate.disk_offload(model(), folder, "cpu"),
    "partly": lambda folder: accelerate.dispatch_model(
        model(), {"0": "cpu", "1": "cpu", "2": "disk", "3": "cpu", "4": "disk"}, offload_dir=folder
    ),
}


def read(mapped, x=X):
    with torch.no_grad():
        return mapped(x)


def logits(mapped):
    with torch.no_grad():
        return mapped(TOKENS).logits


def greedy(mapped):
    mask = torch.ones_like(TOKENS)
    return mapped.generate(input_ids=TOKENS, attention_mask=mask, max_new_tokens=4, do_sample=False)


def places(module):
    return [parameter.device.type for parameter in module.parameters()]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_16_bit_weights_are_programmed_as_their_values(folder, dtype):
    narrow, _ = cs.load_model(folder, dtype=dtype)
    assert {str(parameter.dtype) for parameter in narrow.parameters()} == {f"torch.{dtype}"}
    wide, _ = cs.load_model(folder, dtype="float32")
    wide.load_state_dict({name: value.float() for name, value in narrow.state_dict().items()})
    states = {}
    for mapped in (cs.map_model(narrow, PCM), cs.map_model(wide, PCM)):
        mapped.chip.set_time("1d")
        for name, programmed in mapped.chip.matrices.items():
            states.setdefault(name, []).append((mapped.get_submodule(name), programmed.matrix))
        assert logits(mapped).dtype == next(mapped.parameters()).dtype
        mapped.chip.reset_reads()
    for (own, matrix), (other, expected) in states.values():
        assert matrix.dtype == torch.float32
        assert torch.equal(matrix.effective_flat, expected.effective_flat)
        x = torch.randn(5, own.in_features, generator=torch.Generator().manual_seed(2)).to(own.weight.dtype)
        assert torch.equal(read(own, x), read(other, x.float()).to(x.dtype))  # rounded once


def test_weights_on_disk_make_the_same_chip(folder, tmp_path):
    resident, _ = cs.load_model(folder, dtype="auto")
    offloaded, tokenizer = cs.load_model(folder, dtype="auto", offload=tmp_path / "weights")
    assert set(places(offloaded)) == {"meta"}
    assert not list((tmp_path / "weights").glob("*"))  # they are read from the files of the model
    expected = cs.map_model(resident, PCM, seed=2)
    found = {state: cs.map_model(offloaded, PCM, seed=2, state=state) for state in ("kept", "regenerated")}
    for mapped in (expected, *found.values()):
        mapped.chip.set_time("30d")
    first, tokens = logits(expected), greedy(expected)
    assert first.dtype == torch.bfloat16
    for mapped in found.values():
        assert torch.equal(logits(mapped), first)
        assert torch.equal(greedy(mapped), tokens)
        assert set(places(mapped)) == {"meta"}
    assert torch.equal(logits(offloaded), logits(resident))
    saved = found["regenerated"].chip.save(tmp_path / "chip")
    loaded = cs.load_chip(saved, offloaded, state="regenerated")
    assert torch.equal(logits(loaded), logits(expected))
    text = " ".join(f"w{i % 50 + 1}" for i in range(40))
    metric = cs.Perplexity(text, window=16)
    scores = [cs.evaluate(mapped, [metric], tokenizer) for mapped in (expected, loaded)]
    assert scores[0] == scores[1]


def test_a_sweep_of_offloaded_weights_goes_on_with_those_in_memory(folder, tmp_path):
    resident, tokenizer = cs.load_model(folder, dtype="auto")
    offloaded, _ = cs.load_model(folder, dtype="auto", offload=tmp_path / "weights")
    metric = cs.Perplexity(" ".join(f"w{i % 50 + 1}" for i in range(40)), window=16)
    out = tmp_path / "out"

    def run(own, times, **options):
        return cs.sweep(own, PCM, times, metrics=[metric], tokenizer=tokenizer, **options).frame

    run(offloaded, ["1h"], out=out, state="regenerated")
    found = run(resident, ["1h", "30d"], out=out)  # refused were it another model
    assert found.equals(run(offloaded, ["1h", "30d"], state="regenerated"))
    assert set(places(offloaded)) == {"meta"}


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("state", ["kept", "regenerated"])
@pytest.mark.parametrize("kind", OFFLOADS)
def test_every_way_to_offload(kind, state, inplace, tmp_path):
    original = OFFLOADS[kind](tmp_path)
    before = places(original)
    assert "meta" in before
    mapped = cs.map_model(original, PCM, seed=3, state=state, inplace=inplace)
    assert (mapped is original) == inplace
    expected = cs.map_model(model(), PCM, seed=3)
    for t in ("30d", "1h"):
        mapped.chip.set_time(t)
        expected.chip.set_time(t)
        assert torch.equal(read(mapped), read(expected))
    mapped.chip.reprogram(seed=4)
    expected.chip.reprogram(seed=4)
    assert torch.equal(read(mapped), read(expected))
    one, other = (m.chip.conductances("2") for m in (mapped, expected))
    assert all((a == b).all() for a, b in zip(one, other, strict=True))
    assert places(mapped) == before
    if not inplace:
        assert torch.equal(read(original), read(model()))
        assert mapped[2]._hf_hook.weights_map is original[2]._hf_hook.weights_map
        assert mapped[2]._hf_hook is not original[2]._hf_hook


@pytest.mark.parametrize("kind", ["memory", "disk"])
def test_a_change_of_offloaded_weights_is_refused_until_they_are_written(kind, tmp_path):
    mapped = cs.map_model(OFFLOADS[kind](tmp_path), PCM)
    before = read(mapped)
    if kind == "memory":
        mapped[0]._hf_hook.weights_map["weight"].data.mul_(2)
    else:
        np.memmap(tmp_path / "0.weight.dat", np.float32, "r+")[:] *= 2
    for use in (lambda: read(mapped), lambda: mapped.chip.set_time("1h"), mapped.chip.summary):
        with pytest.raises(cs.StateError, match="0: its weights changed after they were programmed"):
            use()
    mapped.chip.reprogram()
    assert not torch.equal(read(mapped), before)


def test_hooks_can_be_removed_from_copy_and_original(tmp_path):
    original = OFFLOADS["memory"](tmp_path)
    mapped = cs.map_model(original, PCM, state="regenerated")
    expected = read(cs.map_model(model(), PCM))
    for own in (mapped, original):
        accelerate.hooks.remove_hook_from_module(own, recurse=True)
        assert set(places(own)) == {"cpu"}
    assert torch.equal(read(mapped), expected)
    assert torch.equal(read(original), read(model()))


def test_gradients_reach_the_inputs_of_offloaded_layers(tmp_path):
    found = []
    for own in (model(), OFFLOADS["disk"](tmp_path)):
        mapped = cs.map_model(own, PCM, state="regenerated")
        x = X.clone().requires_grad_()
        mapped(x).square().sum().backward()
        found.append(x.grad)
    assert torch.equal(*found)


def test_ranges_are_found_on_offloaded_models(tmp_path):
    spec = PCM.evolve(dac={"bits": 8, "range": {"kind": "calibrated", "quantile": 0.9}})
    one, other = (cs.map_model(m, spec, calibration_data=[X]) for m in (model(), OFFLOADS["disk"](tmp_path)))
    assert torch.equal(read(one), read(other))


@pytest.mark.parametrize("kind", OFFLOADS)
def test_offloaded_models_cannot_be_moved(kind, tmp_path):
    mapped = cs.map_model(OFFLOADS[kind](tmp_path), PCM)
    with pytest.raises((cs.StateError, RuntimeError), match=r"its weights are loaded by accelerate|You can't move"):
        mapped.to(torch.float64)


def test_a_placed_model_that_is_not_offloaded_moves_by_itself():
    original = accelerate.dispatch_model(model(), {"": "cpu"}, force_hooks=True)
    mapped = cs.map_model(original, PCM, state="regenerated")
    assert torch.equal(read(mapped), read(cs.map_model(model(), PCM)))
    mapped.to(torch.float64)
    assert mapped[0].programmed.matrix.dtype == torch.float64
    expected = cs.map_model(model().double(), PCM)
    expected.chip.reset_reads()
    mapped.chip.reset_reads()
    assert torch.equal(read(mapped, X.double()), read(expected, X.double()))


def test_weights_that_a_parent_loads_are_refused(tmp_path):
    whole = accelerate.cpu_offload(nn.Sequential(model()), "cpu", preload_module_classes=["Sequential"])
    with pytest.raises(cs.UsageError, match=r"0\.0\.weight: has no values \(meta device\).*preload_module_classes"):
        cs.map_model(whole, PCM)


def test_other_changes_of_a_forward_are_still_refused(tmp_path):
    changed = OFFLOADS["memory"](tmp_path)
    forward = changed[2].forward
    changed[2].forward = lambda x: forward(x) + 1
    with pytest.raises(cs.UsageError, match=r"2: has hooks, a parametrisation or a forward of its own"):
        cs.map_model(changed, PCM)
    hooked = accelerate.hooks.add_hook_to_module(nn.Linear(4, 3), accelerate.hooks.ModelHook())
    with pytest.raises(cs.UsageError, match="would be lost"):
        cs.map_model(nn.Sequential(hooked), PCM)


def test_what_cannot_be_loaded_is_refused(tmp_path):
    with pytest.raises(cs.UsageError, match=r"dtype = 'bf16': must be one of float32, bfloat16, float16, auto"):
        cs.load_model(str(tmp_path), dtype="bf16")
    (tmp_path / "model.gguf").write_bytes(b"")
    with pytest.raises(cs.UsageError, match=r"offload = .*: a GGUF file is unpacked in memory; give a folder or id"):
        cs.load_model(str(tmp_path / "model.gguf"), offload=tmp_path)
