"""Likelihood of the shift law of device_models.relaxation: medians and log slopes at nodes of conductance and time."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.sparse import csr_array

from device_models.relaxation import hat_weights

Floats = NDArray[np.float64]


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
