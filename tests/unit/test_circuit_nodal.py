"""The nodal solver against a dense solution of all 2 N M node equations, and its properties."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossbar_sim.circuit.lines import Lines
from crossbar_sim.circuit.nodal import solve_array, solve_lines
from crossbar_sim.circuit.solution import RESIDUAL_LIMIT
from crossbar_sim.spec.wires import WiresSpec
from device_models.errors import StateError, UsageError


def dense(g_S, v, wl, bl, wl_far=None, is_open=None):
    """All node voltages by Gaussian elimination; wl (M,), bl (N,), ends in ohm (None: no second end). Slow, r > 0."""
    n, m = g_S.shape
    a, rhs = np.zeros((2 * n * m, 2 * n * m)), np.zeros(2 * n * m)

    def connect(p, q, siemens):
        a[p, p] += siemens
        a[q, q] += siemens
        a[p, q] -= siemens
        a[q, p] -= siemens

    def tie(p, siemens, volt):
        a[p, p] += siemens
        rhs[p] += siemens * volt

    word = np.arange(n * m).reshape(n, m)
    bit = word + n * m
    for i in range(n):
        for j in range(m):
            connect(word[i, j], bit[i, j], g_S[i, j])
            if j > 0:
                connect(word[i, j - 1], word[i, j], 1 / wl[j])
            if i > 0:
                connect(bit[i - 1, j], bit[i, j], 1 / bl[i - 1])
    for i in range(n):
        if is_open is None or not is_open[i]:
            tie(word[i, 0], 1 / wl[0], v[i])
            if wl_far is not None:
                tie(word[i, m - 1], 1 / wl_far, v[i])
    for j in range(m):
        tie(bit[n - 1, j], 1 / bl[n - 1], 0.0)
    x = np.linalg.solve(a, rhs)
    u, b = x[: n * m].reshape(n, m), x[n * m :].reshape(n, m)
    return (g_S * (u - b)).sum(axis=0), u, b


def random_array(n, m, seed=0, share_off=0.2):
    rng = np.random.default_rng(seed)
    g = 25 * rng.uniform(size=(n, m)) ** 2
    g[rng.uniform(size=(n, m)) < share_off] = 0
    return g, rng.normal(size=n), rng


SHAPES = [(1, 1), (1, 9), (9, 1), (8, 8), (13, 6), (6, 13), (16, 17)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("two_sided", [False, True])
@pytest.mark.parametrize("r_ohm", [1.0, 1e3, 1e5])
def test_unequal_wires_and_both_ends_equal_the_dense_solution(shape, two_sided, r_ohm):
    g, v, rng = random_array(*shape)
    wl, bl = r_ohm * rng.uniform(0.2, 2, shape[1]), r_ohm * rng.uniform(0.2, 2, shape[0])
    wl_far = 0.7 * r_ohm if two_sided else None
    lines = Lines(wl, bl, 1 / wl_far if wl_far else 0.0)
    found = solve_lines(g * 1e-6, v[None], lines, voltages=True)
    currents, u, b = dense(g * 1e-6, v, wl, bl, wl_far)
    np.testing.assert_allclose(found.currents_A[0], currents, rtol=0, atol=1e-9 * abs(currents).max())
    np.testing.assert_allclose(found.u_V[0], u, rtol=0, atol=1e-9)
    np.testing.assert_allclose(found.b_V[0], b, rtol=0, atol=1e-9)
    assert found.residual < RESIDUAL_LIMIT


@pytest.mark.parametrize("shape", SHAPES)
def test_the_fields_of_the_spec_reach_their_segments(shape):
    g, v, _ = random_array(*shape)
    wires = WiresSpec(
        r_wl_ohm=30.0, r_bl_ohm=50.0, r_driver_ohm=200.0, r_sense_ohm=70.0, r_transistor_ohm=5e3, two_sided=True
    )
    wl, bl = np.full(shape[1], 30.0), np.full(shape[0], 50.0)
    wl[0] += 200
    bl[-1] += 70
    expected, _, _ = dense(1 / (1 / np.where(g > 0, g * 1e-6, 1e-30) + 5e3), v, wl, bl, wl_far=230.0)
    np.testing.assert_allclose(solve_array(g, v, wires).currents_A[0], expected, rtol=1e-9, atol=1e-20)


@pytest.mark.parametrize("shape", [(1, 9), (9, 1), (12, 7)])
@pytest.mark.parametrize(("word", "bit"), [(True, False), (False, True), (False, False)])
@pytest.mark.parametrize("terminals", [None, 100.0])
def test_ideal_lines_are_the_limit_of_small_resistances(shape, word, bit, terminals):
    g, v, _ = random_array(*shape)
    fields = {"r_driver_ohm": terminals, "r_sense_ohm": terminals}
    if not (word or bit or terminals):
        fields["r_transistor_ohm"] = 1e-9
    wires = WiresSpec(r_wl_ohm=40.0 if word else None, r_bl_ohm=60.0 if bit else None, **fields)
    ends = terminals or 0.0
    tiny = 1e-4
    wl, bl = np.full(shape[1], 40.0 if word else tiny), np.full(shape[0], 60.0 if bit else tiny)
    wl[0] += ends
    bl[-1] += ends
    expected, _, _ = dense(g * 1e-6, v, wl, bl)
    np.testing.assert_allclose(solve_array(g, v, wires).currents_A[0], expected, atol=2e-8 * abs(expected).max())


@pytest.mark.parametrize("two_sided", [False, True])
def test_floating_rows_take_the_voltage_that_makes_their_current_zero(two_sided):
    g, v, _ = random_array(11, 9)
    v[[0, 3, 4, 10]] = 0
    wires = WiresSpec(r_wl_ohm=400.0, r_bl_ohm=300.0, idle_rows="floating", model="exact", two_sided=two_sided)
    found = solve_array(g, np.stack([v, 2 * v, np.ones(11)]), wires, voltages=True)
    wl, bl = np.full(9, 400.0), np.full(11, 300.0)
    for k, (drive, idle) in enumerate([(v, v == 0), (2 * v, v == 0), (np.ones(11), np.zeros(11, bool))]):
        expected, u, _ = dense(g * 1e-6, drive, wl, bl, 400.0 if two_sided else None, is_open=idle)
        np.testing.assert_allclose(found.currents_A[k], expected, atol=1e-9 * abs(expected).max())
        np.testing.assert_allclose(found.u_V[k], u, atol=1e-9)
    clamped = solve_array(g, v, WiresSpec(r_wl_ohm=400.0, r_bl_ohm=300.0, two_sided=two_sided)).currents_A
    assert abs(found.currents_A[0] - clamped[0]).max() > 1e-4 * abs(clamped).max()


def test_a_floating_row_without_devices_floats_at_no_cost():
    g, v, _ = random_array(6, 5)
    g[2], v[2] = 0, 0
    wires = WiresSpec(idle_rows="floating", model="exact")
    np.testing.assert_allclose(
        solve_array(g, v, wires).currents_A, solve_array(g, v, WiresSpec()).currents_A, rtol=1e-9
    )


def test_interleaved_pairs_meet_in_one_bit_line_node():
    g, v, _ = random_array(10, 4)
    found = solve_array(g, v, WiresSpec(r_wl_ohm=300.0, r_bl_ohm=500.0, interleaved=True)).currents_A[0]
    bl = np.where(np.arange(10) % 2 == 0, 1e-5, 500.0)  # no resistance between + and - of a weight
    expected, _, _ = dense(g * 1e-6, v, np.full(4, 300.0), bl)
    np.testing.assert_allclose(found, expected, atol=1e-8 * abs(expected).max())


@pytest.mark.parametrize("v", [np.zeros(5), np.eye(5)[2], np.ones(5)])
@pytest.mark.parametrize("r_ohm", [0.35, 1e4])
def test_arrays_without_devices_or_drive_carry_no_current(v, r_ohm):
    wires = WiresSpec(r_wl_ohm=r_ohm, r_bl_ohm=r_ohm)
    off = solve_array(np.zeros((5, 4)), v, wires, voltages=True)
    assert (off.currents_A == 0).all()
    assert off.residual == 0
    np.testing.assert_allclose(off.u_V[0], np.repeat(v[:, None], 4, axis=1))
    g, _, _ = random_array(5, 4)
    assert (solve_array(g, 0 * v, wires).currents_A == 0).all()


def test_one_hot_drive_equals_the_dense_solution():
    g, _, _ = random_array(12, 10)
    found = solve_array(g, np.eye(12), WiresSpec(r_wl_ohm=500.0, r_bl_ohm=800.0)).currents_A
    for i in range(12):
        expected, _, _ = dense(g * 1e-6, np.eye(12)[i], np.full(10, 500.0), np.full(12, 800.0))
        np.testing.assert_allclose(found[i], expected, atol=1e-9 * abs(expected).max())


@settings(max_examples=30, deadline=None)
@given(n=st.integers(1, 20), m=st.integers(1, 20), seed=st.integers(0, 99), log_r=st.floats(-2, 5))
def test_superposition(n, m, seed, log_r):
    g, v, rng = random_array(n, m, seed)
    w, (a, b) = rng.normal(size=n), rng.normal(size=2)
    wires = WiresSpec(r_wl_ohm=10**log_r, r_bl_ohm=2 * 10**log_r, r_sense_ohm=3.0)
    first, second, both = solve_array(g, np.stack([v, w, a * v + b * w]), wires).currents_A
    scale = np.abs(g).max() * 1e-6 * max(abs(v).max(), abs(w).max()) * (abs(a) + abs(b)) * n
    np.testing.assert_allclose(both, a * first + b * second, rtol=0, atol=1e-10 * scale)


def test_time_sliced_pulses_sum_to_the_linear_map():
    g, _, rng = random_array(24, 10)
    wires = WiresSpec(r_wl_ohm=200.0, r_bl_ohm=200.0)
    ticks = rng.integers(0, 128, 24)
    sign = rng.choice([-1.0, 1.0], 24)
    slices = sign * (np.arange(127)[:, None] < ticks)  # rows that have ended their pulse stay clamped at 0 V
    sliced = solve_array(g, slices, wires).currents_A.sum(axis=0)
    np.testing.assert_allclose(sliced, solve_array(g, sign * ticks, wires).currents_A[0], rtol=1e-9)


def test_more_resistance_never_raises_the_current_of_a_uniformly_driven_array():
    g, _, _ = random_array(20, 20)
    for field in ("r_wl_ohm", "r_bl_ohm", "r_driver_ohm", "r_sense_ohm", "r_transistor_ohm"):
        currents = [
            solve_array(g, np.ones(20), WiresSpec(r_wl_ohm=1.0, r_bl_ohm=1.0).evolve(**{field: r})).currents_A.sum()
            for r in (2.0, 20.0, 200.0, 2000.0)
        ]
        assert (np.diff(currents) < 0).all(), field


@pytest.mark.parametrize("r_ohm", [0.35, 400.0])
def test_large_arrays_reach_the_residual(r_ohm):
    g, v, _ = random_array(512, 512)  # 400 ohm x 25 uS = 1e-2
    found = solve_array(g, v, WiresSpec(r_wl_ohm=r_ohm, r_bl_ohm=r_ohm))
    assert found.residual < 1e-10
    assert found.iterations[0] < 100


def test_drives_do_not_depend_on_their_batch():
    g, _, rng = random_array(33, 21)
    v = rng.normal(size=(7, 33))
    wires = WiresSpec(r_wl_ohm=100.0, r_bl_ohm=100.0)
    together = solve_array(g, v, wires).currents_A
    assert np.array_equal(together, np.concatenate([solve_array(g, row, wires).currents_A for row in v]))


def test_an_unconverged_solution_is_an_error(monkeypatch):
    monkeypatch.setattr("crossbar_sim.circuit.nodal._MAX_ITERATIONS", 2)
    g, v, _ = random_array(30, 30)
    with pytest.raises(StateError, match=r"wires: drive 0 of the 30 x 30 array .* residual \d.* after 2 iterations"):
        solve_array(g, v, WiresSpec(r_wl_ohm=1e4, r_bl_ohm=1e4))


@pytest.mark.parametrize(
    ("g", "v", "message"),
    [
        (np.zeros((0, 3)), np.zeros(0), r"g_uS: shape \(0, 3\)"),
        (np.ones(3), np.ones(3), r"g_uS: shape \(3,\)"),
        ([[1.0, np.nan]], [1.0], r"g_uS\[0, 1\] = nan: conductances must be finite"),
        ([[1.0], [-2.0]], [1.0, 1.0], r"g_uS\[1, 0\] = -2.0: conductances must be finite and at least 0 uS"),
        ([[1.0]], [1.0, 2.0], r"v_V: shape \(2,\); must be \(1,\) or \(vectors, 1\)"),
        ([[1.0]], [[np.inf]], r"v_V\[0, 0\] = inf: voltages must be finite"),
        ([[1.0]], np.zeros((0, 1)), r"v_V: shape \(0, 1\)"),
    ],
)
def test_what_cannot_be_solved_is_refused(g, v, message):
    with pytest.raises(UsageError, match=message):
        solve_array(g, v, WiresSpec())


def test_an_odd_number_of_interleaved_rows_is_refused():
    with pytest.raises(UsageError, match="3 rows; an interleaved array has an even number"):
        solve_array(np.ones((3, 2)), np.ones(3), WiresSpec(interleaved=True))
