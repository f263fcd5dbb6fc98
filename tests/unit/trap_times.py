"""The states of traps at many times, through the kernel."""

import numba
import numpy as np

from crossbar_sim.kernels.telegraph import SEARCHING, cell_at, find_events


@numba.njit
def states(key0, key1, cells, up_below):
    """Of traps with these keys, or of one, at times in correlation times."""
    traps, now = np.empty((3, cells.size), np.uint32), np.empty((3, cells.size), np.uint32)
    far, state = np.zeros((2, cells.size), np.float32), np.empty(cells.size, np.uint32)
    traps[0], traps[1], now[0] = key0, key1, SEARCHING
    for i in range(cells.size):
        traps[2, i] = i
        now[1, i], now[2, i], far[1, i] = cell_at(cells[i])
    find_events(traps, now, far, up_below, state)
    return state
