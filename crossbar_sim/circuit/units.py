"""The only place where the micro-units of device models become the SI units of circuits, and back."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

S_PER_uS = 1e-6
"""Also the factor that makes r_ohm * g_uS a pure number."""


def to_S(g_uS: ArrayLike) -> NDArray[np.float64]:
    """Conductance [S] of a conductance [uS], in float64."""
    return np.asarray(g_uS, np.float64) * S_PER_uS


def to_A(i_uA: ArrayLike) -> NDArray[np.float64]:
    """Current [A] of a current [uA], in float64: conductances [uS] times volts."""
    return to_S(i_uA)


def to_uS(g_S: NDArray[np.float64]) -> NDArray[np.float64]:
    """Conductance [uS] of a conductance [S]."""
    return g_S / S_PER_uS
