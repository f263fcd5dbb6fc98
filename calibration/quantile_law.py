"""Likelihood of the shift law of device_models.relaxation: medians and log slopes at nodes of conductance and time."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.sparse import csr_array
from scipy.stats import norm

from device_models.relaxation import hat_weights

Floats = NDArray[np.float64]

NEIGHBOUR_SPREAD = 1.0
"""Log slopes of neighbouring nodes differ by about this: a penalty that matters only where nothing was measured."""
NATS_PER_STEP = 3e-4
"""The search ends where a step gains less log likelihood than this, in all."""


@dataclass(frozen=True)
class Nodes:
    """Where a law has its coefficients: conductances (ascending), times (ascending), normal scores (0 among them)."""

    g_uS: tuple[float, ...]
    t_s: tuple[float, ...]
    z: tuple[float, ...]

    @property
    def n_parameters(self) -> int:
        return len(self.g_uS) * len(self.t_s) * (1 + len(self.z))

    def basis(self, g_uS: Floats, t_s: Floats) -> csr_array:
        """Weights (n, n_t n_g) of the nodes at each observation: linear in g (held) and in ln t (continued)."""
        gi, gw = _pairs(g_uS, np.array(self.g_uS), beyond=False)
        ti, tw = _pairs(np.log(t_s), np.log(self.t_s), beyond=True)
        columns = (ti[:, :, None] * len(self.g_uS) + gi[:, None, :]).reshape(len(g_uS), -1)
        weights = (tw[:, :, None] * gw[:, None, :]).reshape(columns.shape)
        rows = np.repeat(np.arange(len(g_uS)), columns.shape[1])
        shape = (len(g_uS), len(self.t_s) * len(self.g_uS))
        return csr_array((weights.ravel(), (rows, columns.ravel())), shape=shape)


def _pairs(at: Floats, nodes: Floats, *, beyond: bool) -> tuple[NDArray[np.int64], Floats]:
    """Indices (n, 2 or 1) of the nodes around each value and their weights."""
    if len(nodes) == 1:
        return np.zeros((len(at), 1), np.int64), np.ones((len(at), 1))
    i, w = hat_weights(at, nodes, beyond=beyond)
    return np.stack([i, i + 1], axis=1), np.stack([1 - w, w], axis=1)


@njit(cache=True)
def _mean_exp(y):  # type: ignore[no-untyped-def]
    return math.expm1(y) / y if abs(y) > 1e-8 else 1.0 + y / 2.0


@njit(cache=True)
def _mean_rising_exp(y):  # type: ignore[no-untyped-def]
    """int_0^1 s exp(y s) ds."""
    return (math.exp(y) * (y - 1.0) + 1.0) / (y * y) if abs(y) > 1e-3 else 0.5 + y / 3.0 + y * y / 8.0


@njit(cache=True)
def _score_each(x, local, knots, middle, z, log_p, scores):  # type: ignore[no-untyped-def]
    """For each observation its normal score, log density and the derivatives of that by median and log slopes.

    Walks from the median outwards, segment by segment, until the rest of the shift lies within one.
    """
    k_all = knots.shape[0]
    for n in range(x.shape[0]):
        rest = x[n] - local[n, 0]
        side = 1 if rest >= 0 else -1
        rest, distance, k = abs(rest), 0.0, middle
        rises = scores[n]  # first the derivatives of the shift at fixed score, then turned into those of log p
        rises[:] = 0.0
        while True:
            l0, after = local[n, 1 + k], k + side
            if after < 0 or after >= k_all:
                distance += rest * math.exp(-l0)
                rises[1 + k] += rest
                log_slope, bend, share = l0, 0.0, 0.0
                after = k
                break
            width, change = abs(knots[after] - knots[k]), local[n, 1 + after] - l0
            scale = width * math.exp(l0)
            whole = scale * _mean_exp(change)
            if rest < whole:
                part = rest / scale
                share = math.log1p(change * part) / change if abs(change) > 1e-8 else part
                second = scale * share * share * _mean_rising_exp(change * share)
                rises[1 + k] += rest - second
                rises[1 + after] += second
                distance += width * share
                log_slope, bend = l0 + change * share, side * change / width
                break
            second = scale * _mean_rising_exp(change)
            rises[1 + k] += whole - second
            rises[1 + after] += second
            rest, distance, k = rest - whole, distance + width, after
        z[n] = side * distance
        log_p[n] = -0.5 * z[n] * z[n] - 0.9189385332046727 - log_slope
        pull = (z[n] + bend) * math.exp(-log_slope)  # - d log p / d x
        rises[0] = pull
        for j in range(1, k_all + 1):
            rises[j] *= side * pull
        rises[1 + k] -= 1.0 - share
        rises[1 + after] -= share


def score(x: Floats, local: Floats, knots: Floats) -> tuple[Floats, Floats, Floats]:
    """Normal scores, log densities and score vectors of shifts.

    Arguments  x (n,) shifts; local (n, 1 + k) median and log slopes of each; knots (k,)
    Returns    z (n,), log p (n,) [nat], derivatives of log p (n, 1 + k)
    """
    z, log_p, scores = np.empty(len(x)), np.empty(len(x)), np.empty(local.shape)
    _score_each(x, np.ascontiguousarray(local), knots, int(np.flatnonzero(knots == 0)[0]), z, log_p, scores)
    return z, log_p, scores


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
    probabilities = norm.cdf(np.concatenate([knots - 0.4, knots + 0.4, [0.0]]))
    rows = []
    for node in range(basis.shape[1]):
        own = x[nearest == node]
        quantiles = np.quantile(own if len(own) >= 20 else x, probabilities)
        low, high = quantiles[: len(knots)], quantiles[len(knots) : -1]
        floor = 1e-3 * max(quantiles[:-1].max() - quantiles[:-1].min(), 1e-9)
        rows.append(np.concatenate([quantiles[-1:], np.log(np.maximum(high - low, floor) / 0.8)]))
    return np.array(rows)


def fit_coefficients(x: Floats, basis: csr_array, nodes: Nodes) -> Floats:
    """Coefficients (n_nodes, 1 + k), median [uS] and log slopes [ln uS], of the largest penalised likelihood."""
    knots, differences = np.array(nodes.z), _differences(nodes)
    start = _start(x, basis, knots)
    unit = np.concatenate([np.full((len(start), 1), 1.0), np.ones((len(start), len(knots)))], axis=1)
    unit[:, 0] = np.exp(start[:, 1:].min(axis=1))  # medians in units of the core's width
    transposed = basis.T.tocsr()

    def loss(scaled: Floats) -> tuple[float, Floats]:
        coefficients = scaled.reshape(start.shape) * unit
        _, log_p, scores = score(x, basis @ coefficients, knots)
        rough = differences @ coefficients.ravel()
        slope = (transposed @ scores - (differences.T @ rough).reshape(start.shape)) * unit
        return -(log_p.sum() - 0.5 * rough @ rough) / len(x), -slope.ravel() / len(x)

    found = minimize(
        loss, (start / unit).ravel(), jac=True, method="L-BFGS-B",
        options={"maxiter": 500, "maxfun": 600, "maxcor": 20, "ftol": NATS_PER_STEP / len(x), "gtol": 1e-7},
    )  # fmt: skip
    return np.asarray(found.x).reshape(start.shape) * unit


def covariance(scores: Floats, basis: csr_array, cell: NDArray[np.int64], nodes: Nodes) -> Floats:
    """Covariance (p, p) of the coefficients in their flat order.

    Equation   H^-1 J H^-1 k / (k - 1): H the outer products of the scores of reads plus the penalty, J those of the
               scores of the k cells
    """
    width = scores.shape[1]
    each = len(basis.indices) // len(scores)  # nodes of a read
    columns = (basis.indices.reshape(-1, each, 1) * width + np.arange(width)).ravel()
    values = (basis.data.reshape(-1, each, 1) * scores[:, None, :]).ravel()
    shape = (len(scores), basis.shape[1] * width)
    reads = csr_array((values, columns, np.arange(len(scores) + 1) * each * width), shape=shape)
    k = int(cell.max()) + 1
    of_cell = csr_array((np.ones(len(cell)), (cell, np.arange(len(cell)))), shape=(k, len(cell))) @ reads
    rough = _differences(nodes)
    curvature = (reads.T @ reads + rough.T @ rough).toarray()
    unit = np.sqrt(np.diag(curvature).clip(1e-300))
    inverse = np.linalg.pinv(curvature / np.outer(unit, unit), hermitian=True) / np.outer(unit, unit)
    return inverse @ (of_cell.T @ of_cell).toarray() @ inverse * (k / (k - 1))
