"""Simulated tables beside those of the unit tests: of more laws, and of laws that a fitter does not have."""

from __future__ import annotations

import numpy as np
import test_calibration_converters as converters
import test_calibration_drift as drift
import test_calibration_iv as iv
import test_calibration_programming as programming
import test_calibration_read_noise as read_noise
import test_calibration_relaxation as relaxation
import test_calibration_retention as retention
import test_calibration_telegraph as telegraph
import test_calibration_threshold as threshold

import calibration as c
from calibration.spectrum_laws import SpectrumLaw
from calibration.transitions import from_ramp
from device_models.relaxation import RelaxationTable

Floats = np.ndarray

TIMES_S = np.geomspace(0.1, 1e4, 20)
CELLS = 512


def programming_statistics(seed: int) -> c.ProgrammingStatistics:
    levels, scatter = programming.LEVELS_uS, np.sqrt(np.random.default_rng(seed).chisquare(CELLS - 1, 16) / (CELLS - 1))
    sigma = programming.published_uS(levels) * scatter
    return c.ProgrammingStatistics(g_target_uS=levels, sigma_uS=sigma, n_cells=np.full(16, float(CELLS)))


LINE = {"nu_mean_at_g_max": 0.05, "nu_mean_slope": -0.01, "nu_sigma_at_g_max": 0.012, "nu_sigma_exponent": -0.1}
KINKED = {"nu_mean_low": 0.05, "nu_mean_slope": 0.0155, "nu_mean_knee": 0.4,
          "nu_sigma_low": 0.012, "nu_sigma_slope": 0.006, "nu_sigma_knee": 0.3}  # fmt: skip


def line(x: Floats) -> tuple[Floats, Floats]:
    """Mean and spread of the exponent that `LINE` gives at x = ln(g / g_max)."""
    m, slope, s, exponent = LINE.values()
    return m + slope * x, s * np.exp(exponent * x)


def kinked(x: Floats) -> tuple[Floats, Floats]:
    """Those that `KINKED` gives."""
    m, m_slope, m_knee, s, s_slope, s_knee = KINKED.values()
    return m + m_slope * np.maximum(np.log(m_knee) - x, 0), s + s_slope * np.maximum(np.log(s_knee) - x, 0)


def drifting(seed: int, law, t_s: Floats = drift.T_S) -> c.RetentionTable:
    """512 cells of `line` or `kinked`."""
    return drift.drifting(seed, lambda g: law(np.log(g / 25))[0], lambda g: law(np.log(g / 25))[1], t_s)


def drift_statistics(seed: int, law) -> c.DriftStatistics:
    """48 rows of many devices, with reading errors."""
    rng, g = np.random.default_rng(seed), np.geomspace(0.25, 25, 48)
    mean, spread = law(np.log(g / 25))
    return c.DriftStatistics(
        g_uS=g, nu_mean=mean + 0.002 * rng.standard_normal(48), nu_sigma=spread + 0.001 * rng.standard_normal(48)
    )


def wandering(seed: int) -> c.RetentionTable:
    """Shifts of both signs that grow with ln t, which is no drift."""
    rng = np.random.default_rng(seed)
    g = rng.uniform(5, 25, CELLS)
    shift = rng.normal(0, 0.15, CELLS)[:, None] * np.log1p(drift.T_S)
    reads = (g[:, None] + shift) * np.exp(0.01 * rng.standard_normal((CELLS, len(drift.T_S))))
    return drift.table(g, drift.T_S, np.maximum(reads, 0.01))


def relaxed(law: RelaxationTable, seed: int) -> c.RetentionTable:
    return relaxation._table(relaxation._cells(law, CELLS, TIMES_S, seed))


def bent_relaxation(seed: int) -> c.RetentionTable:
    """Shifts that fall and come back: linear in ln t plus a parabola of the size of the spread."""
    frame = relaxation._cells(relaxation.TAILED, CELLS, TIMES_S, seed)
    x = np.linspace(-1, 1, len(TIMES_S))
    frame.iloc[:, 2:] += 2.0 * (1 - x**2)
    return relaxation._table(frame)


def two_energies(seed: int) -> c.RetentionTable:
    """0.05 eV from 100 to 150 C, 0.35 eV from there to 200 C."""
    slow = retention._bakes(0.05, (100.0, 150.0), CELLS, seed)
    fast = retention._bakes(0.35, (200.0,), CELLS, CELLS + seed)
    names = ("cell", "t_s", "g_uS", "temperature_C")
    return c.RetentionTable(**{n: np.concatenate([getattr(slow, n), getattr(fast, n)]) for n in names})


def reads(seed: int, density=read_noise.flicker, samples: int = 4096) -> c.ReadTrace:
    return read_noise.trace(read_noise.synthetic(density, 8, samples, seed))


TRAP = {"trap1_variance": 2e-4, "trap1_corner": 4.0}


def with_trap(f: Floats) -> Floats:
    """1/f and white noise with one trap."""
    law = SpectrumLaw("", read_noise.FS_HZ, has_flicker=True, has_white=True, n_traps=1)
    return law.density(f, np.array([1e-5, 2e-7, *TRAP.values()]))


def reads_with_trap(seed: int) -> c.ReadTrace:
    """Long enough for 1/f noise to be told from the trap below its corner."""
    return reads(seed, with_trap, 16384)


def one_trap(seed: int) -> c.ReadTrace:
    return telegraph.trace(telegraph.telegraph(np.random.default_rng(seed), 1, CELLS * 20))


def two_traps(seed: int) -> c.ReadTrace:
    first, second = (telegraph.telegraph(np.random.default_rng([seed, k]), 1, CELLS * 20, sigma=0.0) for k in (0, 1))
    noise = 0.5 * np.random.default_rng([seed, 2]).standard_normal(first.shape)
    return telegraph.trace(first + 0.6 * (second - 50) + noise)


def some_traps(seed: int, cells: int = 16, share: float = 0.5) -> c.ReadTrace:
    """Cells that have a trap by chance, with amplitudes and correlation times that differ among them."""
    rng = np.random.default_rng(seed)
    g = 50 + 0.5 * rng.standard_normal((cells, 2048))
    for k in np.flatnonzero(rng.random(cells) < share):
        amplitude, tau = telegraph.AMPLITUDE_US * np.exp(0.2 * rng.standard_normal()), np.exp(rng.uniform(-0.5, 0.5))
        g[k] = telegraph.telegraph(rng, 1, 2048, amplitude, slower=tau)[0]
    return telegraph.trace(g)


V0_V = 0.25


def sinhs(seed: int) -> c.IVTable:
    g, zero = np.random.default_rng(seed).uniform(10, 100, CELLS), np.zeros(CELLS)
    return iv.table(g, zero, zero, seed, odd=g[:, None] * V0_V * np.sinh(iv.V / V0_V))


CONVERTER = {"noise": 0.2 * converters.LSB, "gain_sd": 0.02, "offset_sd_lsb": 1.0, "inl_cubic": 0.02, "dnl_lsb": 0.1}
SINE = 1.15 * converters.BOUND


def histogram(seed: int) -> tuple[c.ConverterHistogram, dict[str, float]]:
    """A sine at 200,000 random phases through a converter without noise, and its errors."""
    x = SINE * np.cos(2 * np.pi * np.random.default_rng([seed, 1]).random(200_000))
    code, errors = converters.codes(x, seed, **{**CONVERTER, "noise": 0.0})
    values, counts = np.unique(code, return_counts=True)
    return c.ConverterHistogram(code=values, count=counts), static(errors)


def static(errors) -> dict[str, float]:
    """The true parameters of a converter."""
    own = {"gain": errors.gain[0], "offset_lsb": errors.offset[0] / converters.LSB}
    return {**own, **{name: CONVERTER[name] for name in ("inl_cubic", "dnl_lsb")}}


def levels(seed: int) -> tuple[tuple[c.Parameter, ...], dict[str, float]]:
    """Every twelfth transition level that `measured_adc` takes, with its error as `from_ramp` has it, and the truth."""
    table, _ = converters.ramp(seed, n=CELLS * 20, **CONVERTER)
    quiet, _ = converters.ramp(seed, n=CELLS * 80, **{**CONVERTER, "noise": 0.0})
    found, true = from_ramp(table), from_ramp(quiet)
    spec = c.measured_adc([table], lsb=converters.LSB, bits=7, bound=converters.BOUND)
    half = 1.645 * np.sqrt(np.diag(found.covariance)) / converters.LSB
    parameters, truth = [], {}
    for k, inl in list(zip(range(-62, 64), spec.inl_lsb[0], strict=True))[::12]:
        error, name = half[np.searchsorted(found.code, k)], f"inl_at_{k}"
        parameters.append(c.Parameter(name=name, value=inl, low=inl - error, high=inl + error, unit="LSB"))
        truth[name] = float(true.level[np.searchsorted(true.code, k)] / converters.LSB - (k - 0.5))
    return tuple(parameters), truth


def kinked_ramp(seed: int) -> c.ConverterTable:
    """The slope changes at half scale."""
    x = np.linspace(-1.2 * converters.BOUND, 1.2 * converters.BOUND, CELLS * 20)
    code, _ = converters.codes(np.where(x > 5, 5 + 0.9 * (x - 5), x), seed, dnl_lsb=0.1)
    return c.ConverterTable(input=x, code=code)


def thresholds(seed: int, law: str) -> c.ThresholdTable:
    return threshold.table(threshold.reads(seed, law, CELLS))
