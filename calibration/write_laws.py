"""Laws of how many attempts a write with verification takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr

Floats = NDArray[np.float64]

_LOWEST = 1e-12
_RATE = (float(np.log(1e-7)), float(np.log(1e3)))
_SPREAD = (float(np.log(1e-3)), float(np.log(30.0)))


class Writes(NamedTuple):
    """Writes on dimensionless scales, all (n,).

    log_window   logarithm of the half window over its geometric mean
    place        conductance from -1 to 1 over those measured
    limit        most attempts; used: attempts that were made, 0 where not known; accepted: whether one succeeded
    """

    log_window: Floats
    place: Floats
    limit: Floats
    used: Floats
    accepted: NDArray[np.bool_]

    def only(self, keep: NDArray[np.bool_]) -> Writes:
        return self._replace(**{name: column[keep] for name, column in self._asdict().items()})


@dataclass(frozen=True)
class AttemptLaw:
    """Independent attempts that succeed with the same chance each, or with chances that differ among writes.

    kind      "geometric": rate = exp(ln rate_0 + window_exponent log_window + polynomial in place)
              "redraw": an attempt draws the conductance anew with s.d. sigma; it succeeds where |error| < half window
    degree    of the polynomial in place of ln rate or ln sigma
    mixed     rates differ among writes by a factor from a gamma distribution of mean 1 and variance theta, so that
              after many attempts the hard ones are left (beta-geometric law)
    """

    kind: str
    degree: int
    mixed: bool

    @classmethod
    def named(cls, name: str) -> AttemptLaw:
        kind, degree, *rest = name.split(", ")
        return cls(kind, int(degree.removeprefix("degree ")), bool(rest))

    @property
    def name(self) -> str:
        return f"{self.kind}, degree {self.degree}" + (", mixed" if self.mixed else "")

    @property
    def names(self) -> tuple[str, ...]:
        first = ("rate", "window_exponent") if self.kind == "geometric" else ("sigma_over_window",)
        places = tuple(f"place_{k}" for k in range(1, self.degree + 1))
        return (*first, *places, "theta") if self.mixed else (*first, *places)

    @property
    def bounds(self) -> list[tuple[float, float]]:
        kinds = {"rate": _RATE, "sigma_over_window": (-8.0, 20.0), "theta": _SPREAD}
        return [kinds.get(name, (-40.0, 40.0)) for name in self.names]

    def start(self) -> Floats:
        guesses = {"rate": -2.0, "window_exponent": 1.0, "sigma_over_window": 1.5, "theta": -1.0}
        return np.array([guesses.get(name, 0.0) for name in self.names])

    def to_values(self, theta: Floats) -> Floats:
        """Parameters from theta (..., p): rate, sigma_over_window and theta are logarithms there."""
        values = np.array(theta, float)
        for i, name in enumerate(self.names):
            if name in ("rate", "sigma_over_window", "theta"):
                values[..., i] = np.exp(values[..., i])
        return values

    def from_values(self, values: Floats) -> Floats:
        theta = np.array(values, float)
        for i, name in enumerate(self.names):
            if name in ("rate", "sigma_over_window", "theta"):
                theta[i] = np.log(theta[i])
        return theta

    def log_survival(self, theta: Floats, writes: Writes, attempts: Floats) -> Floats:
        """Log chance that a write has not succeeded after `attempts`."""
        first = 2 if self.kind == "geometric" else 1
        bend = sum(theta[first + k] * writes.place ** (k + 1) for k in range(self.degree))
        if self.kind == "geometric":
            hazard = np.exp(np.clip(theta[0] + theta[1] * writes.log_window + bend, -40.0, 20.0))
        else:  # -ln P(|z| > window / sigma)
            ratio = np.exp(np.clip(writes.log_window - theta[0] - bend, -30.0, 4.0))
            hazard = -np.log(2) - log_ndtr(-ratio)
        total = np.maximum(hazard, _LOWEST) * attempts
        if self.mixed:
            spread = np.exp(theta[-1])
            return np.asarray(-np.log1p(spread * total) / spread)
        return np.asarray(-total)

    def success(self, theta: Floats, writes: Writes) -> Floats:
        """Chance that a write succeeds within its limit."""
        return -np.expm1(self.log_survival(theta, writes, writes.limit))

    def log_likelihood(self, theta: Floats, writes: Writes) -> Floats:
        """Of each write [nat]: success or not, and after how many attempts where that is known."""
        known = writes.used > 0
        after = np.where(known, writes.used, writes.limit)
        last = self.log_survival(theta, writes, after)
        before = np.where(known, self.log_survival(theta, writes, after - 1), 0.0)
        with np.errstate(divide="ignore"):
            won = before + np.log(np.maximum(-np.expm1(last - before), 1e-300))
        return np.where(writes.accepted, won, last)


def candidates() -> list[AttemptLaw]:
    """Plainest first."""
    return [AttemptLaw(kind, d, mixed) for d in range(3) for kind in ("redraw", "geometric") for mixed in (False, True)]
