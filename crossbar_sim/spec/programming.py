"""How target conductances are written to the devices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from device_models.strict import Count, Fraction, KindOf, NonNegative, Positive, StrictModel, Text


class AbstractTargetProgramming(StrictModel):
    """What all kinds share that give every device a target of its own.

    Equation   with `retarget_stuck`, where a device of a pair is stuck at s or on a broken line (s = 0), its partner
               aims at clip(s + t_own - t_stuck, g_min, g_max): g+ - g- is kept as far as the window reaches
    """

    retarget_stuck: bool = Field(
        False,
        strict=True,
        description="Whether the partner of a stuck device, or of one on a broken line, takes over its part",
    )


class LawProgramming(AbstractTargetProgramming):
    """The programming error of the device's own curves, which is the published outcome of its programming."""

    kind: Literal["law"] = "law"
    source: Text = Field("the device's own laws", description="Where the values come from")

    @property
    def is_ideal(self) -> bool:
        return False


class SingleShot(AbstractTargetProgramming):
    """One pulse without verification: g = max(0, g_t (1 + sigma z))."""

    kind: Literal["single_shot"] = "single_shot"
    sigma_write: NonNegative = Field(description="Write noise of the pulse relative to the target, per device")

    @property
    def is_ideal(self) -> bool:
        return self.sigma_write == 0


class ProgramVerify(AbstractTargetProgramming):
    """Read, compare and pulse again until the conductance read is within the tolerance.

    Equation   m = g + sigma_read z / sqrt(reads_averaged); stop where |m - g_t| <= tolerance, else
               g <- max(0, g - d + (sigma_write_uS + sigma_write_relative |d|) z'), d = alpha (m - g_t)
    """

    kind: Literal["program_verify"] = "program_verify"
    alpha: Fraction = Field(description="Share of the measured error that a pulse aims to remove")
    tolerance_uS: Positive = Field(description="Largest measured error that is accepted, per device")
    max_pulses: Count = Field(description="Pulses after which a device is given up; each is verified by a read")
    sigma_write_uS: NonNegative = Field(0.0, description="Write noise that does not depend on the step, per pulse")
    sigma_write_relative: NonNegative = Field(0.0, description="Write noise relative to the aimed step, per pulse")
    sigma_read_uS: NonNegative = Field(0.0, description="Noise of a single verifying read")
    reads_averaged: Count = Field(1, description="Reads averaged for one comparison")

    @property
    def is_ideal(self) -> bool:
        return False


class GradientDescentProgramming(StrictModel):
    """Pulses that lower the error of whole products with random inputs, without reading single devices.

    Equation   E = A(X; G) - X W^T, D = E^T X / (B s_x^2), X ~ N(0, s_x^2); where |D| > threshold: g+ - g- changes by
               -eta s D plus write noise, with s the conductance of a relative weight of 1
    On a chip  every tile by itself, from g_min on, through its own DAC, devices, wires, noise and ADC at time 0
    """

    kind: Literal["gradient_descent"] = "gradient_descent"
    eta: Positive = Field(description="Step relative to the estimated gradient")
    batch: Count = Field(description="Random input vectors of a step")
    steps: Count = Field(description="Steps, each with new inputs")
    input_sigma: Fraction = Field(
        0.25, description="s_x: s.d. of the inputs relative to the input range; they are limited to it"
    )
    threshold: NonNegative = Field(0.0, description="Relative weights with a smaller gradient get no pulse")
    pulse_uS: Positive | None = Field(None, description="Unit of the pulses' effect; none: pulses of any size")
    sigma_write_uS: NonNegative = Field(0.0, description="Write noise that does not depend on the step, per pulse")
    sigma_write_relative: NonNegative = Field(0.0, description="Write noise relative to the aimed step, per pulse")

    @property
    def is_ideal(self) -> bool:
        return False


def _kinds() -> Mapping[str, type[StrictModel]]:
    return {
        "law": LawProgramming,
        "single_shot": SingleShot,
        "program_verify": ProgramVerify,
        "gradient_descent": GradientDescentProgramming,
    }


Programming = Annotated[
    LawProgramming | SingleShot | ProgramVerify | GradientDescentProgramming,
    KindOf(_kinds),
]
