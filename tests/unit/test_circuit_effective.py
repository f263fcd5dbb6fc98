"""Effective matrices and folding of wires into tiles: layouts, identities, the switch to the exact solution."""

import numpy as np
import pytest

from crossbar_sim.circuit.effective import effective_conductance, fold_wires, tile_loss
from crossbar_sim.circuit.nodal import solve_array
from crossbar_sim.spec.wires import WiresSpec
from device_models.errors import UsageError

WIRES = WiresSpec(r_wl_ohm=200.0, r_bl_ohm=300.0, r_driver_ohm=150.0, r_sense_ohm=90.0, max_c=None)


def conductances(*shape, seed=0):
    return 25 * np.random.default_rng(seed).uniform(size=shape) ** 2


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (9, 14), (14, 9)])
@pytest.mark.parametrize("fields", [{}, {"two_sided": True}, {"r_transistor_ohm": 4e3}, {"r_wl_ohm": None}])
def test_the_effective_matrix_gives_the_currents_of_every_drive(shape, fields):
    g, v = conductances(*shape), np.random.default_rng(1).normal(size=(5, shape[0]))
    wires = WIRES.evolve(**fields)
    expected = solve_array(g, v, wires).currents_A
    np.testing.assert_allclose(v @ effective_conductance(g, wires) * 1e-6, expected, atol=1e-9 * abs(expected).max())


@pytest.mark.parametrize("shape", [(10, 14), (14, 10)])
def test_interleaved_effective_matrix_by_either_set_of_solutions(shape):
    g, wires = conductances(*shape), WIRES.evolve(interleaved=True)
    expected = solve_array(g, np.eye(shape[0]), wires).currents_A * 1e6
    np.testing.assert_allclose(effective_conductance(g, wires), expected, rtol=1e-8)


@pytest.mark.parametrize("factor", [0.3, 2.5])
def test_a_factor_on_all_conductances_is_one_on_all_resistances(factor):
    g = conductances(12, 15)
    scaled = {name: factor * getattr(WIRES, name) for name in ("r_wl_ohm", "r_bl_ohm", "r_driver_ohm", "r_sense_ohm")}
    found = effective_conductance(factor * g, WIRES)
    np.testing.assert_allclose(found, factor * effective_conductance(g, WIRES.evolve(**scaled)), rtol=1e-9)


def array_of(tile, interleaved):
    """The array of a tile (D, M, N), written out device by device."""
    n_devices, n_out, n_in = tile.shape
    if not interleaved:
        g = np.empty((n_in, n_out * n_devices))
        for d, m, n in np.ndindex(tile.shape):
            g[n, m * n_devices + d] = tile[d, m, n]
        return g
    g = np.empty((2 * n_in, n_out * n_devices // 2))
    for d, m, n in np.ndindex(tile.shape):
        g[2 * n + d % 2, m * n_devices // 2 + d // 2] = tile[d, m, n]
    return g


CASES = [(1, False), (2, False), (2, True), (4, False), (4, True)]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("n_devices", "interleaved"), CASES)
def test_an_exact_tile_is_the_effective_matrix_of_its_array(n_devices, interleaved, dtype):
    tile = conductances(n_devices, 5, 8).astype(dtype)
    wires = WIRES.evolve(model="exact", interleaved=interleaved)
    expected = effective_conductance(array_of(tile, interleaved), wires)
    assert fold_wires(tile, None, wires).exact
    assert tile.dtype == dtype
    np.testing.assert_allclose(array_of(tile, interleaved), expected, rtol=1e-6 if dtype == np.float32 else 1e-12)


def test_slices_of_larger_arrays_are_folded_in_place():
    whole = conductances(2, 9, 11)
    expected = np.ascontiguousarray(whole[:, 2:7, 3:9])
    fold_wires(expected, None, WIRES)
    before = whole.copy()
    fold_wires(whole[:, 2:7, 3:9], None, WIRES)
    np.testing.assert_array_equal(whole[:, 2:7, 3:9], expected)
    whole[:, 2:7, 3:9] = before[:, 2:7, 3:9]
    np.testing.assert_array_equal(whole, before)


def test_room_for_the_losses_changes_nothing():
    tile, again = conductances(2, 9, 7), conductances(2, 9, 7)
    assert fold_wires(tile, None, WIRES) == fold_wires(again, None, WIRES, np.full(tile.shape, np.nan))
    np.testing.assert_array_equal(tile, again)


def loss_by_definition(g, wires, per_node):
    """C of an array from path resistances: sums over all pairs of devices on a line."""
    n, m = g.shape
    rows, cols = np.arange(n), np.arange(m)
    from_sense = (n - 1 - rows) // per_node + 1  # segments between a node and its sense node
    z_bl = wires.r_bl_ohm * np.minimum.outer(from_sense, from_sense) + (wires.r_sense_ohm or 0)
    to_node = wires.r_wl_ohm * (cols + 1) + (wires.r_driver_ohm or 0)
    z_wl = np.minimum.outer(to_node, to_node)
    if wires.two_sided:
        length = to_node[-1] + wires.r_wl_ohm + (wires.r_driver_ohm or 0)
        z_wl = z_wl - np.outer(to_node, to_node) / length
    return (z_bl @ g + g @ z_wl) * 1e-6


@pytest.mark.parametrize(("n_devices", "interleaved"), CASES)
@pytest.mark.parametrize("two_sided", [False, True])
@pytest.mark.parametrize("shape", [(1, 1), (5, 8), (3, 130)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_first_order_loss_equals_its_definition(n_devices, interleaved, two_sided, shape, dtype):
    tile = conductances(n_devices, *shape).astype(dtype)
    wires = WIRES.evolve(interleaved=interleaved, two_sided=two_sided)
    max_c, loss = tile_loss(tile, wires)
    expected = loss_by_definition(array_of(tile, interleaved), wires, 2 if interleaved else 1)
    assert loss.dtype == dtype
    np.testing.assert_allclose(array_of(loss, interleaved), expected, rtol=1e-5 if dtype == np.float32 else 1e-12)
    assert max_c == pytest.approx(expected.max(), rel=1e-5)


@pytest.mark.parametrize("two_sided", [False, True])
@pytest.mark.parametrize(("n_devices", "interleaved"), CASES)
def test_the_loss_is_the_first_order_of_the_exact_solution(n_devices, interleaved, two_sided):
    """Resistances 10 times smaller: the distance of the exact map from G (1 - C) falls 100 times."""
    tile, errors = conductances(n_devices, 6, 9), []
    for scale in (1e-2, 1e-3):
        fields = {name: scale * getattr(WIRES, name) for name in ("r_wl_ohm", "r_bl_ohm", "r_driver_ohm")}
        wires = WIRES.evolve(**fields, r_sense_ohm=scale * 90.0, two_sided=two_sided, interleaved=interleaved)
        exact, closed = tile.copy(), tile.copy()
        fold_wires(exact, None, wires.evolve(model="exact"))
        fold_wires(closed, None, wires.evolve(model="first_order", max_c=1.0))
        # a drive's currents: off its own devices there are second-order sneak paths only
        errors.append(abs(exact - closed).max())
    assert errors[0] / errors[1] == pytest.approx(100, rel=0.1)


@pytest.mark.parametrize(("model", "form"), [("ratio", lambda c: 1 / (1 + c)), ("first_order", lambda c: 1 - c)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_forms_scale_conductance_and_variance(model, form, dtype):
    tile, variance = conductances(2, 5, 300).astype(dtype), conductances(2, 5, 300, seed=1).astype(dtype)
    wires = WiresSpec(r_wl_ohm=0.5, r_bl_ohm=0.5, model=model)
    folded, spread = tile.copy(), variance.copy()
    result = fold_wires(folded, spread, wires)
    factor = form(tile_loss(tile, wires)[1])
    np.testing.assert_allclose(folded, tile * factor, rtol=1e-6)
    np.testing.assert_allclose(spread, variance * factor**2, rtol=1e-6)
    assert not result.exact
    assert 0.001 < result.max_c < 0.3


def test_tiles_beyond_max_c_are_solved_exactly():
    tile = conductances(2, 20, 20)
    wires = WiresSpec(r_wl_ohm=10.0, r_bl_ohm=10.0)
    loss = tile_loss(tile, wires)[0]
    exact, closed, switched = tile.copy(), tile.copy(), tile.copy()
    fold_wires(exact, None, wires.evolve(model="exact"))
    fold_wires(closed, None, wires.evolve(max_c=1.01 * loss))
    assert fold_wires(switched, None, wires.evolve(max_c=0.99 * loss)).exact
    assert np.array_equal(switched, exact)
    assert not np.array_equal(closed, exact)


def test_the_variance_of_an_exact_tile_is_attenuated_by_the_closed_form():
    """Even of a device that is nearly off, whose effective conductance is that of paths through its neighbours."""
    tile = np.full((1, 32, 64), 20.0)
    tile[0, 20, 10] = 1e-3
    wires = WiresSpec(r_wl_ohm=1.0, r_bl_ohm=1.0, model="exact")
    folded, spread = tile.copy(), np.ones_like(tile)
    fold_wires(folded, spread, wires)
    np.testing.assert_allclose(spread, 1 / (1 + tile_loss(tile, wires)[1]) ** 2, rtol=1e-12)
    assert folded[0, 20, 10] > 5 * tile[0, 20, 10]
    step = 1e-4
    tile[0, 20, 10] += step
    moved = tile.copy()
    fold_wires(moved, None, wires)
    slope = (moved[0, 20, 10] - folded[0, 20, 10]) / step
    assert slope**2 == pytest.approx(spread[0, 20, 10], rel=0.01)


def test_a_transistor_in_series_comes_first_and_damps_the_variance():
    tile, variance = conductances(2, 3, 4), np.ones((2, 3, 4))
    folded = tile.copy()
    fold_wires(folded, variance, WiresSpec(r_wl_ohm=None, r_bl_ohm=None, r_transistor_ohm=4e3))
    share = 1 / (1 + tile * 4e-3)
    np.testing.assert_allclose(folded, tile * share, rtol=1e-14)
    step = 1e-6  # (dg'/dg)^2
    slope = ((tile + step) / (1 + (tile + step) * 4e-3) - folded) / step
    np.testing.assert_allclose(variance, slope**2, rtol=1e-5)


@pytest.mark.parametrize(
    ("tile", "fields", "message"),
    [
        (np.ones((2, 3)), {}, r"g_uS: shape \(2, 3\); must be \(devices, outputs, inputs\)"),
        (np.ones((1, 3, 3), int), {}, "numbers of type int64; must be float32 or float64"),
        (np.ones((1, 3, 3)), {"interleaved": True}, "wires.interleaved = True: needs pairs of devices"),
        (np.full((1, 2, 2), np.nan), {}, "must be finite"),
        (np.array([[[1.0, -1.0]]]), {}, "at least 0 uS"),
        (np.full((1, 2, 2), np.inf), {"model": "exact"}, "must be finite"),
        (np.ones((1, 2, 2)), {"model": "exact", "idle_rows": "floating"}, "not linear in the inputs"),
        (np.ones((1, 2, 2)), {"model": "exact", "topology": "separate_source", "r_wl_ohm": None}, "not linear"),
    ],
)
def test_what_cannot_be_folded_is_refused(tile, fields, message):
    with pytest.raises(UsageError, match=message):
        fold_wires(tile, None, WiresSpec(**fields))
    if np.isfinite(tile).all() and tile.ndim == 3 and "not linear" in message:
        with pytest.raises(UsageError, match=message):
            effective_conductance(tile[0], WiresSpec(**fields))
