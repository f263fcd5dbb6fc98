"""The element-wise pass ahead of the GEMM of a tile: the DAC.

Loops over vectors run in parallel and each vector is computed alone, so thread count and batch split change no bit.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from crossbar_sim.converters.draws import fill_uniforms
from crossbar_sim.kernels.bits import largest_magnitude, to_stored
from crossbar_sim.kernels.random import i32, u32
from crossbar_sim.kernels.tries import REPEAT


@njit(parallel=True, cache=True)
def quantise_inputs(x, stops, static_range, levels, stochastic, key, tries, codes, squares, full_scale, clipped):
    """DAC of all vectors and row tiles.

    Equation   R = 2^r (static_range[k] or max |x| over the tile); code = clip(rint(x / (R / L)), -L, L), L = `levels`;
               without levels code = clip(x, -R, R) / R; with `stochastic` rounding floor(x / (R / L) + uniform)
    Arguments  x (T, K); stops (n_tiles,) end of each row tile; static_range (n_tiles,) or empty for a range per
               vector; key of the uniforms, whose counters are input and try; tries (n_tiles, T), see `kernels.tries`;
               codes (T, K) out; squares (T, K) out or (0, 0); full_scale (n_tiles, T) out: R; clipped (T,) out: number
               of inputs of each vector beyond their range
    Returns    number of inputs beyond their range
    Source     uniform symmetric quantiser, e.g. M. J. Rasch et al. (2023), DOI 10.1038/s41467-023-40770-4
    """
    total = 0
    for t in prange(x.shape[0]):
        dither = np.empty(x.shape[1] if stochastic else 0, np.float32)
        if stochastic:
            unused, start = np.empty(x.shape[1], np.float32), 0
            for k in range(stops.shape[0]):
                uniforms = dither[start : stops[k]]
                fill_uniforms(key[0], key[1], u32(start), tries[k, t], uniforms, unused)
                start = stops[k]
        clipped[t] = _quantise_vector(
            x[t], stops, static_range, levels, dither, tries[:, t], codes[t], full_scale[:, t]
        )
        total += clipped[t]
        if squares.shape[0] > 0:
            for i in range(x.shape[1]):
                squares[t, i] = to_stored(squares, codes[t, i] * codes[t, i])
    return total


@njit
def _quantise_vector(x, stops, static_range, levels, dither, tries, codes, full_scale):
    dtype = x.dtype.type
    zero = dtype(0)
    limit = dtype(levels) if levels > 0 else dtype(1)
    clipped = 0
    start = 0
    for k in range(stops.shape[0]):
        stop = stops[k]
        part, out = x[start:stop], codes[start:stop]
        widened = dtype(1 << (tries[k] // REPEAT))
        if static_range.shape[0] > 0:
            largest = static_range[k] * widened
            beyond = i32(0)
            for i in range(part.shape[0]):
                beyond = i32(beyond + (i32(1) if abs(part[i]) > largest else i32(0)))
            clipped += beyond
        else:
            largest = largest_magnitude(part) * widened
        step = largest / limit
        full_scale[k] = largest
        if step == zero:  # an all-zero vector, or one below the smallest number that has a step
            full_scale[k] = zero
            out[:] = zero
        elif levels > 0 and dither.shape[0] > 0:
            uniform = dither[start:stop]
            for i in range(part.shape[0]):
                out[i] = min(max(np.floor(part[i] / step + uniform[i]), -limit), limit)
        elif levels > 0:
            for i in range(part.shape[0]):
                out[i] = min(max(np.rint(part[i] / step), -limit), limit)
        else:
            for i in range(part.shape[0]):
                out[i] = min(max(part[i] / step, -limit), limit)
        start = stop
    return clipped
