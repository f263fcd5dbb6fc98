"""The range of a tile's inputs: what full scale of the DAC stands for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from device_models.strict import Count, Fraction, KindOf, Positive, StrictModel


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


class SigmaRange(StrictModel):
    """One full scale per tile: n standard deviations of the inputs seen on calibration data by the digital model."""

    kind: Literal["n_sigma"] = "n_sigma"
    n_sigma: Positive = Field(3.0, description="Full scale in standard deviations of the inputs")
    max_vectors: Count = Field(1000, description="Calibration vectors looked at per layer, the first ones")


class MinimumErrorRange(StrictModel):
    """One full scale per tile: the one with the least mean squared quantisation error on calibration data."""

    kind: Literal["minimum_mse"] = "minimum_mse"
    max_vectors: Count = Field(1000, description="Calibration vectors looked at per layer, the first ones")


FoundRange = CalibratedRange | SigmaRange | MinimumErrorRange
"""Ranges that are found on calibration data."""


def _ranges() -> Mapping[str, type[StrictModel]]:
    return {
        "dynamic": DynamicRange,
        "static": StaticRange,
        "calibrated": CalibratedRange,
        "n_sigma": SigmaRange,
        "minimum_mse": MinimumErrorRange,
    }


InputRange = Annotated[DynamicRange | StaticRange | FoundRange, KindOf(_ranges)]
