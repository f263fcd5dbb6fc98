"""HfO2 resistive memory of a 4-kbit 1T1R array, programmed by incremental gate and bit-line pulses (IGVVA-100).

Source
    V. Milo et al., IRPS 2021, DOI 10.1109/IRPS46558.2021.9405119, Fig. 4 (spread after programming);
    spread and static current as fitted in CrossSim 3.2.0.
Valid from 50 to 225 uS; the current law up to 0.5 V, best trusted from 62.5 to 110 uS. Retention and read noise are not
known: the state after programming is kept at all times.
"""

from __future__ import annotations

from typing import Literal, Self

import numpy as np
from numpy.typing import ArrayLike
from pydantic import Field, model_validator

from device_models.base import AbstractDevice, Curve, DeviceCurves, ReferencePoint
from device_models.effects import MiloIV
from device_models.errors import UsageError
from device_models.registry import register_device
from device_models.strict import NonNegative, Positive

SOURCE = "Milo 2021, DOI 10.1109/IRPS46558.2021.9405119, Fig. 4; fits of CrossSim 3.2.0"
_BOTTOM_uS, _TOP_uS, _TOP_V = 50.0, 225.0, 0.5
_PROGRAM_uS = (4.782321, -0.009107)
_IV = MiloIV()


@register_device
class RramMilo(AbstractDevice):
    """HfO2 ReRAM: programming error that falls with conductance, and a non-linear, asymmetric static current."""

    kind: Literal["rram_milo"] = "rram_milo"
    source: str = SOURCE
    g_min_uS: NonNegative = Field(_BOTTOM_uS, description="Bottom of the programmable window; at least 50")
    g_max_uS: Positive = Field(_TOP_uS, description="Top of the programmable window; at most 225")

    @model_validator(mode="after")
    def _characterised(self) -> Self:
        if self.g_min_uS < _BOTTOM_uS or self.g_max_uS > _TOP_uS:
            raise ValueError(
                f"the window {self.g_min_uS:g} to {self.g_max_uS:g} uS must lie within the characterised one, "
                f"{_BOTTOM_uS:g} to {_TOP_uS:g} uS"
            )
        return self

    def sigma_program_uS(self, g_uS: ArrayLike) -> Curve:
        """Standard deviation of the programming error. Equation: max(0, 4.782321 - 0.009107 g) [uS]. Source: Milo."""
        return np.maximum(np.polynomial.polynomial.polyval(np.asarray(g_uS, float), _PROGRAM_uS), 0.0)

    def n2(self, g_uS: ArrayLike) -> Curve:
        """Quadratic coefficient of the current [A/V^2].

        Equation   0.0001388 l^3 + 0.001541 l^2 + 0.005711 l + 0.007063, l = log10(g / S)
        """
        return 1e-6 * _IV.polynomial(self._fitted(g_uS)).n2_uS_per_V

    def n3(self, g_uS: ArrayLike) -> Curve:
        """Cubic coefficient of the current [A/V^3]. Equation: 8.8710e-5 l^2 + 6.7919e-4 l + 1.2968e-3, l as in n2."""
        return 1e-6 * _IV.polynomial(self._fitted(g_uS)).n3_uS_per_V2

    def current_A(self, g_uS: ArrayLike, v_V: ArrayLike) -> Curve:
        """Static current of a device.

        Equation   I = g V + N2(g) V^2 + N3(g) V^3
        Arguments  g_uS low-field conductance [uS]; v_V voltage [V]; shapes broadcast
        Valid      50 <= g <= 225 uS, |V| <= 0.5 V; refused beyond
        Source     Milo 2021 in the fit of CrossSim 3.2.0
        """
        v = np.asarray(v_V, float)
        if not np.all(np.abs(v) <= _TOP_V):
            raise UsageError(f"v_V: |v_V| reaches {np.max(np.abs(v)):g}: must be at most {_TOP_V:g} V, as fitted")
        return 1e-6 * _IV.current_uA(self._fitted(g_uS), v)

    def _fitted(self, g_uS: ArrayLike) -> Curve:
        g = np.asarray(g_uS, float)
        if not np.all((g >= _BOTTOM_uS) & (g <= _TOP_uS)):
            raise UsageError(
                f"g_uS: runs from {np.min(g):g} to {np.max(g):g}: the current law was fitted from {_BOTTOM_uS:g} to "
                f"{_TOP_uS:g} uS"
            )
        return g

    def curves(self, t_s: float, t_obs_s: float) -> DeviceCurves:
        g = self.nodes_uS()
        return self.curves_with(
            program_sigma_uS=self.sigma_program_uS(g),
        )

    def reference_points(self) -> list[ReferencePoint]:
        sigma = {50.0: 4.326971, 100.0: 3.871621, 110.0: 3.780551, 150.0: 3.416271, 225.0: 2.733246}
        current_A = {
            (62.5, 0.5): 2.645523e-05, (62.5, -0.5): -3.837470e-05,
            (110.0, 0.5): 5.315514e-05, (110.0, -0.5): -5.641734e-05,
        }  # fmt: skip
        return [
            *(ReferencePoint("sigma_program_uS", {"g_uS": g}, value, 6e-7, SOURCE) for g, value in sigma.items()),
            ReferencePoint("n2", {"g_uS": 62.5}, -2.3839e-05, 6e-10, SOURCE),
            ReferencePoint("n3", {"g_uS": 62.5}, 9.3197e-06, 6e-11, SOURCE),
            *(
                ReferencePoint("current_A", {"g_uS": g, "v_V": v}, value, 6e-12, SOURCE)
                for (g, v), value in current_A.items()
            ),
        ]
