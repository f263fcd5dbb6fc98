"""Published and independently computed numbers of arrays with resistive wires (ideal sense nodes at 0 V)."""

import numpy as np
import pytest

from crossbar_sim.circuit.effective import effective_conductance, fold_wires, tile_loss
from crossbar_sim.circuit.nodal import solve_array
from crossbar_sim.spec.wires import WiresSpec

SMALL = np.array([[10.0, 20.0], [30.0, 40.0]])
SMALL_WIRES = WiresSpec(r_wl_ohm=100.0, r_bl_ohm=100.0)
THREE = np.array([[5.0, 10, 15], [20, 25, 1], [0.5, 7, 12]])
THREE_WIRES = WiresSpec(r_wl_ohm=5.0, r_bl_ohm=10.0, r_driver_ohm=50.0, r_sense_ohm=20.0)
THREE_V = [0.2, -0.2, 0.1]


def test_one_device_is_a_series_of_three_resistors():
    current = solve_array([[100.0]], [0.2], WiresSpec(r_wl_ohm=10.0, r_bl_ohm=10.0)).currents_A
    assert current == pytest.approx(1.9960079840e-05, rel=1e-10)


def test_two_by_two_currents_voltages_and_effective_matrix():
    found = solve_array(SMALL, [0.2, 0.1], SMALL_WIRES, voltages=True)
    np.testing.assert_allclose(found.currents_A[0], [4.951593797588e-06, 7.881736594093e-06], rtol=1e-12)
    np.testing.assert_allclose(found.u_V[0], [[0.19940564, 0.19900998], [0.09931103, 0.09891851]], atol=5e-9)
    np.testing.assert_allclose(found.b_V[0], [[0.00069387, 0.00118383], [0.00049516, 0.00078817]], atol=5e-9)
    expected = [[9.92091695, 19.74345208], [29.67410408, 39.33046178]]
    np.testing.assert_allclose(effective_conductance(SMALL, SMALL_WIRES), expected, atol=5e-9)


def test_three_by_three_with_terminal_resistances():
    found = solve_array(THREE, THREE_V, THREE_WIRES).currents_A[0]
    np.testing.assert_allclose(found, [-2.938666328e-06, -2.287372148e-06, 3.989275742e-06], rtol=0, atol=6e-16)
    expected = [
        [4.9864749, 9.96527406, 14.95512263],
        [19.92935224, 24.89366338, 0.99636501],
        [0.49909138, 6.98305716, 11.97524219],
    ]
    np.testing.assert_allclose(effective_conductance(THREE, THREE_WIRES), expected, atol=1e-7)


def test_three_by_three_with_ideal_drivers():
    found = solve_array(THREE, THREE_V, THREE_WIRES.evolve(r_driver_ohm=None)).currents_A[0]
    np.testing.assert_allclose(found, [-2.946282575e-06, -2.295145503e-06, 3.994468792e-06], rtol=0, atol=6e-16)


LADDERS = [
    (128, 25.0, 1.0, 0.881407322),
    (256, 25.0, 1.0, 0.667696796),
    (256, 25.0, 0.35, 0.843641006),
    (256, 5.0, 0.15, 0.983838786),
    (512, 5.0, 0.15, 0.939068617),
    (512, 25.0, 0.35, 0.598553510),
]


@pytest.mark.parametrize(("n", "g_uS", "r_ohm", "expected"), LADDERS)
def test_ladder_equals_its_closed_form(n, g_uS, r_ohm, expected):
    current = solve_array(np.full((n, 1), g_uS), np.ones(n), WiresSpec(r_wl_ohm=None, r_bl_ohm=r_ohm)).currents_A
    theta = np.arccosh(1 + r_ohm * g_uS * 1e-6 / 2)
    ratio = 2 * np.sinh(n * theta) * np.sinh(theta / 2) / (r_ohm * n * g_uS * 1e-6 * np.cosh((n + 0.5) * theta))
    assert current[0, 0] / (n * g_uS * 1e-6) == pytest.approx(expected, abs=5e-10)
    assert current[0, 0] / (n * g_uS * 1e-6) == pytest.approx(ratio, rel=1e-9)


@pytest.mark.parametrize(
    ("n", "first", "last", "mean"),
    [
        (64, 0.965011, 0.919832, 0.935079),
        (128, 0.879179, 0.741878, 0.787462),
        (256, 0.665519, 0.412330, 0.493892),
    ],
)
def test_uniform_square_array(n, first, last, mean):
    wires = WiresSpec(r_wl_ohm=1.0, r_bl_ohm=1.0)
    share = solve_array(np.full((n, n), 25.0), np.ones(n), wires).currents_A[0] / (n * 25e-6)
    np.testing.assert_allclose([share[0], share[-1], share.mean()], [first, last, mean], rtol=0, atol=1e-6)


def test_uniform_array_driven_at_both_ends():
    wires = WiresSpec(r_wl_ohm=1.0, r_bl_ohm=1.0, two_sided=True)
    share = solve_array(np.full((128, 128), 25.0), np.ones(128), wires).currents_A[0] / (128 * 25e-6)
    np.testing.assert_allclose(share[[0, 64, 127]], [0.880197, 0.842373, 0.880197], rtol=0, atol=1e-6)


def test_first_order_loss_and_ratio_form_of_two_by_two():
    tile = np.ascontiguousarray(SMALL.T[None])
    max_c, loss = tile_loss(tile, SMALL_WIRES)
    np.testing.assert_allclose(loss[0].T, [[0.008, 0.013], [0.011, 0.017]], rtol=1e-12)
    assert max_c == pytest.approx(0.017, rel=1e-12)
    fold_wires(tile, None, SMALL_WIRES)
    np.testing.assert_allclose(tile[0].T, [[9.92063492, 19.74333662], [29.6735905, 39.33136676]], atol=5e-9)


@pytest.mark.parametrize(
    ("n", "r_ohm", "ideal", "first_order", "ratio", "max_c"),
    [
        (64, 1.0, 0.0250, 6.3e-4, 1.3e-4, 0.043),
        (128, 0.35, 0.0342, 1.2e-3, 2.4e-4, 0.058),
        (256, 0.15, 0.0554, 3.1e-3, 6.5e-4, 0.093),
        (256, 0.35, 0.1331, 1.7e-2, 3.7e-3, 0.219),
        (256, 1.0, 0.3743, 0.143, 1.8e-2, 0.623),
    ],
)
def test_error_of_the_closed_forms(n, r_ohm, ideal, first_order, ratio, max_c):
    """G = 25 uS u^2, random inputs: relative l2 error of the currents. The draw is another one, so within 15 %."""
    rng = np.random.default_rng(0)
    g, v = 25 * rng.uniform(size=(n, n)) ** 2, rng.normal(size=(256, n))
    wires = WiresSpec(r_wl_ohm=r_ohm, r_bl_ohm=r_ohm, max_c=1.0)
    exact = solve_array(g, v, wires).currents_A

    def error(tile):
        return np.linalg.norm(v @ tile[0].T * 1e-6 - exact) / np.linalg.norm(exact)

    ideal_tile = np.ascontiguousarray(g.T[None])
    folded = {model: ideal_tile.copy() for model in ("first_order", "ratio")}
    for model, tile in folded.items():
        assert fold_wires(tile, None, wires.evolve(model=model)).max_c == pytest.approx(max_c, rel=0.1)
    assert error(ideal_tile) == pytest.approx(ideal, rel=0.15)
    assert error(folded["first_order"]) == pytest.approx(first_order, rel=0.15)
    assert error(folded["ratio"]) == pytest.approx(ratio, rel=0.15)
