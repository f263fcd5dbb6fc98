"""Devices that are stuck for ever at one conductance."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from device_models.strict import StrictModel

Probability = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=0, le=1)]


class StuckFaults(StrictModel):
    """Independent faults of single devices; a device has at most one.

    Equation   P(g = g_min) = p_reset, P(g = g_max) = p_set, P(g uniform in [g_min, g_max]) = p_random
    Order      after programming; a stuck device has no drift, no temperature dependence and no noise
    Valid      p_reset + p_set + p_random <= 1
    """

    p_reset: Probability = Field(0.0, description="Chance that a device is stuck at g_min, per device")
    p_set: Probability = Field(0.0, description="Chance that a device is stuck at g_max, per device")
    p_random: Probability = Field(0.0, description="Chance that a device is stuck anywhere in the window, per device")

    @model_validator(mode="after")
    def _at_most_one(self) -> Self:
        if self.p_stuck > 1 + 1e-12:  # three decimal fractions that make 1 need not do so in binary
            raise ValueError(f"p_reset + p_set + p_random = {self.p_stuck:g}: must be at most 1")
        return self

    @property
    def p_stuck(self) -> float:
        """Chance that a device is stuck at all."""
        return self.p_reset + self.p_set + self.p_random

    @property
    def is_ideal(self) -> bool:
        return self.p_stuck == 0
