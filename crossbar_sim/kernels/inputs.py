"""The element-wise pass ahead of the GEMM of a tile: the DAC.

Each vector is computed alone, so thread count and batch split change no bit.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from crossbar_sim.kernels.bits import from_stored, largest_magnitude, to_stored
from crossbar_sim.kernels.compiling import inner
from crossbar_sim.kernels.random import fill_uniforms, i32, u32
from crossbar_sim.kernels.tries import REPEAT


@njit(nogil=True, cache=True)
def quantise_inputs(
    thread, first, last, x, stops, static_range, levels, stochastic, key, tries, codes, squares, full_scale, clipped
):
    """DAC of vectors first to last - 1 on all row tiles.

    Equation   R = 2^r (static_range[k] or max |x| over the tile); code = clip(rint(x / (R / L)), -L, L), L = `levels`;
               without levels code = clip(x, -R, R) / R; with `stochastic` rounding floor(x / (R / L) + uniform)
    Arguments  x (T, K); stops (n_tiles,) end of each row tile; static_range (n_tiles,) or empty for a range per
               vector; key of the uniforms, whose counters are input and try; tries (n_tiles, T), see `kernels.tries`;
               codes (T, K) out; squares (T, K) out, or (0, 0) where not needed, both perhaps stored as bfloat16;
               full_scale (n_tiles, T) out: R; clipped (T,) out: number of inputs of each vector beyond their range
    Returns    number of inputs beyond their range
    Source     uniform symmetric quantiser, e.g. M. J. Rasch et al. (2023), DOI 10.1038/s41467-023-40770-4
    """
    total = 0
    for t in range(first, last):
        clipped[t] = quantise_vector(x, stops, static_range, levels, stochastic, key, tries, t, codes, full_scale)
        total += clipped[t]
        if squares.shape[0] > 0:
            square_codes(codes[t], squares[t])
    return total


@inner
def square_codes(codes, squares):
    """Squares of the codes of a vector; both as they are stored."""
    for i in range(codes.shape[0]):
        code = from_stored(codes, codes[i])
        squares[i] = to_stored(squares, code * code)


@inner
def quantise_vector(x, stops, static_range, levels, stochastic, key, tries, t, codes, full_scale):
    """What `quantise_inputs` does with vector t but for the squares; returns the number of its clipped inputs."""
    clipped = 0
    start = 0
    dither = np.empty(x.shape[1] if stochastic else 0, np.float32)
    unused = np.empty(dither.shape[0], np.float32)
    for k in range(stops.shape[0]):
        stop = stops[k]
        if stochastic:
            fill_uniforms(key[0], key[1], u32(start), tries[k, t], dither[start:stop], unused)
        uniform = dither[start:stop] if stochastic else dither
        given = static_range[k : k + 1] if static_range.shape[0] > 0 else static_range
        full_scale[k, t], beyond = _quantise(
            x[t, start:stop], given, levels, uniform, 1 << (tries[k, t] // REPEAT), codes[t, start:stop]
        )
        clipped += beyond
        start = stop
    return clipped


@inner
def _quantise(part, given, levels, uniform, widening, out):
    """Full scale of the inputs of a row tile, and how many of them are beyond it; their codes into `out`."""
    dtype = part.dtype.type
    zero = dtype(0)
    limit = dtype(levels) if levels > 0 else dtype(1)
    widened = dtype(widening)
    beyond = i32(0)
    if given.shape[0] > 0:
        largest = given[0] * widened
        for i in range(part.shape[0]):
            beyond = i32(beyond + (i32(1) if abs(part[i]) > largest else i32(0)))
    else:
        largest = largest_magnitude(part) * widened
    step = largest / limit
    if step == zero:  # an all-zero vector, or one below the smallest number that has a step
        for i in range(part.shape[0]):
            out[i] = to_stored(out, zero)
        return zero, beyond
    if levels > 0 and uniform.shape[0] > 0:
        for i in range(part.shape[0]):
            out[i] = to_stored(out, min(max(np.floor(part[i] / step + uniform[i]), -limit), limit))
    elif levels > 0:
        for i in range(part.shape[0]):
            out[i] = to_stored(out, min(max(np.rint(part[i] / step), -limit), limit))
    else:
        for i in range(part.shape[0]):
            out[i] = to_stored(out, min(max(part[i] / step, -limit), limit))
    return largest, beyond
