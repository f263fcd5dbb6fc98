"""Every fitter on simulated tables of known parameters: with the law they were drawn from, and with one that is wrong.

The generators are those of the unit tests. tests/benchmarks/coverage.py repeats these fits many times.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import test_calibration_converters as converters
import test_calibration_drift as drift
import test_calibration_iv as iv
import test_calibration_mvm as mvm
import test_calibration_programming as programming
import test_calibration_pulses as pulses
import test_calibration_read_noise as read_noise
import test_calibration_relaxation as relaxation
import test_calibration_retention as retention
import test_calibration_stuck as stuck
import test_calibration_telegraph as telegraph
import test_calibration_threshold as threshold
import test_calibration_write_verify as write_verify

import calibration as c
from device_models.relaxation import RelaxationTable

TIMES_S = np.geomspace(0.1, 1e4, 20)
CELLS = 512


class Repeat(NamedTuple):
    """Parameters with intervals, their true values by name, and whether a test rejected the law."""

    parameters: tuple[c.Parameter, ...]
    truth: dict[str, float]
    rejected: bool


class Case(NamedTuple):
    """size: what one table holds; right(seed): the right law; wrong(seed): whether the wrong one was rejected."""

    size: str
    right: Callable[[int], Repeat]
    wrong_law: str
    wrong: Callable[[int], bool]


def rejected(fit: c.Fit) -> bool:
    return any(test.rejected for test in fit.goodness)


def repeat(fit: c.Fit, truth: dict[str, float] | Iterable[float]) -> Repeat:
    """True values by name, or in the order of the first parameters."""
    if not isinstance(truth, dict):
        truth = dict(zip((p.name for p in fit.parameters), map(float, truth), strict=False))
    return Repeat(fit.parameters, truth, rejected(fit))


def _statistics(seed: int) -> c.ProgrammingStatistics:
    levels, scatter = programming.LEVELS_uS, np.sqrt(np.random.default_rng(seed).chisquare(CELLS - 1, 16) / (CELLS - 1))
    sigma = programming.published_uS(levels) * scatter
    return c.ProgrammingStatistics(g_target_uS=levels, sigma_uS=sigma, n_cells=np.full(16, float(CELLS)))


def _relaxation(law: RelaxationTable, model: str, seed: int) -> Repeat:
    fit = c.fit_relaxation(_relaxed(law, seed), model=model)
    return repeat(fit, relaxation._truth(law, fit))


def _relaxed(law: RelaxationTable, seed: int) -> c.RetentionTable:
    return relaxation._table(relaxation._cells(law, CELLS, TIMES_S, seed))


def _retention(seed: int) -> Repeat:
    fit = c.fit_retention(retention._bakes(0.2, (100.0, 150.0, 200.0), CELLS, seed), model="Arrhenius")
    return Repeat(fit.activation_eV, {p.name: 0.2 for p in fit.activation_eV}, rejected(fit))


def _iv(seed: int) -> Repeat:
    g, a2, a3, _ = iv.parabolas(seed, CELLS)
    fit = c.fit_iv(iv.table(g, a2, a3, seed), model="quadratic, degree 1")
    return repeat(fit, [*(0.8 - 0.6 * (fit.nodes_uS - 10) / 90), 0.1, 0.1, 0.5, 0.05, 0.1])


def _threshold(law: str, model: str, seed: int) -> Repeat:
    fit = c.fit_threshold(threshold.table(threshold.reads(seed, law, CELLS)), model=model)
    return repeat(fit, [*threshold.MEANS[law], threshold.SIGMA_V, threshold.GROWTH, threshold.WITHIN])


def _telegraph(seed: int) -> c.ReadTrace:
    return telegraph.trace(telegraph.telegraph(np.random.default_rng(seed), 1, CELLS * 20))


def _pulses(seed: int) -> Repeat:
    fit = c.fit_pulses(pulses.ramps(seed), model="soft bounds, constant spread")
    found = repeat(fit, pulses.truth(fit))
    return found._replace(truth={name: value for name, value in found.truth.items() if "cycle" not in name})


def _writes(seed: int, model: str) -> c.Fit:
    table = write_verify.writes(seed, CELLS * 20, write_verify.THETA)
    return c.fit_write_verify(table, model=model)


def _write_verify(seed: int) -> Repeat:
    w = write_verify
    truth = [w.RATE, w.EXPONENT, w.SLOPE, w.THETA, 0.0, 1 / np.sqrt(3)]
    return repeat(_writes(seed, "geometric, degree 1, mixed"), truth)


def _converter(seed: int) -> Repeat:
    table, errors = converters.ramp(
        seed, n=CELLS * 20, noise=0.2 * converters.LSB, gain_sd=0.02, offset_sd_lsb=1.0, inl_cubic=0.02, dnl_lsb=0.1
    )
    fit = c.fit_converter(table, lsb=converters.LSB, bound=converters.BOUND)
    offset = errors.offset[0] / converters.LSB
    return repeat(fit, {"gain": errors.gain[0], "offset_lsb": offset, "inl_cubic": 0.02, "dnl_lsb": 0.1})


def _kinked(seed: int) -> c.Fit:
    x = np.linspace(-1.2 * converters.BOUND, 1.2 * converters.BOUND, CELLS * 20)
    code, _ = converters.codes(np.where(x > 5, 5 + 0.9 * (x - 5), x), seed, dnl_lsb=0.1)
    return c.fit_converter(c.ConverterTable(input=x, code=code), lsb=converters.LSB)


def _mvm(seed: int, model: str) -> Repeat:
    truth = {"gain_mean": 1.0, "gain_sd": 0.05, "offset_mean": 0.0, "offset_sd": 0.1, "weight_error": 0.02}
    fit = c.fit_mvm(mvm.chip(seed, n=CELLS, noise=(0.2, 0.15, 0.0))[0], model=model)
    return repeat(fit, {**truth, "noise_abs": 0.2, "noise_input": 0.15})


def _drift(seed: int) -> Repeat:
    fit = c.fit_drift(drift.drifting(seed, 0.05, 0.012), t0_s=20.0, g_max_uS=25.0, model="constant")
    return repeat(fit, [0.05, 0.012, 0.01, 0.0])


def _stuck(seed: int, rates: tuple[float, float, float], tail: float | None = None) -> Repeat:
    table, _ = stuck.writes(seed, CELLS * 20, rates, tail=tail)
    return repeat(c.fit_stuck(table, g_min_uS=0.0, g_max_uS=25.0), [*rates, 1 - sum(rates)])


def _read(seed: int) -> c.ReadTrace:
    return read_noise.trace(read_noise.synthetic(read_noise.flicker, 8, 4096, seed))


def _bent(seed: int) -> c.RetentionTable:
    """Shifts that fall and come back: linear in ln t plus a parabola of the size of the spread."""
    frame = relaxation._cells(relaxation.TAILED, CELLS, TIMES_S, seed)
    x = np.linspace(-1, 1, len(TIMES_S))
    frame.iloc[:, 2:] += 2.0 * (1 - x**2)
    return relaxation._table(frame)


def _two_energies(seed: int) -> c.RetentionTable:
    """0.05 eV from 100 to 150 C, 0.35 eV from there to 200 C."""
    slow = retention._bakes(0.05, (100.0, 150.0), CELLS, seed)
    fast = retention._bakes(0.35, (200.0,), CELLS, CELLS + seed)
    names = ("cell", "t_s", "g_uS", "temperature_C")
    return c.RetentionTable(**{n: np.concatenate([getattr(slow, n), getattr(fast, n)]) for n in names})


def _two_traps(seed: int) -> c.ReadTrace:
    first, second = (telegraph.telegraph(np.random.default_rng([seed, k]), 1, CELLS * 20, sigma=0.0) for k in (0, 1))
    noise = 0.5 * np.random.default_rng([seed, 2]).standard_normal(first.shape)
    return telegraph.trace(first + 0.6 * (second - 50) + noise)


CASES = {
    "programming": Case(
        "4096 writes",
        lambda s: repeat(c.fit_programming(programming.measured(s), sigma="quadratic"), programming.TRUE_uS),
        "sigma linear",
        lambda s: rejected(c.fit_programming(programming.measured(s), sigma="linear")),
    ),
    "programming statistics": Case(
        "16 targets of 512 cells",
        lambda s: repeat(c.fit_programming(_statistics(s), sigma="quadratic"), programming.SIGMA_uS),
        "sigma constant",
        lambda s: rejected(c.fit_programming(_statistics(s), sigma="constant")),
    ),
    "drift": Case(
        "512 x 20",
        _drift,
        "one exponent, where it falls with g",
        lambda s: rejected(c.fit_drift(drift.drifting(s), t0_s=20.0, g_max_uS=25.0, model="constant")),
    ),
    "relaxation, normal": Case(
        "512 x 20",
        lambda s: _relaxation(relaxation.NORMAL, "normal, power of time", s),
        "normal, where tails are heavy",
        lambda s: rejected(c.fit_relaxation(_relaxed(relaxation.TAILED, s), model="normal, power of time")),
    ),
    "relaxation, 5 slopes": Case(
        "512 x 20",
        lambda s: _relaxation(relaxation.TAILED, "5 slopes, power of time", s),
        "5 slopes, where shifts are a parabola in ln t",
        lambda s: rejected(c.fit_relaxation(_bent(s), model="5 slopes, power of time")),
    ),
    "retention": Case(
        "3 x 512 bakes",
        _retention,
        "one energy, where there are two",
        lambda s: rejected(c.fit_retention(_two_energies(s), model="Arrhenius")),
    ),
    "read noise": Case(
        "8 x 4096",
        lambda s: repeat(c.fit_read_noise(_read(s), model="1/f^a + white", seed=s), [1e-5, 1.0, 2e-7]),
        "white, where there is 1/f",
        lambda s: rejected(c.fit_read_noise(_read(s), model="white")),
    ),
    "telegraph": Case(
        "10,240 reads of a cell",
        lambda s: repeat(
            c.fit_telegraph(_telegraph(s)),
            {"amplitude_uS": telegraph.AMPLITUDE_US, "dwell_low_s": telegraph.LOW_S, "dwell_high_s": telegraph.HIGH_S},
        ),
        "two states, where there are three",
        lambda s: rejected(c.fit_telegraph(_two_traps(s))),
    ),
    "I-V": Case(
        "512 x 20",
        _iv,
        "no dependence on g",
        lambda s: rejected(c.fit_iv(iv.table(*iv.parabolas(s, CELLS)[:3], s), model="quadratic, degree 0")),
    ),
    "stuck": Case(
        "10,240 writes",
        lambda s: _stuck(s, stuck.RATES),
        "stuck, where errors have heavy tails",
        lambda s: _stuck(s, (0.01, 0.01, 0.0), 2.5).rejected,
    ),
    "write-verify": Case(
        "10,240 writes",
        _write_verify,
        "no dependence on g",
        lambda s: rejected(_writes(s, "geometric, degree 0, mixed")),
    ),
    "threshold, linear": Case(
        "512 x 9",
        lambda s: _threshold("linear in ln t", "linear in ln t", s),
        "linear, where it is a parabola",
        lambda s: _threshold("quadratic in ln t", "linear in ln t", s).rejected,
    ),
    "threshold, power law": Case(
        "512 x 9",
        lambda s: _threshold("power law", "power law", s),
        "linear, where it is a power law",
        lambda s: _threshold("power law", "linear in ln t", s).rejected,
    ),
    "pulses": Case(
        "2 x 20 ramps of 100",
        _pulses,
        "constant step",
        lambda s: rejected(c.fit_pulses(pulses.ramps(s), model="constant, constant spread")),
    ),
    "converter": Case("10,240 conversions", _converter, "a kink at half scale", lambda s: rejected(_kinked(s))),
    "MVM": Case(
        "512 vectors, 24 x 20",
        lambda s: _mvm(s, "input and constant"),
        "constant noise",
        lambda s: _mvm(s, "constant").rejected,
    ),
}
