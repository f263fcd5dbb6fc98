"""A mapped model is a pure function of (weights, spec, seed, time): relations between ways to get to the same chip."""

import copy
import hashlib
import subprocess
import sys

import pytest
import torch
from torch import nn

import crossbar_sim as cs

PRESETS = [name for name in cs.ChipSpec.presets() if name != "ideal"]
X = torch.randn(11, 90, generator=torch.Generator().manual_seed(3))
TIMELESS = ("pcm_afm", "pcm_joshi", "rram_milo", "generic")
TIMED = [name for name in PRESETS if cs.ChipSpec.preset(name).device.kind not in TIMELESS]


def make(chip, seed=4, t=None, model=None, **options):
    torch.manual_seed(0)
    model = model or nn.Sequential(nn.Linear(90, 70), nn.Tanh(), nn.Linear(70, 40)).eval()
    mapped = cs.map_model(model, chip if isinstance(chip, cs.ChipSpec) else cs.ChipSpec.preset(chip), seed, **options)
    if t is not None:
        mapped.chip.set_time(t)
    return mapped


def digest(mapped, reads=2):
    """A hash of all states and of some reads."""
    found = hashlib.sha256()
    for programmed in mapped.chip.matrices.values():
        matrix = programmed.matrix
        for part in (*matrix.effective, *(matrix.variance or []), matrix.w_max, matrix.drift_factor):
            found.update(part.contiguous().view(torch.uint8).numpy().tobytes())
    with torch.no_grad():
        for _ in range(reads):
            found.update(mapped(X).numpy().tobytes())
    return found.hexdigest()


def conductances(mapped, layer="0"):
    """All devices of a whole matrix, (g+, g-) for a pair, put together from its tiles."""
    plan = mapped.chip.matrices[layer].matrix.plan
    whole = torch.empty(plan.devices_per_weight, plan.n_in, plan.n_out)
    for address in mapped.chip.tiles:
        if address.layer == layer:
            for k, device in enumerate(mapped.chip.conductances(layer, address.tile)):
                whole[k, slice(*address.inputs), slice(*address.outputs)] = torch.from_numpy(device.copy())
    return whole


@pytest.mark.parametrize("name", TIMED)
@pytest.mark.parametrize("way", [("1h", "1d"), ("2d", "1d"), (0, "1d"), ("1d", "1s", "1d")], ids=str)
def test_a_time_is_reached_by_any_way(name, way):
    mapped = make(name)
    for t in way:
        mapped.chip.set_time(t)
    assert digest(mapped) == digest(make(name, t="1d"))


@pytest.mark.parametrize("name", PRESETS)
def test_same_seed_same_chip_other_seed_other_chip(name):
    t = "1h" if name in TIMED else None
    assert digest(make(name, 1, t)) == digest(make(name, 1, t))
    one, other = conductances(make(name, 1, t)), conductances(make(name, 2, t))
    driven = (one > 0) & (other > 0)
    assert (one[driven] != other[driven]).float().mean() > 0.9


@pytest.mark.parametrize("name", PRESETS)
def test_number_of_threads(name):
    t, before = "1d" if name in TIMED else None, torch.get_num_threads()
    try:
        digests = set()
        for n_threads in (1, 2):
            torch.set_num_threads(n_threads)
            digests.add(digest(make(name, t=t), reads=0))
    finally:
        torch.set_num_threads(before)
    assert len(digests) == 1


@pytest.mark.parametrize("tile", [(90, 70), (45, 35), (31, 70), (90, 9), (7, 11), (1, 70)])
def test_size_of_tiles_does_not_change_the_devices(tile):
    chip = cs.ChipSpec.preset("pcm_1m").evolve(encoding={"scale": "tensor"})
    sized = chip.evolve(tile={"rows": tile[0], "cols": tile[1]}, compensation=None)
    assert torch.equal(conductances(make(sized, t="1d")), conductances(make(chip.evolve(compensation=None), t="1d")))


def test_name_of_a_layer_and_not_its_place_chooses_its_devices():
    torch.manual_seed(0)
    layer = nn.Linear(90, 70)
    places = [
        nn.ModuleDict({"a": layer, "b": nn.Linear(3, 3)}),
        nn.ModuleDict({"z": nn.Linear(5, 2), "a": copy.deepcopy(layer)}),
    ]
    first, second = (conductances(make("pcm_1m", model=place), "a") for place in places)
    assert torch.equal(first, second)
    renamed = conductances(make("pcm_1m", model=nn.ModuleDict({"c": layer})), "c")
    assert (renamed != first).float().mean() > 0.4


@pytest.mark.parametrize("kind", ["frozen", None])
@pytest.mark.parametrize("sizes", [[11], [4, 7], [1] * 11])
def test_batch_split_of_reads_that_draw_nothing(kind, sizes):
    """Only the order of sums within a product may change with the batch; without codes that moves nothing else."""
    chip = cs.ChipSpec.preset("pcm_1m").evolve(read_noise=kind and {"kind": kind}, adc=None, dac={"bits": None})
    mapped = make(chip, t="1d")
    with torch.no_grad():
        whole = mapped(X)
        parts = torch.cat([mapped(part) for part in X.split(sizes)])
    torch.testing.assert_close(parts, whole, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("name", PRESETS)
def test_reads_are_told_apart_by_their_number_only(name):
    mapped, other = make(name), make(name)
    with torch.no_grad():
        first = [mapped(X) for _ in range(3)]
        other(X * 2)
        other(X[:1])
        assert torch.equal(other(X), first[2])
    noisy = any(m.matrix.is_noisy for m in mapped.chip.matrices.values())
    assert torch.equal(first[0], first[1]) == (not noisy)


def test_reads_of_an_earlier_layer_do_not_move_those_of_a_later_one():
    mapped, other = make("pcm_1m", t="1h"), make("pcm_1m", t="1h")
    h = torch.randn(5, 70, generator=torch.Generator().manual_seed(8))
    with torch.no_grad():
        other[0](X)
        assert torch.equal(mapped[2](h), other[2](h))


@pytest.mark.parametrize("name", ["pcm_1m", "hermes_2d"])
def test_saved_loaded_and_copied_chips_are_the_chip(name, tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(90, 70), nn.Tanh(), nn.Linear(70, 40)).eval()
    mapped = make(name, t="30d", model=model)
    loaded = cs.load_chip(mapped.chip.save(tmp_path / "chip"), model)
    digests = {digest(other) for other in (mapped, loaded, make(name, t="30d"))}
    assert len(digests) == 1


CHILD = """
import sys, torch
sys.path.insert(0, sys.argv[1])
import test_chip_identity as t
torch.set_num_threads(1)
print(*t.digests(reads=0))
torch.set_num_threads(int(sys.argv[2]))
print(*t.digests(reads=2))
"""


def digests(reads):
    return [digest(make(name, t="1d" if name in TIMED else None), reads) for name in PRESETS]


def test_another_process_gets_the_same_bits():
    """With any number of threads."""
    command = [sys.executable, "-c", CHILD, str(__file__.rpartition("/")[0]), str(torch.get_num_threads() + 1)]
    child = subprocess.run(command, capture_output=True, text=True, check=True)
    assert child.stdout.split() == digests(reads=0) + digests(reads=2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_permuted_outputs_of_an_ideal_chip(dtype):
    torch.manual_seed(0)
    layer, order = nn.Linear(90, 70, dtype=dtype), torch.randperm(70)
    permuted = nn.Linear(90, 70, dtype=dtype)
    with torch.no_grad():
        permuted.weight.copy_(layer.weight[order])
        permuted.bias.copy_(layer.bias[order])
        ideal = cs.ChipSpec.preset("ideal").evolve(**{"tile.rows": 13, "tile.cols": 17})
        first, second = (make(ideal, model=nn.Sequential(one))(X.to(dtype)) for one in (layer, permuted))
    tolerance = 1e-12 if dtype == torch.float64 else 1e-5
    torch.testing.assert_close(first[:, order], second, rtol=tolerance, atol=tolerance)
