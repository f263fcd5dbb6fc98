"""Chips of any effects, encodings and converters together: what holds whatever is switched on."""

import hashlib
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import crossbar_sim as cs
from crossbar_sim.array.programmed import ProgrammedMatrix

DAY = 86400.0
N_OUT, N_IN = 24, 40
PCM = cs.ChipSpec.preset("pcm_1m")
PULSES = {
    "kind": "program_verify", "alpha": 0.7, "tolerance_uS": 0.4, "max_pulses": 12,
    "sigma_write_uS": 0.1, "sigma_write_relative": 0.2, "sigma_read_uS": 0.2,
}  # fmt: skip
TRAPS = {
    "amplitude": {"kind": "relative", "at_g_max": 0.05, "exponent": 0.5},
    "tau_min_s": 1e-3, "tau_max_s": 1e5, "traps_per_device": 2,
}  # fmt: skip
ALL = {
    "device.faults": {"p_reset": 0.02, "p_set": 0.02, "p_random": 0.02},
    "device.temperature": {"t_read_K": 330.0, "activation_sigma_eV": 0.02},
    "device.telegraph": TRAPS,
    "programming": PULSES,
}
ENCODINGS = {
    "pair": {},
    "two-sided pair": {"pair": "two_sided"},
    "two equal devices": {"devices": 2, "fill": "equal"},
    "three devices in turn": {"devices": 3, "fill": "msf"},
    "significance 1 and 4": {"devices": 2, "fill": "significance", "significance": (1.0, 4.0)},
    "digital offset": {"kind": "offset"},
    "reference column": {"kind": "offset", "correction": "column"},
    "bit slices": {"kind": "bit_slice", "slices": (3, 2, 2)},
}
each_encoding = pytest.mark.parametrize("encoding", ENCODINGS.values(), ids=ENCODINGS.keys())


def _weight(dtype=torch.float64):
    return torch.from_numpy(np.random.default_rng(0).uniform(-1, 1, (N_OUT, N_IN))).to(dtype)


def _vectors(dtype=torch.float64):
    return torch.from_numpy(np.random.default_rng(1).normal(size=(7, N_IN))).to(dtype)


def _programmed(weight, spec, t_s=0.0, seed=0):
    programmed = ProgrammedMatrix(weight, spec, seed, "m")
    programmed.set_time(t_s)
    return programmed


def _state(programmed):
    matrix = programmed.matrix
    return [part.clone() for part in (*matrix.effective, *(matrix.variance or []), matrix.w_max, matrix.drift_factor)]


def _equal(first, second):
    return len(first) == len(second) and all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def _with_threads(count, run):
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        return run()
    finally:
        torch.set_num_threads(before)


@st.composite
def drawn_encodings(draw):
    scale = draw(st.sampled_from(["tensor", "tile", "column", "tile_column"]))
    group = draw(st.sampled_from([1, 3])) if scale.endswith("column") else 1
    clip = draw(st.sampled_from([None, {"alpha": 1.5}, {"alpha": 1.0, "per": "column"}]))
    encoding = draw(st.sampled_from(list(ENCODINGS.values())))
    return {**encoding, "scale": scale, "columns_per_scale": group, "clip": clip}


@st.composite
def drawn_effects(draw):
    """Any subset of the effects of a device and of broken lines, of any strength."""
    share = st.floats(0.0, 0.3)
    found = {}
    if draw(st.booleans()):
        found["device.faults"] = {"p_reset": draw(share), "p_set": draw(share), "p_random": draw(share)}
    if draw(st.booleans()):
        found["tile.faults"] = {"p_word_line": draw(share), "p_bit_line": draw(share)}
    if draw(st.booleans()):
        spread = draw(st.none() | st.floats(0.001, 0.05))
        found["device.temperature"] = {"t_read_K": draw(st.floats(250.0, 400.0)), "activation_sigma_eV": spread}
    if draw(st.booleans()):
        found["device.telegraph"] = {
            "amplitude": draw(st.sampled_from([TRAPS["amplitude"], {"kind": "absolute", "amplitude_uS": 0.7}])),
            "occupation": draw(st.floats(0.05, 0.95)),
            "tau_min_s": draw(st.floats(1e-4, 1.0)),
            "tau_max_s": draw(st.floats(1.0, 1e5)),
            "traps_per_device": draw(st.integers(1, 3)),
            "p_trap": draw(st.floats(0.1, 1.0)),
        }
    return found


@st.composite
def drawn_chips(draw):
    """Chips of known devices with any effects, programming, encoding, tiles, converters, noise and compensation."""
    effects = draw(drawn_effects())
    quiet = [] if "device.telegraph" in effects else [None]
    dac = adc = None
    if draw(st.booleans()):
        full_scale = draw(st.sampled_from([{"kind": "dynamic"}, {"kind": "static", "value": 2.0}]))
        dac = {"bits": draw(st.sampled_from([None, 4, 8])), "range": full_scale}
        noise = draw(st.sampled_from([None, 0.04]))
        if draw(st.booleans()):
            adc = {"bits": draw(st.sampled_from([5, 8])), "bound": draw(st.floats(1.0, 20.0)), "output_noise": noise}
    spec = PCM.evolve(
        device=draw(st.sampled_from(["ideal", "generic", "pcm_1m", "pcm_hermes", "reram_wan"])),
        tile={"rows": draw(st.sampled_from([None, 7, 16])), "cols": draw(st.sampled_from([None, 5, 16]))},
        encoding=draw(drawn_encodings()),
        programming=draw(
            st.sampled_from([{"kind": "law"}, PULSES])
            | st.floats(0.0, 0.5).map(lambda sigma: {"kind": "single_shot", "sigma_write": sigma})
        ),
        dac=dac,
        adc=adc,
        read_noise=draw(st.sampled_from(["frozen", "per_read", {"kind": "split", "t_obs_s": 0.5}, *quiet])),
        compensation=draw(st.sampled_from([None, {"probe_vectors": 8}])),
    )
    spec = spec.evolve(**effects)
    faulty = any(part is not None and not part.is_ideal for part in (spec.device.faults, spec.tile.faults))
    retargets = faulty and spec.encoding.kind != "offset" and draw(st.booleans())
    return spec.evolve(**{"programming.retarget_stuck": retargets})


any_chip = settings(max_examples=40, deadline=None, derandomize=True)
times = st.sampled_from([0.0, 1.0, 3600.0, DAY])
dtypes = st.sampled_from([torch.float32, torch.float64])
backends = st.sampled_from(["numba", "torch"])


@any_chip
@given(drawn_chips(), times, dtypes, backends)
def test_outputs_are_finite_and_twice_the_weights_give_twice_the_outputs(spec, t_s, dtype, backend):
    once, twice = (_programmed(factor * _weight(dtype), spec, t_s) for factor in (1, 2))
    y = once.read(_vectors(dtype), backend=backend)
    assert y.isfinite().all()
    assert y.abs().max() > 0
    assert torch.equal(twice.read(_vectors(dtype), backend=backend), 2 * y)


@any_chip
@given(drawn_chips(), times, times, dtypes)
def test_a_state_does_not_depend_on_the_way_to_it_nor_on_threads(spec, t_s, between_s, dtype):
    one = _with_threads(1, lambda: _programmed(_weight(dtype), spec, t_s))
    two = _with_threads(2, lambda: _programmed(_weight(dtype), spec, t_s))
    assert _equal(_state(one), _state(two))
    before = _state(one)
    one.set_time(between_s)
    one.read(_vectors(dtype))
    one.set_time(t_s)
    assert _equal(_state(one), before)
    one.matrix.reads = 0
    assert torch.equal(one.read(_vectors(dtype)), two.read(_vectors(dtype)))


orders = st.tuples(st.permutations(range(N_OUT)), st.permutations(range(N_IN))).map(
    lambda pair: tuple(torch.tensor(order) for order in pair)
)


@any_chip
@given(drawn_encodings(), st.sampled_from([None, 7]), st.sampled_from([None, 340.0]), orders)
def test_permuted_rows_and_columns_of_ideal_devices_are_the_same_devices(encoding, rows, t_read_K, order):
    """With one scale for a matrix or a column, devices move bit for bit and outputs change by the order of sums."""
    scale = "tensor" if encoding["scale"] == "tile" else "column"
    changes = {"encoding": {**encoding, "scale": scale, "columns_per_scale": 1, "clip": None}}
    heat = t_read_K and {"t_read_K": t_read_K}
    spec = cs.ChipSpec.preset("ideal").evolve(**changes, tile={"rows": rows, "cols": 9})
    spec = spec.evolve(**{"device.temperature": heat})
    outputs, inputs = order
    moved = _weight()[outputs][:, inputs].contiguous()
    plain, permuted = _programmed(_weight(), spec), _programmed(moved, spec)
    planes = len(plain.matrix.layout.planes)
    for p in range(planes):
        whole, other = (torch.cat(chip.matrix.effective[p::planes], dim=1) for chip in (plain, permuted))
        assert torch.equal(other, whole[outputs][:, inputs])
    y, z = plain.read(_vectors()), permuted.read(_vectors()[:, inputs].contiguous())
    torch.testing.assert_close(z, y[:, outputs], rtol=0, atol=1e-12)


def _mean_error(changes, encoding):
    """Mean |y - W x| over eight chips behind exact converters."""
    spec = PCM.evolve(device="ideal", dac=None, adc=None, compensation=None, encoding=encoding, read_noise="frozen")
    reads = [_programmed(_weight(), spec.evolve(**changes), DAY, seed).read(_vectors()) for seed in range(8)]
    return float((torch.stack(reads) - _vectors() @ _weight().t()).abs().mean())


ONE_PULSE = {"kind": "program_verify", "alpha": 1.0, "tolerance_uS": 1e-9, "max_pulses": 1}
STRENGTH = {
    "faults": lambda s: {"device.faults": {"p_reset": s / 2, "p_set": s / 4, "p_random": s}},
    "broken lines": lambda s: {"tile": {"rows": 8, "cols": 8, "faults": {"p_word_line": s, "p_bit_line": s}}},
    "heat": lambda s: {"device.temperature": {"t_read_K": 300.0 + 200 * s}},
    "spread of heat": lambda s: {"device.temperature": {
        "t_read_K": 330.0, "activation_sigma_eV": s, "activation_law_eV": (0.0, 0.0, 0.0, 0.0)}},
    "slow traps": lambda s: {"device.telegraph": {**TRAPS, "amplitude": {"kind": "relative", "at_g_max": s}}},
    "fast traps": lambda s: {"device.telegraph": {**TRAPS, "amplitude": {"kind": "relative", "at_g_max": s}},
        "read_noise": "per_read"},
    "one pulse": lambda s: {"programming": {"kind": "single_shot", "sigma_write": s}},
    "verified pulses": lambda s: {"programming": {**ONE_PULSE, "sigma_write_uS": 20 * s}},
}  # fmt: skip


@each_encoding
@pytest.mark.parametrize("effect", STRENGTH.values(), ids=STRENGTH.keys())
def test_an_effect_of_twice_the_strength_errs_more(effect, encoding):
    """Errors grow as the square root of a rate, else as the strength or faster: at least by 1.2 for a factor 2."""
    errors = [_mean_error(effect(strength), encoding) for strength in (0.02, 0.04, 0.08, 0.16)]
    assert all(1.2 * low < high for low, high in pairwise(errors))


ZERO = {
    "no stuck device": ({"device.faults": {}}, {}),
    "no broken line": ({"tile.faults": {}}, {}),
    "temperature of the laws": ({"device.temperature": {"t_read_K": 300.0, "activation_sigma_eV": 0.1}}, {}),
    "laws of another temperature": ({"device.temperature": {"t_read_K": 350.0, "t_ref_K": 350.0}}, {}),
    "no activation": ({"device.temperature": {"t_read_K": 350.0, "activation_law_eV": (0.0, 0.0, 0.0, 0.0)}}, {}),
    "no trap in a billion": ({"device.telegraph": {**TRAPS, "p_trap": 1e-10}}, {}),
    "one exact pulse": ({"programming": {"kind": "single_shot", "sigma_write": 0.0}}, {"device.program_scale": 0.0}),
    "verified pulses that are exact": (
        {"programming": ONE_PULSE},
        {"device.program_scale": 0.0},
    ),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("backend", ["numba", "torch"])
@pytest.mark.parametrize(("zero", "off"), ZERO.values(), ids=ZERO.keys())
def test_an_effect_without_strength_changes_no_bit(zero, off, backend, dtype):
    spec = PCM.evolve(tile={"rows": 16, "cols": 16}).evolve(**off)
    acting, without = (_programmed(_weight(dtype), chip, DAY) for chip in (spec.evolve(**zero), spec))
    assert _equal(_state(acting), _state(without))
    y = [programmed.read(_vectors(dtype), backend=backend) for programmed in (acting, without)]
    assert torch.equal(*y)


def _mapped(spec):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(N_IN, N_OUT), nn.Tanh(), nn.Linear(N_OUT, 10)).eval()
    return cs.map_model(model, spec, seed=4), model


def _digest(mapped):
    """A hash of all states of a chip and of two reads."""
    found = hashlib.sha256()
    for programmed in mapped.chip.matrices.values():
        for part in _state(programmed):
            found.update(part.contiguous().view(torch.uint8).numpy().tobytes())
    with torch.no_grad():
        for _ in range(2):
            found.update(mapped(_vectors(torch.float32)).numpy().tobytes())
    return found.hexdigest()


@each_encoding
def test_a_chip_with_all_effects_comes_back_from_its_file_and_from_another_time(encoding, tmp_path):
    spec = PCM.evolve(encoding=encoding, tile={"rows": 16, "cols": 16}).evolve(**ALL)
    mapped, model = _mapped(spec)
    mapped.chip.set_time("30d")
    loaded = cs.load_chip(mapped.chip.save(tmp_path / "chip"), model)
    assert loaded.chip.spec == spec
    other, _ = _mapped(spec)
    for t in ("1y", 0, "30d"):
        other.chip.set_time(t)
    assert _digest(mapped) == _digest(loaded) == _digest(other)


def test_time_matters_to_traps_alone():
    mapped, _ = _mapped(PCM.evolve(device="ideal").evolve(**{"device.telegraph": TRAPS}))
    mapped.chip.set_time("1d")
