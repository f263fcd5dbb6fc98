"""The ADC kernels once more: the readable laws applied to a state. Tests hold the kernels against these."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from crossbar_sim.converters import laws
from crossbar_sim.converters.states import (
    AdcState,
    AsymmetricAdc,
    CcoAdc,
    DitheredCcoAdc,
    ExactReadout,
    MidriseAdc,
    SarAdc,
    StagedAdc,
    StochasticAdc,
    TabulatedAdc,
    UniformAdc,
)
from crossbar_sim.converters.static_errors import StaticErrors
from crossbar_sim.kernels.reference import normals

Floats = NDArray[np.floating]


def convert(adc: AdcState, v: Floats, dither: Floats | None = None, first_col: int = 0) -> Floats:
    """Digital values of column outputs v (n,) from column first_col on."""
    cols = slice(first_col, first_col + len(v))
    match adc:
        case UniformAdc() | StochasticAdc():
            return laws.quantise_symmetric(v, adc.step * adc.levels, _bits(adc.levels), dither)
        case AsymmetricAdc():
            return laws.quantise_asymmetric(v, adc.lower, adc.upper, _bits(adc.top // 2))
        case MidriseAdc():
            return laws.quantise_midrise(v, adc.step * adc.half, _bits(adc.half - 1))
        case CcoAdc():
            return laws.count_periods(v, adc.step * adc.levels, _bits(adc.levels), half_lsb=adc.added > 0)
        case DitheredCcoAdc():
            return laws.count_periods(v, adc.step * adc.levels, _bits(adc.levels), phase=dither)
        case StagedAdc():
            upper, lower, slope, jump = (table[:, cols] for table in (adc.upper, adc.lower, adc.slope, adc.jump))
            return laws.staged(v, adc.bound, upper, lower, slope, jump, adc.last[cols])
        case ExactReadout():
            return v
    size = 2**adc.bits
    if isinstance(adc, TabulatedAdc):
        codes = [
            (x / v.dtype.type(adc.step) >= adc.thresholds[start + 1 : start + size]).sum() - adc.levels
            for x, start in zip(v, adc.start[cols], strict=True)
        ]
        return np.array(codes, v.dtype) * v.dtype.type(adc.step)
    y = np.empty_like(v)
    for j, (start, offset) in enumerate(zip(adc.start[cols], adc.offset[cols], strict=True)):
        thresholds = adc.thresholds[start : start + size]
        if isinstance(adc, SarAdc):
            y[j] = laws.successive_approximation(v[j : j + 1], adc.bound, thresholds, offset)[0]
        else:
            reached = (np.clip(v[j], -adc.bound, adc.bound) + offset >= thresholds[1:]).sum()
            y[j] = (2.0 * adc.codes[start + reached] - (size - 1)) * (adc.bound / size)
    return y


def distort(errors: StaticErrors, v: Floats, first_col: int = 0) -> Floats:
    """`static_errors.distort_columns` on v (n,), not in place."""
    cols = slice(first_col, first_col + len(v))
    held = np.clip(v / errors.bound, -1, 1)
    v = errors.gain[cols] * v + errors.offset[cols] + errors.cubic * held**3 * errors.bound
    nearest = np.floor((v - errors.origin) / errors.step + 0.5).astype(np.int64).astype(np.uint32)
    z, _ = normals((int(errors.key0), int(errors.key1)), errors.converter[cols], nearest)
    return v - errors.step * np.clip(errors.sd_lsb * z, -0.499, 0.499)


def _bits(levels: int) -> int:
    return int(levels + 1).bit_length()
