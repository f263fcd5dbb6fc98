"""The weight that is mapped to g_max: per tensor, tile, column, or column of a tile."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from crossbar_sim.mapping.plan import TilePlan
from crossbar_sim.spec import Encoding
from device_models.errors import UsageError

_BLOCK = 256  # output rows looked at together while they are in cache; changes no number


def full_scale_weights(
    weights: NDArray[np.floating], plan: TilePlan, encoding: Encoding, name: str = "weights"
) -> NDArray[np.floating]:
    """w_max of each row of tiles and output.

    Equation   w_max = max |w| over the granularity of `encoding.scale`, at most alpha rms(w) where clipping is on
    Arguments  weights (n_out, n_in); the result has shape (len(plan.rows), n_out) and the type of the weights
    Valid      finite weights, else UsageError with the first bad index; 0 where all weights are zero
    Source     M. J. Rasch et al., Nat. Commun. 14 (2023), DOI 10.1038/s41467-023-40770-4 (column scaling)
    Test       tests/unit/test_mapping.py
    """
    if weights.shape != (plan.n_out, plan.n_in):
        raise UsageError(f"{name}: shape {weights.shape} does not fit the plan, which is {(plan.n_out, plan.n_in)}")
    largest = np.empty((len(plan.rows), plan.n_out), weights.dtype)
    squares = np.zeros(plan.n_out)
    starts = [start for start, _ in plan.rows]
    for start in range(0, plan.n_out, _BLOCK):
        block = weights[start : start + _BLOCK]
        largest[:, start : start + _BLOCK] = np.maximum.reduceat(np.abs(block), starts, axis=1).T
        if encoding.clip is not None:
            squares[start : start + _BLOCK] = np.einsum("oi,oi->o", block, block, dtype=np.float64)
    if not np.isfinite(largest).all():
        row, col = (int(index) for index in np.argwhere(~np.isfinite(weights))[0])
        raise UsageError(f"{name}[{row}, {col}] = {weights[row, col]}: weights must be finite")
    scale = _spread(largest, plan, encoding.scale, encoding.columns_per_scale)
    if encoding.clip is not None:
        mean_square = squares / plan.n_in
        if encoding.clip.per == "tensor":
            mean_square = np.full_like(squares, mean_square.mean())
        scale = np.minimum(scale, (encoding.clip.alpha * np.sqrt(mean_square)).astype(scale.dtype))
    return scale


def _spread(largest: NDArray[np.floating], plan: TilePlan, granularity: str, group: int) -> NDArray[np.floating]:
    if group > 1:  # only where w_max is taken per output
        largest = largest.copy()
        for c0, c1 in plan.cols:
            for start in range(c0, c1, group):
                part = largest[:, start : min(start + group, c1)]
                part[:] = part.max(axis=1, keepdims=True)
    match granularity:
        case "tile_column":
            return largest
        case "column":
            return np.broadcast_to(largest.max(axis=0), largest.shape).copy()
        case "tile":
            scale = np.empty_like(largest)
            for c0, c1 in plan.cols:
                scale[:, c0:c1] = largest[:, c0:c1].max(axis=1, keepdims=True)
            return scale
        case "tensor":
            return np.full_like(largest, largest.max())
    raise UsageError(f"encoding.scale = {granularity!r}: must be tensor, tile, column or tile_column")
