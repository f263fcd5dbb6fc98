"""Phase-change memory for sensitivity studies: all errors the same at every conductance.

Source: form and magnitudes of the state-independent noise model of aihwkit 1.2.0, clock and read pulse included. Its
read noise is far above that of a measured device.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from pydantic import Field

from device_models.base import AbstractPowerLawDevice, Curve, ReferencePoint
from device_models.registry import register_device
from device_models.strict import NonNegative, Number, Positive

SOURCE = "state-independent noise model of aihwkit 1.2.0"


@register_device
class PcmStateIndependent(AbstractPowerLawDevice):
    """PCM whose programming error, drift exponent and relative read noise do not depend on the conductance."""

    kind: Literal["pcm_state_independent"] = "pcm_state_independent"
    source: str = SOURCE
    g_max_uS: Positive = Field(25.0, description="Top of the programmable conductance window")
    t0_s: Positive = Field(20.0, description="Time of the first verified read; the drift clock starts there")
    t_read_s: Positive = Field(250e-9, description="Integration time of one read pulse")
    noise_at: Literal["target"] = Field("target", description="The read-noise law is the same at any conductance")
    program_error_uS: NonNegative = Field(0.2, description="Standard deviation of the programming error, per device")
    drift_exponent: Number = Field(0.1, description="Mean drift exponent, before folding")
    drift_exponent_spread: NonNegative = Field(0.05, description="Its device-to-device standard deviation")
    read_error_uS: NonNegative = Field(
        1.0, description="Read noise at g_max per unit of the bandwidth factor; falls with the conductance"
    )

    def sigma_program_uS(self, g_uS: ArrayLike) -> Curve:
        """Equation: 0.2 uS."""
        return np.full_like(np.asarray(g_uS, float), self.program_error_uS)

    def nu_mean(self, g_uS: ArrayLike) -> Curve:
        """Equation: 0.1."""
        return np.full_like(np.asarray(g_uS, float), self.drift_exponent)

    def nu_sigma(self, g_uS: ArrayLike) -> Curve:
        """Equation: 0.05."""
        return np.full_like(np.asarray(g_uS, float), self.drift_exponent_spread)

    def q_s(self, g_uS: ArrayLike) -> Curve:
        """Equation: rho / g_max, rho = 1 uS; so the whole noise is rho (g / g_max) times the bandwidth factor."""
        return np.full_like(np.asarray(g_uS, float), self.read_error_uS / self.g_max_uS)

    def reference_points(self) -> list[ReferencePoint]:
        day_s, half_drifted_uS = 86400.0, 12.5 * (86420.0 / 20.0) ** 0.1  # a device that holds 12.5 uS after a day
        return [
            ReferencePoint("sigma_read_uS", {"g_uS": half_drifted_uS, "t_s": day_s}, 2.543405, 6e-7, SOURCE),
            ReferencePoint("drift_factor", {"g_uS": 12.5, "t_s": day_s}, 0.432954, 6e-7, "4321^-0.1"),
            *(ReferencePoint("sigma_program_uS", {"g_uS": g}, 0.2, 0.0, SOURCE) for g in (0.0, 25.0)),
            *(ReferencePoint("nu_mean", {"g_uS": g}, 0.1, 0.0, SOURCE) for g in (0.0, 25.0)),
            *(ReferencePoint("nu_sigma", {"g_uS": g}, 0.05, 0.0, SOURCE) for g in (0.0, 25.0)),
        ]
