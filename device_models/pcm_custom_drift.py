"""PCM-1M with a drift exponent of one's own, given as points over conductance (for example projected PCM).

Sources: programming and read noise as in device_models.pcm_1m. A use with published exponents: N. Li et al.,
Adv. Electron. Mater. 9, 2201190 (2023), DOI 10.1002/aelm.202201190 (a projection liner lowers nu).
"""

from __future__ import annotations

from typing import Literal, Self

import numpy as np
from numpy.typing import ArrayLike
from pydantic import Field, model_validator

from device_models.base import Curve, ReferencePoint
from device_models.pcm_1m import AbstractPcm1MNoise
from device_models.registry import register_device
from device_models.strict import NonNegative, Number


@register_device
class PcmCustomDrift(AbstractPcm1MNoise):
    """Linear interpolation of mean and spread of nu between given conductances; outside, the end values hold."""

    kind: Literal["pcm_custom_drift"] = "pcm_custom_drift"
    nu_at_uS: tuple[NonNegative, ...] = Field(
        (0.0, 10.0, 25.0), description="Conductances of the drift points, ascending", min_length=2
    )
    nu_mean_at: tuple[Number, ...] = Field((0.10, 0.06, 0.02), description="Mean drift exponent at each point")
    nu_sigma_at: tuple[NonNegative, ...] = Field((0.0, 0.0, 0.0), description="Its device-to-device spread")

    @model_validator(mode="after")
    def _points(self) -> Self:
        sizes = {len(self.nu_at_uS), len(self.nu_mean_at), len(self.nu_sigma_at)}
        if len(sizes) != 1:
            raise ValueError(f"nu_at_uS, nu_mean_at and nu_sigma_at must be equally long, are {sorted(sizes)}")
        if any(b <= a for a, b in zip(self.nu_at_uS, self.nu_at_uS[1:], strict=False)):
            raise ValueError(f"nu_at_uS = {self.nu_at_uS} must ascend")
        if self.g_min_uS < self.nu_at_uS[0] or self.g_max_uS > self.nu_at_uS[-1]:
            raise ValueError(
                f"the window {self.g_min_uS:g} to {self.g_max_uS:g} uS must lie within the drift points, "
                f"{self.nu_at_uS[0]:g} to {self.nu_at_uS[-1]:g} uS"
            )
        return self

    def nu_mean(self, g_uS: ArrayLike) -> Curve:
        return np.interp(np.asarray(g_uS, float), self.nu_at_uS, self.nu_mean_at)

    def nu_sigma(self, g_uS: ArrayLike) -> Curve:
        return np.interp(np.asarray(g_uS, float), self.nu_at_uS, self.nu_sigma_at)

    def reference_points(self) -> list[ReferencePoint]:
        example = "interpolation by hand of the default points"
        points = {0.0: 0.10, 5.0: 0.08, 10.0: 0.06, 17.5: 0.04, 25.0: 0.02, 30.0: 0.02}
        return [ReferencePoint("nu_mean", {"g_uS": g}, nu, 1e-12, example) for g, nu in points.items()]
