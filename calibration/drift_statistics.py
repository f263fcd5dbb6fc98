"""Drift laws from published statistics of the exponent."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.drift_laws import LOG_LIMITS, DriftLaw, drift_laws
from calibration.fit import Provenance
from calibration.goodness import dispersion_test, shape_test
from calibration.maximum import estimate, maximise
from calibration.picture import FitPicture
from calibration.scores import maximise_with_kinks
from calibration.selection import Law, rank_laws
from calibration.statistics_tables import DriftStatistics
from device_models.errors import UsageError, nearest

Floats = NDArray[np.float64]

ROWS_PER_PARAMETER = 5
"""A law with more parameters than this share of the rows is not tried."""


class StatisticsLikelihood:
    """Log likelihood of each row: mean and logarithm of the spread of the exponents of one conductance.

    Equation   mean ~ N(m, e1^2 + s^2 / n), sigma ~ N(s, e2^2 + s^2 / (2 n)); e1, e2 the reading errors, which are
               fitted; n devices in the row, without end where not given
    Published moments are those of the law before folding, as in the published laws themselves; |m + s z| differs from
    m + s z where s > m / 2 only.
    """

    def __init__(self, table: DriftStatistics, x: Floats, law: DriftLaw):
        self.table, self.x, self.law = table, x, law
        self.share = np.zeros_like(x) if table.n_cells is None else 1 / table.n_cells
        self.n_law = len(law.names())

    def names(self) -> tuple[str, ...]:
        return (*self.law.names(), "nu_mean_error", "nu_sigma_error")

    def natural(self, theta: Floats) -> Floats:
        return np.concatenate(
            [self.law.natural(theta[..., : self.n_law]), np.exp(theta[..., self.n_law :].clip(*LOG_LIMITS))], axis=-1
        )

    def bounds(self) -> list[tuple[float, float]]:
        logs = [(-14.0, 7.0) if scale == 0 else (-np.inf, np.inf) for scale in self.law.scales()]
        return [*logs, (-14.0, 0.0), (-14.0, 0.0)]

    def best_start(self) -> Floats:
        starts = [np.array([*start, -5.3, -5.3]) for start in self.law.starts(self.x, self.table.nu_mean)]
        return max(starts, key=lambda theta: float(self.per_row(theta).sum()))

    def residuals(self, theta: Floats) -> tuple[Floats, Floats]:
        """Standardised residuals (2 n,) of the means, then of the spreads; and their standard deviations."""
        mean, spread = self.law.curves(self.x, theta[: self.n_law])
        errors = np.exp(theta[self.n_law :])
        variances = errors[0] ** 2 + spread**2 * self.share, errors[1] ** 2 + spread**2 * self.share / 2
        wide = np.sqrt(np.concatenate(variances))
        off = np.concatenate([self.table.nu_mean - mean, self.table.nu_sigma - spread])
        return off / wide, wide

    def per_row(self, theta: Floats) -> Floats:
        z, wide = self.residuals(theta)
        both = -0.5 * z**2 - np.log(wide) - 0.5 * np.log(2 * np.pi)
        return both[: len(self.x)] + both[len(self.x) :]

    def restricted(self, theta: Floats) -> Floats:
        """Of each row for the fit: the errors count without the degrees of freedom that the curves take.

        Equation   + p / (2 n) (ln e1 + ln e2), p parameters in n rows, half of them of each curve
        """
        return self.per_row(theta) + self.n_law / 2 * float(np.sum(theta[self.n_law :])) / len(self.x)


def fit_statistics(
    table: DriftStatistics, t0_s: float | None, g_max_uS: float | None, model: str | None, seed: int
) -> dict[str, Any]:
    """Fields of a DriftFit from published statistics; UsageError without t0_s, which they do not contain."""
    if t0_s is None:
        raise UsageError("t0_s = None: must be given, because statistics of the exponent do not contain it")
    usable = (table.g_uS > 0) & (table.nu_sigma > 0)
    lost = int(np.sum(~usable))
    if lost:
        counts = None if table.n_cells is None else table.n_cells[usable]
        table = DriftStatistics(
            g_uS=table.g_uS[usable], nu_mean=table.nu_mean[usable], nu_sigma=table.nu_sigma[usable], n_cells=counts,
            source=table.source, left_out=(*table.left_out, ("conductance or spread of 0", lost)),
        )  # fmt: skip
    if len(table.g_uS) < 3:
        raise UsageError(f"drift: {len(table.g_uS)} rows with conductance and spread above 0: must be at least 3")
    top = float(table.g_uS.max()) if g_max_uS is None else g_max_uS
    x = np.log(table.g_uS / top)
    laws = {
        name: law
        for name, law in drift_laws(x).items()
        if len(law.names()) == 2 or len(x) >= ROWS_PER_PARAMETER * len(law.names())
    }
    if model is not None and model not in laws:
        raise UsageError(f"model = {model!r}: must be one of {', '.join(laws)}{nearest(model, laws)}")

    def law_to_rank(law: DriftLaw) -> Law:
        whole = StatisticsLikelihood(table, x, law)
        near = estimate(whole.restricted, whole.best_start(), whole.bounds())  # only where the search begins

        def held_out(train: NDArray[np.bool_], test: NDArray[np.bool_]) -> Floats:
            own = StatisticsLikelihood(_rows(table, train), x[train], law)
            theta = estimate(own.restricted, near, own.bounds())
            return StatisticsLikelihood(_rows(table, test), x[test], law).per_row(theta)

        return Law(law.name, len(law.names()) + 2, held_out)

    ranking = None
    if model is None and len(x) >= 10:
        ranking = rank_laws([law_to_rank(law) for law in laws.values()], np.arange(len(x)), seed=seed)
    law = laws[model or (ranking.chosen if ranking else "constant")]
    problem = StatisticsLikelihood(table, x, law)
    start, bounds = problem.best_start(), problem.bounds()
    if law.has_kinks:
        intervals = "profile likelihood"
        found = maximise_with_kinks(problem.restricted, start, bounds, range(len(start)))
    else:
        intervals = "asymptotic normal, robust over conductances; of reading errors the profile likelihood"
        errors = (problem.n_law, problem.n_law + 1)  # far from normal: there may be a dozen rows
        found = maximise(problem.restricted, start, bounds, np.arange(len(x)), errors)
    parameters, draws = found.reported(problem.names(), ("1",) * len(problem.names()), problem.natural, seed)
    z, _ = problem.residuals(found.values)
    tests = [shape_test(z)] if len(z) >= 5 else []
    if len(z) >= 40:
        tests.append(dispersion_test(z, np.tile(x, 2), len(problem.names()), bins=5, name="conductance"))
    g = np.geomspace(table.g_uS.min(), table.g_uS.max(), 200)
    mean, spread = law.curves(np.log(g / top), found.values[: problem.n_law])
    return {
        "quantity": "drift",
        "model": law.name,
        "parameters": parameters,
        "intervals": intervals,
        "provenance": Provenance.of(table.source, len(x), table.left_out),
        "draws": draws,
        "picture": FitPicture.of(
            (table.g_uS, table.nu_mean, z[: len(x)]),
            (g, mean, mean - 1.645 * spread, mean + 1.645 * spread),
            "conductance [uS]",
            "mean drift exponent; band: devices",
            log_x=True,
        ),
        "goodness": tuple(test.evolve(level=0.05 / len(tests)) for test in tests),
        "candidates": ranking.candidates if ranking else (),
        "warnings": (*(ranking.warnings if ranking else ()), *found.warnings(problem.names())),
        "window_uS": (float(table.g_uS.min()), float(table.g_uS.max())),
        "t0_s": float(t0_s),
        "g_max_uS": top,
        "x_window": (law.x_low, law.x_high),
        "knots": getattr(law, "knots", ()),
    }


def _rows(table: DriftStatistics, mask: NDArray[np.bool_]) -> DriftStatistics:
    return DriftStatistics(
        g_uS=table.g_uS[mask],
        nu_mean=table.nu_mean[mask],
        nu_sigma=table.nu_sigma[mask],
        n_cells=None if table.n_cells is None else table.n_cells[mask],
    )
