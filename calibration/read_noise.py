"""Read noise of devices: its power spectrum over frequency and conductance."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from calibration.allan import allan_from_density
from calibration.circuit_tables import ReadTrace
from calibration.fit import Candidate, Fit, Parameter, Provenance
from calibration.goodness import normal_scores, shape_test, sum_of_squares_test
from calibration.picture import FitPicture
from calibration.read_levels import ReadLevel, ReadLevels
from calibration.selection import Law, Ranking, rank_laws
from calibration.spectrum_laws import SpectrumLaw, spectrum_laws, tabulated_law
from device_models.errors import UsageError, nearest

Floats = NDArray[np.float64]

TEST_LEVEL = 0.04
"""Of each of the two tests."""
REJECTED = 0.01
"""A law whose spectra have a smaller p-value is not taken where there is another."""


@dataclass(frozen=True, eq=False, kw_only=True)
class ReadNoiseFit(Fit):
    """Power spectral density of the conductance at each level; parameters are relative to the conductance squared.

    levels_uS      mean conductance of each level, ascending; its parameters end in ``_at_<g>uS``
    fs_Hz          sampling rate
    duration_s     length of the traces: the spectrum holds from 1 / duration to fs / 2
    floor_uS2_per_Hz   of the reader, as taken off; not part of the device
    t0_s, t_read_s     of the device's 1/f law
    """

    levels_uS: tuple[float, ...]
    fs_Hz: float
    duration_s: float
    floor_uS2_per_Hz: float
    t0_s: float
    t_read_s: float
    knots_Hz: tuple[float, ...] = ()

    @cached_property
    def law(self) -> SpectrumLaw:
        if self.knots_Hz:
            return tabulated_law(self.fs_Hz, self.knots_Hz)
        return spectrum_laws(np.array([1 / self.duration_s, self.fs_Hz / 2]), self.fs_Hz)[self.model]

    @property
    def log_band(self) -> float:
        """ln of the band's width, fs / 2 over 1 / duration: of 1/f noise, the variance over q_s^2."""
        return float(np.log(self.fs_Hz * self.duration_s / 2))

    def density(self, f_Hz: ArrayLike, level: int = 0, values: Floats | None = None) -> Floats:
        """One-sided power spectral density of the device at a level, without the reader's floor [uS^2 / Hz]."""
        if not 0 <= level < len(self.levels_uS):
            raise UsageError(f"level = {level}: must be from 0 to {len(self.levels_uS) - 1}")
        at = self.values if values is None else np.asarray(values, float)
        n = len(self.law.names())
        return self.levels_uS[level] ** 2 * self.law.density(np.asarray(f_Hz, float), at[level * n : (level + 1) * n])

    def variance(self, f_low_Hz: float, f_high_Hz: float, level: int = 0, values: Floats | None = None) -> float:
        """Variance of the conductance in a band of frequencies at a level [uS^2]."""
        f = np.geomspace(f_low_Hz, f_high_Hz, 2000)
        return float(np.trapezoid(self.density(f, level, values), f))

    def allan_deviation(self, tau_s: ArrayLike, level: int = 0) -> Floats:
        """Allan deviation of means over tau, rounded to whole samples, with the reader's floor [uS]."""
        n = np.maximum(1, np.round(np.asarray(tau_s, float) * self.fs_Hz))

        def density(f: Floats) -> Floats:
            return self.density(f, level) + self.floor_uS2_per_Hz

        return allan_from_density(density, n, self.fs_Hz, 0.25 / self.duration_s)

    def device_parts(self, g_uS: Floats, values: Floats | None = None) -> dict[str, Any]:
        """White noise where the law is white; 1/f noise with the fitted variance from 1 / duration to fs / 2; or both.

        White noise is that of the law, with its variance up to fs / 2. All else, whatever its spectrum, is 1/f noise of
        the same variance: q_s^2 is that over ln(duration fs / 2), so at t0 = duration and t_read = 1 / fs the whole
        noise of a read is the fitted one. Between levels the logarithms are linear in ln g.
        """
        low, high = 1 / self.duration_s, self.fs_Hz / 2
        band = range(len(self.levels_uS))
        relative = np.array([self.variance(low, high, i, values) / self.levels_uS[i] ** 2 for i in band])
        if self.model == "white":
            return {"read": {"kind": "white", "relative": self._over(g_uS, relative)}}
        at = (self.values if values is None else np.asarray(values, float)).reshape(len(self.levels_uS), -1)
        names = self.law.names()
        white = at[:, names.index("white")] * (high - low) if "white" in names else 0 * relative
        both = {"q_s": self._over(g_uS, (relative - white).clip(1e-6 * relative) / self.log_band)}
        if white.any():
            both["white"] = self._over(g_uS, white)
        return {"read": {"kind": "one_over_f", **both, "t0_s": self.t0_s, "t_read_s": self.t_read_s}}

    def _over(self, g_uS: Floats, variance: Floats) -> tuple[float, ...]:
        """S.d. at conductances g from variances at the levels."""
        x = np.log(np.maximum(np.asarray(g_uS, float), 1e-12))
        return tuple(map(float, np.exp(0.5 * np.interp(x, np.log(self.levels_uS), np.log(variance)))))


def fit_read_noise(
    trace: ReadTrace,
    *,
    model: str | None = None,
    instrument_uS2_per_Hz: float = 0.0,
    t0_s: float | None = None,
    t_read_s: float | None = None,
    seed: int = 0,
) -> ReadNoiseFit:
    """Fit the power spectrum of read noise at each level of conductance by Whittle's likelihood of Welch spectra.

    Equation   S / g^2 = a / f^alpha + w + Lorentzians of traps, or a table in octaves (SpectrumLaw)
    Arguments  trace: cells at an even rate; cells with the same level, or of like conductance, share a spectrum
               model: white | 1/f | 1/f + white | 1/f^a + white | ... + 1 trap, + 2 traps, + 3 traps | tabulated in
               octaves; none: ranked by the likelihood of bins of frequency that were held out, among the laws that
               the spectra do not reject; the table where they reject all
               instrument_uS2_per_Hz: white noise of the reader, taken off; its steps are found and taken off as well
               t0_s, t_read_s: of the device's 1/f law; none: length of the trace, one sample
    Returns    intervals are asymptotic; robust over cells where a level has ten or more
    Valid      stationary noise. Samples before a cell has settled are left out, jumps are counted and kept
    Errors     UsageError: fewer than 256 samples, a cell that never changes, an unknown model
    """
    for name, value in (("instrument_uS2_per_Hz", instrument_uS2_per_Hz), ("t0_s", t0_s), ("t_read_s", t_read_s)):
        if (value is not None and not 0 <= value < np.inf) or (value == 0 and name != "instrument_uS2_per_Hz"):
            raise UsageError(f"{name} = {value!r}: must be a finite number above 0")
    data = ReadLevels.of(trace, instrument_uS2_per_Hz)
    f = data.levels[0].spectrum.f_Hz
    laws = spectrum_laws(f, trace.fs_Hz)
    if model is not None and model not in laws:
        raise UsageError(f"model = {model!r}: must be one of {', '.join(laws)}{nearest(model, laws)}")
    candidates, notes, law = _choose(data.levels, laws, seed) if model is None else ((), (), laws[model])
    parameters: list[Parameter] = []
    draws, warnings = [], [*data.warnings, *notes]
    for i, level in enumerate(data.levels):
        names = [f"{name}_at_{level.g_uS:.4g}uS" for name in law.names()]
        found = level.maximum(law)
        own, drawn = found.reported(names, law.units(), law.natural, seed + i)
        parameters += own
        draws.append(drawn)
        warnings += found.warnings(names)
    theta = np.array([p.value for p in parameters]).reshape(len(data.levels), -1)
    scores = [_scores(level, law, at) for level, at in zip(data.levels, theta, strict=True)]
    floor = data.levels[0].floor * data.levels[0].g_uS ** 2
    for level, at in zip(data.levels, theta, strict=True):
        if level.floor > 0.5 * law.density(f[-1:], at)[0]:
            warnings.append(f"at {level.g_uS:.4g} uS the reader's floor hides most of the device's noise at fs / 2")
    duration_s = trace.g_uS.shape[1] / trace.fs_Hz
    several = len(data.levels) > 1
    z = np.concatenate(scores)
    tests = (shape_test(z), sum_of_squares_test(z, len(parameters)))
    return ReadNoiseFit(
        quantity="read noise",
        model=law.name,
        parameters=tuple(parameters),
        intervals="asymptotic normal of Whittle's likelihood",
        provenance=Provenance.of(trace.source, data.n_used, data.left_out),
        draws=np.concatenate(draws, axis=1),
        picture=_picture(data.levels, law, theta, scores),
        goodness=tuple(test.evolve(level=TEST_LEVEL) for test in tests),
        candidates=candidates,
        warnings=tuple(warnings),
        window_uS=(data.levels[0].g_uS, data.levels[-1].g_uS) if several else None,
        levels_uS=tuple(level.g_uS for level in data.levels),
        fs_Hz=trace.fs_Hz,
        duration_s=duration_s,
        floor_uS2_per_Hz=floor,
        t0_s=duration_s if t0_s is None else float(t0_s),
        t_read_s=1 / trace.fs_Hz if t_read_s is None else float(t_read_s),
        knots_Hz=law.knots_Hz,
    )


def _choose(
    levels: tuple[ReadLevel, ...], laws: dict[str, SpectrumLaw], seed: int
) -> tuple[tuple[Candidate, ...], tuple[str, ...], SpectrumLaw]:
    """The law of the ranking; where the spectra reject it, the next one that they do not; else the table.

    The table is not ranked: it cannot predict a bin between whose neighbours it has no knot.
    """
    ranking = _rank(levels, [law for law in laws.values() if not law.knots_Hz], seed)
    order = [ranking.chosen, *(c.model for c in ranking.candidates if c.model != ranking.chosen)]
    table = next(law.name for law in laws.values() if law.knots_Hz)
    name = next((name for name in order if _p_value(levels, laws[name]) > REJECTED), table)
    notes = list(ranking.warnings)
    if name != ranking.chosen:
        notes.append(f"law {ranking.chosen} ranks best, but the spectra reject it (p < {REJECTED}); taken: {name}")
    if name == table and _p_value(levels, laws[name]) < REJECTED:
        notes.append("the noise is not stationary: spectra scatter more than stationary ones; intervals are too narrow")
    return tuple(c.evolve(chosen=c.model == name) for c in ranking.candidates), tuple(notes), laws[name]


def _p_value(levels: tuple[ReadLevel, ...], law: SpectrumLaw) -> float:
    z = [_scores(level, law, law.natural(level.estimate(law))) for level in levels]
    return sum_of_squares_test(np.concatenate(z), len(levels) * len(law.names())).p_value


def _rank(levels: tuple[ReadLevel, ...], laws: list[SpectrumLaw], seed: int) -> Ranking:
    """By bins of frequency that are held out at all levels together: one cell has one spectrum only."""
    bins = len(levels[0].spectrum.f_Hz)

    def law_to_rank(law: SpectrumLaw) -> Law:
        near = [[level.estimate(law)] for level in levels]  # only where the search begins

        def held_out(train: NDArray[np.bool_], test: NDArray[np.bool_]) -> Floats:
            theta = [level.estimate(law, start, train) for level, start in zip(levels, near, strict=True)]
            return np.sum(
                [level.log_likelihood(law, at, test) for level, at in zip(levels, theta, strict=True)], axis=0
            )

        return Law(law.name, len(law.names()), held_out)

    return rank_laws([law_to_rank(law) for law in laws], np.arange(bins), seed=seed)


def _scores(level: ReadLevel, law: SpectrumLaw, natural: Floats) -> Floats:
    """Standard normals of the mean spectrum of the level under the law."""
    f, psd, weight = level.spectrum
    n = weight * len(psd)
    return normal_scores(stats.gamma.cdf(psd.mean(axis=0) / (law.density(f, natural) + level.floor) * n, n))


def _picture(levels: tuple[ReadLevel, ...], law: SpectrumLaw, theta: Floats, scores: list[Floats]) -> FitPicture:
    """Of the level with the most noise relative to its conductance; residuals of that level."""
    loudest = int(np.argmax([level.spectrum.psd.mean() for level in levels]))
    level = levels[loudest]
    f, psd, weight = level.spectrum
    n = weight * len(psd)
    centre = np.log10(law.density(f, theta[loudest]) + level.floor)
    low, high = (centre + np.log10(stats.gamma.ppf(q, n) / n) for q in (0.05, 0.95))
    return FitPicture.of(
        (f, np.log10(psd.mean(axis=0)), scores[loudest]),
        (f, centre, low, high),
        "frequency [Hz]",
        f"log10 of relative density [1/Hz] at {level.g_uS:.4g} uS",
        log_x=True,
    )
