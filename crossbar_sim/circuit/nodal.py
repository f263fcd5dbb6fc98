"""Exact currents and voltages of an array of linear devices with resistive wires."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numba import config
from numpy.typing import ArrayLike, NDArray

from crossbar_sim.circuit.lines import Lines, in_series, lines_of
from crossbar_sim.circuit.nodal_kernels import BLOCK, factor_lines, solve_drives
from crossbar_sim.circuit.solution import NodalSolution, checked_conductances, checked_drives
from crossbar_sim.circuit.source_lines import solve_source_lines, source_voltage
from crossbar_sim.circuit.units import to_S
from crossbar_sim.spec.wires import WiresSpec
from device_models.errors import UsageError

Floats = NDArray[np.float64]

_TOLERANCE = 1e-13
_MAX_ITERATIONS = 10_000


def solve_array(g_uS: ArrayLike, v_V: ArrayLike, wires: WiresSpec, voltages: bool = False) -> NodalSolution:
    """Column currents of an array with resistive wires, by exact nodal analysis.

    Equation   at each word-line node the currents from both wire segments sum to G (u - b), at each bit-line node to
               -G (u - b); drivers hold v behind the first segment, sense nodes hold 0 behind the last
    Arguments  g_uS (N, M) [uS], rows are word lines, row N nearest to the sense nodes, column 1 nearest to the drivers;
               v_V (N,) or (T, N) [V]; voltages: whether node voltages are returned
    Valid      finite g >= 0 and v; raises UsageError otherwise, StateError where the residual exceeds 1e-10
    Source     nodal analysis of the passive array, e.g. D. Joksas & A. Mehonic, SoftwareX 12, 100617 (2020),
               DOI 10.1016/j.softx.2020.100617
    Test       tests/oracles/test_circuit_oracles.py, tests/unit/test_circuit_nodal.py
    """
    g, v = checked_conductances(g_uS), checked_drives(v_V, np.shape(g_uS))
    if g.shape[0] % wires.devices_per_node:
        raise UsageError(f"g_uS: {g.shape[0]} rows; an interleaved array has an even number (+V and -V lines)")
    g_S, lines = in_series(to_S(g), wires.r_transistor_ohm), lines_of(wires, *g.shape)
    if wires.is_linear:
        return solve_lines(g_S, v, lines, voltages=voltages)
    if wires.topology == "separate_source":
        volts = [source_voltage(drive, k) for k, drive in enumerate(v)]
        each = [solve_source_lines(g_S * (v[k] != 0)[:, None], volt, wires) for k, volt in enumerate(volts)]
        return NodalSolution.join(each, np.arange(len(v)), voltages)
    patterns, which = np.unique(v != 0, axis=0, return_inverse=True)
    groups = [np.flatnonzero(which.ravel() == k) for k in range(len(patterns))]
    parts = [
        solve_lines(g_S, v[at], lines, is_open=~active, voltages=voltages)
        for active, at in zip(patterns, groups, strict=True)
    ]
    return NodalSolution.join(parts, np.concatenate(groups), voltages)


def solve_lines(
    g_S: Floats,
    v_V: Floats,
    lines: Lines,
    *,
    source_A: Floats | None = None,
    is_open: NDArray[np.bool_] | None = None,
    voltages: bool = False,
) -> NodalSolution:
    """`solve_array` on checked arrays: g_S (N, M) [S], v_V (T, N) [V].

    source_A (N, M) [A] is the current of each device at zero voltage; word lines with `is_open` (N,) have no driver.
    """
    n, m = g_S.shape
    fill = -n % BLOCK  # rows without devices at the far end of the bit lines
    g = np.concatenate([np.zeros((fill, m)), g_S])
    v = np.ascontiguousarray(np.pad(v_V, ((0, 0), (fill, 0))))
    source = np.empty((0, 0)) if source_A is None else np.concatenate([np.zeros((fill, m)), source_A])
    opened = np.zeros(n + fill, bool)
    if is_open is not None:
        opened[fill:] = is_open
    bl = np.concatenate([np.zeros(fill), lines.bl_ohm])
    rails = (lines.wl_ohm, np.where(opened, 0.0, lines.wl_far_S), bl)
    factors = factor_lines(g, *rails, opened)
    currents, residual, iterations = np.empty((len(v), m)), np.empty(len(v)), np.empty(len(v), np.int64)
    u, b = (np.empty((len(v), *g.shape) if voltages else (0, 0, 0)) for _ in range(2))
    n_workers = min(len(v), config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]

    def work(worker: int) -> None:
        share = slice(worker * len(v) // n_workers, (worker + 1) * len(v) // n_workers)
        solve_drives(
            g, v[share], source, rails, factors, opened, _TOLERANCE, _MAX_ITERATIONS, currents[share],
            iterations[share], residual[share], u[share], b[share],
        )  # fmt: skip

    with ThreadPoolExecutor(n_workers) as pool:
        list(pool.map(work, range(n_workers)))
    nodes = (u[:, fill:], b[:, fill:]) if voltages else (None, None)
    return NodalSolution(currents, iterations, residual, *nodes).check((n, m), "iterations")
