"""Random numbers of converters: normals that belong to a column, and uniforms for one conversion."""
# mypy: allow-untyped-defs, allow-incomplete-defs
# Numba compiles these from the types of the call.

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from crossbar_sim.kernels.random import f32, fill_normals, random_key, threefry, u32

_TWO_M24 = f32(2.0**-24)


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


@njit(cache=True)
def fill_uniforms(key0, key1, first0, counter1, u0, u1):
    """u0[l], u1[l] = two uniforms in [0, 1) from key and counter (first0 + l, counter1), in steps of 2^-24."""
    for lane in range(u0.shape[0]):
        bits0, bits1 = threefry(key0, key1, u32(first0 + u32(lane)), counter1)
        u0[lane] = f32(bits0 >> u32(8)) * _TWO_M24
        u1[lane] = f32(bits1 >> u32(8)) * _TWO_M24
