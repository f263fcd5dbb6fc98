"""The only place where the microsiemens of device models become the siemens of circuits, and back."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

S_PER_uS = 1e-6
"""Also the factor that makes r_ohm * g_uS a pure number."""


def to_S(g_uS: ArrayLike) -> NDArray[np.float64]:
    """Conductance [S] of a conductance [uS], in float64."""
    return np.asarray(g_uS, np.float64) * S_PER_uS


def to_uS(g_S: NDArray[np.float64]) -> NDArray[np.float64]:
    """Conductance [uS] of a conductance [S]."""
    return g_S / S_PER_uS
