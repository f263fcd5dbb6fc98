"""Telegraph noise of devices: amplitude, dwell times, and how many devices have it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from calibration.circuit_tables import ReadTrace
from calibration.fit import Candidate, Fit, Goodness, Provenance
from calibration.goodness import shape_test
from calibration.intervals import normal_draws, parameters, percentile_intervals
from calibration.picture import FitPicture
from calibration.spectrum import settled_from
from calibration.telegraph_cells import TelegraphCell, telegraph_cell
from device_models.errors import UsageError

Floats = NDArray[np.float64]

LEAST_SAMPLES = 100
DRAWS = 500
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
    Returns    intervals: cells drawn with replacement, each with its own error; p_trap after Jeffreys
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
    draws = _draws(present, len(cells), trace.fs_Hz, seed)
    values = _values(present, len(cells), trace.fs_Hz)
    low, high = percentile_intervals(draws)
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
        parameters=parameters(
            NAMES[: len(values)], values, np.minimum(low, values), np.maximum(high, values), UNITS[: len(values)]
        ),
        intervals=f"bootstrap over cells with their errors ({DRAWS})",
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


def _values(present: list[TelegraphCell], n_cells: int, fs_Hz: float, logs: Floats | None = None) -> Floats:
    """Parameters of cells, or of draws of their logarithms (cells, 3)."""
    if not present:
        return np.zeros(1)
    at = np.array([cell.logs for cell in present]) if logs is None else logs
    tau = -np.log(np.exp(-at[:, 1]) + np.exp(-at[:, 2]))
    own = np.mean([np.trace(cell.errors[1:, 1:]) / 4 for cell in present])  # of ln tau, about
    spread = np.sqrt(max(float(tau.var(ddof=1)) - float(own), 0.0)) if len(at) > 1 else 0.0
    amplitude, low, high = np.exp(at.mean(axis=0))
    return np.array([len(present) / n_cells, amplitude, low / fs_Hz, high / fs_Hz, spread])


def _draws(present: list[TelegraphCell], n_cells: int, fs_Hz: float, seed: int) -> Floats:
    rng = np.random.default_rng(seed)
    shares = stats.beta.rvs(len(present) + 0.5, n_cells - len(present) + 0.5, size=DRAWS, random_state=rng)
    if not present:
        return shares[:, None]
    noisy = np.stack(
        [normal_draws(c.logs, _positive(c.errors), DRAWS, seed + i) for i, c in enumerate(present)], axis=1
    )
    rows = []
    for share, logs in zip(shares, noisy, strict=True):
        picked = logs[rng.integers(len(present), size=len(present))] if len(present) > 1 else logs
        rows.append(np.concatenate([[share], _values(present, n_cells, fs_Hz, picked)[1:]]))
    return np.array(rows)


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
