"""A device for sensitivity studies: Gaussian errors that are constant or proportional to the conductance.

Source of the forms: the generic devices of CrossSim 3.2.0; T. P. Xiao et al., IEEE CAS Mag. 22(4), 26-48 (2022),
DOI 10.1109/MCAS.2022.3214409. Magnitudes are the user's.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from pydantic import Field

from device_models.base import AbstractDevice, Curve, DeviceCurves, ReferencePoint
from device_models.registry import register_device
from device_models.strict import NonNegative, Positive, StrictModel

SOURCE = "forms of CrossSim 3.2.0 generic devices; Xiao 2022, DOI 10.1109/MCAS.2022.3214409"


class GaussianError(StrictModel):
    """Standard deviation m g_max (independent) or m g (proportional) of a Gaussian error."""

    law: Literal["independent", "proportional"] = Field(description="Constant, or proportional to the conductance")
    magnitude: NonNegative = Field(description="m: relative to g_max, or to the conductance")

    def sigma_uS(self, g_uS: Curve, g_max_uS: float) -> Curve:
        return self.magnitude * (g_uS if self.law == "proportional" else np.full_like(g_uS, g_max_uS))


@register_device
class Generic(AbstractDevice):
    """Programming error and white per-read noise of chosen form; `None` switches one off. No drift."""

    kind: Literal["generic"] = "generic"
    source: str = SOURCE
    g_max_uS: Positive = Field(25.0, description="Top of the programmable conductance window")
    program: GaussianError | None = Field(
        GaussianError(law="proportional", magnitude=0.05), description="Programming error, per device"
    )
    read: GaussianError | None = Field(None, description="Read noise, white in time, per read")

    def sigma_program_uS(self, g_uS: ArrayLike) -> Curve:
        """Equation: m g_max (independent) or m g (proportional); 0 where programming is ideal."""
        g = np.asarray(g_uS, float)
        return self.program.sigma_uS(g, self.g_max_uS) if self.program else np.zeros_like(g)

    def curves(self, t_s: float, t_obs_s: float) -> DeviceCurves:
        g = self.nodes_uS()
        zero = np.zeros_like(g)
        absolute, relative = zero, zero
        if self.read and self.read.law == "independent":
            absolute = self.read.sigma_uS(g, self.g_max_uS)
        elif self.read:
            relative = np.full_like(g, self.read.magnitude)
        frozen = t_obs_s == 0.0  # white noise has no slow share, unless everything is asked to be frozen
        return self.curves_with(
            program_sigma_uS=self.sigma_program_uS(g),
            frozen_abs_uS=absolute if frozen else zero,
            frozen_rel=relative if frozen else zero,
            read_abs_uS=zero if frozen else absolute,
            read_rel=zero if frozen else relative,
        )

    def reference_points(self) -> list[ReferencePoint]:
        return [
            ReferencePoint("sigma_program_uS", {"g_uS": g}, 0.05 * g, 1e-12, "definition, m = 0.05")
            for g in (0.0, 5.0, 25.0)
        ]
