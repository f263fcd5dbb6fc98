"""Effective weights held in bfloat16: the rounded state, far below what programming errs by, read by every path."""

import numpy as np
import pytest
import torch

from crossbar_sim.array.held import Held
from crossbar_sim.array.programmed import ProgrammedMatrix
from crossbar_sim.kernels.gemm import HAS_PAIRS
from crossbar_sim.spec import ChipSpec
from device_models.errors import SpecError, UsageError

N_OUT, N_IN, DAY = 300, 151, 86400.0
CHIPS = {
    "pcm_1m": {},
    "frozen": {"read_noise": "frozen"},
    "two-sided": {"encoding.pair": "two_sided"},
    "digital offset": {"encoding": {"kind": "offset"}},
    "reference column": {"encoding": {"kind": "offset", "correction": "column"}},
    "bit slices": {"encoding": {"kind": "bit_slice", "slices": (4, 3)}},
    "wires": {"wires": {"r_wl_ohm": 1.0, "r_bl_ohm": 1.0, "max_c": None}},
    "stuck": {"device.faults": {"p_reset": 0.01, "p_set": 0.01}},
    "polarity": {"device.polarity": {"kind": "device", "sigma": 0.05}},
    "10-bit DAC": {"dac.bits": 10},
    "inputs not rounded": {"dac.bits": None},
    "bit by bit": {"dac.encoding": {"kind": "bit_serial"}},
}
"""What changes how weights are computed or read."""


def _weight():
    return torch.from_numpy(np.random.default_rng(0).normal(size=(N_OUT, N_IN))).float()


def _vectors(n):
    return torch.from_numpy(np.random.default_rng(1).normal(size=(n, N_IN))).float()


def _programmed(weight_dtype, **changes):
    spec = ChipSpec.preset("pcm_1m").evolve(
        **{"tile.rows": 64, "tile.cols": 100, "compensation": None, "weight_dtype": weight_dtype, **changes}
    )
    programmed = ProgrammedMatrix(_weight(), spec, 0, "fc")
    programmed.set_time(DAY)
    return programmed


@pytest.mark.parametrize("changes", CHIPS.values(), ids=CHIPS.keys())
def test_the_state_is_that_of_float32_rounded_once(changes):
    wide, narrow = _programmed(None, **changes).matrix, _programmed("bfloat16", **changes).matrix
    for own, exact in zip(narrow.effective, wide.effective, strict=True):
        assert own.dtype == torch.bfloat16
        assert torch.equal(own, exact.to(torch.bfloat16))
    for own, exact in zip(narrow.variance or [], wide.variance or [], strict=True):
        assert torch.equal(own, exact)


@pytest.mark.parametrize("changes", CHIPS.values(), ids=CHIPS.keys())
@pytest.mark.parametrize("n_vectors", [2, 70])
def test_a_read_is_that_of_the_rounded_weights(changes, n_vectors):
    """Noise of the same chip and read included: a float32 chip is given the rounded state."""
    narrow, wide = _programmed("bfloat16", **changes), _programmed(None, **changes)
    wide.matrix.effective_flat.copy_(narrow.matrix.effective_flat)
    for own, other in zip(wide.matrix.more_effective, narrow.matrix.more_effective, strict=True):
        own.copy_(other)
    if wide.matrix.reference_columns is not None:
        wide.matrix.reference_columns.effective_flat.copy_(narrow.matrix.reference_columns.effective_flat)
    x = _vectors(n_vectors)
    found, expected = narrow.read(x), wide.read(x)
    step = float((wide.matrix.gain * 10 / 127).max()) * float(x.abs().max())
    flipped = (found - expected).abs() > 1e-4 * step  # sums in another order, seldom on the other side of a step
    assert flipped.float().mean() < 0.02
    assert (found - expected).abs().max() < 1.1 * step


@pytest.mark.parametrize("backend", ["numba", "torch"])
@pytest.mark.parametrize("n_vectors", [1, 40])
def test_both_backends_read_them(backend, n_vectors):
    programmed = _programmed("bfloat16", read_noise="frozen", adc=None)
    matrix, x = programmed.matrix, _vectors(n_vectors)
    y = programmed.read(x, backend=backend)
    codes = torch.cat(
        [
            torch.round(x[:, a:b].double() / scale * 127) * scale / 127
            for a, b in matrix.plan.rows
            for scale in [x[:, a:b].abs().amax(dim=1, keepdim=True).double()]
        ],
        dim=1,
    )
    weight = torch.cat([e.double() * g[:, None] for e, g in zip(matrix.effective, matrix.gain, strict=True)], dim=1)
    torch.testing.assert_close(y.double(), codes @ weight.t(), rtol=0, atol=2e-5)


def test_codes_are_multiplied_in_pairs_where_they_are_exact():
    exact = Held.of(_programmed("bfloat16").matrix).code_dtype
    assert exact == (torch.bfloat16 if HAS_PAIRS else torch.float32)
    for changes in ({"dac.bits": 10}, {"dac.bits": None}, {"dac.phases": 2}, {"dac": None, "adc": None}):
        assert Held.of(_programmed("bfloat16", **changes).matrix).code_dtype == torch.float32
    assert Held.of(_programmed(None).matrix).code_dtype == torch.float32


@pytest.mark.parametrize("preset", ["pcm_1m", "hermes_2d", "neurram", "sonos_40nm"])
def test_rounding_is_far_below_what_programming_errs_by(preset):
    spec = ChipSpec.preset(preset).evolve(compensation=None)
    exact = ProgrammedMatrix(_weight(), spec.evolve(device={"kind": "ideal"}, programming="law"), 0, "fc").matrix
    wide = ProgrammedMatrix(_weight(), spec, 0, "fc").matrix
    narrow = ProgrammedMatrix(_weight(), spec.evolve(weight_dtype="bfloat16"), 0, "fc").matrix
    error = torch.cat([(a - b).flatten() for a, b in zip(wide.effective, exact.effective, strict=True)])
    rounding = torch.cat([(a - b).flatten() for a, b in zip(narrow.effective, wide.effective, strict=True)])
    assert rounding.square().mean().sqrt() < error.square().mean().sqrt() / 15


def test_an_exact_reference_of_the_compensation_is_not_rounded():
    changes = {"compensation": {"kind": "global", "reference": "exact"}}
    wide, narrow = _programmed(None, **changes), _programmed("bfloat16", **changes)
    for key, codes in wide.reference.codes.items():
        assert torch.equal(codes, narrow.reference.codes[key])


def test_they_take_half_the_memory():
    wide, narrow = _programmed(None, read_noise="frozen").matrix, _programmed("bfloat16", read_noise="frozen").matrix
    assert wide.n_bytes - narrow.n_bytes == 2 * N_OUT * N_IN


def test_only_one_narrow_type_is_known():
    with pytest.raises(SpecError) as caught:
        ChipSpec.preset("pcm_1m").evolve(weight_dtype="float16")
    assert "weight_dtype = 'float16'" in str(caught.value)
    assert "bfloat16" in str(caught.value)


def test_float64_weights_are_refused():
    with pytest.raises(UsageError) as caught:
        ProgrammedMatrix(_weight().double(), ChipSpec.preset("pcm_1m").evolve(weight_dtype="bfloat16"), 0, "fc")
    assert str(caught.value) == (
        "fc: weight_dtype = 'bfloat16', but its weights are float64, whose state has that type; leave weight_dtype out "
        "or map model.float()"
    )
