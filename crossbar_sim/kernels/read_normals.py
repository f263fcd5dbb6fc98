"""The normals of a read by themselves, for sums that are not computed by the kernels."""

from __future__ import annotations

import numpy as np
from numba import njit

from crossbar_sim.kernels.mvm import GROUP
from crossbar_sim.kernels.random import fill_normals, u32


@njit(nogil=True, cache=True)
def fill_read_normals(thread, first, last, key, tries, first_col, z):
    """z[t, c] = the normal of try tries[t] and column first_col + c (crossbar_sim.kernels.mvm.GROUP).

    Arguments  thread that this is, and its vectors, first to last - 1; key (2,) of one read of one part; tries (T,),
               see `kernels.tries`; first_col: a multiple of GROUP; z (T, C) float32 out
    Returns    0
    """
    half = GROUP // 2
    n_cols = z.shape[1]
    for t in range(first, last):
        beyond = np.empty(half, np.float32)  # partners of columns that the last group does not have
        for start in range(0, n_cols, GROUP):
            n = min(half, n_cols - start)
            one, other = z[t, start : start + n], z[t, start + n : min(start + GROUP, n_cols)]
            lane = u32((first_col + start) // 2)
            m = other.shape[0]
            fill_normals(key[0], key[1], lane, tries[t], one[:m], other)
            fill_normals(key[0], key[1], u32(lane + u32(m)), tries[t], one[m:], beyond[m:n])
    return 0
