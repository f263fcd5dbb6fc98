"""Writing with verification: chance of success against window, conductance and attempts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from calibration.fit import Candidate, Fit, Provenance
from calibration.goodness import sum_of_squares_test
from calibration.intervals import normal_draws, normal_interval, parameters
from calibration.maximum import estimate, maximise
from calibration.picture import FitPicture
from calibration.selection import Law, Mask, rank_laws
from calibration.write_laws import AttemptLaw, Writes, candidates
from calibration.write_table import WriteVerifyTable
from crossbar_sim.spec.programming import ProgramVerify
from device_models.errors import UsageError, nearest

Floats = NDArray[np.float64]

_LEAST_CLUSTERS = 10
_RESIDUAL = ("residual_mean", "residual_sigma")


@dataclass(frozen=True, eq=False, kw_only=True)
class WriteVerifyFit(Fit):
    """Chance that a write into a window of half width h around g succeeds within n attempts.

    Equation   geometric: 1 - exp(-n r), r = rate (h / h_ref)^window_exponent exp(place_1 u + place_2 u^2);
               redraw: every attempt draws anew, 1 - P(|z| > h / sigma)^n, sigma = sigma_over_window h_ref exp(...);
               mixed: 1 - (1 + theta n r)^(-1/theta), rates that differ among writes (gamma, variance theta);
               u = (g - centre) / half span, from -1 to 1 over the measured conductances
    residual_mean, residual_sigma: of accepted conductances in half windows; uniform is 0 and 0.577. They are missing
    where there are no conductances. What happens after the last read is relaxation: `fit_relaxation`.

    h_ref_uS           half window to which rate and sigma_over_window refer
    centre_uS, half_span_uS   of the measured conductances
    """

    h_ref_uS: float
    centre_uS: float
    half_span_uS: float

    def device_parts(self, g_uS: Floats, values: Floats | None = None) -> dict[str, Any]:
        raise UsageError("write with verification: is no property of a device; to_programming gives how it is written")

    def success(self, g_uS: ArrayLike, half_window_uS: ArrayLike, attempts: ArrayLike) -> Floats:
        """Chance of success; arguments broadcast. UsageError beyond the measured conductances."""
        g, h, n = np.broadcast_arrays(*(np.asarray(v, float) for v in (g_uS, half_window_uS, attempts)))
        if not np.all(h > 0) or not np.all(n >= 1):
            raise UsageError("half_window_uS and attempts: must be above 0 uS and at least 1")
        place = (g - self.centre_uS) / self.half_span_uS
        if not np.all(np.abs(place) <= 1 + 1e-9):
            low, high = self.centre_uS - self.half_span_uS, self.centre_uS + self.half_span_uS
            raise UsageError(f"g_uS: runs from {g.min():g} to {g.max():g}: was measured from {low:g} to {high:g} uS")
        law = AttemptLaw.named(self.model)
        writes = Writes(np.log(h / self.h_ref_uS), place, n, np.zeros(g.shape), np.ones(g.shape, bool))
        return law.success(law.from_values(self.values[: len(law.names)]), writes)

    def to_programming(self, g_uS: float, tolerance_uS: float, max_pulses: int) -> ProgramVerify:
        """Program-and-verify of a chip that succeeds as often, at this conductance, tolerance and number of pulses.

        Equation   every pulse aims at the target (alpha = 1) and misses by sigma_write z, so one pulse succeeds with
                   p = 2 Phi(tolerance / sigma_write) - 1, and 1 - (1 - p)^max_pulses is the fitted success
        Valid      for that conductance; the specification has one sigma_write for all. Chances that differ among
                   writes are met at max_pulses only.
        """
        whole = float(self.success(g_uS, tolerance_uS, max_pulses))
        once = -np.expm1(np.log1p(-min(whole, 1 - 1e-15)) / max_pulses)
        sigma = tolerance_uS / float(stats.norm.ppf((1 + once) / 2))
        return ProgramVerify(alpha=1.0, tolerance_uS=float(tolerance_uS), max_pulses=max_pulses, sigma_write_uS=sigma)


def fit_write_verify(
    table: WriteVerifyTable, *, seed: int = 0, model: str | None = None, rank: bool = True
) -> WriteVerifyFit:
    """Fit the chance of success of writes with verification.

    Arguments  model: a candidate's name instead of the ranking; rank=False takes "geometric, degree 2, mixed"
    Errors     UsageError: fewer than 20 writes; all or none succeeded
    """
    n = len(table.accepted)
    wins = int(table.accepted.sum())
    if n < 20:
        raise UsageError(f"accepted: {n} writes: must be at least 20")
    if wins in (0, n) and table.attempts is None:
        raise UsageError(f"accepted: {wins} of {n} writes: all or none tell nothing about the number of attempts")
    laws = {law.name: law for law in candidates()}
    if model is not None and model not in laws:
        raise UsageError(f"model = {model!r}: must be one of {', '.join(laws)}{nearest(model, laws)}")
    writes, h_ref, centre, half_span = _scaled(table)
    ranked: tuple[Candidate, ...] = ()
    warnings: tuple[str, ...] = ()
    chosen = model or "geometric, degree 2, mixed"
    cells = len(np.unique(table.cell))
    if model is None and rank:
        cell = table.cell if cells >= _LEAST_CLUSTERS else np.arange(n)
        ranked, chosen, warnings = rank_laws([_candidate(law, writes) for law in laws.values()], cell, seed=seed)
    law = laws[chosen]
    clustered = _LEAST_CLUSTERS <= cells < n
    found = maximise(
        lambda theta: law.log_likelihood(theta, writes), law.start(), law.bounds, table.cell if clustered else None
    )
    own, draws = found.reported(law.names, ("1",) * len(law.names), law.to_values, seed)
    residual, residual_draws, notes = _residual(table, seed + 1, len(draws))
    test, z = _calibration_test(law, found.values, writes)
    return WriteVerifyFit(
        quantity="write with verification",
        model=law.name,
        parameters=(*own, *residual),
        intervals="asymptotic normal" + (f", robust to {cells} cells that differ" if clustered else ""),
        goodness=(test,),
        candidates=ranked,
        warnings=(*warnings, *found.warnings(law.names), *notes, *_unidentified(writes, law)),
        provenance=Provenance.of(table.source, n, table.left_out),
        draws=np.hstack([draws, residual_draws]),
        picture=_picture(law, found.values, writes, z),
        h_ref_uS=h_ref,
        centre_uS=centre,
        half_span_uS=half_span,
    )


def _scaled(table: WriteVerifyTable) -> tuple[Writes, float, float, float]:
    middle, half = (table.g_high_uS + table.g_low_uS) / 2, (table.g_high_uS - table.g_low_uS) / 2
    h_ref = float(np.exp(np.mean(np.log(half))))
    centre, half_span = float((middle.max() + middle.min()) / 2), float(np.ptp(middle) / 2) or 1.0
    used = np.zeros(len(half)) if table.attempts is None else table.attempts.astype(float)
    limit = table.max_attempts.astype(float)
    used = np.where(table.accepted, used, 0.0)  # one that failed used them all
    return (
        Writes(np.log(half / h_ref), (middle - centre) / half_span, limit, used, table.accepted),
        h_ref,
        centre,
        half_span,
    )


def _candidate(law: AttemptLaw, writes: Writes) -> Law:
    start = estimate(lambda theta: law.log_likelihood(theta, writes), law.start(), law.bounds)

    def held_out(train: Mask, test: Mask) -> Floats:
        kept = writes.only(train)
        theta = estimate(lambda theta: law.log_likelihood(theta, kept), start, law.bounds)
        return law.log_likelihood(theta, writes.only(test))

    return Law(law.name, len(law.names), held_out)


def _residual(table: WriteVerifyTable, seed: int, n: int) -> tuple[tuple[Any, ...], Floats, tuple[str, ...]]:
    """Where in the window accepted conductances lie, in half windows from its middle."""
    if table.g_after_uS is None or table.accepted.sum() < 20:
        return (), np.zeros((n, 0)), ("residual in the window: no conductances, or fewer than 20, of accepted writes",)
    keep = table.accepted
    low, high = table.g_low_uS[keep], table.g_high_uS[keep]
    u = (2 * table.g_after_uS[keep] - low - high) / (high - low)
    outside = int(np.sum(np.abs(u) > 1 + 1e-6))
    notes = (f"{outside} accepted conductances lie outside their window",) if outside else ()
    m = len(u)
    values = np.array([u.mean(), u.std(ddof=1)])
    se = np.array([values[1], np.std((u - values[0]) ** 2) / (2 * values[1])]) / np.sqrt(m)
    low_end, high_end = np.array([normal_interval(v, s) for v, s in zip(values, se, strict=True)]).T
    return (
        parameters(_RESIDUAL, values, low_end, high_end, ("1", "1")),
        normal_draws(values, np.diag(se**2), n, seed),
        notes,
    )


def _calibration_test(law: AttemptLaw, theta: Floats, writes: Writes) -> tuple[Any, Floats]:
    """Successes against their expectation, in groups by attempts, window and conductance."""
    chance = law.success(theta, writes).clip(1e-9, 1 - 1e-9)
    group = np.zeros(len(chance), np.int64)
    for column, bins in ((writes.limit, 4), (writes.log_window, 4), (writes.place, 4)):
        edges = np.unique(np.quantile(column, np.linspace(0, 1, bins + 1)[1:-1]))
        group = group * (bins + 1) + np.searchsorted(edges, column, side="right")
    _, group = np.unique(group, return_inverse=True)
    expected, variance = np.bincount(group, chance), np.bincount(group, chance * (1 - chance))
    z = (np.bincount(group, writes.accepted) - expected) / np.sqrt(variance)
    use = variance >= 1.0  # smaller groups are not near to normal
    if use.sum() <= len(theta):
        use = variance >= np.sort(variance)[-len(theta) - 1] if len(z) > len(theta) else np.ones(len(z), bool)
    if use.sum() <= len(theta):
        total = (writes.accepted.sum() - chance.sum()) / np.sqrt(np.sum(chance * (1 - chance)))
        return sum_of_squares_test([total], 0), z[group]
    return sum_of_squares_test(z[use], len(theta)), z[group]


def _unidentified(writes: Writes, law: AttemptLaw) -> tuple[str, ...]:
    notes = []
    if np.ptp(writes.log_window) < 1e-9 and law.kind == "geometric":
        notes.append("window_exponent: not identified by windows of one width")
    if np.ptp(writes.place) < 1e-9 and law.degree:
        notes.append("place_1: not identified by windows at one conductance")
    if law.mixed and len(np.unique(writes.limit)) == 1 and not np.any(writes.used):
        notes.append("theta: hardly identified by one number of attempts")
    return tuple(notes)


def _picture(law: AttemptLaw, theta: Floats, writes: Writes, z: Floats) -> FitPicture:
    """Success over the number of attempts; the band is that of a mean over as many writes."""
    limits = np.unique(writes.limit)
    chance = law.success(theta, writes)
    group = np.searchsorted(limits, writes.limit)
    count = np.bincount(group)
    rate, centre = np.bincount(group, writes.accepted) / count, np.bincount(group, chance) / count
    half = 1.645 * np.sqrt(np.bincount(group, chance * (1 - chance))) / count
    residual = (rate - centre) / np.maximum(half / 1.645, 1e-12)
    band = (limits, centre, centre - half, centre + half)
    return FitPicture.of((limits, rate, residual), band, "attempts", "share of writes that succeed", log_x=True)
