"""The two element-wise passes around the GEMM of a tile: DAC ahead of it; noise, ADC, scale and sum behind it.

Loops over vectors run in parallel and each vector is computed alone, so thread count and batch split change no bit.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit, prange

from crossbar_sim.converters.adc import convert_columns
from crossbar_sim.converters.draws import fill_uniforms
from crossbar_sim.converters.output_stage import shape_columns
from crossbar_sim.converters.static_errors import distort_columns
from crossbar_sim.kernels.bits import from_stored, largest_magnitude, to_stored
from crossbar_sim.kernels.random import fill_normals, i32, threefry, u32

GROUP = 256
"""Columns that share a run of random counters: column GROUP q + l, l < GROUP/2, takes the first normal of counter
GROUP/2 q + l, and column GROUP q + GROUP/2 + l its second."""

_BEHIND_STAGE, _DITHER = u32(1 << 31), u32(1 << 30)
"""Added to the number of a vector in the counters of its further random numbers."""

_LANES = 16
"""Columns that a thread takes at a time from each half of a group when few vectors are read."""


@njit(cache=True)
def read_keys(key, read, n_parts):
    """(n_parts, 2): key of the normals of read number `read` on each part; vector and column are the counter."""
    keys = np.empty((n_parts, 2), np.uint32)
    for k in range(n_parts):
        keys[k] = threefry(key[0], key[1], u32(read), u32(k))
    return keys


@njit(parallel=True, cache=True)
def quantise_inputs(x, stops, static_range, levels, stochastic, key, codes, squares, full_scale):
    """DAC of all vectors and row tiles.

    Equation   R = static_range[k] or max |x| over the tile; code = clip(rint(x / (R / L)), -L, L), L = `levels`;
               without levels code = clip(x, -R, R) / R; with `stochastic` rounding floor(x / (R / L) + uniform)
    Arguments  x (T, K); stops (n_tiles,) end of each row tile; static_range (n_tiles,) or empty for a range per
               vector; key of the uniforms, whose counters are input and vector; codes (T, K) out; squares (T, K) out
               or (0, 0); full_scale (n_tiles, T) out: R
    Returns    number of inputs beyond their range
    Source     uniform symmetric quantiser, e.g. M. J. Rasch et al. (2023), DOI 10.1038/s41467-023-40770-4
    """
    clipped = 0
    for t in prange(x.shape[0]):
        dither = np.empty(x.shape[1] if stochastic else 0, np.float32)
        if stochastic:
            fill_uniforms(key[0], key[1], u32(0), u32(t), dither, np.empty(x.shape[1], np.float32))
        clipped += _quantise_vector(x[t], stops, static_range, levels, dither, codes[t], full_scale[:, t])
        if squares.shape[0] > 0:
            for i in range(x.shape[1]):
                squares[t, i] = to_stored(squares, codes[t, i] * codes[t, i])
    return clipped


@njit
def _quantise_vector(x, stops, static_range, levels, dither, codes, full_scale):
    dtype = x.dtype.type
    zero = dtype(0)
    limit = dtype(levels) if levels > 0 else dtype(1)
    clipped = 0
    start = 0
    for k in range(stops.shape[0]):
        stop = stops[k]
        part, out = x[start:stop], codes[start:stop]
        if static_range.shape[0] > 0:
            largest = static_range[k]
            beyond = i32(0)
            for i in range(part.shape[0]):
                beyond = i32(beyond + (i32(1) if abs(part[i]) > largest else i32(0)))
            clipped += beyond
        else:
            largest = largest_magnitude(part)
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


@njit(parallel=True, cache=True)
def read_columns(
    sums, variances, per_level, noise_variance, draws, adc, errors, stage, full_scale, gain, bias, key, first_col,
    first, y,
):  # fmt: skip
    """Column sums of one tile -> digital outputs, added over row tiles.

    Equation   v = sums / L + sqrt(variances / L^2 + noise_variance) z, code = ADC(errors(v)), y = [bias or y] + code R
               gain; with an output stage v = stage(sums / L + sqrt(variances / L^2) z) + sqrt(noise_variance) z'
    Arguments  sums, variances (T, C); per_level = 1 / L of the DAC; noise_variance of the read-out in squared units of
               the bound; draws: see `Draws`; adc, errors, stage: states of crossbar_sim.converters, errors and stage
               None where there are none; full_scale (T,) = R; gain (C,) weight at g_max times drift compensation; bias
               (N,); y (T, N) out, columns from first_col on, which is a multiple of GROUP; first: whether y is set or
               added to; variances (0, 0) where there are none
    Returns    number of saturated outputs
    Source     sampling of the exact column distribution: independent Gaussian read noise of the devices adds up to a
               Gaussian of variance sum x_i^2 sigma_i^2 per column
    """
    saturated = 0
    for t in prange(sums.shape[0]):
        saturated += _read_vector(
            sums[t], variances, per_level, noise_variance, draws, adc, errors, stage, full_scale[t], gain, bias, key,
            t, first_col, first, y[t],
        )  # fmt: skip
    return saturated


class Draws(NamedTuple):
    """Which random numbers a read takes: normals for the columns, more behind an output stage, uniforms for the ADC."""

    noise: bool
    behind_stage: bool
    dither: bool


@njit
def _read_vector(
    sums, variances, per_level, noise_variance, draws, adc, errors, stage, full_scale, gain, bias, key, t, first_col,
    first, y,
):  # fmt: skip
    half = GROUP // 2
    v, spread = np.empty(GROUP, sums.dtype), np.zeros(GROUP, sums.dtype)
    z, z_behind, dither = np.empty(GROUP, np.float32), np.empty(GROUP, np.float32), np.empty(GROUP, np.float32)
    over = i32(0)
    for start in range(0, sums.shape[0], GROUP):
        stop = min(start + GROUP, sums.shape[0])
        n = stop - start
        # slices, because an index that is a sum is checked for its sign, which stops vectorisation
        part = sums[start:stop]
        for j in range(n):
            v[j] = part[j]
        lane = u32((first_col + start) // 2)
        _draw(draws, key, lane, t, z[:half], z[half:], z_behind[:half], z_behind[half:], dither[:half], dither[half:])
        if variances.shape[0] > 0:
            stored = variances[t, start:stop]
            for j in range(n):
                spread[j] = from_stored(variances, stored[j])
        at, end = first_col + start, first_col + stop
        over = i32(
            over
            + _convert(
                v[:n], spread[:n], z, z_behind, dither, per_level, noise_variance, draws, adc, errors,
                stage, at, full_scale, gain[start:stop], bias[at:end], first, y[at:end],
            )
        )  # fmt: skip
    return over


@njit
def _draw(draws, key, lane, t, z0, z1, z_behind0, z_behind1, dither0, dither1):
    """Random numbers of the lanes from `lane` on and of their partners, for vector t."""
    if draws.noise:
        fill_normals(key[0], key[1], lane, u32(t), z0, z1)
    if draws.behind_stage:
        fill_normals(key[0], key[1], lane, u32(u32(t) | _BEHIND_STAGE), z_behind0, z_behind1)
    if draws.dither:
        fill_uniforms(key[0], key[1], lane, u32(u32(t) | _DITHER), dither0, dither1)


@njit
def _convert(
    v, variances, z, z_behind, dither, per_level, noise_variance, draws, adc, errors, stage, first_col, full_scale,
    gain, bias, first, y,
):  # fmt: skip
    """The equation of `read_columns` for a run of columns whose sums are `v`, which is overwritten."""
    dtype = v.dtype.type
    n = v.shape[0]
    level = dtype(per_level)
    noise = dtype(noise_variance)
    here = dtype(0) if draws.behind_stage else noise
    for j in range(n):
        v[j] *= level
    if draws.noise:
        for j in range(n):
            v[j] += np.sqrt(max(variances[j] * (level * level) + here, dtype(0))) * z[j]
    shape_columns(stage, v, dtype(0), first_col)
    if draws.behind_stage:
        sigma = np.sqrt(noise)
        for j in range(n):
            v[j] += sigma * z_behind[j]
    distort_columns(errors, v, first_col)
    over = convert_columns(adc, v, dither[:n], first_col)
    if first:
        for j in range(n):
            y[j] = bias[j] + v[j] * full_scale * gain[j]
    else:
        for j in range(n):
            y[j] += v[j] * full_scale * gain[j]
    return over


@njit(fastmath={"reassoc", "nsz"})
def _dot(weights, x):
    total = x.dtype.type(0)
    for i in range(x.shape[0]):
        total += weights[i] * x[i]
    return total


@njit(fastmath={"reassoc", "nsz"})
def _dot_squares(variances, x):
    total = x.dtype.type(0)
    for i in range(x.shape[0]):
        total += from_stored(variances, variances[i]) * (x[i] * x[i])
    return total


@njit(parallel=True, cache=True)
def read_few(codes, parts, effective, variance, per_level, noise_variance, draws, adc, full_scale, gain, bias, keys, y):
    """Column sums and `read_columns` of a few vectors on all parts of a matrix, in one pass over it.

    For a handful of vectors the work is reading the matrix once, and handing threads from step to step costs more than
    the steps. All parts have one ADC without errors of its own and no output stage.

    Arguments  codes (T, K); parts (P, 3): row tile, first and last row + 1; effective, variance: the parts' (N, rows)
               one after the other, flat, `variance` as stored or empty; full_scale (row tiles, T); gain (P, N);
               keys (P, 2); y (T, N) out; the rest as in `read_columns`
    Returns    number of saturated outputs
    """
    half = GROUP // 2
    n_vectors, n_cols = y.shape
    has_variance = variance.shape[0] > 0
    # a lane is a column of the first half of a group and, where there is one, its partner of the second half
    n_lanes = n_cols // GROUP * half + min(n_cols % GROUP, half)
    saturated = 0
    for chunk in prange((n_lanes + _LANES - 1) // _LANES):
        lane = chunk * _LANES
        n = min(_LANES, n_lanes - lane)
        col = lane // half * GROUP + lane % half
        z, z_behind = np.empty((2, _LANES), np.float32), np.empty((2, _LANES), np.float32)
        dither = np.empty((2, _LANES), np.float32)
        v, spread = np.empty(_LANES, codes.dtype), np.zeros(_LANES, codes.dtype)
        for t in range(n_vectors):
            first = 0
            for k in range(parts.shape[0]):
                tile, start, stop = parts[k]
                rows = stop - start
                drive = codes[t, start:stop]
                _draw(
                    draws, keys[k], u32(lane), t, z[0, :n], z[1, :n], z_behind[0, :n], z_behind[1, :n], dither[0, :n],
                    dither[1, :n],
                )  # fmt: skip
                for side in range(2):
                    first_col = col + side * half
                    last_col = min(first_col + n, n_cols)
                    for c in range(first_col, last_col):
                        at = first + c * rows
                        v[c - first_col] = _dot(effective[at : at + rows], drive)
                        if has_variance:
                            spread[c - first_col] = _dot_squares(variance[at : at + rows], drive)
                    width = max(last_col - first_col, 0)
                    saturated += _convert(
                        v[:width], spread[:width], z[side], z_behind[side], dither[side], per_level, noise_variance,
                        draws, adc, None, None, first_col, full_scale[tile, t],
                        gain[k, first_col:last_col], bias[first_col:last_col], k == 0, y[t, first_col:last_col],
                    )  # fmt: skip
                first += n_cols * rows
    return saturated
