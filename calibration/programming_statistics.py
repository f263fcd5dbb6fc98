"""Programming error from published standard deviations."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import block_diag
from scipy.stats import chi2, norm

from calibration.curves import Curve
from calibration.fit import Candidate, Goodness
from calibration.gaussian import GaussianLaw, Levels
from calibration.goodness import normal_scores, sum_of_squares_test
from calibration.selection import Law, Mask, rank_laws
from calibration.tables import ProgrammingStatistics
from device_models.errors import UsageError

Floats = NDArray[np.float64]


class Estimate(NamedTuple):
    """A law, its parameters with their covariance, and what there is to say of them."""

    law: GaussianLaw
    values: Floats
    covariance: Floats
    residuals: Floats
    goodness: tuple[Goodness, ...]
    candidates: tuple[Candidate, ...]
    warnings: tuple[str, ...]
    intervals: str


def estimate_from_statistics(
    table: ProgrammingStatistics,
    curves: dict[str, Curve],
    chosen: str | None,
    reading_error_uS: float | None,
    seed: int,
) -> Estimate:
    """Fit sigma, and bias where means are given, to statistics at each target.

    With n_cells the likelihood is the sampling law of mean and s.d. of normal errors, s^2 (n - 1) / sigma^2 ~ chi2;
    without, least squares weighted with the reading error, or with the scatter about the fit where none is stated.
    """
    if len(table.sigma_uS) != np.count_nonzero(table.sigma_uS):
        raise UsageError("ProgrammingStatistics: sigma_uS = 0: no spread can be fitted to a device without one")
    if table.n_cells is not None and reading_error_uS is not None:
        raise UsageError(
            f"reading_error_uS = {reading_error_uS:g}: cannot act, because n_cells gives the sampling error"
        )
    if reading_error_uS is not None and not 0 < reading_error_uS < np.inf:
        raise UsageError(f"reading_error_uS = {reading_error_uS:g}: must be a finite number above 0 uS")
    if chosen is not None and chosen not in curves:
        raise UsageError(f"sigma = {chosen!r}: these {len(table.sigma_uS)} statistics allow {', '.join(curves)}")
    scatter = _Sampling(table) if table.n_cells is not None else _Reading(table, reading_error_uS)
    degree = min(2, len(table.sigma_uS) - 1)
    reference = next(iter(curves.values())).reference_uS
    bias = Curve(kind="zero")
    if table.mean_uS is not None:
        bias = Curve(kind="polynomial", degree=degree, reference_uS=reference)
    spare = len(table.sigma_uS) - 1  # a law with as many parameters as rows cannot be tested
    laws = {name: GaussianLaw(bias, curve) for name, curve in curves.items() if curve.n_parameters <= spare}
    candidates: tuple[Candidate, ...] = ()
    warnings = () if table.mean_uS is not None else ("bias: not measured, taken as zero",)
    if chosen is None:
        folds = min(len(table.sigma_uS), 10)
        ranking = rank_laws(
            [Law(name, scatter.n_parameters(law), scatter.held_out(law)) for name, law in laws.items()],
            np.arange(len(table.sigma_uS)),
            folds=folds,
            seed=seed,
        )
        chosen, candidates, warnings = ranking.chosen, ranking.candidates, (*warnings, *ranking.warnings)
    law = laws[chosen] if chosen in laws else GaussianLaw(bias, curves[chosen])
    return scatter.complete(law, candidates, warnings)


class _Sampling:
    """Rows scatter about the law because each is of n_cells devices."""

    intervals = "asymptotic normal"

    def __init__(self, table: ProgrammingStatistics):
        assert table.n_cells is not None
        n, known = table.n_cells, table.mean_uS is not None
        self.levels = Levels(
            table.g_target_uS,
            n if known else n - 1,
            table.mean_uS - table.g_target_uS if table.mean_uS is not None else np.zeros_like(n),
            table.sigma_uS**2 * ((n - 1) / n if known else 1.0),
        )
        self.table, self.n = table, n

    def n_parameters(self, law: GaussianLaw) -> int:
        return law.bias.n_parameters + law.sigma.n_parameters

    def held_out(self, law: GaussianLaw) -> Callable[[Mask, Mask], Floats]:
        def score(train: Mask, test: Mask) -> Floats:
            values = law.estimate(Levels(*(column[train] for column in self.levels)))
            g, weight, mean, square = (column[test] for column in self.levels)
            bias, sigma = law.at(g, values)
            with np.errstate(invalid="ignore", divide="ignore"):
                density = -weight * (np.log(sigma) + (square + (mean - bias) ** 2) / (2 * sigma**2))
            return np.where(sigma > 0, density, -np.inf)

        return score

    def complete(self, law: GaussianLaw, candidates: tuple[Candidate, ...], warnings: tuple[str, ...]) -> Estimate:
        values = law.estimate(self.levels)
        bias, sigma = law.at(self.levels.g_uS, values)
        z = normal_scores(chi2.cdf((self.n - 1) * (self.table.sigma_uS / sigma) ** 2, self.n - 1))
        of_mean = (self.levels.mean_uS - bias) * np.sqrt(self.n) / sigma if law.bias.n_parameters else np.empty(0)
        covariance = np.asarray(np.linalg.pinv(law.information(self.levels, values), hermitian=True), np.float64)
        goodness = _test(np.concatenate([z, of_mean]), len(values))
        return Estimate(law, values, covariance, z, goodness, candidates, warnings, self.intervals)


class _Reading:
    """Rows scatter about the law by one standard error: that of reading a figure, or that of the fit itself."""

    def __init__(self, table: ProgrammingStatistics, error_uS: float | None):
        self.error_uS = error_uS
        self.g, self.sigma = table.g_target_uS, table.sigma_uS
        self.bias = np.zeros_like(self.sigma) if table.mean_uS is None else table.mean_uS - table.g_target_uS

    def n_parameters(self, law: GaussianLaw) -> int:
        return law.bias.n_parameters + law.sigma.n_parameters + (self.error_uS is None)

    def _fit(self, law: GaussianLaw, rows: Mask) -> tuple[Floats, float]:
        """Least-squares coefficients and the standard error of a row."""
        parts = [(law.bias.design(self.g[rows]), self.bias[rows]), (law.sigma.design(self.g[rows]), self.sigma[rows])]
        found = [np.linalg.lstsq(design, y, rcond=None)[0] for design, y in parts]
        if self.error_uS is not None:
            return np.concatenate(found), self.error_uS
        left = np.concatenate([y - d @ c for (d, y), c in zip(parts, found, strict=True) if c.size])
        freedom = left.size - sum(c.size for c in found)
        if freedom < 1:
            raise UsageError(f"sigma {law.sigma.name}: {left.size} values leave nothing to estimate their scatter from")
        return np.concatenate(found), float(np.sqrt(np.sum(left**2) / freedom))

    def held_out(self, law: GaussianLaw) -> Callable[[Mask, Mask], Floats]:
        def score(train: Mask, test: Mask) -> Floats:
            values, error = self._fit(law, train)
            bias, sigma = law.at(self.g[test], values)
            density = norm.logpdf(self.sigma[test], sigma, error)
            return density + (norm.logpdf(self.bias[test], bias, error) if law.bias.n_parameters else 0.0)

        return score

    def complete(self, law: GaussianLaw, candidates: tuple[Candidate, ...], warnings: tuple[str, ...]) -> Estimate:
        values, error = self._fit(law, np.ones(len(self.g), bool))
        bias, sigma = law.at(self.g, values)
        z = (self.sigma - sigma) / error
        of_bias = (self.bias - bias) / error if law.bias.n_parameters else np.empty(0)
        inverses = [np.linalg.pinv(d.T @ d) for d in (law.bias.design(self.g), law.sigma.design(self.g))]
        residuals = np.concatenate([z, of_bias])
        goodness: tuple[Goodness, ...] = ()
        scale = 1.0
        if self.error_uS is None:
            warnings = (*warnings, "goodness: not tested, because neither n_cells nor reading_error_uS is known")
        else:
            goodness = _test(residuals, len(values))
            freedom = residuals.size - len(values)
            scale = max(1.0, float(np.sum(residuals**2)) / freedom) if freedom > 0 else 1.0
            if goodness and goodness[0].rejected:
                warnings = (
                    *warnings,
                    f"rows scatter {np.sqrt(scale):.2g} times as much as the reading error says; intervals are "
                    "widened by that factor",
                )
            else:
                scale = 1.0
        covariance = error**2 * scale * block_diag(*inverses)
        return Estimate(law, values, covariance, z, goodness, candidates, warnings, "asymptotic normal, least squares")


def _test(residuals: Floats, n_parameters: int) -> tuple[Goodness, ...]:
    return (sum_of_squares_test(residuals, n_parameters),) if residuals.size > n_parameters else ()
