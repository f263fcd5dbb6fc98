"""How much the step of a pulse differs from ramp to ramp."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.pulse_laws import Series, StepLaw
from device_models.fit_record import Parameter

Floats = NDArray[np.float64]


def cycle_sigma(
    direction: str, law: StepLaw, theta: Floats, series: Series, unit: float, seed: int, n: int
) -> tuple[Parameter, Floats]:
    """Relative s.d. of the step from ramp to ramp, its own noise taken off; interval by bootstrap over ramps.

    Each ramp's factor on f comes from one scoring step of its likelihood; R. DerSimonian and N. Laird, Control. Clin.
    Trials 7, 177 (1986) for the s.d.
    """
    h, k = 1e-3, len(law.knots)
    _, ramp = np.unique(series.ramp, return_inverse=True)

    def scaled(factor: float) -> Any:
        moved = theta.copy()
        moved[:k] *= factor
        if law.relative:  # the spread must not move with the step
            moved[-2] -= np.log(factor)
        return np.bincount(ramp, weights=law.filtered(moved, series, unit).likelihood.sum(axis=1))

    up, middle, down = scaled(1 + h), scaled(1.0), scaled(1 - h)
    information = np.maximum(-(up - 2 * middle + down) / h**2, 1e-12)
    deviation = (up - down) / (2 * h) / information

    def sigma(rows: NDArray[np.int64]) -> float:
        d, w = deviation[rows], information[rows]
        excess = np.sum(w * (d - np.average(d, weights=w)) ** 2) - (len(d) - 1)
        return float(np.sqrt(max(excess, 0.0) / (w.sum() - np.sum(w**2) / w.sum())))

    rng = np.random.default_rng(seed)
    m = len(deviation)
    draws = np.array([sigma(rng.integers(0, m, m)) for _ in range(n)])
    value = sigma(np.arange(m))
    low, high = np.quantile(draws, [0.05, 0.95])
    ends = {"low": min(float(low), value), "high": max(float(high), value)}
    return Parameter(name=f"{direction}_cycle_sigma", value=value, unit="1", **ends), draws
