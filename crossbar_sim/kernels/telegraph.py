"""Random telegraph noise with random access in time: the state of a trap at t is a function of its key and t.

A two-state Markov process forgets its state at the events of a Poisson process of rate 1 / tau and draws it anew with
the stationary probability at each of them. Time is cut into cells of width tau. The events of a cell, of which each has
an exponential distance from the one behind it, the first from the end of the cell, and the states drawn there come from
counters of the trap's key, so nothing is stored, and any two times see one path. The state at t is that of the last
event before t: it is looked for backwards, in the cell of t and in those before; the first draw of the cell before time
0 is the state that the trap begins with. Of each trap 2.5 events are drawn on average.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from crossbar_sim.kernels.compiling import inner
from crossbar_sim.kernels.random import f32, fma, minus_log, random_key, threefry, u32
from crossbar_sim.kernels.views import row, shaped

_EXP2 = (
    0.6931471805599453, 0.24022650695910097, 0.0555041086648216, 0.009618129107606888, 0.0013333558146416936,
    0.0001540353044173605, 1.525273382983612e-05, 1.321544258792169e-06, 1.0178062445845774e-07,
    7.072585949269223e-09, 4.4549605981865186e-10,
)  # fmt: skip
"""(2^x - 1) / x on [-1/2, 1/2], in powers of x: 2^x to 1e-17 in relative error."""
_CELL = u32(0xFFFFFF00)
"""Bits of the second counter that belong to the cell, all ones in the one before time 0, as cells stay below 2^53; the
others count its events, and 255 have a chance of 1e-505."""
_LATER, _LAST, _OVER = u32(0), u32(1), u32(2)
SEARCHING = u32(2)
"""In place of a state that is still looked for."""


class TelegraphTable(NamedTuple):
    """TelegraphNoise at one time, in the form that kernels take."""

    occupation: float
    up_below: np.uint64
    trap_below: np.uint64
    fast_below: np.uint64
    tau_min_s: float
    log2_tau_ratio: float
    t_s: float


def telegraph_keys(
    seed: int, layer: str, traps_per_device: int, devices: Iterable[int] = range(2)
) -> NDArray[np.uint32]:
    """(devices, traps_per_device, 2): keys of the traps of the given devices of a layer's weights."""
    return np.array(
        [[random_key(seed, layer, "telegraph", d, trap) for trap in range(traps_per_device)] for d in devices],
        dtype=np.uint32,
    )


@inner
def _draw(key0, key1, counter0, counter1, first, second, size):
    """Words of the first `size` keys and counters."""
    for k in range(size):
        first[k], second[k] = threefry(key0[k], key1[k], counter0[k], counter1[k])


@inner
def _draw_keys(key0, key1, rows, cols, first, second, size):
    """Keys of the traps of weights in inputs `rows` and outputs `cols`."""
    for k in range(size):
        first[k], second[k] = threefry(key0, key1, rows[k], cols[k])


@inner
def _draw_first(key0, key1, up_below, state):
    """States that traps begin with."""
    up = u32(up_below)
    for k in range(state.shape[0]):
        _, choice = threefry(key0[k], key1[k], u32(0xFFFFFFFF), _CELL)
        state[k] = u32(choice < up)


@njit(inline="always")
def cell_at(cells):
    """Words of the cell at a time in correlation times, and how far the time is from the end of the cell."""
    cell = np.int64(cells)
    return u32(cell), u32(u32(cell >> 32) << u32(8)), f32(1.0 - (cells - cell))


@inner
def _find_cells(speed, table, low, high, time, size):
    """`cell_at` of traps at the time of the table."""
    latest = table.t_s / table.tau_min_s  # in correlation times of the fastest trap
    log2_ratio = table.log2_tau_ratio * -(2.0**-32)
    for k in range(size):
        y = log2_ratio * speed[k]
        whole = np.rint(y)
        x = y - whole
        p = _EXP2[10]
        for term in range(9, -1, -1):
            p = fma(p, x, _EXP2[term])
        power = fma(x, p, 1.0) * np.int64((np.int64(whole) + 1023) << 52).view(np.float64)
        low[k], high[k], time[k] = cell_at(latest * power)


@inner
def _step_back(behind, time, place, distance, kind, size):
    """Distances of events from the ends of their cells, and whether an event goes on beyond, or was before the time."""
    for k in range(size):
        distance[k] = behind[k] + minus_log(place[k])
    for k in range(size):
        is_over, is_last = distance[k] >= f32(1), distance[k] >= time[k]
        kind[k] = _OVER if is_over else (_LAST if is_last else _LATER)


@inner
def _find_states(kind, choice, high, up_below, old, new, size):
    """States of traps whose last event this is, or that had none; those that are known stay."""
    up = u32(up_below)
    for k in range(size):
        is_found = (kind[k] == _LAST) | ((high[k] & _CELL) == _CELL)
        found = u32(choice[k] < up) if is_found else SEARCHING
        new[k] = found if old[k] == SEARCHING else old[k]


@inner
def _go_on(kind, low, high, distance, time, new_low, new_high, new_distance, new_time, size):
    """The next event of the cell, or the first one of the cell before."""
    for k in range(size):
        new_low[k] = u32(low[k] - u32(kind[k] == _OVER))
    for k in range(size):
        borrowed = u32((kind[k] == _OVER) & (low[k] == u32(0))) << u32(8)
        before = u32(u32(high[k] & _CELL) - borrowed)
        new_high[k] = before if kind[k] == _OVER else u32(high[k] + u32(1))
    for k in range(size):
        new_distance[k] = f32(0) if kind[k] == _OVER else distance[k]
    for k in range(size):
        new_time[k] = f32(0) if kind[k] == _OVER else time[k]


@inner
def _take(rows, which, size, out):
    """Columns `which` of rows, one row after the other: all at once need more registers than there are."""
    for r in range(rows.shape[0]):
        source, target = row(rows, r), row(out, r)
        for k in range(size):
            target[k] = source[which[k]]


@inner
def find_events(traps, now, far, up_below, state):
    """States of traps at a time: 1 or 0.

    All traps take turns: in each turn those that are searching look at one event, the last one of its cell that they
    did not look at yet. Where half of them are through, the others go on closer together.

    Arguments  traps (3, n) uint32: both words of the key, place in `state`; now (3, n) uint32: SEARCHING, words of
               `cell_at` the time; far (2, n): 0, distance of `cell_at`; state uint32 out; the others are lost
    """
    n = traps.shape[1]
    words, reals = np.empty((10, n), u32), np.empty((3, n), f32)
    closer, later = shaped(words, 0, (3, n)), shaped(words, 3 * n, (3, n))
    which, place, choice, kind = row(words, 6), row(words, 7), row(words, 8), row(words, 9)
    farther, distance = shaped(reals, 0, (2, n)), row(reals, 2)
    size = n
    while size > 0:
        _draw(row(traps, 0), row(traps, 1), row(now, 1), row(now, 2), place, choice, size)
        _step_back(row(far, 0), row(far, 1), place, distance, kind, size)
        _find_states(kind, choice, row(now, 2), up_below, row(now, 0), row(later, 0), size)
        _go_on(
            kind, row(now, 1), row(now, 2), distance, row(far, 1), row(later, 1), row(later, 2), row(farther, 0),
            row(farther, 1), size,
        )  # fmt: skip
        now, later, far, farther = later, now, farther, far
        kept, found = u32(0), row(now, 0)
        for k in range(size):
            which[kept] = u32(k)
            kept = u32(kept + u32(found[k] == SEARCHING))
        if 2 * np.int64(kept) <= size:
            number = row(traps, 2)
            for k in range(size):
                state[number[k]] = found[k]
            size = np.int64(kept)
            _take(traps, which, size, closer)
            _take(now, which, size, later)
            _take(far, which, size, farther)
            traps, closer, now, later, far, farther = closer, traps, later, now, farther, far


@inner
def add_telegraph(keys, first_row, col, n, table, delta, g, variance):
    """Add the traps of a block of devices: slow ones to the conductance [uS], fast ones to its variance [uS^2].

    Equation   g += delta sum (s(t) - p) over the slow traps, variance += delta^2 p (1 - p) times the fast ones; whether
               a trap is there and its correlation time are in the two words of its key
    Arguments  keys (traps_per_device, 2) uint32, one row of `telegraph_keys`; first_row: input of the first device;
               col: its output; n: devices of each output; table: TelegraphTable; delta amplitude of the traps of each
               device [uS]; g, variance changed in place
    """
    dtype = g.dtype.type
    block = g.shape[0]
    words, far_room, sums = np.empty((13, block), u32), np.empty(2 * block, f32), np.empty(2 * block, g.dtype)
    lane, rows, cols, size = row(words, 0), row(words, 1), row(words, 2), 0
    for start in range(0, block, n):
        for j in range(n):  # traps that move nothing, as those of devices at zero, are not looked for
            lane[size], rows[size], cols[size] = u32(start + j), u32(first_row + j), u32(col + start // n)
            size += np.int64(delta[start + j] != 0)
    key0, key1 = shaped(words, 3 * block, (size,)), shaped(words, 4 * block, (size,))
    state, which = shaped(words, 5 * block, (size,)), row(words, 6)
    slow, fast, p = shaped(sums, 0, (size,)), shaped(sums, block, (size,)), dtype(table.occupation)
    for k in range(size):
        slow[k] = fast[k] = dtype(0)
    for trap in range(keys.shape[0]):
        _draw_keys(keys[trap, 0], keys[trap, 1], rows, cols, key0, key1, size)
        if table.t_s > 0:
            n_slow = u32(0)
            for k in range(size):
                which[n_slow] = u32(k)
                n_slow = u32(n_slow + u32((key0[k] < table.trap_below) & (key1[k] >= table.fast_below)))
            shape = np.int64(n_slow)
            traps, now = shaped(words, 7 * block, (3, shape)), shaped(words, 10 * block, (3, shape))
            far = shaped(far_room, 0, (2, shape))
            for k in range(shape):
                traps[0, k], traps[1, k], traps[2, k] = key0[which[k]], key1[which[k]], which[k]
                now[0, k], far[0, k] = SEARCHING, f32(0)
            _find_cells(row(traps, 1), table, row(now, 1), row(now, 2), row(far, 1), shape)
            find_events(traps, now, far, table.up_below, state)
        else:
            _draw_first(key0, key1, table.up_below, state)
        for k in range(size):
            is_there, is_fast = key0[k] < table.trap_below, key1[k] < table.fast_below
            slow[k] += dtype(state[k]) - p if is_there & (not is_fast) else dtype(0)
            fast[k] += p * (dtype(1) - p) if is_there & is_fast else dtype(0)
    for k in range(size):
        j = lane[k]
        g[j] += delta[j] * slow[k]
        variance[j] += delta[j] * delta[j] * fast[k]
