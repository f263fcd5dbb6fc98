"""Laws of how non-linear the currents of cells are, over their conductance, and how much that differs among cells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.special import factorial, gammaln

from calibration.iv_cells import ODD_POWERS, CellCurves

Floats = NDArray[np.float64]

_HEAVY = ", heavy tails"
_HALF_LOG_2PI = 0.5 * float(np.log(2 * np.pi))
_LOWEST_LOG = float(np.log(1e-5))
_SIGMA_BOUNDS = (_LOWEST_LOG, float(np.log(30.0)))
_NU_BOUNDS = (float(np.log(2.05)), float(np.log(300.0)))


class Moments(NamedTuple):
    """What a law says of `CellCurves.parts[:, 2:].T`: mean and s.d. (2, n), the s.d. with the noise of the currents."""

    mean: Floats
    sd: Floats


@dataclass(frozen=True)
class IVLaw:
    """One law; theta holds dimensionless numbers: voltages in units of the largest one.

    name         "linear", "sinh", or the highest power and its dependence on the conductance, as "quadratic, degree 1"
    powers       0: none, 2: V^2, 3: V^2 and V^3; sinh has its own form
    nodes_uS     conductances at which means and spreads are parameters; polynomials run through them
    student      whether cells scatter with the tails of Student's t
    """

    name: str
    powers: int
    nodes_uS: tuple[float, ...]
    student: bool
    sinh: bool = False

    @classmethod
    def named(cls, name: str, nodes_uS: tuple[float, ...]) -> Self:
        """The law that `laws_for` calls `name`."""
        powers = 3 if name.startswith("cubic") else 2 if name.startswith(("quadratic", "sinh")) else 0
        return cls(name, powers, nodes_uS, name.endswith(_HEAVY), name.startswith("sinh"))

    @property
    def n_nodes(self) -> int:
        return len(self.nodes_uS)

    @property
    def names(self) -> tuple[str, ...]:
        at = [""] if self.n_nodes == 1 else [f"_at_{g:.3g}uS" for g in self.nodes_uS]
        blocks = [f"{what}{place}" for what in ("k2_mean", "k2_sigma") for place in at] if self.powers else []
        if self.sinh:
            blocks = ["v0", "k2_sigma"]
        if self.powers == 3:
            blocks += ["k3_mean", "k3_sigma"]
        return (*blocks, "tail_nu") if self.student else tuple(blocks)

    @property
    def units(self) -> tuple[str, ...]:
        return tuple({"k2": "1/V", "k3": "1/V^2", "v0": "V", "ta": "1"}[name[:2]] for name in self.names)

    @property
    def bounds(self) -> list[tuple[float, float]]:
        kinds = {"mean": (-np.inf, np.inf), "v0": (float(np.log(1 / 8)), float(np.log(1e3))), "nu": _NU_BOUNDS}
        return [next((b for k, b in kinds.items() if k in name), _SIGMA_BOUNDS) for name in self.names]

    def to_values(self, theta: Floats, v_ref: float) -> Floats:
        """Parameters in their units from theta (..., p)."""
        values = np.array(theta, float)
        for i, name in enumerate(self.names):
            power = {"k2": -1, "k3": -2, "v0": 1, "ta": 0}[name[:2]]
            own = values[..., i] if "mean" in name else np.exp(values[..., i])
            values[..., i] = own * v_ref**power
        return values

    def from_values(self, values: Floats, v_ref: float) -> Floats:
        """theta from parameters in their units."""
        theta = np.array(values, float)
        for i, name in enumerate(self.names):
            power = {"k2": -1, "k3": -2, "v0": 1, "ta": 0}[name[:2]]
            own = theta[i] / v_ref**power
            theta[i] = own if "mean" in name else np.log(own)
        return theta

    def start(self, cells: CellCurves) -> Floats:
        """Where a search begins; of sinh the likeliest of a grid, because quiet currents have a narrow maximum."""
        if self.sinh:
            at = self.log_likelihood(cells)
            grid = [np.array([v0, sigma]) for v0 in np.linspace(-2.0, 4.0, 25) for sigma in np.linspace(-9.0, -1.0, 5)]
            return max(grid, key=lambda theta: float(at(theta).sum()))
        guesses = {"mean": 0.0, "v0": 0.0, "nu": np.log(6.0)}
        return np.array([next((v for k, v in guesses.items() if k in name), -2.0) for name in self.names])

    def means(self, theta: Floats, g_uS: Floats) -> tuple[Floats, Floats]:
        """Mean k2 v_ref and k3 v_ref^2 over the conductance. Not for sinh, whose form is exact."""
        k2 = self._weights(g_uS) @ theta[: self.n_nodes] if self.powers else np.zeros_like(g_uS)
        return k2, np.full_like(g_uS, theta[2 * self.n_nodes] if self.powers == 3 else 0.0)

    def spreads(self, theta: Floats, g_uS: Floats) -> tuple[Floats, Floats]:
        """S.d. among cells of k2 v_ref and k3 v_ref^2 over the conductance."""
        k2, k3 = np.zeros_like(g_uS), np.zeros_like(g_uS)
        if self.powers:
            k2 = np.exp(np.clip(self._weights(g_uS) @ theta[self._sigma], *_SIGMA_BOUNDS))
        if self.powers == 3:
            k3 += np.exp(theta[2 * self.n_nodes + 1])
        return k2, k3

    def moments(self, cells: CellCurves) -> Callable[[Floats], Moments]:
        """The moments of these cells as a function of theta."""
        g, r, v_ref = cells.g_uS, cells.triangle, cells.v_ref_V
        lean = cells.reference[2, 3] / cells.reference[2, 2]
        weights = self._weights(g)
        from_k2 = r[:, 2, 2] * g / v_ref
        from_k3 = np.stack([r[:, 2, 3] - lean * r[:, 2, 2], r[:, 3, 3]]) * g / v_ref**2
        noise = cells.noise_uA**2

        def at(theta: Floats) -> Moments:
            mean, variance = np.zeros((2, len(g))), np.stack([noise, noise])
            if self.sinh:
                mean += _odd_parts(theta[0], cells)[:, :2].T
            elif self.powers:
                mean[0] += from_k2 * (weights @ theta[: self.n_nodes])
            if self.powers:
                variance[0] += (from_k2 * np.exp(np.clip(weights @ theta[self._sigma], *_SIGMA_BOUNDS))) ** 2
            if self.powers == 3:
                mean += from_k3 * theta[2 * self.n_nodes]
                variance += (from_k3 * np.exp(theta[2 * self.n_nodes + 1])) ** 2
            return Moments(mean, np.sqrt(variance))

        return at

    def scores(self, theta: Floats, cells: CellCurves) -> Floats:
        """Deviations from the mean in units of the s.d. (of the scale, where the tails are Student's); (2, n)."""
        mean, sd = self.moments(cells)(theta)
        return (cells.parts[:, 2:].T - mean) / sd

    def higher_scores(self, theta: Floats, cells: CellCurves) -> Floats:
        """Standard normals of what polynomials of degree 4 and 5 add beyond the law, of all cells that tell them."""
        expected = _odd_parts(theta[0], cells)[:, 2:] if self.sinh else 0.0
        z = ((cells.higher - expected) / cells.noise_uA[:, None]).ravel()
        return z[np.isfinite(z)]

    def log_likelihood(self, cells: CellCurves) -> Callable[[Floats], Floats]:
        """Of the curvature of each cell [nat], as a function of theta."""
        moments, parts = self.moments(cells), cells.parts[:, 2:].T

        def at(theta: Floats) -> Floats:
            mean, sd = moments(theta)
            square = ((parts - mean) / sd) ** 2
            if not self.student:
                return (-0.5 * square - np.log(sd)).sum(axis=0) - 2 * _HALF_LOG_2PI
            nu = np.exp(theta[-1])
            constant = gammaln((nu + 1) / 2) - gammaln(nu / 2) - 0.5 * np.log(np.pi * nu)
            return (-(nu + 1) / 2 * np.log1p(square / nu) - np.log(sd)).sum(axis=0) + 2 * constant

        return at

    def distribution(self, theta: Floats) -> stats.rv_continuous:
        """Of the scores: standard normal or Student's t."""
        return stats.t(np.exp(theta[-1])) if self.student else stats.norm()

    @property
    def _sigma(self) -> slice:
        return slice(1, 2) if self.sinh else slice(self.n_nodes, 2 * self.n_nodes)

    def _weights(self, g_uS: Floats) -> Floats:
        """(n, n_nodes): of the values at the nodes, for the polynomial through them (Lagrange)."""
        nodes = np.array(self.nodes_uS)
        columns = []
        for i, own in enumerate(nodes):
            others = np.delete(nodes, i)
            columns.append(np.prod((g_uS[:, None] - others) / (own - others), axis=1))
        return np.stack(columns, axis=1)


def _odd_parts(log_v0: float, cells: CellCurves) -> Floats:
    """Coefficients (n, 4) of the polynomials of degree 2 to 5 [uA] in g0 v0 sinh(V / v0), v0 in units of v_ref.

    g0, the conductance at vanishing voltage, is that with which the best straight line has the measured slope.
    """
    series = np.exp(-log_v0 * (ODD_POWERS - 1)) / factorial(ODD_POWERS)
    own = cells.v_ref_V * np.einsum("npk,p->nk", cells.odd, series)
    g0 = cells.g_uS / (1 + own[:, 0] / cells.triangle[:, 1, 1])
    return g0[:, None] * own[:, 1:]


def laws_for(cells: CellCurves) -> list[IVLaw]:
    """The candidates for these cells, plainest first."""
    low, high = np.quantile(cells.g_uS, [0.05, 0.95])
    spread_out = high > 1.2 * low
    top = 2 if spread_out else 0
    kinds = [("quadratic", d) for d in range(top + 1)] + [("cubic", top)]
    laws = [IVLaw.named(name, (float((low + high) / 2),)) for name in ("linear", "sinh")]
    for word, degree in kinds:
        nodes = np.linspace(low, high, degree + 1).tolist() if degree else [float((low + high) / 2)]
        laws += [IVLaw.named(f"{word}, degree {degree}{tails}", tuple(nodes)) for tails in ("", _HEAVY)]
    return laws
