"""Programming error: bias and spread of the conductance after programming against the target.

Law
    g_p = g_t + bias(g_t) + sigma(g_t) z, z standard normal of one device (device_models.base.DeviceCurves)
Sources
    the polynomial form: S. R. Nandakumar et al., ICECS 2019, DOI 10.1109/ICECS46596.2019.8964852; V. Joshi et al.,
    Nat. Commun. 11, 2473 (2020), DOI 10.1038/s41467-020-16108-9
Valid
    between the lowest and the highest target that were measured, unless a window is given
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from calibration.curves import Curve
from calibration.fit import Candidate, Fit, Provenance
from calibration.gaussian import GaussianLaw, Levels
from calibration.goodness import dispersion_test, shape_test
from calibration.intervals import normal_draws, normal_interval, parameters
from calibration.picture import FitPicture
from calibration.programming_statistics import estimate_from_statistics
from calibration.selection import Law, Mask, rank_laws
from calibration.tables import ProgrammingStatistics, ProgrammingTable
from device_models.errors import UsageError

Floats = NDArray[np.float64]
SigmaLaw = Literal["constant", "linear", "quadratic", "cubic", "spline", "tabulated"]

BAND = float(norm.ppf(0.95))
_DEGREES = {"constant": 0, "linear": 1, "quadratic": 2, "cubic": 3}
_KNOTS = 5
_MOST_LEVELS = 64
_FEWEST_PER_LEVEL = 10
_GRID = 257


@dataclass(frozen=True, eq=False, kw_only=True)
class ProgrammingFit(Fit):
    """Bias and spread of the programming error; parameters are the coefficients of `bias`, then those of `sigma`."""

    bias: Curve
    sigma: Curve

    @property
    def law(self) -> GaussianLaw:
        return GaussianLaw(self.bias, self.sigma)

    def bias_uS(self, g_uS: Floats, values: Floats | None = None) -> Floats:
        """Mean minus target [uS] at the target g [uS]."""
        return self.law.at(np.asarray(g_uS, float), self.values if values is None else values)[0]

    def sigma_uS(self, g_uS: Floats, values: Floats | None = None) -> Floats:
        """Standard deviation [uS] at the target g [uS]."""
        return self.law.at(np.asarray(g_uS, float), self.values if values is None else values)[1]

    def device_parts(self, g_uS: Floats, values: Floats | None = None) -> dict[str, Any]:
        rows = {"bias_uS": self.bias_uS(g_uS, values), "sigma_uS": self.sigma_uS(g_uS, values)}
        return {"programming": {name: (tuple(map(float, row)),) for name, row in rows.items()}}


def fit_programming(
    table: ProgrammingTable | ProgrammingStatistics,
    *,
    seed: int = 0,
    window_uS: tuple[float, float] | None = None,
    sigma: SigmaLaw | None = None,
    reading_error_uS: float | None = None,
    n_draws: int = 200,
) -> ProgrammingFit:
    """Fit the programming error by maximum likelihood.

    Arguments
        table             single devices, or standard deviations over devices at each target
        window_uS         lowest and highest conductance of the device; none: lowest and highest target
        sigma             the law of the spread; none: laws are ranked by held-out likelihood over cells, for the spread
                          and then for the bias
        reading_error_uS  standard error of each published standard deviation, where n_cells is not known
        n_draws           draws of the parameters for `sample_devices`
    Intervals  asymptotic normal; for single devices with the covariance of the scores over cells, which holds for
               cells that were written several times and for errors that are not normal
    Tests      residuals: Kolmogorov-Smirnov against the standard normal, chi-squared of mean and spread over the
               target; statistics: chi-squared of the residuals
    Errors     UsageError: fewer than 3 rows, targets outside the window, an argument that cannot act
    """
    window, outside = _window(table.g_target_uS, window_uS)
    if isinstance(table, ProgrammingStatistics):
        estimate = estimate_from_statistics(
            table, _sigma_curves(table.g_target_uS, window, None), _named(sigma), reading_error_uS, seed
        )
        law, values, covariance = estimate.law, estimate.values, estimate.covariance
        candidates, warnings, goodness = estimate.candidates, estimate.warnings, estimate.goodness
        y, z, intervals, n_used = table.sigma_uS, estimate.residuals, estimate.intervals, len(table.g_target_uS)
        y_label = "standard deviation of programming error [uS]"
    else:
        if reading_error_uS is not None:
            raise UsageError(f"reading_error_uS = {reading_error_uS:g}: cannot act on single devices")
        y = table.g_uS - table.g_target_uS
        _check_cells(table)
        law, candidates, warnings = _choose(table, y, window, sigma, seed)
        levels = Levels.of(table.g_target_uS, y)
        values = law.estimate(levels)
        covariance = _robust_covariance(law, table, y, levels, values)
        mean, spread = law.at(table.g_target_uS, values)
        z, n_used = (y - mean) / spread, len(y)
        intervals = "asymptotic normal, robust over cells"
        goodness = (shape_test(z), dispersion_test(z, table.g_target_uS, len(values), name="target"))
        y_label = "conductance - target [uS]"
    draws = _positive_draws(law, values, covariance, window, n_draws, seed)
    grid = np.linspace(*window, _GRID)
    mean, spread = law.at(grid, values)
    if isinstance(table, ProgrammingStatistics):
        _, spreads = zip(*(law.at(grid, row) for row in draws), strict=True)
        band = (grid, spread, *np.quantile(spreads, [0.05, 0.95], axis=0))
    else:
        band = (grid, mean, mean - BAND * spread, mean + BAND * spread)
    ends = np.transpose([normal_interval(v, se) for v, se in zip(values, np.sqrt(np.diag(covariance)), strict=True)])
    names = [*law.bias.parameter_names("bias"), *law.sigma.parameter_names("sigma")]
    return ProgrammingFit(
        quantity="programming error",
        model=f"bias {law.bias.name}, sigma {law.sigma.name}",
        parameters=parameters(names, values, ends[0], ends[1], ["uS"] * len(names)),
        intervals=intervals,
        provenance=Provenance.of(table.source, n_used, table.left_out),
        draws=draws,
        picture=FitPicture.of((table.g_target_uS, y, z), band, "target conductance [uS]", y_label),
        goodness=goodness,
        candidates=candidates,
        warnings=(*outside, *warnings),
        window_uS=window,
        bias=law.bias,
        sigma=law.sigma,
    )


def _check_cells(table: ProgrammingTable) -> None:
    n_cells = len(np.unique(table.cell))
    if n_cells < 2:
        raise UsageError(f"programming error: {n_cells} cell: how cells differ needs at least 2")


def _window(target: Floats, window_uS: tuple[float, float] | None) -> tuple[tuple[float, float], tuple[str, ...]]:
    low, high = float(target.min()), float(target.max())
    if len(target) < 3 or not low < high:
        raise UsageError(
            f"programming error: {len(target)} rows with targets from {low:g} to {high:g} uS: needs at least "
            "3 rows and two targets"
        )
    if window_uS is None:
        return (low, high), ()
    bottom, top = map(float, window_uS)
    if not (0 <= bottom <= low and high <= top < np.inf):
        raise UsageError(
            f"window_uS = {window_uS}: must contain the targets, {low:g} to {high:g} uS, and start at 0 or above"
        )
    if (bottom, top) == (low, high):
        return (low, high), ()
    return (bottom, top), (
        f"the law is extrapolated from targets of {low:g} to {high:g} uS to {bottom:g} to {top:g} uS",
    )


def _named(sigma: SigmaLaw | None) -> str | None:
    known = [*_DEGREES, "spline", "tabulated"]
    if sigma is not None and sigma not in known:
        raise UsageError(f"sigma = {sigma!r}: must be one of {', '.join(known)}")
    return sigma


def _sigma_curves(target: Floats, window: tuple[float, float], per_level: NDArray[np.int64] | None) -> dict[str, Curve]:
    """The laws of the spread that the number of targets allows; one value a level where each has enough devices."""
    levels = np.unique(target)
    curves = {
        name: Curve(kind="polynomial", degree=degree, reference_uS=window[1])
        for name, degree in _DEGREES.items()
        if degree < len(levels)
    }
    if len(levels) > _KNOTS:
        knots = np.quantile(levels, np.linspace(0, 1, _KNOTS))
        curves["spline"] = Curve(kind="spline", knots_uS=tuple(map(float, knots)))
    if per_level is not None and len(levels) <= _MOST_LEVELS and per_level.min() >= _FEWEST_PER_LEVEL:
        curves["tabulated"] = Curve(kind="tabulated", knots_uS=tuple(map(float, levels)))
    return curves


def _bias_curves(target: Floats, window: tuple[float, float]) -> dict[str, Curve]:
    n_levels = len(np.unique(target))
    polynomials = {
        name: Curve(kind="polynomial", degree=degree, reference_uS=window[1])
        for name, degree in _DEGREES.items()
        if degree < n_levels
    }
    return {"zero": Curve(kind="zero"), **polynomials}


def _choose(
    table: ProgrammingTable, error: Floats, window: tuple[float, float], sigma: SigmaLaw | None, seed: int
) -> tuple[GaussianLaw, tuple[Candidate, ...], tuple[str, ...]]:
    """Rank the laws of the spread with the most flexible bias, then those of the bias with the chosen spread."""
    target = table.g_target_uS
    levels, counts = np.unique(target, return_counts=True)
    spreads, biases = _sigma_curves(target, window, counts), _bias_curves(target, window)
    widest = list(biases)[-1]
    if _named(sigma) is not None:
        if sigma not in spreads:
            raise UsageError(f"sigma = {sigma!r}: these {len(levels)} targets allow {', '.join(spreads)}")
        return GaussianLaw(biases[widest], spreads[str(sigma)]), (), ()

    folds = min(5, len(np.unique(table.cell)))

    def rank(laws: Sequence[tuple[str, GaussianLaw]]) -> tuple[str, tuple[Candidate, ...], tuple[str, ...]]:
        def held_out(law: GaussianLaw) -> Law:
            def of_part(train: Mask, test: Mask) -> Floats:
                values = law.estimate(Levels.of(target[train], error[train]))
                return law.log_likelihood(target[test], error[test], values)

            return Law("", law.bias.n_parameters + law.sigma.n_parameters, of_part)

        ranking = rank_laws(
            [held_out(law)._replace(name=name) for name, law in laws], table.cell, folds=folds, seed=seed
        )
        return ranking.chosen, ranking.candidates, ranking.warnings

    by_spread = {f"sigma {name}": GaussianLaw(biases[widest], curve) for name, curve in spreads.items()}
    chosen, spread_candidates, first = rank(list(by_spread.items()))
    by_bias = {f"bias {name}": GaussianLaw(curve, by_spread[chosen].sigma) for name, curve in biases.items()}
    best, bias_candidates, second = rank(list(by_bias.items()))
    return by_bias[best], (*spread_candidates, *bias_candidates), (*first, *second)


def _robust_covariance(
    law: GaussianLaw, table: ProgrammingTable, error: Floats, levels: Levels, values: Floats
) -> Floats:
    """Covariance of the estimates from the scatter of the scores over cells (sandwich)."""
    inverse = np.linalg.pinv(law.information(levels, values), hermitian=True)
    _, cell = np.unique(table.cell, return_inverse=True)
    scores = law.scores(table.g_target_uS, error, values)
    by_cell = np.stack([np.bincount(cell, column) for column in scores.T], axis=1)
    n = len(by_cell)
    root = inverse @ by_cell.T  # its product with itself has no negative variance, however the rounding falls
    return root @ root.T * (n / (n - 1))


def _positive_draws(
    law: GaussianLaw, values: Floats, covariance: Floats, window: tuple[float, float], n: int, seed: int
) -> Floats:
    """Draws of the parameters whose spread is positive in the whole window.

    UsageError where that of the estimate is not, or fewer than half of the draws are.
    """
    grid = np.linspace(*window, _GRID)
    if not np.all(law.at(grid, values)[1] > 0):
        low = float(grid[np.argmin(law.at(grid, values)[1])])
        raise UsageError(f"programming error: sigma {law.sigma.name} is not positive at {low:g} uS; choose another law")
    draws = normal_draws(values, covariance, 2 * n, seed)
    coefficients = draws[:, law.bias.n_parameters :]
    fine = np.all(coefficients @ law.sigma.design(grid).T > 0, axis=1)
    if fine.sum() < n:
        raise UsageError(
            f"programming error: sigma {law.sigma.name} is so uncertain that {int(np.sum(~fine))} of {2 * n} draws are "
            "not positive; choose a law with fewer parameters"
        )
    return draws[fine][:n]
