"""Power-law drift of the conductance, with another exponent for each device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from calibration.drift_cells import DriftCells, Slopes, curvatures
from calibration.drift_laws import DriftLaw, drift_laws, law_of
from calibration.drift_likelihood import DriftLikelihood
from calibration.drift_statistics import fit_statistics
from calibration.fit import Fit, Goodness, Provenance
from calibration.folded import cumulative
from calibration.goodness import dispersion_test, normal_scores, shape_test
from calibration.intervals import LEVEL
from calibration.maximum import Maximum, estimate
from calibration.picture import FitPicture
from calibration.selection import Law, Ranking, rank_laws
from calibration.statistics_tables import DriftStatistics
from calibration.tables import RetentionTable
from device_models.errors import UsageError, nearest

Floats = NDArray[np.float64]

TEST_LEVEL = 0.02
"""Of each of the tests, so that together they reject the true law in less than a tenth of cases."""
MOST_TO_RANK = 1000
"""Laws are ranked, and t0 is looked for, on so many cells drawn at random; the law that is taken is fitted to all."""
UNSURE = 1.0
"""A logarithm with a larger standard error than this is hardly identified."""


@dataclass(frozen=True, eq=False, kw_only=True)
class DriftFit(Fit):
    """g(t) = g0 ((t + t0) / t0)^-nu, nu = |m(g) + s(g) z| of each device.

    t0_s        time of the first verified read, as given or as fitted; then it is a parameter as well
    g_max_uS    conductance that the laws are relative to
    x_window    lowest and highest ln(g / g_max) of the measurements; beyond, the end values hold
    knots       of the spline, in ln(g / g_max)
    """

    t0_s: float
    g_max_uS: float
    x_window: tuple[float, float]
    knots: tuple[float, ...] = ()

    @property
    def law(self) -> DriftLaw:
        return law_of(self.model, self.x_window, self.knots)

    def exponents(self, g_uS: Floats, values: Floats | None = None) -> tuple[Floats, Floats]:
        """Mean and spread of the exponent before folding, over conductance [uS]."""
        law = self.law
        at = self.values if values is None else np.asarray(values, float)
        return law.curves(state(g_uS, self.g_max_uS), law.theta(at[: len(law.names())]))

    def device_parts(self, g_uS: Floats, values: Floats | None = None) -> dict[str, Any]:
        mean, spread = self.exponents(g_uS, values)
        names = [p.name for p in self.parameters]
        at = self.values if values is None else values
        t0_s = float(at[names.index("t0_s")]) if "t0_s" in names else self.t0_s
        return {"drift": {"t0_s": t0_s, "nu_mean": tuple(map(float, mean)), "nu_sigma": tuple(map(float, spread))}}


def state(g_uS: Floats, g_max_uS: float) -> Floats:
    """ln(g / g_max); zero conductance far below any measured one."""
    return np.log(np.maximum(np.asarray(g_uS, float) / g_max_uS, 1e-12))


def fit_drift(
    table: RetentionTable | DriftStatistics,
    *,
    t0_s: float | None = None,
    g_max_uS: float | None = None,
    model: str | None = None,
    seed: int = 0,
) -> DriftFit:
    """Fit power-law drift to devices that were read several times, or to published statistics of the exponent.

    Equation   ln g = a - nu ln((t + t0) / t0) + e, with a of each device free, nu = |m(x) + s(x) z|, e normal with
               s.d. read_sigma (g / g_max)^-read_exponent, x = ln(g_target / g_max); exact likelihood: the slope of a
               device has the density of a folded normal convolved with its error, and is independent of the residuals
    Arguments  t0_s: first verified read [s]; none: fitted where the reads allow it, else the earliest read
               g_max_uS: what laws are relative to; none: the largest conductance of the table
               model: constant | linear in ln g | clipped log | clipped log with cap | spline; none: ranked by held-out
               likelihood over cells, a thousand of them at most
    Returns    intervals are asymptotic, robust over cells, those of clipped laws of up to 2000 cells the profile
               likelihood's. Without targets the state is a cell's first conductance
    Errors     UsageError: no cell with two reads above 0 uS; unknown model; t0_s missing for statistics
    Source     law: V. Joshi et al., Nat. Commun. 11, 2473 (2020), DOI 10.1038/s41467-020-16108-9
    """
    if t0_s is not None and not 0 < t0_s < np.inf:
        raise UsageError(f"t0_s = {t0_s!r}: must be a time above 0 s")
    if g_max_uS is not None and not 0 < g_max_uS < np.inf:
        raise UsageError(f"g_max_uS = {g_max_uS!r}: must be a conductance above 0 uS")
    if isinstance(table, DriftStatistics):
        return DriftFit(**fit_statistics(table, t0_s, g_max_uS, model, seed))
    cells = DriftCells.of(table)
    top = float(cells.g_uS.max()) if g_max_uS is None else g_max_uS
    x = state(cells.g_uS, top)
    laws = {name: law for name, law in drift_laws(x).items() if len(cells) >= 3 * len(law.names())}
    if not laws:
        raise UsageError(f"drift: {len(cells)} cells with two reads above 0 uS: must be at least 6")
    if model is not None and model not in laws:
        raise UsageError(f"model = {model!r}: must be one of {', '.join(laws)}{nearest(model, laws)}")
    few = np.zeros(len(cells), bool)
    few[np.random.default_rng(seed).permutation(len(cells))[:MOST_TO_RANK]] = True
    sample, at = cells.part(few), x[few]
    warnings, clock, near_s = _clock(sample, at, laws["constant"], None if t0_s is None else float(t0_s))
    ranking = _rank(sample, at, laws, near_s, seed) if model is None and len(laws) > 1 else None
    law = laws[model or (ranking.chosen if ranking else "constant")]
    problem = DriftLikelihood(cells, x, law, clock)
    found = problem.maximum()
    parameters, draws = found.reported(problem.names(), problem.units(), problem.natural, seed)
    mean, spread, error, fitted_t0_s, slopes = problem.at(found.values)
    z = normal_scores(cumulative(slopes.nu, mean, spread, error))
    same = float(x.min()) == float(x.max())
    return DriftFit(
        quantity="drift",
        model=law.name,
        parameters=parameters,
        intervals=_intervals(problem),
        provenance=Provenance.of(table.source, int(cells.seen.sum()), cells.left_out),
        draws=draws,
        picture=_picture(cells, slopes, z, law, found.values, top),
        goodness=_tests(problem, found.values, z),
        candidates=ranking.candidates if ranking else (),
        warnings=(*warnings, *(ranking.warnings if ranking else ()), *_unsure(problem, found)),
        window_uS=None if same else (float(cells.g_uS.min()), float(cells.g_uS.max())),
        t0_s=fitted_t0_s,
        g_max_uS=top,
        x_window=(law.x_low, law.x_high),
        knots=getattr(law, "knots", ()),
    )


def _intervals(problem: DriftLikelihood) -> str:
    if problem.is_profiled:
        return "profile likelihood"
    return "asymptotic normal" if problem.law.has_kinks else "asymptotic normal, robust over cells"


def _clock(
    cells: DriftCells, x: Floats, law: DriftLaw, t0_s: float | None
) -> tuple[tuple[str, ...], float | tuple[float, float], float]:
    """Warnings, t0 as given or the bounds to fit it in, and a first estimate.

    Where the reads do not tell, t0 is the earliest of them.
    """
    if t0_s is not None:
        return (), t0_s, t0_s
    times = cells.t_s[cells.t_s > 0]
    earliest = float(times.min())
    bounds = (earliest / 100, float(times.max()))
    if np.median(cells.seen.sum(axis=1)) >= 3:
        free = DriftLikelihood(cells, x, law, bounds)
        found = free.maximum()
        top = float(free.per_cell(found.values).sum())
        is_told = not found.at_bound[-1] and not found.unidentified[-1]
        for end in bounds if is_told else ():  # told only where both ends of what is possible are excluded
            fixed = DriftLikelihood(cells, x, law, end)
            theta = estimate(fixed.per_cell, found.values[:-1], fixed.bounds())
            is_told &= 2 * (top - float(fixed.per_cell(theta).sum())) > stats.chi2.ppf(LEVEL, 1)
        if is_told:
            return (), bounds, float(np.exp(found.values[-1]))
    return (f"t0_s: not identified by these times; taken as the earliest read, {earliest:g} s",), earliest, earliest


def _rank(cells: DriftCells, x: Floats, laws: dict[str, DriftLaw], t0_s: float, seed: int) -> Ranking:
    """All laws on one clock, because how nu depends on conductance hardly depends on it."""

    def law_to_rank(law: DriftLaw) -> Law:
        whole = DriftLikelihood(cells, x, law, t0_s)
        near = estimate(whole.per_cell, whole.best_start(), whole.bounds())  # only where the search begins

        def held_out(train: NDArray[np.bool_], test: NDArray[np.bool_]) -> Floats:
            own = DriftLikelihood(cells.part(train), x[train], law, t0_s)
            theta = estimate(own.per_cell, near, own.bounds())
            return DriftLikelihood(cells.part(test), x[test], law, t0_s).per_cell(theta)

        return Law(law.name, len(whole.names()), held_out)

    return rank_laws([law_to_rank(law) for law in laws.values()], np.arange(len(cells)), seed=seed)


def _tests(problem: DriftLikelihood, theta: Floats, z: Floats) -> tuple[Goodness, ...]:
    """Of the exponents over devices and over conductance, and of the power law over time."""
    tests = []
    if len(z) >= 20:
        shape, spread = shape_test(z), dispersion_test(z, problem.x, problem.n_law, name="conductance")
        tests += [shape.evolve(test="Kolmogorov-Smirnov of the exponents"), spread]
    *_, t0_s, _ = problem.at(theta)
    bends, enough = curvatures(problem.cells, t0_s)
    if problem.has_read and bends.size:
        bends = bends / problem.read_sigma(theta)[enough][:, None]
        n, orders = bends.shape
        freedom = orders - (0 if isinstance(problem.clock, float) else 1)
        if freedom > 0:
            mean = float(n * np.sum(bends.mean(axis=0) ** 2))
            tests.append(
                Goodness(test="chi-squared of mean curvature", statistic=mean, p_value=stats.chi2.sf(mean, freedom))
            )
        slopes = problem.at(theta)[-1]
        others = slopes.freedom[enough].sum() - n * orders
        rest = float(np.sum(slopes.rest[enough] / problem.read_sigma(theta)[enough] ** 2) - np.sum(bends**2))
        ratio = float(np.mean(bends**2)) / (rest / others)
        p_value = 2 * min(stats.f.sf(ratio, n * orders, others), stats.f.cdf(ratio, n * orders, others))
        tests.append(Goodness(test="F of curvature to read noise", statistic=ratio, p_value=min(1.0, p_value)))
    return tuple(test.evolve(level=TEST_LEVEL) for test in tests)


def _unsure(problem: DriftLikelihood, found: Maximum) -> tuple[str, ...]:
    texts = list(found.warnings(problem.names()))
    if not problem.has_read:
        texts.append("read noise: not identified by two reads of each cell; it counts as spread of the exponent")
    if len(np.unique(problem.x)) < 3:
        texts.append("dependence on conductance: not identified by fewer than three of them")
    errors = np.sqrt(np.diag(found.covariance))
    for name, scale, error in zip(problem.law.names(), problem.law.scales(), errors, strict=False):
        if scale == 0 and error > UNSURE:
            texts.append(f"{name}: hardly identified; its interval spans more than a decade")
    return tuple(texts)


def _picture(cells: DriftCells, slopes: Slopes, z: Floats, law: DriftLaw, theta: Floats, g_max_uS: float) -> FitPicture:
    g = np.geomspace(cells.g_uS.min(), cells.g_uS.max(), 200)
    mean, spread = law.curves(state(g, g_max_uS), theta[: len(law.names())])
    ranks = stats.norm.ppf((np.arange(1000) + 0.5) / 1000)
    low, centre, high = np.quantile(np.abs(mean + spread * ranks[:, None]), [0.05, 0.5, 0.95], axis=0)
    return FitPicture.of(
        (cells.g_uS, slopes.nu, z), (g, centre, low, high), "conductance [uS]", "drift exponent of a device", log_x=True
    )
