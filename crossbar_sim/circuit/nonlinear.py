"""Arrays of devices whose current is not proportional to their voltage: Newton's method on the exact linear solver."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crossbar_sim.circuit.lines import lines_of
from crossbar_sim.circuit.nodal import solve_lines
from crossbar_sim.circuit.solution import RESIDUAL_LIMIT, NodalSolution, checked_conductances, checked_drives
from crossbar_sim.circuit.source_lines import solve_source_lines, source_voltage
from crossbar_sim.circuit.units import to_A, to_S
from crossbar_sim.spec.wires import WiresSpec
from device_models.effects import AbstractIVCurve
from device_models.errors import StateError, UsageError

Floats = NDArray[np.float64]
Law = Callable[[Floats, Floats], Floats]

_MAX_STEPS = 50


class DeviceLaw(NamedTuple):
    """A current law of your own: current_uA(g_uS, v_V) [uA] and its derivative slope_uS(g_uS, v_V) [uS], on arrays.

    Both may be NumPy or Numba functions. `spice` is the current in ampere as a SPICE expression with {v} for the
    voltage and {g} for the conductance in siemens; only netlists need it.
    """

    current_uA: Law
    slope_uS: Law
    spice: str = ""


def solve_nonlinear(
    g_uS: ArrayLike, v_V: ArrayLike, wires: WiresSpec, device: AbstractIVCurve | DeviceLaw, voltages: bool = False
) -> NodalSolution:
    """Column currents of an array of devices I(V) with resistive wires.

    Equation   as nodal.solve_array with I(u - b) in place of G (u - b); each Newton step solves the array of the slopes
               dI/dV exactly, beginning at the devices' voltages with ideal wires
    Arguments  g_uS (N, M) [uS]; v_V (N,) or (T, N) [V]; `iterations` of the solution are Newton steps
    Valid      rising I(V) at all voltages met (UsageError); r_transistor_ohm none (UsageError); StateError where the
               currents do not settle: residual above 1e-10 of the largest current after 50 steps
    Source     Newton's method on the node equations
    Test       tests/unit/test_circuit_nonlinear.py, tests/unit/test_circuit_netlist.py (ngspice)
    """
    g, v = checked_conductances(g_uS), checked_drives(v_V, np.shape(g_uS))
    if wires.r_transistor_ohm is not None:
        raise UsageError(
            f"wires.r_transistor_ohm = {wires.r_transistor_ohm:g}: cannot be lumped into a non-linear device; give the "
            "current of device and transistor as one law"
        )
    solutions = [_solve_drive(g, drive, wires, device, k) for k, drive in enumerate(v)]
    return NodalSolution.join(solutions, np.arange(len(v)), voltages)


def _solve_drive(
    g_uS: Floats, v: Floats, wires: WiresSpec, device: AbstractIVCurve | DeviceLaw, number: int
) -> NodalSolution:
    solve, on = _linear_solver(v, wires, g_uS.shape, number)
    across = np.repeat(v[:, None], g_uS.shape[1], axis=1)
    residual, step = np.inf, 0
    for step in range(1, _MAX_STEPS + 1):
        current, slope = to_A(device.current_uA(g_uS, across)), to_S(device.slope_uS(g_uS, across))
        _check_slope(slope, across, g_uS, number)
        slope, offset = on * slope, on * (current - slope * across)
        try:
            linear = solve(slope, offset)
        except StateError:
            break
        assert linear.u_V is not None
        assert linear.b_V is not None
        across = linear.u_V[0] - linear.b_V[0]
        exact = on * to_A(device.current_uA(g_uS, across))
        scale = np.abs(exact).max()
        if not np.isfinite(scale):
            break
        residual = float(np.abs(exact - slope * across - offset).max() / (scale or 1.0))
        if residual <= RESIDUAL_LIMIT:
            return linear._replace(iterations=np.array([step]), residual=np.maximum(linear.residual, residual))
    raise StateError(
        f"wires: drive {number} of the array of non-linear devices did not converge: residual {residual:.2e} of the "
        f"largest current after {step} Newton steps, accepted is {RESIDUAL_LIMIT:g}"
    )


def _linear_solver(
    v: Floats, wires: WiresSpec, shape: tuple[int, ...], number: int
) -> tuple[Callable[[Floats, Floats], NodalSolution], Floats]:
    """How arrays of slopes and offsets are solved at this drive, and (N, 1) which word lines have cells that are on."""
    if wires.topology == "separate_source":
        volt = source_voltage(v, number)
        return lambda slope, offset: solve_source_lines(slope, volt, wires, offset), (v != 0)[:, None].astype(float)
    lines, is_open = lines_of(wires, *shape), v == 0 if wires.idle_rows == "floating" else None

    def solve(slope: Floats, offset: Floats) -> NodalSolution:
        return solve_lines(slope, v[None], lines, source_A=offset, is_open=is_open, voltages=True)

    return solve, np.ones((shape[0], 1))


def _check_slope(slope: Floats, across: Floats, g_uS: Floats, number: int) -> None:
    bad = ~(np.isfinite(slope) & ((slope > 0) | (g_uS == 0)))
    if bad.any():
        i, j = (int(index) for index in np.argwhere(bad)[0])
        raise UsageError(
            f"device[{i}, {j}]: dI/dV = {slope[i, j]:.3g} S at {across[i, j]:.3g} V (drive {number}); the current must "
            "rise with the voltage"
        )
