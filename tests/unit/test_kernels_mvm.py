"""The passes around the GEMM: DAC, read noise, ADC, scale and sum, against the readable kernels."""

import numpy as np
import pytest
import torch

from crossbar_sim.array.stored import stored
from crossbar_sim.converters.states import ExactReadout, UniformAdc
from crossbar_sim.kernels import reference
from crossbar_sim.kernels.inputs import quantise_inputs
from crossbar_sim.kernels.mvm import GROUP, Draws, read_columns, read_keys
from crossbar_sim.kernels.random import random_key
from crossbar_sim.kernels.tries import REPEAT, first_tries

STOPS = np.array([288, 576, 577])
NO_KEY, SILENT, NOISY = np.zeros(2, np.uint32), Draws(False, False, False), Draws(True, False, False)
SPANS = ((0, 288), (288, 576), (576, 577))


def _quantise(x, levels, static_range=(), stops=STOPS, tries=None, stochastic=False):
    """codes, squares, full_scale, number of clipped inputs."""
    codes, squares = np.empty_like(x), np.empty_like(x)
    full_scale, of_vectors = np.empty((len(stops), len(x)), x.dtype), np.full(len(x), -1)
    tries = first_tries(len(stops), len(x)) if tries is None else tries
    clipped = quantise_inputs(
        0, 0, len(x), x, stops, np.array(static_range, x.dtype), levels, stochastic, NO_KEY, tries, codes, squares,
        full_scale, of_vectors,
    )  # fmt: skip
    assert clipped == of_vectors.sum()
    return codes, squares, full_scale, clipped


def _adc(levels):
    return UniformAdc(STEP, levels) if levels else ExactReadout()


def _inputs(dtype, n=8):
    return np.random.default_rng(0).normal(size=(n, 577)).astype(dtype)


@pytest.mark.parametrize(
    ("full_scale", "x", "y"),
    [(1, 0.1, 0.10236220), (1, 0.3, 0.29921260), (1, 0.5, 0.50393701), (1, -0.7, -0.70078740), (1, 1.2, 1.0),
     (1, 0.5 / 127, 0.0), (1, 1.5 / 127, 0.01574803), (1, -0.5 / 127, 0.0), (1, -9.0, -1.0),
     (10, 0.1, 0.07874016), (10, 3.3, 3.30708661), (10, 11, 10.0)],
)  # fmt: skip
def test_quantiser_gives_the_tabulated_values_at_8_bit(full_scale, x, y):
    codes, squares, found_scale, clipped = _quantise(np.array([[x]], float), 127, [full_scale], np.array([1]))
    assert codes[0, 0] * full_scale / 127 == pytest.approx(y, abs=5e-9)
    assert squares[0, 0] == codes[0, 0] ** 2
    assert found_scale[0, 0] == full_scale
    assert clipped == (abs(x) > full_scale)
    assert codes[0, 0] == reference.quantise(np.array([x], float), float(full_scale), 127)[0]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("levels", [0, 1, 127, 32767])
@pytest.mark.parametrize("static", [False, True])
def test_quantise_inputs_equals_the_reference(dtype, levels, static):
    x = _inputs(dtype)
    ranges = (2.0, 1.0, 0.5) if static else ()
    codes, squares, full_scale, clipped = _quantise(x, levels, ranges)
    beyond = 0
    for k, (start, stop) in enumerate(SPANS):
        part = x[:, start:stop]
        largest = np.full(len(x), ranges[k], dtype) if static else abs(part).max(axis=1)
        np.testing.assert_array_equal(full_scale[k], largest)
        # in the type of x, because a quotient that rounds to half a step may go either way in another
        expected = reference.quantise(part, largest[:, None], dtype(levels))
        np.testing.assert_allclose(codes[:, start:stop], expected, rtol=0 if levels else 1e-6)
        beyond += int((abs(part) > largest[:, None]).sum())
    np.testing.assert_array_equal(squares, codes * codes)
    assert clipped == beyond
    assert (clipped > 0) == static


@pytest.mark.parametrize("static_range", [(), (2.0, 1.0, 0.5)])
@pytest.mark.parametrize("stochastic", [False, True])
def test_a_repeat_doubles_the_range_of_a_vector_on_a_tile(static_range, stochastic):
    """Try r is the first try of inputs divided by 2^r, with uniforms of its own, and nothing else changes."""
    x = _inputs(np.float64)
    repeats = np.zeros((3, len(x)), np.uint32)
    repeats[0, 2], repeats[1, 2:4], repeats[2, 5] = 1, 3, 15
    tries = first_tries(3, len(x)) + REPEAT * repeats
    found = _quantise(x, 127, static_range, tries=tries, stochastic=stochastic)
    first = _quantise(x, 127, static_range, stochastic=stochastic)
    factor = 2.0**repeats
    largest = np.array(static_range)[:, None] if static_range else abs(first[2])
    np.testing.assert_array_equal(found[2], largest * factor)
    assert found[3] == (
        first[3] and sum((abs(x[:, a:b]) > found[2][k][:, None]).sum() for k, (a, b) in enumerate(SPANS))
    )
    for k, (start, stop) in enumerate(SPANS):
        codes, same = found[0][:, start:stop], repeats[k] == 0
        np.testing.assert_array_equal(codes[same], first[0][same, start:stop])
        exact = np.clip(x[:, start:stop] / found[2][k][:, None] * 127, -127, 127)
        if stochastic:
            assert (abs(codes - exact) < 1).all()
        else:
            np.testing.assert_allclose(codes, np.rint(exact), rtol=0, atol=1e-9)


def test_squares_are_left_out_where_none_are_wanted():
    x = _inputs(np.float32)
    codes, full_scale, clipped = np.empty_like(x), np.empty((3, len(x)), np.float32), np.empty(len(x), int)
    quantise_inputs(
        0, 0, len(x), x, STOPS, np.empty(0, np.float32), 127, False, NO_KEY, first_tries(3, len(x)), codes,
        np.empty((0, 0), np.float32), full_scale, clipped,
    )  # fmt: skip
    np.testing.assert_array_equal(codes, _quantise(x, 127)[0])


def test_a_range_per_vector_uses_the_whole_scale_on_every_tile():
    codes, _, _, clipped = _quantise(_inputs(np.float32), 127)
    assert all((abs(codes[:, start:stop]).max(axis=1) == 127).all() for start, stop in SPANS)
    assert clipped == 0


@pytest.mark.parametrize("levels", [0, 127])
@pytest.mark.parametrize("tiny", [0.0, 1e-45])
def test_a_vector_without_a_step_gives_codes_of_zero(levels, tiny):
    x = _inputs(np.float32, 3)
    x[1] = tiny
    codes, squares, full_scale, _ = _quantise(x, levels)
    step = np.float32(tiny) / np.float32(levels or 1)
    assert (codes[1] == (0 if step == 0 else 1)).all()
    assert (full_scale[:, 1] == (0 if step == 0 else np.float32(tiny))).all()
    assert np.isfinite(squares).all()


@pytest.mark.parametrize("levels", [0, 127])
@pytest.mark.parametrize("static_range", [(), (2.0, 2.0, 2.0)])
@pytest.mark.parametrize("bad", [0, 5, 287, 300, 576])
def test_nan_goes_through_the_dac_and_stays_on_its_tile_and_vector(levels, static_range, bad):
    x = _inputs(np.float32)
    clean = _quantise(x, levels, static_range)[0]
    x[2, bad] = np.nan
    codes, _, _, _ = _quantise(x, levels, static_range)
    assert np.isnan(codes[2, bad])
    touched = np.zeros(x.shape, bool)
    start, stop = next(span for span in SPANS if span[0] <= bad < span[1])
    touched[2, start:stop] = True
    np.testing.assert_array_equal(codes[~touched], clean[~touched])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_squares_may_be_bfloat16(dtype):
    x = _inputs(np.float32)
    squares = torch.empty(x.shape, dtype=torch.bfloat16)
    codes, full_scale, clipped = np.empty_like(x), np.empty((3, len(x)), np.float32), np.empty(len(x), int)
    quantise_inputs(
        0, 0, len(x), x, STOPS, np.empty(0, np.float32), 127, False, NO_KEY, first_tries(3, len(x)), codes,
        stored(squares), full_scale, clipped,
    )  # fmt: skip
    assert torch.equal(squares, torch.from_numpy(codes * codes).to(torch.bfloat16))


N_COLS = GROUP + GROUP // 2 + 9
DAC_LEVELS, ADC_LEVELS = 127, 127
STEP = 10.0 / ADC_LEVELS


def _read(dtype, *, noise=0.0, spread=False, levels=ADC_LEVELS, first=True, first_col=0, scale=1.0):
    """Kernel and reference outputs, saturated outputs of the kernel, and the reference codes before rounding."""
    rng = np.random.default_rng(1)
    n = 40
    sums = (scale * DAC_LEVELS * rng.normal(size=(n, N_COLS))).astype(dtype)
    variances = (DAC_LEVELS**2 * rng.uniform(0, 0.5, (n, N_COLS))).astype(dtype) if spread else np.empty((0, 0), dtype)
    full_scale, gain = rng.uniform(0.5, 2, n).astype(dtype), rng.uniform(0.1, 1, N_COLS).astype(dtype)
    bias, before = rng.normal(size=first_col + N_COLS).astype(dtype), rng.normal(size=(n, N_COLS))
    y = before.astype(dtype)
    key, beyond = np.array(random_key(0, "read"), np.uint32), np.zeros(n, bool)
    saturated = read_columns(
        sums, variances, 1 / DAC_LEVELS, noise**2, Draws(spread or noise > 0, False, False), _adc(levels), None,
        None, full_scale, gain, bias, key, first_tries(1, n)[0], first_col, first, y, beyond,
    )  # fmt: skip
    z = reference.read_normals(tuple(int(word) for word in key), first_tries(1, n)[0], first_col + N_COLS)[
        :, first_col:
    ]
    sigma = np.sqrt(noise**2 + (variances.astype(float) / DAC_LEVELS**2 if spread else 0.0))
    relative = sums.astype(float) / DAC_LEVELS
    expected = reference.read_columns(relative, sigma, z, STEP, levels, full_scale.astype(float), gain.astype(float))
    expected += bias[first_col:] if first else before.astype(dtype)
    return y, expected, saturated, (relative + sigma * z) / STEP


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("noise", "spread"), [(0.0, False), (0.3, False), (0.0, True), (0.3, True)])
@pytest.mark.parametrize("first", [True, False])
def test_read_columns_without_adc_equals_the_reference(dtype, noise, spread, first):
    y, expected, saturated, _ = _read(dtype, noise=noise, spread=spread, levels=0, first=first)
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-5 if dtype == np.float32 or noise or spread else 1e-14)
    assert saturated == 0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("noise", "spread"), [(0.0, False), (0.3, False), (0.0, True), (0.3, True)])
@pytest.mark.parametrize("first_col", [0, GROUP])
def test_read_columns_with_adc_equals_the_reference(dtype, noise, spread, first_col):
    y, expected, saturated, codes = _read(dtype, noise=noise, spread=spread, first_col=first_col, scale=5.0)
    clear = abs(codes - np.floor(codes) - 0.5) > 1e-3  # elsewhere float32 may round to the other code
    assert clear.mean() > 0.99
    np.testing.assert_allclose(y[clear], expected[clear], rtol=0, atol=2e-5 if dtype == np.float32 else 1e-13)
    assert abs(saturated - (abs(np.rint(codes)) > ADC_LEVELS).sum()) <= (~clear & (abs(codes) > ADC_LEVELS)).sum()
    assert 100 < saturated < y.size / 4


def test_saturated_outputs_are_counted_exactly():
    sums = np.array([[-9.0, -2.6, -2.5, -2.4, 2.49, 2.5, 2.51, 3.0, 100.0]])
    ones, y = np.ones(9), np.empty((1, 9))
    sums, y, beyond = np.stack([sums[0], sums[0] / 4, sums[0] / 100]), np.empty((3, 9)), np.zeros(3, bool)
    saturated = read_columns(
        sums, np.empty((0, 0)), 1.0, 0.0, SILENT, UniformAdc(1.0, 2), None, None, np.ones(3), ones, 0 * ones, NO_KEY,
        first_tries(1, 3)[0], 0, True, y, beyond,
    )  # fmt: skip
    assert y[0].tolist() == [-2, -2, -2, -2, 2, 2, 2, 2, 2]
    assert saturated == 5 + 1  # 2.5 rounds to 2, half to even
    assert beyond.tolist() == [True, True, False]


@pytest.mark.parametrize("levels", [0, ADC_LEVELS])
@pytest.mark.parametrize("bad", [0, 3, GROUP + 1])
def test_nan_goes_through_the_adc_and_stays_in_its_column(levels, bad):
    sums = np.random.default_rng(0).normal(size=(2, GROUP + 9)).astype(np.float32)
    sums[1, bad] = np.nan
    ones, y = np.ones(GROUP + 9, np.float32), np.empty_like(sums)
    read_columns(
        sums, np.empty((0, 0), np.float32), 1.0, 0.01, NOISY, _adc(levels), None, None,
        np.ones(2, np.float32), ones, ones, NO_KEY, first_tries(1, 2)[0], 0, True, y, np.zeros(2, bool),
    )  # fmt: skip
    assert np.argwhere(np.isnan(y)).tolist() == [[1, bad]]


def test_read_keys_are_blocks_of_threefry_and_differ_by_read_and_tile():
    keys = read_keys(np.array([1, 2], np.uint32), 5, 4)
    expected = [reference.threefry((1, 2), np.array([5], np.uint32), np.array([k], np.uint32)) for k in range(4)]
    assert keys.tolist() == [[int(a[0]), int(b[0])] for a, b in expected]
    assert len({tuple(key) for read in range(50) for key in read_keys(keys[0], read, 4).tolist()}) == 200
