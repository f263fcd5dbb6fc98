"""The exact likelihood of cells that drift with exponents of their own."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from calibration.drift_cells import DriftCells, Slopes
from calibration.drift_laws import LOG_LIMITS, DriftLaw
from calibration.folded import log_density
from calibration.maximum import Maximum, maximise
from calibration.scores import maximise_with_kinks

Floats = NDArray[np.float64]

MOST_TO_PROFILE = 2000
"""With more cells than that the likelihood of a kink is nearly that of a normal, and its profile takes too long."""


class DriftLikelihood:
    """Log likelihood of each cell under a law.

    clock: a time t0 that is given, or the bounds between which it is fitted. theta holds the law's parameters, then
    the read noise (logarithm at g_max, exponent) where three reads of a cell allow it, then ln t0.
    """

    def __init__(self, cells: DriftCells, x: Floats, law: DriftLaw, clock: float | tuple[float, float]):
        self.cells, self.x, self.law, self.clock = cells, x, law, clock
        first = clock if isinstance(clock, float) else float(np.sqrt(clock[0] * clock[1]))
        self.slopes = Slopes.of(cells, first)
        self.has_read = bool(self.slopes.freedom.sum() > 0)
        self.has_slope = self.has_read and float(np.ptp(x)) > 0
        self.n_law = len(law.names())

    def names(self) -> tuple[str, ...]:
        read = (("read_sigma",) if self.has_read else ()) + (("read_exponent",) if self.has_slope else ())
        return (*self.law.names(), *read, *(() if isinstance(self.clock, float) else ("t0_s",)))

    def units(self) -> tuple[str, ...]:
        return tuple("s" if name == "t0_s" else "1" for name in self.names())

    def natural(self, theta: Floats) -> Floats:
        rest = theta[..., self.n_law :].copy()
        logs = [i for i, name in enumerate(self.names()[self.n_law :]) if name != "read_exponent"]
        rest[..., logs] = np.exp(np.clip(rest[..., logs], *LOG_LIMITS))
        return np.concatenate([self.law.natural(theta[..., : self.n_law]), rest], axis=-1)

    def bounds(self) -> list[tuple[float, float]]:
        limits = {"read_sigma": (-20.0, 5.0), "read_exponent": (-5.0, 5.0)}
        if not isinstance(self.clock, float):
            limits["t0_s"] = (float(np.log(self.clock[0])), float(np.log(self.clock[1])))
        logs = dict(zip(self.law.names(), self.law.scales(), strict=True))
        return [limits.get(name, (-14.0, 7.0) if logs.get(name) == 0 else (-np.inf, np.inf)) for name in self.names()]

    def best_start(self) -> Floats:
        """The likeliest of the values of theta that the law proposes to begin with."""
        more = []
        if self.has_read:
            share = self.slopes.rest.sum() / self.slopes.freedom.sum()
            more.append(0.5 * np.log(max(share, 1e-12)))
        if self.has_slope:
            more.append(0.0)
        if not isinstance(self.clock, float):
            more.append(0.5 * float(np.sum(np.log(self.clock))))
        starts = [np.array([*start, *more]) for start in self.law.starts(self.x, self.slopes.nu)]
        return max(starts, key=lambda theta: float(self.per_cell(theta).sum()))

    @property
    def is_profiled(self) -> bool:
        """Whether intervals of the law are the profile likelihood's."""
        return self.law.has_kinks and len(self.x) <= MOST_TO_PROFILE

    def maximum(self) -> Maximum:
        start, bounds = self.best_start(), self.bounds()
        if self.law.has_kinks:
            return maximise_with_kinks(self.per_cell, start, bounds, range(self.n_law) if self.is_profiled else ())
        return maximise(self.per_cell, start, bounds, clusters=np.arange(len(self.x)))

    def at(self, theta: Floats) -> tuple[Floats, Floats, Floats, float, Slopes]:
        """Mean and spread of the exponent, error of a slope, t0, and the slopes on that clock."""
        mean, spread = self.law.curves(self.x, theta[: self.n_law])
        t0_s = self.clock if isinstance(self.clock, float) else float(np.exp(theta[-1]))
        slopes = self.slopes if isinstance(self.clock, float) else Slopes.of(self.cells, t0_s)
        return mean, spread, self.read_sigma(theta) / np.sqrt(slopes.stretch), t0_s, slopes

    def read_sigma(self, theta: Floats) -> Floats:
        """Relative s.d. of one read of each cell; 0 where it cannot be told from the spread of slopes."""
        if not self.has_read:
            return np.zeros_like(self.x)
        exponent = theta[self.n_law + 1] if self.has_slope else 0.0
        return np.exp(theta[self.n_law] - exponent * self.x)

    def per_cell(self, theta: Floats) -> Floats:
        mean, spread, error, _, slopes = self.at(theta)
        result = log_density(slopes.nu, mean, spread, error) - 0.5 * np.log(slopes.stretch)
        if self.has_read:
            log_sigma = np.log(error) + 0.5 * np.log(slopes.stretch)
            result -= slopes.freedom * (log_sigma + 0.5 * np.log(2 * np.pi)) + 0.5 * slopes.rest * np.exp(
                -2 * log_sigma
            )
        return result
