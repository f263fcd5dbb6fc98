"""Random telegraph noise with random access in time: the state of a trap at t is a function of its key and t.

A two-state Markov process forgets its state at the events of a Poisson process of rate 1 / tau and draws it anew with
the stationary probability at each of them. Time is cut into cells of width tau. The events of cell n, their places
and the states drawn there, come from counter n of the trap's key, so nothing is stored, and any two times see one
path. The state at t is that of the last event before t; a cell has none with probability 1/e, so the search looks
back over less than two cells on average.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from crossbar_sim.kernels.chance import below
from crossbar_sim.kernels.random import random_key, threefry, u32
from device_models.effects import TelegraphNoise
from device_models.errors import UsageError

EVENTS_BELOW = np.array([below(sum(math.exp(-1) / math.factorial(i) for i in range(n + 1))) for n in range(14)])
"""A word below entry n means at most n events in a cell (Poisson, mean 1); the last entry is 2^32."""

_WHOLE_CELL = np.int64(2**32)
_OF_TRAP = u32(0xFFFFFFFF)
"""Second counter of the draws that belong to the trap and not to a cell; cells stay below 2^53."""


class TelegraphTable(NamedTuple):
    """TelegraphNoise at one time, in the form that kernels take."""

    occupation: float
    up_below: np.uint64
    trap_below: np.uint64
    fast_below: np.uint64
    tau_min_s: float
    log_tau_ratio: float
    t_s: float


def telegraph_table(noise: TelegraphNoise, t_s: float, t_obs_s: float) -> TelegraphTable:
    """Traps of a device t_s seconds after programming; those faster than t_obs_s vary from read to read."""
    shortest_s = max(noise.tau_min_s, t_obs_s)
    if not 0 <= t_s < 2.0**53 * shortest_s:
        raise UsageError(
            f"t_s = {t_s:g}: must be at least 0 and below 2^53 correlation times of the fastest trap that is followed "
            f"in time, {2.0**53 * shortest_s:.3g} s; a longer tau_min_s or observation window allows more"
        )
    return TelegraphTable(
        occupation=noise.occupation,
        up_below=below(noise.occupation),
        trap_below=below(noise.p_trap),
        fast_below=below(noise.fast_share(t_obs_s)),
        tau_min_s=noise.tau_min_s,
        log_tau_ratio=math.log(noise.tau_max_s / noise.tau_min_s),
        t_s=t_s,
    )


def telegraph_keys(
    seed: int, layer: str, traps_per_device: int, devices: Iterable[int] = range(2)
) -> NDArray[np.uint32]:
    """(devices, traps_per_device, 2): keys of the traps of the given devices of a layer's weights."""
    return np.array(
        [[random_key(seed, layer, "telegraph", d, trap) for trap in range(traps_per_device)] for d in devices],
        dtype=np.uint32,
    )


@njit
def _draw(key0, key1, counter0, counter1, first, second):
    """Words of many keys and counters; no array twice, because loops on arrays that overlap are not vectorised."""
    for i in range(first.shape[0]):
        first[i], second[i] = threefry(key0[i], key1[i], counter0[i], counter1[i])


@njit
def trap_states(key0, key1, cells, up_below, state):
    """State (1 or 0) of traps `cells` correlation times after programming ended.

    All traps take turns: in each round those whose state is not known yet look at one cell, the last one first, and of
    these cells those that have a first event look at it, then those that have a second one, and so on.

    Arguments  key0, key1 (n,) of the traps, overwritten; cells (n,); state (n,) uint8 out
    """
    n = cells.shape[0]
    longs, words = np.empty((3, n), np.int64), np.empty((11, n), u32)
    cell, reach, found = longs[0], longs[1], longs[2]
    counter0, counter1, number, choice, place = words[0], words[1], words[2], words[3], words[4]
    trap, turn, own0, own1, own2, own3 = words[5], words[6], words[7], words[8], words[9], words[10]
    for i in range(n):
        cell[i] = np.int64(cells[i])
        reach[i] = np.int64((cells[i] - cell[i]) * 2.0**32)
        trap[i] = u32(i)
    searching = n
    while searching > 0:
        for i in range(searching):  # before the first cell is the draw at the beginning
            counter0[i] = u32(cell[i] & 0xFFFFFFFF) if cell[i] >= 0 else u32(0)
            counter1[i] = u32((cell[i] >> 32) << 8) if cell[i] >= 0 else _OF_TRAP
        _draw(key0, key1, counter0, counter1, number[:searching], choice)
        for i in range(searching):
            found[i] = np.int64(-1) if cell[i] >= 0 else np.int64(choice[i] < up_below)
            number[i] = number[i] if cell[i] >= 0 else u32(0)
            turn[i] = u32(i)
        taking = searching
        for event in range(EVENTS_BELOW.shape[0]):
            limit, more = EVENTS_BELOW[event], u32(0)
            for k in range(taking):
                i = turn[k]
                turn[more] = i
                more = u32(more + u32(number[i] >= limit))
            taking = np.int64(more)
            if taking == 0:
                break
            for k in range(taking):
                i = turn[k]
                own0[k], own1[k], own2[k] = key0[i], key1[i], counter0[i]
                own3[k] = u32(counter1[i] + u32(event + 1))
            _draw(own0, own1, own2, own3, place[:taking], choice)
            for k in range(taking):  # the last one counts; of those at one place the first
                i, at = turn[k], np.int64(place[k])
                order = (at << 5) | ((15 - event) << 1) | np.int64(choice[k] < up_below)
                found[i] = max(found[i], order if at < reach[i] else np.int64(-1))
        kept = u32(0)
        for i in range(searching):  # those without an event go on with the cell before
            state[trap[i]] = found[i] & 1
            key0[kept], key1[kept], cell[kept], trap[kept] = key0[i], key1[i], cell[i] - 1, trap[i]
            reach[kept] = _WHOLE_CELL
            kept = u32(kept + u32(found[i] < 0))
        searching = np.int64(kept)


@njit
def add_telegraph(keys, row, col, n, table, delta, g, variance):
    """Add the traps of a block of devices: slow ones to the conductance [uS], fast ones to its variance [uS^2].

    Equation   g += delta (s(t) - p) for each slow trap, variance += delta^2 p (1 - p) for each fast one
    Arguments  keys (traps_per_device, 2) uint32, one row of `telegraph_keys`; row: input of the first device;
               col: its output; n: devices of each output; table: TelegraphTable; delta amplitude of the traps of each
               device [uS]; g, variance changed in place
    """
    size = g.shape[0]
    dtype = g.dtype.type
    p = dtype(table.occupation)
    words, cells, state = np.empty((7, size), u32), np.empty(size), np.empty(size, np.uint8)
    key0, key1, presence, speed, counter0, counter1, slow = (
        words[0], words[1], words[2], words[3], words[4], words[5], words[6],
    )  # fmt: skip
    for trap in range(keys.shape[0]):
        presence[:], speed[:] = keys[trap, 0], keys[trap, 1]
        for start in range(0, size, n):
            for j in range(n):
                counter0[start + j], counter1[start + j] = u32(row + j), u32(col + start // n)
        _draw(presence, speed, counter0, counter1, key0, key1)
        counter0[:], counter1[:] = u32(1), _OF_TRAP
        _draw(key0, key1, counter0, counter1, presence, speed)
        for j in range(size):
            is_fast = (presence[j] < table.trap_below) & (speed[j] < table.fast_below)
            variance[j] += delta[j] * delta[j] * p * (dtype(1) - p) if is_fast else dtype(0)
        many = u32(0)
        for j in range(size):
            slow[many] = u32(j)
            many = u32(many + u32((presence[j] < table.trap_below) & (speed[j] >= table.fast_below)))
        for k in range(many):
            j = slow[k]
            tau_s = table.tau_min_s * math.exp(table.log_tau_ratio * (speed[j] * 2.0**-32))
            cells[k] = table.t_s / tau_s
            key0[k], key1[k] = key0[j], key1[j]
        trap_states(key0, key1, cells[:many], table.up_below, state)
        for k in range(many):
            g[slow[k]] += delta[slow[k]] * (dtype(state[k]) - p)
