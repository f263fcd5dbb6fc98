"""Static current over voltage of a device.

With inputs coded in time the voltage is two-valued, and a static non-linearity is only a gain that depends on the
state. It distorts the inputs of amplitude-coded drivers: y_j = sum_i I_ij(V_i).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import lru_cache
from typing import Annotated, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

from device_models.effects.checks import checked
from device_models.errors import UsageError
from device_models.strict import KindOf, Number, Positive, StrictModel, Text

Floats = NDArray[np.float64]
Coefficients = Annotated[tuple[Number, ...], Field(min_length=1)]


class PolynomialCurrent(NamedTuple):
    """I = g V + n2 V^2 + n3 V^3 exactly [uA], so an array is one product for each power of the voltage."""

    g_uS: Floats
    n2_uS_per_V: Floats
    n3_uS_per_V2: Floats


class AbstractIVCurve(StrictModel, ABC):
    """Current of a device whose conductance at vanishing voltage is g.

    Where devices of a conductance differ, z (n_normals, ...) holds the standard normals of each, fixed for its life;
    without them a curve is that of the mean device.
    """

    @property
    def n_normals(self) -> int:
        """Standard normals of a device by which its curve differs from that of others."""
        return 0

    @property
    @abstractmethod
    def is_ideal(self) -> bool: ...

    @property
    @abstractmethod
    def v_limit_V(self) -> float:
        """Largest |V| for which the curve holds [V]."""

    @abstractmethod
    def current_uA(self, g_uS: ArrayLike, v_V: ArrayLike, z: ArrayLike | None = None) -> Floats:
        """I(g, V) with g [uS] and V [V] broadcast together [uA]. UsageError beyond the valid range."""

    @abstractmethod
    def slope_uS(self, g_uS: ArrayLike, v_V: ArrayLike, z: ArrayLike | None = None) -> Floats:
        """dI/dV with g [uS] and V [V] broadcast together [uS]. UsageError beyond the valid range."""

    @abstractmethod
    def polynomial(self, g_uS: ArrayLike, z: ArrayLike | None = None) -> PolynomialCurrent | None:
        """The current as a polynomial in the voltage where it is one exactly, else none."""

    def check_window(self, g_min_uS: float, g_max_uS: float) -> None:
        """UsageError where the curve does not hold for all of a device's window."""
        checked("g_min_uS", g_min_uS, 0.0, float(checked("g_max_uS", g_max_uS, 0.0, above_low=True)))

    def _arguments(self, g_uS: ArrayLike, v_V: ArrayLike) -> tuple[Floats, Floats]:
        return checked("g_uS", g_uS, 0.0), checked("v_V", v_V, -self.v_limit_V, self.v_limit_V)


class AbstractPolynomialIV(AbstractIVCurve):
    """Currents that are polynomials in the voltage; a subclass gives the coefficients."""

    powers: ClassVar[tuple[int, ...]] = (2, 3)
    """Powers of the voltage, beside the first, that the current may have."""
    is_proportional: ClassVar[bool] = False
    """Whether all coefficients are in proportion to the conductance."""

    @abstractmethod
    def polynomial(self, g_uS: ArrayLike, z: ArrayLike | None = None) -> PolynomialCurrent: ...

    def current_uA(self, g_uS: ArrayLike, v_V: ArrayLike, z: ArrayLike | None = None) -> Floats:
        g, v = self._arguments(g_uS, v_V)
        g, n2, n3 = self.polynomial(g, z)
        return v * (g + v * (n2 + v * n3))

    def slope_uS(self, g_uS: ArrayLike, v_V: ArrayLike, z: ArrayLike | None = None) -> Floats:
        g, v = self._arguments(g_uS, v_V)
        g, n2, n3 = self.polynomial(g, z)
        return g + v * (2 * n2 + 3 * v * n3)


class LinearIV(AbstractPolynomialIV):
    """Ohm's law: I = g V."""

    kind: Literal["linear"] = "linear"
    is_proportional: ClassVar[bool] = True

    @property
    def is_ideal(self) -> bool:
        return True

    @property
    def v_limit_V(self) -> float:
        return math.inf

    def polynomial(self, g_uS: ArrayLike, z: ArrayLike | None = None) -> PolynomialCurrent:
        g = checked("g_uS", g_uS, 0.0)
        return PolynomialCurrent(g, np.zeros_like(g), np.zeros_like(g))


class CubicIV(AbstractPolynomialIV):
    """A current that saturates: I = g (V - k3 V^3), for |V| <= 1 / sqrt(3 k3), up to which it rises.

    Source: form of the non-linear demonstration device of CrossSim 3.2.0 (k3 = 0.25 / V^2 there).
    """

    kind: Literal["cubic"] = "cubic"
    powers: ClassVar[tuple[int, ...]] = (3,)
    is_proportional: ClassVar[bool] = True
    k3_per_V2: Positive = Field(description="Cubic coefficient relative to the conductance")

    @property
    def is_ideal(self) -> bool:
        return False

    @property
    def v_limit_V(self) -> float:
        return 1 / math.sqrt(3 * self.k3_per_V2)

    def polynomial(self, g_uS: ArrayLike, z: ArrayLike | None = None) -> PolynomialCurrent:
        g = checked("g_uS", g_uS, 0.0)
        return PolynomialCurrent(g, np.zeros_like(g), -self.k3_per_V2 * g)


class SinhIV(AbstractIVCurve):
    """Hopping conduction: I = g V0 sinh(V / V0), for |V| <= 20 V0."""

    kind: Literal["sinh"] = "sinh"
    v0_V: Positive = Field(description="Voltage at which the current bends upwards")

    @property
    def is_ideal(self) -> bool:
        return False

    @property
    def v_limit_V(self) -> float:
        return 20 * self.v0_V

    def current_uA(self, g_uS: ArrayLike, v_V: ArrayLike, z: ArrayLike | None = None) -> Floats:
        g, v = self._arguments(g_uS, v_V)
        return g * self.v0_V * np.sinh(v / self.v0_V)

    def slope_uS(self, g_uS: ArrayLike, v_V: ArrayLike, z: ArrayLike | None = None) -> Floats:
        g, v = self._arguments(g_uS, v_V)
        return g * np.cosh(v / self.v0_V)

    def polynomial(self, g_uS: ArrayLike, z: ArrayLike | None = None) -> None:
        return None


class AbstractMeasuredIV(AbstractPolynomialIV):
    """Currents I = G V + N2 V^2 + N3 V^3 of which N2 and N3 were measured over the conductance."""

    kind: str
    source: Text = "device RRAMMilo of CrossSim 3.2.0"
    n2_coefficients: Coefficients = Field(
        (0.007063, 0.005711, 0.001541, 0.0001388), description="N2 in A/V^2 in powers of log10(G in S), lowest first"
    )
    n3_coefficients: Coefficients = Field(
        (1.2968e-03, 6.7919e-04, 8.8710e-05), description="N3 in A/V^3 in powers of log10(G in S), lowest first"
    )
    g_low_uS: Positive = Field(50.0, description="Bottom of the conductances for which the coefficients hold")
    g_high_uS: Positive = Field(225.0, description="Top of the conductances for which the coefficients hold")
    v_max_V: Positive = Field(0.5, description="Largest voltage for which the coefficients hold")

    @property
    def is_ideal(self) -> bool:
        return False

    @property
    def v_limit_V(self) -> float:
        return self.v_max_V

    def _mean_device(self, g_uS: ArrayLike) -> PolynomialCurrent:
        g = checked("g_uS", g_uS, 0.0, above_low=True)
        log_g = np.log10(g * 1e-6)
        n2, n3 = (
            1e6 * np.asarray(np.polynomial.polynomial.polyval(log_g, coefficients), float)
            for coefficients in (self.n2_coefficients, self.n3_coefficients)
        )
        return PolynomialCurrent(g, n2, n3)

    def check_window(self, g_min_uS: float, g_max_uS: float) -> None:
        super().check_window(g_min_uS, g_max_uS)
        if g_min_uS < self.g_low_uS or g_max_uS > self.g_high_uS:
            raise UsageError(
                f"window = {g_min_uS:g} to {g_max_uS:g} uS: must lie within {self.g_low_uS:g} to {self.g_high_uS:g} "
                "uS, where the I-V curve holds"
            )


class MiloIV(AbstractMeasuredIV):
    """Measured asymmetric current of HfO2 ReRAM: I = G V + N2 V^2 + N3 V^3.

    Equation   N2 = p2(l) [A/V^2], N3 = p3(l) [A/V^3], l = log10(G in S)
    Valid      |V| <= 0.5 V, 50 to 225 uS (measured from 62.5 to 110 uS); noise may carry a device a little beyond
    Source     device RRAMMilo of CrossSim 3.2.0
    Test       tests/oracles/test_effects_oracles.py::test_measured_iv_curve
    """

    kind: Literal["milo"] = "milo"

    def polynomial(self, g_uS: ArrayLike, z: ArrayLike | None = None) -> PolynomialCurrent:
        return self._mean_device(g_uS)


class ScatteredIV(AbstractMeasuredIV):
    """Measured currents of devices that differ, each with a curve of its own.

    Equation   I = (g + dg) V + (N2 + d2) V^2 + (N3 + d3) V^3, d3 = g s3 x3, d2 = g s2 x2 - lean23 d3,
               dg = -lean12 d2 - lean13 d3: what a device has of its own leaves the best straight line through its
               currents as it was programmed. ln s2, ln s3 polynomials in log10(G in S); x2, x3 of each device fixed,
               standard normal or of Student's t with tail_nu degrees of freedom
    Valid      |V| <= v_max_V, g_low to g_high; the spreads of the ends hold beyond
    Source     a fit of measured currents (calibration.fit_iv)
    """

    kind: Literal["scattered"] = "scattered"
    k2_log_sigma: Coefficients = Field(description="ln(s.d. of N2 / G over devices in 1/V) in powers of log10(G in S)")
    k3_log_sigma: Coefficients | None = Field(
        None, description="ln(s.d. of N3 / G over devices in 1/V^2), likewise; none: no spread"
    )
    lean12_V: Number = Field(description="Slope of the best line through V^2 over the measured voltages")
    lean13_V2: Number = Field(description="Slope of the best line through V^3")
    lean23_V: Number = Field(description="Curvature of the best parabola through V^3")
    tail_nu: Positive | None = Field(None, description="Degrees of freedom of Student's t; none: normal")

    @property
    def n_normals(self) -> int:
        return 2

    def polynomial(self, g_uS: ArrayLike, z: ArrayLike | None = None) -> PolynomialCurrent:
        g, n2, n3 = mean = self._mean_device(g_uS)
        if z is None:
            return mean
        x2, x3 = checked("z", z) if self.tail_nu is None else _student(checked("z", z), self.tail_nu)
        log_g = np.log10(np.clip(g, self.g_low_uS, self.g_high_uS) * 1e-6)
        s2, s3 = (
            0.0 if logs is None else np.exp(np.polynomial.polynomial.polyval(log_g, logs))
            for logs in (self.k2_log_sigma, self.k3_log_sigma)
        )
        d3 = g * s3 * x3
        d2 = g * s2 * x2 - self.lean23_V * d3
        return PolynomialCurrent(g - self.lean12_V * d2 - self.lean13_V2 * d3, n2 + d2, n3 + d3)


def _student(z: Floats, nu: float) -> Floats:
    """Values of Student's t with the ranks of standard normals."""
    return np.interp(z, *_quantiles(nu))


@lru_cache(maxsize=8)
def _quantiles(nu: float) -> tuple[Floats, Floats]:
    from scipy.special import ndtr, stdtrit  # loaded only where devices have heavy tails

    z = np.linspace(-8.0, 8.0, 3201)
    half = stdtrit(nu, ndtr(z[:1601]))
    return z, np.concatenate([half, -half[-2::-1]])


def _kinds() -> Mapping[str, type[StrictModel]]:
    return {"linear": LinearIV, "cubic": CubicIV, "sinh": SinhIV, "milo": MiloIV, "scattered": ScatteredIV}


IVCurve = Annotated[LinearIV | CubicIV | SinhIV | MiloIV | ScatteredIV, KindOf(_kinds)]
