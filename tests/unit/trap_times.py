"""The states of traps at many times, through the kernel."""

import numba
import numpy as np

from crossbar_sim.kernels.telegraph import cell_at, trap_states


@numba.njit
def states(key0, key1, cells, up_below):
    """Of traps with these keys, or of one, at times in correlation times."""
    traps, cell = np.empty((4, cells.size), np.uint32), np.empty(cells.size, np.int64)
    traps[1], traps[2] = key0, key1
    for i in range(cells.size):
        cell[i], traps[3, i] = cell_at(cells[i])
    trap_states(traps, cell, up_below)
    return traps[0].copy()
