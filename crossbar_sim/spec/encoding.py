"""How a weight becomes conductances."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from device_models.strict import Bits, Count, KindOf, Positive, StrictModel


class SigmaClip(StrictModel):
    """Weights are limited to +-alpha times their root mean square before they are mapped."""

    alpha: Positive = Field(2.5, description="Limit in root-mean-square weights")
    per: Literal["tensor", "column"] = Field("tensor", description="Over what the root mean square is taken")


class AbstractEncoding(StrictModel):
    """What all encodings share: the weight w_max that fills the conductance window."""

    scale: Literal["tensor", "tile", "column", "tile_column"] = Field(
        "column",
        description="Over what w_max is taken: the matrix, each tile, each output, or each output of each tile",
    )
    columns_per_scale: Count = Field(
        1, description="Neighbouring outputs of a tile that share w_max, where it is taken per output"
    )
    clip: SigmaClip | None = Field(None, description="Limit of the weights before mapping; none keeps all")

    @model_validator(mode="after")
    def _grouped(self) -> Self:
        if self.columns_per_scale > 1 and self.scale not in ("column", "tile_column"):
            raise ValueError(f"columns_per_scale groups outputs, but scale = {self.scale!r} is not taken per output")
        return self


class PairEncoding(AbstractEncoding):
    """A differential pair for each weight: w ~ (g+ - g-), with one or several devices per polarity.

    one_sided   g+ = g_min + s max(w, 0), g- = g_min + s max(-w, 0), s = (g_max - g_min) / w_max
    two_sided   g+- = g_min + (g_max - g_min)(1 +- w / w_max) / 2

    Several devices of a polarity add their currents and share its value by `fill`:

    equal          all hold the same
    msf            one after the other is filled to g_max, so at most one is at an intermediate level
    significance   device k counts F_k times; the least significant is filled first
    """

    kind: Literal["pair"] = "pair"
    pair: Literal["one_sided", "two_sided"] = Field("one_sided", description="How the pair shares a weight")
    devices: Count = Field(1, description="Devices per polarity")
    fill: Literal["equal", "msf", "significance"] | None = Field(
        None, description="How the devices of a polarity share its value; none for a single device"
    )
    significance: tuple[Positive, ...] | None = Field(
        None, description="F_k of each device of a polarity, ascending; only with fill = significance"
    )

    @model_validator(mode="after")
    def _shared(self) -> Self:
        if (self.devices > 1) != (self.fill is not None):
            raise ValueError(
                f"fill = {self.fill!r} with devices = {self.devices}: several devices need a fill, one none"
            )
        if (self.fill == "significance") != (self.significance is not None):
            raise ValueError("significance and fill = 'significance' belong together")
        if self.significance is not None and len(self.significance) != self.devices:
            raise ValueError(f"significance has {len(self.significance)} values for devices = {self.devices}")
        if self.significance is not None and list(self.significance) != sorted(self.significance):
            raise ValueError(f"significance = {list(self.significance)}: must ascend")
        if self.pair == "two_sided" and self.devices > 1:
            raise ValueError("pair = 'two_sided' has one device per polarity")
        return self


class OffsetEncoding(AbstractEncoding):
    """One device for each weight: g = g_min + (g_max - g_min)(1 + w / w_max) / 2; weight zero is at mid-window.

    digital   the sum of the inputs times the zero level is subtracted in digital, exactly
    column    each tile has one more column of devices at the zero level, read and digitised like any other
    """

    kind: Literal["offset"] = "offset"
    correction: Literal["digital", "column"] = Field("digital", description="How the zero level is subtracted")


class BitSliceEncoding(AbstractEncoding):
    """Slices of an integer weight on pairs of their own, digitised one by one, shifted and added.

    Equation   q = rint(w / w_max L), L = 2^(bits-1) - 1; slice k holds b_k bits of |q|, the lowest slice first, as
               g = g_min + (g_max - g_min) value / (2^b_k - 1) on the device of the sign of q
    """

    kind: Literal["bit_slice"] = "bit_slice"
    bits: Bits = Field(8, description="Resolution of the weight including sign")
    slices: tuple[Count, ...] = Field((4, 3), description="Bits of each slice, the lowest first; together bits - 1")

    @model_validator(mode="after")
    def _cover(self) -> Self:
        if sum(self.slices) < self.bits - 1 or sum(self.slices[:-1]) >= self.bits - 1:
            raise ValueError(f"slices = {list(self.slices)}: must hold the {self.bits - 1} bits of a magnitude")
        if sum(self.slices) > 32:
            raise ValueError(f"slices = {list(self.slices)}: must hold 32 bits at most")
        return self


def _encodings() -> Mapping[str, type[StrictModel]]:
    return {"pair": PairEncoding, "offset": OffsetEncoding, "bit_slice": BitSliceEncoding}


Encoding = Annotated[PairEncoding | OffsetEncoding | BitSliceEncoding, KindOf(_encodings, default="pair")]
