"""Laws that several devices share: power-law drift and the 1/f read noise of one bounded read."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

LOWEST_RATIO = 1e-7
"""Guard of the logarithm: ln(g / g_max) is evaluated for g / g_max no smaller than this."""


def drift_log_time(t_s: float, t0_s: float) -> float:
    """Natural logarithm of the drift clock.

    Equation   L(t) = ln((t + t0) / t0); the conductance falls as exp(-nu L)
    Arguments  t_s time since programming ended [s]; t0_s first verified read [s]
    Valid      t_s >= 0, t0_s > 0
    Source     S. R. Nandakumar et al., ICECS 2019, DOI 10.1109/ICECS46596.2019.8964852
    Test       tests/unit/test_devices.py::test_drift_factor_table
    """
    return float(np.log1p(t_s / t0_s))


def one_over_f_variance(t_s: float, t0_s: float, t_read_s: float, t_obs_s: float) -> tuple[float, float]:
    """Variance of 1/f noise in units of Q g^2, split into a frozen and a per-read share.

    Equation   frozen = ln((t + t0 + t_read) / T_obs), per read = ln(T_obs / (2 t_read)); their sum is
               ln((t + t0 + t_read) / (2 t_read)) whatever T_obs
    Arguments  t_s time since programming [s]; t0_s first verified read [s]; t_read_s one read pulse [s];
               t_obs_s length of the observation [s]: 0 freezes everything, infinity redraws everything at each read
    Valid      t_s >= 0, t0_s > 0, t_read_s > 0; T_obs is limited to [2 t_read, t + t0 + t_read], because a device
               fluctuates no faster than a read resolves and no slower than it is old
    Source     V. Joshi et al., Nat. Commun. 11, 2473 (2020), DOI 10.1038/s41467-020-16108-9; split at the window
    Test       tests/unit/test_devices.py::test_frozen_share_table
    """
    age_s = t_s + t0_s + t_read_s
    window_s = min(max(t_obs_s, 2.0 * t_read_s), age_s)
    return float(np.log(age_s / window_s)), float(np.log(window_s / (2.0 * t_read_s)))


def clipped_log(r: ArrayLike, slope: float, offset: float, low: float, high: float) -> NDArray[np.float64]:
    """Clipped line in the logarithm of the relative conductance.

    Equation   clip(slope ln r + offset, low, high)
    Arguments  r relative conductance g / g_max [1]; slope, offset, low, high [1]
    Valid      0 <= r; r is limited to LOWEST_RATIO from below
    Source     the form of the drift laws of Nandakumar 2019 and of the HERMES model
    Test       tests/unit/test_devices.py::test_reference_points
    """
    return np.clip(slope * np.log(np.maximum(r, LOWEST_RATIO)) + offset, low, high)
