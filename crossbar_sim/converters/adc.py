"""Analog-to-digital conversion of a run of columns, compiled for each kind of ADC by itself."""
# mypy: allow-untyped-defs, allow-incomplete-defs
# Numba compiles these from the types of the call.

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import overload

from crossbar_sim.converters.elementwise import ELEMENTWISE
from crossbar_sim.converters.states import (
    AdcState,
    DitheredCcoAdc,
    RampAdc,
    SarAdc,
    StagedAdc,
    StochasticAdc,
    TabulatedAdc,
    uses_dither,
)
from crossbar_sim.converters.static_errors import StaticErrors, distort_columns
from crossbar_sim.kernels.random import i32, u32
from device_models.errors import UsageError


def convert_columns(adc: Any, v: Any, dither: Any, first_col: Any) -> Any:
    """Digital values of column outputs, in place. Only inside kernels; `convert` is for everything else.

    Equation   the law of the kind (`converters.laws`) (its static errors come before: `static_errors.distort_columns`)
    Arguments  adc: a state of `converters.states`; v (n,) float32 or float64 in the units of the bound, becomes the
               digital value in the same units; dither (n,) uniforms in [0, 1), not looked at (and may be empty) unless
               `uses_dither(adc)`; first_col: the column of v[0] in the arrays of the state
    Returns    number of saturated outputs; NaN stays NaN and does not count
    """
    raise TypeError("convert_columns works only inside compiled kernels")


def convert(
    adc: AdcState,
    v: np.ndarray,
    dither: np.ndarray | None = None,
    first_col: int = 0,
    errors: StaticErrors | None = None,
) -> int:
    """`distort_columns` and `convert_columns` for all rows of v (T, n), in place, outside of kernels; dither (T, n)."""
    if v.ndim != 2 or v.dtype not in (np.float32, np.float64):
        raise UsageError(f"v: is {v.dtype} of shape {v.shape}; must be float32 or float64, vectors x columns")
    for array in (*adc, *(errors or ())):
        if isinstance(array, np.ndarray) and array.dtype.kind == "f" and array.dtype != v.dtype:
            raise UsageError(f"v: is {v.dtype}; the ADC was made for {array.dtype}")
    if uses_dither(adc) and (dither is None or dither.shape != v.shape):
        raise UsageError(f"dither: {type(adc).__name__} needs uniforms of shape {v.shape}")
    return int(_convert_rows(adc, errors, v, v[:, :0] if dither is None else dither, first_col))


@njit(cache=True)
def _convert_rows(adc, errors, v, dither, first_col):
    saturated = 0
    for t in range(v.shape[0]):
        distort_columns(errors, v[t], first_col)
        saturated += convert_columns(adc, v[t], dither[t], first_col)
    return saturated


def _one_by_one(law):
    """A kernel that applies a law of single values to each output."""

    def convert_each(adc, v, dither, first_col):
        over = i32(0)
        for j in range(v.shape[0]):
            value, beyond = law(adc, v[j])
            v[j] = value
            over = i32(over + beyond)  # stays 32 bit: vectorised
        return over

    return convert_each


def _stochastic(adc, v, dither, first_col):
    dtype = v.dtype.type
    step, limit = dtype(adc.step), dtype(adc.levels)
    over = i32(0)
    for j in range(v.shape[0]):
        code = np.floor(v[j] / step + dtype(dither[j]))
        over = i32(over + (i32(1) if abs(code) > limit else i32(0)))
        v[j] = min(max(code, -limit), limit) * step
    return over


def _dithered_cco(adc, v, dither, first_col):
    dtype = v.dtype.type
    step, per_step, limit = dtype(adc.step), dtype(1 / adc.step), dtype(adc.levels)
    over = i32(0)
    for j in range(v.shape[0]):
        count = np.floor(abs(v[j]) * per_step + dtype(dither[j]))
        over = i32(over + (i32(1) if count > limit else i32(0)))
        magnitude = min(count, limit) * step
        v[j] = -magnitude if v[j] < dtype(0) else magnitude
    return over


def _tabulated(adc, v, dither, first_col):
    dtype = v.dtype.type
    n = v.shape[0]
    step, limit = dtype(adc.step), dtype(adc.levels)
    far = limit + dtype(1)
    start = adc.start[first_col : first_col + n]
    x = np.empty(n, v.dtype)
    over = i32(0)
    for j in range(n):
        steps = v[j] / step
        over = i32(over + (i32(1) if abs(np.rint(steps)) > limit else i32(0)))
        x[j] = min(max(steps, -far), far)
    found = _search(adc.thresholds, start, x, adc.bits)
    for j in range(n):
        code = i32(found[j] - start[j]) - i32(adc.levels)
        v[j] = dtype(code) * step + dtype(0) * x[j]  # the last term is NaN where the input was
    return over


def _ramp(adc, v, dither, first_col):
    found, over = _search_circuit(adc, v, first_col)
    top, half_step = (1 << adc.bits) - 1, v.dtype.type(adc.bound / 2.0**adc.bits)
    for j in range(v.shape[0]):
        v[j] = _midrise_level(adc.codes[found[j]], top, half_step, v[j])
    return over


def _sar(adc, v, dither, first_col):
    found, over = _search_circuit(adc, v, first_col)
    start = adc.start[first_col : first_col + v.shape[0]]
    top, half_step = (1 << adc.bits) - 1, v.dtype.type(adc.bound / 2.0**adc.bits)
    for j in range(v.shape[0]):
        v[j] = _midrise_level(u32(found[j] - start[j]), top, half_step, v[j])
    return over


@njit
def _search(thresholds, start, x, bits):
    """Binary search from the highest bit, a bit for all columns at a time: kept where x reaches the threshold.

    Returns the places of the last thresholds reached, in the 2^bits from `start` of each column on.
    """
    found = start.copy()
    bit = u32(u32(1) << u32(bits - 1))
    for _ in range(bits):
        for j in range(x.shape[0]):
            found[j] = u32(found[j] + (bit if x[j] >= thresholds[u32(found[j] + bit)] else u32(0)))
        bit = u32(bit >> u32(1))
    return found


@njit
def _search_circuit(adc, v, first_col):
    """`_search` for v + offset, v held to the bound in place; also the number of saturated outputs."""
    n = v.shape[0]
    bound = v.dtype.type(adc.bound)
    offset = adc.offset[first_col : first_col + n]
    x = np.empty(n, v.dtype)
    over = i32(0)
    for j in range(n):
        over = i32(over + (i32(1) if abs(v[j]) > bound else i32(0)))
        v[j] = min(max(v[j], -bound), bound)
        x[j] = v[j] + offset[j]
    return _search(adc.thresholds, adc.start[first_col : first_col + n], x, adc.bits), over


@njit(inline="always")
def _midrise_level(code, top, half_step, held):
    dtype = type(held)
    return (
        dtype(i32(2) * i32(code) - i32(top)) * half_step + dtype(0) * held
    )  # the last term is NaN where the input was


def _staged(adc, v, dither, first_col):
    dtype = v.dtype.type
    n = v.shape[0]
    bound = dtype(adc.bound)
    stages = adc.upper.shape[0]
    code = np.zeros(n, v.dtype)
    over = i32(0)
    for j in range(n):
        over = i32(over + (i32(1) if abs(v[j]) > bound else i32(0)))
        v[j] = min(max(v[j], -bound), bound)
    stop = first_col + n
    for s in range(stages):
        # a row, then a part of it: known to be contiguous, so vectorised
        upper, lower = adc.upper[s][first_col:stop], adc.lower[s][first_col:stop]
        slope, jump = adc.slope[s][first_col:stop], adc.jump[s][first_col:stop]
        for j in range(n):
            digit = (dtype(1) if v[j] > lower[j] else dtype(0)) + (dtype(1) if v[j] > upper[j] else dtype(0))
            code[j] = dtype(2) * code[j] + digit
            v[j] = slope[j] * v[j] + (dtype(1) - digit) * jump[j]
    last = adc.last[first_col:stop]
    top, half_step = (2 << stages) - 1, dtype(adc.bound / 2.0 ** (stages + 1))
    for j in range(n):
        total = i32(code[j] + (dtype(1) if v[j] > last[j] else dtype(0)))
        v[j] = _midrise_level(total, top, half_step, v[j])
    return over


_KERNELS = {
    **{state: _one_by_one(law) for state, law in ELEMENTWISE.items()},
    StochasticAdc: _stochastic,
    DitheredCcoAdc: _dithered_cco,
    TabulatedAdc: _tabulated,
    RampAdc: _ramp,
    SarAdc: _sar,
    StagedAdc: _staged,
}


@overload(convert_columns)
def _convert_columns(adc, v, dither, first_col):
    return _KERNELS.get(adc.instance_class) if isinstance(adc, types.BaseTuple) else None
