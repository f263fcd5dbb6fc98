"""DAC and ADC of a tile and the range of its inputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from device_models.strict import Bits, Count, Fraction, KindOf, Positive, StrictModel


class DynamicRange(StrictModel):
    """Full scale is the largest absolute input of each vector on each tile; needs a digital maximum per vector."""

    kind: Literal["dynamic"] = "dynamic"


class StaticRange(StrictModel):
    """One given full scale for all tiles."""

    kind: Literal["static"] = "static"
    value: Positive = Field(description="Full scale of the input, in units of the layer's input")


class CalibratedRange(StrictModel):
    """One full scale per tile: a quantile of the absolute inputs seen on calibration data by the digital model."""

    kind: Literal["calibrated"] = "calibrated"
    quantile: Fraction = Field(0.99995, description="Quantile of |x| that becomes full scale; 1 is the maximum")
    max_vectors: Count = Field(1000, description="Calibration vectors looked at per layer, the first ones")


def _ranges() -> Mapping[str, type[StrictModel]]:
    return {"dynamic": DynamicRange, "static": StaticRange, "calibrated": CalibratedRange}


InputRange = Annotated[DynamicRange | StaticRange | CalibratedRange, KindOf(_ranges)]


class DacSpec(StrictModel):
    """Uniform symmetric quantiser of the inputs: L = 2^(bits-1) - 1 steps on each side of zero, half to even."""

    bits: Bits | None = Field(8, description="Resolution including sign; none keeps the range without rounding")
    range: InputRange = Field(DynamicRange(), description="Full scale of the input")


class AdcSpec(StrictModel):
    """Uniform symmetric quantiser of each tile's column outputs, saturating at the bound."""

    bits: Bits = Field(8, description="Resolution including sign")
    bound: Positive = Field(
        10.0, description="Full scale in fully driven devices at g_max (input range x w_max); more saturates"
    )
    output_noise: Positive | None = Field(
        None, description="S.d. of Gaussian noise ahead of the converter, per read, in the units of the bound"
    )
