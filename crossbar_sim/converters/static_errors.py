"""Errors that stay with a converter: gain, offset, cubic non-linearity and misplaced transition levels.

They distort the column output ahead of an ideal quantiser, so every kind of ADC can have them.
"""
# mypy: allow-untyped-defs, allow-incomplete-defs
# Numba compiles these from the types of the call.

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit, types
from numba.extending import overload
from numpy.typing import DTypeLike, NDArray

from crossbar_sim.converters.draws import normals
from crossbar_sim.converters.laws import levels_of
from crossbar_sim.kernels.random import f32, i32, normal_pair, random_key, threefry, u32
from crossbar_sim.spec.adc import AbstractAdcSpec, AsymmetricAdcSpec, CcoAdcSpec, TabulatedAdcSpec, UniformAdcSpec

_FARTHEST = 0.499
"""A transition stays this near to its place, in steps, so that it never passes another."""


class StaticErrors(NamedTuple):
    """Errors of the converters of a row of tiles.

    gain (n_cols,): 1 + relative error; offset (n_cols,) in units of the bound; cubic: error of the cubic at the bound,
    relative to it. Transition levels of the quantiser, ideally at origin + k step, are displaced with s.d. sd_lsb; the
    normal of level k of a converter is a function of the key, converter (n_cols,) and k.
    """

    gain: NDArray
    offset: NDArray
    cubic: float
    bound: float
    sd_lsb: float
    step: float
    origin: float
    key0: np.uint32
    key1: np.uint32
    converter: NDArray[np.uint32]


def transition_levels(spec: AbstractAdcSpec) -> tuple[float, float]:
    """(step, origin): the transitions of the ideal quantiser lie at origin + k step, in units of the bound."""
    levels = levels_of(spec.bits)
    match spec:
        case UniformAdcSpec() | TabulatedAdcSpec():
            step = spec.bound / levels
            return step, step / 2
        case AsymmetricAdcSpec():
            lower = -spec.bound if spec.lower is None else spec.lower
            step = (spec.bound - lower) / (2 * levels + 1)
            return step, lower + step / 2
        case CcoAdcSpec():
            return spec.bound / levels, 0.0
        case _:
            return spec.bound / (levels + 1), 0.0


def static_errors(
    spec: AbstractAdcSpec, seed: int, layer: str, row_tile: int, n_cols: int, dtype: DTypeLike = np.float32
) -> StaticErrors | None:
    """The errors of the converters behind columns 0 ... n_cols - 1 of a row of tiles; `None` where there are none.

    Arguments as of `states.adc_state`.
    """
    if spec.gain_sd is None and spec.offset_sd_lsb is None and spec.inl_cubic is None and spec.dnl_lsb is None:
        return None
    converter = (np.arange(n_cols) // spec.group_size).astype(np.uint32)
    step, origin = transition_levels(spec)
    z_gain, z_offset = (
        normals(seed, layer, purpose, row_tile, 1, int(converter[-1]) + 1)[0, converter].astype(np.float64)
        for purpose in ("adc_gain", "adc_offset")
    )
    key0, key1 = random_key(seed, layer, "adc_transitions", row_tile)
    return StaticErrors(
        gain=(1 + (spec.gain_sd or 0.0) * z_gain).astype(dtype),
        offset=((spec.offset_sd_lsb or 0.0) * step * z_offset).astype(dtype),
        cubic=spec.inl_cubic or 0.0,
        bound=spec.bound,
        sd_lsb=spec.dnl_lsb or 0.0,
        step=step,
        origin=origin,
        key0=key0,
        key1=key1,
        converter=converter,
    )


def distort_columns(errors: Any, v: Any, first_col: Any) -> None:
    """Apply the static errors to column outputs v (n,) from column first_col on, in place. Only inside kernels.

    Equation   v <- gain_j v + offset_j + cubic (clip(v, -R, R) / R)^3 R, then v <- v - step d, where
               d = sd z, limited to 0.499, of the transition level k nearest to v; that lies at origin + (k + d) step
    """
    raise TypeError("distort_columns works only inside compiled kernels")


@overload(distort_columns)
def _distort_columns(errors, v, first_col):
    if isinstance(errors, types.NoneType):
        return lambda errors, v, first_col: None

    def distort(errors, v, first_col):
        dtype = v.dtype.type
        bound = dtype(errors.bound)
        cubic = dtype(errors.cubic / (errors.bound * errors.bound))
        gain = errors.gain[first_col : first_col + v.shape[0]]
        offset = errors.offset[first_col : first_col + v.shape[0]]
        for j in range(v.shape[0]):
            held = min(max(v[j], -bound), bound)
            v[j] = gain[j] * v[j] + offset[j] + cubic * (held * held * held)
        if errors.sd_lsb > 0.0:
            _displace_transitions(errors, v, first_col)

    return distort


@njit
def _displace_transitions(errors, v, first_col):
    dtype = v.dtype.type
    step, origin, sd = dtype(errors.step), dtype(errors.origin), f32(errors.sd_lsb)
    far, half = f32(_FARTHEST), dtype(0.5)
    most = dtype(65536)  # beyond every transition; the number must fit an integer
    converter = errors.converter[first_col : first_col + v.shape[0]]
    for j in range(v.shape[0]):
        nearest = np.floor((v[j] - origin) / step + half)
        k = u32(i32(min(max(nearest, -most), most)))
        bits0, bits1 = threefry(errors.key0, errors.key1, converter[j], k)
        z, _ = normal_pair(bits0, bits1)
        v[j] -= step * dtype(min(max(sd * z, -far), far))
