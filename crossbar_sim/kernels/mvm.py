"""The element-wise pass behind the GEMM of a tile: noise, ADC, scale and sum. The DAC ahead of it: `inputs`."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit, types
from numba.extending import overload

from crossbar_sim.converters.adc import convert_columns
from crossbar_sim.converters.draws import fill_uniforms
from crossbar_sim.converters.elementwise import ELEMENTWISE
from crossbar_sim.converters.output_stage import shape_columns
from crossbar_sim.converters.static_errors import distort_columns
from crossbar_sim.kernels.bits import from_stored
from crossbar_sim.kernels.compiling import inner
from crossbar_sim.kernels.random import fill_normals, i32, threefry, u32

GROUP = 256
"""Columns that share a run of random counters: column GROUP q + l, l < GROUP/2, takes the first normal of counter
GROUP/2 q + l, and column GROUP q + GROUP/2 + l its second."""

_BEHIND_STAGE, _DITHER = u32(1 << 31), u32(1 << 30)
"""Added to the number of a try in the counters of its further random numbers."""


@njit(cache=True)
def read_keys(key, read, n_parts):
    """(n_parts, 2): key of the normals of read number `read` on each part; vector and column are the counter."""
    keys = np.empty((n_parts, 2), np.uint32)
    for k in range(n_parts):
        keys[k, 0], keys[k, 1] = threefry(key[0], key[1], u32(read), u32(k))
    return keys


@njit(cache=True)
def read_columns(
    sums, variances, per_level, noise_variance, draws, adc, errors, stage, full_scale, gain, bias, key, tries,
    first_col, first, y, beyond,
):  # fmt: skip
    """Column sums of vectors on one tile -> digital outputs, added over row tiles. Each vector is computed alone.

    Equation   v = sums / L + sqrt(variances / L^2 + noise_variance) z, code = ADC(errors(v)), y = [bias or y] + code R
               gain; with an output stage v = stage(sums / L + sqrt(variances / L^2) z) + sqrt(noise_variance) z'
    Arguments  sums (T, C); variances (T, C) or (1, C) for all vectors, (0, C) where there are none; per_level = 1 / L
               of the DAC; noise_variance of the read-out in squared units of the bound; draws: see `Draws`; adc,
               errors, stage: states of crossbar_sim.converters, errors and stage None where there are none; full_scale
               (T,) = R; gain (C,) weight at g_max times drift compensation; bias (N,); tries (T,) see `kernels.tries`;
               first_col: the first column, a multiple of GROUP; first: whether y (T, C) is set or added to; beyond
               (T,) out: set where an output of the vector saturated, else left
    Returns    number of saturated outputs
    Source     sampling of the exact column distribution: independent Gaussian read noise of the devices adds up to a
               Gaussian of variance sum x_i^2 sigma_i^2 per column
    """
    n_vectors, n_cols = sums.shape
    z, z_behind, dither = room_for(draws, GROUP)
    saturated = 0
    for start in range(0, n_cols, GROUP):
        stop = min(start + GROUP, n_cols)
        at = first_col + start
        for t in range(n_vectors):
            draw(draws, key, at // 2, tries[t], GROUP // 2, 1, z, z_behind, dither)
            out = y[t, start:stop]
            if first:
                for j in range(stop - start):
                    out[j] = bias[at + j]
            spread = variances[min(t, variances.shape[0] - 1), start:stop] if variances.shape[0] > 0 else sums[t, :0]
            over = convert(
                sums[t, start:stop], spread, z, z_behind, dither, per_level, noise_variance, draws, adc, errors, stage,
                at, full_scale[t], gain[start:stop], out,
            )  # fmt: skip
            if over > 0:
                beyond[t] = True  # threads with other columns of the vector write the same
            saturated += over
    return saturated


class Draws(NamedTuple):
    """Which random numbers a read takes: normals for the columns, more behind an output stage, uniforms for the ADC."""

    noise: bool
    behind_stage: bool
    dither: bool


@inner
def room_for(draws, size):
    """Places for the random numbers of `size` columns."""
    return (
        np.empty(size if draws.noise else 0, np.float32),
        np.empty(size if draws.behind_stage else 0, np.float32),
        np.empty(size if draws.dither else 0, np.float32),
    )


@inner
def draw(draws, key, lane, number, half, n_groups, z, z_behind, dither):
    """Random numbers of a try for groups of 2 half columns; lanes from `lane` on have the first half of a group."""
    for group in range(n_groups):
        own = u32(lane + group * half)
        first, middle, last = 2 * group * half, (2 * group + 1) * half, (2 * group + 2) * half
        if draws.noise:
            fill_normals(key[0], key[1], own, number, z[first:middle], z[middle:last])
        if draws.behind_stage:
            counter = u32(number | _BEHIND_STAGE)
            fill_normals(key[0], key[1], own, counter, z_behind[first:middle], z_behind[middle:last])
        if draws.dither:
            fill_uniforms(key[0], key[1], own, u32(number | _DITHER), dither[first:middle], dither[middle:last])


def convert(
    sums, variances, z, z_behind, dither, per_level, noise_variance, draws, adc, errors, stage, first_col, full_scale,
    gain, y,
):  # fmt: skip
    """Add what the equation of `read_columns` makes of a run of sums to y; variances empty where there are none."""
    raise TypeError("convert works only inside compiled kernels")


@overload(convert)
def _convert_by_kind(
    sums, variances, z, z_behind, dither, per_level, noise_variance, draws, adc, errors, stage, first_col, full_scale,
    gain, y,
):  # fmt: skip
    plain = isinstance(errors, types.NoneType) and isinstance(stage, types.NoneType)
    law = ELEMENTWISE.get(adc.instance_class) if plain else None
    if law is None:
        return _convert_in_stages

    def convert_at_once(
        sums, variances, z, z_behind, dither, per_level, noise_variance, draws, adc, errors, stage, first_col,
        full_scale, gain, y,
    ):  # fmt: skip
        dtype = sums.dtype.type
        n = sums.shape[0]
        level, noise = dtype(per_level), dtype(noise_variance)
        over = i32(0)
        if draws.noise and variances.shape[0] > 0:
            for j in range(n):
                power = from_stored(variances, variances[j]) * (level * level) + noise
                value, beyond = law(adc, sums[j] * level + np.sqrt(max(power, dtype(0))) * z[j])
                y[j] += value * full_scale * gain[j]
                over = i32(over + beyond)  # stays 32 bit: vectorised
        elif draws.noise:
            sigma = np.sqrt(noise)
            for j in range(n):
                value, beyond = law(adc, sums[j] * level + sigma * z[j])
                y[j] += value * full_scale * gain[j]
                over = i32(over + beyond)
        else:
            for j in range(n):
                value, beyond = law(adc, sums[j] * level)
                y[j] += value * full_scale * gain[j]
                over = i32(over + beyond)
        return over

    return convert_at_once


def _convert_in_stages(
    sums, variances, z, z_behind, dither, per_level, noise_variance, draws, adc, errors, stage, first_col, full_scale,
    gain, y,
):  # fmt: skip
    dtype = sums.dtype.type
    n = sums.shape[0]
    level = dtype(per_level)
    noise = dtype(noise_variance)
    here = dtype(0) if draws.behind_stage else noise
    v = np.empty(n, sums.dtype)
    for j in range(n):
        v[j] = sums[j] * level
    if draws.noise and variances.shape[0] > 0:
        for j in range(n):
            power = from_stored(variances, variances[j]) * (level * level) + here
            v[j] += np.sqrt(max(power, dtype(0))) * z[j]
    elif draws.noise:
        sigma = np.sqrt(here)
        for j in range(n):
            v[j] += sigma * z[j]
    shape_columns(stage, v, dtype(0), first_col)
    if draws.behind_stage:
        sigma = np.sqrt(noise)
        for j in range(n):
            v[j] += sigma * z_behind[j]
    distort_columns(errors, v, first_col)
    over = convert_columns(adc, v, dither[: n if draws.dither else 0], first_col)
    for j in range(n):
        y[j] += v[j] * full_scale * gain[j]
    return over
