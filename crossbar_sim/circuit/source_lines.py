"""Arrays with separate source lines: inputs gate the cells, so each drive has a network of its own.

Every column is one loop: its source line, fed at the end opposite to the sense node, its cells that are on, and its bit
line. With S_i the current of the source line above cell i and T that of the column, the bit line below cell i carries
T - S_i+1, so the voltage d across the cells follows a ladder of r_source + r_bl with an emf r_bl T in each segment. It
is solved directly: everything is linear in T, which the loop equation gives at last.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from crossbar_sim.circuit.solution import NodalSolution
from crossbar_sim.spec.wires import WiresSpec
from device_models.errors import UsageError

Floats = NDArray[np.float64]


def source_voltage(v_V: Floats, number: int = 0) -> float:
    """Voltage of the source lines at one drive (N,), 0 where all cells are off; UsageError for several voltages."""
    levels = np.unique(v_V[v_V != 0])
    if len(levels) > 1:
        raise UsageError(
            f"v_V: {levels[0]:g} and {levels[-1]:g} V in drive {number}; with wires.topology separate_source each "
            "input is 0 or the one voltage of the source lines"
        )
    return float(levels.sum())


def solve_source_lines(g_S: Floats, volt: float, wires: WiresSpec, source_A: Floats | None = None) -> NodalSolution:
    """One drive of an array with separate source lines.

    Equation   d_i = V - R_driver T - r_source sum_{k<=i} S_k - r_bl sum_{k>=i} (T - S_k+1) - R_sense T,
               S_i = sum_{k>=i} (G_k d_k + s_k)
    Arguments  g_S (N, M) [S], 0 for cells that are off; volt [V] of the source lines; source_A (N, M) [A] currents s of
               the cells at zero voltage
    Source     the separate-source arrays of CrossSim 3.2.0
    Test       tests/unit/test_circuit_source_lines.py
    """
    n, m = g_S.shape
    s = np.zeros_like(g_S) if source_A is None else source_A
    r_src, r_bl = wires.r_source_ohm or 0.0, wires.r_bl_ohm or 0.0
    ends = (wires.r_driver_ohm or 0.0) + (wires.r_sense_ohm or 0.0)
    # downwards of cell i the line takes the current Y d + J, J = J_0 + J_1 T; likewise d = d_0 + d_1 T
    y, f, j = g_S.copy(), np.ones((n, m)), np.zeros((2, n, m))
    j[0] = s
    for i in range(n - 2, -1, -1):
        f[i + 1] = 1 / (1 + (r_src + r_bl) * y[i + 1])
        y[i] += f[i + 1] * y[i + 1]
        j[0, i] += f[i + 1] * j[0, i + 1]
        j[1, i] = f[i + 1] * (j[1, i + 1] + r_bl * y[i + 1])
    off = y[0] == 0
    d = np.empty((2, n, m))
    d[:, 0] = np.stack([-j[0, 0], 1 - j[1, 0]]) / np.where(off, 1, y[0])
    below = np.zeros((2, m))
    emf = np.array([[0.0], [r_bl]])
    for i in range(1, n):
        d[:, i] = f[i] * (d[:, i - 1] + emf - (r_src + r_bl) * j[:, i])
        below += y[i] * d[:, i] + j[:, i]
    loop = d[1, 0] + ends + r_src + n * r_bl - r_bl * below[1]
    total = np.where(off, 0.0, (volt - d[0, 0] + r_bl * below[0]) / np.where(off, 1, loop))
    across = np.where(off, volt, d[0] + d[1] * total)
    return _checked(g_S, volt, across, g_S * across + s, wires)


def _checked(g_S: Floats, volt: float, across: Floats, current: Floats, wires: WiresSpec) -> NodalSolution:
    """Line voltages that the device currents cause, and how far from them those currents are."""
    in_source = np.cumsum(current[::-1], axis=0)[::-1]
    total = current.sum(axis=0)
    source = volt - (wires.r_driver_ohm or 0.0) * total - (wires.r_source_ohm or 0.0) * np.cumsum(in_source, axis=0)
    in_bit = np.cumsum(current, axis=0)
    bit = (wires.r_sense_ohm or 0.0) * total + (wires.r_bl_ohm or 0.0) * np.cumsum(in_bit[::-1], axis=0)[::-1]
    largest = np.abs(current).max()
    residual = np.abs(g_S * (source - bit - across)).max() / largest if largest > 0 else 0.0
    return NodalSolution(total[None], np.zeros(1, np.int64), np.array([residual]), source[None], bit[None]).check(
        g_S.shape, "iterations"
    )
