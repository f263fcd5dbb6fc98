"""Likelihood of a series of conductances that steps from pulse to pulse and is read with noise."""
# mypy: allow-untyped-defs, allow-incomplete-defs
# Numba compiles these from the types of the call.

from __future__ import annotations

import numpy as np
from numba import njit

NODES = 65
"""Of the tabulated step; a law that bends once or twice over the window then errs by less than 1e-3 of itself."""


@njit(cache=True)
def series_likelihood(y, pulses, lengths, step, sigma, read, likelihood, innovations, variances):
    """Extended Kalman filter of x <- x + f(x) dn + s(x) sqrt(dn) z, y = x + read z', for each series.

    Arguments  y, pulses (n_series, m): conductances in units of the window and numbers of their pulses, ascending;
               lengths (n_series,): values in each; step, sigma (NODES,): f and s over x from 0 to 1, f linear and s
               constant beyond; read: s.d. of a read; likelihood (n_series, m) out: of each value given those before
               it [nat]; innovations, variances (n_series, m) out: prediction errors, their variances
    """
    n = step.shape[0]
    for k in range(y.shape[0]):
        x, p = y[k, 0], read * read
        for i in range(1, lengths[k]):
            for _ in range(pulses[k, i] - pulses[k, i - 1]):
                at = min(max(x, 0.0), 1.0) * (n - 1)
                j = min(int(at), n - 2)
                slope = (step[j + 1] - step[j]) * (n - 1)
                f = step[j] + slope * (x - j / (n - 1))
                s = sigma[j] + (sigma[j + 1] - sigma[j]) * (at - j)
                x += f
                p = p * (1.0 + slope) ** 2 + s * s
            e, v = y[k, i] - x, p + read * read
            likelihood[k, i] = -0.5 * (np.log(2 * np.pi * v) + e * e / v)
            gain = p / v
            x += gain * e
            p *= 1.0 - gain
            innovations[k, i], variances[k, i] = e, v
