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
def _words(key0, key1, counter0, counter1):
    return threefry(key0, key1, counter0, counter1)  # inlined here once, because each place costs seconds to compile


@njit
def _last_state(key0, key1, cell, reach, up_below):
    """State (1 or 0) drawn at the last event of a cell before `reach` (2^32 is the whole cell), or -1 without one."""
    low, high = u32(cell & 0xFFFFFFFF), u32((cell >> 32) << 8)
    count, _ = _words(key0, key1, low, high)
    n_events = 0
    while count >= EVENTS_BELOW[n_events]:
        n_events += 1
    last, state = np.int64(-1), -1
    for event in range(n_events):
        place, choice = _words(key0, key1, low, u32(high + u32(event + 1)))
        if last < np.int64(place) < reach:
            last = np.int64(place)
            state = 1 if choice < up_below else 0
    return state


@njit
def trap_state(key0, key1, cells, up_below):
    """State (1 or 0) of a trap `cells` correlation times after programming ended; key0, key1 are the trap's own."""
    cell = np.int64(cells)
    reach = np.int64((cells - cell) * 2.0**32)
    while cell >= 0:
        state = _last_state(key0, key1, cell, reach, up_below)
        if state >= 0:
            return state
        cell -= 1
        reach = _WHOLE_CELL
    _, choice = _words(key0, key1, u32(0), _OF_TRAP)
    return 1 if choice < up_below else 0


@njit
def add_telegraph(keys, row, col, table, delta, g, variance):
    """Add the traps of a chunk of devices: slow ones to the conductance [uS], fast ones to its variance [uS^2].

    Equation   g += delta (s(t) - p) for each slow trap, variance += delta^2 p (1 - p) for each fast one
    Arguments  keys (traps_per_device, 2) uint32, one row of `telegraph_keys`; row: input of the first device;
               col: output; table: TelegraphTable; delta (n,) amplitude of the traps of each device [uS];
               g, variance (n,) changed in place
    """
    dtype = g.dtype.type
    p = dtype(table.occupation)
    for j in range(g.shape[0]):
        for trap in range(keys.shape[0]):
            key0, key1 = _words(keys[trap, 0], keys[trap, 1], u32(u32(row) + u32(j)), u32(col))
            presence, speed = _words(key0, key1, u32(1), _OF_TRAP)
            if presence < table.trap_below:
                if speed < table.fast_below:
                    variance[j] += delta[j] * delta[j] * p * (dtype(1) - p)
                else:
                    tau_s = table.tau_min_s * math.exp(table.log_tau_ratio * (speed * 2.0**-32))
                    g[j] += delta[j] * (dtype(trap_state(key0, key1, table.t_s / tau_s, table.up_below)) - p)
