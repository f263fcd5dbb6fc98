"""Uncertainty of fitted parameters: asymptotic normal, profile likelihood, bootstrap over cells."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import betaincinv
from scipy.stats import chi2, norm

from device_models.errors import UsageError
from device_models.fit_record import Parameter

Floats = NDArray[np.float64]

LEVEL = 0.90
"""Share of repeats in which an interval covers the truth."""


def hessian(function: Callable[[Floats], float], at: ArrayLike, steps: ArrayLike) -> Floats:
    """Second derivatives of a function of p parameters by central differences; (p, p), symmetric."""
    x, h = np.asarray(at, float), np.asarray(steps, float)
    p = len(x)
    shifts = np.diag(h)
    result = np.empty((p, p))
    for i in range(p):
        for j in range(i, p):
            corners = [
                sign_i * sign_j * function(x + sign_i * shifts[i] + sign_j * shifts[j])
                for sign_i in (1, -1)
                for sign_j in (1, -1)
            ]
            result[i, j] = result[j, i] = sum(corners) / (4 * h[i] * h[j])
    return result


def normal_draws(values: ArrayLike, covariance: ArrayLike, n: int = 200, seed: int = 0) -> Floats:
    """Draws of parameters from the asymptotic normal law; (n, p). UsageError where the covariance is none."""
    values, covariance = np.asarray(values, float), np.asarray(covariance, float)
    if not np.all(np.isfinite(covariance)):
        raise UsageError("covariance: is not finite, so the data do not identify all parameters")
    scale = np.sqrt(np.diag(covariance).clip(min=0))
    unit = np.where(scale > 0, scale, 1.0)
    eigenvalues, vectors = np.linalg.eigh(covariance / np.outer(unit, unit))
    if eigenvalues.min(initial=0.0) < -1e-8:
        raise UsageError("covariance: has a negative eigenvalue, so the data do not identify all parameters")
    root = vectors * np.sqrt(eigenvalues.clip(min=0))
    return values + np.random.default_rng(seed).standard_normal((n, len(values))) @ root.T * unit


def normal_interval(value: float, se: float) -> tuple[float, float]:
    """The 90 % interval of an asymptotically normal estimate."""
    half = float(norm.ppf(0.5 + LEVEL / 2)) * se
    return value - half, value + half


def profile_interval(
    deviance: Callable[[float], float], value: float, step: float, bounds: tuple[float, float] = (-np.inf, np.inf)
) -> tuple[float, float]:
    """Ends of the 90 % interval: where 2 (l_max - l_profile) reaches the quantile of chi2 with one degree of freedom.

    Arguments  deviance(x): 2 (l_max - l_profile(x)), 0 at `value`; step: guess of the half width, rather too large;
               ends are within a hundredth of it; bounds: of the parameter; an end that lies beyond is the bound
    """
    critical = float(chi2.ppf(LEVEL, 1))

    @cache
    def excess(x: float) -> float:
        """Of a root, which is nearly a line on either side of `value`."""
        return float(np.sqrt(max(deviance(x), 0.0)) - np.sqrt(critical))

    def end(sign: int, bound: float) -> float:
        inside, reach = value, step
        while True:
            outside = value + sign * reach
            if sign * (outside - bound) >= 0:
                outside = bound
            if not np.isfinite(outside):
                return bound
            if excess(outside) > 0:
                return float(brentq(excess, inside, outside, xtol=1e-2 * step))
            if outside == bound:
                return bound
            inside, reach = outside, 2 * reach

    return end(-1, bounds[0]), end(1, bounds[1])


def bootstrap(estimate: Callable[[NDArray[np.int64]], ArrayLike], n_cells: int, n: int = 200, seed: int = 0) -> Floats:
    """Estimates from cells drawn with replacement; (n, p). For data whose scatter among cells has no known law.

    estimate(counts): parameters where cell i counts counts[i] times; counts has shape (n_cells,) and sum n_cells.
    """
    if n_cells < 2:
        raise UsageError(f"n_cells = {n_cells}: a bootstrap over cells needs at least 2")
    rng = np.random.default_rng(seed)
    chances = np.full(n_cells, 1 / n_cells)
    return np.stack([np.asarray(estimate(rng.multinomial(n_cells, chances)), float) for _ in range(n)])


def clopper_pearson(counts: ArrayLike, trials: ArrayLike) -> tuple[Floats, Floats]:
    """Ends of the exact 90 % intervals of binomial shares: quantiles of beta distributions."""
    k, n = np.asarray(counts, float), np.asarray(trials, float)
    tail = (1 - LEVEL) / 2
    low = np.where(k > 0, betaincinv(np.maximum(k, 1), n - k + 1, tail), 0.0)
    high = np.where(k < n, betaincinv(k + 1, np.maximum(n - k, 1), 1 - tail), 1.0)
    return low, high


def percentile_intervals(draws: ArrayLike) -> tuple[Floats, Floats]:
    """Low and high ends of the central 90 % of draws, each (p,)."""
    low, high = np.quantile(np.asarray(draws, float), [0.5 - LEVEL / 2, 0.5 + LEVEL / 2], axis=0)
    return low, high


def parameters(
    names: Sequence[str], values: ArrayLike, low: ArrayLike, high: ArrayLike, units: Sequence[str]
) -> tuple[Parameter, ...]:
    """Parameters of a fit from arrays in the same order."""
    columns = [np.asarray(column, float).tolist() for column in (values, low, high)]
    return tuple(
        Parameter(name=name, value=v, low=lo, high=hi, unit=unit)
        for name, v, lo, hi, unit in zip(names, *columns, units, strict=True)
    )
