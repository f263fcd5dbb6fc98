"""Static errors of a converter: gain, offset, integral and differential non-linearity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.stats import norm

from calibration.fit import Candidate, Fit, Provenance
from calibration.goodness import LEAST_SPREAD, dispersion_test, shape_test
from calibration.intervals import normal_draws, normal_interval, parameters
from calibration.picture import FitPicture
from calibration.selection import Law, Mask, rank_laws
from calibration.storage import Array
from calibration.tables import ConverterHistogram, ConverterTable
from calibration.transitions import Stimulus, Transitions, from_histogram, from_ramp
from device_models.errors import UsageError

Floats = NDArray[np.float64]

TEST_LEVEL = 0.03
"""Of each of the two tests, so that together they reject the true law in less than a tenth of cases."""
_LEAST_SCATTER = 1e-9
"""Of levels about their line, in parts of their range."""


@dataclass(frozen=True, eq=False, kw_only=True)
class ConverterFit(Fit):
    """Static errors of one converter, in the convention of crossbar_sim.spec.adc.AbstractAdcSpec.

    Equation   an input v acts as gain v + offset + inl_cubic (v / R)^3 R on an ideal quantiser, whose code k is reached
               at (k - 1/2) lsb + zero; transition levels scatter about that by dnl_lsb steps (s.d., independent)
    Parameters gain [1], offset_lsb [LSB] (where the scale of the input is known), inl_cubic [1] (where chosen),
               dnl_lsb [LSB], inl_max_lsb, dnl_max_lsb [LSB] (largest magnitudes), noise_lsb [LSB] (ramps only)
    code (m,), inl_lsb (m,), dnl_lsb (m - 1,)   of each transition about the straight line, and of each code between
    lsb, zero, bound   what the ideal converter is

    As in IEEE Std 1241 the gain multiplies measured levels; inl_lsb is positive where a code comes late.
    """

    code: Array
    inl_lsb: Array
    dnl_lsb: Array
    lsb: float
    zero: float
    bound: float

    def device_parts(self, g_uS: Floats, values: Floats | None = None) -> dict[str, Any]:
        raise UsageError("converter: is no property of a device; adc_spread gives the fields of chip.adc")


class _Line(NamedTuple):
    """ideal = design(level) @ coefficients + scatter; coefficients are gain, offset [input], [cubic].

    scores   (m,) residuals as standard normals that are independent under the law
    """

    coefficients: Floats
    covariance: Floats
    sigma: float
    sigma_se: float
    residual: Floats
    scores: Floats


def fit_converter(
    table: ConverterTable | ConverterHistogram,
    *,
    seed: int = 0,
    lsb: float | None = None,
    zero: float = 0.0,
    bound: float | None = None,
    line: Literal["best", "end_points"] = "best",
    stimulus: Stimulus = "ramp",
    low: float | None = None,
    high: float | None = None,
    rank: bool = True,
) -> ConverterFit:
    """Fit the static errors of one converter.

    Arguments  lsb, zero: step of the ideal converter and input of its code 0; without lsb, gain and offset are unknown
               and the line gives the step; bound: R of the cubic; none: the largest ideal level
               line: of least squares, or through first and last transition (then without a cubic)
               stimulus, low, high: of a histogram; low and high are where a ramp starts and ends, or a sine turns
    Errors     UsageError: fewer than six transitions, a step that is not positive, codes that fall
    """
    if lsb is not None and not (np.isfinite(lsb) and lsb > 0):
        raise UsageError(f"lsb = {lsb:g}: must be above 0")
    if line not in ("best", "end_points") or stimulus not in ("ramp", "sine"):
        raise UsageError(f"line = {line!r}, stimulus = {stimulus!r}: must be best or end_points, and ramp or sine")
    if isinstance(table, ConverterTable):
        found, scaled = from_ramp(table), True
    else:
        found, scaled = from_histogram(table, stimulus, low, high)
    known = lsb is not None and scaled
    step = lsb if lsb is not None else _own_step(found)
    ideal = np.asarray((found.code - 0.5) * step + zero, float)
    full = float(np.abs(ideal).max()) if bound is None else bound
    ranked: tuple[Candidate, ...] = ()
    warnings: tuple[str, ...] = ()
    cubic = False
    if line == "best" and rank:
        laws = [_candidate(found, ideal, full, cubic) for cubic in (False, True)]
        ranked, chosen, warnings = rank_laws(laws, found.code, seed=seed)
        cubic = chosen == laws[1].name
    fit = _end_points(found, ideal) if line == "end_points" else _least_squares(found, ideal, full, cubic)
    straight = fit if not cubic else _least_squares(found, ideal, full, False)
    inl, dnl = -straight.residual / step, np.diff(straight.coefficients[0] * found.level) / step - 1
    values, se, names, units = _reported(found, fit, inl, dnl, step, known, cubic)
    low_ends, high_ends = np.array([normal_interval(v, s) for v, s in zip(values, np.diag(se) ** 0.5, strict=True)]).T
    floor = np.array([0.0 if name not in ("gain", "offset_lsb", "inl_cubic") else -np.inf for name in names])
    sd = np.sqrt(fit.sigma**2 + np.diag(found.covariance) * fit.coefficients[0] ** 2)
    z = fit.scores
    tests = [shape_test(z)]
    if len(z) >= LEAST_SPREAD:
        tests.append(dispersion_test(z, found.code, 2 + cubic + 1, bins=4, name="code"))
    if not known:
        warnings += ("gain, offset_lsb: not identified without lsb and the scale of the input",)
    if found.missing:
        warnings += (f"{found.missing} codes never came",)
    return ConverterFit(
        quantity="converter",
        model=("cubic" if cubic else "straight") + (" through end points" if line == "end_points" else ""),
        parameters=parameters(names, values, np.maximum(low_ends, floor), np.maximum(high_ends, floor), units),
        intervals="asymptotic normal",
        goodness=tuple(test.evolve(level=TEST_LEVEL) for test in tests),
        candidates=ranked,
        warnings=warnings,
        provenance=Provenance.of(
            table.source,
            len(table.code) if isinstance(table, ConverterTable) else max(1, int(table.count.sum())),
            table.left_out,
        ),
        draws=np.maximum(normal_draws(values, se, seed=seed), floor),
        picture=_picture(found, straight, fit, inl, sd, step, z),
        code=found.code.astype(float),
        inl_lsb=inl,
        dnl_lsb=dnl,
        lsb=step,
        zero=zero,
        bound=full,
    )


def adc_spread(fits: Sequence[ConverterFit]) -> dict[str, float]:
    """Fields of chip.adc from several converters: gain_sd, offset_sd_lsb, inl_cubic, dnl_lsb, where above zero.

    Equation   spreads are s.d. among converters with the mean squared standard error taken off; inl_cubic and dnl_lsb
               are the mean, and the root of the mean square
    """
    if len(fits) < 2:
        raise UsageError(f"fits: {len(fits)} converters: a spread needs at least 2")
    half = float(norm.ppf(0.95))

    def net(name: str) -> float:
        values = np.array([fit.value(name) for fit in fits])
        se = np.array([(p.high - p.low) / (2 * half) for fit in fits for p in fit.parameters if p.name == name])
        return float(np.sqrt(max(np.var(values, ddof=1) - np.mean(se**2), 0.0)))

    cubics = [p.value for fit in fits for p in fit.parameters if p.name == "inl_cubic"]
    spread = {
        "gain_sd": net("gain"),
        "offset_sd_lsb": net("offset_lsb"),
        "inl_cubic": float(np.sum(cubics) / len(fits)),
        "dnl_lsb": float(np.sqrt(np.mean([fit.value("dnl_lsb") ** 2 for fit in fits]))),
    }
    return {name: value for name, value in spread.items() if value != 0.0}


def _own_step(found: Transitions) -> float:
    return float(np.polyfit(found.code, found.level, 1)[0])


def _design(level: Floats, bound: float, cubic: bool) -> Floats:
    columns = [level, np.ones_like(level)]
    return np.stack([*columns, (level / bound) ** 3 * bound] if cubic else columns, axis=1)


def _least_squares(found: Transitions, ideal: Floats, bound: float, cubic: bool) -> _Line:
    """Generalised least squares; the variance of the scatter by restricted maximum likelihood.

    Equation   Var = V + sigma^2, V the covariance of the levels; the largest -ln|Var| - ln|X' Var^-1 X| - r' Var^-1 r;
               se(sigma^2)^-2 = tr(P P) / 2, P = Var^-1 - Var^-1 X (X' Var^-1 X)^-1 X' Var^-1
    Source     H. D. Patterson, R. Thompson, Biometrika 58, 545 (1971), DOI 10.1093/biomet/58.3.545
    """
    design = _design(found.level, bound, cubic)
    ordinary = np.linalg.lstsq(design, ideal, rcond=None)[0]
    total = max(float(np.mean((ideal - design @ ordinary) ** 2)), (_LEAST_SCATTER * float(np.ptp(ideal))) ** 2)
    own, axes = np.linalg.eigh(found.covariance * ordinary[0] ** 2)
    own, x, y = own.clip(min=0.0), axes.T @ design, axes.T @ ideal

    def solved(variance: float) -> tuple[Floats, Floats, Floats]:
        """Inverse variances along the axes, the coefficients and their covariance."""
        weight = 1 / (own + variance)
        covariance = np.asarray(np.linalg.inv((x.T * weight) @ x), float)
        return weight, covariance @ (x.T @ (weight * y)), covariance

    def loss(log_variance: float) -> float:
        weight, at, covariance = solved(float(np.exp(log_variance)))
        return float(weight @ (y - x @ at) ** 2 - np.log(weight).sum() - np.linalg.slogdet(covariance)[1])

    reach = np.log(total) + np.array([-14.0, 2.0])
    variance = float(np.exp(minimize_scalar(loss, bounds=tuple(reach), method="bounded").x))
    weight, coefficients, covariance = solved(variance)
    projected = x.T * weight  # P = weight - projected' covariance projected
    trace = np.sum(weight**2) - 2 * np.sum((projected * weight).T * (projected.T @ covariance))
    inner = covariance @ (projected @ projected.T)
    error = float(np.sqrt(2 / (trace + np.sum(inner * inner.T))))
    sigma = float(np.sqrt(variance))
    sigma_se = error / (2 * max(sigma, np.sqrt(error / 2)))
    residual = ideal - design @ coefficients
    return _Line(coefficients, covariance, sigma, sigma_se, residual, axes @ (np.sqrt(weight) * (axes.T @ residual)))


def _end_points(found: Transitions, ideal: Floats) -> _Line:
    """Through the first and the last transition; the scatter is that about the best line."""
    best, design = _least_squares(found, ideal, 1.0, False), _design(found.level, 1.0, False)
    inverse = np.zeros((2, len(ideal)))
    inverse[:, [0, -1]] = np.linalg.inv(design[[0, -1]])
    coefficients = np.asarray(inverse @ ideal, float)
    measured = found.covariance * coefficients[0] ** 2 + best.sigma**2 * np.eye(len(ideal))
    return best._replace(
        coefficients=coefficients, covariance=inverse @ measured @ inverse.T, residual=ideal - design @ coefficients
    )


def _candidate(found: Transitions, ideal: Floats, bound: float, cubic: bool) -> Law:
    def held_out(train: Mask, test: Mask) -> Floats:
        some = Transitions(
            found.code[train], found.level[train], found.covariance[np.ix_(train, train)], found.noise, found.missing
        )
        line = _least_squares(some, ideal[train], bound, cubic)
        residual = ideal[test] - _design(found.level[test], bound, cubic) @ line.coefficients
        own = np.diag(found.covariance)[test] * line.coefficients[0] ** 2
        return np.asarray(norm.logpdf(residual, scale=np.sqrt(line.sigma**2 + own)))

    return Law("cubic" if cubic else "straight", 4 if cubic else 3, held_out)


def _reported(
    found: Transitions, fit: _Line, inl: Floats, dnl: Floats, step: float, known: bool, cubic: bool
) -> tuple[Floats, Floats, list[str], list[str]]:
    """Values, covariance, names and units of the parameters."""
    scale = np.array([1.0, 1 / step, 1.0])[: len(fit.coefficients)]
    keep = np.array([known, known, cubic])[: len(scale)]
    values = list((fit.coefficients * scale)[keep])
    names = [n for n, k in zip(("gain", "offset_lsb", "inl_cubic"), keep, strict=False) if k]
    units = [u for u, k in zip(("1", "LSB", "1"), keep, strict=False) if k]
    own = np.diag(found.covariance) * (fit.coefficients[0] / step) ** 2
    at_inl, at_dnl = int(np.argmax(np.abs(inl))), int(np.argmax(np.abs(dnl)))
    pair = found.covariance[at_dnl : at_dnl + 2, at_dnl : at_dnl + 2] * (fit.coefficients[0] / step) ** 2
    rest = [
        ("dnl_lsb", fit.sigma / step, (fit.sigma_se / step) ** 2),
        ("inl_max_lsb", abs(inl[at_inl]), own[at_inl]),
        ("dnl_max_lsb", abs(dnl[at_dnl]), pair[0, 0] + pair[1, 1] - 2 * pair[0, 1]),
    ]
    if found.noise is not None:
        noise = found.noise * fit.coefficients[0] / step
        rest.append(("noise_lsb", noise, (noise**2 + 1e-12) / len(found.code)))
    covariance = np.zeros((len(values) + len(rest),) * 2)
    covariance[: len(values), : len(values)] = (fit.covariance * np.outer(scale, scale))[np.ix_(keep, keep)]
    for k, (name, value, variance) in enumerate(rest, start=len(names)):
        values.append(value)
        covariance[k, k] = variance
        names, units = [*names, name], [*units, "LSB"]
    return np.array(values), covariance, names, units


def _picture(
    found: Transitions, straight: _Line, fit: _Line, inl: Floats, sd: Floats, step: float, z: Floats
) -> FitPicture:
    centre = inl + fit.residual / step  # zero, or the cubic
    half = 1.645 * sd / step
    return FitPicture.of(
        (found.code, inl, z), (found.code, centre, centre - half, centre + half), "code", "integral non-linearity [LSB]"
    )
