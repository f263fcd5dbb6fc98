"""What the solvers of arrays return and what they accept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from device_models.errors import StateError, UsageError

Floats = NDArray[np.float64]

RESIDUAL_LIMIT = 1e-10
"""Largest Kirchhoff residual of a solution that is returned, relative to the largest device current."""


class NodalSolution(NamedTuple):
    """Solution for T drives of an array of N word lines and M bit lines.

    currents_A (T, M) into the sense nodes; iterations (T,), 0 for a direct solution; residual (T,): largest Kirchhoff
    residual, relative to the largest device current; u_V, b_V (T, N, M) voltages of word-line (or source-line) and
    bit-line nodes, None unless asked for.
    """

    currents_A: Floats
    iterations: NDArray[np.int64]
    residual: Floats
    u_V: Floats | None = None
    b_V: Floats | None = None

    @classmethod
    def join(cls, parts: Sequence[Self], drives: ArrayLike, voltages: bool) -> Self:
        """The solutions of `parts`, whose drives have the numbers `drives`, in the order of these numbers."""
        order = np.argsort(drives)

        def all_of(name: str) -> NDArray:
            return np.concatenate([getattr(part, name) for part in parts])[order]

        names = cls._fields if voltages else cls._fields[:3]
        return cls(*(all_of(name) for name in names))

    def check(self, shape: tuple[int, ...], what: str) -> Self:
        """The solution itself; StateError where a current is not finite or a residual above the limit."""
        residual = np.where(np.isfinite(self.currents_A).all(axis=1), self.residual, np.inf)
        worst = int(np.argmax(residual))
        if residual[worst] <= RESIDUAL_LIMIT:
            return self
        raise StateError(
            f"wires: drive {worst} of the {shape[0]} x {shape[1]} array did not converge: residual "
            f"{residual[worst]:.2e} of the largest current after {self.iterations[worst]} {what}, accepted is "
            f"{RESIDUAL_LIMIT:g}"
        )


def checked_conductances(g_uS: ArrayLike, name: str = "g_uS") -> Floats:
    """Conductances (N, M) in float64; UsageError unless they are finite and not negative."""
    g = np.ascontiguousarray(g_uS, np.float64)
    if g.ndim != 2 or g.size == 0:
        raise UsageError(f"{name}: shape {np.shape(g_uS)}; must be (word lines, bit lines) with at least one of each")
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
