"""Maxima of likelihoods with kinks, where second derivatives say nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calibration.intervals import normal_interval
from calibration.maximum import Maximum, estimate, profile

Floats = NDArray[np.float64]

STEP = 1e-3
FLAT = 1e-9
"""A direction with a smaller part of the information than this is not identified."""


def maximise_with_kinks(
    per_unit: Callable[[Floats], Floats],
    start: ArrayLike,
    bounds: list[tuple[float, float]],
    profiled: Sequence[int] = (),
) -> Maximum:
    """As `maximise`, with the covariance from first derivatives only.

    Equation   (sum of g g^T over units)^-1, g the score of one unit; intervals of `profiled` by the profile likelihood,
               which is far from a parabola where a knee passes from unit to unit
    Valid      where the law is right
    Arguments  as of `maximise`; units are independent
    """
    values = estimate(per_unit, start, bounds)
    lows, highs = np.array(bounds, float).T
    at_bound = _at_bound(values, lows, highs)
    steps = np.diag(np.where(at_bound, 0.0, STEP))
    scores = np.stack([(per_unit(values + h) - per_unit(values - h)) / (2 * STEP) for h in steps], axis=1)
    found = from_information(values, scores.T @ scores, bounds)
    for i in profiled:
        if found.covariance[i, i] > 0:
            found.low[i], found.high[i] = profile(per_unit, values, i, bounds, found.covariance)
    return found


def from_information(
    values: Floats, information: Floats, bounds: list[tuple[float, float]], scatter: Floats | None = None
) -> Maximum:
    """Intervals from the information I (p, p) on the parameters.

    Equation   covariance I^-1, or I^-1 J I^-1 with the scatter J of the scores of independent clusters
    """
    lows, highs = np.array(bounds, float).T
    at_bound = _at_bound(values, lows, highs)
    information = np.where(np.outer(~at_bound, ~at_bound), information, 0.0)
    scale = np.sqrt(np.diag(information).clip(1e-12))
    eigenvalues, vectors = np.linalg.eigh(information / np.outer(scale, scale))
    good = eigenvalues > FLAT
    parts = vectors[:, good] / np.sqrt(eigenvalues[good])
    covariance = parts @ parts.T / np.outer(scale, scale)
    if scatter is not None:
        covariance = covariance @ scatter @ covariance
    unidentified = ~at_bound & (np.sum(vectors[:, ~good] ** 2, axis=1) > 0.05)
    low, high = np.array([normal_interval(v, s) for v, s in zip(values, np.sqrt(np.diag(covariance)), strict=True)]).T
    low, high = np.where(at_bound, lows, low), np.where(at_bound, highs, high)
    return Maximum(values, covariance, np.clip(low, lows, values), np.clip(high, values, highs), at_bound, unidentified)


def _at_bound(values: Floats, lows: Floats, highs: Floats) -> NDArray[np.bool_]:
    edge = 1e-6 * np.maximum(1.0, np.abs(values))
    return (values - lows < edge) | (highs - values < edge)
