"""The most likely coefficients of a quantile law, and how surely reads of several cells tell them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.linalg import cholesky, solve_triangular
from scipy.optimize import minimize
from scipy.sparse import csr_array
from scipy.stats import norm

from calibration.quantile_law import Nodes, score

Floats = NDArray[np.float64]

NEIGHBOUR_SPREAD = 1.0
"""Log slopes of neighbouring nodes differ by about this: a penalty that matters only where nothing was measured."""
NATS_PER_STEP, NATS_PER_ROUND = 1e-3, 1e-2
"""A round of the search ends where a step gains less log likelihood than this in all, the search where a round does."""
STEPS_PER_ROUND, MOST_ROUNDS = 60, 12
RIDGE = 1e-6
"""Part of the curvature that is added to it, so that directions without any stay finite."""


class Coefficients(NamedTuple):
    """Coefficients (n_nodes, 1 + k): median [uS] and log slopes [ln uS]; whether the search came to its end."""

    values: Floats
    converged: bool


def _differences(nodes: Nodes) -> csr_array:
    """Differences of neighbouring log slopes, along conductance, time and score; (m, n_t n_g (1 + k))."""
    shape = (len(nodes.t_s), len(nodes.g_uS), 1 + len(nodes.z))
    index = np.arange(math.prod(shape)).reshape(shape)[..., 1:]
    pairs = [np.stack([np.take(index, range(n - 1), axis).ravel(), np.take(index, range(1, n), axis).ravel()], 1)
             for axis, n in enumerate(index.shape)]  # fmt: skip
    pair = np.concatenate(pairs)
    rows = np.repeat(np.arange(len(pair)), 2)
    values = np.tile([1.0, -1.0], len(pair)) / NEIGHBOUR_SPREAD
    return csr_array((values, (rows, pair.ravel())), shape=(len(pair), math.prod(shape)))


def _start(x: Floats, basis: csr_array, knots: Floats) -> Floats:
    """First guess (n_nodes, 1 + k): quantiles of the observations nearest to each node."""
    nearest = np.asarray(basis.argmax(axis=1)).ravel()
    reach = 0.4 if len(knots) > 1 else 1.6  # a single slope has to do for the tails, too
    probabilities = norm.cdf(np.concatenate([knots - reach, knots + reach, [0.0]]))
    rows = []
    for node in range(basis.shape[1]):
        own = x[nearest == node]
        quantiles = np.quantile(own if len(own) >= 20 else x, probabilities)
        low, high = quantiles[: len(knots)], quantiles[len(knots) : -1]
        floor = 1e-3 * max(quantiles[:-1].max() - quantiles[:-1].min(), 1e-9)
        rows.append(np.concatenate([quantiles[-1:], np.log(np.maximum(high - low, floor) / (2 * reach))]))
    return np.array(rows)


@njit(cache=True)
def _add_outer(index, weight, scores, each, total):  # type: ignore[no-untyped-def]
    width = scores.shape[1]
    for n in range(scores.shape[0]):
        own = scores[n]
        for a in range(n * each, (n + 1) * each):
            for b in range(n * each, (n + 1) * each):
                both = weight[a] * weight[b]
                for i in range(width):
                    row = total[index[a] * width + i, index[b] * width : (index[b] + 1) * width]
                    factor = both * own[i]
                    for j in range(width):
                        row[j] += factor * own[j]


def information(scores: Floats, basis: csr_array, differences: csr_array) -> Floats:
    """Outer products of the scores of reads (n, 1 + k) plus the penalty's curvature; (p, p)."""
    size = basis.shape[1] * scores.shape[1]
    total = np.zeros((size, size))
    _add_outer(basis.indices, basis.data, scores, len(basis.indices) // len(scores), total)
    return total + (differences.T @ differences).toarray()


def fit_coefficients(x: Floats, basis: csr_array, nodes: Nodes) -> Coefficients:
    """The largest penalised likelihood of shifts x (n,), by quasi-Newton steps in rounds.

    Coefficients differ in how surely they are known by orders of magnitude, and steps in them as they are would grow in
    number with the reads. Each round moves in coordinates in which the information at its beginning is one.
    """
    knots, differences = np.array(nodes.z), _differences(nodes)
    transposed = basis.T.tocsr()

    def slopes(at: Floats) -> tuple[float, Floats, Floats]:
        _, log_p, scores = score(x, basis @ at.reshape(basis.shape[1], -1), knots)
        rough = differences @ at
        slope = (transposed @ scores).ravel() - differences.T @ rough
        return -float(log_p.sum() - 0.5 * rough @ rough), -slope, scores

    at = _start(x, basis, knots).ravel()
    before, converged = slopes(at)[0], False
    for _ in range(MOST_ROUNDS):
        curvature = information(slopes(at)[2], basis, differences)
        unit = np.sqrt(np.diag(curvature).clip(1e-300))
        root = cholesky(curvature / np.outer(unit, unit) + RIDGE * np.eye(len(unit)))

        at, least = _round(slopes, at, root, unit, NATS_PER_STEP / max(abs(before), 1.0))
        gained, before = before - least, least
        if gained < NATS_PER_ROUND:
            converged = True
            break
    return Coefficients(at.reshape(basis.shape[1], -1), converged)


def _round(
    slopes: Callable[[Floats], tuple[float, Floats, Floats]], at: Floats, root: Floats, unit: Floats, tolerance: float
) -> tuple[Floats, float]:
    """Quasi-Newton steps from `at` in y, coefficients at + root^-1 y / unit; the best of them and their loss."""

    def moved(y: Floats) -> Floats:
        return at + solve_triangular(root, y) / unit

    def loss(y: Floats) -> tuple[float, Floats]:
        value, slope, _ = slopes(moved(y))
        return value, solve_triangular(root, slope / unit, trans="T")

    options = {"maxiter": STEPS_PER_ROUND, "maxcor": 20, "ftol": tolerance, "gtol": 0.0}
    found = minimize(loss, np.zeros(len(at)), jac=True, method="L-BFGS-B", options=options)
    return moved(found.x), float(found.fun)


def covariance(scores: Floats, basis: csr_array, cell: NDArray[np.int64], nodes: Nodes) -> Floats:
    """Covariance (p, p) of the coefficients in their flat order.

    Equation   H^-1 J H^-1 k / (k - p): H the outer products of the scores of reads plus the penalty, J those of the
               scores of the k cells, p coefficients (the factor as in calibration.maximum)
    """
    width = scores.shape[1]
    each = len(basis.indices) // len(scores)  # nodes of a read
    columns = (basis.indices.reshape(-1, each, 1) * width + np.arange(width)).ravel()
    values = (basis.data.reshape(-1, each, 1) * scores[:, None, :]).ravel()
    shape = (len(scores), basis.shape[1] * width)
    reads = csr_array((values, columns, np.arange(len(scores) + 1) * each * width), shape=shape)
    k = int(cell.max()) + 1
    of_cell = csr_array((np.ones(len(cell)), (cell, np.arange(len(cell)))), shape=(k, len(cell))) @ reads
    curvature = information(scores, basis, _differences(nodes))
    unit = np.sqrt(np.diag(curvature).clip(1e-300))
    inverse = np.linalg.pinv(curvature / np.outer(unit, unit), hermitian=True) / np.outer(unit, unit)
    return inverse @ (of_cell.T @ of_cell).toarray() @ inverse * (k / max(k - len(inverse), k / 2))
