"""Tile: one matrix and a vector in three lines."""

import numpy as np
import pytest

from crossbar_sim import Tile
from crossbar_sim.mapping import layout_of
from crossbar_sim.spec import ChipSpec
from device_models.errors import CrossbarError, StateError, UsageError

IDEAL = ChipSpec.preset("ideal")
W = np.random.default_rng(0).normal(size=(5, 3))


@pytest.mark.parametrize("shape", [(3,), (4, 3), (2, 3, 3), (1, 1, 1, 3), (0, 3), (2, 0, 3)])
@pytest.mark.parametrize("preset", ["ideal", "pcm_1m"])
def test_outputs_take_the_place_of_the_inputs(shape, preset):
    y = Tile(ChipSpec.preset(preset)).program(W).mvm(np.ones(shape))
    assert y.shape == (*shape[:-1], 5)
    assert y.dtype == np.float64


@pytest.mark.parametrize("rows", [None, 100, 37])
def test_an_ideal_tile_is_the_matrix_product(rows):
    rng = np.random.default_rng(1)
    weights, x = rng.normal(size=(60, 300)), rng.normal(size=(2, 3, 300))
    y = Tile(IDEAL.evolve(**{"tile.rows": rows})).program(weights).mvm(x, t="10y")
    exact = x @ weights.T
    assert abs(y - exact).max() <= 1e-12 * abs(exact).max()


@pytest.mark.parametrize(
    ("weights", "dtype"), [(W.astype(np.float32), np.float32), (W, np.float64), ([[1, 2, 3]], np.float64)]
)
def test_the_float_type_of_the_weights_is_kept_and_numbers_become_float64(weights, dtype):
    y = Tile(IDEAL).program(weights).mvm([1, 0, 0])
    assert y.dtype == dtype
    np.testing.assert_allclose(y, np.asarray(weights)[:, 0], rtol=1e-6)


def test_a_vector_of_a_batch_is_read_as_alone_where_reads_draw_no_noise():
    spec = ChipSpec.preset("pcm_1m").evolve(read_noise="frozen")
    x = np.random.default_rng(1).normal(size=(4, 3))
    batch = Tile(spec).program(W).mvm(x, t="1h")
    alone = [Tile(spec).program(W).mvm(vector, t="1h") for vector in x]
    np.testing.assert_allclose(batch, alone, rtol=0, atol=1e-12)


def test_the_callers_weights_are_copied():
    weights = W.copy()
    tile = Tile(IDEAL).program(weights)
    weights[:] = 0
    np.testing.assert_allclose(tile.mvm([1, 0, 0]), W[:, 0], atol=1e-12)


def test_time_is_kept_until_another_is_asked_for():
    spec = ChipSpec.preset("pcm_1m").evolve(read_noise="frozen", adc=None, dac=None, compensation=None)
    tile = Tile(spec).program(W)
    new, later, still, back = tile.mvm([1, 1, 1]), *(tile.mvm([1, 1, 1], t=t) for t in ("30d", None, 0))
    assert (later == still).all()
    assert (new == back).all()
    assert np.linalg.norm(later) < 0.8 * np.linalg.norm(new)


def test_programming_again_starts_at_time_zero_with_the_same_devices():
    tile = Tile(ChipSpec.preset("pcm_1m"), seed=3).program(W)
    first = tile.mvm([1, 1, 1])
    tile.mvm([1, 1, 1], t="1y")
    assert (tile.program(W).mvm([1, 1, 1]) == first).all()


@pytest.mark.parametrize("pair", ["one_sided", "two_sided"])
@pytest.mark.parametrize("g_min_uS", [0.0, 0.5])
def test_conductances_have_inputs_as_rows_and_decode_to_the_weights(pair, g_min_uS):
    spec = IDEAL.evolve(**{"encoding.pair": pair, "encoding.scale": "tensor", "device.g_min_uS": g_min_uS})
    g_plus, g_minus = Tile(spec).program(W).conductances()
    assert g_plus.shape == g_minus.shape == (3, 5)
    for g in (g_plus, g_minus):
        assert g.min() >= g_min_uS
        assert g.max() <= 25.0 * (1 + 1e-15)
    u = layout_of(spec.encoding).weights([g_plus, g_minus], g_min_uS, 25.0)
    np.testing.assert_allclose(u * abs(W).max(), W.T, atol=1e-13)


def test_conductances_of_each_tile_make_up_the_matrix():
    weights = np.random.default_rng(1).normal(size=(7, 10))
    spec = ChipSpec.preset("pcm_1m").evolve(**{"tile.rows": 4, "tile.cols": 4, "encoding.scale": "tensor"})
    whole = Tile(spec.evolve(**{"tile.rows": None, "tile.cols": None})).program(weights)
    split = Tile(spec).program(weights)
    for tile in (whole, split):
        tile.mvm(np.ones(10), t="1d")
    for polarity in (0, 1):
        blocks = [[split.conductances((r, c))[polarity] for c in range(2)] for r in range(3)]
        assert [block.shape[0] for (block, _) in blocks] == [4, 3, 3]
        np.testing.assert_array_equal(np.block(blocks), whole.conductances()[polarity])


def test_programmed_conductances_scatter_about_their_targets_and_drift_down():
    tile = Tile(ChipSpec.preset("pcm_1m")).program(np.ones((200, 50)))
    new, _ = tile.conductances()
    tile.mvm(np.ones(50), t="30d")
    old, reset = tile.conductances()
    sigma = (1.055380**2 + (25 * 0.0088) ** 2 * 2.9) ** 0.5  # frozen share at t = 0: ln(20 s / 1 s) = 3.0
    assert abs(new.mean() - 25) < 4 * sigma / 100
    assert abs(new.std() / sigma - 1) < 0.05
    assert 0.561671 < old.mean() / new.mean() < 0.58  # above the factor of the mean exponent, because that is convex
    assert (reset >= 0).all()


TWO_TILES = IDEAL.evolve(**{"tile.rows": 2})


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: Tile(IDEAL).mvm([1.0]), StateError, "Tile: nothing is programmed; call program(weights) first"),
        (lambda: Tile(IDEAL).conductances(), StateError, "Tile: nothing is programmed; call program(weights) first"),
        (lambda: Tile(IDEAL).program(W).mvm([1.0]), UsageError,
         "x: shape (1,) does not fit the programmed matrix; expected (..., 3)"),
        (lambda: Tile(IDEAL).program(W).mvm(1.0), UsageError,
         "x: shape () does not fit the programmed matrix; expected (..., 3)"),
        (lambda: Tile(IDEAL).program(W).mvm(np.ones((3, 5))), UsageError,
         "x: shape (3, 5) does not fit the programmed matrix; expected (..., 3)"),
        (lambda: Tile(IDEAL).program(W).mvm(np.ones(3), t=-1), UsageError,
         "t = -1: must be >= 0 s, because time counts from the end of programming"),
        (lambda: Tile(IDEAL).program(W).mvm(np.ones(3), t="1 fortnight"), UsageError,
         "t = '1 fortnight': must be a number of seconds >= 0 or a text such as \"20s\", \"1h\", \"30d\", \"1y\"; "
         "units are ns, us, ms, s, min, h, d, w, y"),
        (lambda: Tile(IDEAL).program(np.ones(3)), UsageError,
         "tile: weights must be a matrix (n_out, n_in), have shape (3,)"),
        (lambda: Tile(IDEAL).program(np.ones((0, 3))), UsageError,
         "size = 0: a weight matrix needs at least one row and one column"),
        (lambda: Tile(IDEAL).program([[1.0, np.nan]]), UsageError, "tile[0, 1] = nan: weights must be finite"),
        (lambda: Tile(IDEAL, seed=-1).program(W), UsageError, "seed = -1: must be a whole number >= 0"),
        (lambda: Tile(TWO_TILES).program(W).conductances((2, 0)), UsageError,
         "tile = (2, 0): must be (row, column) within (0..1, 0..0)"),
        (lambda: Tile(ChipSpec.preset("pcm_1m").evolve(**{"dac.range": "calibrated"})), UsageError,
         'chip.dac.range.kind = "calibrated": a Tile has no calibration data; use dynamic or static'),
    ],
)  # fmt: skip
def test_misuse_is_told_in_one_line(call, error, text):
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == text
    assert isinstance(caught.value, CrossbarError)
