"""Least squares of measured products: gain, offset and weights of each column."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from calibration.tables import MVMTable
from device_models.errors import UsageError

Floats = NDArray[np.float64]


class Regression(NamedTuple):
    """Weighted least squares of n vectors.

    residual (n, columns)   measured minus fitted; leverage (n,): 1 minus the share of the noise that it keeps
    gain, offset (columns,) empty gain without ideal outputs; ..._unit: standard errors for noise of variance 1
    weights, errors         (rows, columns) measured, and beyond gain x ideal; empty where not told
    errors_unit             mean variance of one of the rows - 1 errors that a column has beyond its gain, for noise of
                            variance 1
    ideal_square (columns,) sum of squared ideal weights
    """

    residual: Floats
    leverage: Floats
    gain: Floats
    gain_unit: Floats
    offset: Floats
    offset_unit: Floats
    weights: Floats
    errors: Floats
    errors_unit: float
    ideal_square: Floats


def by_weights(table: MVMTable, share: Floats) -> Regression:
    """Weights and offset of each column from all inputs; the gain is the slope of measured on ideal weights.

    share (n,): weight of each vector, one over the variance of its noise relative to the mean.
    """
    n, rows = table.x.shape
    design, root = np.column_stack([table.x, np.ones(n)]), np.sqrt(share)[:, None]
    q, r = np.linalg.qr(design * root)
    inverse = np.linalg.solve(r, q.T) * root.T
    solution = inverse @ table.y
    weights, offset = solution[:-1], solution[-1]
    covariance = np.linalg.inv(r.T @ r)
    gain, gain_unit, errors, errors_unit = np.zeros(0), np.zeros(0), np.zeros((0, 0)), 0.0
    square = np.zeros(0)
    if table.y_ideal is not None:
        ideal = (inverse @ table.y_ideal)[:-1]
        square = np.sum(ideal**2, axis=0)
        if not np.all(square > 0):
            raise UsageError(f"y_ideal: {int(np.sum(square == 0))} columns do not depend on x")
        gain = np.sum(weights * ideal, axis=0) / square
        gain_unit = np.sqrt(np.einsum("rc,rs,sc->c", ideal, covariance[:-1, :-1], ideal)) / square
        errors = weights - gain * ideal
        along = (gain_unit**2 * square).mean()  # the gain takes one direction of the errors
        errors_unit = float((np.trace(covariance[:-1, :-1]) - along) / max(rows - 1, 1))
    return Regression(
        table.y - design @ solution, np.sum(q**2, axis=1), gain, gain_unit, offset,
        np.full(len(offset), np.sqrt(covariance[-1, -1])), weights, errors, errors_unit, square,
    )  # fmt: skip


def by_lines(table: MVMTable, share: Floats) -> Regression:
    """Straight lines of measured on ideal outputs; share as of `by_weights`."""
    assert table.y_ideal is not None  # fit_mvm refuses that
    total = share.sum()
    middle = share @ table.y_ideal / total
    centred = table.y_ideal - middle
    square = share @ centred**2
    if not np.all(square > 0):
        raise UsageError(f"y_ideal: {int(np.sum(square == 0))} columns are constant; their gain cannot be told")
    gain = share @ (centred * table.y) / square
    offset = share @ table.y / total - gain * middle
    offset_unit = np.sqrt(1 / total + middle**2 / square)
    leverage = share * (1 / total + np.mean(centred**2 / square, axis=1))
    empty = np.zeros((0, 0))
    return Regression(
        table.y - gain * table.y_ideal - offset, leverage, gain, 1 / np.sqrt(square), offset, offset_unit,
        empty, empty, 0.0, square,
    )  # fmt: skip
