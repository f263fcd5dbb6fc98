"""A few vectors through all tiles of a matrix: DAC, sums and converters in one pass over its weights."""

from __future__ import annotations

import numpy as np
from numba import njit

from crossbar_sim.kernels.bits import to_stored
from crossbar_sim.kernels.gemm import dot_rows
from crossbar_sim.kernels.inputs import quantise_vector, square_codes
from crossbar_sim.kernels.mvm import GROUP, convert
from crossbar_sim.kernels.random import threefry, u32


@njit(nogil=True, cache=True)
def read_few(
    thread, first_group, last_group, has_dac, x, stops, static_range, levels, stochastic, input_key, parts, effective,
    variance, per_level, noise_variance, draws, adc, gain, bias, key, read, tries, square_type, codes, full_scale,
    clipped, y, beyond,
):  # fmt: skip
    """DAC, column sums and `mvm.read_columns` of a few vectors on all parts of a matrix, for some of `n_groups`.

    For a handful of vectors the work is reading the matrix once, and handing threads from step to step costs more than
    the steps. All parts have one ADC without errors of its own and no output stage.

    Arguments  thread that this is, and the groups of columns; has_dac, x (T, K), stops, static_range, levels,
               stochastic, input_key as in `inputs.quantise_inputs`; without a DAC codes are x and full scales 1; parts
               (P, 5): number, row tile, first and last row + 1, and where it begins in flat weights; effective,
               variance: the (N, rows) of the parts one after the other, flat and as stored, `variance` perhaps empty;
               gain (P, N); key and number of the read; tries (row tiles, T); square_type: an array of the type that
               squares of codes have; codes (T, K), full_scale (row tiles, T), clipped (T,), y (T, N) and beyond (row
               tiles, T) out; the rest as in `read_columns`
    Returns    number of saturated outputs
    """
    n_vectors, n_cols = y.shape
    has_variance = variance.shape[0] > 0
    keys = np.empty((parts.shape[0], 2), np.uint32)
    for k in range(parts.shape[0]):
        keys[k, 0], keys[k, 1] = threefry(key[0], key[1], u32(read), u32(k))
    # every range of groups needs the codes, and the first hands them out
    mine, scale = (codes, full_scale) if first_group == 0 else (np.empty_like(codes), np.empty_like(full_scale))
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
        if first_group == 0:
            clipped[t] = n_clipped
    sums, spread = np.empty((n_vectors, GROUP), y.dtype), np.empty((squares.shape[0], GROUP), y.dtype)
    saturated = 0
    for group in range(first_group, last_group):
        col, end = group * GROUP, min((group + 1) * GROUP, n_cols)
        for k in range(parts.shape[0]):
            tile, start, stop = parts[k, 1], parts[k, 2], parts[k, 3]
            at = parts[k, 4] + col * (stop - start)
            for t in range(n_vectors):
                dot_rows(effective, at, mine[t, start:stop], sums[t, : end - col])
                if has_variance:
                    dot_rows(variance, at, squares[t, start:stop], spread[t, : end - col])
            saturated += convert(
                sums[:, : end - col], spread[:, : end - col], per_level, noise_variance, draws, adc, None, None,
                scale[tile], gain[k, col:end], bias[col:end], keys[k], tries[tile], col, k == 0, y[:, col:end],
                beyond[tile],
            )  # fmt: skip
    return saturated


def n_groups(n_cols: int) -> int:
    """Groups of columns that n_cols columns are read in."""
    return -(-n_cols // GROUP)
