"""How long a cell keeps its rank: correlation of normal scores between times, as a path of a few normals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from device_models.relaxation import MOST_PATHS

Floats = NDArray[np.float64]

FEWEST_SHARED = 10
"""Cells read at both of two times, from which their correlation is estimated."""


@dataclass(frozen=True, eq=False)
class RankPath:
    """t_s (m,) with m <= 8, weights (m, m) lower triangular with rows of norm 1: z(t_j) = sum_k weights[j, k] z_k."""

    t_s: Floats
    weights: Floats
    warnings: tuple[str, ...] = ()

    @classmethod
    def of(cls, cell: NDArray[np.int64], t_s: Floats, z: Floats) -> RankPath:
        """From the normal scores of reads. At most eight times, even in log time, each taking the nearest reads."""
        times = np.unique(t_s)
        even = np.linspace(np.log(times[0]), np.log(times[-1]), MOST_PATHS)
        if len(times) > MOST_PATHS:
            times = times[np.unique(np.argmin(np.abs(np.log(times)[:, None] - even), axis=0))]
        scores = score_matrix(cell, t_s, z, times)
        seen = np.isfinite(scores)
        filled = np.where(seen, scores, 0.0)
        shared = seen.T.astype(float) @ seen
        squares = (filled**2).T @ seen  # (j, k): sum of z_j^2 over the cells that have both
        with np.errstate(divide="ignore", invalid="ignore"):
            correlation = (filled.T @ filled) / np.sqrt(squares * squares.T)
        apart = shared < FEWEST_SHARED
        correlation = np.where(apart, 1.0, correlation)
        np.fill_diagonal(correlation, 1.0)
        eigenvalues, vectors = np.linalg.eigh(correlation)
        root = vectors * np.sqrt(eigenvalues.clip(1e-6))  # the nearest that is a correlation, where gaps spoil it
        weights = np.linalg.qr(root.T)[1].T
        weights *= np.where(np.diag(weights) < 0, -1.0, 1.0)
        weights /= np.linalg.norm(weights, axis=1, keepdims=True)
        pairs = int(np.sum(np.triu(apart, 1)))
        warnings = (
            f"path: {pairs} pairs of times share fewer than {FEWEST_SHARED} cells: ranks are taken as kept",
        ) * bool(pairs)
        return cls(times, weights, warnings)


def score_matrix(cell: NDArray[np.int64], t_s: Floats, z: Floats, times: Floats) -> Floats:
    """Scores (n_cells, m) of the read nearest to each time in log time; NaN where another time is nearer to all."""
    distance = np.abs(np.log(t_s)[:, None] - np.log(times))
    column = np.argmin(distance, axis=1)
    order = np.argsort(-distance[np.arange(len(z)), column], kind="stable")  # the nearest is written last
    matrix = np.full((int(cell.max()) + 1, len(times)), np.nan)
    matrix[cell[order], column[order]] = z[order]
    return matrix
