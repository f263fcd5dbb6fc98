"""Static current over voltage of a device.

With inputs coded in time the voltage is two-valued, and a static non-linearity is only a gain that depends on the
state. It distorts the inputs of amplitude-coded drivers: y_j = sum_i I_ij(V_i).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
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
    """Current of a device whose conductance at vanishing voltage is g."""

    @property
    @abstractmethod
    def is_ideal(self) -> bool: ...

    @property
    @abstractmethod
    def v_limit_V(self) -> float:
        """Largest |V| for which the curve holds [V]."""

    @abstractmethod
    def current_uA(self, g_uS: ArrayLike, v_V: ArrayLike) -> Floats:
        """I(g, V) with g [uS] and V [V] broadcast together [uA]. UsageError beyond the valid range."""

    @abstractmethod
    def slope_uS(self, g_uS: ArrayLike, v_V: ArrayLike) -> Floats:
        """dI/dV with g [uS] and V [V] broadcast together [uS]. UsageError beyond the valid range."""

    @abstractmethod
    def polynomial(self, g_uS: ArrayLike) -> PolynomialCurrent | None:
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

    @abstractmethod
    def polynomial(self, g_uS: ArrayLike) -> PolynomialCurrent: ...

    def current_uA(self, g_uS: ArrayLike, v_V: ArrayLike) -> Floats:
        g, v = self._arguments(g_uS, v_V)
        _, n2, n3 = self.polynomial(g)
        return v * (g + v * (n2 + v * n3))

    def slope_uS(self, g_uS: ArrayLike, v_V: ArrayLike) -> Floats:
        g, v = self._arguments(g_uS, v_V)
        _, n2, n3 = self.polynomial(g)
        return g + v * (2 * n2 + 3 * v * n3)


class LinearIV(AbstractPolynomialIV):
    """Ohm's law: I = g V."""

    kind: Literal["linear"] = "linear"

    @property
    def is_ideal(self) -> bool:
        return True

    @property
    def v_limit_V(self) -> float:
        return math.inf

    def polynomial(self, g_uS: ArrayLike) -> PolynomialCurrent:
        g = checked("g_uS", g_uS, 0.0)
        return PolynomialCurrent(g, np.zeros_like(g), np.zeros_like(g))


class CubicIV(AbstractPolynomialIV):
    """A current that saturates: I = g (V - k3 V^3), for |V| <= 1 / sqrt(3 k3), up to which it rises.

    Source: form of the non-linear demonstration device of CrossSim 3.2.0 (k3 = 0.25 / V^2 there).
    """

    kind: Literal["cubic"] = "cubic"
    powers: ClassVar[tuple[int, ...]] = (3,)
    k3_per_V2: Positive = Field(description="Cubic coefficient relative to the conductance")

    @property
    def is_ideal(self) -> bool:
        return False

    @property
    def v_limit_V(self) -> float:
        return 1 / math.sqrt(3 * self.k3_per_V2)

    def polynomial(self, g_uS: ArrayLike) -> PolynomialCurrent:
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

    def current_uA(self, g_uS: ArrayLike, v_V: ArrayLike) -> Floats:
        g, v = self._arguments(g_uS, v_V)
        return g * self.v0_V * np.sinh(v / self.v0_V)

    def slope_uS(self, g_uS: ArrayLike, v_V: ArrayLike) -> Floats:
        g, v = self._arguments(g_uS, v_V)
        return g * np.cosh(v / self.v0_V)

    def polynomial(self, g_uS: ArrayLike) -> None:
        return None


class MiloIV(AbstractPolynomialIV):
    """Measured asymmetric current of HfO2 ReRAM: I = G V + N2 V^2 + N3 V^3.

    Equation   N2 = p2(l) [A/V^2], N3 = p3(l) [A/V^3], l = log10(G in S)
    Valid      |V| <= 0.5 V, 50 to 225 uS (measured from 62.5 to 110 uS); noise may carry a device a little beyond
    Source     device RRAMMilo of CrossSim 3.2.0
    Test       tests/oracles/test_effects_oracles.py::test_measured_iv_curve
    """

    kind: Literal["milo"] = "milo"
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

    def polynomial(self, g_uS: ArrayLike) -> PolynomialCurrent:
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


def _kinds() -> Mapping[str, type[StrictModel]]:
    return {"linear": LinearIV, "cubic": CubicIV, "sinh": SinhIV, "milo": MiloIV}


IVCurve = Annotated[LinearIV | CubicIV | SinhIV | MiloIV, KindOf(_kinds)]
