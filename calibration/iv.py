"""Static current over voltage of cells: how non-linear it is over the conductance, and how much cells differ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.fit import Candidate, Fit, Provenance
from calibration.goodness import dispersion_test, normal_scores, shape_test
from calibration.intervals import normal_draws, normal_interval, parameters
from calibration.iv_cells import CellCurves, cell_curves
from calibration.iv_laws import IVLaw, laws_for
from calibration.maximum import estimate, maximise
from calibration.picture import FitPicture
from calibration.selection import Law, Mask, rank_laws
from calibration.storage import Array
from calibration.tables import IVTable
from device_models.effects import LinearIV, ScatteredIV, SinhIV
from device_models.errors import UsageError, nearest

Floats = NDArray[np.float64]

_DEGREE = 10
"""Of the polynomials in log10 g that the device's I-V curve takes; over two decades of conductance their current is
within 0.3 % of the fitted mean."""
TEST_LEVEL = 0.03
"""Of each of the three tests, so that together they reject the true law in less than a tenth of cases."""
_GENERAL = ("i0_mean", "i0_sigma", "noise")


@dataclass(frozen=True, eq=False, kw_only=True)
class IVFit(Fit):
    """Currents I = i0 + g0 V + a2 V^2 + a3 V^3 of cells that differ.

    Equation   k3 = a3 / g, k2 = a2 / g + lean k3: relative curvature of the best parabola, independent of k3 in the
               measurements; g: slope of the best straight line [uS]. Over cells k2 has mean k2_mean(g) and s.d.
               k2_sigma(g), k3 likewise (scales of Student's t with tail_nu degrees of freedom where tails are heavy;
               then of the scatter with the noise included); polynomials in g run through values at `nodes_uS`, those
               of the s.d. in its logarithm. sinh: I = i0 + g0 v0 sinh(V / v0)
    Instrument offset i0 with mean and s.d. over cells, `noise` the root mean square of a current about its cell's curve
    Valid      `window_uS`, |V| <= v_max_V
    `to_device` carries mean and spread over cells, so that each device of a chip has a curve of its own; of sinh it
    carries the mean only.

    triangle   (4, 4): from (i0, g0, a2, a3) to coefficients of orthonormal polynomials over all measured voltages
    """

    nodes_uS: Array
    triangle: Array
    v_max_V: float

    def device_parts(self, g_uS: Floats, values: Floats | None = None) -> dict[str, Any]:
        values = self.values if values is None else values
        law = self._law()
        if law.sinh:
            return {"iv": SinhIV(v0_V=float(values[0]), source="fitted")}
        if not law.powers:
            return {"iv": LinearIV(source="fitted")}
        low, high = float(np.min(g_uS)), float(np.max(g_uS))
        if low <= 0:
            raise UsageError(f"g_uS = {low:g}: must be above 0 uS, where this I-V curve has no meaning")
        slope = np.union1d(np.geomspace(low, high, 201), np.linspace(low, high, 201))
        g0, a2, a3 = self.coefficients(slope, values)
        rising = np.all(np.diff(g0) > 0) and g0[0] > 0
        if not rising:
            raise UsageError("g_uS: conductance at vanishing voltage does not rise with that of the best line; "
                             "the fitted non-linearity is too strong for one curve at each conductance")  # fmt: skip
        theta = law.from_values(self._own(values), self.v_max_V)
        s2, s3 = (s / self.v_max_V**power for power, s in enumerate(law.spreads(theta, slope), start=1))
        r = self.triangle

        def polynomial(y: Floats, w: Floats | None = None) -> tuple[float, ...]:
            return tuple(np.polynomial.Polynomial.fit(np.log10(g0 * 1e-6), y, _DEGREE, w=w).convert().coef.tolist())

        return {
            "iv": ScatteredIV(
                n2_coefficients=polynomial(a2 * 1e-6, g0**-0.5),
                n3_coefficients=polynomial(a3 * 1e-6, g0**-0.5),
                k2_log_sigma=polynomial(np.log(s2 * slope / g0)),
                k3_log_sigma=polynomial(np.log(s3 * slope / g0)) if law.powers == 3 else None,
                lean12_V=float(r[1, 2] / r[1, 1]),
                lean13_V2=float(r[1, 3] / r[1, 1]),
                lean23_V=float(r[2, 3] / r[2, 2]),
                tail_nu=float(np.exp(theta[-1])) if law.student else None,
                g_low_uS=min(low, float(g0[0])),
                g_high_uS=max(high, float(g0[-1])),
                v_max_V=self.v_max_V,
                source="fitted",
            )
        }

    def coefficients(self, g_uS: Floats, values: Floats | None = None) -> tuple[Floats, Floats, Floats]:
        """Mean g0 [uS], a2 [uS/V] and a3 [uS/V^2] of cells whose best straight line has slope g_uS. Not for sinh."""
        law, g = self._law(), np.asarray(g_uS, float)
        theta = law.from_values(self._own(values), self.v_max_V)
        k2, k3 = law.means(theta, g)
        k2, k3 = k2 / self.v_max_V, k3 / self.v_max_V**2
        r = self.triangle
        a3 = g * k3
        a2 = g * (k2 - r[2, 3] / r[2, 2] * k3)
        return g - (r[1, 2] * a2 + r[1, 3] * a3) / r[1, 1], a2, a3

    def nonlinearity_band(self, g_uS: Floats, level: float = 0.9) -> tuple[Floats, Floats]:
        """Ends (2, n) of the central band of k2 [1/V] and k3 [1/V^2] over cells, without the noise of the currents."""
        law, g = self._law(), np.asarray(g_uS, float)
        if law.sinh:
            raise UsageError(f"model = {self.model}: has no k2 over the conductance; see v0")
        theta = law.from_values(self._own(), self.v_max_V)
        k2, k3 = law.means(theta, g)
        s2, s3 = law.spreads(theta, g)
        reach = law.distribution(theta).ppf(0.5 + level / 2)
        scale = np.array([[1 / self.v_max_V], [1 / self.v_max_V**2]])
        centre, half = np.stack([k2, k3]) * scale, reach * np.stack([s2, s3]) * scale
        return centre - half, centre + half

    def scores(self, table: IVTable) -> Floats:
        """Deviations (2, n) of cells' curvature and cubic term from the law, as normal scores, noise included.

        Of cells that were left out, nine in ten lie within +- 1.645 if the law predicts them.
        """
        cells = cell_curves(table.cell, table.v_V, table.i_uA)._replace(reference=self.triangle)
        law = self._law()
        return _scores(law, law.from_values(self._own(), cells.v_ref_V), cells)

    def _own(self, values: Floats | None = None) -> Floats:
        return (self.values if values is None else values)[: len(self.values) - len(_GENERAL)]

    def _law(self) -> IVLaw:
        return IVLaw.named(self.model, tuple(self.nodes_uS.tolist()))


def fit_iv(table: IVTable, *, seed: int = 0, model: str | None = None, rank: bool = True) -> IVFit:
    """Fit the non-linearity of currents, cell by cell and over cells.

    Arguments  model: a candidate's name instead of the ranking; rank=False takes the cubic with heavy tails
    Errors     UsageError: fewer than 20 cells with five different voltages and a positive conductance
    """
    cells = cell_curves(table.cell, table.v_V, table.i_uA)
    n = len(cells.g_uS)
    if n < 20:
        raise UsageError(f"cell: {n} cells with enough voltages: must be at least 20 to tell their spread")
    laws = {law.name: law for law in laws_for(cells)}
    if model is not None and model not in laws:
        raise UsageError(f"model = {model!r}: must be one of {', '.join(laws)}{nearest(model, laws)}")
    candidates: tuple[Candidate, ...] = ()
    warnings: tuple[str, ...] = ()
    chosen = model or next(name for name in reversed(laws) if "heavy" in name)
    if model is None and rank:
        candidates, chosen, warnings = rank_laws(
            [_candidate(law, cells) for law in laws.values()], cells.labels, seed=seed
        )
    law = laws[chosen]
    found = maximise(law.log_likelihood(cells), law.start(cells), law.bounds)
    own, draws = found.reported(law.names, law.units, lambda x: law.to_values(x, cells.v_ref_V), seed)
    general, general_covariance = _instrument(cells)
    rest = normal_draws(general, general_covariance, len(draws), seed + 1)
    rest[:, 1:] = rest[:, 1:].clip(min=0)
    ends = [normal_interval(v, s) for v, s in zip(general, np.sqrt(np.diag(general_covariance)), strict=True)]
    low, high = np.array(ends).T
    low[1:] = low[1:].clip(min=0)
    z = _scores(law, found.values, cells)
    # each parameter is one of half of the scores
    spread = dispersion_test(z.ravel(), np.tile(cells.g_uS, 2), len(law.names) // 2, name="g_uS")
    tests = [test.evolve(level=TEST_LEVEL) for test in (shape_test(z.ravel()), spread)]
    higher = law.higher_scores(found.values, cells)
    if len(higher) >= 20:
        stiff = dispersion_test(higher, np.zeros(len(higher)), name="degrees 4 and 5")
        tests.append(stiff.evolve(level=TEST_LEVEL))
    left_out = [*table.left_out, *cells.left_out]
    if law.sinh:
        warnings = (*warnings, "the device carries the mean sinh; the spread of cells about it stays in the fit")
    return IVFit(
        quantity="current over voltage",
        model=law.name,
        parameters=(*own, *parameters(_GENERAL, general, low, high, ("uA",) * 3)),
        intervals="asymptotic normal",
        goodness=tuple(tests),
        candidates=candidates,
        warnings=(*warnings, *found.warnings(law.names)),
        provenance=Provenance.of(table.source, n, left_out),
        draws=np.hstack([draws, rest]),
        picture=_picture(law, found.values, cells, z),
        window_uS=(float(cells.g_uS.min()), float(cells.g_uS.max())),
        nodes_uS=np.array(law.nodes_uS),
        triangle=cells.reference,
        v_max_V=cells.v_ref_V,
    )


def _candidate(law: IVLaw, cells: CellCurves) -> Law:
    start = estimate(law.log_likelihood(cells), law.start(cells), law.bounds)

    def held_out(train: Mask, test: Mask) -> Floats:
        kept, left = cells.only(train), cells.only(test)
        theta = estimate(law.log_likelihood(kept), start, law.bounds)
        return law.log_likelihood(left)(theta)

    return Law(law.name, len(law.names), held_out)


def _scores(law: IVLaw, theta: Floats, cells: CellCurves) -> Floats:
    z = law.scores(theta, cells)
    return normal_scores(law.distribution(theta).cdf(z)) if law.student else z


def _instrument(cells: CellCurves) -> tuple[Floats, Floats]:
    """Mean and s.d. of the offset over cells, root mean square noise [uA]; with their covariance (3, 3)."""
    n = len(cells.g_uS)
    inverse = np.linalg.inv(cells.triangle)[:, 0]
    offset = np.einsum("nk,nk->n", inverse, cells.parts)
    own = np.einsum("nk,nk->n", inverse, inverse) * cells.noise_uA**2
    about = (offset - offset.mean()) ** 2 - own
    spread = max(float(about.mean() * n / (n - 1)), 0.0)
    noise = float(np.sqrt(cells.variance.mean()))
    # standard errors of roots of means: that of the mean over twice the root, which stays finite at zero
    error = np.std(about) / np.sqrt(n)
    se_spread = error / (2 * np.sqrt(max(spread, error)))
    se = [np.std(offset) / np.sqrt(n), se_spread, np.std(cells.variance) / np.sqrt(n) / (2 * noise)]
    return np.array([offset.mean(), np.sqrt(spread), noise]), np.diag(np.square(se))


def _picture(law: IVLaw, theta: Floats, cells: CellCurves, z: Floats) -> FitPicture:
    """The curvature of cells with the noise of their currents, in units of the conductance."""
    mean, sd = law.moments(cells)(theta)
    order = np.argsort(cells.g_uS)
    unit = cells.triangle[:, 2, 2] * cells.g_uS
    reach = float(law.distribution(theta).ppf(0.95)) * sd[0]
    lines = [line[order] for line in (cells.g_uS, *((mean[0] + s * reach) / unit for s in (0, -1, 1)))]
    data = (cells.g_uS, cells.parts[:, 2] / unit, z[0])
    return FitPicture.of(data, (lines[0], *lines[1:]), "conductance [uS]", "curvature k2 with noise [1/V]")
