"""The analog stage between the columns and the ADC: polarity of the column sum, sense node, compressing amplifier."""
# mypy: allow-untyped-defs, allow-incomplete-defs
# Numba compiles these from the types of the call.

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit, types
from numba.extending import overload
from numpy.typing import ArrayLike, DTypeLike, NDArray

from crossbar_sim.converters.draws import normals
from crossbar_sim.converters.laws import Floats, checked
from crossbar_sim.spec.output_stage import OutputStageSpec, SenseSpec, SShapeSpec
from device_models.errors import UsageError


class OutputStage(NamedTuple):
    """load: series resistance x g_max; offset (n_cols,) of the virtual ground relative to the read voltage; factor f
    and compression n (n_cols,), per unit of the bound's scale, of the amplifier; negative: factor on negative sums."""

    load: float
    offset: NDArray
    factor: float
    compression: NDArray
    negative: float = 1.0


def sense_node(y: ArrayLike, reference: float, load: float, offset: ArrayLike) -> Floats:
    """Column outputs behind a sense node with series resistance and an offset of its virtual ground.

    Equation   y' = (1 - o)(y + y_ref) / (1 + r |y + y_ref|) - (1 + o) y_ref / (1 + r |y_ref|)
    Arguments  y (n,) in fully driven devices at g_max; reference y_ref: output of the reference column, sum x_i where
               the tile has one and 0 for differential pairs; load r >= 0: resistance x g_max; offset o (n,) or one:
               relative to the read voltage
    Source     series resistance and voltage offset of the tiles of aihwkit (M. J. Rasch et al., AICAS 2021)
    """
    y = checked("y", y)
    whole = y + reference
    return (1 - np.asarray(offset)) * whole / (1 + load * abs(whole)) - (1 + np.asarray(offset)) * reference / (
        1 + load * abs(reference)
    )


def compress(y: ArrayLike, factor: float, compression: ArrayLike) -> Floats:
    """S-shaped amplifier.

    Equation   y' = f y / (1 + n |y|)
    Arguments  y (n,); factor f from `slope_factor`; compression n >= 0, (n,) or one, per unit of y
    Source     output non-linearity of the tiles of aihwkit (M. J. Rasch et al., AICAS 2021)
    """
    y = checked("y", y)
    return factor * y / (1 + np.asarray(compression) * abs(y))


def slope_factor(compression: Floats | float, at: float) -> float:
    """f = (1 + mean(n) at)^2: the common factor that makes the slope 1 at output `at` for the mean compression."""
    return float((1 + np.mean(compression) * at) ** 2)


def output_stage(
    spec: OutputStageSpec | None,
    bound: float,
    seed: int,
    layer: str,
    row_tile: int,
    n_cols: int,
    dtype: DTypeLike = np.float32,
    negative: float = 1.0,
) -> OutputStage | None:
    """The stages behind columns 0 ... n_cols - 1 of a row of tiles; `None` where there is nothing to do.

    Arguments  bound: full scale of the ADC behind it; (seed, layer, row_tile): whose chip, matrix and tiles;
               dtype of the column outputs: float32 or float64; negative: factor on negative column sums
    """
    if n_cols < 1:
        raise UsageError(f"n_cols = {n_cols!r}: must be at least 1")
    spec = spec or OutputStageSpec()
    if spec.sense is None and spec.s_shape is None and negative == 1:
        return None
    z_offset, z_compression = (
        normals(seed, layer, purpose, row_tile, 1, n_cols)[0].astype(np.float64)
        for purpose in ("sense_offset", "s_shape_compression")
    )
    load, offset = _sense(spec.sense, z_offset)
    factor, compression = _s_shape(spec.s_shape, bound, z_compression)
    return OutputStage(load, offset.astype(dtype), factor, compression.astype(dtype), negative)


def _sense(spec: SenseSpec | None, z: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
    return (0.0, 0 * z) if spec is None else (spec.load or 0.0, (spec.offset_sd or 0.0) * z)


def _s_shape(spec: SShapeSpec | None, bound: float, z: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
    if spec is None:
        return 1.0, 0 * z
    compression = np.maximum(spec.compression / bound * (1 + (spec.spread or 0.0) * z), 0)
    return 1.0 if spec.calibrated_at is None else slope_factor(compression, spec.calibrated_at * bound), compression


def shape_columns(stage: Any, v: Any, reference: Any, first_col: Any) -> None:
    """The factor on negative sums, `sense_node`, then `compress`, on outputs v (n,), in place. Only inside kernels.

    Arguments  stage: an OutputStage, or None, which costs nothing; v (n,) float32 or float64 in the units of the ADC's
               bound; reference: output of the reference column in the same units, 0 for differential pairs;
               first_col: the column of v[0] in the arrays of the state
    """
    raise TypeError("shape_columns works only inside compiled kernels")


@overload(shape_columns)
def _shape_columns(stage, v, reference, first_col):
    if isinstance(stage, types.NoneType):
        return lambda stage, v, reference, first_col: None

    def shape(stage, v, reference, first_col):
        dtype = v.dtype.type
        one, load, base, factor = dtype(1), dtype(stage.load), dtype(reference), dtype(stage.factor)
        negative = dtype(stage.negative)
        base_current = base / (one + load * abs(base))
        offset = stage.offset[first_col : first_col + v.shape[0]]
        compression = stage.compression[first_col : first_col + v.shape[0]]
        for j in range(v.shape[0]):
            whole = (v[j] if v[j] > dtype(0) else negative * v[j]) + base
            sensed = (one - offset[j]) * whole / (one + load * abs(whole)) - (one + offset[j]) * base_current
            v[j] = factor * sensed / (one + compression[j] * abs(sensed))

    return shape


def shape_rows(stage: OutputStage | None, v: NDArray, reference: NDArray, first_col: int = 0) -> None:
    """`shape_columns` for all rows of v (T, n), in place, outside of kernels; reference (T,)."""
    if v.ndim != 2 or v.dtype not in (np.float32, np.float64) or reference.shape != v.shape[:1]:
        raise UsageError(
            f"v, reference: are {v.dtype} of shapes {v.shape}, {reference.shape}; must be float32 or float64 of shapes "
            "(vectors, columns), (vectors,)"
        )
    _shape_rows(stage, v, reference, first_col)


@njit(cache=True)
def _shape_rows(stage, v, reference, first_col):
    for t in range(v.shape[0]):
        shape_columns(stage, v[t], reference[t], first_col)
