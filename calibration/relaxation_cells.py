"""Shifts of cells after programming, as the relaxation laws take them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.tables import RetentionTable
from device_models.errors import UsageError

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Shifts:
    """One row for each read after the first: cell (n,) from 0, g_uS the cell's first conductance, t_s since the first
    reads, shift_uS = g(t) - g(0)."""

    cell: NDArray[np.int64]
    g_uS: Floats
    t_s: Floats
    shift_uS: Floats
    left_out: tuple[tuple[str, int], ...] = ()
    warnings: tuple[str, ...] = ()

    @classmethod
    def of(cls, table: RetentionTable) -> Shifts:
        """From a table of one temperature: a cell starts with its read at the earliest time of the table.

        Errors   UsageError: several temperatures, one time only, or fewer than 20 cells with a start and another read
        """
        if table.temperature_C is not None and len(np.unique(table.temperature_C)) > 1:
            raise UsageError("relaxation: the table has several temperatures: take one, or use fit_retention")
        if not len(table.t_s):
            raise UsageError("relaxation: the table is empty")
        labels, cell = np.unique(table.cell, return_inverse=True)
        first_s = float(table.t_s.min())
        start = np.full(len(labels), np.nan)
        at_start = table.t_s == first_s
        start[cell[at_start]] = table.g_uS[at_start]
        known = np.isfinite(start[cell])
        lost = int(np.sum(~known))
        left_out = table.left_out + ((f"reads of cells without a read at {first_s:g} s", lost),) * bool(lost)
        keep = known & ~at_start
        n_cells = len(np.unique(cell[keep]))
        if n_cells < 20:
            raise UsageError(
                f"relaxation: {n_cells} cells have a read at {first_s:g} s and another: must be at least 20"
            )
        warnings = (f"first reads are at {first_s:g} s: shifts and times count from there",) * bool(first_s)
        g = start[cell[keep]]
        _, compact = np.unique(cell[keep], return_inverse=True)
        return cls(compact, g, table.t_s[keep] - first_s, table.g_uS[keep] - g, left_out, warnings)

    def __len__(self) -> int:
        return len(self.cell)

    @property
    def n_cells(self) -> int:
        return int(self.cell.max()) + 1

    def part(self, mask: Mask) -> Shifts:
        """The reads of a mask; cells keep their numbers."""
        return Shifts(self.cell[mask], self.g_uS[mask], self.t_s[mask], self.shift_uS[mask])
