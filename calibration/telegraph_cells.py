"""Telegraph noise of one cell: whether it is there, its levels and how long they last."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from calibration.goodness import normal_scores
from calibration.hidden_states import TwoStates, fit_two_states, log_likelihood
from calibration.intervals import hessian

Floats = NDArray[np.float64]

LEAST_JUMPS = 10.0
"""Fewer expected jumps do not make a telegraph signal."""
LEAST_AMPLITUDE = 1.0
"""Of the two levels' distance in standard deviations of the noise on them."""


class TelegraphCell(NamedTuple):
    """One cell.

    states      the two-state chain with the largest likelihood
    gain        Bayesian information criterion of the best chain without states minus that of the two states [nat]
    logs        (3,) ln amplitude [uS], ln dwell in the low state, ln dwell in the high state [samples]
    errors      (3, 3) their covariance
    scores      (n,) standard normals of the samples under the two states, independent where they are right
    plain       (n,) the same under the best law without states
    """

    states: TwoStates
    gain: float
    g_uS: float
    logs: Floats
    errors: Floats
    scores: Floats
    plain: Floats

    @property
    def is_there(self) -> bool:
        s = self.states
        jumps = 2 * len(self.scores) * s.up * s.down / (s.up + s.down)
        return bool(self.gain > 0 and jumps >= LEAST_JUMPS and s.high - s.low >= LEAST_AMPLITUDE * s.sigma)


def telegraph_cell(samples: Floats) -> TelegraphCell:
    """Two hidden states in white noise against one state with white noise or noise of one correlation time.

    Equation   BIC / 2 = -l + p ln(n) / 2, p = 5 for two states, 2 for white and 3 for correlated noise
    Source     G. Schwarz, Ann. Stat. 6, 461 (1978), DOI 10.1214/aos/1176344136
    """
    x = np.asarray(samples, float)
    n = len(x)
    best: tuple[TwoStates, Floats] | None = None
    for share in (0.5, 0.1, 0.9):  # of samples in the low state
        cut = np.quantile(x, share)
        low, high = float(x[x <= cut].mean()), float(x[x > cut].mean()) if np.any(x > cut) else float(cut)
        for dwell in (3.0, 100.0):
            found = fit_two_states(x, low, high, dwell)
            if best is None or found[0].log_likelihood > best[0].log_likelihood:
                best = found
    assert best is not None
    states, predicted = best
    if states.high < states.low:
        states = TwoStates(states.high, states.low, states.sigma, states.down, states.up, states.log_likelihood)
        predicted = 1 - predicted
    two = -states.log_likelihood + 2.5 * np.log(n)
    u = (1 - predicted) * ndtr((x - states.low) / states.sigma) + predicted * ndtr((x - states.high) / states.sigma)
    logs, errors = _uncertainty(x, states)
    other, plain = _without_states(x)
    return TelegraphCell(states, other - two, float(x.mean()), logs, errors, normal_scores(u), plain)


def _without_states(x: Floats) -> tuple[float, Floats]:
    """Half the smaller BIC of white noise and of first-order autoregressive noise, and its residuals over their s.d."""
    n = len(x)
    white = 0.5 * n * (np.log(2 * np.pi * x.var()) + 1) + np.log(n)
    y = x - x.mean()
    memory = float(y[1:] @ y[:-1] / (y[:-1] @ y[:-1]))
    steps = y[1:] - memory * y[:-1]
    rest = float(np.mean(steps**2))
    first = 0.5 * (np.log(2 * np.pi * y.var()) + y[0] ** 2 / y.var())
    correlated = first + 0.5 * (n - 1) * (np.log(2 * np.pi * rest) + 1) + 1.5 * np.log(n)
    if white <= correlated:
        return float(white), y / y.std()
    return float(correlated), np.concatenate([y[:1] / y.std(), steps / np.sqrt(rest)])


def _uncertainty(x: Floats, states: TwoStates) -> tuple[Floats, Floats]:
    """Logarithms of amplitude and dwells with their covariance, from the curvature of the likelihood."""
    s, n = states, len(x)
    middle = 0.5 * (s.low + s.high)
    at = np.array([np.log(max(s.high - s.low, 1e-12)), np.log(s.up), np.log(s.down), np.log(s.sigma), 0.0])

    def loss(v: Floats) -> float:
        half, centre = 0.5 * np.exp(v[0]), middle + v[4] * s.sigma
        up, down = np.minimum(np.exp(v[1:3]), 0.9999)
        return -log_likelihood(x, centre - half, centre + half, float(np.exp(v[3])), float(up), float(down))

    jumps = max(n * s.up * s.down / (s.up + s.down), 1.0)
    steps = np.array([0.3 * s.sigma / max(s.high - s.low, 1e-12), 1.0, 1.0, 1.0, 1.0]) / np.sqrt(
        [n, jumps, jumps, n, n]
    )  # about a standard error each
    curvature = hessian(loss, at, np.maximum(steps, 1e-6))
    covariance = np.linalg.pinv(curvature, hermitian=True)
    return np.array([at[0], -at[1], -at[2]]), covariance[:3, :3] * np.outer([1, -1, -1], [1, -1, -1])
