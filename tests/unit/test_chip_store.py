"""Chips on disk: what was saved comes back bit for bit, and what does not belong together is refused."""

import errno
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import nn

import crossbar_sim as cs
from crossbar_sim import store

PCM = cs.ChipSpec.preset("pcm_1m").evolve(**{"tile.rows": 24})
STATIC = PCM.evolve(name="calibrated", dac={"bits": 8, "range": {"kind": "calibrated", "quantile": 0.9}})
X = torch.randn(4, 40, generator=torch.Generator().manual_seed(7))
RULES = {"2": STATIC, "4": "digital"}


def model(scale=1.0):
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Linear(40, 30), nn.ReLU(), nn.Linear(30, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    with torch.no_grad():
        layers[2].weight.mul_(scale)
    return layers


def make():
    """A chip with everything that is saved: rules, a calibrated range, a time, another compensation, reads."""
    mapped = cs.map_model(model(), PCM, seed=6, rules=RULES, calibration_data=X)
    mapped.chip.compensate(probe_vectors=9)
    mapped.chip.set_time("30d")
    read(mapped)
    read(mapped)
    return mapped


def read(mapped):
    with torch.no_grad():
        return mapped(X)


@pytest.fixture
def saved(tmp_path):
    return make().chip.save(tmp_path / "chip")


def numbers_of(folder):
    (path,) = folder.glob("*.safetensors")
    return path


def same_state(first, second):
    for name, programmed in first.chip.matrices.items():
        one, other = programmed.matrix, second.chip.matrices[name].matrix
        assert all(map(torch.equal, one.effective, other.effective))
        assert all(map(torch.equal, one.variance, other.variance))
        assert torch.equal(one.drift_factor, other.drift_factor)
        assert (one.drift_offset is None) == (other.drift_offset is None)
        assert one.drift_offset is None or torch.equal(one.drift_offset, other.drift_offset)
        assert one.reads == other.reads
        assert (one.input_range is None) == (other.input_range is None)
        assert one.input_range is None or torch.equal(one.input_range, other.input_range)
        assert one.spec == other.spec


def test_everything_comes_back(saved):
    mapped, digital = make(), model()
    loaded = cs.load_chip(saved, digital)
    same_state(mapped, loaded)
    assert (loaded.chip.seed, loaded.chip.time_s, loaded.chip.spec) == (6, 2592000.0, PCM)
    assert loaded.chip.plan == mapped.chip.plan
    assert not hasattr(digital, "chip")
    assert torch.equal(read(loaded), read(mapped))  # the third read of both
    for chip in (loaded.chip, mapped.chip):
        chip.set_time("1y")
    same_state(mapped, loaded)
    assert torch.equal(read(loaded), read(mapped))
    assert str(loaded.chip.summary().plan) == str(mapped.chip.summary().plan)


@pytest.mark.parametrize("of_the_spec", [True, False])
@pytest.mark.parametrize("compensation", [None, "global", "column", "affine"])
def test_present_compensation_comes_back(tmp_path, compensation, of_the_spec):
    mapped = cs.map_model(model(), PCM.evolve(compensation=compensation) if of_the_spec else PCM)
    if not of_the_spec:
        mapped.chip.compensate(compensation, *() if compensation is None else (19, "exact"))
    mapped.chip.set_time("1y")
    loaded = cs.load_chip(mapped.chip.save(tmp_path / "chip"), model())
    same_state(mapped, loaded)
    for chip in (loaded.chip, mapped.chip):
        chip.set_time("1d")
    same_state(mapped, loaded)


def test_saving_what_was_loaded_writes_the_same_files(saved, tmp_path):
    again = cs.load_chip(saved, model()).chip.save(tmp_path / "again")
    assert [(again / file.name).read_bytes() == file.read_bytes() for file in sorted(saved.iterdir())] == [True, True]


def test_backend_and_inplace(saved):
    digital = model()
    loaded = cs.load_chip(str(saved), digital, backend="torch", inplace=True)
    assert loaded is digital
    assert loaded[0].backend == "torch"


SCRIPT = """
import hashlib, sys, torch
from torch import nn
from safetensors.torch import load_file
import crossbar_sim as cs
model = nn.Sequential(nn.Linear(40, 30), nn.ReLU(), nn.Linear(30, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
model.load_state_dict(load_file(sys.argv[2]))
mapped = cs.load_chip(sys.argv[1], model)
with torch.no_grad():
    y = mapped(torch.randn(4, 40, generator=torch.Generator().manual_seed(7)))
print(hashlib.sha256(y.numpy().tobytes()).hexdigest())
"""


def test_into_another_process(saved, tmp_path):
    save_file(model().state_dict(), tmp_path / "weights.safetensors")
    command = [sys.executable, "-c", SCRIPT, str(saved), str(tmp_path / "weights.safetensors")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == hashlib.sha256(read(make()).numpy().tobytes()).hexdigest()


def test_only_data_are_written(saved):
    assert sorted(path.suffix for path in saved.iterdir()) == [".safetensors", ".yaml"]
    numbers = load_file(numbers_of(saved))
    assert sorted(numbers) == ["0|drift_factor", "2|drift_factor", "2|input_range"]
    assert sum(tensor.numel() for tensor in numbers.values()) == 2 * 30 + 2 * 8 + 2  # no state and no weights
    assert isinstance(yaml.safe_load((saved / "chip.yaml").read_text()), dict)


def refused(path, digital, text):
    with pytest.raises(cs.StoreError) as error:
        cs.load_chip(path, digital)
    assert text in str(error.value)
    assert "\n" not in str(error.value)
    assert not hasattr(digital, "chip")


def test_other_weights_are_refused(saved):
    refused(saved, model(scale=1.0000001), "the weights of '2' are not those that were programmed")
    refused(saved, model().double(), "the weights of '0' are not those that were programmed")


def test_other_architecture_is_refused(saved):
    refused(saved, model().append(nn.Linear(3, 3)), "belongs to another model: layer '5' is only in the model")
    refused(saved, model()[:4], "belongs to another model: layer '4' is only in the saved chip")


def test_a_mapped_model_is_refused(saved):
    with pytest.raises(cs.UsageError, match="is on a chip already; map the digital model instead"):
        cs.load_chip(saved, make())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("seed: 6", "seed: 7"),
        ("time_s: 2592000.0", "time_s: 259200.0"),
        ("reads: 2", "reads: 3"),
        ("bits: 8", "bits: 6"),
    ],
)
def test_edited_yaml_is_refused(saved, old, new):
    path = saved / "chip.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    refused(saved, model(), "chip.yaml: is damaged or was edited (its checksum does not fit)")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"format: [1", "chip.yaml: cannot be read"),
        (b"\xff\xfe\x00", "chip.yaml: cannot be read"),
        (b"", "chip.yaml: is not a saved chip"),
        (b"- 1\n- 2\n", "chip.yaml: is not a saved chip"),
        (b"seed: 3\n", "chip.yaml: is not a saved chip"),
        (b"format: 1\n", "chip.yaml: format 1 is unknown; this version reads 2"),
        (b"format: 2\n", "chip.yaml: is damaged or was edited"),
        (b"!!python/object/apply:os.system ['true']\n", "chip.yaml: cannot be read"),
    ],
)
def test_other_yaml_is_refused(saved, content, text):
    (saved / "chip.yaml").write_bytes(content)
    refused(saved, model(), text)


def test_damaged_numbers_are_refused(saved):
    path = numbers_of(saved)
    whole = path.read_bytes()
    for data in (whole[:-3], b"", whole[:-1] + bytes([whole[-1] ^ 1])):
        path.write_bytes(data)
        refused(saved, model(), f"{path.name}: is damaged (its checksum does not fit)")


@pytest.mark.parametrize("find", [lambda folder: folder / "chip.yaml", numbers_of], ids=["yaml", "numbers"])
def test_missing_file_is_named(saved, find):
    path = find(saved)
    path.unlink()
    refused(saved, model(), f"{path.name}: cannot be read")


def test_missing_folder(tmp_path):
    refused(tmp_path / "nothing", model(), "nothing/chip.yaml: cannot be read")


def no_space(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


def fail_at_yaml(monkeypatch):
    monkeypatch.setattr(Path, "write_text", no_space)


def fail_at_numbers(monkeypatch):
    monkeypatch.setattr(Path, "write_bytes", no_space)


def fail_at_move(number):
    def patch(monkeypatch):
        replace, calls = os.replace, []

        def counted(source, target):
            calls.append(target)
            return no_space() if len(calls) == number else replace(source, target)

        monkeypatch.setattr(os, "replace", counted)

    return patch


@pytest.mark.parametrize(
    "failure",
    [fail_at_numbers, fail_at_yaml, fail_at_move(1), fail_at_move(2)],
    ids=["numbers", "yaml", "first move", "second move"],
)
def test_full_disk_leaves_the_old_save_whole(saved, monkeypatch, failure):
    old, mapped = make(), make()
    mapped.chip.set_time("1y")  # what is on disk is of 30 days
    with monkeypatch.context() as patch:
        failure(patch)
        with pytest.raises(cs.StoreError, match=r"the chip could not be saved: .*No space left on device"):
            mapped.chip.save(saved)
    assert not list(saved.glob(".*"))
    same_state(cs.load_chip(saved, model()), old)
    mapped.chip.save(saved)
    assert sorted(path.suffix for path in saved.iterdir()) == [".safetensors", ".yaml"]
    same_state(cs.load_chip(saved, model()), mapped)


def test_unwritable_place(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(cs.StoreError, match="the chip could not be saved"):
        make().chip.save(tmp_path / "file" / "chip")
    assert (tmp_path / "file").read_text() == "in the way"


def test_changed_weights_are_not_saved(tmp_path):
    mapped = make()
    with torch.no_grad():
        mapped[0].weight.mul_(2)
    with pytest.raises(cs.StateError, match="weights changed after they were programmed"):
        mapped.chip.save(tmp_path / "chip")
    assert not (tmp_path / "chip").exists()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_fingerprint_sees_type_shape_and_every_bit(dtype):
    weight = torch.arange(6, dtype=dtype).reshape(2, 3)
    changed = weight.clone()
    changed[1, 2] += 1
    others = [changed, weight.reshape(3, 2), weight.to(torch.float16), weight.t().contiguous()]
    assert store.weights_fingerprint(weight) == store.weights_fingerprint(weight.t().contiguous().t())
    assert store.weights_fingerprint(weight) not in {store.weights_fingerprint(other) for other in others}


def test_fingerprint_of_a_single_number():
    """As batch normalisation counts its batches."""
    one, other = store.weights_fingerprint(torch.tensor(3)), store.weights_fingerprint(torch.tensor(4))
    assert one != other
    assert one != store.weights_fingerprint(torch.tensor([3]))
