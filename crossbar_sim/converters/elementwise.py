"""The laws of ADCs that treat every output alike, one value at a time: for `adc` and for loops that do more."""
# mypy: allow-untyped-defs, allow-incomplete-defs
# Numba compiles these from the types of the call.

from __future__ import annotations

import numpy as np
from numba import njit

from crossbar_sim.converters.states import AsymmetricAdc, CcoAdc, ExactReadout, MidriseAdc, UniformAdc
from crossbar_sim.kernels.random import i32


@njit(inline="always")
def _exact(adc, v):
    return v, i32(0)


@njit(inline="always")
def _uniform(adc, v):
    dtype = type(v)
    step, limit = dtype(adc.step), dtype(adc.levels)
    code = np.rint(v / step)
    return min(max(code, -limit), limit) * step, i32(1) if abs(code) > limit else i32(0)


@njit(inline="always")
def _asymmetric(adc, v):
    dtype = type(v)
    lower, top = dtype(adc.lower), dtype(adc.top)
    step, per_step = dtype((adc.upper - adc.lower) / adc.top), dtype(adc.top / (adc.upper - adc.lower))
    code = np.rint((v - lower) * per_step)
    held = min(max(code, dtype(0)), top)
    return held * step + lower, i32(1) if abs(code - held) > dtype(0) else i32(0)


@njit(inline="always")
def _midrise(adc, v):
    dtype = type(v)
    step, half = dtype(adc.step), dtype(adc.half)
    steps = v / step
    value = (min(max(np.floor(steps), -half), half - dtype(1)) + dtype(0.5)) * step
    return value, i32(1) if abs(steps) > half else i32(0)


@njit(inline="always")
def _cco(adc, v):
    dtype = type(v)
    step, per_step, limit, added = dtype(adc.step), dtype(1 / adc.step), dtype(adc.levels), dtype(adc.added)
    count = np.floor(abs(v) * per_step)
    held = min(count, limit)
    magnitude = (held + (added if held > dtype(0) else dtype(0))) * step
    return -magnitude if v < dtype(0) else magnitude, i32(1) if count > limit else i32(0)


ELEMENTWISE = {
    ExactReadout: _exact,
    UniformAdc: _uniform,
    AsymmetricAdc: _asymmetric,
    MidriseAdc: _midrise,
    CcoAdc: _cco,
}
"""State -> law (adc, v) -> (digital value, 1 where it is saturated)."""
