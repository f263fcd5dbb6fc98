"""Retention against temperature: what bakes do to the conductance, with activation energies."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import PchipInterpolator
from scipy.stats import norm

from calibration.fit import Fit, Goodness, Parameter, Provenance
from calibration.goodness import LEAST_SPREAD, dispersion_test, shape_test
from calibration.intervals import parameters, percentile_intervals
from calibration.picture import FitPicture
from calibration.quantile_fit import Reads, candidate, conductance_nodes, fit_nodes, with_logarithms
from calibration.quantile_law import Nodes
from calibration.selection import rank_laws
from calibration.tables import RetentionTable
from device_models.effects.temperature import BOLTZMANN_EV_PER_K
from device_models.errors import UsageError, nearest
from device_models.relaxation import RelaxationTable, rise

Floats = NDArray[np.float64]

KELVIN = 273.15
MANY_CELLS = 1000
MANY_SCORES, FEW_SCORES = (-3.0, -2.33, -1.645, -0.8, 0.0, 0.8, 1.645, 2.33, 3.0), (-2.0, -1.0, 0.0, 1.0, 2.0)
"""Normal scores at which the law has slopes, for many cells and for few."""
FEWEST_CELLS, CELLS_PER_CONDUCTANCE, MOST_CONDUCTANCES = 100, 250, 9
ARRHENIUS, EACH = "Arrhenius", "each temperature"
TEST_LEVEL = 0.04
"""Of each of the two tests."""
_EVEN = norm.ppf((np.arange(400) + 0.5) / 400)
"""Normal scores of equal probability, for moments."""


def activation(temperature_C: ArrayLike) -> Floats:
    """exp(-1 eV / k_B T) over its value at 25 C: the abscissa of which a rate of energy E is the power E / eV."""
    inverse = 1.0 / (BOLTZMANN_EV_PER_K * (np.asarray(temperature_C, float) + KELVIN))
    return np.exp(1.0 / (BOLTZMANN_EV_PER_K * (25.0 + KELVIN)) - inverse)


@dataclass(frozen=True, eq=False, kw_only=True)
class RetentionFit(Fit):
    """Shift of a cell by a bake: the quantile law of device_models.relaxation with temperature in the place of time.

    Median and log slopes are monotone cubics in 1 / T through those at the temperatures of the law: a line, so that a
    spread is activated with one energy, between two temperatures; an energy that changes where several show it.
    Source     of the cubics: F. N. Fritsch, J. Butland, SIAM J. Sci. Stat. Comput. 5, 300 (1984), DOI 10.1137/0905021

    g_uS, temperatures_C, z   nodes of the law; parameters go by temperature, conductance, then median and slopes
    activation_eV             apparent activation energies of the spread, (q95 - q5) / 3.29: of all conductances
                              together, of each, and between neighbouring temperatures
    bake_s                    time between the reads, and measured_C the temperature, of each bake
    device_temperature_C      of the device that `to_device` makes, whose shift is that after the nearest bake's time
    """

    g_uS: tuple[float, ...]
    temperatures_C: tuple[float, ...]
    z: tuple[float, ...]
    activation_eV: tuple[Parameter, ...]
    measured_C: tuple[float, ...]
    bake_s: tuple[float, ...]
    device_temperature_C: float

    def _local(self, g_uS: ArrayLike, temperature_C: float, values: Floats | None = None) -> Floats:
        low, high = self.measured_C[0], self.measured_C[-1]
        if not low <= temperature_C <= high:
            raise UsageError(f"temperature_C = {temperature_C:g}: must be from {low:g} to {high:g}, as measured")
        g = np.atleast_1d(np.asarray(g_uS, float))
        nodes = Nodes(self.g_uS, tuple(activation(self.temperatures_C).tolist()), self.z)
        table = with_logarithms(self.values if values is None else values, nodes)
        table = table.reshape(len(self.temperatures_C), len(self.g_uS), -1)
        over_temperature = PchipInterpolator(np.log(nodes.t_s), table)
        one = Nodes(self.g_uS, (1.0,), self.z)
        return np.asarray(one.basis(g, np.ones(len(g))) @ over_temperature(np.log(activation(temperature_C))))

    def quantiles_uS(self, g_uS: ArrayLike, p: ArrayLike, temperature_C: float) -> Floats:
        """Quantiles of the shift of cells that start at g_uS (n,), at probabilities p (m,); (n, m).

        UsageError outside the temperatures measured.
        """
        local = self._local(g_uS, temperature_C)
        return local[:, :1] + rise(local[:, 1:], self.z, norm.ppf(np.atleast_1d(p)))

    def moments_uS(self, g_uS: ArrayLike, temperature_C: float) -> tuple[Floats, Floats]:
        """Mean and s.d. of the shift of cells at g_uS (n,); refused outside the temperatures measured."""
        shifts = self.quantiles_uS(g_uS, norm.cdf(_EVEN), temperature_C)
        return shifts.mean(axis=1), shifts.std(axis=1)

    def device_parts(self, g_uS: Floats, values: Floats | None = None) -> dict[str, Any]:
        """The shift by a bake at `device_temperature_C`, on conductances of its own."""
        local = self._local(self.g_uS, self.device_temperature_C, None if values is None else np.asarray(values, float))
        nearest_bake = int(np.argmin(np.abs(np.array(self.measured_C) - self.device_temperature_C)))
        t_s = (self.bake_s[nearest_bake],)
        slopes = tuple(tuple(row.tolist()) for row in np.exp(local[:, 1:]).T)
        table = RelaxationTable(
            g_uS=self.g_uS,
            t_s=t_s,
            z=self.z,
            median_uS=(tuple(local[:, 0].tolist()),),
            slope_uS=(slopes,),
            path_t_s=t_s,
            path=((1.0,),),
        )
        return {"relaxation": table}


def fit_retention(
    table: RetentionTable,
    *,
    model: str | None = None,
    device_temperature_C: float | None = None,
    folds: int = 2,
    seed: int = 0,
) -> RetentionFit:
    """Fit the distribution of the shift of baked cells over conductance and temperature.

    Equation   that of RetentionFit; maximum likelihood, intervals robust over cells; those of the activation energies
               from draws of the parameters
    Arguments  table: two reads of each cell and temperature, such as g_before_uS and g_after_uS; of more reads the
               first and the last are taken
               model: "Arrhenius" (one energy for each slope) or "each temperature"; none: by held-out likelihood
               device_temperature_C: of `to_device`; none: the lowest of the table
    Returns    energies are apparent: of the shift after the bakes as they were, because a time that does not vary at
               one temperature cannot be told from a factor
    Errors     UsageError: no temperatures, one temperature, fewer than 100 cells with two reads, unknown model
    """
    if table.temperature_C is None or len(np.unique(table.temperature_C)) < 2:
        raise UsageError("retention: needs a column temperature_C with at least two temperatures")
    reads, temperature, bake_s, left_out = _bakes(table)
    measured = np.unique(temperature)
    device_C = float(measured[0] if device_temperature_C is None else device_temperature_C)
    if not measured[0] <= device_C <= measured[-1]:
        span = f"{measured[0]:g} to {measured[-1]:g}"
        raise UsageError(f"device_temperature_C = {device_C:g}: must be from {span}, as measured")
    g = conductance_nodes(reads.g_uS, reads.cell, CELLS_PER_CONDUCTANCE, MOST_CONDUCTANCES)
    laws = {ARRHENIUS: measured[[0, -1]]} | ({EACH: measured} if len(measured) > 2 else {})
    if model is not None and model not in laws:
        raise UsageError(f"model = {model!r}: must be one of {', '.join(laws)}{nearest(model, laws)}")
    scores = MANY_SCORES if reads.cell.max() + 1 >= MANY_CELLS else FEW_SCORES
    nodes = {name: Nodes(g, tuple(activation(t).tolist()), scores) for name, t in laws.items()}
    ranking = None
    if model is None:
        candidates = [candidate(name, reads, law) for name, law in nodes.items()]
        ranking = rank_laws(candidates, reads.cell, folds=folds, seed=seed)
    chosen = model or (ranking.chosen if ranking else ARRHENIUS)
    at_C, law = laws[chosen], nodes[chosen]
    found = fit_nodes(reads, law, [f"T={t:.4g}C" for t in at_C], seed)
    values = np.array([p.value for p in found.reported])
    energies = _activation(values, found.draws, law, at_C)
    one_time = [float(np.median(bake_s[temperature == t])) for t in measured]
    warnings = (*(ranking.warnings if ranking else ()), *found.warnings)
    if all(np.ptp(bake_s[temperature == t]) < 0.1 * s for t, s in zip(measured, one_time, strict=True)):
        warnings += ("time: one at each temperature, so energies are those of the shift and not of its rate",)
    steps = energies[1 + len(g) :]
    if len(steps) > 1 and min(p.high for p in steps) < max(p.low for p in steps):
        text = ", ".join(f"{p.value:.2g}" for p in steps)
        warnings += (f"activation: not one energy, {text} eV between neighbouring temperatures: do not extrapolate",)
    return RetentionFit(
        quantity="retention",
        model=chosen,
        parameters=found.reported,
        intervals="asymptotic normal, robust over cells",
        provenance=Provenance.of(table.source, len(reads.cell), left_out),
        draws=found.draws,
        picture=_picture(reads, temperature, found.z, law, found.coefficients),
        goodness=_tests(found.z, temperature),
        candidates=ranking.candidates if ranking else (),
        warnings=warnings,
        window_uS=(g[0], g[-1]) if len(g) > 1 else None,
        g_uS=g,
        temperatures_C=tuple(at_C.tolist()),
        z=scores,
        activation_eV=energies,
        measured_C=tuple(measured.tolist()),
        bake_s=tuple(one_time),
        device_temperature_C=device_C,
    )


def _bakes(table: RetentionTable) -> tuple[Reads, Floats, Floats, tuple[tuple[str, int], ...]]:
    """Reads with the activation as abscissa, their temperatures, times, and what was left out."""
    assert table.temperature_C is not None
    _, cell = np.unique(table.cell, return_inverse=True)
    _, bake = np.unique(np.stack([table.temperature_C, cell], axis=1), axis=0, return_inverse=True)
    order = np.lexsort((table.t_s, bake))
    first = np.flatnonzero(np.r_[True, np.diff(bake[order]) > 0])
    last = np.r_[first[1:] - 1, len(order) - 1]
    a, b = order[first], order[last]
    pair = a != b
    counts = {
        "reads without another of the cell at the temperature": int(np.sum(~pair)),
        "reads between the first and the last of a bake": int(np.sum((last - first - 1)[pair])),
    }
    a, b = a[pair], b[pair]
    _, compact = np.unique(cell[a], return_inverse=True)
    n_cells = len(np.unique(compact))
    if n_cells < FEWEST_CELLS:
        raise UsageError(f"retention: {n_cells} cells have two reads at a temperature: needs {FEWEST_CELLS}")
    temperature = table.temperature_C[a]
    if len(np.unique(temperature)) < 2:
        raise UsageError(f"retention: pairs of reads at {temperature[0]:g} C only: needs at least two temperatures")
    left_out = table.left_out + tuple((reason, count) for reason, count in counts.items() if count)
    reads = Reads(table.g_uS[b] - table.g_uS[a], table.g_uS[a], activation(temperature), compact)
    return reads, temperature, table.t_s[b] - table.t_s[a], left_out


def _tests(z: Floats, temperature: Floats) -> tuple[Goodness, ...]:
    """The distribution of all shifts together, and mean and spread at each temperature, where cells count once."""
    parts = [z[temperature == t] for t in np.unique(temperature)]
    at = [dispersion_test(part, np.zeros(len(part))) for part in parts if len(part) >= LEAST_SPREAD]
    if not at:
        return (shape_test(z),)
    worst = min(at, key=lambda test: test.p_value)
    each = Goodness(
        test=f"chi-squared of mean and spread at the worst of {len(at)} temperatures (Bonferroni)",
        statistic=worst.statistic,
        p_value=min(1.0, len(at) * worst.p_value),
    )
    return tuple(test.evolve(level=TEST_LEVEL) for test in (shape_test(z), each))


def _activation(values: Floats, draws: Floats, nodes: Nodes, at_C: Floats) -> tuple[Parameter, ...]:
    """Slopes of ln((q95 - q5) / 3.29) over -1 / (k_B T), by least squares over the temperatures of the law."""
    x = np.log(nodes.t_s)
    shape = (len(x), len(nodes.g_uS), 1 + len(nodes.z))

    def energies(row: Floats) -> Floats:
        ends = rise(np.log(row.reshape(shape)[..., 1:]), nodes.z, [-1.645, 1.645])
        spread = np.log((ends[..., 1] - ends[..., 0]) / 3.29)  # (temperatures, conductances)
        each = (x - x.mean()) @ spread / np.sum((x - x.mean()) ** 2)
        steps = np.diff(spread.mean(axis=1)) / np.diff(x)
        return np.concatenate([[each.mean()], each, steps])

    names = ["e_spread", *(f"e_spread(g={g:.4g}uS)" for g in nodes.g_uS)]
    names += [f"e_spread({a:g} to {b:g}C)" for a, b in pairwise(at_C)]
    low, high = percentile_intervals([energies(row) for row in draws])
    return parameters(names, energies(values), low, high, ["eV"] * len(names))


def _picture(reads: Reads, temperature: Floats, z: Floats, nodes: Nodes, coefficients: Floats) -> FitPicture:
    """Shifts over temperature of cells near the median conductance, with the band there."""
    x = np.linspace(temperature.min(), temperature.max(), 60)
    low_g, middle, high_g = np.quantile(reads.g_uS, [0.45, 0.5, 0.55])
    near = (reads.g_uS >= low_g) & (reads.g_uS <= high_g)
    local = nodes.basis(np.full(len(x), middle), activation(x)) @ coefficients
    low, centre, high = (local[:, :1] + rise(local[:, 1:], nodes.z, norm.ppf([0.05, 0.5, 0.95]))).T
    data = (temperature[near], reads.shift_uS[near], z[near])
    return FitPicture.of(data, (x, centre, low, high), "temperature (C)", f"shift of cells near {middle:.3g} uS (uS)")
