"""The drift exponent of a device as it is measured: a folded normal plus the error of a fitted slope."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr, ndtr, owens_t

Floats = NDArray[np.float64]


def log_density(y: Floats, mean: Floats, spread: Floats, error: Floats) -> Floats:
    """Log density of y = |mean + spread z1| + error z2.

    Equation   sum over m = +-mean of N(y; m, spread^2 + error^2) Phi((m error^2 + y spread^2) / (spread error total)),
               total^2 = spread^2 + error^2: the part of N(m, spread^2) above zero, convolved with the error
    """
    total = np.hypot(spread, error)
    scale = spread * np.maximum(error, 1e-9 * spread) * total
    branches = [-0.5 * ((y - m) / total) ** 2 + log_ndtr((m * error**2 + y * spread**2) / scale) for m in (mean, -mean)]
    return np.logaddexp(*branches) - np.log(total) - 0.5 * np.log(2 * np.pi)


def cumulative(y: Floats, mean: Floats, spread: Floats, error: Floats) -> Floats:
    """P(|mean + spread z1| + error z2 <= y)."""
    total = np.hypot(spread, error)
    rho = spread / np.hypot(spread, np.maximum(error, 1e-6 * spread))
    parts = [ndtr((y - m) / total) - _both_below(-m / spread, (y - m) / total, rho) for m in (mean, -mean)]
    return np.clip(parts[0] + parts[1], 0.0, 1.0)


def _both_below(h: Floats, k: Floats, rho: Floats) -> Floats:
    """P(a <= h, b <= k) of standard normals with correlation rho, by Owen's T function.

    Source     D. B. Owen, Ann. Math. Stat. 27, 1075 (1956), DOI 10.1214/aoms/1177728074
    """
    h, k = (np.where(np.abs(v) < 1e-12, 1e-12, v) for v in (h, k))
    root = np.sqrt((1 - rho) * (1 + rho))
    tails = owens_t(h, (k / h - rho) / root) + owens_t(k, (h / k - rho) / root)
    return 0.5 * (ndtr(h) + ndtr(k)) - tails - np.where(h * k > 0, 0.0, 0.5)
