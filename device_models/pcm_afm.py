"""The weight-level PCM programming error with which analog foundation models are evaluated.

Source: J. Buechel et al., "Analog Foundation Models", arXiv 2505.09663 (2025); the polynomials are those of the
hardware noise model released with it. One static perturbation of the weights: no drift, no read noise.
The source gives conductance in chip units (full scale 180) and not in microsiemens; here one chip unit is written as
one microsiemens, so `g_max_uS` = 180. Only ratios to g_max enter a result.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from pydantic import Field

from device_models.base import AbstractDevice, Curve, DeviceCurves, ReferencePoint
from device_models.registry import register_device
from device_models.strict import NonNegative, Positive

SOURCE = "Buechel 2025, arXiv 2505.09663, released hardware noise model; one chip unit written as 1 uS"
FULL_SCALE = 180.0
_SWITCH_OVER = 52.5
_ONE_DEVICE = (2.5797410660159494, 0.22419685954327148, -0.00371581208142707, 2.939751381126213e-05)
_TWO_DEVICES = (2.110295720240385, 0.2453487119885723, -0.003054993405157235, 1.2329755395573392e-05)


@register_device
class PcmAfm(AbstractDevice):
    """Programming error on the signed weight: an error may turn its sign, exact zeros stay zero, nothing is clipped."""

    kind: Literal["pcm_afm"] = "pcm_afm"
    source: str = SOURCE
    g_max_uS: Positive = Field(FULL_SCALE, description="Full scale; the source counts it as 180 chip units")
    program_scale: NonNegative = Field(1.0, description="Factor on the programming-noise law, per device")
    zero_below: NonNegative = Field(
        0.6 / FULL_SCALE, description="Targets below this share of full scale become exactly zero"
    )

    def sigma_program_uS(self, g_uS: ArrayLike) -> Curve:
        """Standard deviation of the programming error.

        Equation   cubic in u = 180 g / g_max: of one device up to u = 52.5, of two devices above
        Source     Buechel 2025
        """
        units = np.asarray(g_uS, float) * (FULL_SCALE / self.g_max_uS)
        one = np.polynomial.polynomial.polyval(units, _ONE_DEVICE)
        two = np.polynomial.polynomial.polyval(units, _TWO_DEVICES)
        return np.where(units <= _SWITCH_OVER, one, two) * (self.g_max_uS / FULL_SCALE)

    def curves(self, t_s: float, t_obs_s: float) -> DeviceCurves:
        g = self.nodes_uS()
        return self.curves_with(
            program_sigma_uS=self.program_scale * self.sigma_program_uS(g),
            floor_uS=None,
            dead_uS=self.zero_below * self.g_max_uS,
        )

    def reference_points(self) -> list[ReferencePoint]:
        table = {
            0.6: 2.712928, 5: 3.611505, 10: 4.479526, 20: 5.812534, 40: 7.483757, 52.5: 8.362281, 60: 8.496469,
            90: 8.434625, 120: 8.866053, 180: 19.198411,
        }  # fmt: skip
        return [
            ReferencePoint("sigma_program_uS", {"g_uS": float(u)}, sigma, 6e-7, SOURCE) for u, sigma in table.items()
        ]
