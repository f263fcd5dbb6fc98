"""A few vectors through all tiles of a matrix: DAC, sums and converters in one pass over its weights."""

from __future__ import annotations

import numpy as np
from numba import njit

from crossbar_sim.kernels.bits import to_stored
from crossbar_sim.kernels.compiling import inner
from crossbar_sim.kernels.gemm import dot_rows
from crossbar_sim.kernels.inputs import quantise_vector, square_codes
from crossbar_sim.kernels.mvm import GROUP, convert, draw, room_for
from crossbar_sim.kernels.random import threefry, u32

_LANES = 64
"""Columns that a thread takes at a time from each half of a group."""


@njit(nogil=True, cache=True)
def read_few(
    thread, first_chunk, last_chunk, has_dac, x, stops, static_range, levels, stochastic, input_key, parts, effective,
    variance, per_level, noise_variance, draws, adc, gain, bias, key, read, tries, square_type, codes, full_scale,
    clipped, y, beyond,
):  # fmt: skip
    """DAC, column sums and `mvm.read_columns` of a few vectors on all parts of a matrix, for some of `n_chunks`.

    For a handful of vectors the work is reading the matrix once, and handing threads from step to step costs more than
    the steps. All parts have one ADC without errors of its own and no output stage.

    Arguments  thread that this is, and the chunks of columns; has_dac, x (T, K), stops, static_range, levels,
               stochastic, input_key as in `inputs.quantise_inputs`; without a DAC codes are x and full scales 1; parts
               (P, 5): number, row tile, first and last row + 1, and where it begins in flat weights; effective,
               variance: the (N, rows) of the parts one after the other, flat and as stored, `variance` perhaps empty;
               gain (P, N); key and number of the read; tries (row tiles, T); square_type: an array of the type that
               squares of codes have; codes (T, K), full_scale (row tiles, T), clipped (T,), y (T, N) and beyond (row
               tiles, T) out; the rest as in `read_columns`
    Returns    number of saturated outputs
    """
    half = GROUP // 2
    n_vectors, n_cols = y.shape
    has_variance = variance.shape[0] > 0
    keys = np.empty((parts.shape[0], 2), np.uint32)
    for k in range(parts.shape[0]):
        keys[k, 0], keys[k, 1] = threefry(key[0], key[1], u32(read), u32(k))
    # every range of chunks needs the codes, and the first hands them out
    mine, scale = (codes, full_scale) if first_chunk == 0 else (np.empty_like(codes), np.empty_like(full_scale))
    squares = np.empty((n_vectors if has_variance else 0, x.shape[1]), square_type.dtype)
    for t in range(n_vectors):
        n_clipped = 0
        if has_dac:
            n_clipped = quantise_vector(x, stops, static_range, levels, stochastic, input_key, tries, t, mine, scale)
        else:
            for i in range(x.shape[1]):
                mine[t, i] = to_stored(mine, x[t, i])
            for k in range(scale.shape[0]):
                scale[k, t] = 1
        if has_variance:
            square_codes(mine[t], squares[t])
        if first_chunk == 0:
            clipped[t] = n_clipped
    n_lanes = _n_lanes(n_cols)
    saturated = 0
    for chunk in range(first_chunk, last_chunk):
        lane = chunk * _LANES
        n = min(_LANES, n_lanes - lane)
        col = lane // half * GROUP + lane % half
        z, z_behind, dither = room_for(draws, 2 * _LANES)
        v, spread = np.empty(_LANES, y.dtype), np.empty(_LANES if has_variance else 0, y.dtype)
        for t in range(n_vectors):
            for k in range(parts.shape[0]):
                tile, start, stop, at = parts[k, 1], parts[k, 2], parts[k, 3], parts[k, 4]
                rows = stop - start
                draw(draws, keys[k], lane, tries[tile, t], _LANES, 1, z, z_behind, dither)
                for side in range(2):
                    first_col = col + side * half
                    last_col = max(first_col, min(first_col + n, n_cols))
                    dot_rows(effective, at + first_col * rows, mine[t, start:stop], v[: last_col - first_col])
                    if has_variance:
                        own_squares = squares[t, start:stop]
                        dot_rows(variance, at + first_col * rows, own_squares, spread[: last_col - first_col])
                    width, own = last_col - first_col, side * _LANES
                    out = y[t, first_col:last_col]
                    if k == 0:
                        for j in range(width):
                            out[j] = bias[first_col + j]
                    over = convert(
                        v[:width], spread[:width], z[own:], z_behind[own:], dither[own:], per_level, noise_variance,
                        draws, adc, None, None, first_col, scale[tile, t], gain[k, first_col:last_col], out,
                    )  # fmt: skip
                    if over > 0:
                        beyond[tile, t] = True  # whichever thread is first: they all write the same
                    saturated += over
    return saturated


@inner
def _n_lanes(n_cols):
    """A lane is a column of the first half of a group and, where there is one, its partner of the second half."""
    half = GROUP // 2
    return n_cols // GROUP * half + min(n_cols % GROUP, half)


@njit(cache=True)
def n_chunks(n_cols):
    """Chunks of columns that n_cols columns are read in."""
    return (_n_lanes(n_cols) + _LANES - 1) // _LANES
