"""Two-state hidden Markov chains: the likelihood of a telegraph signal in white noise."""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

ROUNDS = 200
CONVERGED = 1e-7


class TwoStates(NamedTuple):
    """A signal that jumps between two levels.

    low, high    levels; sigma: s.d. of the white noise on both
    up, down     chance of a jump from low to high, and back, from one sample to the next
    log_likelihood   of the samples [nat]
    """

    low: float
    high: float
    sigma: float
    up: float
    down: float
    log_likelihood: float


@numba.njit(cache=True)
def _forward_backward(x, low, high, sigma, up, down, posterior, predicted):  # type: ignore[no-untyped-def]
    """Log likelihood, expected jumps up and down; writes P(high) given all samples and given those before each."""
    n = x.size
    scale = np.empty(n)
    ahead = np.empty(n)  # P(high | samples so far)
    odds = np.empty(n)  # density of the sample in the high state over that in the low state
    total = 0.0
    prior = up / (up + down)
    for i in range(n):
        a, b = (x[i] - low) / sigma, (x[i] - high) / sigma
        top = max(-0.5 * a * a, -0.5 * b * b)
        e_low, e_high = np.exp(-0.5 * a * a - top), np.exp(-0.5 * b * b - top)
        if i > 0:
            prior = ahead[i - 1] * (1 - down) + (1 - ahead[i - 1]) * up
        predicted[i] = prior
        weight = prior * e_high + (1 - prior) * e_low
        ahead[i] = prior * e_high / weight
        scale[i] = weight
        odds[i] = e_high
        posterior[i] = e_low  # kept here until the way back
        total += np.log(weight) + top - np.log(sigma) - 0.9189385332046727
    back_high, back_low = 1.0, 1.0
    ups, downs = 0.0, 0.0
    e_low = posterior[n - 1]
    posterior[n - 1] = ahead[n - 1]
    for i in range(n - 2, -1, -1):
        from_high, from_low = odds[i + 1] * back_high / scale[i + 1], e_low * back_low / scale[i + 1]
        ups += (1 - ahead[i]) * up * from_high
        downs += ahead[i] * down * from_low
        back_high, back_low = (1 - down) * from_high + down * from_low, up * from_high + (1 - up) * from_low
        e_low = posterior[i]
        posterior[i] = ahead[i] * back_high
    return total, ups, downs


def fit_two_states(samples: Floats, low: float, high: float, dwell: float) -> tuple[TwoStates, Floats]:
    """Maximum likelihood by expectation and maximisation, and the chance of the high state before each sample.

    Arguments  samples (n,); low, high: levels to begin with; dwell: samples that a state lasts, to begin with
    Source     L. E. Baum et al., Ann. Math. Stat. 41, 164 (1970), DOI 10.1214/aoms/1177697196
    """
    x = np.ascontiguousarray(samples, float)
    sigma = max(float(np.std(x)) / 2, 1e-9 * max(1.0, abs(high)))
    least_sigma = 1e-6 * sigma
    up = down = 1 / dwell
    posterior, predicted = np.empty(len(x)), np.empty(len(x))
    before = -np.inf
    for _ in range(ROUNDS):
        total, ups, downs = _forward_backward(x, low, high, sigma, up, down, posterior, predicted)
        if total - before < CONVERGED * abs(total):
            break
        before = total
        in_high = float(posterior[:-1].sum())
        up = min(max(ups / max(len(x) - 1 - in_high, 1e-9), 1e-9), 0.999)
        down = min(max(downs / max(in_high, 1e-9), 1e-9), 0.999)
        share = float(posterior.sum())
        low = float((1 - posterior) @ x) / max(len(x) - share, 1e-9)
        high = float(posterior @ x) / max(share, 1e-9)
        sigma = max(
            float(np.sqrt(np.mean(posterior * (x - high) ** 2 + (1 - posterior) * (x - low) ** 2))), least_sigma
        )
    total, _, _ = _forward_backward(x, low, high, sigma, up, down, posterior, predicted)
    return TwoStates(low, high, sigma, up, down, float(total)), predicted


def log_likelihood(samples: Floats, low: float, high: float, sigma: float, up: float, down: float) -> float:
    """Of samples [nat] under a chain that is stationary."""
    x = np.ascontiguousarray(samples, float)
    return float(_forward_backward(x, low, high, sigma, up, down, np.empty(len(x)), np.empty(len(x)))[0])
