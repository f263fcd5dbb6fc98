"""The element-wise pass behind the GEMM of a tile: noise, ADC, scale and sum. The DAC ahead of it: `inputs`."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit, types
from numba.extending import overload

from crossbar_sim.converters.adc import convert_columns
from crossbar_sim.converters.elementwise import ELEMENTWISE
from crossbar_sim.converters.output_stage import shape_columns
from crossbar_sim.converters.static_errors import distort_columns
from crossbar_sim.kernels.bits import from_stored
from crossbar_sim.kernels.compiling import inner
from crossbar_sim.kernels.random import fill_normals, fill_uniforms, i32, threefry, u32
from crossbar_sim.kernels.views import row

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
    saturated = 0
    for start in range(0, sums.shape[1], GROUP):
        stop = min(start + GROUP, sums.shape[1])
        saturated += convert(
            sums[:, start:stop], variances[:, start:stop], per_level, noise_variance, draws, adc, errors, stage,
            full_scale, gain[start:stop], bias[first_col + start : first_col + stop], key, tries, first_col + start,
            first, y[:, start:stop], beyond,
        )  # fmt: skip
    return saturated


class Draws(NamedTuple):
    """Which random numbers a read takes: normals for the columns, more behind an output stage, uniforms for the ADC."""

    noise: bool
    behind_stage: bool
    dither: bool


def convert(
    sums, variances, per_level, noise_variance, draws, adc, errors, stage, full_scale, gain, bias, key, tries,
    first_col, first, y, beyond,
):  # fmt: skip
    """`read_columns` of a group of columns, and the bias of these. Only inside kernels."""
    raise TypeError("convert works only inside compiled kernels")


@overload(convert)
def _convert_by_kind(
    sums, variances, per_level, noise_variance, draws, adc, errors, stage, full_scale, gain, bias, key, tries,
    first_col, first, y, beyond,
):  # fmt: skip
    plain = isinstance(errors, types.NoneType) and isinstance(stage, types.NoneType)
    law = ELEMENTWISE.get(adc.instance_class) if plain else None
    if law is None:
        return _convert_in_stages

    def convert_at_once(
        sums, variances, per_level, noise_variance, draws, adc, errors, stage, full_scale, gain, bias, key, tries,
        first_col, first, y, beyond,
    ):  # fmt: skip
        dtype, n = sums.dtype.type, sums.shape[1]
        level, noise = dtype(per_level), dtype(noise_variance)
        sigma, n_variances = np.sqrt(noise), variances.shape[0]
        z = np.empty(GROUP if draws.noise else 0, np.float32)
        one, other = z[: GROUP // 2], z[GROUP // 2 :]
        saturated = 0
        for t in range(sums.shape[0]):
            own, out, over, scale = row(sums, t), row(y, t), i32(0), full_scale[t]
            if draws.noise:
                fill_normals(key[0], key[1], u32(first_col // 2), tries[t], one, other)
            if first:
                for j in range(n):
                    out[j] = bias[j]
            if n_variances > 0:
                spread = row(variances, min(t, n_variances - 1))
                for j in range(n):
                    power = from_stored(variances, spread[j]) * (level * level) + noise
                    value, beyond_adc = law(adc, own[j] * level + np.sqrt(max(power, dtype(0))) * z[j])
                    out[j] += value * scale * gain[j]
                    over = i32(over + beyond_adc)  # stays 32 bit: vectorised
            elif draws.noise:
                for j in range(n):
                    value, beyond_adc = law(adc, own[j] * level + sigma * z[j])
                    out[j] += value * scale * gain[j]
                    over = i32(over + beyond_adc)
            else:
                for j in range(n):
                    value, beyond_adc = law(adc, own[j] * level)
                    out[j] += value * scale * gain[j]
                    over = i32(over + beyond_adc)
            if over > 0:
                beyond[t] = True  # threads with other columns of the vector write the same
            saturated += over
        return saturated

    return convert_at_once


def _convert_in_stages(
    sums, variances, per_level, noise_variance, draws, adc, errors, stage, full_scale, gain, bias, key, tries,
    first_col, first, y, beyond,
):  # fmt: skip
    dtype = sums.dtype.type
    level, noise = dtype(per_level), dtype(noise_variance)
    here = dtype(0) if draws.behind_stage else noise
    n = sums.shape[1]
    z = np.empty(GROUP if draws.noise else 0, np.float32)
    z_behind = np.empty(GROUP if draws.behind_stage else 0, np.float32)
    dither = np.empty(GROUP if draws.dither else 0, np.float32)
    v = np.empty(n, sums.dtype)
    saturated = 0
    for t in range(sums.shape[0]):
        _draw(draws, key, u32(first_col // 2), tries[t], z, z_behind, dither)
        for j in range(n):
            v[j] = sums[t, j] * level
        if variances.shape[0] > 0:
            own = min(t, variances.shape[0] - 1)
            for j in range(n):
                power = from_stored(variances, variances[own, j]) * (level * level) + here
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
            before = bias[j] if first else y[t, j]
            y[t, j] = before + v[j] * full_scale[t] * gain[j]
        if over > 0:
            beyond[t] = True
        saturated += over
    return saturated


@inner
def _draw(draws, key, lane, number, z, z_behind, dither):
    """Random numbers of a try for a group of columns."""
    half = GROUP // 2
    if draws.noise:
        fill_normals(key[0], key[1], lane, number, z[:half], z[half:])
    if draws.behind_stage:
        fill_normals(key[0], key[1], lane, u32(number | _BEHIND_STAGE), z_behind[:half], z_behind[half:])
    if draws.dither:
        fill_uniforms(key[0], key[1], lane, u32(number | _DITHER), dither[:half], dither[half:])
