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
from crossbar_sim.kernels.compiling import inner
from crossbar_sim.kernels.random import fma, random_key, threefry, u32
from device_models.effects import TelegraphNoise
from device_models.errors import UsageError

EVENTS_BELOW = np.array([below(sum(math.exp(-1) / math.factorial(i) for i in range(n + 1))) for n in range(14)])
"""A word below entry n means at most n events in a cell (Poisson, mean 1); the last entry is 2^32."""

_LONGEST = 1e300
"""Times relative to the fastest trap: within it neither they nor their inverse overflow."""
_EXP2 = (
    0.6931471805599453, 0.24022650695910097, 0.0555041086648216, 0.009618129107606888, 0.0013333558146416936,
    0.0001540353044173605, 1.525273382983612e-05, 1.321544258792169e-06, 1.0178062445845774e-07,
    7.072585949269223e-09, 4.4549605981865186e-10,
)  # fmt: skip
"""(2^x - 1) / x on [-1/2, 1/2], in powers of x: 2^x to 1e-17 in relative error."""
_ONE_EVENT = u32(EVENTS_BELOW[0])
_ALL = u32(0xFFFFFFFF)
_OF_TRAP = u32(0xFFFFFFFF)
"""Second counter of the draws that belong to the trap and not to a cell; cells stay below 2^53."""


class TelegraphTable(NamedTuple):
    """TelegraphNoise at one time, in the form that kernels take."""

    occupation: float
    up_below: np.uint64
    trap_below: np.uint64
    fast_below: np.uint64
    tau_min_s: float
    log2_tau_ratio: float
    t_s: float


def telegraph_table(noise: TelegraphNoise, t_s: float, t_obs_s: float) -> TelegraphTable:
    """Traps of a device t_s seconds after programming; those faster than t_obs_s vary from read to read."""
    shortest_s = max(noise.tau_min_s, t_obs_s)
    if not 0 <= t_s < 2.0**53 * shortest_s:
        raise UsageError(
            f"t_s = {t_s:g}: must be at least 0 and below 2^53 correlation times of the fastest trap that is followed "
            f"in time, {2.0**53 * shortest_s:.3g} s; a longer tau_min_s or observation window allows more"
        )
    if max(noise.tau_max_s, t_s) > _LONGEST * noise.tau_min_s:
        raise UsageError(
            f"tau_min_s = {noise.tau_min_s:g}: must be above 1e-300 of tau_max_s = {noise.tau_max_s:g} and of t_s = "
            f"{t_s:g}"
        )
    return TelegraphTable(
        occupation=noise.occupation,
        up_below=below(noise.occupation),
        trap_below=below(noise.p_trap),
        fast_below=below(noise.fast_share(t_obs_s)),
        tau_min_s=noise.tau_min_s,
        log2_tau_ratio=math.log2(noise.tau_max_s / noise.tau_min_s),
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


@inner
def _draw_positions(key0, key1, row, col, first, second):
    """Words of one key and the devices of output `col` from input `row` on."""
    for j in range(first.shape[0]):
        first[j], second[j] = threefry(key0, key1, u32(row + u32(j)), col)


@inner
def _draw(key0, key1, counter0, counter1, first, second):
    """Words of many keys and counters; no array twice, because loops on arrays that overlap are not vectorised."""
    for i in range(first.shape[0]):
        first[i], second[i] = threefry(key0[i], key1[i], counter0[i], counter1[i])


@inner
def _take(rows, which, out):
    """Columns `which` of rows, one row after the other: all at once need more registers than there are."""
    for row in range(out.shape[0]):
        source, target = rows[row], out[row]
        for k in range(which.shape[0]):
            target[k] = source[which[k]]


@njit(inline="always")
def cell_at(cells):
    """The cell at a time in correlation times, and the last place of it that is over; of none over, the cell before."""
    cell = np.int64(cells)
    over = np.int64((cells - cell) * 2.0**32)
    return cell - np.int64(over == 0), u32(over - 1)


@inner
def _find_cells(presence, speed, table, cell, last):
    """`cell_at` of traps at the time of the table; cell -1 for those that are not there or fast."""
    latest = table.t_s / table.tau_min_s  # in correlation times of the fastest trap
    log2_ratio = table.log2_tau_ratio * -(2.0**-32)
    trap_below, fast_below = np.int64(table.trap_below), np.int64(table.fast_below)
    for j in range(speed.shape[0]):
        y = log2_ratio * speed[j]
        whole = np.rint(y)
        x = y - whole
        p = _EXP2[10]
        for k in range(9, -1, -1):
            p = fma(p, x, _EXP2[k])
        power = fma(x, p, 1.0) * np.int64((np.int64(whole) + 1023) << 52).view(np.float64)
        at, last[j] = cell_at(latest * power)
        is_slow = (np.int64(presence[j]) < trap_below) & (np.int64(speed[j]) >= fast_below)
        cell[j] = at if is_slow else np.int64(-1)


@inner
def _order(place, choice, last, event, up_below, order):
    """Of events: the last one has the highest, of those at one place the first; the state is its lowest bit."""
    for k in range(order.shape[0]):
        own = (np.int64(place[k]) << 5) | np.int64((15 - event) << 1) | np.int64(choice[k] < up_below)
        order[k] = own if place[k] <= last[k] else np.int64(-2)


@inner
def trap_states(traps, cell, up_below):
    """States (1 or 0) of traps at a time.

    All traps take turns: in each round those whose state is not known yet look at one cell, the last one first, and of
    these cells those that have a first event look at it, then those that have a second one, and so on. Before the
    first cell the state is that of the draw at the beginning.

    Arguments  traps (4, n) uint32: state out, both words of the key, last place (`cell_at` the time); cell (n,)
    """
    n = cell.shape[0]
    words, longs, up = np.empty((16, n), u32), np.empty((3, n), np.int64), np.int64(up_below)
    own, of_event, trap, turn = words[:6], words[6:11], words[11], words[12]
    number, place, choice = words[13], words[14], words[15]
    own_state, key0, key1, last, low, high = own[0], own[1], own[2], own[3], own[4], own[5]
    event0, event1, event_last, event_low, event_high = of_event[0], of_event[1], of_event[2], of_event[3], of_event[4]
    own_cell, found, order = longs[0], longs[1], longs[2]
    state = traps[0]
    low[:], high[:] = u32(0), _OF_TRAP
    _draw(traps[1], traps[2], low, high, number, choice)
    kept = u32(0)
    for j in range(n):
        state[j] = u32(choice[j] < up)
        trap[kept] = u32(j)
        kept = u32(kept + u32(cell[j] >= 0))
    searching, back = np.int64(kept), np.int64(0)
    while searching > 0:
        _take(traps, trap[:searching], own[:4])
        if back > 0:
            last[:searching] = _ALL
        for k in range(searching):
            own_cell[k] = cell[trap[k]] - back
        for k in range(searching):
            low[k], high[k] = u32(own_cell[k]), u32(u32(own_cell[k] >> 32) << u32(8))
        _draw(key0, key1, low, high, number[:searching], choice)
        for k in range(searching):
            high[k] = u32(high[k] + u32(1))
            turn[k] = u32(k)
        _draw(key0, key1, low, high, place[:searching], choice)  # the first event, also where there is none
        _order(place, choice, last, 0, up, order[:searching])
        for k in range(searching):
            found[k] = max(np.int64(own_state[k]) - 2, order[k] if number[k] >= _ONE_EVENT else np.int64(-2))
        taking = searching
        for event in range(1, EVENTS_BELOW.shape[0]):
            limit, more = EVENTS_BELOW[event], u32(0)
            for k in range(taking):
                i = turn[k]
                turn[more] = i
                more = u32(more + u32(number[i] >= limit))
            taking = np.int64(more)
            if taking == 0:
                break
            _take(own[1:], turn[:taking], of_event)
            for k in range(taking):
                event_high[k] = u32(event_high[k] + u32(event))
            _draw(event0, event1, event_low, event_high, place[:taking], choice)
            _order(place, choice, event_last, event, up, order[:taking])
            for k in range(taking):
                found[turn[k]] = max(found[turn[k]], order[k])
        kept = u32(0)
        for k in range(searching):  # those without an event go on with the cell before
            j = trap[k]
            state[j] = u32(found[k] & 1)
            trap[kept] = j
            kept = u32(kept + u32((found[k] < 0) & (own_cell[k] > 0)))
        searching = np.int64(kept)
        back += 1


@inner
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
    words, cell = np.empty((8, size), u32), np.empty(size, np.int64)
    traps, presence, speed, counter0, counter1 = words[:4], words[4], words[5], words[6], words[7]
    state, key0, key1, last = traps[0], traps[1], traps[2], traps[3]
    counter0[:], counter1[:] = u32(1), _OF_TRAP
    for trap in range(keys.shape[0]):
        for start in range(0, size, n):
            own = slice(start, start + n)
            _draw_positions(keys[trap, 0], keys[trap, 1], u32(row), u32(col + start // n), key0[own], key1[own])
        _draw(key0, key1, counter0, counter1, presence, speed)
        if table.t_s > 0:  # else nothing is over yet
            _find_cells(presence, speed, table, cell, last)
        else:
            cell[:] = -1
        trap_states(traps, cell, table.up_below)
        for j in range(size):
            is_there, is_fast = presence[j] < table.trap_below, speed[j] < table.fast_below
            g[j] += delta[j] * (dtype(state[j]) - p) if is_there & (not is_fast) else dtype(0)
            variance[j] += delta[j] * delta[j] * p * (dtype(1) - p) if is_there & is_fast else dtype(0)
