"""Stuck devices: the same ones with the same conductance for ever, whatever the time, tile or thread.

A device draws two words from its key and position: the first decides whether it is stuck and at which end, the second
where in the window it is stuck if anywhere.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from crossbar_sim.kernels.random import random_key, threefry, u32


class FaultTable(NamedTuple):
    """StuckFaults in the form that kernels take: a word below `reset_below` is stuck at g_min, and so on."""

    reset_below: np.uint64
    set_below: np.uint64
    random_below: np.uint64
    g_min_uS: float
    g_max_uS: float


def fault_keys(seed: int, layer: str, devices: Iterable[int] = range(2)) -> NDArray[np.uint32]:
    """(devices, 2): keys of the faults of the given devices of a layer's weights."""
    return np.array([random_key(seed, layer, "fault", d) for d in devices], dtype=np.uint32)


@njit
def find_stuck(key, row, col, table, held, stuck):
    """Which devices of a chunk are stuck, and where [uS].

    Arguments  key (2,) uint32, one row of `fault_keys`; row: input of the first device; col: output; table: FaultTable;
               held (n,) out, of no meaning where a device is not stuck; stuck (n,) bool out
    """
    dtype = held.dtype.type
    low, high = dtype(table.g_min_uS), dtype(table.g_max_uS)
    unit, half = dtype(2.0**-32), dtype(0.5)
    for j in range(held.shape[0]):
        word, level = threefry(key[0], key[1], u32(u32(row) + u32(j)), u32(col))
        value = low + (high - low) * ((dtype(level) + half) * unit)
        value = high if word < table.set_below else value
        held[j] = low if word < table.reset_below else value
        stuck[j] = word < table.random_below
