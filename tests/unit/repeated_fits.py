"""Every fitter on simulated tables of known parameters: with the law they were drawn from, and with one that is wrong.

tests/benchmarks/fit_coverage.py repeats these fits many times.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import repeated_tables as tables
import test_calibration_converters as converters
import test_calibration_drift as drift
import test_calibration_iv as iv
import test_calibration_mvm as mvm
import test_calibration_programming as programming
import test_calibration_pulses as pulses
import test_calibration_relaxation as relaxation
import test_calibration_retention as retention
import test_calibration_stuck as stuck
import test_calibration_telegraph as telegraph
import test_calibration_threshold as threshold
import test_calibration_write_verify as write_verify
from repeated_tables import CELLS

import calibration as c
from device_models.relaxation import RelaxationTable


class Repeat(NamedTuple):
    """Parameters with intervals, their true values by name, and whether a test rejected the law; none where nothing is
    tested."""

    parameters: tuple[c.Parameter, ...]
    truth: dict[str, float]
    rejected: bool | None


class Case(NamedTuple):
    """fitter: its public name; size: what one table holds; right(seed): the right law; wrong(seed): whether the wrong
    one was rejected, none where nothing is tested."""

    fitter: str
    law: str
    size: str
    right: Callable[[int], Repeat]
    wrong_law: str = ""
    wrong: Callable[[int], bool] | None = None


def rejected(fit: c.Fit) -> bool:
    return any(test.rejected for test in fit.goodness)


def repeat(fit: c.Fit, truth: dict[str, float] | Iterable[float]) -> Repeat:
    """True values by name, or in the order of the first parameters."""
    if not isinstance(truth, dict):
        truth = dict(zip((p.name for p in fit.parameters), map(float, truth), strict=False))
    return Repeat(fit.parameters, truth, rejected(fit))


def _drift(table: c.RetentionTable, model: str, truth: Iterable[float], t0_s: float | None = 20.0) -> Repeat:
    clock = () if t0_s else (20.0,)
    return repeat(c.fit_drift(table, t0_s=t0_s, g_max_uS=25.0, model=model), [*truth, 0.01, 0.0, *clock])


def _drift_rejected(table: c.RetentionTable, model: str, t0_s: float = 20.0) -> bool:
    return rejected(c.fit_drift(table, t0_s=t0_s, g_max_uS=25.0, model=model))


def _spline(seed: int) -> Repeat:
    """A line, which a spline can be."""
    fit = c.fit_drift(tables.drifting(seed, tables.line), t0_s=20.0, g_max_uS=25.0, model="spline")
    return repeat(fit, [*np.concatenate(tables.line(np.array(fit.knots))), 0.01, 0.0])


def _statistics(seed: int, model: str) -> Repeat:
    fit = c.fit_drift(tables.drift_statistics(seed, tables.line), t0_s=20.0, g_max_uS=25.0, model=model)
    return repeat(fit, [*tables.LINE.values(), 0.002, 0.001])


def _relaxation(law: RelaxationTable, model: str, seed: int) -> Repeat:
    fit = c.fit_relaxation(tables.relaxed(law, seed), model=model)
    return repeat(fit, relaxation._truth(law, fit))


def _retention(seed: int) -> Repeat:
    fit = c.fit_retention(retention._bakes(0.2, (100.0, 150.0, 200.0), CELLS, seed), model="Arrhenius")
    return Repeat(fit.activation_eV, {p.name: 0.2 for p in fit.activation_eV}, rejected(fit))


def _quadratic(seed: int) -> Repeat:
    g, a2, a3, _ = iv.parabolas(seed, CELLS)
    fit = c.fit_iv(iv.table(g, a2, a3, seed), model="quadratic, degree 1")
    return repeat(fit, [*(0.8 - 0.6 * (fit.nodes_uS - 10) / 90), 0.1, 0.1, 0.5, 0.05, 0.1])


def _cubic(seed: int, tail_nu: float | None = None) -> Repeat:
    tails, own = (", heavy tails", [tail_nu]) if tail_nu else ("", [])
    fit = c.fit_iv(iv.cubics(seed, tail_nu), model=f"cubic, degree 2{tails}")
    k2_sigma, k3_mean, k3_sigma = (iv.CUBIC[name] for name in ("k2_sigma", "k3_mean", "k3_sigma"))
    means = iv.cubic_mean(fit.nodes_uS)
    return repeat(fit, [*means, *[k2_sigma] * 3, k3_mean, k3_sigma, *own, 0.5, 0.05, 0.02])


def _threshold(law: str, model: str, seed: int) -> Repeat:
    fit = c.fit_threshold(tables.thresholds(seed, law), model=model)
    return repeat(fit, [*threshold.MEANS[law], threshold.SIGMA_V, threshold.GROWTH, threshold.WITHIN])


def _telegraph(trace: c.ReadTrace, **truth: float) -> Repeat:
    dwells = {"dwell_low_s": telegraph.LOW_S, "dwell_high_s": telegraph.HIGH_S}
    return repeat(c.fit_telegraph(trace), {"amplitude_uS": telegraph.AMPLITUDE_US, **dwells, **truth})


def _pulses(seed: int, cycle: float = 0.0) -> Repeat:
    """A spread of cycles that is nought lies at the end of its interval, so that is left out."""
    fit = c.fit_pulses(pulses.ramps(seed, cycle=cycle), model="soft bounds, constant spread")
    found = repeat(fit, pulses.truth(fit))
    known = {name: value for name, value in found.truth.items() if "cycle" not in name}
    return found._replace(truth=known | ({f"{d}_cycle_sigma": cycle for d in ("up", "down")} if cycle else {}))


def _writes(seed: int, model: str, count: bool = False) -> c.Fit:
    table = write_verify.writes(seed, CELLS * 20, write_verify.THETA, count)
    return c.fit_write_verify(table, model=model)


def _write_verify(seed: int, count: bool = False) -> Repeat:
    w = write_verify
    truth = [w.RATE, w.EXPONENT, w.SLOPE, w.THETA, 0.0, 1 / np.sqrt(3)]
    return repeat(_writes(seed, "geometric, degree 1, mixed", count), truth)


def _ramp(seed: int) -> Repeat:
    table, errors = converters.ramp(seed, n=CELLS * 20, **tables.CONVERTER)
    return repeat(c.fit_converter(table, lsb=converters.LSB, bound=converters.BOUND), tables.static(errors))


def _histogram(seed: int) -> Repeat:
    table, truth = tables.histogram(seed)
    own = {"stimulus": "sine", "low": -tables.SINE, "high": tables.SINE}
    return repeat(c.fit_converter(table, lsb=converters.LSB, bound=converters.BOUND, **own), truth)


def _mvm(seed: int, model: str) -> Repeat:
    truth = {"gain_mean": 1.0, "gain_sd": 0.05, "offset_mean": 0.0, "offset_sd": 0.1, "weight_error": 0.02}
    fit = c.fit_mvm(mvm.chip(seed, n=CELLS, noise=(0.2, 0.15, 0.0))[0], model=model)
    return repeat(fit, {**truth, "noise_abs": 0.2, "noise_input": 0.15})


def _stuck(seed: int, rates: tuple[float, float, float], tail: float | None = None) -> Repeat:
    table, _ = stuck.writes(seed, CELLS * 20, rates, tail=tail)
    return repeat(c.fit_stuck(table, g_min_uS=0.0, g_max_uS=25.0), [*rates, 1 - sum(rates)])


def _read(seed: int) -> Repeat:
    return repeat(c.fit_read_noise(tables.reads(seed), model="1/f^a + white", seed=seed), [1e-5, 1.0, 2e-7])


def _trap(seed: int) -> Repeat:
    fit = c.fit_read_noise(tables.reads_with_trap(seed), model="1/f^a + white + 1 trap", seed=seed)
    return repeat(fit, [1e-5, 1.0, 2e-7, *tables.TRAP.values()])


_ALL = [
    Case(
        "fit_programming", "sigma quadratic", "4096 writes",
        lambda s: repeat(c.fit_programming(programming.measured(s), sigma="quadratic"), programming.TRUE_uS),
        "sigma linear", lambda s: rejected(c.fit_programming(programming.measured(s), sigma="linear")),
    ),
    Case(
        "fit_programming", "statistics, quadratic", "16 targets of 512 cells",
        lambda s: repeat(c.fit_programming(tables.programming_statistics(s), sigma="quadratic"), programming.SIGMA_uS),
        "sigma constant", lambda s: rejected(c.fit_programming(tables.programming_statistics(s), sigma="constant")),
    ),
    Case(
        "fit_drift", "constant", "512 x 20",
        lambda s: _drift(drift.drifting(s, 0.05, 0.012), "constant", [0.05, 0.012]),
        "constant, where nu falls with g", lambda s: _drift_rejected(drift.drifting(s), "constant"),
    ),
    Case(
        "fit_drift", "constant, t0 fitted", "512 x 20",
        lambda s: _drift(drift.drifting(s, 0.05, 0.012, np.geomspace(1, 1e5, 20)), "constant", [0.05, 0.012], None),
        "t0 of 100 s instead of 20 s",
        lambda s: _drift_rejected(drift.drifting(s, 0.05, 0.012, np.geomspace(1, 1e5, 20)), "constant", 100.0),
    ),
    Case(
        "fit_drift", "linear in ln g", "512 x 20",
        lambda s: _drift(tables.drifting(s, tables.line), "linear in ln g", tables.LINE.values()),
        "linear, where there are knees", lambda s: _drift_rejected(drift.drifting(s), "linear in ln g"),
    ),
    Case(
        "fit_drift", "clipped log", "512 x 20",
        lambda s: _drift(tables.drifting(s, tables.kinked), "clipped log", tables.KINKED.values()),
        "clipped log, where cells relax in ln t", lambda s: _drift_rejected(tables.wandering(s), "clipped log"),
    ),
    Case(
        "fit_drift", "spline", "512 x 20", _spline,
        "spline, where cells relax in ln t", lambda s: _drift_rejected(tables.wandering(s), "spline"),
    ),
    Case(
        "fit_drift", "statistics, linear in ln g", "48 rows", lambda s: _statistics(s, "linear in ln g"),
        "constant", lambda s: _statistics(s, "constant").rejected,
    ),
    Case(
        "fit_relaxation", "normal", "512 x 20",
        lambda s: _relaxation(relaxation.NORMAL, "normal, power of time", s), "normal, where tails are heavy",
        lambda s: rejected(c.fit_relaxation(tables.relaxed(relaxation.TAILED, s), model="normal, power of time")),
    ),
    Case(
        "fit_relaxation", "5 slopes", "512 x 20",
        lambda s: _relaxation(relaxation.TAILED, "5 slopes, power of time", s),
        "5 slopes, where shifts are a parabola in ln t",
        lambda s: rejected(c.fit_relaxation(tables.bent_relaxation(s), model="5 slopes, power of time")),
    ),
    Case(
        "fit_retention", "Arrhenius, energies", "3 x 512 bakes", _retention, "one energy, where there are two",
        lambda s: rejected(c.fit_retention(tables.two_energies(s), model="Arrhenius")),
    ),
    Case(
        "fit_read_noise", "1/f^a + white", "8 x 4096", _read,
        "white", lambda s: rejected(c.fit_read_noise(tables.reads(s), model="white")),
    ),
    Case(
        "fit_read_noise", "1/f^a + white + 1 trap", "8 x 16,384", _trap, "1/f^a + white",
        lambda s: rejected(c.fit_read_noise(tables.reads_with_trap(s), model="1/f^a + white")),
    ),
    Case(
        "fit_telegraph", "one cell", "10,240 reads", lambda s: _telegraph(tables.one_trap(s)),
        "two states, where there are three", lambda s: rejected(c.fit_telegraph(tables.two_traps(s))),
    ),
    Case(
        "fit_telegraph", "cells that differ", "16 x 2048",
        lambda s: _telegraph(tables.some_traps(s), p_trap=0.5, tau_log_spread=1 / np.sqrt(12)),
    ),
    Case(
        "fit_iv", "quadratic, degree 1", "512 x 20", _quadratic, "no dependence on g",
        lambda s: rejected(c.fit_iv(iv.table(*iv.parabolas(s, CELLS)[:3], s), model="quadratic, degree 0")),
    ),
    Case(
        "fit_iv", "cubic, degree 2", "512 x 20", _cubic,
        "quadratic, degree 2", lambda s: rejected(c.fit_iv(iv.cubics(s), model="quadratic, degree 2")),
    ),
    Case(
        "fit_iv", "cubic, heavy tails", "512 x 20", lambda s: _cubic(s, 4.0),
        "normal tails", lambda s: rejected(c.fit_iv(iv.cubics(s, 4.0), model="cubic, degree 2")),
    ),
    Case(
        "fit_iv", "sinh", "512 x 20", lambda s: repeat(c.fit_iv(tables.sinhs(s), model="sinh"), {"v0": tables.V0_V}),
        "sinh, where there is a parabola", lambda s: rejected(c.fit_iv(iv.cubics(s), model="sinh")),
    ),
    Case(
        "fit_stuck", "three rates", "10,240 writes", lambda s: _stuck(s, stuck.RATES),
        "stuck, where errors have heavy tails", lambda s: _stuck(s, (0.01, 0.01, 0.0), 2.5).rejected,
    ),
    Case(
        "fit_write_verify", "geometric, mixed", "10,240 writes", _write_verify,
        "no dependence on g", lambda s: rejected(_writes(s, "geometric, degree 0, mixed")),
    ),
    Case(
        "fit_write_verify", "attempts counted", "10,240 writes", lambda s: _write_verify(s, count=True),
        "rates that are alike", lambda s: rejected(_writes(s, "geometric, degree 1", count=True)),
    ),
    Case(
        "fit_threshold", "linear in ln t", "512 x 9", lambda s: _threshold("linear in ln t", "linear in ln t", s),
        "linear, where it is a parabola", lambda s: _threshold("quadratic in ln t", "linear in ln t", s).rejected,
    ),
    Case(
        "fit_threshold", "power law", "512 x 9", lambda s: _threshold("power law", "power law", s),
        "linear, where it is a power law", lambda s: _threshold("power law", "linear in ln t", s).rejected,
    ),
    Case(
        "fit_pulses", "soft bounds", "2 x 20 ramps of 100", _pulses, "constant step",
        lambda s: rejected(c.fit_pulses(pulses.ramps(s), model="constant, constant spread")),
    ),
    Case(
        "fit_pulses", "ramps that differ", "2 x 20 ramps of 100", lambda s: _pulses(s, cycle=0.1),
    ),
    Case(
        "fit_converter", "ramp", "10,240 conversions", _ramp, "a kink at half scale",
        lambda s: rejected(c.fit_converter(tables.kinked_ramp(s), lsb=converters.LSB)),
    ),
    Case("fit_converter", "histogram of a sine", "200,000 conversions", _histogram),
    Case("measured_adc", "transition levels", "10,240 conversions", lambda s: Repeat(*tables.levels(s), None)),
    Case(
        "fit_mvm", "input and constant", "512 vectors, 24 x 20", lambda s: _mvm(s, "input and constant"),
        "constant noise", lambda s: _mvm(s, "constant").rejected,
    ),
]  # fmt: skip
CASES = {f"{case.fitter.removeprefix('fit_')}, {case.law}": case for case in _ALL}
"""By name."""
