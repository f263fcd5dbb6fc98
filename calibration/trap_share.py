"""Read noise beside telegraph noise: what of the measured variance the traps of a device already bring."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from calibration.fit import Fit, build_device
from calibration.read_noise import ReadNoiseFit
from device_models.effects.telegraph import TelegraphNoise
from device_models.tabulated import Tabulated

Floats = NDArray[np.float64]

TAUS = 33
"""Correlation times that stand for the log-uniform law of a device."""


class WithoutTraps(NamedTuple):
    """device: with the traps' variance taken off its read noise; share (m,): of the variance at each conductance of the
    table that the traps bring, above 1 where they alone have more than was measured."""

    device: Tabulated
    share: Floats


def band_variance(traps: TelegraphNoise, fs_Hz: float, duration_s: float) -> float:
    """Variance of sampled traps from 1 / duration to fs / 2, in units of amplitude^2 [1].

    Equation   n p_trap p (1 - p) (1 - 2 / pi atan((1 + r) / (1 - r) tan(pi / N))), r = exp(-1 / (fs tau)), N = fs T:
               the integral of the Lorentzian as it is sampled; mean over log-uniform tau
    """
    edges = np.linspace(np.log(traps.tau_min_s), np.log(traps.tau_max_s), TAUS + 1)
    tau = np.exp((edges[1:] + edges[:-1]) / 2)
    steepness = 1 / np.tanh(0.5 / (fs_Hz * tau))  # (1 + r) / (1 - r)
    below = 2 / np.pi * np.arctan(steepness * np.tan(np.pi / (fs_Hz * duration_s)))
    return float(traps.variance() * np.mean(1 - below))


def traps_apart(fits: Sequence[Fit], device: Tabulated) -> WithoutTraps | None:
    """A device of these fits whose read noise and traps together have the variance that was measured of both.

    Equation   read variance - amplitude^2 `band_variance` at every conductance of the table, at least 0; of 1/f noise
               first, and of white noise what 1/f noise does not have, because traps are slower than a read
    Returns    none where the device has no traps or no read noise of the same trace, so nothing counts twice
    """
    fit = next((fit for fit in fits if isinstance(fit, ReadNoiseFit)), None)
    if fit is None or device.telegraph is None or device.read is None:
        return None
    g, read = np.asarray(device.g_uS, float), device.read
    rows = {name: np.array(row) for name, row in read.rows.items()}
    slow, fast = rows.get("q_s", 0 * g) ** 2 * fit.log_band, rows.get("white", rows.get("relative", 0 * g)) ** 2
    in_band = device.telegraph.amplitude.delta_uS(g, device.g_max_uS) ** 2
    in_band *= band_variance(device.telegraph, fit.fs_Hz, fit.duration_s)
    with np.errstate(divide="ignore", invalid="ignore"):
        own = in_band / g**2
        share = np.where(slow + fast > 0, own / (slow + fast), np.inf)
        kept_slow = np.sqrt(np.where(slow > 0, 1 - own / slow, 0.0).clip(0.0))
        kept_fast = np.sqrt(np.where(fast > 0, 1 - (own - slow).clip(0.0) / fast, 0.0).clip(0.0))
    left = {name: (row * (kept_slow if name == "q_s" else kept_fast)).tolist() for name, row in rows.items()}
    given = {name: getattr(device, name) for name in device.model_fields_set}
    lowered = {**dict(read), **{name: tuple(row) for name, row in left.items()}}
    return WithoutTraps(Tabulated(**{**given, "read": lowered}), share)


def with_trap_warning(fits: Sequence[Fit]) -> tuple[Fit, ...]:
    """The fits; read noise says what of it the device has as telegraph noise."""
    apart = traps_apart(fits, build_device(fits))
    if apart is None:
        return tuple(fits)
    top, over = min(float(apart.share[-1]), 1.0), int(np.sum(apart.share > 1))
    text = f"in a device with telegraph noise its variance, {100 * top:.0f} % at the top, is taken off the read noise"
    if over:
        text += f"; at {over} of {len(apart.share)} conductances the traps alone have more than was measured"
    return tuple(replace(fit, warnings=(*fit.warnings, text)) if isinstance(fit, ReadNoiseFit) else fit for fit in fits)
