"""Threshold-voltage loss of charge-trap cells (SONOS, floating gate) over log time, with its spread among cells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm

from calibration.fit import Fit, Provenance
from calibration.goodness import dispersion_test, shape_test
from calibration.maximum import maximise
from calibration.picture import FitPicture
from calibration.selection import Law, Mask, rank_laws
from calibration.threshold_laws import LAWS, ThresholdReads, most_likely
from calibration.threshold_table import ThresholdTable
from device_models.errors import UsageError, nearest

Floats = NDArray[np.float64]

LEAST_READS, LEAST_TIMES = 12, 4
MOST_FOLDS = 5
TEST_LEVEL = 0.04
"""Of each of the two tests."""


@dataclass(frozen=True, eq=False, kw_only=True)
class ThresholdFit(Fit):
    """Threshold voltage of one state: mean and spread over the decades x = log10(t / t_ref).

    Equation   V(t) ~ N(m(t), s(t)^2), s = sigma 10^(spread_growth x); m = vt + loss x  (linear in ln t),
               vt + loss x + bend x^2  (quadratic in ln t), vt + loss (10^(exponent x) - 1) / (ln 10 exponent)
               (power law; linear in ln t where the exponent is 0)
    within_cell: correlation of two reads of a cell, there where the table says which reads are of one

    state                of the cells
    t_ref_s              middle of the measured times, in logarithm
    t_low_s, t_high_s    where the law holds: as measured, or up to extrapolate_to_s
    """

    state: str
    t_ref_s: float
    t_low_s: float
    t_high_s: float

    def device_parts(self, g_uS: Floats, values: Floats | None = None) -> dict[str, Any]:
        raise UsageError("threshold voltage: is no conductance; a device needs cell currents over time as well")

    def moments_V(self, t_s: ArrayLike, values: Floats | None = None) -> tuple[Floats, Floats]:
        """Mean and s.d. of the threshold voltage over cells at times (n,) [V]; UsageError beyond the law."""
        t = np.atleast_1d(np.asarray(t_s, float))
        if not np.all((t >= self.t_low_s * (1 - 1e-9)) & (t <= self.t_high_s * (1 + 1e-9))):
            span = f"{self.t_low_s:g} to {self.t_high_s:g} s"
            raise UsageError(f"t_s: runs from {t.min():g} to {t.max():g}: the law holds from {span}")
        at = self.values if values is None else np.asarray(values, float)
        return LAWS[self.model].moments(np.log10(t / self.t_ref_s), at)

    def loss_V(self, t_s: ArrayLike, values: Floats | None = None) -> Floats:
        """Change of the mean since the first measured time (n,) [V]."""
        return self.moments_V(t_s, values)[0] - self.moments_V(self.t_low_s, values)[0]

    def quantiles_V(self, t_s: ArrayLike, p: ArrayLike) -> Floats:
        """Quantiles over cells at times (n,) and probabilities (m,); (n, m) [V]."""
        mean, spread = self.moments_V(t_s)
        return mean[:, None] + spread[:, None] * norm.ppf(np.atleast_1d(np.asarray(p, float)))


def fit_threshold(
    table: ThresholdTable,
    *,
    state: str | None = None,
    model: str | None = None,
    extrapolate_to_s: float | None = None,
    seed: int = 0,
) -> ThresholdFit:
    """Fit the threshold voltage of cells of one state over log time.

    Equation   that of ThresholdFit; maximum likelihood, jointly normal reads of a cell
    Arguments  state: which of the table; none: the only one
               model: linear in ln t | quadratic in ln t | power law; none: by held-out likelihood over cells, or over
               reads where cells are not known
               extrapolate_to_s: the law may be used up to there
    Returns    asymptotic intervals. Where cells are not known, reads count as independent, and a warning says so
    Errors     UsageError: fewer than 12 reads or 4 times, one cell, reads that are all equal, an unknown state or model
    """
    reads, state = _reads(table, state)
    last_s = float(reads.t_s.max())
    if extrapolate_to_s is not None and not last_s < extrapolate_to_s < np.inf:
        raise UsageError(f"extrapolate_to_s = {extrapolate_to_s!r}: must be above the last time, {last_s:g} s")
    if model is not None and model not in LAWS:
        raise UsageError(f"model = {model!r}: must be one of {', '.join(LAWS)}{nearest(model, LAWS)}")
    ranking = None
    if model is None:
        folds = min(MOST_FOLDS, reads.n_units)
        ranking = rank_laws([_candidate(name, reads) for name in LAWS], reads.unit, folds=folds, seed=seed)
        model = ranking.chosen
    law = LAWS[model]
    found = maximise(lambda theta: reads.per_unit(law, theta), most_likely(reads, law), law.bounds(reads))
    names, units = law.names(reads), law.units(reads)
    own, draws = found.reported(names, units, law.natural, seed)
    z = reads.residuals(law, found.values)
    tests = [shape_test(z)]
    if len(z) >= 40:
        tests.append(dispersion_test(z, reads.t_s, law.n_mean + 2, bins=4, name="time"))
    warnings = (*(ranking.warnings if ranking else ()), *found.warnings(names))
    if not reads.cells_known:
        warnings += ("cells: not given, so reads count as independent; intervals hold for other cells at each time",)
    return ThresholdFit(
        quantity=f"threshold voltage of {state} cells",
        model=model,
        parameters=own,
        intervals="asymptotic normal",
        provenance=Provenance.of(table.source, len(reads.vt_V), table.left_out),
        draws=draws,
        picture=_picture(reads, model, law.natural(found.values), z),
        goodness=tuple(test.evolve(level=TEST_LEVEL) for test in tests),
        candidates=ranking.candidates if ranking else (),
        warnings=warnings,
        state=state,
        t_ref_s=reads.t_ref_s,
        t_low_s=float(reads.t_s.min()),
        t_high_s=last_s if extrapolate_to_s is None else float(extrapolate_to_s),
    )


def _reads(table: ThresholdTable, state: str | None) -> tuple[ThresholdReads, str]:
    states = [str(label) for label in np.unique(table.state)]
    if state is None and len(states) > 1:
        raise UsageError(f"state = None: the table has {', '.join(states)}: give one")
    chosen = states[0] if state is None else str(state)
    if chosen not in states:
        raise UsageError(f"state = {state!r}: must be one of {', '.join(states)}{nearest(chosen, states)}")
    own = table.state.astype(str) == chosen
    reads = ThresholdReads.of(table.t_s[own], table.vt_V[own], None if table.cell is None else table.cell[own])
    times = len(np.unique(reads.t_s))
    if len(reads.vt_V) < LEAST_READS or times < LEAST_TIMES:
        raise UsageError(
            f"threshold voltage of {chosen} cells: {len(reads.vt_V)} reads at {times} times: must be at least "
            f"{LEAST_READS} at {LEAST_TIMES}"
        )
    if reads.n_units < 2:
        raise UsageError(f"threshold voltage of {chosen} cells: 1 cell: the spread needs at least 2")
    if np.ptp(reads.vt_V) == 0:
        raise UsageError(f"threshold voltage of {chosen} cells: all reads are {reads.vt_V[0]:g} V")
    return reads, chosen


def _candidate(name: str, reads: ThresholdReads) -> Law:
    law = LAWS[name]

    def held_out(train: Mask, test: Mask) -> Floats:
        own, other = reads.part(train), reads.part(test)
        each = other.per_unit(law, most_likely(own, law))
        return (each / other.size)[other.unit]  # a cell's likelihood, in equal parts over its reads

    return Law(name, len(law.names(reads)), held_out)


def _picture(reads: ThresholdReads, model: str, values: Floats, z: Floats) -> FitPicture:
    t = np.geomspace(reads.t_s.min(), reads.t_s.max(), 200)
    mean, spread = LAWS[model].moments(np.log10(t / reads.t_ref_s), values)
    return FitPicture.of(
        (reads.t_s, reads.vt_V, z),
        (t, mean, mean - 1.645 * spread, mean + 1.645 * spread),
        "time [s]",
        "threshold voltage [V]",
        log_x=True,
    )
