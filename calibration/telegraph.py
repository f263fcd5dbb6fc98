"""Telegraph noise of devices: amplitude, dwell times, and how many devices have it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from calibration.circuit_tables import ReadTrace
from calibration.fit import Candidate, Fit, Goodness, Provenance
from calibration.goodness import shape_test
from calibration.intervals import LEVEL, clopper_pearson, normal_draws, parameters, percentile_intervals
from calibration.picture import FitPicture
from calibration.spectrum import settled_from
from calibration.telegraph_cells import TelegraphCell, telegraph_cell
from device_models.errors import UsageError

Floats = NDArray[np.float64]

LEAST_SAMPLES = 100
DRAWS = 500
_REACH = 10.0
"""Of logarithms: what two or three cells leave open stays a finite number."""
TEST_LEVEL = 0.04
"""Of each of the two tests."""
NAMES = ("p_trap", "amplitude_uS", "dwell_low_s", "dwell_high_s", "tau_log_spread")
UNITS = ("1", "uS", "s", "s", "1")


@dataclass(frozen=True, eq=False, kw_only=True)
class TelegraphFit(Fit):
    """Two-state noise; amplitude and dwells are geometric means over the cells that have it.

    tau_log_spread   s.d. of ln(correlation time) over cells; 0 for one cell
    present          cells with telegraph noise, in the order of the trace
    """

    present: tuple[bool, ...]

    def device_parts(self, g_uS: Floats, values: Floats | None = None) -> dict[str, Any]:
        """One trap with the same amplitude at every conductance; off where no cell has telegraph noise.

        Correlation time 1 / (1 / dwell_low + 1 / dwell_high), log-uniform with the fitted spread.
        """
        if not any(self.present):
            return {}
        p_trap, amplitude, low, high, spread = self.values if values is None else np.asarray(values, float)
        tau = low * high / (low + high)
        reach = np.exp(np.sqrt(3.0) * spread)  # a uniform law of this half width has that s.d.
        return {
            "telegraph": {
                "amplitude": {"kind": "absolute", "amplitude_uS": float(amplitude)},
                "occupation": float(high / (low + high)),
                "tau_min_s": float(tau / reach),
                "tau_max_s": float(tau * reach),
                "p_trap": float(np.clip(p_trap, 1e-6, 1.0)),
            }
        }


def fit_telegraph(trace: ReadTrace, *, seed: int = 0) -> TelegraphFit:
    """Fit two-state noise to each cell, and say whether it is there.

    Equation   g = low or high + white noise; jumps from one sample to the next with chances up and down; dwell in a
               state 1 / (chance fs) for chances well below one. There: smaller BIC than white and than correlated noise
               without states, at least ten jumps, levels at least one s.d. of the noise apart
    Returns    intervals: Student's t of the logarithms over cells, or of one cell by the likelihood's curvature; p_trap
               after Clopper and Pearson; tau_log_spread from the variance of as many log-uniform times with errors
    Valid      from the lowest to the highest mean conductance of the levels; one trap per cell, dwells of several
               samples at least, no drift through the levels
    Errors     UsageError: fewer than 100 samples, a cell that never changes
    Source     L. E. Baum et al., Ann. Math. Stat. 41, 164 (1970), DOI 10.1214/aoms/1177697196
    """
    g = trace.g_uS
    if g.shape[1] < LEAST_SAMPLES:
        raise UsageError(f"telegraph noise: {g.shape[1]} samples of a cell: must be at least {LEAST_SAMPLES}")
    if np.any(np.ptp(g, axis=1) == 0):
        raise UsageError("telegraph noise: a cell never changes: its noise is below the step of the reader")
    settled = [s if s < g.shape[1] // 10 else 0 for s in map(settled_from, g)]
    levels = [float(g[trace.level == label].mean()) for label in np.unique(trace.level)]
    cells = [telegraph_cell(row[s:]) for row, s in zip(g, settled, strict=True)]
    present = [cell for cell in cells if cell.is_there]
    lost = [("samples at the start, in which a cell still relaxes", sum(settled))] if any(settled) else []
    n = sum(len(cell.scores) for cell in cells)
    gains = np.array([cell.gain for cell in cells])
    error = float(gains.std(ddof=1) / np.sqrt(len(gains)) / n * len(gains)) if len(gains) > 1 else 0.0
    best = max(0.0, float(gains.sum() / n))
    values, low, high, draws = _estimates(present, len(cells), trace.fs_Hz, seed)
    texts = []
    if 0 < len(present) < 5 and len(cells) > 1:
        texts.append(f"{len(present)} cells with telegraph noise: their spread is hardly identified")
    if any(min(np.exp(cell.logs[1:])) < 3 for cell in present):
        texts.append("a dwell of fewer than three samples: jumps faster than the reader are missed")
    if not present:
        texts.append("no cell has telegraph noise")
    return TelegraphFit(
        quantity="telegraph noise",
        model="two states" if present else "no states",
        parameters=parameters(NAMES[: len(values)], values, low, high, UNITS[: len(values)]),
        intervals="Student's t over cells; share Clopper-Pearson",
        provenance=Provenance.of(trace.source, n, (*trace.left_out, *lost)),
        draws=draws,
        picture=_picture(present or cells, trace.fs_Hz),
        goodness=_tests([cell.scores for cell in present] or [cell.plain for cell in cells]),
        candidates=(
            Candidate(
                model="two states", n_parameters=5, score=float(gains.sum() / n), score_se=error, chosen=bool(present)
            ),
            Candidate(model="no states", n_parameters=3, score=0.0, score_se=error, chosen=not present),
        )[:: 1 if best > 0 else -1],
        warnings=tuple(texts),
        window_uS=(min(levels), max(levels)) if len(levels) > 1 else None,
        present=tuple(cell.is_there for cell in cells),
    )


class _Estimates(NamedTuple):
    """Parameters and the ends of their intervals (p,), and draws (DRAWS, p)."""

    values: Floats
    low: Floats
    high: Floats
    draws: Floats


def _estimates(present: list[TelegraphCell], n_cells: int, fs_Hz: float, seed: int) -> _Estimates:
    rng, n = np.random.default_rng(seed), len(present)
    share = np.array([n / n_cells, *clopper_pearson(n, n_cells)])
    shares = rng.beta(n + 0.5, n_cells - n + 0.5, DRAWS)
    if not present:
        return _Estimates(share[:1], share[1:2], share[2:], shares[:, None])
    logs, errors = np.array([cell.logs for cell in present]), np.array([cell.errors for cell in present])
    covariance = np.cov(logs.T) / n if n > 1 else errors[0]
    pivot = stats.t(n - 1) if n > 1 else stats.norm()
    half = np.minimum(pivot.ppf(0.5 + LEVEL / 2) * np.sqrt(np.diag(covariance).clip(min=0)), _REACH)
    stretch = np.sqrt((n - 1) / rng.chisquare(n - 1, DRAWS)) if n > 1 else np.ones(DRAWS)
    shifts = normal_draws(np.zeros(3), _positive(covariance), DRAWS, seed) * stretch[:, None]
    spread, spreads = _spread_of_tau(logs, errors, rng)
    low, high = percentile_intervals(spreads)

    def natural(shift: Floats, share: Floats, spread: Floats) -> Floats:
        amplitude, dwell_low, dwell_high = np.exp(logs.mean(axis=0) + np.clip(shift, -_REACH, _REACH)).T
        return np.stack([share, amplitude, dwell_low / fs_Hz, dwell_high / fs_Hz, spread], axis=-1)

    ends = np.array([spread, min(float(low), spread), max(float(high), spread)])
    value, at_low, at_high = natural(np.stack([0 * half, -half, half]), share, ends)
    return _Estimates(value, at_low, at_high, natural(shifts, shares, spreads))


def _spread_of_tau(logs: Floats, errors: Floats, rng: np.random.Generator) -> tuple[float, Floats]:
    """S.d. of ln(correlation time) over cells without its own error, and draws (DRAWS,).

    Equation   draws v / w - e: v the variance of the cells, e their mean squared error, w the variance of as many
               values, e / v of them normal and the rest uniform with variance 1 together
    """
    n = len(logs)
    if n == 1:
        return 0.0, np.zeros(DRAWS)
    rates = np.exp(-logs[:, 1:])
    weights = rates / rates.sum(axis=1, keepdims=True)
    log_tau = -np.log(rates.sum(axis=1))
    own = float(np.mean(np.einsum("ij,ijk,ik->i", weights, errors[:, 1:, 1:], weights)))
    variance = max(float(log_tau.var(ddof=1)), 1e-12)
    noise = min(own / variance, 1.0)
    uniform = rng.uniform(-np.sqrt(3.0), np.sqrt(3.0), (DRAWS, n))
    scatter = np.sqrt(1 - noise) * uniform + np.sqrt(noise) * rng.standard_normal((DRAWS, n))
    squares = variance / scatter.var(axis=1, ddof=1) - own
    return float(np.sqrt(max(variance - own, 0.0))), np.sqrt(squares.clip(0.0, _REACH**2))


def _positive(covariance: Floats) -> Floats:
    eigenvalues, vectors = np.linalg.eigh(covariance)
    return np.asarray(vectors * eigenvalues.clip(min=0) @ vectors.T)


def _tests(scores: list[Floats]) -> tuple[Goodness, ...]:
    """That samples are normal about the two levels, and independent once the states are known; without states, that
    the noise is white or has one correlation time: 1/f noise and several traps in a cell have neither."""
    z = np.concatenate(scores)
    pairs = np.concatenate([own[1:] * own[:-1] for own in scores])
    statistic = float(pairs.sum() / np.sqrt(len(pairs)))
    independence = Goodness(
        test="correlation of neighbours", statistic=statistic, p_value=float(2 * stats.norm.sf(abs(statistic)))
    )
    return tuple(test.evolve(level=TEST_LEVEL) for test in (shape_test(z), independence))


def _picture(cells: list[TelegraphCell], fs_Hz: float) -> FitPicture:
    """Amplitude over conductance where there are several cells; residuals are those of the first one's samples."""
    g = np.array([cell.g_uS for cell in cells])
    amplitude = np.exp([cell.logs[0] for cell in cells])
    residuals = (np.log(amplitude) - np.log(amplitude).mean()) / max(float(np.log(amplitude).std()), 1e-12)
    centre, spread = float(np.exp(np.log(amplitude).mean())), float(np.log(amplitude).std())
    ends = np.array([g.min(), g.max() * (1 + 1e-9)])
    middle, low, high = (np.full(2, centre * np.exp(q * spread)) for q in (0.0, -1.645, 1.645))
    return FitPicture.of((g, amplitude, residuals), (ends, middle, low, high), "conductance [uS]", "amplitude [uS]")
