"""Laws of the conductance step of a pulse over the state, in units of the measured window."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from calibration.pulse_filter import NODES, series_likelihood

Floats = NDArray[np.float64]

_X = np.linspace(0.0, 1.0, NODES)
_LOG_SD = (float(np.log(1e-6)), float(np.log(2.0)))
_CYCLE = 0.1
"""A usual `cycle_sigma`, which makes it of order one."""
_FORMS = {"constant": 1, "soft bounds": 2, "exponential": 2, "quadratic": 3, "tabulated": 6}


class Series(NamedTuple):
    """Unbroken series of one direction, padded: y and pulses (n, m), y in units of the window; lengths, ramp (n,)."""

    y: Floats
    pulses: NDArray[np.int64]
    lengths: NDArray[np.int64]
    ramp: NDArray[np.int64]

    def only(self, keep: NDArray[np.bool_]) -> Series:
        return self._replace(**{name: column[keep] for name, column in self._asdict().items()})

    @property
    def inside(self) -> NDArray[np.bool_]:
        """(n, m): values that follow another one."""
        place = np.arange(self.y.shape[1])
        return (place > 0) & (place < self.lengths[:, None])

    @classmethod
    def of(cls, y: Floats, pulses: NDArray[np.int64], ramp: NDArray[np.int64], series: NDArray[np.int64]) -> Series:
        """From values in the order of their series and pulses; `series` numbers those from 0."""
        counts = np.bincount(series)
        at = (series, np.arange(len(series)) - np.repeat(np.cumsum(counts) - counts, counts))
        shape = (len(counts), int(counts.max()))
        padded, numbers = np.zeros(shape), np.zeros(shape, np.int64)
        padded[at], numbers[at] = y, pulses
        return cls(padded, numbers, counts.astype(np.int64), ramp[np.cumsum(counts) - counts])


class Filtered(NamedTuple):
    """Log likelihood of each value given those before it [nat], prediction errors and their variances (n, m)."""

    likelihood: Floats
    errors: Floats
    variances: Floats


@dataclass(frozen=True)
class StepLaw:
    """Mean step f(x) and its spread s(x) of one pulse at state x (0 to 1 over the window).

    form       constant: f = a; soft bounds: linear from f(0) to f(1), so it vanishes at a bound that the state nears;
               exponential: f = f(0) exp(ln(f(1) / f(0)) x); quadratic: through f(0), f(1/2), f(1); tabulated: linear
               between six values
    relative   whether the spread is a part of |f| instead of one number
    ramps      among which the steps differ by a factor u = 1 + cycle_sigma z; 0: by none
    """

    form: str
    relative: bool
    ramps: int = 0

    @classmethod
    def named(cls, name: str, ramps: int = 0) -> StepLaw:
        form, _, spread = name.partition(", ")
        return cls(form, spread == "relative spread", ramps)

    @property
    def name(self) -> str:
        return f"{self.form}, {'relative' if self.relative else 'constant'} spread"

    @property
    def knots(self) -> Floats:
        return np.linspace(0.0, 1.0, _FORMS[self.form]) if self.form != "constant" else np.array([0.5])

    @property
    def names(self) -> tuple[str, ...]:
        places = [f"step_at_{x:.2g}" for x in self.knots] if self.form != "constant" else ["step"]
        cycle = ("cycle_sigma",) if self.ramps else ()
        return (*places, "spread_relative" if self.relative else "spread", "read_noise", *cycle)

    @property
    def bounds(self) -> list[tuple[float, float]]:
        free = (-np.inf, np.inf)  # of the factor as well: its sign says nothing, and a search passes through nought
        return [*[free] * len(self.knots), _LOG_SD, _LOG_SD, *([free] if self.ramps else [])]

    def natural(self, theta: Floats, unit: float, width: float) -> Floats:
        """Parameters as they are reported, from theta of shape (..., p); width: of the window [uS].

        cycle_sigma is sqrt(k / (k - 1)) times that of the likelihood, because f takes a degree of freedom of k ramps.
        """
        n = len(self.knots)
        values = np.array(theta, float)
        values[..., n : n + 2] = np.exp(values[..., n : n + 2])
        values[..., n + 2 :] = np.abs(values[..., n + 2 :])
        return np.asarray(values * self._scale(unit, width))

    def theta(self, values: Floats, unit: float, width: float) -> Floats:
        """The inverse of `natural`."""
        n = len(self.knots)
        theta = values / self._scale(unit, width)
        theta[n : n + 2] = np.log(theta[n : n + 2])
        return theta

    def _scale(self, unit: float, width: float) -> Floats:
        cycle = [_CYCLE * np.sqrt(self.ramps / (self.ramps - 1))] if self.ramps else []
        return np.array([*[unit * width] * len(self.knots), 1.0 if self.relative else width, width, *cycle])

    def start(self, series: Series, unit: float) -> Floats:
        """A constant step, and its noise shared between spread and reads; steps are in `unit`, the mean |step|."""
        steps, number = np.diff(series.y, axis=1), np.diff(series.pulses, axis=1)
        inside = series.inside[:, 1:]
        mean = steps[inside].sum() / number[inside].sum()
        noise = np.std(steps[inside] - mean * number[inside]) / np.sqrt(2)
        places = np.full(len(self.knots), mean / unit)
        log_noise = float(np.clip(np.log(max(noise, 1e-6)), -12.0, 0.5))
        spread = log_noise - np.log(max(abs(mean), 1e-6)) if self.relative else log_noise
        return np.array([*places, np.clip(spread, *_LOG_SD), log_noise, *([0.5] if self.ramps else [])])

    def step(self, theta: Floats, x: Floats, unit: float) -> Floats:
        """Mean step at states x, in units of the window."""
        own = theta[: len(self.knots)] * unit
        if self.form == "exponential":
            if own[0] * own[1] <= 0:  # no exponential has a zero: take the line, whose likelihood is as bad
                return own[0] + (own[1] - own[0]) * x
            return np.asarray(own[0] * (own[1] / own[0]) ** x)
        if self.form == "quadratic":
            return np.asarray(
                own[0] * (1 - x) * (1 - 2 * x) + 4 * own[1] * x * (1 - x) + own[2] * x * (2 * x - 1), float
            )
        return np.asarray(np.interp(x, self.knots, own))

    def spread(self, theta: Floats, x: Floats, unit: float) -> Floats:
        """S.d. of a step at states x, in units of the window."""
        sd = np.exp(theta[len(self.knots)])
        return sd * np.abs(self.step(theta, x, unit)) if self.relative else np.full_like(x, sd)

    def filtered(self, theta: Floats, series: Series, unit: float) -> Filtered:
        out = Filtered(np.zeros_like(series.y), np.zeros_like(series.y), np.ones_like(series.y))
        series_likelihood(
            series.y, series.pulses, series.lengths, series.ramp,
            self.step(theta, _X, unit), self.spread(theta, _X, unit), float(np.exp(theta[len(self.knots) + 1])),
            _CYCLE * float(theta[-1]) if self.ramps else 0.0, *out,
        )  # fmt: skip
        return out


def candidates(ramps: int = 0) -> list[StepLaw]:
    """The laws to rank; ramps: as of `StepLaw`."""
    forms = [*((form, False) for form in _FORMS), ("soft bounds", True), ("tabulated", True)]
    return [StepLaw(form, relative, ramps) for form, relative in forms]
