"""Conductance steps of equal pulses: how far and how surely each moves a device up or down, over its state."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq

from calibration.fit import Candidate, Fit, Goodness, Provenance
from calibration.goodness import dispersion_test, shape_test
from calibration.maximum import estimate, maximise
from calibration.picture import FitPicture
from calibration.pulse_laws import Series, StepLaw, candidates
from calibration.selection import Law, Mask, rank_laws
from calibration.tables import PulseTable
from device_models.errors import UsageError, nearest
from device_models.fit_record import Parameter

Floats = NDArray[np.float64]

_LEAST_PULSES = 20
_JUMP = 20.0
"""A step that is this many times as far from the median step as nine in ten are is a jump: another conductance path,
a lost contact, a new ramp under an old number."""
_FEW_RAMPS = 10
_LEAST_RAMPS = 5
"""Fewer do not tell how much ramps differ."""
_BLOCKS = 20


@dataclass(frozen=True, eq=False, kw_only=True)
class PulseFit(Fit):
    """Steps of up and down pulses.

    Equation   x <- x + u f(x) + s(x) z for each pulse, read as x + read_noise z'; f, s as of the law of each direction
               (calibration.pulse_laws.StepLaw), x = (g - low) / (high - low) over `window_uS`; u = 1 + cycle_sigma z"
               of each ramp, part of the state of the filter
    Parameters up_step_at_0 ... f at states from 0 to 1 of the window [uS]; up_spread [uS] or up_spread_relative [1];
               up_read_noise [uS]; up_cycle_sigma: relative s.d. from ramp to ramp of the step [1], with five ramps
               or more; down_... likewise
    Valid      within the window; states were filtered, so noise of the reads does not pass for steps
    A chip takes its programming as a whole; `step` and `spread` tell what one pulse does. The conductances may have
    any origin: steps over state do not depend on it.
    """

    models: tuple[tuple[str, str], ...]
    unit: tuple[float, ...]

    def device_parts(self, g_uS: Floats, values: Floats | None = None) -> dict[str, Any]:
        raise UsageError(
            "pulses: no device here is programmed pulse by pulse; step and spread tell what one pulse does"
        )

    def step(self, direction: str, g_uS: ArrayLike) -> Floats:
        """Mean step of one pulse at these conductances [uS]."""
        law, theta, unit, width = self._of(direction)
        return law.step(theta, self._state(g_uS), unit) * width

    def spread(self, direction: str, g_uS: ArrayLike) -> Floats:
        """S.d. of the step of one pulse at these conductances [uS]."""
        law, theta, unit, width = self._of(direction)
        return law.spread(theta, self._state(g_uS), unit) * width

    def symmetry_point_uS(self) -> float | None:
        """Conductance at which an up and a down pulse cancel; none where there is none in the window."""
        low, high = self._window()

        def net(g: float) -> float:
            return float(sum(self.step(direction, g) for direction in ("up", "down")))

        grid = np.linspace(low, high, 201)
        nets = np.array([net(g) for g in grid])
        change = np.flatnonzero(np.sign(nets[:-1]) * np.sign(nets[1:]) <= 0)
        return float(brentq(net, grid[change[0]], grid[change[0] + 1])) if len(change) else None

    def _window(self) -> tuple[float, float]:
        assert self.window_uS is not None  # every fit of pulses has one
        return self.window_uS

    def _state(self, g_uS: ArrayLike) -> Floats:
        low, high = self._window()
        x = (np.asarray(g_uS, float) - low) / (high - low)
        if not np.all((x >= -1e-9) & (x <= 1 + 1e-9)):
            raise UsageError(f"g_uS: must be from {low:g} to {high:g} uS, where pulses were measured")
        return x

    def _of(self, direction: str) -> tuple[StepLaw, Floats, float, float]:
        models = dict(self.models)
        if direction not in models:
            raise UsageError(f"direction = {direction!r}: must be one of {', '.join(models)}")
        law, width = StepLaw.named(models[direction]), float(np.diff(self._window())[0])
        unit = self.unit[list(models).index(direction)]
        own = np.array([self.value(f"{direction}_{name}") for name in law.names])
        return law, law.theta(own, unit, width), unit, width


class _Direction(NamedTuple):
    law: StepLaw
    parameters: tuple[Parameter, ...]
    draws: Floats
    unit: float
    scores: Floats
    place: Floats
    errors: Floats
    jumps: int
    candidates: tuple[Candidate, ...]
    warnings: tuple[str, ...]


def fit_pulses(table: PulseTable, *, seed: int = 0, model: str | None = None, rank: bool = True) -> PulseFit:
    """Fit the steps of the directions in the table.

    Arguments  model: a law's name for both directions, e.g. "soft bounds, constant spread", instead of the ranking;
               rank=False takes "tabulated, constant spread"
    Errors     UsageError: fewer than 20 steps in a direction; conductances that never change
    """
    low, high = float(np.min(table.g_uS)), float(np.max(table.g_uS))
    if not low < high:
        raise UsageError(f"g_uS = {low:g} throughout: pulses that change nothing cannot be fitted")
    laws = {law.name: law for law in candidates()}
    if model is not None and model not in laws:
        raise UsageError(f"model = {model!r}: must be one of {', '.join(laws)}{nearest(model, laws)}")
    only = model or (None if rank else "tabulated, constant spread")
    found = {
        direction: _fit_direction(direction, table, (low, high), only, seed)
        for direction in ("up", "down")
        if np.any(table.direction == direction)
    }
    missing = tuple(f"{d}: no pulses in this direction" for d in ("up", "down") if d not in found)
    parts = list(found.values())
    left_out = [*table.left_out, *((f"jumps {d}", part.jumps) for d, part in found.items() if part.jumps)]
    return PulseFit(
        quantity="pulses",
        model="; ".join(f"{direction}: {part.law.name}" for direction, part in found.items()),
        parameters=tuple(p for part in parts for p in part.parameters),
        intervals="asymptotic normal" + (", robust to ramps that differ" if _robust(table) else ""),
        goodness=_tests(found),
        candidates=tuple(c for part in parts for c in part.candidates),
        warnings=(*missing, *(text for part in parts for text in part.warnings)),
        provenance=Provenance.of(table.source, len(table.g_uS), left_out),
        draws=np.hstack([part.draws for part in parts]),
        picture=_picture(found, (low, high)),
        window_uS=(low, high),
        models=tuple((direction, part.law.name) for direction, part in found.items()),
        unit=tuple(part.unit for part in parts),
    )


def _robust(table: PulseTable) -> bool:
    return len(np.unique(table.ramp)) >= _FEW_RAMPS


def _series(table: PulseTable, direction: str, window: tuple[float, float]) -> tuple[Series, int]:
    """Ramps of one direction, cut where the conductance jumps; and the number of jumps."""
    keep = np.flatnonzero(table.direction == direction)
    order = keep[np.lexsort((table.pulse[keep], table.ramp[keep]))]
    y = (table.g_uS[order] - window[0]) / (window[1] - window[0])
    pulse, ramp = table.pulse[order], table.ramp[order]
    new = np.r_[True, np.diff(ramp) != 0]
    rate = np.r_[0.0, np.diff(y)] / np.maximum(np.r_[1, np.diff(pulse)], 1)
    steps = int(np.sum(~new))
    if steps < _LEAST_PULSES:
        raise UsageError(f"pulse: {steps} steps {direction}: must be at least {_LEAST_PULSES}")
    middle = np.median(rate[~new])
    reach = np.quantile(np.abs(rate[~new] - middle), 0.9)
    jump = ~new & (np.abs(rate - middle) > _JUMP * max(reach, 1e-9))
    return Series.of(y, pulse, ramp, np.cumsum(new | jump) - 1), int(jump.sum())


def _blocks(series: Series) -> NDArray[np.int64]:
    """(n, m): pieces of series, to be left out one at a time where there are too few ramps for that."""
    size = max(10, int(series.inside.sum()) // _BLOCKS)
    place = np.arange(series.y.shape[1]) // size
    return np.arange(len(series.y))[:, None] * (place.max() + 1) + place


def _fit_direction(
    direction: str, table: PulseTable, window: tuple[float, float], only: str | None, seed: int
) -> _Direction:
    series, jumps = _series(table, direction, window)
    width, inside = window[1] - window[0], series.inside
    unit = max(float(np.abs(np.mean(np.diff(series.y, axis=1)[inside[:, 1:]]))), 1e-6)
    ramps = len(np.unique(series.ramp))
    many, differ = ramps >= _FEW_RAMPS, ramps if ramps >= _LEAST_RAMPS else 0
    ranked: tuple[Candidate, ...] = ()
    warnings = (f"{direction}: {jumps} jumps far beyond all other steps were cut out",) if jumps else ()
    if only is None:
        cells = np.broadcast_to(series.ramp[:, None], inside.shape) if many else _blocks(series)
        laws = [_candidate(law, series, unit) for law in candidates(differ)]
        ranking = rank_laws(laws, cells[inside], seed=seed)
        ranked = tuple(c.evolve(model=f"{direction}: {c.model}") for c in ranking.candidates)
        only, warnings = ranking.chosen, (*warnings, *ranking.warnings)
    law = StepLaw.named(only, differ)
    clusters = np.broadcast_to(series.ramp[:, None], inside.shape)[inside] if many else None
    likelihood, bounds, cycle = _likelihood(law, series, unit), law.bounds, range(len(law.knots) + 2, len(law.names))
    start = estimate(likelihood, law.start(series, unit), bounds)
    for i in cycle:
        start[i], bounds[i] = abs(start[i]), (0.0, np.inf)
    found = maximise(likelihood, start, bounds, clusters, profiled=cycle)
    names = [f"{direction}_{name}" for name in law.names]
    units = ["1" if "relative" in name or "cycle" in name else "uS" for name in law.names]
    own, draws = found.reported(names, units, lambda theta: law.natural(theta, unit, width), seed)
    filtered = law.filtered(found.values, series, unit)
    notes = found.warnings(names)
    if not differ:
        notes += (f"{direction}_cycle_sigma: not identified by {ramps} ramps",)
    z = (filtered.errors / np.sqrt(filtered.variances))[inside]
    # the state before the read: the read itself shares its noise with the error
    predicted = (series.y - filtered.errors)[inside]
    return _Direction(law, own, draws, unit, z, predicted, filtered.errors[inside], jumps, ranked, (*warnings, *notes))


def _likelihood(law: StepLaw, series: Series, unit: float) -> Callable[[Floats], Floats]:
    inside = series.inside
    return lambda theta: law.filtered(theta, series, unit).likelihood[inside]


def _candidate(law: StepLaw, series: Series, unit: float) -> Law:
    """Values that are left out still tell the filter where the state is, but not the law's parameters."""
    likelihood = _likelihood(law, series, unit)
    start = estimate(likelihood, law.start(series, unit), law.bounds)

    def held_out(train: Mask, test: Mask) -> Floats:
        theta = estimate(lambda theta: likelihood(theta)[train], start, law.bounds)
        return likelihood(theta)[test]

    return Law(law.name, len(law.names), held_out)


def _tests(found: dict[str, _Direction]) -> tuple[Goodness, ...]:
    tests = []
    for direction, part in found.items():
        for test in (
            shape_test(part.scores),
            dispersion_test(part.scores, part.place, len(part.law.names), name="state"),
        ):
            level = 0.05 / (2 * len(found))  # so that all of them together reject the true law in 5 %
            tests.append(test.evolve(test=f"{direction}: {test.test}", level=level))
    return tuple(tests)


def _picture(found: dict[str, _Direction], window: tuple[float, float]) -> FitPicture:
    """Steps beyond the filtered state, of the first direction; the band has the s.d. of step and read."""
    (direction, part), *_ = found.items()
    low, width = window[0], window[1] - window[0]
    x = part.place
    law = part.law
    theta = law.theta(np.array([p.value for p in part.parameters]), part.unit, width)
    grid = np.linspace(x.min(), x.max(), 101)
    centre = law.step(theta, grid, part.unit)
    half = 1.645 * np.std(part.errors) * np.ones_like(grid)
    steps = law.step(theta, x, part.unit) + part.errors
    data = (low + width * x, width * steps, part.scores)
    band = (low + width * grid, width * centre, width * (centre - half), width * (centre + half))
    return FitPicture.of(data, band, "conductance [uS]", f"step of {direction} pulses [uS]")
