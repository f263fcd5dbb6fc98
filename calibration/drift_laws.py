"""How mean and spread of the drift exponent depend on the conductance."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from calibration.curves import linear_beyond, natural_spline

Floats = NDArray[np.float64]

SPLINE_KNOTS = (0.05, 0.275, 0.5, 0.725, 0.95)
"""Their places as quantiles of x. Values at the ends of the data would hang on the few cells there. Source:
F. E. Harrell, Regression Modeling Strategies, 2nd ed., table 2.3 (2015), DOI 10.1007/978-3-319-19425-7."""
CAP_BELOW = 0.02
"""Part of g_max below which caps of published laws lie; without conductances there a cap cannot be told."""
NU = 0.05
"""A usual drift exponent, which makes parameters of order one."""

LOG_LIMITS = (-30.0, 30.0)
"""Of logarithms as they are reported, so that a parameter that the data leave open stays a finite number."""

_PLAIN, _NU, _LOG = 1.0, NU, 0.0


@dataclass(frozen=True)
class DriftLaw(ABC):
    """Mean m and spread s of nu = |m + s z| over x = ln(g / g_max); outside the measured x the end values hold.

    The optimiser sees `theta`: logarithms of positive parameters, exponents in units of NU, others as they are.
    """

    x_low: float
    x_high: float

    has_kinks: ClassVar[bool] = False

    @property
    @abstractmethod
    def name(self) -> str: ...

    @abstractmethod
    def names(self) -> tuple[str, ...]:
        """Names of the parameters, those of the mean first."""

    @abstractmethod
    def scales(self) -> tuple[float, ...]:
        """Unit of each parameter in theta; 0 where theta is its logarithm."""

    @abstractmethod
    def curves(self, x: Floats, theta: Floats) -> tuple[Floats, Floats]:
        """Mean and spread of the exponent before folding [1]."""

    @abstractmethod
    def starts(self, x: Floats, nu: Floats) -> list[Floats]:
        """Values of theta to begin with, from measured exponents."""

    def natural(self, theta: Floats) -> Floats:
        """Parameters as they are reported, from theta of shape (..., p)."""
        scales = np.array(self.scales())
        return np.where(scales == 0, np.exp(np.clip(theta, *LOG_LIMITS)), theta * scales)

    def theta(self, natural: Floats) -> Floats:
        """The inverse of `natural`."""
        scales = np.array(self.scales())
        logs = np.log(np.where(scales == 0, natural, 1.0))
        return np.where(scales == 0, logs, natural / np.where(scales == 0, 1.0, scales))

    def inside(self, x: Floats) -> Floats:
        return np.clip(x, self.x_low, self.x_high)


@dataclass(frozen=True)
class Constant(DriftLaw):
    """m and s are the same for all conductances."""

    @property
    def name(self) -> str:
        return "constant"

    def names(self) -> tuple[str, ...]:
        return "nu_mean", "nu_sigma"

    def scales(self) -> tuple[float, ...]:
        return _NU, _LOG

    def curves(self, x: Floats, theta: Floats) -> tuple[Floats, Floats]:
        return np.full_like(x, NU * theta[0]), np.full_like(x, np.exp(theta[1]))

    def starts(self, x: Floats, nu: Floats) -> list[Floats]:
        return [np.array([nu.mean() / NU, np.log(_spread(nu))])]


@dataclass(frozen=True)
class LinearInLog(DriftLaw):
    """m = m1 + b x, s = s1 (g / g_max)^c."""

    @property
    def name(self) -> str:
        return "linear in ln g"

    def names(self) -> tuple[str, ...]:
        return "nu_mean_at_g_max", "nu_mean_slope", "nu_sigma_at_g_max", "nu_sigma_exponent"

    def scales(self) -> tuple[float, ...]:
        return _NU, _NU, _LOG, _PLAIN

    def curves(self, x: Floats, theta: Floats) -> tuple[Floats, Floats]:
        x = self.inside(x)
        return NU * (theta[0] + theta[1] * x), np.exp(theta[2] + theta[3] * x)

    def starts(self, x: Floats, nu: Floats) -> list[Floats]:
        line = np.polyfit(x, nu, 1)
        return [np.array([line[1] / NU, line[0] / NU, np.log(_spread(nu - np.polyval(line, x))), 0.0])]


@dataclass(frozen=True)
class ClippedLog(DriftLaw):
    """The form of the published laws: constant at large conductances, a line in x below a knee, constant below a cap.

    m = low + slope clip(ln(knee) - x, 0, ln(knee / cap)), s likewise; knee and cap in units of g_max. Without `capped`
    the line runs to the lowest measured conductance.
    """

    capped: bool = False

    has_kinks: ClassVar[bool] = True

    @property
    def name(self) -> str:
        return "clipped log with cap" if self.capped else "clipped log"

    def names(self) -> tuple[str, ...]:
        parts = ("low", "slope", "knee", "cap") if self.capped else ("low", "slope", "knee")
        return tuple(f"{curve}_{part}" for curve in ("nu_mean", "nu_sigma") for part in parts)

    def scales(self) -> tuple[float, ...]:
        knees = (_LOG, _LOG) if self.capped else (_LOG,)
        return _NU, _NU, *knees, _LOG, _LOG, *knees

    def curves(self, x: Floats, theta: Floats) -> tuple[Floats, Floats]:
        half = len(theta) // 2
        mean, spread = theta[:half], theta[half:]
        low, slope = np.exp(spread[:2])
        return self._curve(x, NU * mean[0], NU * mean[1], mean[2:]), self._curve(x, low, slope, spread[2:])

    def _curve(self, x: Floats, low: float, slope: float, knees: Floats) -> Floats:
        reach = knees[0] - knees[1] if self.capped else np.inf
        return low + slope * np.clip(knees[0] - self.inside(x), 0.0, max(reach, 0.0))

    def starts(self, x: Floats, nu: Floats) -> list[Floats]:
        means, spreads = [], []
        for knee in np.unique(np.quantile(x, (0.1, 0.2, 0.35, 0.5, 0.75))):
            rise, below = np.maximum(knee - x, 0.0), x < knee
            slope, low = np.polyfit(rise, nu, 1) if below.any() else (0.0, nu.mean())
            rest = nu - low - slope * rise
            flat = _spread(rest[~below])
            steep = max(_spread(rest[below]) - flat, 0.1 * flat) / max(float(rise.max()) / 2, 1e-3)
            knees = [knee, self.x_low + 0.1 * (knee - self.x_low)] if self.capped else [knee]
            means.append([low / NU, slope / NU, *knees])
            spreads.append([np.log(flat), np.log(steep), *knees])
        return [np.array(mean + spread) for mean in means for spread in spreads]


@dataclass(frozen=True)
class Spline(DriftLaw):
    """Natural cubic splines in x through m and ln s at knots, which are the parameters; linear beyond the knots."""

    knots: tuple[float, ...] = ()

    @property
    def name(self) -> str:
        return "spline"

    def names(self) -> tuple[str, ...]:
        at = [f"{np.exp(knot):.3g}" for knot in self.knots]
        return tuple(f"{curve}_at_{ratio}" for curve in ("nu_mean", "nu_sigma") for ratio in at)

    def scales(self) -> tuple[float, ...]:
        return (_NU,) * len(self.knots) + (_LOG,) * len(self.knots)

    def curves(self, x: Floats, theta: Floats) -> tuple[Floats, Floats]:
        basis = self._basis(x)
        n = len(self.knots)
        return NU * basis @ theta[:n], np.exp(np.clip(basis @ theta[n:], -40, 10))

    def starts(self, x: Floats, nu: Floats) -> list[Floats]:
        basis = self._basis(x)
        at_knots = np.linalg.lstsq(basis, nu, rcond=None)[0]
        spread = np.log(_spread(nu - basis @ at_knots))
        return [np.concatenate([at_knots / NU, np.full(len(self.knots), spread)])]

    def _basis(self, x: Floats) -> Floats:
        return linear_beyond(self._curve, self.inside(x))

    @cached_property
    def _curve(self) -> CubicSpline:
        return natural_spline(self.knots)


def drift_laws(x: Floats) -> dict[str, DriftLaw]:
    """The laws that the conductances `x` = ln(g / g_max) allow, by name, the plainest first."""
    low, high = float(x.min()), float(x.max())
    laws: list[DriftLaw] = [Constant(low, high)]
    levels = len(np.unique(x))
    if levels >= 3:
        laws.append(LinearInLog(low, high))
    if levels > len(SPLINE_KNOTS):
        knots = np.unique(np.quantile(x, SPLINE_KNOTS))
        laws.append(ClippedLog(low, high))
        if np.quantile(x, 0.05) < np.log(CAP_BELOW):
            laws.append(ClippedLog(low, high, capped=True))
        if len(knots) >= 3:
            laws.append(Spline(low, high, knots=tuple(map(float, knots))))
    return {law.name: law for law in laws}


def _spread(values: Floats) -> float:
    return max(float(np.std(values)), 1e-6) if len(values) else 1e-6


def law_of(name: str, window: tuple[float, float], knots: tuple[float, ...]) -> DriftLaw:
    """The law of a stored fit."""
    laws = (Constant(*window), LinearInLog(*window), ClippedLog(*window), ClippedLog(*window, capped=True))
    return {law.name: law for law in (*laws, Spline(*window, knots=knots))}[name]
