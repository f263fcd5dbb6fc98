"""ADCs whose transitions are given as measured tables."""

import numpy as np
import pytest
import torch

from crossbar_sim.array.matrix import AnalogMatrix
from crossbar_sim.array.read_numba import read_numba
from crossbar_sim.converters import laws, reference
from crossbar_sim.converters.adc import convert
from crossbar_sim.converters.states import adc_state
from crossbar_sim.converters.static_errors import static_errors
from crossbar_sim.spec import ChipSpec, TabulatedAdcSpec, UniformAdcSpec
from crossbar_sim.tile import Tile
from device_models.errors import SpecError, StoreError, UsageError

BITS, LIMIT, BOUND = 5, 15, 10.0
STEP = BOUND / LIMIT
CODES = np.arange(1 - LIMIT, LIMIT + 1)


def _ideal(bits=BITS, **fields):
    return TabulatedAdcSpec(bits=bits, bound=BOUND, inl_lsb=((0.0,) * (2**bits - 2),), **fields)


def _measured(tables=3, seed=0, **fields):
    inl = np.random.default_rng(seed).uniform(-0.45, 0.45, (tables, 2 * LIMIT))
    return TabulatedAdcSpec(bits=BITS, bound=BOUND, inl_lsb=tuple(map(tuple, inl.tolist())), **fields), inl


def _run(spec, v, first_col=0, n_cols=None, errors=None):
    out = v.copy()
    state = adc_state(spec, 0, "layer", 0, n_cols or first_col + v.shape[1], v.dtype)
    return out, convert(state, out, first_col=first_col, errors=errors)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("bits", [2, 5, 8, 12])
def test_an_ideal_table_is_the_uniform_converter_bit_for_bit(bits, dtype):
    limit = 2 ** (bits - 1) - 1
    step = dtype(BOUND / limit)
    halves = step * np.arange(-2 * limit - 5, 2 * limit + 6).astype(dtype) / 2  # ties included
    beside = np.nextafter(halves, dtype(np.inf))
    drawn = np.random.default_rng(0).normal(0, 5, 4000).astype(dtype)
    far = np.array([1e30, -1e30, np.inf, -np.inf, np.nan], dtype)
    v = np.concatenate([halves, beside, drawn, far])[None]
    found, saturated = _run(_ideal(bits), v)
    expected, n = _run(UniformAdcSpec(bits=bits, bound=BOUND), v)
    np.testing.assert_array_equal(found, expected)
    assert saturated == n > 0
    finite = v[:, :-1]
    law = laws.quantise_tabulated(finite, BOUND, bits, np.zeros(2 * limit))
    np.testing.assert_array_equal(law, expected[:, :-1])


def test_transitions_lie_where_the_table_says():
    """Bisected to 1e-12 of a step; each of seven columns has the table of its converter."""
    spec, inl = _measured(group_size=2)
    n = 7
    table = np.arange(n) // 2 % 3
    state = adc_state(spec, 0, "layer", 0, n, np.float64)
    for k, code in enumerate(CODES):
        low, high = np.full((1, n), (code - 1.5) * STEP), np.full((1, n), (code + 0.5) * STEP)
        for _ in range(60):
            middle = (low + high) / 2
            out = middle.copy()
            convert(state, out)
            reached = out > (code - 0.5) * STEP
            low, high = np.where(reached, low, middle), np.where(reached, middle, high)
        np.testing.assert_allclose(high[0] / STEP - (code - 0.5), inl[table, k], rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_kernel_law_and_reference_agree(dtype):
    spec, inl = _measured(group_size=4)
    v = np.random.default_rng(1).normal(0, 5, (200, 30)).astype(dtype)
    found, _ = _run(spec, v, first_col=6)
    state = adc_state(spec, 0, "layer", 0, 36, dtype)
    for row, got in zip(v, found, strict=True):
        np.testing.assert_array_equal(reference.convert(state, row, None, 6), got)
    for j in range(30):
        expected = laws.quantise_tabulated(v[:, j], BOUND, BITS, inl[(6 + j) // 4 % 3])
        np.testing.assert_array_equal(found[:, j], expected)


def test_a_missing_code_never_comes():
    inl = np.zeros(2 * LIMIT)
    at = int(np.flatnonzero(CODES == 3)[0])
    inl[at] = 1.0  # code 3 is reached where code 4 is
    spec = TabulatedAdcSpec(bits=BITS, bound=BOUND, inl_lsb=(tuple(inl.tolist()),))
    found = np.rint(_run(spec, np.linspace(-11, 11, 5001)[None])[0][0] / STEP)
    assert (np.diff(found) >= 0).all()
    assert set(range(-LIMIT, LIMIT + 1)) - set(found.astype(int)) == {3}


def test_gain_and_offset_come_ahead_of_the_table():
    spec, _ = _measured(gain_sd=0.05, offset_sd_lsb=0.7)
    v = np.random.default_rng(2).normal(0, 4, (50, 12))
    errors = static_errors(spec, 0, "layer", 0, 12, np.float64)
    expected, _ = _run(spec, np.array([reference.distort(errors, row) for row in v]))
    np.testing.assert_array_equal(_run(spec, v, errors=errors)[0], expected)


def test_on_a_chip_an_ideal_table_changes_nothing():
    spec = ChipSpec.preset("pcm_1m").evolve(tile={"rows": 40, "cols": 24})
    weight = torch.from_numpy(np.random.default_rng(3).normal(size=(30, 64))).float()
    x = torch.from_numpy(np.random.default_rng(4).normal(size=(40, 64))).float()
    reads = []
    for adc in (spec.adc, {"kind": "tabulated", "bits": 8, "bound": 10.0, "inl_lsb": [[0.0] * 254]}):
        matrix = AnalogMatrix(weight, spec.evolve(adc=adc), 0, "m")
        reads.append((read_numba(matrix, x, None, 0), matrix.n_saturated))
    torch.testing.assert_close(*(y for y, _ in reads), rtol=0, atol=0)
    assert reads[0][1] == reads[1][1]


def test_a_product_shows_the_table():
    """Sixteen devices of weight 1 with equal inputs: the staircase itself."""
    spec, inl = _measured(tables=1)
    chip = ChipSpec.preset("ideal").evolve(dac={"bits": None, "range": {"kind": "static", "value": 100.0}}, adc=spec)
    x = np.linspace(-80, 80, 401)
    y = Tile(chip).program(np.ones((1, 16))).mvm(np.repeat(x[:, None], 16, axis=1))
    expected = 100 * laws.quantise_tabulated(0.16 * x, BOUND, BITS, inl[0])
    np.testing.assert_allclose(y[:, 0], expected, atol=1e-9)
    assert len(np.unique(y)) == 2 * LIMIT + 1


def test_csv(tmp_path):
    spec, inl = _measured(tables=2, source="inl.csv")
    order = np.random.default_rng(0).permutation(2 * LIMIT)
    lines = ["code,first,second"] + [f"{CODES[k]},{inl[0, k].item()!r},{inl[1, k].item()!r}" for k in order]
    path = tmp_path / "inl.csv"
    path.write_text("\n".join(lines))
    assert TabulatedAdcSpec.from_csv(path, bits=BITS, bound=BOUND) == spec
    chip = ChipSpec.preset("pcm_1m").evolve(adc=spec)
    chip.to_yaml(tmp_path / "chip.yaml")
    assert ChipSpec.from_yaml(tmp_path / "chip.yaml") == chip  # the table travels with the chip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("code,a\n0,0.1\n2,0.1\n", "code: must be each whole number from -L + 1 to L once, L = 2^(bits-1) - 1"),
        ("code\n0\n1\n", "has no column of transitions beside code"),
        ("number,a\n0,0.1\n", "columns number, a: each once, and code are required"),
    ],
)
def test_files_that_are_refused(text, message, tmp_path):
    path = tmp_path / "inl.csv"
    path.write_text(text)
    with pytest.raises(UsageError) as error:
        TabulatedAdcSpec.from_csv(path)
    assert str(error.value) == f"{path}: {message}"
    with pytest.raises(StoreError):
        TabulatedAdcSpec.from_csv(tmp_path / "none.csv")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"inl_lsb": []}, "chip.adc: inl_lsb must hold at least one table"),
        (
            {"inl_lsb": [[0.0] * 6, [0.0] * 5]},
            "chip.adc: inl_lsb[1] has 5 values: must be 2^bits - 2 = 6, one for each transition of bits = 3",
        ),
        (
            {"inl_lsb": [[0.0, 0.8, -0.3, 0.0, 0.0, 0.0]]},
            "chip.adc: inl_lsb[0]: code 0 would be reached below code -1; transitions must rise",
        ),
        ({"inl_lsb": [[0.0] * 6], "dnl_lsb": 0.1}, "chip.adc: dnl_lsb = 0.1: cannot act beside inl_lsb, which places"),
        ({}, "chip.adc.inl_lsb: required, but not given"),
    ],
)
def test_tables_that_are_refused(fields, message):
    with pytest.raises(SpecError) as error:
        ChipSpec.preset("pcm_1m").evolve(adc={"kind": "tabulated", "bits": 3, **fields})
    assert str(error.value).startswith(message)


def test_the_torch_backend_refuses_it():
    spec, _ = _measured()
    matrix = AnalogMatrix(torch.ones(2, 3), ChipSpec.preset("pcm_1m").evolve(adc=spec), 0, "m")
    assert matrix.needs_kernels == "an ADC other than an exact uniform one"
