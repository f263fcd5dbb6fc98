"""Kinds of ADC at the columns of a tile, told apart by `kind`; the laws are in `crossbar_sim.converters`."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from device_models.errors import UsageError
from device_models.strict import Bits, Count, KindOf, NonNegative, Number, Positive, StrictModel
from device_models.tabulated_csv import read_columns

CIRCUIT_SOURCE = "circuit form: M. Spear et al., IEEE JXCDC 2023; magnitudes are the user's"

UnitSpread = Annotated[float, Field(strict=True, gt=0, le=0.2)]
StageSpread = Annotated[float, Field(strict=True, gt=0, le=0.1)]
"""Relative spreads so small that no capacitor another is divided by comes out negative, whatever is drawn."""


class IterativeBoundManagement(StrictModel):
    """Vectors whose outputs saturate are read again with half their inputs, until none does.

    Where an output of a row of tiles saturates, the range R of the vector there becomes 2 R, its codes are taken anew
    and all columns of the row, which share the DAC, are read and converted once more, with noise of their own; the
    last read counts. Saturated is what the ADC counts as such. Reads of the chip about itself (compensation, gradient
    descent) are not repeated.
    """

    kind: Literal["iterative"] = "iterative"
    max_halvings: Annotated[int, Field(strict=True, ge=1, le=15)] = Field(
        5, description="Most repeats of a vector: 5 leave 1/32 of its inputs. What saturates then stays so"
    )

    @classmethod
    def path_root(cls) -> str:
        return "bound_management"


def _managements() -> Mapping[str, type[StrictModel]]:
    return {"iterative": IterativeBoundManagement}


BoundManagement = Annotated[IterativeBoundManagement, KindOf(_managements, default="iterative")]


class AbstractAdcSpec(StrictModel):
    """What every kind has: resolution, full scale, noise ahead of it, and errors that stay with the converter.

    With R the bound, LSB the step of the kind and z standard normals of one converter, a column output v arrives at
    the quantiser as (1 + gain_sd z1) v + offset_sd_lsb z2 LSB + inl_cubic (v/R)^3 R, with v/R held to [-1, 1] in the
    cubic, and transition k of the quantiser lies dnl_lsb z_k LSB from its place.
    """

    bits: Bits = Field(8, description="Resolution including sign")
    bound: Positive = Field(
        10.0, description="Full scale in fully driven devices at g_max (input range x w_max); more saturates"
    )
    output_noise: Positive | None = Field(
        None, description="S.d. of Gaussian noise ahead of the converter, per read, in the units of the bound"
    )
    group_size: Count = Field(1, description="Neighbouring columns that share one converter and so its errors")
    gain_sd: Positive | None = Field(None, description="S.d. of the relative gain error, per converter")
    offset_sd_lsb: Positive | None = Field(None, description="S.d. of the offset in steps of the ADC, per converter")
    inl_cubic: Number | None = Field(
        None, description="Integral non-linearity: error at the bound of a cubic, relative to the bound"
    )
    dnl_lsb: Annotated[float, Field(strict=True, gt=0, le=0.25)] | None = Field(
        None, description="S.d. of each transition level in steps, per converter; it stays within half a step"
    )
    bound_management: BoundManagement | None = Field(
        None, description="Reading vectors that saturate again; none: saturated outputs are what they are"
    )

    @classmethod
    def path_root(cls) -> str:
        return "adc"


class UniformAdcSpec(AbstractAdcSpec):
    """Uniform symmetric quantiser: 2^bits - 1 levels with zero among them, saturating at the bound."""

    kind: Literal["uniform"] = "uniform"
    stochastic_rounding: bool = Field(False, strict=True, description="Round up with the probability of the fraction")


class AsymmetricAdcSpec(AbstractAdcSpec):
    """2^bits levels from `lower` to the bound, both ends included; zero is not a level where the range is symmetric."""

    kind: Literal["asymmetric"] = "asymmetric"
    lower: Number | None = Field(None, description="Lowest level in the units of the bound; none is minus the bound")

    @model_validator(mode="after")
    def _range(self) -> Self:
        if self.lower is not None and self.lower >= self.bound:
            raise ValueError(f"lower = {self.lower:g} must be below bound = {self.bound:g}")
        if self.lower is not None and self.lower >= 0 and self.bound_management is not None:
            raise ValueError(
                f"lower = {self.lower:g}: outputs below it stay there when inputs are halved; bound_management needs a "
                "lower below 0"
            )
        return self


class MidriseAdcSpec(AbstractAdcSpec):
    """2^bits levels half a step off zero on both sides, the outermost half a step inside the bound."""

    kind: Literal["midrise"] = "midrise"


class CcoAdcSpec(AbstractAdcSpec):
    """Current-controlled oscillator: counts whole periods, so it truncates toward zero."""

    kind: Literal["cco"] = "cco"
    correction: Literal["half_lsb", "random_phase"] | None = Field(
        None,
        description="half_lsb adds half a step to each count but zero, digitally; random_phase starts the oscillator "
        "at random; none leaves the bias of minus half a step",
    )


class TabulatedAdcSpec(AbstractAdcSpec):
    """Levels of the uniform kind behind measured transitions: code k is reached at (k - 1/2 + inl_lsb) R / L.

    Converter n of a row of tiles (`group_size` columns each) has table n modulo their number. The tables are all of its
    deterministic errors but for a gain, an offset and a cubic, which add ahead of it.
    """

    kind: Literal["tabulated"] = "tabulated"
    inl_lsb: tuple[tuple[Number, ...], ...] = Field(
        description="Distance of each transition from its ideal place in steps, positive where a code comes late, for "
        "codes -L + 1 to L, L = 2^(bits-1) - 1; one table or more. Equal transitions are missing codes",
    )

    @model_validator(mode="after")
    def _rising(self) -> Self:
        limit = 2 ** (self.bits - 1) - 1
        if not self.inl_lsb:
            raise ValueError("inl_lsb must hold at least one table")
        if self.dnl_lsb is not None:
            raise ValueError(f"dnl_lsb = {self.dnl_lsb:g}: cannot act beside inl_lsb, which places every transition")
        for number, table in enumerate(self.inl_lsb):
            if len(table) != 2 * limit:
                raise ValueError(
                    f"inl_lsb[{number}] has {len(table)} values: must be 2^bits - 2 = {2 * limit}, one for each "
                    f"transition of bits = {self.bits}"
                )
            for code, (before, after) in enumerate(pairwise(table), start=2 - limit):
                if after < before - 1 - 1e-9:  # as far as decimals are rounded
                    raise ValueError(
                        f"inl_lsb[{number}]: code {code} would be reached below code {code - 1}; transitions must rise"
                    )
        return self

    @classmethod
    def from_csv(cls, path: str | Path, **fields: Any) -> Self:
        """The tables of a CSV file: a column `code`, -L + 1 to L in any order, and a column for each table, in steps.

        Arguments  fields: the other fields, as `bits` and `bound`
        Errors     StoreError: no such file; UsageError: codes that are not whole or not all there, no column but `code`
        """
        columns = read_columns(path, required=("code",))
        codes = columns.pop("code")
        limit = len(codes) // 2
        if sorted(codes) != list(range(1 - limit, limit + 1)):
            raise UsageError(f"{path}: code: must be each whole number from -L + 1 to L once, L = 2^(bits-1) - 1")
        if not columns:
            raise UsageError(f"{path}: has no column of transitions beside code")
        tables = tuple(tuple(value for _, value in sorted(zip(codes, own, strict=True))) for own in columns.values())
        return cls(**{"source": Path(path).name, **fields, "inl_lsb": tables})


class RampAdcSpec(AbstractAdcSpec):
    """Ramp from one capacitive DAC, compared with every column."""

    kind: Literal["ramp"] = "ramp"
    source: str = CIRCUIT_SOURCE
    cdac_columns: Count | None = Field(None, description="Columns that share a capacitive DAC; none: all of a row tile")
    sigma_cap: UnitSpread | None = Field(None, description="S.d. of a unit capacitor; grows with the root of its size")
    sigma_cmp: Positive | None = Field(
        None, description="S.d. of the comparator offset relative to the bound, per converter"
    )
    gain_db: Positive | None = Field(100.0, description="Open-loop gain of the amplifier; none is infinite")


class SarAdcSpec(AbstractAdcSpec):
    """Binary search against a capacitive DAC that a group of columns shares."""

    kind: Literal["sar"] = "sar"
    source: str = CIRCUIT_SOURCE
    group_size: Count = Field(8, description="Neighbouring columns that share one converter and so its errors")
    split_cdac: bool = Field(False, strict=True, description="Low bits behind a bridge capacitor")
    sigma_cap: UnitSpread | None = Field(None, description="S.d. of a unit capacitor; grows with the root of its size")
    sigma_cmp: Positive | None = Field(
        None, description="S.d. of the comparator offset relative to the bound, per converter"
    )
    gain_db: Positive | None = Field(100.0, description="Open-loop gain of the amplifier; none is infinite")


class AbstractStagedAdcSpec(AbstractAdcSpec):
    """bits - 1 stages of 1.5 bit, each of which doubles what is left, and a last comparator."""

    source: str = CIRCUIT_SOURCE
    group_size: Count = Field(8, description="Neighbouring columns that share one converter and so its errors")
    sigma_cap: StageSpread | None = Field(None, description="S.d. of each of the two capacitors of a stage, relative")
    sigma_cmp: Positive | None = Field(
        None, description="S.d. of each comparator offset relative to the bound, per converter"
    )
    parasitic_cap: NonNegative = Field(0.0, description="Capacitance at the amplifier input relative to a stage's own")
    gain_db: Positive | None = Field(100.0, description="Open-loop gain of the amplifier; none is infinite")


class PipelineAdcSpec(AbstractStagedAdcSpec):
    """Every stage is a circuit of its own, with errors of its own."""

    kind: Literal["pipeline"] = "pipeline"


class CyclicAdcSpec(AbstractStagedAdcSpec):
    """One stage used again for every bit, always with the same errors."""

    kind: Literal["cyclic"] = "cyclic"


def _kinds() -> Mapping[str, type[StrictModel]]:
    return {
        "uniform": UniformAdcSpec,
        "asymmetric": AsymmetricAdcSpec,
        "midrise": MidriseAdcSpec,
        "cco": CcoAdcSpec,
        "tabulated": TabulatedAdcSpec,
        "ramp": RampAdcSpec,
        "sar": SarAdcSpec,
        "pipeline": PipelineAdcSpec,
        "cyclic": CyclicAdcSpec,
    }


AdcKind = Annotated[
    UniformAdcSpec
    | AsymmetricAdcSpec
    | MidriseAdcSpec
    | CcoAdcSpec
    | TabulatedAdcSpec
    | RampAdcSpec
    | SarAdcSpec
    | PipelineAdcSpec
    | CyclicAdcSpec,
    KindOf(_kinds, default="uniform"),
]
"""Annotation of a field that holds an ADC of any kind."""
