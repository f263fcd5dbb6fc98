"""From reads to the parameters of a quantile law: estimates, intervals, draws and residuals."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from calibration.fit import Parameter
from calibration.intervals import normal_draws, normal_interval, parameters
from calibration.quantile_law import Nodes, score
from calibration.quantile_search import covariance, fit_coefficients
from calibration.selection import Law, Mask

Floats = NDArray[np.float64]

NOT_CONVERGED = (
    "the likelihood still rises where the search gave up: reads that repeat one value or follow a line exactly have no "
    "density; estimates and intervals are not to be trusted"
)


class Reads(NamedTuple):
    """Shifts (n,) [uS] of cells that started at g_uS, at an abscissa above 0 such as the time; cells from 0."""

    shift_uS: Floats
    g_uS: Floats
    at: Floats
    cell: NDArray[np.int64]


class Fitted(NamedTuple):
    """Coefficients (n_nodes, 1 + k) with log slopes; reported parameters and draws with slopes; residuals z (n,)."""

    coefficients: Floats
    reported: tuple[Parameter, ...]
    draws: Floats
    z: Floats
    warnings: tuple[str, ...]


def fit_nodes(reads: Reads, nodes: Nodes, labels: list[str], seed: int) -> Fitted:
    """Maximum likelihood with intervals that are robust over cells; `labels`: the abscissae in parameters' names."""
    basis, knots = nodes.basis(reads.g_uS, reads.at), np.array(nodes.z)
    coefficients, converged = fit_coefficients(reads.shift_uS, basis, nodes)
    z, _, scores = score(reads.shift_uS, basis @ coefficients, knots)
    spread = covariance(scores, basis, reads.cell, nodes)
    flat, errors = coefficients.ravel(), np.sqrt(np.diag(spread))
    low, high = np.array([normal_interval(v, s) for v, s in zip(flat, errors, strict=True)]).T
    values, lows, highs = (with_slopes(part, nodes).ravel() for part in (flat, low, high))
    names = [
        f"{what}(g={g:.4g}uS, {label})"
        for label in labels
        for g in nodes.g_uS
        for what in ("median", *(f"slope(z={k:g})" for k in nodes.z))
    ]
    draws = normal_draws(flat, spread, seed=seed)
    return Fitted(
        coefficients,
        parameters(names, values, lows, highs, ["uS"] * len(names)),
        with_slopes(draws, nodes).reshape(draws.shape),
        z,
        () if converged else (NOT_CONVERGED,),
    )


def with_slopes(coefficients: Floats, nodes: Nodes) -> Floats:
    """(n, 1 + k): medians as they are, slopes instead of their logarithms."""
    table = coefficients.reshape(-1, 1 + len(nodes.z)).copy()
    table[:, 1:] = np.exp(table[:, 1:])
    return table


def with_logarithms(values: Floats, nodes: Nodes) -> Floats:
    """The inverse of `with_slopes`."""
    table = values.reshape(-1, 1 + len(nodes.z)).copy()
    table[:, 1:] = np.log(table[:, 1:])
    return table


def candidate(name: str, reads: Reads, nodes: Nodes) -> Law:
    """A law to rank by its held-out likelihood."""
    basis, knots = nodes.basis(reads.g_uS, reads.at), np.array(nodes.z)

    def held_out(train: Mask, test: Mask) -> Floats:
        coefficients = fit_coefficients(reads.shift_uS[train], basis[train], nodes).values
        return score(reads.shift_uS[test], basis[test] @ coefficients, knots)[1]

    return Law(name, nodes.n_parameters, held_out)


def conductance_nodes(g_uS: Floats, cell: NDArray[np.int64], per_node: int, most: int) -> tuple[float, ...]:
    """Conductances with equal numbers of cells between them, from the lowest to the highest start; one if all are."""
    first_of_cell = np.unique(cell, return_index=True)[1]
    shares = np.linspace(0, 1, int(np.clip(len(first_of_cell) // per_node, 2, most)))
    return tuple(np.unique(np.quantile(g_uS[first_of_cell], shares)).tolist())
