"""Phase-change memory of the million-device array in a second, independent fit: programming error alone.

Source
    V. Joshi et al., Nat. Commun. 11, 2473 (2020), DOI 10.1038/s41467-020-16108-9, Fig. 3b, 27.36 s after programming,
    as fitted in CrossSim 3.2.0 (device_models.pcm_1m has the first fit, with drift and read noise).
Valid from 0 to 25 uS. The state after programming is kept at all times.
"""

from __future__ import annotations

from typing import Literal, Self

import numpy as np
from numpy.typing import ArrayLike
from pydantic import Field, model_validator

from device_models.base import AbstractDevice, Curve, DeviceCurves, ReferencePoint
from device_models.registry import register_device
from device_models.strict import NonNegative, Positive

SOURCE = "Joshi 2020, DOI 10.1038/s41467-020-16108-9, Fig. 3b; fit of CrossSim 3.2.0"
_TOP_uS = 25.0
_PROGRAM_uS = (0.28638599, 0.07585724, -0.00178767)


@register_device
class PcmJoshi(AbstractDevice):
    """PCM with a programming error and nothing else: no drift, no read noise."""

    kind: Literal["pcm_joshi"] = "pcm_joshi"
    source: str = SOURCE
    g_min_uS: NonNegative = Field(0.25, description="Bottom of the programmable window: an on/off ratio of 100")
    g_max_uS: Positive = Field(_TOP_uS, description="Top of the programmable window; at most 25")

    @model_validator(mode="after")
    def _characterised(self) -> Self:
        if self.g_max_uS > _TOP_uS:
            raise ValueError(
                f"g_max_uS = {self.g_max_uS:g}: must be at most {_TOP_uS:g} uS, the largest conductance that was fitted"
            )
        return self

    def sigma_program_uS(self, g_uS: ArrayLike) -> Curve:
        """Standard deviation of the programming error.

        Equation   max(0, 0.28638599 + 0.07585724 g - 0.00178767 g^2), g target, all in uS
        Source     Joshi 2020 in the fit of CrossSim 3.2.0
        """
        return np.maximum(np.polynomial.polynomial.polyval(np.asarray(g_uS, float), _PROGRAM_uS), 0.0)

    def curves(self, t_s: float, t_obs_s: float) -> DeviceCurves:
        g = self.nodes_uS()
        return self.curves_with(
            program_sigma_uS=self.sigma_program_uS(g),
        )

    def reference_points(self) -> list[ReferencePoint]:
        sigma = {
            0.0: 0.286386, 0.25: 0.305239, 5.0: 0.620980, 10.0: 0.866191, 12.5: 0.955278, 20.0: 1.088463,
            25.0: 1.065523,
        }  # fmt: skip
        return [ReferencePoint("sigma_program_uS", {"g_uS": g}, value, 6e-7, SOURCE) for g, value in sigma.items()]
