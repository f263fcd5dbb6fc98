"""Digital correction of drift and of column errors, told apart by `kind`; the laws are in crossbar_sim.array."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from device_models.strict import Count, Fraction, KindOf, StrictModel


class AbstractCompensation(StrictModel):
    """What every kind has: reads of vectors of random signs through DAC, devices and ADC, held against a reference.

    The correction is fitted by least squares for each plane of each tile, where its outputs are digitised. Outputs that
    saturate show no drift and pull a factor towards 1, so probes drive the lines half by default: normal weights on
    512 rows then saturate 0.5 % of the outputs at a bound of 10, where full inputs would saturate 15 %.
    """

    reference: Literal["measured", "exact"] = Field(
        "measured",
        description="What the reads are held against: the same reads right after programming, or the product of the "
        "target weights without any error",
    )
    probe_vectors: Count = Field(64, description="Vectors of random signs of a read")
    probe_amplitude: Fraction = Field(
        0.5,
        description="Magnitude of all their inputs relative to the input range, played as the nearest code of the DAC "
        "that is not zero",
    )


class GlobalDriftCompensation(AbstractCompensation):
    """One factor per tile. Its error, with 32 vectors 0.2 % after a month, is far below what drift itself leaves."""

    kind: Literal["global"] = "global"
    probe_vectors: Count = Field(32, description="Vectors of random signs of a read")


class ColumnDriftCompensation(AbstractCompensation):
    """One factor per output of a tile."""

    kind: Literal["column"] = "column"


class AffineCompensation(AbstractCompensation):
    """Factor and offset per output of a tile. Below 100 vectors the factors are shrunk towards that of the tile."""

    kind: Literal["affine"] = "affine"
    probe_vectors: Count = Field(256, description="Vectors of random signs of a read")


_Kind = GlobalDriftCompensation | ColumnDriftCompensation | AffineCompensation


def compensation_kinds() -> Mapping[str, type[_Kind]]:
    """The classes by kind."""
    return {"global": GlobalDriftCompensation, "column": ColumnDriftCompensation, "affine": AffineCompensation}


Compensation = Annotated[_Kind, KindOf(compensation_kinds, default="global")]
