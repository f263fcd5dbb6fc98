"""Power-law drift as a rival of relaxation: the same reads, one exponent for each device."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from calibration.maximum import estimate
from calibration.relaxation_cells import Shifts
from device_models.relaxation import hat_weights

Floats = NDArray[np.float64]

NAME = "power-law drift"
ENOUGH_CELLS = 1500
"""More do not change so few parameters."""


class PowerLawDrift:
    """Density of one read under power-law drift.

    Equation   ln(g(t) / g(0)) normal, mean -m(g) L and variance s(g)^2 L^2 + r^2 + (a / g(0))^2, L = ln(1 + t / t0);
               m and ln s linear between a few conductances; r and a are relative and absolute read noise
    A read at 0 uS has no likelihood: a power law never gets there.
    """

    def __init__(self, nodes_uS: Floats):
        self.nodes_uS = nodes_uS

    @property
    def n_parameters(self) -> int:
        return 2 * len(self.nodes_uS) + 3

    def held_out(self, train: Shifts, test: Shifts) -> Floats:
        """Log density [nat per uS] of each read of `test` after a fit to `train`."""
        earliest, latest = float(train.t_s.min()), float(train.t_s.max())
        n = len(self.nodes_uS)
        bounds = [(-5.0, 5.0)] * n + [(-12.0, 2.0)] * n + [(-10.0, 1.0), (-8.0, 6.0)]
        bounds += [(np.log(earliest) - 5.0, np.log(latest))]
        start = np.concatenate([np.full(n, 0.01), np.full(n, -4.0), [-4.0, -2.0, np.log(earliest)]])
        some = train.cell % max(1, train.n_cells // ENOUGH_CELLS) == 0
        usable = train.part(some & (train.g_uS + train.shift_uS > 0))
        return self._log_density(estimate(lambda theta: self._log_density(theta, usable), start, bounds), test)

    def _log_density(self, theta: Floats, shifts: Shifts) -> Floats:
        n = len(self.nodes_uS)
        mean, spread = self._at(theta[:n], shifts.g_uS), np.exp(self._at(theta[n : 2 * n], shifts.g_uS))
        relative, absolute, t0_s = np.exp(theta[2 * n :])
        clock = np.log1p(shifts.t_s / t0_s)
        variance = (spread * clock) ** 2 + relative**2 + (absolute / np.maximum(shifts.g_uS, 1e-9)) ** 2
        g = shifts.g_uS + shifts.shift_uS
        with np.errstate(divide="ignore", invalid="ignore"):
            log_ratio = np.log(g / shifts.g_uS)
            log_p = -0.5 * (log_ratio + mean * clock) ** 2 / variance - 0.5 * np.log(2 * np.pi * variance) - np.log(g)
        return np.where((g > 0) & (shifts.g_uS > 0), log_p, -np.inf)

    def _at(self, values: Floats, g_uS: Floats) -> Floats:
        if len(values) == 1:
            return np.full(len(g_uS), values[0])
        i, w = hat_weights(g_uS, self.nodes_uS)
        return (1 - w) * values[i] + w * values[i + 1]
