"""Phase-change memory as measured on an array of one million devices.

Sources
    S. R. Nandakumar et al., "Phase-change memory models for deep learning training and inference", ICECS 2019,
    DOI 10.1109/ICECS46596.2019.8964852 (laws and coefficients);
    V. Joshi et al., Nat. Commun. 11, 2473 (2020), DOI 10.1038/s41467-020-16108-9 (use for networks).
Valid for 0 <= g <= 25 uS at room temperature, from about 20 s to 1e6 s; a year is extrapolated.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from pydantic import Field

from device_models.base import AbstractPowerLawDevice, Curve, ReferencePoint
from device_models.laws import LOWEST_RATIO, clipped_log
from device_models.registry import register_device
from device_models.strict import NonNegative, Number, Positive

SOURCE = "Nandakumar 2019, DOI 10.1109/ICECS46596.2019.8964852"


class AbstractPcm1MNoise(AbstractPowerLawDevice):
    """Programming error and read noise of the million-device array; a subclass adds its drift exponent."""

    source: str = SOURCE
    g_max_uS: Positive = Field(25.0, description="Top of the programmable conductance window")
    t0_s: Positive = Field(20.0, description="Time of the first verified read; the drift clock starts there")
    t_read_s: Positive = Field(250e-9, description="Integration time of one read pulse")
    program_coefficients_uS: tuple[Number, ...] = Field(
        (0.26348, 1.9650, -1.1731),
        description="Programming-noise s.d. as a polynomial in g/g_max, lowest power first",
        min_length=1,
    )
    program_reference_uS: Positive = Field(
        25.0, description="g_max for which the programming polynomial holds; the noise scales with g_max over it"
    )
    q_s_coefficient: NonNegative = Field(0.0088, description="Read noise at g_max relative to the conductance")
    q_s_exponent: NonNegative = Field(0.65, description="Read noise grows as (g/g_max)^-exponent")
    q_s_cap: NonNegative = Field(0.2, description="Upper limit of the relative read noise")

    def sigma_program_uS(self, g_uS: ArrayLike) -> Curve:
        """Standard deviation of the programming error.

        Equation   (g_max / g_ref) max(0, c0 + c1 r + c2 r^2), r = g / g_max; g_ref keeps the relative noise when
                   the window is rescaled
        Source     Nandakumar 2019
        """
        r = np.asarray(g_uS, float) / self.g_max_uS
        polynomial = np.polynomial.polynomial.polyval(r, self.program_coefficients_uS)
        return self.g_max_uS / self.program_reference_uS * np.maximum(polynomial, 0.0)

    def q_s(self, g_uS: ArrayLike) -> Curve:
        """Equation: min(0.0088 / r^0.65, 0.2), r = g / g_max. Source: Nandakumar 2019."""
        r = np.maximum(np.asarray(g_uS, float) / self.g_max_uS, LOWEST_RATIO)
        return np.minimum(self.q_s_coefficient * r**-self.q_s_exponent, self.q_s_cap)


@register_device
class Pcm1M(AbstractPcm1MNoise):
    """PCM of the million-device array: programming error, drift and 1/f read noise, all state dependent."""

    kind: Literal["pcm_1m"] = "pcm_1m"
    nu_mean_law: tuple[Number, Number, Number, Number] = Field(
        (-0.0155, 0.0244, 0.049, 0.100), description="Mean drift exponent: slope and offset in ln(g/g_max), low, high"
    )
    nu_sigma_law: tuple[Number, Number, Number, Number] = Field(
        (-0.0125, -0.0059, 0.008, 0.045), description="Spread of the drift exponent: slope, offset, low, high"
    )

    def nu_mean(self, g_uS: ArrayLike) -> Curve:
        return clipped_log(np.asarray(g_uS, float) / self.g_max_uS, *self.nu_mean_law)

    def nu_sigma(self, g_uS: ArrayLike) -> Curve:
        return clipped_log(np.asarray(g_uS, float) / self.g_max_uS, *self.nu_sigma_law)

    def reference_points(self) -> list[ReferencePoint]:
        tables = {
            "sigma_program_uS": {
                0: 0.26348, 0.25: 0.283013, 1: 0.340203, 2.5: 0.448249, 5: 0.609556, 6.25: 0.681411, 10: 0.861784,
                12.5: 0.952705, 15: 1.020164, 18.75: 1.077361, 20: 1.084696, 20.938113: 1.0863478, 25: 1.055380,
            },
            "nu_mean": {
                0: 0.1, 0.025: 0.1, 0.25: 0.095780, 1.25: 0.070834, 2.5: 0.060090, 5: 0.049346, 6.25: 0.049,
                12.5: 0.049, 25: 0.049,
            },
            "nu_sigma": {
                0: 0.045, 0.025: 0.045, 0.25: 0.045, 1.25: 0.031547, 2.5: 0.022882, 5: 0.014218, 6.25: 0.011429,
                12.5: 0.008, 25: 0.008,
            },
            "q_s": {
                0.25: 0.175583, 1.25: 0.061681, 2.5: 0.039308, 5: 0.025050, 6.25: 0.021668, 12.5: 0.013809,
                18.75: 0.010609, 25: 0.0088,
            },
        }  # fmt: skip
        read = {
            0: (0.411146, 0.722164, 0.920441), 1: (0.410513, 0.721443, 0.919522), 60: (0.392978, 0.700947, 0.893399),
            3600: (0.342609, 0.637495, 0.812525), 86400: (0.302277, 0.582591, 0.742548),
            2592000: (0.262099, 0.524572, 0.668598), 31536000: (0.234986, 0.483522, 0.616278),
        }  # fmt: skip
        factor = {1: 0.997612, 60: 0.934327, 3600: 0.775129, 86400: 0.663524, 2592000: 0.561671, 31536000: 0.496946}
        bandwidth = {
            0: 4.183825, 1: 4.189652, 60: 4.346341, 3600: 4.764755, 86400: 5.086810, 2592000: 5.410786,
            31536000: 5.636958,
        }  # fmt: skip
        return [
            *(
                ReferencePoint(law, {"g_uS": float(g)}, value, 6e-7, SOURCE)
                for law, table in tables.items()
                for g, value in table.items()
            ),
            *(
                ReferencePoint("sigma_read_uS", {"g_uS": g, "t_s": float(t)}, value, 6e-7, SOURCE)
                for t, values in read.items()
                for g, value in zip((2.5, 12.5, 25.0), values, strict=True)
            ),
            *(
                ReferencePoint("drift_factor", {"g_uS": 12.5, "t_s": float(t)}, value, 6e-7, SOURCE)
                for t, value in {**factor, 315360000: 0.443924}.items()
            ),
            *(
                ReferencePoint("bandwidth_factor", {"t_s": float(t)}, value, 6e-7, SOURCE)
                for t, value in bandwidth.items()
            ),
        ]
