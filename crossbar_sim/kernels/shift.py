"""Relaxation that is a distribution and not a power law: the shift of a device by its conductance and its rank."""

from __future__ import annotations

import numpy as np
from numba import njit

from crossbar_sim.kernels.random import f32, fill_columns, i32, u32
from device_models.base import SHIFT_Z
from device_models.relaxation import MOST_PATHS

SHIFT_KEYS = -(-MOST_PATHS // 2)
"""Keys of a device; each gives two of the normals of its path."""

_Z_END = f32(SHIFT_Z)


@njit
def shift_devices(table, path, top_uS, keys, row, col, n, target, g):
    """Add to the programmed conductances of a block of devices what they relax.

    Equation   g = max(0, g + shift(target, z)), z = sum_k path[k] z_k; bilinear, clamped at the ends of the table
    Arguments  table (n_g, n_z) [uS] at even nodes of the target from 0 to top_uS and of z from -SHIFT_Z to SHIFT_Z;
               path (K,); keys (SHIFT_KEYS, 2); row, col of the first device; n: devices of each output;
               target, g [uS]
    """
    size = g.shape[0]
    z, first, second = np.zeros(size, np.float32), np.empty(size, np.float32), np.empty(size, np.float32)
    for k in range(0, path.shape[0], 2):
        fill_columns(keys[k // 2], row, col, n, first, second)
        weight = path[k + 1] if k + 1 < path.shape[0] else f32(0.0)
        for j in range(size):
            z[j] += path[k] * first[j] + weight * second[j]
    last_g, last_z = i32(table.shape[0] - 2), i32(table.shape[1] - 2)
    per_uS, per_z = f32(table.shape[0] - 1) / top_uS, f32(table.shape[1] - 1) / (f32(2.0) * _Z_END)
    for j in range(size):
        at_g, at_z = f32(target[j]) * per_uS, (z[j] + _Z_END) * per_z
        a, b = min(max(i32(at_g), i32(0)), last_g), min(max(i32(at_z), i32(0)), last_z)
        s, t = min(max(at_g - f32(a), f32(0)), f32(1)), min(max(at_z - f32(b), f32(0)), f32(1))
        i, k = u32(a), u32(b)
        low = table[i, k] + t * (table[i, k + u32(1)] - table[i, k])
        high = table[i + u32(1), k] + t * (table[i + u32(1), k + u32(1)] - table[i + u32(1), k])
        g[j] = max(g[j] + (low + s * (high - low)), g.dtype.type(0))
