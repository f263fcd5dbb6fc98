"""Random numbers of converters: normals that belong to a column."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from crossbar_sim.kernels.random import fill_normals, random_key, u32


def normals(seed: int, layer: str, purpose: str, row_tile: int, n_series: int, n: int) -> NDArray[np.float32]:
    """(n_series, n) standard normals that stay with converter 0 ... n - 1 of a row of tiles.

    Number (i, j) is a function of (seed, layer, purpose, row_tile, i, j) and of nothing else, so it does not depend on
    how many others are drawn.
    """
    key = random_key(seed, layer, purpose, row_tile)
    z, unused = np.empty((n_series, n), np.float32), np.empty(n, np.float32)
    for i in range(n_series):
        fill_normals(key[0], key[1], u32(0), u32(i), z[i], unused)
    return z
