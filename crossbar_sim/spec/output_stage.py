"""The analog stage between the columns of a tile and the ADC; the laws are in `crossbar_sim.converters`."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from device_models.strict import Fraction, Positive, StrictModel


class SShapeSpec(StrictModel):
    """Compression y' = f y / (1 + n |y|) with n = compression / bound (1 + spread z), z of one column, n at least 0."""

    compression: Positive = Field(description="Relative loss at the bound: 0.1 makes 1 of 1.1 there")
    spread: Positive | None = Field(None, description="Relative s.d. of the compression, per column")
    calibrated_at: Fraction | None = Field(
        None, description="Part of the bound where a common factor f makes the slope 1; none: f is 1, slope 1 at zero"
    )

    @classmethod
    def path_root(cls) -> str:
        return "s_shape"


class SenseSpec(StrictModel):
    """What the sense node does to a column current: voltage that moves with the current, and a fixed offset of it."""

    load: Positive | None = Field(
        None, description="Series resistance at the sense node x g_max: y fully driven devices give y / (1 + load |y|)"
    )
    offset_sd: Positive | None = Field(
        None, description="S.d. of the virtual-ground offset relative to the read voltage, per column"
    )

    @classmethod
    def path_root(cls) -> str:
        return "sense"

    @model_validator(mode="after")
    def _acts(self) -> Self:
        if self.load is None and self.offset_sd is None:
            raise ValueError("needs load or offset_sd; leave sense out for an ideal sense node")
        return self


class OutputStageSpec(StrictModel):
    """Sense node, then amplifier. `None` switches a part off."""

    sense: SenseSpec | None = Field(None, description="Series resistance and virtual-ground offset of the sense node")
    s_shape: SShapeSpec | None = Field(None, description="Compression by the amplifier")

    @classmethod
    def path_root(cls) -> str:
        return "output_stage"
