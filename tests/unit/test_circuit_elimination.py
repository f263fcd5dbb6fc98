"""Elimination against dense solutions of all node equations and conjugate gradients; its room and its limit."""

from itertools import pairwise

import numpy as np
import pytest
from test_circuit_nodal import dense, random_array

from crossbar_sim.circuit.elimination import _plan, linear_map, n_bytes
from crossbar_sim.circuit.lines import Lines
from crossbar_sim.circuit.nodal import solve_lines
from crossbar_sim.kernels.elimination import eliminate
from device_models.errors import StateError

SHAPES = [(1, 1), (1, 40), (40, 1), (16, 16), (17, 16), (16, 17), (20, 33), (33, 20)]


def lines_of(shape, r_ohm, two_sided, rng):
    """Unequal segments."""
    wl, bl = r_ohm * rng.uniform(0.2, 2, shape[1]), r_ohm * rng.uniform(0.2, 2, shape[0])
    return Lines(wl, bl, 1 / (0.7 * r_ohm) if two_sided else 0.0)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("two_sided", [False, True])
@pytest.mark.parametrize("r_ohm", [1e-6, 1.0, 1e3, 1e5])
def test_the_map_equals_the_dense_solution_of_every_drive(shape, two_sided, r_ohm):
    g, _, rng = random_array(*shape)
    lines = lines_of(shape, r_ohm, two_sided, rng)
    far = 0.7 * r_ohm if two_sided else None
    expected = np.array([dense(g * 1e-6, drive, lines.wl_ohm, lines.bl_ohm, far)[0] for drive in np.eye(shape[0])])
    np.testing.assert_allclose(linear_map(g * 1e-6, lines), expected, rtol=0, atol=1e-11 * expected.max())


@pytest.mark.parametrize("shape", [(130, 90), (90, 130), (257, 70)])
@pytest.mark.parametrize("two_sided", [False, True])
@pytest.mark.parametrize("r_ohm", [0.35, 30.0])
def test_large_arrays_equal_conjugate_gradients(shape, two_sided, r_ohm):
    g, _, rng = random_array(*shape)
    lines = lines_of(shape, r_ohm, two_sided, rng)
    expected = solve_lines(g * 1e-6, np.eye(shape[0]), lines).currents_A
    np.testing.assert_allclose(linear_map(g * 1e-6, lines), expected, rtol=0, atol=1e-11 * expected.max())


@pytest.mark.parametrize("shape", [(5, 7), (40, 70)])
@pytest.mark.parametrize("ideal", ["word", "bit", "both"])
def test_lines_without_resistance_are_no_special_case(shape, ideal):
    g, _, rng = random_array(*shape)
    wl, bl = rng.uniform(1, 9, shape[1]), rng.uniform(1, 9, shape[0])
    lines = Lines(wl * (ideal == "bit"), bl * (ideal == "word"))
    expected = g * 1e-6
    if ideal != "both":
        expected = solve_lines(g * 1e-6, np.eye(shape[0]), lines).currents_A
    np.testing.assert_allclose(linear_map(g * 1e-6, lines), expected, rtol=0, atol=1e-12 * expected.max())


def test_devices_that_are_off_carry_nothing():
    lines = Lines(np.ones(30), np.ones(50), 0.1)
    assert not linear_map(np.zeros((50, 30)), lines).any()
    one = np.zeros((50, 30))
    one[49, 0] = 1e-5
    found = linear_map(one, Lines(np.ones(30), np.ones(50)))
    assert found[49, 0] == pytest.approx(1e-5 / (1 + 2e-5), rel=1e-13)
    assert abs(found[one == 0]).max() < 1e-20


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (33, 20), (20, 100), (150, 150)])
@pytest.mark.parametrize("two_sided", [False, True])
@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_nothing_is_written_behind_the_room_and_threads_change_no_bit(shape, two_sided, threads):
    g, _, rng = random_array(*shape)
    lines, plan = lines_of(shape, 1.0, two_sided, rng), _plan(*shape, two_sided, threads)
    room, work = np.full(plan.room + 99, np.nan), np.full((threads + 1, plan.work), np.nan)
    array = g * 1e-6, *lines, plan.steps
    eliminate(0, 0, len(plan.tasks), *array, plan.tasks, room, work)
    eliminate(threads - 1, 0, 1, *array, plan.rest, room, work)
    assert np.isnan(room[plan.room :]).all()
    assert np.isnan(work[threads]).all()
    assert n_bytes(*shape, two_sided, threads) == 8 * (plan.room + threads * plan.work)
    one, several = (linear_map(g * 1e-6, lines, number) for number in (1, threads))
    np.testing.assert_array_equal(one, several)


@pytest.mark.parametrize("threads", [2, 4])
def test_tasks_of_a_plan_share_no_room(threads):
    plan = _plan(200, 300, False, threads)
    ranges = []
    for first, last in plan.tasks:
        own = plan.steps.places[first : last - 1, 0]
        ranges.append((own.min(), (own + plan.steps.ports[first : last - 1, 4] ** 2).max()))
    assert len(ranges) == threads
    assert all(before[1] <= after[0] for before, after in pairwise(ranges))


def test_voltages_that_lines_leave_nothing_of_are_refused():
    g, _, rng = random_array(20, 30)
    with pytest.raises(StateError, match=r"lines of the 20 x 30 array .* up to 25 uS"):
        linear_map(g * 1e-6, lines_of((20, 30), 1e13, False, rng))
