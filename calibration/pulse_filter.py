"""Likelihood of a series of conductances that steps from pulse to pulse and is read with noise."""
# mypy: allow-untyped-defs, allow-incomplete-defs
# Numba compiles these from the types of the call.

from __future__ import annotations

import numpy as np
from numba import njit

NODES = 65
"""Of the tabulated step; a law that bends once or twice over the window then errs by less than 1e-3 of itself."""


@njit(cache=True)
def series_likelihood(y, pulses, lengths, ramp, step, sigma, read, cycle, likelihood, innovations, variances):
    """Extended Kalman filter of x <- x + u f(x) + s(x) z for each pulse, y = x + read z', for each series.

    The state is x with the factor u = 1 + cycle z" of its ramp, which the values of the ramp tell better and better.

    Arguments  y, pulses (n_series, m): conductances in units of the window and numbers of their pulses, ascending;
               lengths, ramp (n_series,): values in each and the number of its ramp, equal ones side by side; step,
               sigma (NODES,): f and s over x from 0 to 1, f linear and s constant beyond; read, cycle: s.d. of a read
               and of u; likelihood (n_series, m) out: of each value given those before it [nat]; innovations,
               variances (n_series, m) out: prediction errors, their variances
    """
    n = step.shape[0]
    u, of_u = 1.0, cycle * cycle
    for k in range(y.shape[0]):
        x, p, both = y[k, 0], read * read, 0.0  # both: covariance of x and u
        if k > 0 and ramp[k] != ramp[k - 1]:
            u, of_u = 1.0, cycle * cycle
        for i in range(1, lengths[k]):
            for _ in range(pulses[k, i] - pulses[k, i - 1]):
                at = min(max(x, 0.0), 1.0) * (n - 1)
                j = min(int(at), n - 2)
                slope = (step[j + 1] - step[j]) * (n - 1)
                f = step[j] + slope * (x - j / (n - 1))
                s = sigma[j] + (sigma[j + 1] - sigma[j]) * (at - j)
                x += u * f
                turn = 1.0 + u * slope
                p = turn * (turn * p + 2.0 * f * both) + f * f * of_u + s * s
                both = turn * both + f * of_u
            e, v = y[k, i] - x, p + read * read
            likelihood[k, i] = -0.5 * (np.log(2 * np.pi * v) + e * e / v)
            gain = p / v
            x += gain * e
            u += both / v * e
            of_u -= both * both / v
            both *= 1.0 - gain
            p *= 1.0 - gain
            innovations[k, i], variances[k, i] = e, v
