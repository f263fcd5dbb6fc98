"""Reads of one matrix: two backends that agree, counts, bias, blocks, stale weights and what is refused."""

import numpy as np
import pytest
import torch

from crossbar_sim.array import many
from crossbar_sim.array.compensation import Correction
from crossbar_sim.array.matrix import AnalogMatrix
from crossbar_sim.array.programmed import ProgrammedMatrix
from crossbar_sim.kernels import products
from crossbar_sim.spec import ChipSpec, GlobalDriftCompensation
from device_models.errors import StateError, UsageError

HOUR, DAY = 3600.0, 86400.0
N_OUT, N_IN = 300, 150


def _weight(dtype=torch.float64):
    return torch.from_numpy(np.random.default_rng(0).normal(size=(N_OUT, N_IN))).to(dtype)


def _vectors(n=7, dtype=torch.float64):
    return torch.from_numpy(np.random.default_rng(1).normal(size=(n, N_IN))).to(dtype)


def _programmed(dtype=torch.float64, weight=None, **changes):
    spec = ChipSpec.preset("pcm_1m").evolve(**{"tile.rows": 64, "tile.cols": 100, **changes})
    return ProgrammedMatrix(_weight(dtype) if weight is None else weight, spec, 0, "fc")


CHIPS = {
    "as it is": {},
    "no converters": {"dac": None, "adc": None},
    "no ADC": {"adc": None},
    "inputs not rounded": {"dac.bits": None},
    "static range": {"dac.range": {"kind": "static", "value": 1.0}},
    "static range, not rounded": {"dac.range": {"kind": "static", "value": 1.0}, "dac.bits": None, "adc": None},
    "low bound": {"adc.bound": 1.0},
    "output noise": {"adc.output_noise": 0.04},
    "output noise only": {"adc.output_noise": 0.04, "read_noise": None},
    "frozen": {"read_noise": "frozen"},
    "per read": {"read_noise": "per_read"},
    "scaled per tile and column": {"encoding.scale": "tile_column", "encoding.pair": "two_sided"},
    "three devices per polarity": {"encoding.devices": 3, "encoding.fill": "msf"},
    "digital offset": {"encoding": {"kind": "offset"}},
    "reference column": {"encoding": {"kind": "offset", "correction": "column"}, "tile.cols": 100},
    "bit slices": {"encoding": {"kind": "bit_slice", "slices": (3, 2, 2)}, "adc.bound": 2.0},
}


@pytest.mark.parametrize("changes", CHIPS.values(), ids=CHIPS.keys())
@pytest.mark.parametrize("with_bias", [False, True])
def test_both_backends_read_the_same(changes, with_bias):
    bias = torch.linspace(-1, 1, N_OUT, dtype=torch.float64) if with_bias else None
    outputs, counts = [], []
    for backend in ("numba", "torch"):
        programmed = _programmed(**changes)
        programmed.set_time(HOUR)
        outputs.append(programmed.read(_vectors(), bias, backend))
        matrix = programmed.matrix
        counts.append((matrix.n_inputs, matrix.n_clipped, matrix.n_outputs, matrix.n_saturated))
    # normals of the two differ in the last places of float32; a code that flips for that would show as a whole step
    torch.testing.assert_close(*outputs, rtol=0, atol=2e-5)
    assert counts[0] == counts[1]


@pytest.mark.parametrize("backend", ["numba", "torch"])
def test_inputs_and_outputs_are_counted_with_those_beyond_their_range(backend):
    programmed = _programmed(**{"device": "ideal", "dac.range": {"kind": "static", "value": 1.0}, "adc.bound": 2.0})
    x = _vectors(50)
    programmed.read(x, backend=backend)
    matrix = programmed.matrix
    codes = torch.round(x.clamp(-1, 1) * 127) / 127
    sums = [codes[:, a:b] @ matrix.effective[k].t() for k, (a, b) in enumerate(matrix.plan.rows)]
    assert matrix.n_inputs == x.numel()
    assert matrix.n_clipped == int((x.abs() > 1).sum())
    assert matrix.n_outputs == 3 * 50 * N_OUT
    assert matrix.n_saturated == sum(int((torch.round(v * 127 / 2).abs() > 127).sum()) for v in sums) > 100
    matrix.reset_counts()
    assert (matrix.n_inputs, matrix.n_clipped, matrix.n_outputs, matrix.n_saturated) == (0, 0, 0, 0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("changes", CHIPS.values(), ids=CHIPS.keys())
def test_blocks_of_vectors_change_nothing(dtype, changes, monkeypatch):
    whole, blocked = _programmed(dtype, **changes), _programmed(dtype, **changes)
    y = whole.read(_vectors(dtype=dtype))
    for module in (many, products):
        monkeypatch.setattr(module, "block_vectors", lambda n_vectors: 2)
    assert torch.equal(blocked.read(_vectors(dtype=dtype)), y)


def test_a_read_through_exact_converters_is_the_effective_matrix():
    programmed = _programmed(dac=None, adc=None, read_noise="frozen")
    programmed.set_time(DAY)
    matrix = programmed.matrix
    effective = torch.cat(
        [part * gain[:, None] for part, gain in zip(matrix.effective, matrix.gain, strict=True)], dim=1
    )
    x, bias = _vectors(), torch.arange(N_OUT, dtype=torch.float64)
    torch.testing.assert_close(programmed.read(x, bias), x @ effective.t() + bias, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("dtype", "relative"), [(torch.float64, 1e-12), (torch.float32, 2e-6)])
@pytest.mark.parametrize("scale", ["tensor", "tile", "column", "tile_column"])
@pytest.mark.parametrize(
    "encoding",
    [
        {"pair": "one_sided"},
        {"pair": "two_sided"},
        {"devices": 2, "fill": "msf"},
        {"devices": 3, "fill": "equal"},
        {"devices": 2, "fill": "significance", "significance": (1.0, 4.0)},
        {"kind": "offset"},
        {"kind": "offset", "correction": "column"},
    ],
    ids=str,
)
@pytest.mark.parametrize("backend", ["numba", "torch"])
def test_an_ideal_chip_is_the_digital_matrix(dtype, relative, scale, encoding, backend):
    spec = ChipSpec.preset("ideal").evolve(
        **{"encoding": {**encoding, "scale": scale}, "tile.rows": 64, "tile.cols": 100, "device.g_min_uS": 0.5}
    )
    x, exact = _vectors(dtype=dtype), _vectors(dtype=dtype).double() @ _weight(dtype).double().t()
    y = ProgrammedMatrix(_weight(dtype), spec, 0, "fc").read(x, backend=backend)
    assert (y.double() - exact).abs().max() <= relative * exact.abs().max()


@pytest.mark.parametrize("slices", [(7,), (4, 3), (1, 1, 1, 1, 1, 1, 1), (2, 5), (4, 28), (32,)])
@pytest.mark.parametrize("backend", ["numba", "torch"])
def test_an_ideal_chip_of_bit_slices_is_the_rounded_digital_matrix(slices, backend):
    spec = ChipSpec.preset("ideal").evolve(encoding={"kind": "bit_slice", "slices": slices, "scale": "tensor"})
    weight, x = _weight(torch.float64), _vectors()
    step = weight.abs().max() / 127
    y = ProgrammedMatrix(weight, spec, 0, "fc").read(x, backend=backend)
    torch.testing.assert_close(y, x @ (torch.round(weight / step) * step).t(), rtol=0, atol=1e-12)


def test_a_reference_column_adds_one_error_to_all_columns_of_its_tile():
    """The errors of its devices are shared by a tile: outputs err together, which digital subtraction avoids."""
    changes = {"tile.cols": 100, "dac": None, "adc": None, "read_noise": None}
    spread = []
    for correction in ("digital", "column"):
        programmed = _programmed(**changes, encoding={"kind": "offset", "correction": correction, "scale": "tensor"})
        x = torch.ones((1, N_IN), dtype=torch.float64)
        error = programmed.read(x) - x @ programmed.weight.t()
        spread.append([float(error[0, a:b].mean()) for a, b in programmed.matrix.plan.cols])
    digital, column = np.array(spread)
    reference = _programmed(**changes, encoding={"kind": "offset", "correction": "column", "scale": "tensor"}).matrix
    shared = sum(part.sum(dim=1) for part in reference.reference_columns.effective).numpy()
    zero = reference.layout.planes[0].zero(reference.spec.device.g_min_uS, reference.spec.device.g_max_uS)
    gain = float(reference.gain[0, 0])
    np.testing.assert_allclose(digital - column, gain * (shared - N_IN * zero), atol=1e-9)
    assert abs(digital - column).max() > 5 * abs(digital).max()


def test_zero_inputs_give_only_the_bias_and_output_noise():
    zero, bias = torch.zeros((3, N_IN), dtype=torch.float64), torch.ones(N_OUT, dtype=torch.float64)
    assert torch.equal(_programmed().read(zero, bias), bias.expand(3, -1))
    # the digital unit multiplies by the largest input, so even the noise ahead of the ADC is worth nothing
    assert torch.equal(_programmed(**{"adc.output_noise": 0.1}).read(zero, bias), bias.expand(3, -1))
    static = {"adc.output_noise": 0.1, "dac.range": {"kind": "static", "value": 1.0}}
    assert (_programmed(**static).read(zero, bias) != bias).any()


@pytest.mark.parametrize("backend", ["numba", "torch"])
@pytest.mark.parametrize(
    "dac", [{"bits": 8}, {"bits": None}, {"bits": 8, "range": {"kind": "static", "value": 2.0}}, None]
)
def test_nan_in_a_vector_makes_its_outputs_nan_and_no_others(backend, dac):
    x = _vectors()
    x[3, 70] = torch.nan
    y = _programmed(dac=dac, **({} if dac else {"adc": None})).read(x, backend=backend)
    assert y[3].isnan().all()
    assert y[[0, 1, 2, 4, 5, 6]].isfinite().all()


@pytest.mark.parametrize("backend", ["numba", "torch"])
def test_an_output_that_is_nan_is_not_counted_as_saturated(backend):
    x, counts = _vectors(), []
    x[3] = 0
    for value in (0.0, torch.nan):
        x[3, 70] = value
        programmed = _programmed(**{"adc.bound": 1.0})
        programmed.read(x, backend=backend)
        counts.append(programmed.matrix.n_saturated)
    assert counts[0] == counts[1] > 0


def test_no_vectors_give_no_outputs():
    assert _programmed().read(torch.empty((0, N_IN), dtype=torch.float64)).shape == (0, N_OUT)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_pass_straight_through_the_converters(dtype):
    programmed = _programmed(dtype, device="ideal", compensation=None)
    x = _vectors(dtype=dtype).requires_grad_()
    programmed.read(x).sum().backward()
    assert programmed.matrix.n_saturated == 0
    torch.testing.assert_close(x.grad, _weight(dtype).sum(dim=0).expand_as(x), rtol=0, atol=1e-4)


def test_gradients_stop_at_inputs_beyond_a_static_range():
    programmed = _programmed(**{"device": "ideal", "dac.range": {"kind": "static", "value": 1.0}, "adc": None})
    x = _vectors().requires_grad_()
    programmed.read(x).sum().backward()
    expected = torch.where(x.detach().abs() <= 1, _weight().sum(dim=0), 0.0)
    torch.testing.assert_close(x.grad, expected, rtol=0, atol=1e-9)


def test_gradients_stop_at_saturated_outputs_and_nowhere_else():
    converters = {"dac": {"bits": None, "range": {"kind": "static", "value": 8.0}}, "adc": {"bits": 3, "bound": 0.9}}
    programmed = _programmed(**{"device": "ideal", "tile.rows": None, "encoding.scale": "tensor", **converters})
    x = _vectors(40).requires_grad_()
    programmed.read(x).sum().backward()
    codes = torch.round(x.detach() / 8 @ programmed.matrix.effective[0].t() / 0.3)
    assert ((codes.abs() == 3).sum(), (codes.abs() > 3).sum()) > (100, 100)
    torch.testing.assert_close(x.grad, (codes.abs() <= 3).double() @ _weight(), rtol=0, atol=1e-9)


def test_gradients_of_the_weights_are_taken_at_the_programmed_state():
    weight = _weight().requires_grad_()
    programmed = _programmed(weight=weight, dac=None, adc=None)
    programmed.set_time(HOUR)
    x = _vectors()
    programmed.read(x).sum().backward()
    factor = torch.cat(
        [
            f[:, None].expand(-1, b - a)
            for f, (a, b) in zip(programmed.matrix.drift_factor, programmed.matrix.plan.rows, strict=True)
        ],
        dim=1,
    )
    torch.testing.assert_close(weight.grad, x.sum(dim=0) * factor, rtol=1e-9, atol=1e-9)


def test_the_compiled_backend_refuses_gradients_and_says_what_to_do():
    programmed = _programmed()
    with pytest.raises(UsageError) as caught:
        programmed.read(_vectors().requires_grad_(), backend="numba")
    assert str(caught.value) == (
        'fc: backend = "numba" cannot run this call, because gradients are asked for; wrap the call in '
        'torch.no_grad(), or use backend="torch"'
    )
    assert programmed.read(_vectors(), backend="numba").shape == (7, N_OUT)


def test_weights_that_changed_after_programming_are_refused_until_programmed_anew():
    weight = _weight()
    programmed = _programmed(weight=weight)
    before = programmed.read(_vectors())
    weight.mul_(2.0)
    text = (
        "fc: its weights changed after they were programmed; call chip.reprogram() to write the new weights to the "
        "devices"
    )
    for use in (lambda: programmed.read(_vectors()), lambda: programmed.set_time(HOUR)):
        with pytest.raises(StateError) as caught:
            use()
        assert str(caught.value) == text
    programmed.program(0)
    assert torch.equal(programmed.read(_vectors()), 2 * before)


def test_a_transposed_parameter_is_the_same_matrix():
    chip = _programmed().matrix.spec
    turned = ProgrammedMatrix(_weight().t().contiguous(), chip, 0, "fc", transposed=True)
    assert torch.equal(turned.read(_vectors()), _programmed().read(_vectors()))


def test_compensation_may_be_chosen_later_as_if_from_the_start():
    late, early = _programmed(compensation=None), _programmed(compensation={"probe_vectors": 8})
    for programmed in (late, early):
        programmed.set_time(DAY)
    assert (late.matrix.drift_factor == 1).all()
    late.choose_compensation(GlobalDriftCompensation(probe_vectors=8), DAY)
    assert torch.equal(late.matrix.drift_factor, early.matrix.drift_factor)
    assert late.matrix.time_s == DAY
    late.choose_compensation(None, DAY)
    assert (late.matrix.drift_factor == 1).all()


def test_restore_goes_to_a_stored_state():
    programmed, other = _programmed(), _programmed()
    programmed.set_time(DAY)
    programmed.read(_vectors())
    correction = Correction(programmed.matrix.drift_factor.clone(), None)
    other.restore(DAY, 1, programmed.compensation, DAY, correction)
    assert torch.equal(other.read(_vectors()), programmed.read(_vectors()))


def test_variance_takes_half_the_memory_of_float32_weights():
    matrix = AnalogMatrix(_weight(torch.float32), ChipSpec.preset("pcm_1m").evolve(compensation=None), 0, "fc")
    assert matrix.variance[0].dtype == torch.bfloat16
    assert matrix.n_bytes == N_OUT * N_IN * (4 + 2) + 2 * N_OUT * 4
    assert AnalogMatrix(_weight(), ChipSpec.preset("pcm_1m"), 0, "fc").variance[0].dtype == torch.float64
    assert AnalogMatrix(_weight(), ChipSpec.preset("pcm_1m").evolve(read_noise="frozen"), 0, "fc").variance is None


@pytest.mark.parametrize("seed", [-1, 1.0, True, "0", None])
def test_a_seed_is_a_whole_number(seed):
    with pytest.raises(UsageError) as caught:
        AnalogMatrix(_weight(), ChipSpec.preset("ideal"), seed, "fc")
    assert str(caught.value) == f"seed = {seed!r}: must be a whole number >= 0"


def test_weights_are_a_matrix():
    with pytest.raises(UsageError) as caught:
        AnalogMatrix(torch.zeros(2, 3, 4), ChipSpec.preset("ideal"), 0, "fc")
    assert str(caught.value) == "fc: weights must be a matrix (n_out, n_in), have shape (2, 3, 4)"
