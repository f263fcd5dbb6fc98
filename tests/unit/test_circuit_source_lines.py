"""Arrays with separate source lines: against a dense solution of their node equations, and what is refused."""

import numpy as np
import pytest

from crossbar_sim.circuit.nodal import solve_array
from crossbar_sim.circuit.nonlinear import DeviceLaw, solve_nonlinear
from crossbar_sim.spec.wires import WiresSpec
from device_models.effects import LinearIV, MiloIV, SinhIV
from device_models.errors import StateError, UsageError

FIELDS = {"r_wl_ohm": None, "topology": "separate_source", "model": "exact"}


def dense(g_uS, volt, r_source, r_bl, r_driver, r_sense):
    """One column g (N,): node voltages of source and bit line by Gaussian elimination."""
    n = len(g_uS)
    a, rhs = np.zeros((2 * n, 2 * n)), np.zeros(2 * n)

    def connect(p, q, siemens):
        a[[p, q], [p, q]] += siemens
        a[[p, q], [q, p]] -= siemens

    for i in range(n):
        connect(i, n + i, g_uS[i] * 1e-6)
        if i > 0:
            connect(i - 1, i, 1 / r_source)
            connect(n + i - 1, n + i, 1 / r_bl)
    a[0, 0] += 1 / (r_source + r_driver)
    rhs[0] += volt / (r_source + r_driver)
    a[-1, -1] += 1 / (r_bl + r_sense)
    x = np.linalg.solve(a, rhs)
    return x[-1] / (r_bl + r_sense), x[:n], x[n:]


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (7, 1), (20, 9)])
@pytest.mark.parametrize("r_ohm", [1.0, 1e3, 1e5])
def test_columns_equal_the_dense_solution(shape, r_ohm):
    rng = np.random.default_rng(0)
    g = 25 * rng.uniform(size=shape) ** 2
    g[rng.uniform(size=shape) < 0.2] = 0
    v = 0.2 * (rng.uniform(size=(4, shape[0])) < 0.6)
    v[0] = -0.3
    r = {"r_source_ohm": 2 * r_ohm, "r_bl_ohm": 3 * r_ohm, "r_driver_ohm": 5 * r_ohm, "r_sense_ohm": r_ohm}
    found = solve_array(g, v, WiresSpec(**FIELDS, **r), voltages=True)
    for t, drive in enumerate(v):
        volt = drive[np.argmax(abs(drive))]
        for j in range(shape[1]):
            expected, u, b = dense(g[:, j] * (drive != 0), volt, *(value for value in r.values()))
            assert found.currents_A[t, j] == pytest.approx(expected, rel=1e-9, abs=1e-20)
            np.testing.assert_allclose(found.u_V[t, :, j], u, rtol=0, atol=1e-9)
            np.testing.assert_allclose(found.b_V[t, :, j], b, rtol=0, atol=1e-9)


def test_cells_without_input_are_disconnected():
    g = np.array([[10e3], [20e3], [30e3]])
    wires = WiresSpec(**FIELDS, r_source_ohm=3.0, r_bl_ohm=2.0, r_driver_ohm=6.0, r_sense_ohm=7.0)
    alone = solve_array(g, [0.0, 0.2, 0.0], wires).currents_A[0, 0]
    assert alone == pytest.approx(0.2 / (6 + 2 * 3 + 50 + 2 * 2 + 7), rel=1e-12)


@pytest.mark.parametrize("field", ["r_source_ohm", "r_bl_ohm", "r_driver_ohm", "r_sense_ohm"])
def test_ideal_lines_are_the_limit_of_small_resistances(field):
    rng = np.random.default_rng(0)
    g, v = 25 * rng.uniform(size=(9, 4)), 0.2 * (np.arange(9) % 2)
    wires = WiresSpec(**FIELDS, r_source_ohm=300.0, r_bl_ohm=200.0, r_driver_ohm=40.0, r_sense_ohm=70.0)
    ideal, tiny = (solve_array(g, v, wires.evolve(**{field: value})).currents_A for value in (None, 1e-6))
    np.testing.assert_allclose(ideal, tiny, rtol=1e-8)


@pytest.mark.parametrize("law", [LinearIV(), SinhIV(v0_V=0.25), MiloIV()], ids=lambda law: law.kind)
def test_non_linear_cells_obey_their_law(law):
    g = np.random.default_rng(0).uniform(50, 110, (12, 5))
    v = 0.4 * (np.arange(12) % 3 > 0)
    wires = WiresSpec(**FIELDS, r_source_ohm=100.0, r_bl_ohm=150.0)
    found = solve_nonlinear(g, v, wires, law, voltages=True)
    current = 1e-6 * law.current_uA(g, found.u_V[0] - found.b_V[0]) * (v != 0)[:, None]
    np.testing.assert_allclose(found.currents_A[0], current.sum(axis=0), rtol=1e-9)
    in_bit = np.cumsum(current, axis=0)
    np.testing.assert_allclose(found.b_V[0][:-1] - found.b_V[0][1:], 150 * in_bit[:-1], atol=1e-9)
    if isinstance(law, LinearIV):
        np.testing.assert_allclose(found.currents_A, solve_array(g, v, wires).currents_A, rtol=1e-9)


def test_all_cells_off_carry_no_current():
    wires = WiresSpec(**FIELDS, r_source_ohm=100.0)
    assert (solve_array(np.ones((3, 2)), np.zeros(3), wires).currents_A == 0).all()
    assert (solve_array(np.zeros((3, 2)), np.ones(3), wires).currents_A == 0).all()


def test_source_lines_have_one_voltage():
    wires = WiresSpec(**FIELDS, r_source_ohm=3.0)
    with pytest.raises(UsageError, match=r"v_V: 0.1 and 0.2 V in drive 1; .* one voltage of the source lines"):
        solve_array(np.ones((3, 1)), [[0.0, 0.1, 0.1], [0.1, 0.0, 0.2]], wires)
    with pytest.raises(UsageError, match="one voltage of the source lines"):
        solve_nonlinear(np.ones((3, 1)), [0.1, 0.0, 0.2], wires, LinearIV())


def test_a_curve_that_does_not_settle_is_an_error():
    law = DeviceLaw(lambda g, v: g * np.tanh(v / 0.01), lambda g, v: g)
    with pytest.raises(StateError, match="after 50 Newton steps"):
        solve_nonlinear([[100.0]], [0.5], WiresSpec(**FIELDS, r_source_ohm=1e4), law)
