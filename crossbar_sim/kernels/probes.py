"""What the digital side makes of the outputs of a reference read, in one pass over them."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True)
def to_codes(outputs, step, codes):
    """codes = rint(outputs / step), all (B, C); the codes of an ADC whose outputs are multiples of `step`."""
    width = outputs.dtype.type(step)
    for b in range(outputs.shape[0]):
        for j in range(outputs.shape[1]):
            codes[b, j] = codes.dtype.type(np.rint(outputs[b, j] / width))


@njit(cache=True)
def sum_products(codes, step, now, sums):
    """sums[0, j] = sum_b y*_bj y_bj, sums[1, j] = sum_b y_bj^2 in float64; y* = codes step, y = now, all (B, C)."""
    sums[:] = 0.0
    unit = now.dtype.type(step)
    for b in range(now.shape[0]):
        for j in range(now.shape[1]):
            y = np.float64(now[b, j])
            sums[0, j] += np.float64(now.dtype.type(codes[b, j]) * unit) * y
            sums[1, j] += y * y
