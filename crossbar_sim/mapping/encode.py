"""Differential pairs: relative weights to target conductances and back (the readable form of what kernels do)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from device_models.errors import UsageError

Floats = NDArray[np.floating]


def encode_pair(u: ArrayLike, g_min_uS: float, g_max_uS: float, pair: str) -> tuple[Floats, Floats]:
    """Target conductances of a relative weight.

    Equation   one-sided: g+ = g_min + G max(u, 0), g- = g_min + G max(-u, 0); two-sided: g+- = g_min + G (1 +- u)/2,
               G = g_max - g_min
    Arguments  u = w / w_max [1]; conductances [uS]
    Valid      |u| <= 1
    Source     the one- and two-sided balanced pairs of CrossSim; the single pair of aihwkit
    Test       tests/unit/test_mapping.py::test_pair_oracle
    """
    u = np.asarray(u)
    span = g_max_uS - g_min_uS
    if pair == "one_sided":
        return g_min_uS + span * np.maximum(u, 0), g_min_uS + span * np.maximum(-u, 0)
    if pair == "two_sided":
        return g_min_uS + span * (1 + u) / 2, g_min_uS + span * (1 - u) / 2
    raise UsageError(f"encoding.pair = {pair!r}: must be one_sided or two_sided")


def decode_pair(g_plus_uS: ArrayLike, g_minus_uS: ArrayLike, g_min_uS: float, g_max_uS: float) -> Floats:
    """Equation: u = (g+ - g-) / (g_max - g_min), the same for both pairs; conductances [uS]."""
    return (np.asarray(g_plus_uS) - np.asarray(g_minus_uS)) / (g_max_uS - g_min_uS)
