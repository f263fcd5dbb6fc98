"""Maximum likelihood for laws whose log likelihood is a sum over independent units, with its uncertainty."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize

from calibration.intervals import hessian, normal_draws, normal_interval, parameters, profile_interval
from device_models.errors import UsageError
from device_models.fit_record import Parameter

Floats = NDArray[np.float64]
PerUnit = Callable[[Floats], Floats]

_STEP, _SLOPE_STEP = 1e-3, 1e-5
"""Of second and first differences, in parameters that are scaled to be of order one."""
_FARTHEST = 8.0


class Maximum(NamedTuple):
    """Estimates of p parameters, each array (p,) but `covariance` (p, p).

    low, high       90 % intervals
    at_bound        estimates at a bound: no variance; their interval is the conditional profile likelihood's
    unidentified    estimates that the data leave open, alone or together with others
    """

    values: Floats
    covariance: Floats
    low: Floats
    high: Floats
    at_bound: NDArray[np.bool_]
    unidentified: NDArray[np.bool_]

    def reported(
        self, names: Sequence[str], units: Sequence[str], to_values: Callable[[Floats], Floats], seed: int, n: int = 200
    ) -> tuple[tuple[Parameter, ...], Floats]:
        """Parameters and draws on the scale of the reader: `to_values` maps (..., p), each value by itself, rising."""
        values, low, high = (to_values(part) for part in (self.values, self.low, self.high))
        draws = to_values(normal_draws(self.values, self.covariance, n, seed))
        return parameters(names, values, low, high, units), draws

    def warnings(self, names: Sequence[str]) -> tuple[str, ...]:
        """What the data do not tell about the parameters."""
        texts = []
        for name, at_bound, unidentified in zip(names, self.at_bound, self.unidentified, strict=True):
            if at_bound:
                texts.append(f"{name}: at its bound, not told apart from none")
            if unidentified:
                texts.append(f"{name}: not identified by these data")
        return tuple(texts)


def estimate(per_unit: PerUnit, start: ArrayLike, bounds: list[tuple[float, float]] | None = None) -> Floats:
    """The parameters with the largest sum of `per_unit` (log likelihood of each unit [nat]).

    A trust region with the outer products of the scores for curvature (E. Berndt et al., Ann. Econ. Soc. Meas. 3, 653
    (1974)), which costs first derivatives only. Beyond a bound the likelihood stays as it is at the bound.

    Arguments  start: parameters scaled to be of order one, where the likelihood is finite; bounds: of each parameter
    Errors     UsageError where the likelihood is not finite at the start
    """
    start = np.asarray(start, float)
    lows, highs = _ends(bounds, len(start))
    last: dict[bytes, Floats] = {}

    def held(values: Floats) -> Floats:
        with np.errstate(all="ignore"):
            return per_unit(np.clip(values, lows, highs))

    def scores(values: Floats) -> Floats:
        key = values.tobytes()
        if key not in last:
            last.clear()
            last[key] = _scores(held, values, np.full(len(values), _SLOPE_STEP))
        return last[key]

    def loss(values: Floats) -> float:
        total = float(np.mean(held(values)))
        return -total if np.isfinite(total) else 1e10

    def outer(values: Floats) -> Floats:
        slopes = scores(values)
        curvature = slopes.T @ slopes / len(slopes)
        return np.asarray(curvature + 1e-6 * (1 + np.trace(curvature)) * np.eye(len(values)))  # never singular

    if not np.isfinite(np.sum(held(start))):
        raise UsageError("likelihood: is not finite at the first guess; the measurements do not fit this law at all")
    if len(start) == 0:
        return start
    options = {"gtol": 1e-3 / np.sqrt(len(held(start))), "maxiter": 200}  # a thousandth of the scatter of a score
    found = minimize(
        loss, start, jac=lambda x: -scores(x).mean(axis=0), hess=outer, method="trust-exact", options=options
    )
    return np.clip(np.asarray(found.x, float), lows, highs)


def maximise(
    per_unit: PerUnit,
    start: ArrayLike,
    bounds: list[tuple[float, float]] | None = None,
    clusters: ArrayLike | None = None,
    profiled: Sequence[int] = (),
) -> Maximum:
    """`estimate` with the covariance of the estimates.

    Equation   H^-1, the inverse of the negative second derivatives; with clusters H^-1 J H^-1 k / (k - p), where J is
               the sum of g g^T over the k clusters and g the score of one, which also holds where units of a cluster
               are alike or the law is only nearly right; p: parameters, k / 2 at most
    Source     of the factor: J. G. MacKinnon, H. White, J. Econom. 29, 305 (1985), DOI 10.1016/0304-4076(85)90158-7
    Arguments  clusters: (n,) to which cluster each unit belongs; none: units are independent and the law is right
               profiled: parameters whose estimates are far from normal; their intervals are the profile likelihood's
    """
    values = estimate(per_unit, start, bounds)
    lows, highs = _ends(bounds, len(values))
    edge = 1e-6 * np.maximum(1.0, np.abs(values))
    at_bound = (values - lows < edge) | (highs - values < edge)
    step = np.where(at_bound, 0.0, np.minimum(_STEP, np.minimum(values - lows, highs - values) / 2))
    free = np.flatnonzero(~at_bound)

    def shifted(part: Floats) -> float:
        moved = values.copy()
        moved[free] = part
        return -float(per_unit(moved).sum())

    curvature = hessian(shifted, values[free], step[free]) if len(free) else np.zeros((0, 0))
    inverse, open_free = _inverse(curvature)
    if clusters is not None:
        _, index = np.unique(np.asarray(clusters), return_inverse=True)
        k = index.max() + 1
        scores = _scores(per_unit, values, step)[:, free]
        scores = np.stack([np.bincount(index, column, k) for column in scores.T], axis=1)
        inverse = inverse @ (scores.T @ scores) @ inverse * (k / max(k - len(free), k / 2))
    covariance = np.zeros((len(values), len(values)))
    covariance[np.ix_(free, free)] = inverse
    unidentified = np.zeros(len(values), bool)
    unidentified[free] = open_free
    ends = [normal_interval(v, s) for v, s in zip(values, np.sqrt(np.diag(covariance)), strict=True)]
    low, high = np.array(ends).reshape(-1, 2).T
    for i in range(len(values)):
        if at_bound[i]:
            low[i], high[i] = _conditional_interval(per_unit, values, i, (lows[i], highs[i]))
        elif i in profiled:
            low[i], high[i] = profile(per_unit, values, i, bounds, covariance)
    return Maximum(values, covariance, low, high, at_bound, unidentified)


def _ends(bounds: list[tuple[float, float]] | None, size: int) -> tuple[Floats, Floats]:
    lows, highs = np.array(bounds if bounds else [(-np.inf, np.inf)] * size, float).reshape(size, 2).T
    return lows, highs


def _scores(per_unit: PerUnit, values: Floats, step: Floats) -> Floats:
    """Derivative of each unit's log likelihood with respect to each parameter; (n, p), 0 where the step is 0."""
    columns = []
    for i, h in enumerate(step):
        shift = h * (np.arange(len(values)) == i)
        columns.append((per_unit(values + shift) - per_unit(values - shift)) / (2 * h) if h else 0 * per_unit(values))
    return np.nan_to_num(np.stack(columns, axis=1), posinf=0.0, neginf=0.0)


def profile(
    per_unit: PerUnit, values: Floats, i: int, bounds: list[tuple[float, float]] | None, covariance: Floats
) -> tuple[float, float]:
    """Ends of the profile likelihood's interval of parameter i about the maximum `values`.

    An end that the data leave open lies eight standard errors away, or at the bound. covariance: of a normal law, from
    which searches begin.
    """
    lows, highs = _ends(bounds, len(values))
    others = np.arange(len(values)) != i
    their_bounds = list(zip(lows[others], highs[others], strict=True))
    best, lean = float(per_unit(values).sum()), covariance[others, i] / covariance[i, i]
    value, step = float(values[i]), float(np.sqrt(covariance[i, i]))

    def deviance(x: float) -> float:
        def with_others(part: Floats) -> Floats:
            return per_unit(np.insert(part, i, x))

        near = np.clip(values[others] + lean * np.clip(x - value, -3 * step, 3 * step), lows[others], highs[others])
        return 2 * (best - float(with_others(estimate(with_others, near, their_bounds)).sum()))

    reach = _FARTHEST * step
    return profile_interval(deviance, value, 2 * step, (max(lows[i], value - reach), min(highs[i], value + reach)))


def _conditional_interval(
    per_unit: PerUnit, values: Floats, i: int, bounds: tuple[float, float]
) -> tuple[float, float]:
    best = float(per_unit(values).sum())

    def deviance(x: float) -> float:
        moved = values.copy()
        moved[i] = x
        return 2 * (best - float(per_unit(moved).sum()))

    return profile_interval(deviance, float(values[i]), 0.1, bounds)


def _inverse(curvature: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """Pseudo-inverse over the directions that the data identify, and which parameters mix with any other."""
    scale = np.sqrt(np.abs(np.diag(curvature)).clip(1e-300))
    eigenvalues, vectors = np.linalg.eigh(curvature / np.outer(scale, scale))
    good = eigenvalues > 1e-9
    parts = vectors[:, good] / np.sqrt(eigenvalues[good])
    left_open = np.sum(vectors[:, ~good] ** 2, axis=1) > 0.05
    return parts @ parts.T / np.outer(scale, scale), left_open
