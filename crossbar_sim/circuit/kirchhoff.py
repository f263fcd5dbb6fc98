"""How well device currents obey Kirchhoff's and Ohm's laws along the lines that carry them.

Each residual is the device current that the voltages along the line would drive, less the one that was found; it is
computed from currents and resistances alone, apart from the way the solver works.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@njit
def word_line_residual(
    current: Floats, g: Floats, u: Floats, wl: Floats, far_S: float, start: float, is_open: bool
) -> float:
    """Largest |g (voltage along the line - u)| of a word line that starts at voltage `start`.

    A line that is open at both ends must give its devices a current of zero in total.
    """
    running = current.sum()
    worst = 0.0
    if is_open:
        worst, running = abs(running), 0.0
    elif far_S > 0.0:  # two ends at the same voltage share the current as a lever
        to_node, moment = 0.0, 0.0
        for j in range(current.shape[0]):
            to_node += wl[j]
            moment += current[j] * to_node
        running -= moment / (to_node + 1.0 / far_S)
    voltage = start
    for j in range(current.shape[0]):
        if j > 0 or not is_open:
            voltage -= wl[j] * running
        worst = max(worst, abs(g[j] * (voltage - u[j])))
        running -= current[j]
    return worst


@njit
def bit_line_residual(current: Floats, g: Floats, b: Floats, bl: Floats, column_current: Floats) -> float:
    """Largest |g (voltage along the line - b)| of all bit lines, from their sense nodes at 0 V on."""
    n, m = g.shape
    running, voltage, worst = column_current.copy(), np.zeros(m), np.zeros(m)
    for i in range(n - 1, -1, -1):
        for j in range(m):
            voltage[j] += bl[i] * running[j]
            worst[j] = max(worst[j], abs(g[i, j] * (voltage[j] - b[i, j])))
            running[j] -= current[i, j]
    return worst.max()
