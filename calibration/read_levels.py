"""Read traces of cells as spectra at levels of conductance."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from calibration.circuit_tables import ReadTrace
from calibration.maximum import Maximum
from calibration.scores import from_information
from calibration.spectrum import Spectrum, count_jumps, quantisation_step, settled_from, welch_spectrum
from calibration.spectrum_laws import SpectrumLaw
from device_models.errors import UsageError

Floats = NDArray[np.float64]

LEAST_SAMPLES = 256
STEP = 1e-5
"""Of derivatives with respect to theta."""
MOST_LEVELS = 8
"""Cells without levels are put into at most so many groups of like conductance."""
CLUSTERS = 10
"""From so many cells on the intervals rest on the scatter among cells."""


@dataclass(frozen=True, eq=False)
class ReadLevel:
    """Cells of like conductance: mean conductance, relative spectra [1/Hz] and the relative floor of the reader."""

    g_uS: float
    spectrum: Spectrum
    floor: float

    @cached_property
    def mean(self) -> Floats:
        """Mean relative spectrum of the cells (bins,)."""
        return self.spectrum.psd.mean(axis=0)

    def expected(self, law: SpectrumLaw, theta: Floats, f_Hz: Floats) -> Floats:
        """Density that is measured [1/Hz]: the law's with the reader's floor."""
        return law.density(f_Hz, law.natural(theta)) + self.floor

    def log_likelihood(self, law: SpectrumLaw, theta: Floats, mask: NDArray[np.bool_]) -> Floats:
        """Whittle's log likelihood of each bin of `mask`.

        Equation   -n (ln S + I / S), I the mean density of the cells, S the expected one
        Source     P. Whittle, Ark. Mat. 2, 423 (1953), DOI 10.1007/BF02590998
        """
        expected = self.expected(law, theta, self.spectrum.f_Hz[mask])
        n = self.spectrum.weight[mask] * len(self.spectrum.psd)
        return -n * (np.log(expected) + self.mean[mask] / expected)

    def estimate(
        self, law: SpectrumLaw, starts: list[Floats] | None = None, mask: NDArray[np.bool_] | None = None
    ) -> Floats:
        """theta with the largest likelihood, by a trust region with the expected information for curvature."""
        mask = np.ones(len(self.mean), bool) if mask is None else mask
        lows, highs = np.array(self.bounds(law), float).T
        f, measured, n = self.spectrum.f_Hz[mask], self.mean[mask], self.spectrum.weight[mask]
        total = float(n.sum()) * len(self.spectrum.psd)
        n = n / n.sum()

        def loss(theta: Floats) -> float:
            expected = self.expected(law, np.clip(theta, lows, highs), f)
            return float(n @ (np.log(expected) + measured / expected))

        def slope(theta: Floats) -> Floats:
            inside = np.clip(theta, lows, highs)
            moves = self._moves(law, theta, f, lows, highs)
            return np.asarray((n * (1 - measured / self.expected(law, inside, f))) @ moves)

        def curvature(theta: Floats) -> Floats:
            moves = self._moves(law, theta, f, lows, highs)
            return np.asarray(moves.T @ (n[:, None] * moves))

        options = {"gtol": 1e-3 / np.sqrt(total), "maxiter": 100}  # a thousandth of the scatter of a score
        best: Floats = np.zeros(0)
        least = np.inf
        for start in self.starts(law) if starts is None else starts:
            found = minimize(loss, start, jac=slope, hess=curvature, method="trust-exact", options=options)
            if found.fun < least:
                best, least = np.clip(found.x, lows, highs), float(found.fun)
        return best

    def maximum(self, law: SpectrumLaw) -> Maximum:
        """Estimates and intervals; robust over cells where there are enough of them."""
        theta, bounds = self.estimate(law), self.bounds(law)
        f, psd, weight = self.spectrum
        moves = self._moves(law, theta, f, *np.array(bounds, float).T)
        information = len(psd) * moves.T @ (weight[:, None] * moves)
        scatter = None
        if len(psd) >= CLUSTERS:
            scores = (weight * (psd / self.expected(law, theta, f) - 1)) @ moves
            scatter = scores.T @ scores * len(psd) / (len(psd) - 1)
        return from_information(theta, information, bounds, scatter)

    def bounds(self, law: SpectrumLaw) -> list[tuple[float, float]]:
        return law.bounds(self.spectrum.f_Hz, self.mean)

    def starts(self, law: SpectrumLaw) -> list[Floats]:
        lows, highs = np.array(self.bounds(law)).T
        return [np.clip(start, lows + 1e-3, highs - 1e-3) for start in law.starts(self.spectrum.f_Hz, self.mean)]

    def _moves(self, law: SpectrumLaw, theta: Floats, f_Hz: Floats, lows: Floats, highs: Floats) -> Floats:
        """Derivative of ln S with respect to theta, (bins, p); 0 beyond the bounds."""
        columns = []
        for step in STEP * np.eye(len(theta)):
            ahead, behind = (np.clip(theta + sign * step, lows, highs) for sign in (1, -1))
            change = np.log(self.expected(law, ahead, f_Hz) / self.expected(law, behind, f_Hz))
            columns.append(change / (2 * STEP))
        return np.stack(columns, axis=1)


@dataclass(frozen=True, eq=False)
class ReadLevels:
    """All levels of a table, lowest conductance first, with what was left out and noticed on the way."""

    levels: tuple[ReadLevel, ...]
    n_used: int
    left_out: tuple[tuple[str, int], ...]
    warnings: tuple[str, ...]

    @classmethod
    def of(cls, trace: ReadTrace, instrument: float) -> ReadLevels:
        """instrument: white power spectral density of the reader [uS^2 / Hz], besides its steps."""
        alive = trace.g_uS.mean(axis=1) > 0
        if not alive.any():
            raise UsageError(f"read noise: all {len(alive)} cells have a mean conductance of 0 uS")
        g, labels = trace.g_uS[alive], trace.level[alive]
        lost = [("samples of cells that read 0 uS", int(np.sum(~alive)) * g.shape[1])] if not alive.all() else []
        settled = max(settled_from(row) for row in g)
        warnings = []
        if settled and settled < g.shape[1] // 10:
            lost.append(("samples at the start, in which a cell still relaxes", settled * len(g)))
            warnings.append(f"the first {settled} samples of all cells are left out: there a cell still relaxes")
            g = g[:, settled:]
        elif settled:
            warnings.append("a cell drifts through a tenth of the trace and more; its drift counts as noise")
        if g.shape[1] < LEAST_SAMPLES:
            raise UsageError(f"read noise: {g.shape[1]} samples of a cell: must be at least {LEAST_SAMPLES}")
        jumps = sum(count_jumps(row) for row in g)
        if jumps > max(3, 1e-4 * g.size):
            warnings.append(f"{jumps} jumps beyond 8 s.d. between samples: telegraph noise or outliers; kept")
        if np.any(np.ptp(g, axis=1) == 0):
            raise UsageError("read noise: a cell never changes: its noise is below the step of the reader")
        step = quantisation_step(g.ravel()[:: max(1, g.size // 400_000)])
        floor = instrument + (0.0 if step is None else step**2 / (6 * trace.fs_Hz))
        if step is not None:
            warnings.append(f"steps of the reader of {step:.4g} uS: their noise step^2 / 12 is taken off")
        levels = tuple(_level(g[group], trace.fs_Hz, floor) for group in _groups(g.mean(axis=1), labels) if len(group))
        order = np.argsort([level.g_uS for level in levels])
        return cls(tuple(levels[i] for i in order), g.size, (*trace.left_out, *lost), tuple(warnings))


def _groups(mean: Floats, labels: NDArray[np.generic]) -> list[NDArray[np.int64]]:
    names = np.unique(labels)
    if len(names) <= 2 * MOST_LEVELS:
        return [np.flatnonzero(labels == name) for name in names]
    return np.array_split(np.argsort(mean, kind="stable"), MOST_LEVELS)


def _level(g: Floats, fs_Hz: float, floor: float) -> ReadLevel:
    mean = g.mean(axis=1)
    spectrum = welch_spectrum(g / mean[:, None], fs_Hz)
    return ReadLevel(float(mean.mean()), spectrum, floor * float(np.mean(mean**-2.0)))
