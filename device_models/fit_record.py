"""What a device keeps of the fit that made it: parameters with intervals, measurements, date and version."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from device_models.strict import Count, Number, StrictModel, Text


class Parameter(StrictModel):
    """A fitted number with its 90 % interval."""

    name: Text = Field(description="Name in the law of the fit")
    value: Number = Field(description="Point estimate, or one draw of it in a device that was sampled")
    low: Number = Field(description="Lower end of the 90 % interval")
    high: Number = Field(description="Upper end of the 90 % interval")
    unit: Text = Field("1", description="Unit of value and interval")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"{self.name}: low = {self.low:g} must not be above high = {self.high:g}")
        return self


class SourceFile(StrictModel):
    """A file of measurements, told apart by its content."""

    name: Text = Field(description="File name without folders")
    sha256: Text = Field(description="SHA-256 of its bytes, hexadecimal")


class FittedLaw(StrictModel):
    """One fitted law of a device."""

    quantity: Text = Field(description="What was measured, e.g. programming error")
    model: Text = Field(description="Name of the law that was chosen")
    intervals: Text = Field(description="How the intervals were found")
    parameters: tuple[Parameter, ...] = Field(description="Fitted numbers")
    files: tuple[SourceFile, ...] = Field((), description="Measurements; none where they came from memory")
    n_used: Count = Field(description="Observations that were used")


class FitRecord(StrictModel):
    """Where the numbers of a fitted device come from; it changes nothing of what the device does."""

    laws: tuple[FittedLaw, ...] = Field(description="The fitted laws", min_length=1)
    date: Text = Field(description="Day of the fit, ISO 8601")
    version: Text = Field(description="Version of crossbar-sim that fitted")
