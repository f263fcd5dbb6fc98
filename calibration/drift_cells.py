"""Conductances of cells over time, reduced to what the drift laws need of each cell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.tables import RetentionTable
from device_models.errors import UsageError

Floats = NDArray[np.float64]

CURVATURES = 3
"""Orders of curvature over the drift clock that are tested: the second to the fourth."""


@dataclass(frozen=True, eq=False)
class DriftCells:
    """Cells with at least two reads above zero: ln g (n, m), seen (n, m), times (m,), state g_uS (n,)."""

    log_g: Floats
    seen: NDArray[np.bool_]
    t_s: Floats
    g_uS: Floats
    left_out: tuple[tuple[str, int], ...]

    @classmethod
    def of(cls, table: RetentionTable) -> DriftCells:
        """From a table; the state is the target where given and else the first conductance of the cell."""
        cells, t, g = table.matrix()
        seen = g > 0
        read = np.isfinite(g)
        zero = int(np.sum(read & ~seen))
        first = np.take_along_axis(g, np.argmax(seen, axis=1)[:, None], axis=1)[:, 0]
        if table.g_target_uS is not None:
            first = np.empty(len(cells))
            first[np.searchsorted(cells, table.cell)] = table.g_target_uS
        few = np.sum(seen, axis=1) < 2
        lost = {
            "reads at 0 uS, which have no logarithm": zero,
            "reads of cells with fewer than two above 0 uS": int(np.sum(seen[few])),
            "reads of cells with target 0 uS, which have no state to look up": int(np.sum(seen[~few & ~(first > 0)])),
        }
        keep = ~few & (first > 0)
        if not keep.any():
            raise UsageError(f"drift: no cell of {len(cells)} has two reads above 0 uS and a target above 0 uS")
        with np.errstate(divide="ignore", invalid="ignore"):
            log_g = np.where(seen, np.log(g), 0.0)[keep]
        reasons = tuple((reason, count) for reason, count in lost.items() if count)
        return cls(log_g, seen[keep], t, first[keep], (*table.left_out, *reasons))

    def __len__(self) -> int:
        return len(self.g_uS)

    def part(self, mask: NDArray[np.bool_]) -> DriftCells:
        return DriftCells(self.log_g[mask], self.seen[mask], self.t_s, self.g_uS[mask], self.left_out)


@dataclass(frozen=True, eq=False)
class Slopes:
    """Least-squares line of -ln g over the drift clock L = ln((t + t0) / t0) of each cell, arrays (n,).

    nu         slope
    stretch    sum of squares of L about its mean: the slope has variance read_variance / stretch
    rest       sum of squares of the residuals; freedom: its degrees of freedom
    """

    nu: Floats
    stretch: Floats
    rest: Floats
    freedom: Floats

    @classmethod
    def of(cls, cells: DriftCells, t0_s: float) -> Slopes:
        n = cells.seen.sum(axis=1)
        clock = np.where(cells.seen, np.log1p(cells.t_s / t0_s), 0.0)
        clock = np.where(cells.seen, clock - (clock.sum(axis=1) / n)[:, None], 0.0)
        fall = np.where(cells.seen, -cells.log_g + (cells.log_g.sum(axis=1) / n)[:, None], 0.0)
        stretch = np.einsum("ij,ij->i", clock, clock)
        nu = np.einsum("ij,ij->i", clock, fall) / stretch
        rest = np.einsum("ij,ij->i", fall, fall) - nu**2 * stretch
        return cls(nu, stretch, np.maximum(rest, 0.0), n - 2.0)


def curvatures(cells: DriftCells, t0_s: float) -> tuple[Floats, NDArray[np.bool_]]:
    """Parts of ln g along orthonormal polynomials of the second and higher orders in L; (k, orders).

    They are independent with the variance of one read under a power law. Only cells with a read left over beyond the
    highest order take part: mask (n,).
    """
    reads = cells.seen.sum(axis=1)
    orders = int(min(CURVATURES, np.median(reads) - 2))
    enough = reads > orders + 1
    if orders < 1 or not enough.any():
        return np.zeros((0, 0)), np.zeros(len(cells), bool)
    clock = np.log1p(cells.t_s / t0_s)
    clock = 2 * (clock - clock.min()) / np.ptp(clock) - 1
    powers = np.polynomial.chebyshev.chebvander(clock, orders + 1)
    basis = np.linalg.qr(powers * cells.seen[enough][:, :, None])[0]
    signs = np.sign(np.einsum("ijk,jk->ik", basis, powers))
    return np.einsum("ijk,ij->ik", basis * signs[:, None, :], cells.log_g[enough])[:, 2:], enough
