"""Relaxation after programming that is no power law: the distribution of g(t) - g(0) over conductance and log time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import kstest, kstwobign, norm

from calibration.fit import Fit, Goodness, Provenance
from calibration.picture import FitPicture
from calibration.quantile_fit import Reads, candidate, conductance_nodes, fit_nodes, with_logarithms
from calibration.quantile_law import Nodes, score
from calibration.rank_path import RankPath, score_matrix
from calibration.relaxation_cells import Shifts
from calibration.relaxation_rival import NAME, PowerLawDrift
from calibration.selection import Law, Ranking, rank_laws
from calibration.storage import Array
from calibration.tables import RetentionTable
from device_models.errors import UsageError, nearest
from device_models.relaxation import MOST_PATHS, RelaxationTable, growth_clock, rise

Floats = NDArray[np.float64]

SHAPES = {"normal": (0.0,), "5 slopes": (-2.0, -1.0, 0.0, 1.0, 2.0),
          "9 slopes": (-3.0, -2.33, -1.645, -0.8, 0.0, 0.8, 1.645, 2.33, 3.0),
          "13 slopes": (-3.0, -2.33, -1.645, -1.2, -0.8, -0.4, 0.0, 0.4, 0.8, 1.2, 1.645, 2.33, 3.0)}  # fmt: skip
"""Normal scores at which a law has slopes of its own."""
CELLS_PER_CONDUCTANCE, MOST_CONDUCTANCES = 250, 17
READS_PER_PARAMETER = 20
MANY_CELLS = 3000
"""From here two folds rank as well as five."""
ONSET = 0.1
"""Of growth with log time, in parts of the first time after the start: earlier growth was not seen."""
TEST_LEVEL = 0.03
"""Of each of the two tests, so that together they reject the true law in less than a tenth of cases."""
REJECTED = 0.01
"""A law with a smaller p-value is not taken where there is another."""


@dataclass(frozen=True, eq=False, kw_only=True)
class RelaxationFit(Fit):
    """Shift of a device as device_models.relaxation.RelaxationTable.

    g_uS, t_s, z       nodes of the law; parameters go by time, conductance, then median and slopes over z
    onset_s            of growth with log time; none: growth with a power of time
    path_t_s, path     times and weights (m, k) of the path through the ranks, without uncertainty
    extrapolate_to_s   as asked for
    """

    g_uS: tuple[float, ...]
    t_s: tuple[float, ...]
    z: tuple[float, ...]
    path_t_s: tuple[float, ...]
    path: Array
    onset_s: float | None = None
    extrapolate_to_s: float | None = None

    def law(self, values: Floats | None = None) -> RelaxationTable:
        """The law at the estimates, or at other values of the parameters."""
        at = self.values if values is None else np.asarray(values, float)
        table = at.reshape(len(self.t_s), len(self.g_uS), 1 + len(self.z))
        return RelaxationTable(
            g_uS=self.g_uS,
            t_s=self.t_s,
            onset_s=self.onset_s,
            z=self.z,
            median_uS=_tuples(table[:, :, 0]),
            slope_uS=_tuples(table[:, :, 1:].transpose(0, 2, 1)),
            path_t_s=self.path_t_s,
            path=_tuples(self.path),
            extrapolate_to_s=self.extrapolate_to_s,
        )

    def device_parts(self, g_uS: Floats, values: Floats | None = None) -> dict[str, Any]:
        """The law has conductances of its own, so those of the device's table do not matter."""
        return {"relaxation": self.law(values)}

    def scores(self, table: RetentionTable) -> tuple[Shifts, Floats]:
        """Reads of other cells and their normal scores (n,) under the law: standard normal where it predicts them."""
        shifts = Shifts.of(table)
        if shifts.t_s.max() > (self.extrapolate_to_s or self.t_s[-1]) or shifts.t_s.min() < self.t_s[0]:
            raise UsageError(
                f"t_s runs from {shifts.t_s.min():g} to {shifts.t_s.max():g} s: the law holds from {self.t_s[0]:g} to "
                f"{self.extrapolate_to_s or self.t_s[-1]:g} s"
            )
        growth = Growth(self.t_s, self.onset_s)
        nodes = growth.nodes(self.g_uS, self.z)
        local = nodes.basis(shifts.g_uS, growth.clock(shifts.t_s)) @ with_logarithms(self.values, nodes)
        return shifts, score(shifts.shift_uS, local, np.array(self.z))[0]

    def quantiles_uS(self, g_uS: ArrayLike, p: ArrayLike, t_s: float) -> Floats:
        """Quantiles of the shift of devices that start at g_uS (n,), at probabilities p (m,); (n, m)."""
        return self.law().shift_uS(g_uS, norm.ppf(p), t_s)


class Growth(NamedTuple):
    """How a law goes over time: times of its nodes, and the onset of growth with log time; none: a power of time."""

    t_s: tuple[float, ...]
    onset_s: float | None = None

    def clock(self, t_s: ArrayLike) -> Floats:
        return growth_clock(t_s, self.onset_s)

    def nodes(self, g_uS: tuple[float, ...], z: tuple[float, ...]) -> Nodes:
        """Nodes over conductance and clock."""
        return Nodes(g_uS, tuple(self.clock(self.t_s).tolist()), z)


class GrowingLaw(NamedTuple):
    """A law to fit: nodes over conductance, time and score."""

    growth: Growth
    nodes: Nodes

    def reads(self, shifts: Shifts) -> Reads:
        return Reads(shifts.shift_uS, shifts.g_uS, self.growth.clock(shifts.t_s), shifts.cell)


def fit_relaxation(
    table: RetentionTable,
    *,
    model: str | None = None,
    extrapolate_to_s: float | None = None,
    folds: int | None = None,
    seed: int = 0,
) -> RelaxationFit:
    """Fit the distribution of the shift after programming to cells that were read several times.

    Equation   that of device_models.relaxation.RelaxationTable; maximum likelihood of the reads as if independent,
               intervals from H^-1 J H^-1 with scores summed over cells, because reads of one cell are alike;
               the path from the correlation of normal scores between times
    Arguments  table: the earliest time is the start; cells may be read at times of their own and have gaps
               model: "normal", "5 slopes", "9 slopes" or "13 slopes", then ", power of time" (slopes are a power of t
               and the median is linear in its logarithm), ", power of log time" (the same of ln(1 + t / onset), the
               onset a tenth of the first time) or ", each time" (nodes at up to eight of the times);
               none: ranked by held-out likelihood over cells, with power-law drift as a rival, among the laws that
               the tests do not reject; the best of all where they reject every one
               extrapolate_to_s: the device may be used up to there; laws of each time are not tried
               folds: of the ranking; none: 5, and 2 for many cells
    Errors     UsageError: see relaxation_cells.Shifts; unknown model; extrapolation that is not beyond the last time
    """
    shifts = Shifts.of(table)
    last_s = float(shifts.t_s.max())
    if extrapolate_to_s is not None and not last_s < extrapolate_to_s < np.inf:
        raise UsageError(f"extrapolate_to_s = {extrapolate_to_s!r}: must be above the last time, {last_s:g} s")
    laws = candidate_laws(shifts, each_time=extrapolate_to_s is None)
    if extrapolate_to_s is not None and len(laws["normal, power of time"].growth.t_s) < 2:
        raise UsageError(f"extrapolate_to_s = {extrapolate_to_s:g}: needs two times after the first read, has one")
    if model is not None and model not in laws:
        raise UsageError(f"model = {model!r}: must be one of {'; '.join(laws)}{nearest(model, laws)}")
    if model is not None:
        return _fit(table, shifts, model, laws[model], shifts.warnings, extrapolate_to_s, seed)
    default_folds = 2 if shifts.n_cells >= MANY_CELLS else 5
    order, ranking, warnings = _rank(shifts, laws, default_folds if folds is None else folds, seed)
    fits = (_fit(table, shifts, name, laws[name], shifts.warnings, extrapolate_to_s, seed) for name in order)
    first = next(fits)
    taken = first if _kept(first) else next(filter(_kept, fits), first)
    if taken is not first:
        warnings += (f"law {first.model} ranks best, but reads reject it (p < {REJECTED}); taken: {taken.model}",)
    candidates = tuple(c.evolve(chosen=c.model == taken.model) for c in ranking.candidates)
    return replace(taken, candidates=candidates, warnings=(*taken.warnings, *warnings))


def _kept(fit: RelaxationFit) -> bool:
    return all(test.p_value > REJECTED for test in fit.goodness)


def candidate_laws(shifts: Shifts, *, each_time: bool = True) -> dict[str, GrowingLaw]:
    """The laws that the reads are enough for, by name, plain ones first."""
    g = conductance_nodes(shifts.g_uS, shifts.cell, CELLS_PER_CONDUCTANCE, MOST_CONDUCTANCES)
    times = np.unique(shifts.t_s)
    ends = tuple(times[[0, -1]].tolist()) if len(times) > 1 else (float(times[0]),)
    growths = {"power of time": Growth(ends)}
    if len(times) > 2:
        growths["power of log time"] = Growth(ends, ONSET * ends[0])
        if len(times) > MOST_PATHS:
            times = np.unique(np.quantile(shifts.t_s, np.linspace(0, 1, MOST_PATHS), method="nearest"))
        growths |= {"each time": Growth(tuple(times.tolist()))} if each_time else {}
    laws = {
        f"{shape}, {name}": GrowingLaw(growth, growth.nodes(g, z))
        for name, growth in growths.items()
        for shape, z in SHAPES.items()
    }
    plainest = next(iter(laws))
    return {
        name: law
        for name, law in laws.items()
        if name == plainest or law.nodes.n_parameters * READS_PER_PARAMETER <= len(shifts)
    }


def _rank(
    shifts: Shifts, laws: dict[str, GrowingLaw], folds: int, seed: int
) -> tuple[list[str], Ranking, tuple[str, ...]]:
    """Relaxation laws in the order in which they are to be taken, the ranking with the rival, and warnings."""

    rival = PowerLawDrift(np.array(laws[next(iter(laws))].nodes.g_uS)[::2])
    ranked = [candidate(name, law.reads(shifts), law.nodes) for name, law in laws.items()]
    ranked.append(
        Law(NAME, rival.n_parameters, lambda train, test: rival.held_out(shifts.part(train), shifts.part(test)))
    )
    ranking = rank_laws(ranked, shifts.cell, folds=folds, seed=seed)
    best_first = sorted((c.model for c in ranking.candidates), key=lambda name: name != ranking.chosen)
    order = [name for name in best_first if name != NAME]
    if ranking.chosen != NAME:
        return order, ranking, ranking.warnings
    warning = f"{NAME} predicts cells left out as well, with fewer parameters than any relaxation law: use fit_drift"
    return order, ranking, (*ranking.warnings, warning)


def _fit(
    table: RetentionTable,
    shifts: Shifts,
    model: str,
    law: GrowingLaw,
    warnings: tuple[str, ...],
    extrapolate_to_s: float | None,
    seed: int,
) -> RelaxationFit:
    growth, nodes = law
    found = fit_nodes(law.reads(shifts), nodes, [f"t={t:.4g}s" for t in growth.t_s], seed)
    path = RankPath.of(shifts.cell, shifts.t_s, found.z)
    window = (nodes.g_uS[0], nodes.g_uS[-1]) if len(nodes.g_uS) > 1 else None
    return RelaxationFit(
        quantity="relaxation",
        model=model,
        parameters=found.reported,
        intervals="asymptotic normal, robust over cells",
        provenance=Provenance.of(table.source, len(shifts), shifts.left_out),
        draws=found.draws,
        picture=_picture(shifts, found.z, law, found.coefficients),
        goodness=_tests(shifts, found.z, path),
        warnings=(*warnings, *found.warnings, *path.warnings),
        window_uS=window,
        g_uS=nodes.g_uS,
        t_s=growth.t_s,
        onset_s=growth.onset_s,
        z=nodes.z,
        path_t_s=tuple(path.t_s.tolist()),
        path=path.weights,
        extrapolate_to_s=extrapolate_to_s,
    )


def _tests(shifts: Shifts, z: Floats, path: RankPath) -> tuple[Goodness, ...]:
    """The distribution at each time, and that of all reads together.

    Reads of a cell are alike: all count as n^2 / sum over cells of (sum of signs)^2 independent ones.
    """
    columns = score_matrix(shifts.cell, shifts.t_s, z, path.t_s).T
    at_times = [kstest(column[np.isfinite(column)], "norm") for column in columns if np.isfinite(column).sum() >= 5]
    worst = min(at_times, key=lambda found: float(found.pvalue))
    alike = np.sum(np.bincount(shifts.cell, np.sign(z)) ** 2)
    pooled = float(kstest(z, "norm").statistic)
    return (
        Goodness(
            test=f"Kolmogorov-Smirnov at the worst of {len(at_times)} times (Bonferroni)",
            statistic=float(worst.statistic),
            p_value=min(1.0, len(at_times) * float(worst.pvalue)),
            level=TEST_LEVEL,
        ),
        Goodness(
            test="Kolmogorov-Smirnov of all reads, those of a cell being alike",
            statistic=pooled,
            p_value=float(kstwobign.sf(pooled * len(z) / np.sqrt(alike))),
            level=TEST_LEVEL,
        ),
    )


def _picture(shifts: Shifts, z: Floats, law: GrowingLaw, coefficients: Floats) -> FitPicture:
    """Shifts at the last time over the starting conductance."""
    growth, nodes = law
    last = shifts.t_s == shifts.t_s.max()
    g = np.linspace(shifts.g_uS.min(), shifts.g_uS.max(), 101)
    local = nodes.basis(g, growth.clock(np.full(len(g), shifts.t_s.max()))) @ coefficients
    from_median = rise(local[:, 1:], nodes.z, norm.ppf([0.05, 0.5, 0.95]))
    low, centre, high = (local[:, :1] + from_median).T
    label = f"shift after {shifts.t_s.max():g} s (uS)"
    data = (shifts.g_uS[last], shifts.shift_uS[last], z[last])
    return FitPicture.of(data, (g, centre, low, high), "starting conductance (uS)", label)


def _tuples(values: Floats) -> Any:
    """Nested tuples of floats."""
    return tuple(map(_tuples, values)) if values.ndim > 1 else tuple(values.tolist())
