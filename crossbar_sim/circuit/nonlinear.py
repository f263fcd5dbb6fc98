"""Arrays of devices whose current is not proportional to their voltage: Newton's method on the exact linear solver."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crossbar_sim.circuit.lines import lines_of
from crossbar_sim.circuit.nodal import (
    RESIDUAL_LIMIT,
    NodalSolution,
    checked_conductances,
    checked_drives,
    gated,
    solve_lines,
)
from crossbar_sim.circuit.units import to_S
from crossbar_sim.spec.wires import WiresSpec
from device_models.errors import StateError, UsageError

Floats = NDArray[np.float64]
Law = Callable[[Floats, Floats], Floats]

_MAX_STEPS = 50


class IVCurve(NamedTuple):
    """Current of a device over its voltage: current(v_V, g_S) [A] and its derivative slope(v_V, g_S) [S], on arrays.

    Both may be NumPy or Numba functions. `spice` is the current as a SPICE expression of {v} and {g}, for netlists.
    """

    current: Law
    slope: Law
    spice: str = ""


def cubic(k3_per_V2: float) -> IVCurve:
    """Equation: I = G (V - k3 V^3); rising, and so usable, for |V| < 1 / sqrt(3 k3) (1.155 V at k3 = 0.25 / V^2)."""
    return IVCurve(
        current=lambda v, g: g * (v - k3_per_V2 * v**3),
        slope=lambda v, g: g * (1 - 3 * k3_per_V2 * v**2),
        spice=f"{{g}}*({{v}}-{k3_per_V2:.17g}*{{v}}*{{v}}*{{v}})",  # a power would take the absolute value of its base
    )


def hyperbolic_sine(v0_V: float) -> IVCurve:
    """Equation: I = G V0 sinh(V / V0), hopping conduction; V0 about 0.2 to 0.4 V."""
    return IVCurve(
        current=lambda v, g: g * v0_V * np.sinh(v / v0_V),
        slope=lambda v, g: g * np.cosh(v / v0_V),
        spice=f"{{g}}*{v0_V:.17g}*sinh({{v}}/{v0_V:.17g})",
    )


def solve_nonlinear(
    g_uS: ArrayLike, v_V: ArrayLike, wires: WiresSpec, device: IVCurve, voltages: bool = False
) -> NodalSolution:
    """Column currents of an array of devices I(V) with resistive wires.

    Equation   as nodal.solve_array with I(u - b) in place of G (u - b); each Newton step solves the array of the slopes
               dI/dV exactly, from the devices' voltages without wires on
    Arguments  g_uS (N, M) [uS], handed to the device in siemens; v_V (N,) or (T, N) [V]; `iterations` are Newton steps
    Valid      rising I(V) at all voltages met (UsageError); r_transistor_ohm none (UsageError); StateError where the
               currents do not settle: residual above 1e-10 of the largest current after 50 steps
    Source     Newton's method on the node equations
    Test       tests/unit/test_circuit_nonlinear.py, tests/unit/test_circuit_netlist.py (ngspice)
    """
    g, v = to_S(checked_conductances(g_uS)), checked_drives(v_V, np.shape(g_uS))
    if wires.r_transistor_ohm is not None:
        raise UsageError(
            f"wires.r_transistor_ohm = {wires.r_transistor_ohm:g}: cannot be lumped into a non-linear device; give the "
            "current of device and transistor as one curve"
        )
    solutions = [_solve_drive(g, drive, wires, device, k) for k, drive in enumerate(v)]
    nodes = [np.concatenate([getattr(part, name) for part in solutions]) for name in ("u_V", "b_V")]
    return NodalSolution(
        np.concatenate([part.currents_A for part in solutions]),
        np.concatenate([part.iterations for part in solutions]),
        max(part.residual for part in solutions),
        *(nodes if voltages else (None, None)),
    )


def _solve_drive(g_S: Floats, v: Floats, wires: WiresSpec, device: IVCurve, number: int) -> NodalSolution:
    lines, idle = lines_of(wires, *g_S.shape), v == 0
    is_open = idle if wires.idle_rows == "floating" else None
    if wires.topology == "separate_source":
        g_S = gated(g_S, v[None])
    across = np.repeat(v[:, None], g_S.shape[1], axis=1)
    residual, step = np.inf, 0
    for step in range(1, _MAX_STEPS + 1):
        current, slope = device.current(across, g_S), device.slope(across, g_S)
        _check_slope(slope, across, g_S, number)
        offset = current - slope * across
        try:
            linear = solve_lines(slope, v[None], lines, source_A=offset, is_open=is_open, voltages=True)
        except StateError:
            break
        assert linear.u_V is not None
        assert linear.b_V is not None
        across = linear.u_V[0] - linear.b_V[0]
        exact = device.current(across, g_S)
        scale = np.abs(exact).max()
        if not np.isfinite(scale):
            break
        residual = float(np.abs(exact - slope * across - offset).max() / (scale or 1.0))
        if residual <= RESIDUAL_LIMIT:
            return linear._replace(iterations=np.array([step]), residual=max(residual, linear.residual))
    raise StateError(
        f"wires: drive {number} of the array of non-linear devices did not converge: residual {residual:.2e} of the "
        f"largest current after {step} Newton steps, accepted is {RESIDUAL_LIMIT:g}"
    )


def _check_slope(slope: Floats, across: Floats, g_S: Floats, number: int) -> None:
    bad = ~(np.isfinite(slope) & ((slope > 0) | (g_S == 0)))
    if bad.any():
        i, j = (int(index) for index in np.argwhere(bad)[0])
        raise UsageError(
            f"device[{i}, {j}]: dI/dV = {slope[i, j]:.3g} S at {across[i, j]:.3g} V (drive {number}); the current must "
            "rise with the voltage"
        )
