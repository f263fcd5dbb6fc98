"""Maxima of likelihoods with kinks, where second derivatives say nothing."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calibration.intervals import normal_interval
from calibration.maximum import Maximum, estimate

Floats = NDArray[np.float64]

STEP = 1e-3
FLAT = 1e-9
"""A direction with a smaller part of the information than this is not identified."""


def maximise_with_kinks(
    per_unit: Callable[[Floats], Floats], start: ArrayLike, bounds: list[tuple[float, float]]
) -> Maximum:
    """As `maximise`, with the covariance from first derivatives only.

    Equation   (sum of g g^T over units)^-1, g the score of one unit
    Valid      where the law is right
    Arguments  as of `maximise`; units are independent
    """
    values = estimate(per_unit, start, bounds)
    lows, highs = np.array(bounds, float).T
    edge = 1e-6 * np.maximum(1.0, np.abs(values))
    at_bound = (values - lows < edge) | (highs - values < edge)
    steps = np.diag(np.where(at_bound, 0.0, STEP))
    scores = np.stack([(per_unit(values + h) - per_unit(values - h)) / (2 * STEP) for h in steps], axis=1)
    information = scores.T @ scores
    scale = np.sqrt(np.diag(information).clip(1e-12))
    eigenvalues, vectors = np.linalg.eigh(information / np.outer(scale, scale))
    good = eigenvalues > FLAT
    parts = vectors[:, good] / np.sqrt(eigenvalues[good])
    covariance = parts @ parts.T / np.outer(scale, scale)
    unidentified = ~at_bound & (np.sum(vectors[:, ~good] ** 2, axis=1) > 0.05)
    low, high = np.array([normal_interval(v, s) for v, s in zip(values, np.sqrt(np.diag(covariance)), strict=True)]).T
    low, high = np.where(at_bound, lows, low), np.where(at_bound, highs, high)
    return Maximum(values, covariance, np.minimum(low, values), np.maximum(high, values), at_bound, unidentified)
