"""Resistive memory of the NeuRRAM chip: spread around the target by the time since programming.

Source
    W. Wan et al., Nature 608, 504-512 (2022), DOI 10.1038/s41586-022-04992-8, Extended Data Fig. 3 (incremental-pulse
    write-verify, then relaxation). Two fits of these data are in use: sigma at 1 s, 1 d and 2 d as quartics in
    g / g_max (aihwkit 1.2.0), and sigma at 1 s as a cubic in g (CrossSim 3.2.0).
The published spread holds programming error and relaxation together, at one time. Here a device keeps its rank: the
same normal deviate is scaled by the spread of the time that is asked for.
"""

from __future__ import annotations

import warnings
from typing import Literal, Self

import numpy as np
from numpy.typing import ArrayLike
from pydantic import Field, model_validator

from device_models.base import AbstractDevice, Curve, DeviceCurves, ReferencePoint
from device_models.errors import ExtrapolationWarning, UsageError
from device_models.registry import register_device
from device_models.strict import Fraction, Positive
from device_models.units import readable_time, seconds

SOURCE = "Wan 2022, DOI 10.1038/s41586-022-04992-8, Extended Data Fig. 3"
_REFERENCE_uS = 40.0
_TIMES_S = (1.0, 86400.0, 172800.0)
_TIME_RESOLVED_uS = (  # in g / g_max, lowest power first, one row per time
    (0.348, 16.030, -43.853, 45.393, -16.815),
    (0.701, 22.086, -50.773, 47.095, -16.458),
    (0.782, 20.274, -43.507, 37.062, -11.934),
)
_ONE_SECOND_uS = (1.053, 2.374e-1, -1.167e-2, 1.536e-4)  # in g / uS
_ONE_SECOND_TOP_uS = 39.26


@register_device
class ReramWan(AbstractDevice):
    """ReRAM that relaxes after programming: a spread that depends on time, no mean drift, white noise per read."""

    kind: Literal["reram_wan"] = "reram_wan"
    source: str = SOURCE
    g_max_uS: Positive = Field(_REFERENCE_uS, description="Top of the programmable conductance window")
    fit: Literal["time_resolved", "one_second"] = Field(
        "time_resolved",
        description="Fit of the spread: at 1 s, 1 d and 2 d, scaling with g_max; or at 1 s only, up to 39.26 uS",
    )
    read_noise: Fraction | None = Field(
        0.01, description="White noise of each device per read relative to g_max; none is without"
    )

    @model_validator(mode="after")
    def _fitted(self) -> Self:
        if self.fit == "one_second" and self.g_max_uS > _ONE_SECOND_TOP_uS:
            raise ValueError(
                f"g_max_uS = {self.g_max_uS:g}: must be at most {_ONE_SECOND_TOP_uS} uS with fit = one_second, "
                "the largest conductance that was fitted"
            )
        return self

    def sigma_program_uS(self, g_uS: ArrayLike, t_s: float) -> Curve:
        """Standard deviation around the target, programming error and relaxation together.

        Equation   time_resolved: (g_max / 40 uS) p_t(g / g_max), linear in log10 t between the fitted times;
                   one_second: max(0, 1.053 + 0.2374 g - 0.01167 g^2 + 1.536e-4 g^3), g in uS
        Arguments  g_uS target [uS]; t_s since programming [s]
        Valid      time_resolved: held at 1 s before it, and beyond 2 d with an ExtrapolationWarning;
                   one_second: g <= 39.26 uS, t <= 1 s, a later time is refused
        Source     Wan 2022
        """
        t_s = seconds(t_s, "device (reram_wan): t_s")
        g = np.asarray(g_uS, float)
        if self.fit == "one_second":
            if t_s > 1.0:
                raise UsageError(
                    f"device (reram_wan): t_s = {t_s:g}: must be at most 1 s with fit = one_second; "
                    "fit = time_resolved knows later times"
                )
            return np.maximum(np.polynomial.polynomial.polyval(g, _ONE_SECOND_uS), 0.0)
        if t_s > _TIMES_S[-1]:
            warnings.warn(
                f"device (reram_wan): t_s = {t_s:g}: relaxation was measured up to {_TIMES_S[-1]:g} s "
                f"({readable_time(_TIMES_S[-1])}); its spread of that time is held",
                ExtrapolationWarning,
                stacklevel=2,
            )
        log_t = np.log10(max(t_s, _TIMES_S[0]))
        at_t = [np.interp(log_t, np.log10(_TIMES_S), powers) for powers in zip(*_TIME_RESOLVED_uS, strict=True)]
        quartic = np.polynomial.polynomial.polyval(g / self.g_max_uS, at_t)
        return np.asarray(self.g_max_uS / _REFERENCE_uS * quartic, float)

    def curves(self, t_s: float, t_obs_s: float) -> DeviceCurves:
        g = self.nodes_uS()
        zero = np.zeros_like(g)
        noise = np.full_like(g, (self.read_noise or 0.0) * self.g_max_uS)
        frozen = t_obs_s == 0.0  # white noise has no slow share, unless everything is asked to be frozen
        return self.curves_with(
            program_sigma_uS=self.sigma_program_uS(g, t_s),
            frozen_abs_uS=noise if frozen else zero,
            read_abs_uS=zero if frozen else noise,
        )

    def reference_points(self) -> list[ReferencePoint]:
        if self.fit == "one_second":
            cubic = {0: 1.053, 5: 1.96745, 10: 2.4136, 20: 2.3618, 30: 1.8192, 39.26: 1.68064}
            return [
                ReferencePoint("sigma_program_uS", {"g_uS": float(g), "t_s": 1.0}, sigma, 6e-6, SOURCE)
                for g, sigma in cubic.items()
            ]
        ratios = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)
        quartics = {
            0.0: (0.348, 1.55618, 2.25827, 2.02294, 1.53299, 1.103),
            1.0: (0.348, 1.55618, 2.25827, 2.02294, 1.53299, 1.103),
            86400.0: (0.701, 2.44732, 3.72076, 3.909, 3.36648, 2.651),
            172800.0: (0.782, 2.4102, 3.66379, 3.92913, 3.37435, 2.677),
        }
        return [
            ReferencePoint("sigma_program_uS", {"g_uS": r * _REFERENCE_uS, "t_s": t}, sigma, 6e-6, SOURCE)
            for t, values in quartics.items()
            for r, sigma in zip(ratios, values, strict=True)
        ]
