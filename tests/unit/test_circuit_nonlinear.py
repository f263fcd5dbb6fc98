"""Non-linear devices: against scalar equations, the linear limit, and what is refused."""

import numpy as np
import pytest
from numba import njit
from scipy.optimize import brentq

from crossbar_sim.circuit.nodal import solve_array
from crossbar_sim.circuit.nonlinear import DeviceLaw, solve_nonlinear
from crossbar_sim.spec.wires import WiresSpec
from device_models.effects import CubicIV, LinearIV, MiloIV, SinhIV
from device_models.errors import StateError, UsageError

WIRES = WiresSpec(r_wl_ohm=150.0, r_bl_ohm=250.0, r_driver_ohm=90.0, r_sense_ohm=60.0)
CURVES = [CubicIV(k3_per_V2=0.25), SinhIV(v0_V=0.25), MiloIV()]


def array(n=9, m=7):
    rng = np.random.default_rng(0)
    g = rng.uniform(50, 110, (n, m))
    return g, 0.4 * rng.uniform(-1, 1, (3, n))


@pytest.mark.parametrize("curve", CURVES)
@pytest.mark.parametrize("volt", [-0.5, 0.05, 0.5])
def test_one_device_solves_its_scalar_equation(curve, volt):
    wires = WiresSpec(r_wl_ohm=2e3, r_bl_ohm=3e3)
    found = solve_nonlinear([[100.0]], [volt], wires, curve).currents_A[0, 0]
    expected = brentq(
        lambda i: 1e-6 * float(curve.current_uA(100.0, volt - 5e3 * i)) - i,
        *sorted([0.0, volt / 5e3]),
        xtol=1e-20,
        rtol=1e-14,
    )
    assert found == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("curve", [LinearIV(), SinhIV(v0_V=1e5)])
@pytest.mark.parametrize("fields", [{}, {"two_sided": True}, {"idle_rows": "floating", "model": "exact"}])
def test_a_straight_curve_gives_the_linear_solution(curve, fields):
    g, v = array()
    v[:, 2] = 0
    g[3:5, 2:5] = 0
    wires = WIRES.evolve(**fields)
    linear = solve_array(g, v, wires).currents_A
    found = solve_nonlinear(g, v, wires, curve)
    np.testing.assert_allclose(found.currents_A, linear, rtol=0, atol=1e-9 * abs(linear).max())
    assert found.iterations.max() <= 2


@pytest.mark.parametrize("curve", CURVES)
def test_currents_obey_kirchhoff_and_the_law_of_the_devices(curve):
    g, v = array()
    found = solve_nonlinear(g, v, WIRES, curve, voltages=True)
    for k in range(3):
        u, b = found.u_V[k], found.b_V[k]
        current = 1e-6 * curve.current_uA(g, u - b)
        limit = 1e-9 * abs(current).max()
        into_word = (np.column_stack([v[k], u[:, :-1]]) - u) / np.array([240.0, *[150.0] * 6])
        onward = np.column_stack([into_word[:, 1:], np.zeros(9)])
        np.testing.assert_allclose(into_word - onward, current, rtol=0, atol=limit)
        out_of_bit = (b - np.vstack([b[1:], np.zeros(7)])) / np.array([*[250.0] * 8, 310.0])[:, None]
        before = np.vstack([np.zeros(7), out_of_bit[:-1]])
        np.testing.assert_allclose(out_of_bit - before, current, rtol=0, atol=limit)
        np.testing.assert_allclose(found.currents_A[k], current.sum(axis=0), rtol=0, atol=9 * limit)
    assert (found.residual <= 1e-10).all()
    assert (found.iterations < 8).all()


def test_numba_functions_serve_as_laws():
    g, v = array()
    compiled = DeviceLaw(njit(lambda g, v: g * 0.3 * np.sinh(v / 0.3)), njit(lambda g, v: g * np.cosh(v / 0.3)))
    expected = solve_nonlinear(g, v, WIRES, SinhIV(v0_V=0.3)).currents_A
    np.testing.assert_allclose(solve_nonlinear(g, v, WIRES, compiled).currents_A, expected, rtol=1e-9)


def test_a_falling_current_is_refused():
    law = DeviceLaw(lambda g, v: g * (v - 0.25 * v**3), lambda g, v: g * (1 - 0.75 * v**2))
    with pytest.raises(UsageError, match=r"device\[0, 0\]: dI/dV = -.* at 1.5 V \(drive 1\); the current must rise"):
        solve_nonlinear([[100.0]], [[0.5], [1.5]], WIRES, law)


def test_a_curve_that_does_not_settle_is_an_error():
    wires = WiresSpec(r_wl_ohm=1e4, r_bl_ohm=1e4)
    message = r"wires: drive 0 .* residual .* largest current after 50 Newton steps"
    with pytest.raises(StateError, match=message):  # a slope that is not that of the current
        solve_nonlinear([[100.0]], [0.5], wires, DeviceLaw(lambda g, v: g * np.tanh(v / 0.01), lambda g, v: g))
    message = r"wires: drive 0 .* residual .* largest current after 1 Newton steps"
    with pytest.raises(StateError, match=message), np.errstate(over="ignore"):
        solve_nonlinear([[100.0]], [5.0], wires, DeviceLaw(lambda g, v: g * np.sinh(v * v * 1e3), lambda g, v: g))


def test_a_transistor_belongs_into_the_curve():
    with pytest.raises(UsageError, match=r"wires\.r_transistor_ohm = 100"):
        solve_nonlinear([[1.0]], [0.1], WIRES.evolve(r_transistor_ohm=100.0), CURVES[0])
