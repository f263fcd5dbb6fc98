"""Tests of a fitted law on its residuals."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from calibration.fit import Goodness
from device_models.errors import UsageError


def normal_scores(u: ArrayLike) -> NDArray[np.float64]:
    """Standard normals from probability-integral transforms, those of 0 and 1 held at +- 8.2."""
    return np.asarray(stats.norm.ppf(np.clip(u, 1e-16, 1 - 1e-16)), float)


LEAST_SPREAD = 20
"""Residuals that a test of their spread needs."""


def shape_test(z: ArrayLike) -> Goodness:
    """Kolmogorov-Smirnov test that residuals are standard normal.

    Where parameters were fitted to the same data the true law is rejected less often than the level says.
    """
    result = stats.kstest(_finite(z, 5), "norm")
    return Goodness(test="Kolmogorov-Smirnov", statistic=float(result.statistic), p_value=float(result.pvalue))


def dispersion_test(z: ArrayLike, x: ArrayLike, n_parameters: int = 0, bins: int = 8, name: str = "") -> Goodness:
    """Chi-squared test that mean and spread of residuals are those of a standard normal in every part of `x`.

    A law with the wrong dependence on x may look right over all of it together; this test sees it.

    Equation   sum over bins of n (mean z)^2 + n (mean z^2 - 1)^2 / 2; chi2 with 2 bins - n_parameters degrees
               of freedom
    Arguments  z (n,) standard normal under the law, independent; x (n,) what the bins divide, in equal numbers;
               name: of x, for the report
    """
    z, x = _finite(z, LEAST_SPREAD), np.asarray(x, float)
    if z.shape != x.shape:
        raise UsageError(f"residuals of shape {z.shape} at x of shape {x.shape}: must be alike")
    values, level = np.unique(x, return_inverse=True)
    group = level
    if len(values) > bins:  # equal numbers, and equal x always together
        ranks = np.searchsorted(np.sort(x), x, side="right") - 1
        _, group = np.unique(ranks * bins // len(x), return_inverse=True)
    counts = np.bincount(group)
    mean = np.bincount(group, z) / counts
    excess = np.bincount(group, z**2) / counts - 1
    statistic = float(np.sum(counts * (mean**2 + excess**2 / 2)))
    freedom = max(1, 2 * len(counts) - n_parameters)
    over = f" over {name}" if name else ""
    return Goodness(
        test=f"chi-squared of mean and spread{over} ({len(counts)} bins)",
        statistic=statistic,
        p_value=float(stats.chi2.sf(statistic, freedom)),
    )


def sum_of_squares_test(z: ArrayLike, n_parameters: int) -> Goodness:
    """Chi-squared test of residuals with a known standard error; chi2 with n - n_parameters degrees of freedom."""
    z = np.asarray(z, float)
    freedom = z.size - n_parameters
    if freedom < 1:
        raise UsageError(f"{z.size} residuals of a law with {n_parameters} parameters: nothing is left to test")
    statistic = float(np.sum(z**2))
    return Goodness(
        test="chi-squared of residuals", statistic=statistic, p_value=float(stats.chi2.sf(statistic, freedom))
    )


def _finite(z: ArrayLike, least: int) -> NDArray[np.float64]:
    z = np.asarray(z, float).ravel()
    if len(z) < least or not np.all(np.isfinite(z)):
        bad = int(np.sum(~np.isfinite(z)))
        raise UsageError(f"residuals: {len(z)} values, {bad} not finite: must be at least {least}, all finite")
    return z
