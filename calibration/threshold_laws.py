"""Laws of the threshold voltage over log time, and the likelihood of reads of several cells under them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, exprel, logit

Floats = NDArray[np.float64]

LN_10 = float(np.log(10.0))
_CORRELATION = (-9.0, 9.0)
"""Bounds of its logit."""


@dataclass(frozen=True, eq=False)
class ThresholdReads:
    """Reads (n,) of one state; a unit is a cell, or a read where cells are not known: unit (n,) from 0.

    t_ref_s   reference time; kept where a part of the reads is taken
    """

    t_s: Floats
    vt_V: Floats
    unit: NDArray[np.int64]
    t_ref_s: float
    cells_known: bool

    @classmethod
    def of(cls, t_s: Floats, vt_V: Floats, cell: NDArray[Any] | None) -> Self:
        unit = np.arange(len(t_s)) if cell is None else np.unique(cell, return_inverse=True)[1]
        return cls(t_s, vt_V, unit, float(np.sqrt(t_s.min() * t_s.max())) if len(t_s) else 1.0, cell is not None)

    @property
    def n_units(self) -> int:
        return int(self.unit.max(initial=-1)) + 1

    @cached_property
    def size(self) -> NDArray[np.int64]:
        """Reads of each unit."""
        return np.bincount(self.unit)

    @cached_property
    def x(self) -> Floats:
        """Decades from the reference time."""
        return np.log10(self.t_s / self.t_ref_s)

    def part(self, mask: NDArray[np.bool_]) -> ThresholdReads:
        """The reads of a mask; units are counted anew."""
        unit = np.unique(self.unit[mask], return_inverse=True)[1]
        return ThresholdReads(self.t_s[mask], self.vt_V[mask], unit, self.t_ref_s, self.cells_known)

    def per_unit(self, law: ThresholdLaw, theta: Floats) -> Floats:
        """Log likelihood of each unit [nat]: z = (V - m) / s normal with correlation c between reads of a cell.

        Equation   -(sum z^2 - c (sum z)^2 / (1 + (n - 1) c)) / (2 (1 - c)) - (n - 1) / 2 ln(1 - c)
                   - ln(1 + (n - 1) c) / 2 - sum ln s - n / 2 ln 2 pi
        """
        z, log_spread, c = self._scaled(law, theta)
        n = self.size
        total, squares = np.bincount(self.unit, z), np.bincount(self.unit, z**2)
        among = 1 + (n - 1) * c
        quadratic = (squares - c * total**2 / among) / (1 - c)
        determinant = (n - 1) * np.log1p(-c) + np.log(among)
        return -0.5 * (quadratic + determinant + n * np.log(2 * np.pi)) - np.bincount(self.unit, log_spread)

    def residuals(self, law: ThresholdLaw, theta: Floats) -> Floats:
        """Standard normals (n,) that are independent under the law: z without what reads of a cell share."""
        z, _, c = self._scaled(law, theta)
        among = (1 + (self.size - 1) * c)[self.unit]
        mean = (np.bincount(self.unit, z) / self.size)[self.unit]
        return (z - mean) / np.sqrt(1 - c) + mean / np.sqrt(among)

    def _scaled(self, law: ThresholdLaw, theta: Floats) -> tuple[Floats, Floats, float]:
        values = law.natural(theta)
        mean, spread = law.moments(self.x, values)
        return (self.vt_V - mean) / spread, np.log(spread), float(values[-1]) if self.cells_known else 0.0


@dataclass(frozen=True)
class ThresholdLaw:
    """One law of the mean; theta holds its parameters, ln sigma, the spread's growth and the logit of the correlation.

    third   the parameter besides vt and loss, "" | "bend" | "exponent", with its unit
    """

    third: str = ""
    third_unit: str = "1"

    @property
    def n_mean(self) -> int:
        return 2 + bool(self.third)

    def names(self, reads: ThresholdReads) -> tuple[str, ...]:
        mean = ("vt", "loss", self.third)[: self.n_mean]
        return (*mean, "sigma", "spread_growth", *(("within_cell",) if reads.cells_known else ()))

    def units(self, reads: ThresholdReads) -> tuple[str, ...]:
        mean = ("V", "V/decade", self.third_unit)[: self.n_mean]
        return (*mean, "V", "1/decade", *(("1",) if reads.cells_known else ()))

    def natural(self, theta: Floats) -> Floats:
        """Parameters as they are reported; each by itself."""
        values = np.array(theta, float)
        values[..., self.n_mean] = np.exp(values[..., self.n_mean].clip(-30.0, 30.0))
        if values.shape[-1] > self.n_mean + 2:
            values[..., self.n_mean + 2] = expit(values[..., self.n_mean + 2])
        return values

    def moments(self, x: Floats, values: Floats) -> tuple[Floats, Floats]:
        """Mean and s.d. at x decades from the reference time [V]; `values` as they are reported."""
        mean = values[0] + values[1] * x
        if self.third == "bend":
            mean = mean + values[2] * x**2
        elif self.third == "exponent":  # exprel(y) = (e^y - 1) / y, 1 at 0
            mean = values[0] + values[1] * x * exprel(values[2] * LN_10 * x)
        sigma, growth = values[self.n_mean : self.n_mean + 2]
        return mean, sigma * np.exp(LN_10 * growth * x)

    def bounds(self, reads: ThresholdReads) -> list[tuple[float, float]]:
        mean = [(-np.inf, np.inf)] * 2 + [(-1.0, 1.0) if self.third == "exponent" else (-np.inf, np.inf)]
        return [*mean[: self.n_mean], (-14.0, 7.0), (-1.0, 1.0), *([_CORRELATION] if reads.cells_known else [])]

    def start(self, reads: ThresholdReads) -> Floats:
        """Least squares for the mean, and the spread of what is left."""
        order = 2 if self.third == "bend" else 1
        found = np.polynomial.polynomial.polyfit(reads.x, reads.vt_V, order)
        off = reads.vt_V - np.polynomial.polynomial.polyval(reads.x, found)
        mean = [*found, 0.0][: self.n_mean]
        sigma = np.log(max(float(off.std()), 1e-6))
        return np.array([*mean, sigma, 0.0, *((float(logit(0.5)),) if reads.cells_known else ())])


LAWS = {
    "linear in ln t": ThresholdLaw(),
    "quadratic in ln t": ThresholdLaw("bend", "V/decade^2"),
    "power law": ThresholdLaw("exponent", "1"),
}
"""By name, the plainest first."""


def most_likely(reads: ThresholdReads, law: ThresholdLaw) -> Floats:
    """theta with the largest likelihood; quasi-Newton, as a handful of cells have no scatter of scores to go by."""
    start = law.start(reads)
    unit = np.full(len(start), 0.1)
    unit[:2] = np.exp(start[law.n_mean])  # voltages in units of the spread
    lows, highs = np.array(law.bounds(reads)).T

    def at(scaled: Floats) -> Floats:
        return np.clip(start + unit * scaled, lows, highs)

    def loss(scaled: Floats) -> float:
        return -float(reads.per_unit(law, at(scaled)).sum()) / len(reads.vt_V)

    return at(minimize(loss, np.zeros(len(start)), method="BFGS", options={"gtol": 1e-6}).x)
