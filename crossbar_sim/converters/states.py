"""ADCs of a row of tiles as the kernels take them: a NamedTuple of scalars and arrays for each kind.

Arrays run over all columns of the row of tiles, and what is drawn belongs to the seed, layer, row tile and converter,
so neither threads nor the order or width of tiles change it. No state holds another one: a parallel kernel could not
take it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from crossbar_sim.converters.cdac import ramp_levels, sar_thresholds, split_sar_thresholds
from crossbar_sim.converters.draws import normals
from crossbar_sim.converters.laws import levels_of, table_transitions
from crossbar_sim.converters.static_errors import transition_levels
from crossbar_sim.spec.adc import (
    AbstractAdcSpec,
    AbstractStagedAdcSpec,
    AsymmetricAdcSpec,
    CcoAdcSpec,
    CyclicAdcSpec,
    MidriseAdcSpec,
    RampAdcSpec,
    SarAdcSpec,
    TabulatedAdcSpec,
    UniformAdcSpec,
)
from device_models.errors import UsageError


class ExactReadout(NamedTuple):
    """No ADC: outputs stay as they are, in devices fully driven at g_max."""

    step: float = 1.0


class UniformAdc(NamedTuple):
    """Rounds to the nearest level: code = clip(rint(v / step), -levels, levels)."""

    step: float
    levels: int


class StochasticAdc(NamedTuple):
    """Rounds at random, by the dither: code = clip(floor(v / step + dither), -levels, levels)."""

    step: float
    levels: int


class AsymmetricAdc(NamedTuple):
    """Rounds to the nearest of the levels lower + k (upper - lower) / top, k = 0 ... top."""

    lower: float
    upper: float
    top: int


class MidriseAdc(NamedTuple):
    """Rounds to the nearest of the levels (k + 1/2) step, k = -half ... half - 1."""

    step: float
    half: int


class CcoAdc(NamedTuple):
    """Counts whole periods; `added` is added to every count but 0, digitally."""

    step: float
    levels: int
    added: float


class DitheredCcoAdc(NamedTuple):
    """Counts whole periods from a random start phase, the dither."""

    step: float
    levels: int


class TabulatedAdc(NamedTuple):
    """2^bits transitions in steps for each table, one table after the other, of codes -levels to levels + 1: the first
    has no meaning, the last is infinite; `start` (n_cols,) of the column's table in them."""

    step: float
    levels: int
    bits: int
    thresholds: NDArray
    start: NDArray[np.uint32]


class RampAdc(NamedTuple):
    """2^bits sorted thresholds between the levels of each ramp, one ramp after the other, and the code of each level in
    that order; `start` (n_cols,) of the column's ramp in them, comparator offset (n_cols,)."""

    bound: float
    bits: int
    thresholds: NDArray
    codes: NDArray[np.uint32]
    start: NDArray[np.uint32]
    offset: NDArray


class SarAdc(NamedTuple):
    """2^bits thresholds of each converter, one converter after the other, that the binary search meets; `start`
    (n_cols,) of the column's converter in them, comparator offset (n_cols,)."""

    bound: float
    bits: int
    thresholds: NDArray
    start: NDArray[np.uint32]
    offset: NDArray


class StagedAdc(NamedTuple):
    """Pipeline or cyclic: thresholds, slope and jump (bits - 1, n_cols) of every stage, threshold `last` (n_cols,)."""

    bound: float
    upper: NDArray
    lower: NDArray
    slope: NDArray
    jump: NDArray
    last: NDArray


AdcState = (
    ExactReadout
    | UniformAdc
    | StochasticAdc
    | AsymmetricAdc
    | MidriseAdc
    | CcoAdc
    | DitheredCcoAdc
    | TabulatedAdc
    | RampAdc
    | SarAdc
    | StagedAdc
)


def uses_dither(adc: AdcState) -> bool:
    """Whether converting needs a uniform number for every output."""
    return isinstance(adc, StochasticAdc | DitheredCcoAdc)


class _RowTile(NamedTuple):
    """Whose converters: those of a seed, layer and row of tiles, for columns of a type."""

    seed: int
    layer: str
    row_tile: int
    n_cols: int
    dtype: DTypeLike

    def units(self, columns_each: int) -> NDArray[np.uint32]:
        """(n_cols,) number of the circuit at each column, where neighbours share one."""
        return (np.arange(self.n_cols) // columns_each).astype(np.uint32)

    def drawn(self, purpose: str, n_series: int, units: NDArray[np.uint32]) -> NDArray[np.float64]:
        """(n_series, number of circuits) standard normals."""
        n = int(units[-1]) + 1
        return normals(self.seed, self.layer, purpose, self.row_tile, n_series, n).astype(np.float64)


def adc_state(
    spec: AbstractAdcSpec, seed: int, layer: str, row_tile: int, n_cols: int, dtype: DTypeLike = np.float32
) -> AdcState:
    """The ADCs behind columns 0 ... n_cols - 1 of a row of tiles.

    Arguments  spec: any kind; (seed, layer, row_tile): whose chip, matrix and tiles; n_cols of the whole matrix;
               dtype of the column outputs that will be converted: float32 or float64
    """
    if n_cols < 1:
        raise UsageError(f"n_cols = {n_cols!r}: must be at least 1")
    if np.dtype(dtype) not in (np.float32, np.float64):
        raise UsageError(f"dtype = {np.dtype(dtype).name}: must be float32 or float64")
    row = _RowTile(seed, layer, row_tile, n_cols, dtype)
    levels = levels_of(spec.bits)
    step, _ = transition_levels(spec)
    match spec:
        case UniformAdcSpec(stochastic_rounding=True):
            return StochasticAdc(step, levels)
        case UniformAdcSpec():
            return UniformAdc(step, levels)
        case AsymmetricAdcSpec():
            return AsymmetricAdc(-spec.bound if spec.lower is None else spec.lower, spec.bound, 2 * levels + 1)
        case MidriseAdcSpec():
            return MidriseAdc(step, levels + 1)
        case CcoAdcSpec(correction="random_phase"):
            return DitheredCcoAdc(step, levels)
        case CcoAdcSpec():
            return CcoAdc(step, levels, 0.5 if spec.correction else 0.0)
        case TabulatedAdcSpec():
            return _tabulated(spec, row, step, levels)
        case RampAdcSpec():
            return _ramp(spec, row)
        case SarAdcSpec():
            return _sar(spec, row)
        case AbstractStagedAdcSpec():
            return _staged(spec, row)
    raise UsageError(f"adc: no law for {type(spec).__name__}")


def _tabulated(spec: TabulatedAdcSpec, row: _RowTile, step: float, levels: int) -> TabulatedAdc:
    table = row.units(spec.group_size) % np.uint32(len(spec.inl_lsb))
    places = [table_transitions(spec.bits, np.array(inl), row.dtype) for inl in spec.inl_lsb]
    return TabulatedAdc(
        step=step,
        levels=levels,
        bits=spec.bits,
        thresholds=np.pad(places, ((0, 0), (1, 1)), constant_values=np.inf).astype(row.dtype).ravel(),
        start=table * np.uint32(2**spec.bits),
    )


def _ramp(spec: RampAdcSpec, row: _RowTile) -> RampAdc:
    cdac, converter = row.units(spec.cdac_columns or row.n_cols), row.units(spec.group_size)
    z = row.drawn("adc_cap", spec.bits + 1, cdac).T
    levels = spec.bound * ramp_levels(spec.bits, spec.sigma_cap or 0.0, z, _gain(spec))
    codes = np.argsort(levels, axis=1, kind="stable")
    in_order = np.take_along_axis(levels, codes, axis=1)
    middle = ((in_order + np.roll(in_order, 1, axis=1)) / 2).astype(row.dtype)  # the first has no meaning
    # the search keeps a bit at `>=`, and of two levels equally near the lower one counts
    thresholds = np.nextafter(middle, np.array(np.inf, row.dtype))
    offset = _offsets(spec, row.drawn("adc_cmp", 1, converter))[0, converter]
    return RampAdc(
        bound=spec.bound,
        bits=spec.bits,
        thresholds=thresholds.ravel(),
        codes=codes.astype(np.uint32).ravel(),
        start=cdac * np.uint32(2**spec.bits),
        offset=offset.astype(row.dtype),
    )


def _sar(spec: SarAdcSpec, row: _RowTile) -> SarAdc:
    converter = row.units(spec.group_size)
    law = split_sar_thresholds if spec.split_cdac else sar_thresholds
    z = row.drawn("adc_cap", spec.bits + 1, converter).T
    thresholds = spec.bound * law(spec.bits, spec.sigma_cap or 0.0, z, _gain(spec))
    offset = _offsets(spec, row.drawn("adc_cmp", 1, converter))[0, converter]
    return SarAdc(
        bound=spec.bound,
        bits=spec.bits,
        thresholds=thresholds.astype(row.dtype).ravel(),
        start=converter * np.uint32(2**spec.bits),
        offset=offset.astype(row.dtype),
    )


def _staged(spec: AbstractStagedAdcSpec, row: _RowTile) -> StagedAdc:
    """Slope (1 + gamma) / (1 + 1 / (A beta)) and jump gamma R / (1 + 1 / (A beta)) of each stage, gamma = C2 / C1,
    beta = C1 / (C1 + C2 + C_par), with capacitors 1 + sigma z."""
    converter = row.units(spec.group_size)
    n_stages, repeat = (1, spec.bits - 1) if isinstance(spec, CyclicAdcSpec) else (spec.bits - 1, 1)
    c1, c2 = np.split(1 + (spec.sigma_cap or 0.0) * row.drawn("adc_cap", 2 * n_stages, converter), 2)
    offset = _offsets(spec, row.drawn("adc_cmp", 2 * n_stages + 1, converter))
    factor = 1 / (1 + (c1 + c2 + spec.parasitic_cap) / (c1 * _gain(spec)))

    def by_column(stages: NDArray[np.float64]) -> NDArray:
        return np.tile(stages[:, converter], (repeat, 1)).astype(row.dtype, order="C")  # a row must be contiguous

    return StagedAdc(
        bound=spec.bound,
        upper=by_column(spec.bound / 4 + offset[:n_stages]),
        lower=by_column(-spec.bound / 4 + offset[n_stages:-1]),
        slope=by_column((1 + c2 / c1) * factor),
        jump=by_column(c2 / c1 * spec.bound * factor),
        last=offset[-1, converter].astype(row.dtype),
    )


def _gain(spec: RampAdcSpec | SarAdcSpec | AbstractStagedAdcSpec) -> float:
    return np.inf if spec.gain_db is None else 10 ** (spec.gain_db / 20)


def _offsets(spec: RampAdcSpec | SarAdcSpec | AbstractStagedAdcSpec, z: NDArray[np.float64]) -> NDArray[np.float64]:
    return (spec.sigma_cmp or 0.0) * spec.bound * z
