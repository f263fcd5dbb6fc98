"""What layers on a chip are expected to cost: memory against measured peaks, and how time follows the work."""

import json
import os
import subprocess
import sys

import pytest
import torch
from torch import nn

import crossbar_sim as cs
from device_models.errors import UsageError

PCM = cs.ChipSpec.preset("pcm_1m")
FROZEN = PCM.evolve(read_noise="frozen")
TILES = {"rows": 256, "cols": 128}
CASES = {
    "frozen": (FROZEN, "kept"),
    "exact": (PCM, "kept"),
    "hermes_2d": (cs.ChipSpec.preset("hermes_2d"), "kept"),
    "regenerated": (PCM, "regenerated"),
    "wires": (PCM.evolve(wires={"max_c": None}), "kept"),
    "exact wires": (PCM.evolve(**{"wires": {"model": "exact", "max_c": None}, "tile": TILES}), "kept"),
}
MEASURE = """
import ctypes, json, sys
from pathlib import Path
import torch
from torch import nn
import crossbar_sim as cs
from crossbar_sim.array.drive import SCRATCH

def resident(field):
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    return 1024 * int(lines[field].split()[0])

def peak(work):
    Path("/proc/self/clear_refs").write_text("5")
    work()
    return resident("VmHWM")

def map_and_age():
    global mapped
    mapped = cs.map_model(model, spec, state=state)
    mapped.chip.set_time("1d")

layers, size, vectors, cases = json.loads(sys.argv[1])
found = {}
with torch.no_grad():
    for name, (spec, state) in cases.items():
        spec = cs.ChipSpec(**spec)
        model = nn.Linear(60, 30)
        map_and_age()
        mapped(torch.zeros(8, 60))  # from here on compiled kernels are loaded
        del mapped
        model, x = nn.Sequential(*(nn.Linear(size, size) for _ in range(layers))), torch.randn(vectors, size)
        model(x)
        SCRATCH.clear()
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        rest = resident("VmRSS")
        digital, mapping, forward = peak(lambda: model(x)), peak(map_and_age), peak(lambda: mapped(x))
        found[name] = mapping - rest, forward - digital
        del mapped
print(json.dumps(found))
"""


def plan(spec, layers=4, size=2048, **options):
    model = nn.Sequential(*(nn.utils.skip_init(nn.Linear, size, size) for _ in range(layers)))
    return cs.plan_model(model, spec, **options)


@pytest.fixture(scope="module")
def measured():
    """Peaks of mapping and ageing, and of a forward, beyond the digital model: 17 million weights."""
    cases = {name: (spec.to_dict(), state) for name, (spec, state) in CASES.items()}
    command = [sys.executable, "-c", MEASURE, json.dumps((4, 2048, 512, cases))]
    returning = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}  # what is freed goes back at once
    done = subprocess.run(command, capture_output=True, text=True, env=returning)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peaks of memory are read from /proc")
@pytest.mark.parametrize("case", CASES)
def test_memory_is_what_a_process_takes(measured, case):
    spec, state = CASES[case]
    expected = plan(spec, state=state).expected
    mapping, forward = measured[case]
    beside = 6 << 20  # small arrays that are not counted, against states below 100 MiB
    assert mapping == pytest.approx(expected.mapping_bytes, rel=0.1, abs=beside)
    assert forward == pytest.approx(expected.forward_bytes, rel=0.1, abs=beside)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"read_noise": "frozen"},
        {"compensation": None},
        {"compensation": "affine"},
        {"compensation": {"kind": "global", "reference": "exact"}},
        {"adc.bits": 10},
        {"adc": None},
        {"encoding": {"kind": "bit_slice"}},
        {"encoding": {"kind": "offset", "correction": "column"}},
        {"dac.phases": 4},
        {"device.polarity": {"kind": "device", "sigma": 0.05}},
    ],
    ids=str,
)
def test_what_stays_is_what_the_chip_says_it_keeps(changes):
    """Predicted before anything is programmed; the summary counts the tensors."""
    model = nn.Sequential(nn.Linear(600, 90), nn.Linear(90, 70)).eval()
    spec = PCM.evolve(**changes)
    planned = cs.plan_model(model, spec)
    summary = cs.map_model(model, spec).chip.summary()
    assert planned.expected.kept_bytes == summary.state_bytes + summary.compensation_bytes
    assert planned.expected == summary.expected
    assert str(planned.expected) in str(planned)
    assert str(planned.expected) in str(summary)


def test_weights_that_are_copied_into_another_type_count_while_their_layer_is_computed():
    plain = PCM.evolve(compensation=None)
    single, half = (
        cs.plan_model(nn.utils.skip_init(nn.Linear, 600, 300, dtype=dtype), plain).expected.mapping_bytes
        for dtype in (torch.float32, torch.bfloat16)
    )
    wide = cs.plan_model(nn.utils.skip_init(nn.Linear, 600, 300, dtype=torch.float64), PCM).expected
    assert half == single + 4 * 600 * 300
    assert wide.kept_bytes > 2 * 8 * 600 * 300  # the variances are as wide


def test_time_follows_the_work():
    frozen, exact = (plan(spec).expected for spec in (FROZEN, PCM))
    assert 0.5 < frozen.forward < exact.forward < 4  # the variance product is one more
    few = plan(FROZEN, vectors=64).expected
    assert few.forward == pytest.approx(frozen.forward)
    assert few.set_time == pytest.approx(8 * frozen.set_time)
    assert frozen.mapping >= frozen.set_time
    serial = plan(FROZEN.evolve(**{"dac.encoding": {"kind": "bit_serial"}})).expected
    assert serial.forward > 7 * frozen.forward  # seven passes, each a product and its conversions
    wires = plan(FROZEN.evolve(wires={"max_c": None})).expected
    assert wires.set_time > frozen.set_time
    assert wires.forward == frozen.forward  # they are folded into the weights
    small, large = (
        plan(FROZEN.evolve(wires={"model": "exact", "max_c": None}, tile={"rows": n, "cols": n})).expected
        for n in (128, 512)
    )
    assert large.set_time > 1.5 * small.set_time > 15 * wires.set_time


def test_tiles_with_wires_are_computed_plane_by_plane_also_while_they_are_read():
    exact = FROZEN.evolve(wires={"model": "exact", "max_c": None}, compensation=None)
    pair, slices = (plan(exact.evolve(encoding={"kind": kind}), layers=1).expected for kind in ("pair", "bit_slice"))
    digits = 4 * 2048 * 2048  # of a slice
    assert slices.mapping_bytes - slices.kept_bytes == pair.mapping_bytes - pair.kept_bytes + digits
    regenerated = plan(exact, layers=1, state="regenerated").expected
    assert regenerated.forward_bytes >= regenerated.mapping_bytes


def test_what_is_regenerated_costs_every_read_but_no_memory():
    kept, regenerated = (plan(PCM, state=state).expected for state in ("kept", "regenerated"))
    assert regenerated.forward_bytes < kept.forward_bytes / 2
    assert regenerated.forward > kept.forward + 0.5 * kept.set_time
    uncompensated = plan(PCM.evolve(compensation=None), state="regenerated").expected
    assert uncompensated.set_time == 0  # computed when it is read
    assert uncompensated.mapping > 0


def test_the_summary_takes_the_compensation_of_now():
    mapped = cs.map_model(nn.Linear(60, 30), PCM)
    before = mapped.chip.summary().expected
    mapped.chip.compensate(None)
    after = mapped.chip.summary().expected
    assert after.set_time < before.set_time
    assert after.kept_bytes < before.kept_bytes


@pytest.mark.parametrize("vectors", [0, -3, 2.5, True])
def test_vectors_are_a_whole_number(vectors):
    with pytest.raises(UsageError, match=f"vectors = {vectors}: must be a whole number >= 1"):
        cs.plan_model(nn.Linear(6, 3), PCM, vectors=vectors)


def test_a_mistyped_state_is_told():
    with pytest.raises(UsageError, match=r'state = .keept.: must be one of kept, regenerated; nearest: "kept"'):
        cs.plan_model(nn.Linear(6, 3), PCM, state="keept")
