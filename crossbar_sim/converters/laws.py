"""Converter laws on NumPy arrays, slow and readable. The kernels are held against these."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from device_models.errors import UsageError

Floats = NDArray[np.floating]


def levels_of(bits: int) -> int:
    """L = 2^(bits-1) - 1: the largest code of a converter of `bits` bits including sign (2 to 16)."""
    if not 2 <= bits <= 16:
        raise UsageError(f"bits = {bits!r}: must be 2 to 16")
    return int(2 ** (bits - 1) - 1)


def checked(name: str, values: ArrayLike) -> Floats:
    """`values` as an array of floats; refuses NaN."""
    array: Floats = np.asarray(values)
    array = array if np.issubdtype(array.dtype, np.floating) else array.astype(np.float64)
    if np.isnan(array).any():
        raise UsageError(f"{name}: has {np.isnan(array).sum()} NaN of {array.size} values; must be numbers")
    return array


def _full_scale(value: float) -> float:
    if not (np.isfinite(value) and value > 0):
        raise UsageError(f"full scale = {value!r}: must be a finite number above 0")
    return value


def _stochastic(q: Floats, u: ArrayLike) -> Floats:
    return np.floor(q + np.broadcast_to(u, q.shape))


def quantise_symmetric(x: ArrayLike, full_scale: float, bits: int, u: ArrayLike | None = None) -> Floats:
    """Uniform symmetric quantiser: 2L + 1 levels including zero.

    Equation   step = R / L; code = clip(rint(x / step), -L, L), half to even; y = code step;
               with u: code = clip(floor(x / step + u), -L, L)
    Arguments  x any shape; full_scale R > 0 in units of x; bits 2 to 16; u uniforms in [0, 1) of the shape of x:
               stochastic rounding, of mean x and variance f (1 - f) step^2 inside the range, f the fraction of x / step
    Source     uniform symmetric quantiser, e.g. M. J. Rasch et al. (2023), DOI 10.1038/s41467-023-40770-4
    """
    x, limit = checked("x", x), levels_of(bits)
    step = x.dtype.type(_full_scale(full_scale) / limit)
    q = x / step
    return np.clip(np.rint(q) if u is None else _stochastic(q, u), -limit, limit) * step


def quantise_asymmetric(x: ArrayLike, lower: float, upper: float, bits: int) -> Floats:
    """2^bits levels from `lower` to `upper`, both included; 0 is not a level of a symmetric range.

    Equation   y = lower + rint((clip(x, lower, upper) - lower) (2^b - 1) / (upper - lower)) (upper - lower) / (2^b - 1)
    Arguments  x any shape; lower < upper in units of x; bits 2 to 16
    Source     form of the quantiser ADC of CrossSim 3.2.0
    """
    x, top = checked("x", x), 2 * levels_of(bits) + 1
    if not lower < upper:
        raise UsageError(f"lower = {lower!r}: must be below upper = {upper!r}")
    real = x.dtype.type
    codes = np.rint((np.clip(x, real(lower), real(upper)) - real(lower)) * real(top / (upper - lower)))
    return codes * real((upper - lower) / top) + real(lower)


def quantise_midrise(x: ArrayLike, full_scale: float, bits: int) -> Floats:
    """2^bits levels, none of them zero: V_k = R (2k - (2^b - 1)) / 2^b; 0 goes to the level above it.

    Equation   step = R / 2^(b-1); y = (clip(floor(x / step), -2^(b-1), 2^(b-1) - 1) + 1/2) step
    Arguments  x any shape; full_scale R > 0 in units of x; bits 2 to 16
    Source     M. Spear et al., IEEE JXCDC 2023
    """
    x, half = checked("x", x), levels_of(bits) + 1
    step = x.dtype.type(_full_scale(full_scale) / half)
    return (np.clip(np.floor(x / step), -half, half - 1) + x.dtype.type(0.5)) * step


def count_periods(
    x: ArrayLike, full_scale: float, bits: int, half_lsb: bool = False, phase: ArrayLike | None = None
) -> Floats:
    """Oscillator ADC: whole periods, so truncation toward zero.

    Equation   count = min(floor(|x| / step + phase), L), step = R / L; y = sign(x) count step;
               with half_lsb: y = sign(x) (count + 1/2) step where count > 0
    Arguments  x any shape; full_scale R > 0 in units of x; bits 2 to 16; phase uniforms in [0, 1): a random start of
               the oscillator, which makes the mean of y equal to x
    Source     R. Khaddam-Aljameh et al., IEEE JSSC 57 (2022) (HERMES core with CCO ADC)
    """
    x, limit = checked("x", x), levels_of(bits)
    step = _full_scale(full_scale) / limit
    magnitude = np.abs(x) * x.dtype.type(1 / step)
    count = np.minimum(np.floor(magnitude) if phase is None else _stochastic(magnitude, phase), limit)
    if half_lsb:
        count = count + np.where(count > 0, x.dtype.type(0.5), x.dtype.type(0))
    return np.copysign(count * x.dtype.type(step), x)


def quantise_tabulated(x: ArrayLike, full_scale: float, bits: int, inl_lsb: ArrayLike) -> Floats:
    """Uniform levels behind transitions that lie beside their ideal places, as they were measured.

    Equation   step = R / L; y = step max{k : x / step >= k - 1/2 + inl_k}, -L where no code is reached; transitions at
               their ideal places take a value exactly between two codes to the even one, as `quantise_symmetric` does
    Arguments  x (n,); full_scale R > 0 in units of x; bits 2 to 16; inl_lsb (2L,) of codes -L + 1 to L in steps
    Source     definition of integral non-linearity: IEEE Std 1241, on the line through the ideal transitions
    """
    x, limit = checked("x", x), levels_of(bits)
    step = x.dtype.type(_full_scale(full_scale) / limit)
    transitions = table_transitions(bits, checked("inl_lsb", inl_lsb), x.dtype)
    return (np.searchsorted(transitions, x / step, side="right") - limit).astype(x.dtype) * step


def table_transitions(bits: int, inl_lsb: Floats, dtype: DTypeLike) -> Floats:
    """(2L,) inputs in steps, of type dtype, from which on codes -L + 1 ... L are given: k - 1/2 + inl_lsb."""
    limit = levels_of(bits)
    code = np.arange(1 - limit, limit + 1)
    places: Floats = (code - 0.5 + inl_lsb).astype(dtype)
    # half to even: an odd code is reached just above its transition, but never after the next one
    reached = np.where(code % 2 == 1, np.nextafter(places, np.array(np.inf, dtype)), places)
    return np.minimum.accumulate(reached[::-1])[::-1]


def nearest_level(x: ArrayLike, full_scale: float, levels: ArrayLike, offset: Floats | float = 0.0) -> Floats:
    """Ramp ADC: the code whose real level is nearest, read out as the ideal level of that code.

    Equation   k = argmin_k |V_k - x - o|; y = R (2k - (2^b - 1)) / 2^b
    Arguments  x (n,); full_scale R; levels (2^b,) V_k from `cdac.ramp_levels` in units of x; offset (n,) or one
    Source     M. Spear et al., IEEE JXCDC 2023
    """
    x, levels = checked("x", x), checked("levels", levels)
    held = np.clip(x, -full_scale, full_scale)
    k = np.argmin(np.abs(levels[:, None] - (held + offset)), axis=0)
    return (2.0 * k - (len(levels) - 1)) * (_full_scale(full_scale) / len(levels))


def successive_approximation(
    x: ArrayLike, full_scale: float, thresholds: ArrayLike, offset: Floats | float = 0.0
) -> Floats:
    """SAR ADC: binary search, from the highest bit, against the thresholds of a capacitive DAC.

    Equation   bit i is kept if x + o >= V[code + 2^i]; y = R (2 code - (2^b - 1)) / 2^b
    Arguments  x (n,); full_scale R; thresholds (2^b,) from `cdac.sar_thresholds` in units of x, the first is not used;
               offset (n,) or one
    Source     M. Spear et al., IEEE JXCDC 2023
    """
    x, thresholds = checked("x", x), checked("thresholds", thresholds)
    held = np.clip(x, -full_scale, full_scale) + offset
    code = np.zeros(x.shape, np.int64)
    bit = len(thresholds) // 2
    while bit:
        code += bit * (held >= thresholds[code + bit])
        bit //= 2
    return (2.0 * code - (len(thresholds) - 1)) * (_full_scale(full_scale) / len(thresholds))


def staged(
    x: ArrayLike, full_scale: float, upper: Floats, lower: Floats, slope: Floats, jump: Floats, last: Floats
) -> Floats:
    """Pipeline or cyclic ADC: stages of 1.5 bit that amplify what is left, then one comparator.

    Equation   stage n: d_n = [V > lower] + [V > upper], V <- slope V + (1 - d_n) jump;
               code = sum_n d_n 2^(b-2-n) + [V > last]; y = R (2 code - (2^b - 1)) / 2^b
    Arguments  x (n,); upper, lower, slope, jump (b - 1, n) of each stage and column, ideally R/4, -R/4, 2, R;
               last (n,), ideally 0
    Source     M. Spear et al., IEEE JXCDC 2023
    """
    rest = np.clip(checked("x", x), -full_scale, full_scale)
    code = np.zeros(rest.shape)
    for n in range(len(upper)):
        digit = (rest > lower[n]).astype(rest.dtype) + (rest > upper[n])
        code = 2 * code + digit
        rest = slope[n] * rest + (1 - digit) * jump[n]
    code = code + (rest > last)
    top = 2 ** (len(upper) + 1) - 1
    return (2 * code - top) * (_full_scale(full_scale) / (top + 1))
