"""Telegraph noise: kernel against a readable path, one path for all times, and the split by rate."""

import math

import numba
import numpy as np
import pytest
from trap_times import states

from crossbar_sim.devices.effect_tables import telegraph_table
from crossbar_sim.kernels import reference
from crossbar_sim.kernels.telegraph import add_telegraph, telegraph_keys
from device_models.effects import TelegraphNoise
from device_models.errors import UsageError

P = 0.3
N_OUT, N = 6, 40


def _noise(tau_min_s=1.0, tau_max_s=1e4, **other):
    amplitude = {"kind": "absolute", "amplitude_uS": 0.5}
    fields = {"amplitude": amplitude, "occupation": P, "tau_min_s": tau_min_s, "tau_max_s": tau_max_s, **other}
    return TelegraphNoise(**fields)


@numba.njit(parallel=True)
def _add(keys, row, first_col, table, delta, g, variance):
    for o in numba.prange(g.shape[0]):
        add_telegraph(keys, row, first_col + o, g.shape[1], table, delta[o], g[o], variance[o])


@numba.njit
def _add_block(keys, row, col, n, table, delta, g, variance):
    add_telegraph(keys, row, col, n, table, delta, g, variance)


def _devices(noise, t_s, t_obs_s, n_out=N_OUT, n=N, row=0, first_col=0, dtype=np.float64):
    g, variance = np.full((n_out, n), 10.0, dtype), np.full((n_out, n), 0.25, dtype)
    delta = np.full((n_out, n), 0.5, dtype)
    keys = telegraph_keys(0, "layer", noise.traps_per_device)[0]
    _add(keys, row, first_col, telegraph_table(noise, t_s, t_obs_s), delta, g, variance)
    return g, variance


def _words(key, counter0, counter1):
    words = reference.threefry(key, np.array([counter0], np.uint32), np.array([counter1], np.uint32))
    return tuple(int(word[0]) for word in words)


def _path(key, cells):
    """All events of a trap in the first `cells` cells: sorted times in cells, and the state from each on."""
    events = [(0.0, _words(key, 0xFFFFFFFF, 0xFFFFFF00)[1] * 2.0**-32 < P)]
    for cell in range(cells):
        low, high, before_end, event = cell % 2**32, cell // 2**32 * 256, 0.0, 0
        while True:
            word, choice = _words(key, low, high + event)
            before_end += -math.log((word | 1) * 2.0**-32)
            if before_end >= 1:
                break
            events.append((cell + 1 - before_end, choice * 2.0**-32 < P))
            event += 1
    return sorted(events)


def _reference(noise, t_s, t_obs_s):
    g, variance = np.full((N_OUT, N), 10.0), np.full((N_OUT, N), 0.25)
    for col, row in np.ndindex(N_OUT, N):
        for key in telegraph_keys(0, "layer", noise.traps_per_device)[0]:
            own = _words(tuple(int(word) for word in key), row, col)
            presence, speed = (word * 2.0**-32 for word in own)
            tau_s = noise.tau_min_s * (noise.tau_max_s / noise.tau_min_s) ** speed
            if presence >= noise.p_trap:
                continue
            if tau_s < t_obs_s:
                variance[col, row] += 0.25 * P * (1 - P)
            else:
                before = [up for time, up in _path(own, math.ceil(t_s / tau_s)) if time <= t_s / tau_s]
                g[col, row] += 0.5 * (before[-1] - P)
    return g, variance


@pytest.mark.parametrize(
    ("other", "t_s", "t_obs_s"),
    [({}, 0.0, 0.0), ({}, 30.0, 0.0), ({}, 30.0, 20.0), ({}, 30.0, np.inf),
     ({"traps_per_device": 3, "p_trap": 0.4}, 12.5, 20.0)],
)  # fmt: skip
def test_kernel_equals_the_reference(other, t_s, t_obs_s):
    noise = _noise(**other)
    expected = _reference(noise, t_s, t_obs_s)
    found = _devices(noise, t_s, t_obs_s)
    np.testing.assert_allclose(found[0], expected[0], rtol=0, atol=1e-12)
    np.testing.assert_allclose(found[1], expected[1], rtol=0, atol=1e-12)
    single = _devices(noise, t_s, t_obs_s, dtype=np.float32)
    np.testing.assert_allclose(single[0], expected[0], rtol=1e-6)
    np.testing.assert_allclose(single[1], expected[1], rtol=1e-6)


def test_times_asked_in_any_order_see_one_path():
    noise, times = _noise(), [0.0, 3.0, 3.5, 100.0, 1e6]
    forward = [_devices(noise, t_s, 0.0)[0] for t_s in times]
    backward = [_devices(noise, t_s, 0.0)[0] for t_s in reversed(times)]
    for a, b in zip(forward, reversed(backward), strict=True):
        np.testing.assert_array_equal(a, b)
    assert (forward[1] != forward[0]).any()
    assert (forward[2] == forward[1]).mean() > 0.9  # half a second is short for most traps


def test_a_trap_switches_only_at_the_events_of_its_path():
    path = _path((12, 34), 60)
    start, up = np.array(path).T
    end = np.append(start[1:], 60.0)
    for share in (0.001, 0.3, 0.999):
        state = states(np.uint32(12), np.uint32(34), start + share * (end - start), np.uint64(P * 2**32))
        np.testing.assert_array_equal(state, up)


@pytest.mark.parametrize("t_obs_s", [0.0, 30.0, np.inf])
def test_a_device_has_its_traps_in_any_tile(t_obs_s):
    noise = _noise(traps_per_device=2)
    whole = _devices(noise, 50.0, t_obs_s)
    part = _devices(noise, 50.0, t_obs_s, n_out=2, n=9, row=21, first_col=3)
    for a, b in zip(part, whole, strict=True):
        np.testing.assert_array_equal(a, b[3:5, 21:30])


def test_a_block_of_several_outputs_holds_the_devices_of_each():
    noise = _noise(traps_per_device=2)
    keys, table = telegraph_keys(0, "layer", 2)[0], telegraph_table(noise, 50.0, 20.0)
    g, variance = np.full(N_OUT * N, 10.0), np.full(N_OUT * N, 0.25)
    _add_block(keys, 0, 0, N, table, np.full(N_OUT * N, 0.5), g, variance)
    expected = _devices(noise, 50.0, 20.0)
    np.testing.assert_array_equal(g.reshape(N_OUT, N), expected[0])
    np.testing.assert_array_equal(variance.reshape(N_OUT, N), expected[1])


def test_a_longer_window_moves_traps_from_the_state_to_the_reads_and_no_others():
    noise = _noise()
    g_all, none = _devices(noise, 50.0, 0.0)
    g_slow, some = _devices(noise, 50.0, 100.0)
    moved = some > 0.25
    assert (none == 0.25).all()
    assert 0.3 < moved.mean() < 0.7
    np.testing.assert_array_equal(g_slow[moved], 10.0)
    np.testing.assert_array_equal(g_slow[~moved], g_all[~moved])


def test_a_cell_of_which_nothing_is_over_is_the_one_before():
    up_below = np.uint64(P * 2**32)
    at, before = (states(np.uint32(3), np.uint32(4), np.arange(1, 200) - lag, up_below) for lag in (0.0, 2.0**-33))
    np.testing.assert_array_equal(at, before)


def test_late_times_use_both_counters():
    up_below = np.uint64(2**31)
    early, late = (
        states(np.uint32(1), np.uint32(2), first + np.arange(64) + 0.5, up_below) for first in (0.0, 2.0**32)
    )
    assert (early != late).any()


@pytest.mark.parametrize("t_s", [-1.0, np.nan, np.inf, 1e16])
def test_times_that_a_trap_cannot_be_followed_to_are_refused(t_s):
    with pytest.raises(UsageError, match=r"t_s = .*: must be at least 0 and below 2\^53 correlation times"):
        telegraph_table(_noise(), t_s, 0.0)


@pytest.mark.parametrize(("tau_max_s", "t_s"), [(1e6, 1e8), (1e-290, 1e8)])
def test_traps_too_fast_for_the_numbers_of_a_float_are_refused(tau_max_s, t_s):
    noise = _noise(tau_min_s=1e-301, tau_max_s=tau_max_s)
    with pytest.raises(UsageError, match=r"tau_min_s = 1e-301: must be above 1e-300 of tau_max_s = .* and of t_s"):
        telegraph_table(noise, t_s, 1e-3)
