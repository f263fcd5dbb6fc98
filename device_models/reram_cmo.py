"""Resistive memory of a conductive metal oxide on HfOx: write-verify, relaxation, 1/f read noise.

Sources
    D. F. Falcone et al., arXiv 2502.04524 (2025) (device, programming, relaxation);
    Lombardo et al., DRC 2024, DOI 10.1109/DRC61706.2024.10643760 (read noise);
    coefficients as in the ReRAM noise model of aihwkit 1.2.0.
Valid from 9 to 88.2 uS, at t = 0 (as verified) and for t >= 1 s.
Programming error and relaxation are independent in the source. Here their variances add and one normal deviate of the
device carries both, so mean and spread at any time are exact and a device keeps its rank. As in the source, what
has relaxed is limited to the window, frozen noise included; the per-read share of the noise is not.
"""

from __future__ import annotations

from typing import Literal, Self

import numpy as np
from numpy.typing import ArrayLike
from pydantic import Field, model_validator

from device_models.base import AbstractDevice, Curve, DeviceCurves, ReferencePoint
from device_models.errors import UsageError
from device_models.laws import one_over_f_variance
from device_models.registry import register_device
from device_models.strict import NonNegative, Positive
from device_models.units import seconds

SOURCE = "Falcone 2025, arXiv 2502.04524; read noise: Lombardo 2024, DOI 10.1109/DRC61706.2024.10643760"
_BOTTOM_uS, _TOP_uS = 9.0, 88.2
_PROGRAM_uS = {"0.2%": (0.00081107, 0.00106879), "2%": (0.0112185391, 0.01129027418)}
_SHIFT_uS = -0.08900206
_RELAXATION_uS = (0.41183342, 0.04201137)
_READ_uS = 0.0277316483
_T_READ_S = 1e-6


@register_device
class ReramCmo(AbstractDevice):
    """CMO/HfOx ReRAM: the mean falls and the spread grows with the logarithm of time."""

    kind: Literal["reram_cmo"] = "reram_cmo"
    source: str = SOURCE
    g_min_uS: NonNegative = Field(_BOTTOM_uS, description="Bottom of the programmable window; at least 9")
    g_max_uS: Positive = Field(_TOP_uS, description="Top of the programmable window; at most 88.2")
    acceptance: Literal["0.2%", "2%"] = Field(
        "0.2%", description="Write-verify stops within this share of the target conductance"
    )

    @model_validator(mode="after")
    def _characterised(self) -> Self:
        if self.g_min_uS < _BOTTOM_uS or self.g_max_uS > _TOP_uS:
            raise ValueError(
                f"the window {self.g_min_uS:g} to {self.g_max_uS:g} uS must lie within the characterised one, "
                f"{_BOTTOM_uS:g} to {_TOP_uS:g} uS"
            )
        return self

    def sigma_program_uS(self, g_uS: ArrayLike) -> Curve:
        """Standard deviation of the programming error at t = 0.

        Equation   0.00106879 g + 0.00081107 (0.2 %); 0.01129027418 g + 0.0112185391 (2 %); g target, all in uS
        Source     Falcone 2025
        """
        return np.polynomial.polynomial.polyval(np.asarray(g_uS, float), _PROGRAM_uS[self.acceptance])

    def shift_uS(self, t_s: float) -> float:
        """Mean relaxation. Equation: -0.08900206 ln t, t >= 1 s; none at t = 0 [uS]. Source: Falcone 2025."""
        return float(_SHIFT_uS * np.log(t_s)) if self._has_relaxed(t_s) else 0.0

    def sigma_relaxation_uS(self, t_s: float) -> float:
        """Spread of relaxation. Equation: 0.04201137 ln t + 0.41183342, t >= 1 s; none at t = 0 [uS]. Source: same."""
        mean, slope = _RELAXATION_uS
        return float(mean + slope * np.log(t_s)) if self._has_relaxed(t_s) else 0.0

    def sigma_read_uS(self, g_uS: float, t_s: float) -> float:
        """Whole read noise of a device that holds g_uS at time t_s.

        Equation   0.0277316483 log10(g) sqrt(ln((t + t_read) / (2 t_read))), t_read = 1 us [uS]; none at t = 0
        Source     Lombardo 2024
        """
        return float(self._read_uS(np.asarray(g_uS, float)) * np.sqrt(sum(self._read_variance(t_s, 0.0))))

    def _read_uS(self, g_uS: Curve) -> Curve:
        return _READ_uS * np.log10(np.maximum(g_uS, 1.0))  # a tabulated curve starts at zero, no device does

    def _read_variance(self, t_s: float, t_obs_s: float) -> tuple[float, float]:
        """Frozen and per-read share; the clock of the source starts with the end of programming."""
        return one_over_f_variance(t_s, 0.0, _T_READ_S, t_obs_s) if self._has_relaxed(t_s) else (0.0, 0.0)

    def _has_relaxed(self, t_s: float) -> bool:
        t_s = seconds(t_s, "device (reram_cmo): t_s")
        if 0.0 < t_s < 1.0:
            raise UsageError(
                f"device (reram_cmo): t_s = {t_s:g}: must be 0 (as verified) or at least 1 s, "
                "the first measurement of relaxation"
            )
        return t_s > 0.0

    def curves(self, t_s: float, t_obs_s: float) -> DeviceCurves:
        g = self.nodes_uS()
        frozen, per_read = self._read_variance(t_s, t_obs_s)
        relaxed = self._has_relaxed(t_s)
        return self.curves_with(
            program_bias_uS=np.full_like(g, self.shift_uS(t_s)),
            program_sigma_uS=np.hypot(self.sigma_program_uS(g), self.sigma_relaxation_uS(t_s)),
            frozen_abs_uS=np.sqrt(frozen) * self._read_uS(g),
            read_abs_uS=np.sqrt(per_read) * self._read_uS(g),
            noise_at_programmed=True,  # read noise follows the relaxed conductance
            floor_uS=self.g_min_uS if relaxed else 0.0,
            ceiling_uS=self.g_max_uS if relaxed else None,
        )

    def reference_points(self) -> list[ReferencePoint]:
        program = {
            "0.2%": {9.0: 0.010430, 25.0: 0.027531, 50.0: 0.054251, 88.2: 0.095078},
            "2%": {9.0: 0.112831, 25.0: 0.293475, 50.0: 0.575732, 88.2: 1.007021},
        }
        relaxed = {
            0.0: (0.0, 0.0, 0.0),
            1.0: (0.0, 0.411833, 0.170674),
            10.0: (-0.204935, 0.508568, 0.185043),
            3600.0: (-0.728810, 0.755851, 0.217502),
            86400.0: (-1.011664, 0.889366, 0.233157),
            31536000.0: (-1.536767, 1.137229, 0.259729),
        }
        laws: tuple[tuple[str, dict[str, float]], ...]
        laws = (("shift_uS", {}), ("sigma_relaxation_uS", {}), ("sigma_read_uS", {"g_uS": 50.0}))
        return [
            *(
                ReferencePoint("sigma_program_uS", {"g_uS": g}, sigma, 6e-7, SOURCE)
                for g, sigma in program[self.acceptance].items()
            ),
            *(
                ReferencePoint(law, {**at, "t_s": t}, value, 6e-7, SOURCE)
                for t, values in relaxed.items()
                for (law, at), value in zip(laws, values, strict=True)
            ),
        ]
