"""Allan deviation: of samples, and of a power spectrum."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from device_models.errors import UsageError

Floats = NDArray[np.float64]

_PER_DECADE = 300
_WAVES = 8.0
"""Periods of the window below which it is integrated as it is; above, its mean 3/8 stands for sin^4."""


def allan_deviation(samples: ArrayLike, n_average: ArrayLike) -> Floats:
    """Overlapping Allan deviation of means over n samples, in the unit of the samples.

    Equation   sigma^2(n) = mean over i of (mean of samples i+n .. i+2n-1 minus mean of i .. i+n-1)^2 / 2
    Arguments  samples (m,); n_average whole numbers from 1 to m / 2
    Source     D. W. Allan, Proc. IEEE 54, 221 (1966), DOI 10.1109/PROC.1966.4634
    """
    x = np.asarray(samples, float)
    n = np.atleast_1d(np.asarray(n_average, int))
    if x.ndim != 1 or np.any(n < 1) or np.any(2 * n > len(x)):
        raise UsageError(f"n_average: from {n.min()} to {n.max()}: must be from 1 to {len(x) // 2}, half the samples")
    sums = np.concatenate([[0.0], np.cumsum(x - x.mean())])
    steps = [(sums[2 * k :] - 2 * sums[k:-k] + sums[: -2 * k]) / k for k in n]
    return np.array([np.sqrt(np.mean(step**2) / 2) for step in steps])


def allan_from_density(
    density: Callable[[Floats], Floats], n_average: ArrayLike, fs_Hz: float, f_low_Hz: float
) -> Floats:
    """Allan deviation of samples with a one-sided power spectral density.

    Equation   sigma^2(n) = 2 int_{f_low}^{fs / 2} S(f) sin^4(pi f n / fs) / (n^2 sin^2(pi f / fs)) df
    Arguments  density(f_Hz) [unit^2 / Hz]; n_average samples; f_low_Hz: where the density begins, well below
               fs / (2 n)
    """
    n = np.atleast_1d(np.asarray(n_average, float))
    points = int(_PER_DECADE * np.log10(fs_Hz / 2 / f_low_Hz)) + 2
    f = np.geomspace(f_low_Hz, fs_Hz / 2, points)
    phase = n[:, None] * f / fs_Hz
    window = np.where(phase < _WAVES, np.sin(np.pi * phase) ** 4, 3 / 8)
    integrand = density(f) * window / (n[:, None] * np.sin(np.pi * f / fs_Hz)) ** 2
    return np.sqrt(2 * np.trapezoid(integrand, f, axis=1))
