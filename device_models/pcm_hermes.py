"""Phase-change memory of the 64-core HERMES chip, one or two devices per polarity.

Sources
    M. Le Gallo et al., Nat. Electron. 6, 680-693 (2023), DOI 10.1038/s41928-023-01010-1 (chip);
    A. Vasilopoulos et al., IEEE TED (2023), DOI 10.1109/TED.2023.3321014 (two devices, Max-SET-Fill);
    coefficients as in the HERMES noise model of aihwkit 1.2.0.
With two devices the laws are those of the pair of devices that form one polarity, filled by Max-SET-Fill: their sum is
one composite device with twice the window. Drift is applied as if both held the same conductance, which is pessimistic
against the measured chip. The law of nu has a small step (0.0011) at r = 0.0945; it is kept as published.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike
from pydantic import Field, model_validator

from device_models.base import AbstractPowerLawDevice, Curve, ReferencePoint
from device_models.laws import clipped_log
from device_models.registry import register_device
from device_models.strict import Positive

SOURCE = "HERMES chip model: Le Gallo 2023, DOI 10.1038/s41928-023-01010-1; Vasilopoulos 2023 (MSF)"
NU_MEAN_EDGE = 0.0945


class _Branches(NamedTuple):
    """A law that is a clipped logarithm below `edge` and a polynomial (lowest power first) from it on."""

    edge: float
    log: tuple[float, float, float, float]
    polynomial: tuple[float, ...]

    def __call__(self, r: Curve) -> Curve:
        return np.where(r < self.edge, clipped_log(r, *self.log), np.polynomial.polynomial.polyval(r, self.polynomial))


class _Variant(NamedTuple):
    g_max_uS: float
    t0_s: float
    program_uS: tuple[float, ...]
    nu_mean: _Branches
    nu_sigma: _Branches
    q_s: _Branches


_NU_MEAN = _Branches(NU_MEAN_EDGE, (-0.0387, -0.0182, 0.0720, 0.13), (0.0736, -0.0126, -0.0436))
_VARIANTS = {
    1: _Variant(
        g_max_uS=10.35,
        t0_s=200.0,
        program_uS=(0.15781817, 2.32443916, -2.16310839, 0.68841818),
        nu_mean=_NU_MEAN,
        nu_sigma=_Branches(0.3039, (-0.0120, -0.0023, 0.0124, 0.04), (0.0104, 0.0116, -0.0165)),
        q_s=_Branches(0.1591, (-0.0078, 0.0038, 0.0179, 0.04), (0.0088, 0.0768, -0.1352, 0.0664)),
    ),
    2: _Variant(
        g_max_uS=20.7,
        t0_s=300.0,
        program_uS=(0.16603222, 4.71806468, -8.48101252, 4.68961419),
        nu_mean=_NU_MEAN,
        nu_sigma=_Branches(0.3055, (-0.0117, -0.0057, 0.0091, 0.04), (0.0073, 0.0093, -0.0118)),
        q_s=_Branches(0.16, (-0.0117, -0.0069, 0.015, 0.04), (0.0123, 0.0211, -0.0280, 0.0069)),
    ),
}


@register_device
class PcmHermes(AbstractPowerLawDevice):
    """PCM of the HERMES chip. `n_devices` per polarity chooses the published variant and its window and clock."""

    kind: Literal["pcm_hermes"] = "pcm_hermes"
    source: str = SOURCE
    n_devices: Literal[1, 2] = Field(2, description="PCM devices per polarity; two are filled by Max-SET-Fill")
    g_max_uS: Positive = Field(
        20.7, description="Top of the programmable window per polarity; at most 10.35 with one device, 20.7 with two"
    )
    t0_s: Positive = Field(300.0, description="Time of the first verified read: 200 with one device, 300 with two")
    t_read_s: Positive = Field(512e-9, description="Integration time of one read pulse")

    def __init__(self, **data: Any):
        # the published variants differ in window and clock, so what is not given follows n_devices
        variant = _VARIANTS[1] if data.get("n_devices") == 1 else _VARIANTS[2]
        super().__init__(**{"g_max_uS": variant.g_max_uS, "t0_s": variant.t0_s, **data})

    @model_validator(mode="after")
    def _characterised(self) -> Self:
        limit = self._variant.g_max_uS
        if self.g_max_uS > limit:
            raise ValueError(
                f"g_max_uS = {self.g_max_uS:g}: must be at most {limit} uS with n_devices = {self.n_devices}, "
                "the largest conductance that was characterised"
            )
        if self.t0_s != self._variant.t0_s:
            raise ValueError(
                f"t0_s = {self.t0_s:g}: must be {self._variant.t0_s:g} s with n_devices = {self.n_devices}, "
                "because the coefficients were fitted with that clock"
            )
        return self

    @property
    def _variant(self) -> _Variant:
        return _VARIANTS[self.n_devices]

    def _ratio(self, g_uS: ArrayLike) -> Curve:
        return np.asarray(g_uS, float) / self.g_max_uS

    def sigma_program_uS(self, g_uS: ArrayLike) -> Curve:
        """Equation: (g_max / g_ref) max(0, cubic in r), r = g / g_max. Source: HERMES chip model."""
        cubic = np.polynomial.polynomial.polyval(self._ratio(g_uS), self._variant.program_uS)
        return self.g_max_uS / self._variant.g_max_uS * np.maximum(cubic, 0.0)

    def nu_mean(self, g_uS: ArrayLike) -> Curve:
        return self._variant.nu_mean(self._ratio(g_uS))

    def nu_sigma(self, g_uS: ArrayLike) -> Curve:
        return self._variant.nu_sigma(self._ratio(g_uS))

    def q_s(self, g_uS: ArrayLike) -> Curve:
        return self._variant.q_s(self._ratio(g_uS))

    def reference_points(self) -> list[ReferencePoint]:
        laws = ("sigma_program_uS", "nu_mean", "nu_sigma", "q_s")
        rows = {
            0.0: (0.166032, 0.13, 0.04, 0.04),
            0.05: (0.381319, 0.097735, 0.029350, 0.028150),
            0.1: (0.557718, 0.071904, 0.021240, 0.020040),
            0.25: (0.888760, 0.067725, 0.010520, 0.015933),
            0.5: (0.991013, 0.0564, 0.0090, 0.016712),
            0.75: (0.912442, 0.039625, 0.007637, 0.015286),
            1.0: (1.092699, 0.0174, 0.0048, 0.0123),
        }
        if self.n_devices == 1:
            rows = {
                0.0: (0.157818, 0.13, 0.04, 0.04),
                0.05: (0.268718, 0.097735, 0.033649, 0.027167),
                0.1: (0.369319, 0.071904, 0.025331, 0.021760),
                0.25: (0.614490, 0.067725, 0.014336, 0.020588),
                0.5: (0.865313, 0.0564, 0.012075, 0.0217),
                0.75: (0.974825, 0.039625, 0.009819, 0.018363),
                1.0: (1.007567, 0.0174, 0.0055, 0.0168),
            }
        bandwidth = {2: (4.415380, 4.696863, 5.016174, 5.573010), 1: (4.369223, 4.694097, 5.016059, 5.573010)}
        day = {2: {0.5: 0.726449, 1.0: 0.906109}, 1: {0.5: 0.710072, 1.0: 0.899757}}
        return [
            *(
                ReferencePoint(law, {"g_uS": r * self.g_max_uS}, value, 6e-7, SOURCE)
                for r, values in rows.items()
                for law, value in zip(laws, values, strict=True)
            ),
            *(
                ReferencePoint("bandwidth_factor", {"t_s": t}, value, 6e-7, SOURCE)
                for t, value in zip((0.0, 3600.0, 86400.0, 31536000.0), bandwidth[self.n_devices], strict=True)
            ),
            *(
                ReferencePoint("drift_factor", {"g_uS": r * self.g_max_uS, "t_s": 86400.0}, value, 6e-7, SOURCE)
                for r, value in day[self.n_devices].items()
            ),
        ]
