"""Charge-trap (SONOS) memory in 40 nm: programming error, retention up to five days, read noise.

Sources
    V. Agrawal et al., IEDM 2022, 21.7 (programming, retention, read noise of 128 k cells; Fig. 11b);
    T. P. Xiao et al., IEEE TCAS-I 69, 1480 (2022), DOI 10.1109/TCSI.2021.3134313 (use in arrays);
    coefficients as in CrossSim 3.2.0.
The source counts in nanoamperes of cell current I. Here a cell is the conductance g = I / v_read_V, so g_max_uS = 16
and v_read_V = 0.1 is a full scale of 1600 nA. Only I enters the laws; the choice of v_read_V matters to wires alone.
"""

from __future__ import annotations

from typing import Literal, Self

import numpy as np
from numpy.typing import ArrayLike
from pydantic import Field, model_validator

from device_models.base import AbstractDevice, Curve, DeviceCurves, ReferencePoint
from device_models.errors import UsageError
from device_models.registry import register_device
from device_models.strict import NonNegative, Positive
from device_models.units import seconds

SOURCE = "Agrawal 2022, IEDM 21.7; Xiao 2022, DOI 10.1109/TCSI.2021.3134313; fits of CrossSim 3.2.0"
_NA_PER_UA = 1e3
_DAY_S = 86400.0
_TOP_NA, _TOP_RETENTION_NA = 3200.0, 1800.0
_DAYS = (0.0, 1.0, 2.0, 3.0, 4.0, 5.0)
_SPREAD_A_NA = (19.88665, 25.59102, 28.72753, 31.04318, 33.76214, 34.57909)
_SPREAD_B_NA = (176.3115, 186.85544, 193.56834, 198.90332, 204.77023, 207.34309)
_READ_A_NA, _READ_B_NA = 12.58037, 215.36557
_RETENTION_NA = (  # in I / nA, lowest power first, one row per day
    (0.0,) * 11,
    (1.72684e-01, 5.72552e-02, -6.85715e-04, 3.50271e-06, -9.37682e-09, 1.40575e-11, -1.19803e-14, 5.41293e-18,
     -8.85448e-22, -1.66869e-25, 5.95180e-29),
    (2.50712e-01, 6.62195e-02, -6.83218e-04, 2.99442e-06, -6.78255e-09, 7.70482e-12, -3.04983e-15, -2.15919e-18,
     2.94617e-21, -1.23359e-24, 1.85329e-28),
    (-1.75300e-02, 9.76883e-02, -9.63791e-04, 4.55551e-06, -1.22391e-08, 1.93786e-11, -1.85899e-14, 1.07659e-17,
     -3.58211e-21, 5.96785e-25, -3.30410e-29),
    (4.03338e-02, 1.03111e-01, -1.04740e-03, 4.83961e-06, -1.28132e-08, 1.99484e-11, -1.85139e-14, 1.00008e-17,
     -2.84944e-21, 3.01008e-25, 1.18747e-29),
    (3.19927e-01, 1.06596e-01, -1.04054e-03, 4.50290e-06, -1.10352e-08, 1.56477e-11, -1.27592e-14, 5.45513e-18,
     -7.26841e-22, -2.43893e-25, 7.14608e-29),
)  # fmt: skip


def _saturating(i_nA: ArrayLike, a_nA: float, b_nA: float) -> Curve:
    return -a_nA * np.expm1(-np.asarray(i_nA, float) / b_nA)


@register_device
class Sonos(AbstractDevice):
    """SONOS cell: mean and spread move with the days; a device keeps its rank; white noise per read."""

    kind: Literal["sonos"] = "sonos"
    source: str = SOURCE
    g_min_uS: NonNegative = Field(1.6e-6, description="Bottom of the programmable window: an on/off ratio of 1e7")
    g_max_uS: Positive = Field(16.0, description="Top of the window: largest current over v_read_V")
    v_read_V: Positive = Field(0.1, description="Voltage at which a current counts as conductance, g = I / v_read_V")

    @model_validator(mode="after")
    def _characterised(self) -> Self:
        if self._nA(self.g_max_uS) > _TOP_NA * (1 + 1e-12):
            raise ValueError(
                f"g_max_uS = {self.g_max_uS:g}: must be at most {_TOP_NA / self._nA(1.0):g} uS with v_read_V = "
                f"{self.v_read_V:g}, because currents were measured up to {_TOP_NA:g} nA"
            )
        return self

    def mean_nA(self, i_nA: ArrayLike, t_s: float) -> Curve:
        """Mean current at time t of cells programmed to i_nA.

        Equation   I + sum_k p_k(t) I^k, k = 0 .. 10; p_k linear between days, 0 at t = 0
        Arguments  i_nA target [nA]; t_s since programming [s]
        Valid      0 <= t <= 5 d, a later time is refused; I <= 1800 nA where t > 0
        Source     Agrawal 2022
        """
        i = np.asarray(i_nA, float)
        day = self._day(t_s)
        powers = [np.interp(day, _DAYS, p) for p in zip(*_RETENTION_NA, strict=True)]
        return i + np.polynomial.polynomial.polyval(i, powers)

    def sigma_program_nA(self, i_nA: ArrayLike, t_s: float) -> Curve:
        """Standard deviation over cells, programming and retention together.

        Equation   A(t) (1 - exp(-I / B(t))), A and B linear between days 0 to 5; I target, all in nA
        Source     Agrawal 2022
        """
        day = self._day(t_s)
        return _saturating(i_nA, float(np.interp(day, _DAYS, _SPREAD_A_NA)), float(np.interp(day, _DAYS, _SPREAD_B_NA)))

    def sigma_read_nA(self, i_nA: ArrayLike) -> Curve:
        """Read noise of a cell that carries I. Equation: 12.58037 (1 - exp(-I / 215.36557)) [nA]. Source: Fig. 11b."""
        return _saturating(i_nA, _READ_A_NA, _READ_B_NA)

    def _nA(self, g_uS: float) -> float:
        return g_uS * self.v_read_V * _NA_PER_UA

    def _day(self, t_s: float) -> float:
        t_s = seconds(t_s, "device (sonos): t_s")
        if t_s > _DAYS[-1] * _DAY_S:
            raise UsageError(
                f"device (sonos): t_s = {t_s:g}: must be at most {_DAYS[-1] * _DAY_S:g} s ({_DAYS[-1]:g}d), "
                "the last measurement of retention"
            )
        if t_s > 0.0 and self._nA(self.g_max_uS) > _TOP_RETENTION_NA * (1 + 1e-12):
            raise UsageError(
                f"device (sonos): t_s = {t_s:g}: must be 0 with g_max_uS = {self.g_max_uS:g}, because retention was "
                f"measured up to {_TOP_RETENTION_NA:g} nA ({_TOP_RETENTION_NA / self._nA(1.0):g} uS)"
            )
        return t_s / _DAY_S

    def curves(self, t_s: float, t_obs_s: float) -> DeviceCurves:
        g = self.nodes_uS()
        per_nA = 1.0 / self._nA(1.0)
        i_nA = g / per_nA
        zero = np.zeros_like(g)
        noise = per_nA * self.sigma_read_nA(i_nA)
        frozen = t_obs_s == 0.0  # white noise has no slow share, unless everything is asked to be frozen
        return self.curves_with(
            program_bias_uS=per_nA * (self.mean_nA(i_nA, t_s) - i_nA),
            program_sigma_uS=per_nA * self.sigma_program_nA(i_nA, t_s),
            frozen_abs_uS=noise if frozen else zero,
            read_abs_uS=zero if frozen else noise,
            noise_at_programmed=True,  # read noise follows the current that the cell carries now
        )

    def reference_points(self) -> list[ReferencePoint]:
        mean = {
            1.0: {100.0: 101.735209, 400.0: 400.615458, 800.0: 796.173221, 1600.0: 1588.467771},
            2.5: {100.0: 103.025843, 400.0: 400.373763, 800.0: 791.342914, 1600.0: 1575.360896},
        }
        day_0 = {10.0: 1.09654, 100.0: 8.60846, 200.0: 13.49052, 400.0: 17.82947, 800.0: 19.67384, 1600.0: 19.88437}
        at_800_nA = {1.0: 25.23726, 2.0: 28.26685, 3.0: 30.48701, 4.0: 33.08337, 5.0: 33.84937}
        read = {10.0: 0.57079, 100.0: 4.67288, 400.0: 10.61667, 800.0: 12.27385, 1600.0: 12.57290}
        spread = [(0.0, i, sigma) for i, sigma in day_0.items()]
        spread += [(day, 800.0, sigma) for day, sigma in at_800_nA.items()]
        return [
            *(
                ReferencePoint("mean_nA", {"i_nA": i, "t_s": day * _DAY_S}, value, 6e-7, SOURCE)
                for day, values in mean.items()
                for i, value in values.items()
            ),
            *(
                ReferencePoint("sigma_program_nA", {"i_nA": i, "t_s": day * _DAY_S}, sigma, 6e-6, SOURCE)
                for day, i, sigma in spread
            ),
            *(ReferencePoint("sigma_read_nA", {"i_nA": i}, sigma, 6e-6, SOURCE) for i, sigma in read.items()),
        ]
