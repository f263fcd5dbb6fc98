"""Full scales of converters from samples of what they will see.

Samples are (vectors, inputs or columns). Vectors of zeros only tell nothing and are dropped; NaN and infinity are
refused.
"""
# mypy: allow-untyped-defs, allow-incomplete-defs
# Numba compiles these from the types of the call.

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from crossbar_sim.converters.laws import levels_of
from device_models.errors import UsageError

_CANDIDATES = 64
"""Ranges tried at once in the search for the smallest error; it then goes on between the neighbours of the best."""
_ROUNDS = 3


def largest_range(samples: ArrayLike) -> float:
    """R = max |x|; samples (vectors, n)."""
    return float(abs(_telling(samples)).max())


def quantile_range(samples: ArrayLike, quantile: float) -> float:
    """R = the `quantile` (above 0, at most 1) of |x|, linear between order statistics; samples (vectors, n)."""
    if not 0 < quantile <= 1:
        raise UsageError(f"quantile = {quantile!r}: must be above 0 and at most 1")
    return _not_zero(float(np.quantile(abs(_telling(samples)), quantile)), f"quantile = {quantile!r}")


def sigma_range(samples: ArrayLike, n_sigma: float) -> float:
    """R = n_sigma s, s the standard deviation of x about its mean; samples (vectors, n); n_sigma above 0."""
    if not (n_sigma > 0 and np.isfinite(n_sigma)):
        raise UsageError(f"n_sigma = {n_sigma!r}: must be a finite number above 0")
    return _not_zero(n_sigma * float(np.std(_telling(samples), dtype=np.float64)), f"n_sigma = {n_sigma!r}")


def minimum_error_range(samples: ArrayLike, bits: int) -> float:
    """R with the least mean squared error of the symmetric quantiser, to about 1e-4 of max |x|.

    Equation   argmin_R mean (Q(x) - x)^2, Q of `laws.quantise_symmetric`, 0 < R <= max |x|
    Arguments  samples (vectors, n); bits 2 to 16
    """
    x = np.ascontiguousarray(_telling(samples)).ravel()
    levels = levels_of(bits)
    return least_error(lambda candidates: _squared_errors(x, candidates, levels), float(abs(x).max()))


def least_error(errors: Callable[[NDArray[np.float64]], NDArray[np.float64]], largest: float) -> float:
    """The range, above 0 and at most `largest`, with the least of `errors`: ever finer steps around the best."""
    low, high = 0.0, largest
    best = high
    for _ in range(_ROUNDS):
        candidates = low + (high - low) * np.arange(1, _CANDIDATES + 1) / _CANDIDATES
        best_at = int(np.argmin(errors(candidates)))
        best, width = float(candidates[best_at]), (high - low) / _CANDIDATES
        low, high = max(best - width, 0.0), min(best + width, float(candidates[-1]))
    return best


def saturation_bound(outputs: ArrayLike, budget: float = 1e-4) -> float:
    """The smallest full scale that at most a part `budget` of the outputs exceeds.

    Equation   bound = the (k + 1)-th largest |y|, k = floor(budget size(y)); below 1 / budget outputs that is max |y|
    Arguments  outputs (vectors, columns) in units of the bound; budget at least 0 and below 1
    """
    if not 0 <= budget < 1:
        raise UsageError(f"budget = {budget!r}: must be at least 0 and below 1")
    y = abs(_telling(outputs)).ravel()
    place = y.size - 1 - int(budget * y.size)
    return _not_zero(float(np.partition(y, place)[place]), f"budget = {budget!r}")


def _telling(samples: ArrayLike) -> NDArray[np.floating]:
    """The vectors with anything but zeros."""
    x = np.asarray(samples)
    if x.ndim != 2 or not np.issubdtype(x.dtype, np.floating):
        raise UsageError(f"samples: are {x.dtype} of shape {x.shape}; must be floats, vectors x values")
    if not np.isfinite(x).all():
        raise UsageError(f"samples: {(~np.isfinite(x)).sum()} of {x.size} values are not finite")
    telling: NDArray[np.floating] = x[(x != 0).any(axis=1)]
    if telling.size == 0:
        raise UsageError(f"samples: none of the {len(x)} vectors has anything but zeros")
    return telling


def _not_zero(value: float, cause: str) -> float:
    if value == 0:
        raise UsageError(f"{cause}: gives a full scale of 0 on these samples; must be larger")
    return value


@njit(cache=True)
def _squared_errors(x, candidates, levels):
    """Sum of squared errors of the symmetric quantiser for each candidate range."""
    errors = np.empty(candidates.shape[0])
    limit = np.float64(levels)
    for c in range(candidates.shape[0]):
        step = candidates[c] / limit
        total = 0.0
        for i in range(x.shape[0]):
            error = min(max(np.rint(x[i] / step), -limit), limit) * step - x[i]
            total += error * error
        errors[c] = total
    return errors
