"""The two element-wise passes around the GEMM of a tile: DAC ahead of it; noise, ADC, scale and sum behind it.

Loops over vectors run in parallel and each vector is computed alone, so thread count and batch split change no bit.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from crossbar_sim.kernels.bits import from_stored, largest_magnitude, to_stored
from crossbar_sim.kernels.random import fill_normals, i32, u32

GROUP = 256
"""Columns that share a run of random counters: column GROUP q + l, l < GROUP/2, takes the first normal of counter
GROUP/2 q + l, and column GROUP q + GROUP/2 + l its second."""


@njit(parallel=True, cache=True)
def quantise_inputs(x, stops, static_range, levels, codes, squares, full_scale):
    """DAC of all vectors and row tiles.

    Equation   R = static_range[k] or max |x| over the tile; code = clip(rint(x / (R / L)), -L, L), L = `levels`;
               without levels code = clip(x, -R, R) / R
    Arguments  x (T, K); stops (n_tiles,) end of each row tile; static_range (n_tiles,) or empty for a range per
               vector; codes (T, K) out; squares (T, K) out or (0, 0); full_scale (n_tiles, T) out: R
    Returns    number of inputs beyond their range
    Source     uniform symmetric quantiser, e.g. M. J. Rasch et al. (2023), DOI 10.1038/s41467-023-40770-4
    """
    dtype = x.dtype.type
    zero = dtype(0)
    limit = dtype(levels) if levels > 0 else dtype(1)
    clipped = 0
    for t in prange(x.shape[0]):
        start = 0
        for k in range(stops.shape[0]):
            stop = stops[k]
            if static_range.shape[0] > 0:
                largest = static_range[k]
                beyond = i32(0)
                for i in range(start, stop):
                    beyond = i32(beyond + (i32(1) if abs(x[t, i]) > largest else i32(0)))
                clipped += beyond
            else:
                largest = largest_magnitude(x[t, start:stop])
            step = largest / limit
            full_scale[k, t] = largest
            if step == zero:  # an all-zero vector, or one below the smallest number that has a step
                full_scale[k, t] = zero
                codes[t, start:stop] = zero
            elif levels > 0:
                for i in range(start, stop):
                    codes[t, i] = min(max(np.rint(x[t, i] / step), -limit), limit)
            else:
                for i in range(start, stop):
                    codes[t, i] = min(max(x[t, i] / step, -limit), limit)
            start = stop
        if squares.shape[0] > 0:
            for i in range(x.shape[1]):
                squares[t, i] = to_stored(squares, codes[t, i] * codes[t, i])
    return clipped


@njit(parallel=True, cache=True)
def read_columns(
    sums, variances, per_level, noise_variance, noisy, step, levels, full_scale, gain, bias, key, first_col, first, y
):
    """Column sums of one tile -> digital outputs, added over row tiles.

    Equation   v = (sums / L + sqrt(variances / L^2 + noise_variance) z) / step;  code = clip(rint(v), -levels, levels);
               y = [bias or y] + code step R gain    (v in place of the code where there is no ADC)
    Arguments  sums, variances (T, C); per_level = 1 / L of the DAC; noise_variance of the read-out in squared units of
               the bound; noisy: whether z is drawn; step, levels of the ADC (levels 0: none); full_scale (T,) = R;
               gain (C,) weight at g_max times drift compensation; bias (N,); y (T, N) out, columns from first_col on,
               which is a multiple of GROUP; first: whether y is set or added to; variances (0, 0) where there are none
    Returns    number of saturated outputs
    Source     sampling of the exact column distribution: independent Gaussian read noise of the devices adds up to a
               Gaussian of variance sum x_i^2 sigma_i^2 per column
    """
    saturated = 0
    no_variance = variances.shape[0] == 0
    for t in prange(sums.shape[0]):
        spread = variances[0:0] if no_variance else variances[t : t + 1]
        saturated += _read_vector(
            sums[t], spread, per_level, noise_variance, noisy, step, levels, full_scale[t], gain, bias, key, t,
            first_col, first, y[t],
        )  # fmt: skip
    return saturated


@njit
def _read_vector(
    sums, variances, per_level, noise_variance, noisy, step, levels, full_scale, gain, bias, key, t, first_col, first, y
):
    dtype = sums.dtype.type
    half = GROUP // 2
    n_cols = sums.shape[0]
    level = dtype(levels)
    per_code = dtype(per_level / step)  # from sums to codes
    noise = dtype(noise_variance / (step * step))
    scale = full_scale * dtype(step)
    v = np.empty(GROUP, sums.dtype)
    normals = np.empty(GROUP, np.float32)
    over = i32(0)
    for start in range(0, n_cols, GROUP):
        n = min(GROUP, n_cols - start)
        # slices, because an index that is a sum is checked for its sign, which stops vectorisation
        part, factor = sums[start : start + n], gain[start : start + n]
        out, offset = y[first_col + start : first_col + start + n], bias[first_col + start : first_col + start + n]
        for j in range(n):
            v[j] = part[j] * per_code
        if noisy:
            counter = u32((first_col + start) // 2)
            fill_normals(key[0], key[1], counter, u32(t), normals[:half], normals[half:])
            if variances.shape[0] > 0:
                spread = variances[0, start : start + n]
                for j in range(n):
                    variance = from_stored(variances, spread[j]) * (per_code * per_code) + noise
                    v[j] += np.sqrt(max(variance, dtype(0))) * normals[j]
            else:
                sigma = np.sqrt(noise)
                for j in range(n):
                    v[j] += sigma * normals[j]
        if levels > 0:
            for j in range(n):
                code = np.rint(v[j])
                over = i32(over + (i32(1) if abs(code) > level else i32(0)))  # stays 32 bit: vectorised
                v[j] = min(max(code, -level), level)
        if first:
            for j in range(n):
                out[j] = offset[j] + v[j] * scale * factor[j]
        else:
            for j in range(n):
                out[j] += v[j] * scale * factor[j]
    return over


@njit(parallel=True, cache=True, fastmath={"reassoc", "nsz"})
def sum_few(drive, effective, variance, sums, variances):
    """Column sums of a few vectors and, unless `variance` is (0, 0), their variances.

    Equation   sums = drive @ effective^T, variances = drive^2 @ variance^T
    Arguments  drive (T, K); effective, variance (C, K); sums, variances (T, C) out; variances as stored
    For a handful of vectors the work is reading the matrices once; a library's bfloat16 product repacks them first.
    """
    n_vectors, n = drive.shape
    zero = drive.dtype.type(0)
    for col in prange(effective.shape[0]):
        row = effective[col]
        for t in range(n_vectors):
            x = drive[t]
            total = zero
            for i in range(n):
                total += row[i] * x[i]
            sums[t, col] = total
        if variance.shape[0] > 0:
            spread = variance[col]
            for t in range(n_vectors):
                x = drive[t]
                total = zero
                for i in range(n):
                    total += from_stored(variance, spread[i]) * (x[i] * x[i])
                variances[t, col] = to_stored(variances, total)
