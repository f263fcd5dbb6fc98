"""Exact currents and voltages of an array of linear devices with resistive wires."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray

from crossbar_sim.circuit.lines import Lines, in_series, lines_of
from crossbar_sim.circuit.nodal_kernels import BLOCK, factor_lines, solve_drives
from crossbar_sim.circuit.units import to_S
from crossbar_sim.spec.wires import WiresSpec
from device_models.errors import StateError, UsageError

Floats = NDArray[np.float64]

RESIDUAL_LIMIT = 1e-10
"""Largest Kirchhoff residual of a solution that is returned, relative to the largest device current."""

_TOLERANCE = 1e-13
_MAX_ITERATIONS = 10_000


class NodalSolution(NamedTuple):
    """Solution for T drives of an array of N word lines and M bit lines.

    currents_A (T, M) into the sense nodes; u_V, b_V (T, N, M) voltages of word- and bit-line nodes, None unless asked
    for; iterations (T,); residual: largest Kirchhoff residual of all drives, relative to the largest device current.
    """

    currents_A: Floats
    iterations: NDArray[np.int64]
    residual: float
    u_V: Floats | None = None
    b_V: Floats | None = None


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
    solution = NodalSolution(
        np.empty((len(v), g.shape[1])),
        np.empty(len(v), np.int64),
        0.0,
        *(np.empty((len(v), *g.shape)) if voltages else None for _ in range(2)),
    )
    patterns, which = np.unique(v != 0, axis=0, return_inverse=True)
    for k, active in enumerate(patterns):
        at = which.ravel() == k
        if wires.topology == "separate_source":
            part = solve_lines(gated(g_S, v[at]), v[at], lines, voltages=voltages)
        else:
            part = solve_lines(g_S, v[at], lines, is_open=~active, voltages=voltages)
        solution.currents_A[at], solution.iterations[at] = part.currents_A, part.iterations
        solution = solution._replace(residual=max(solution.residual, part.residual))
        if solution.u_V is not None and solution.b_V is not None:
            solution.u_V[at], solution.b_V[at] = part.u_V, part.b_V
    return solution


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
    rails = (lines.wl_ohm, np.where(opened, 0.0, lines.wl_far_S), bl, lines.bl_far_S)
    factors = factor_lines(g, *rails, opened)
    currents, residual, iterations = np.empty((len(v), m)), np.empty(len(v)), np.empty(len(v), np.int64)
    u, b = (np.empty((len(v), *g.shape) if voltages else (0, 0, 0)) for _ in range(2))
    n_workers = min(len(v), numba.get_num_threads())

    def work(worker: int) -> None:
        share = slice(worker * len(v) // n_workers, (worker + 1) * len(v) // n_workers)
        solve_drives(
            g, v[share], source, rails, factors, opened, _TOLERANCE, _MAX_ITERATIONS, currents[share],
            iterations[share], residual[share], u[share], b[share],
        )  # fmt: skip

    with ThreadPoolExecutor(n_workers) as pool:
        list(pool.map(work, range(n_workers)))
    residual[~np.isfinite(currents).all(axis=1)] = np.inf
    worst = int(np.argmax(residual))
    if residual[worst] > RESIDUAL_LIMIT:
        raise StateError(
            f"wires: drive {worst} of the {n} x {m} array did not converge: Kirchhoff residual {residual[worst]:.2e} "
            f"of the largest current after {iterations[worst]} iterations, accepted is {RESIDUAL_LIMIT:g}"
        )
    nodes = (u[:, fill:], b[:, fill:]) if voltages else (None, None)
    return NodalSolution(currents, iterations, float(residual[worst]), *nodes)


def gated(g_S: Floats, v_V: Floats) -> Floats:
    """Conductances (N, M) of an array with separate source lines at drives (T, N) that switch the same cells on.

    UsageError unless a drive has one voltage, that of the source lines, at all of its cells that are on.
    """
    active = v_V[0] != 0
    for drive in v_V[:, active]:
        if (drive != drive[:1]).any():
            raise UsageError(
                f"v_V: levels {drive.min():g} and {drive.max():g} V in one drive; with wires.topology separate_source "
                "each input is 0 or the one voltage of the source lines"
            )
    return g_S * active[:, None]


def checked_conductances(g_uS: ArrayLike, name: str = "g_uS") -> Floats:
    """Conductances (N, M) in float64; UsageError unless they are finite and not negative."""
    g = np.ascontiguousarray(g_uS, np.float64)
    if g.ndim != 2 or g.size == 0:
        raise UsageError(f"{name}: shape {g.shape}; must be (word lines, bit lines) with at least one of each")
    _refuse(~(np.isfinite(g) & (g >= 0)), g, name, "conductances must be finite and at least 0 uS")
    return g


def checked_drives(v_V: ArrayLike, shape: tuple[int, ...], name: str = "v_V") -> Floats:
    """Voltages (T, N) in float64; UsageError unless they are finite and fit an array of `shape`."""
    v = np.atleast_2d(np.asarray(v_V, np.float64))
    if v.ndim != 2 or v.shape[1] != shape[0] or len(v) == 0:
        raise UsageError(f"{name}: shape {np.shape(v_V)}; must be ({shape[0]},) or (vectors, {shape[0]})")
    _refuse(~np.isfinite(v), v, name, "voltages must be finite")
    return v


def _refuse(bad: NDArray[np.bool_], values: Floats, name: str, rule: str) -> None:
    if bad.any():
        row, col = (int(index) for index in np.argwhere(bad)[0])
        raise UsageError(f"{name}[{row}, {col}] = {values[row, col]}: {rule}")
