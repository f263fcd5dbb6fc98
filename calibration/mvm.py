"""A chip from its products: gain and offset of each column, its weights, and the noise of a read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2, norm
from scipy.stats import t as student

from calibration.fit import Candidate, Fit, Provenance
from calibration.goodness import dispersion_test, shape_test
from calibration.intervals import normal_draws, normal_interval, parameters
from calibration.maximum import estimate, maximise
from calibration.mvm_columns import Regression, by_lines, by_weights
from calibration.picture import FitPicture
from calibration.selection import Law, Mask, rank_laws
from calibration.storage import Array
from calibration.tables import MVMTable
from device_models.errors import UsageError, nearest

Floats = NDArray[np.float64]

_LEAST_VECTORS = 20
_WEAK = 1e-6
"""Inputs that reach a direction with less than this part of the strongest do not excite it."""
_LOG_SD = (-20.0, 10.0)
_NOISES = {"constant": [0], "input": [1], "input and constant": [0, 1], "output and constant": [0, 2]}
_ROUNDS = 2


@dataclass(frozen=True, eq=False, kw_only=True)
class MVMFit(Fit):
    """y_j = gain_j y_ideal_j + x . e_j + offset_j + noise of a read.

    Equation   inputs are exact, so ordinary least squares column by column; e_j, the errors of the weights, stay from
               read to read and are told from noise where there are more vectors than rows (`weights_told`); else they
               count as noise. Noise variance: noise_abs^2 + noise_input^2 mean(x^2) + noise_output^2 y^2, of which the
               model names the parts
    Parameters gain_mean, gain_sd [1], offset_mean, offset_sd [units of y]: over columns, s.d. with the errors of
               estimates taken off; weight_error: s.d. of e_ij [units of y over x]; noise_abs [units of y],
               noise_input [units of y over x], noise_output [1]. Without y_ideal there are no gains, no weight_error.
    gain, offset (columns,)   of each column, with standard errors gain_se, offset_se
    weights (rows, columns)   measured, where they are told; else empty
    """

    gain: Array
    gain_se: Array
    offset: Array
    offset_se: Array
    weights: Array
    weights_told: bool

    def device_parts(self, g_uS: Floats, values: Floats | None = None) -> dict[str, Any]:
        raise UsageError("matrix-vector product: is that of a chip; its noise and gains belong to chip.adc")


def fit_mvm(table: MVMTable, *, seed: int = 0, model: str | None = None, rank: bool = True) -> MVMFit:
    """Fit gain, offset, weights and noise of the columns of a chip.

    Arguments  model: parts of the noise, "constant", "input", "input and constant" or "output and constant",
               instead of the ranking;
               rank=False takes "input and constant"
    Errors     UsageError: fewer than 20 vectors; neither y_ideal nor more vectors than rows; constant inputs
    """
    if model is not None and model not in _NOISES:
        raise UsageError(f"model = {model!r}: must be one of {', '.join(_NOISES)}{nearest(model, _NOISES)}")
    n, rows = table.x.shape
    if n < _LEAST_VECTORS:
        raise UsageError(f"x: {n} vectors: must be at least {_LEAST_VECTORS}")
    excited, warnings = _excitation(table.x)
    told = excited and n >= 2 * (rows + 1)
    if not told and table.y_ideal is None:
        raise UsageError(
            f"y_ideal is missing, and {n} vectors that excite {'all' if excited else 'not all'} of {rows} rows do not "
            f"tell the weights: give y_ideal, or at least {2 * (rows + 1)} vectors that excite all rows"
        )
    if not told:
        warnings += (f"{n} vectors on {rows} rows: errors of the weights count as noise",)
    regression = by_weights if told else by_lines
    found = regression(table, np.ones(n))
    if not np.any(found.residual):
        raise UsageError("y: is linear in the inputs without any noise; there is nothing to fit")
    working = model or "input and constant"
    for _ in range(_ROUNDS):  # vectors with less noise count more
        shape = _noise_shape(table, found)
        found = regression(table, _shares(shape, working))
    shape = _noise_shape(table, found)
    squares, scale = shape.squares, shape.scale
    ranked: tuple[Candidate, ...] = ()
    chosen = working
    vectors = np.repeat(np.arange(n), table.y.shape[1])
    if model is None and rank:
        laws = [_noise_law(name, shape) for name in _NOISES]
        ranked, chosen, notes = rank_laws(laws, vectors, seed=seed)
        warnings += notes
    which = _NOISES[chosen]
    fit = maximise(_noise_likelihood(shape, which), _noise_start(which), [_LOG_SD] * len(which))
    noise_names = [("noise_abs", "noise_input", "noise_output")[k] for k in which]
    units = scale / shape.unit[which]
    noise, noise_draws = fit.reported(noise_names, _units(noise_names), lambda theta: np.exp(theta) * units, seed)
    variance = np.exp(2 * fit.values) @ squares[which]
    z = shape.ratio / np.sqrt(variance)
    mean_variance = scale**2 * (np.exp(2 * fit.values) @ np.ones(len(which)))
    columns = _columns(found, float(mean_variance), seed + 1, len(noise_draws))
    return MVMFit(
        quantity="matrix-vector product",
        model=f"noise: {chosen}",
        parameters=(*columns.parameters, *noise),
        intervals="asymptotic normal",
        goodness=(
            shape_test(z),
            dispersion_test(z, np.repeat(shape.power, table.y.shape[1]), len(which), name="input power"),
        ),
        candidates=ranked,
        warnings=(*warnings, *fit.warnings(noise_names)),
        provenance=Provenance.of(table.source, n, table.left_out),
        draws=np.hstack([columns.draws, noise_draws]),
        picture=_picture(table, found, z, float(np.sqrt(mean_variance))),
        gain=found.gain,
        gain_se=np.sqrt(mean_variance) * found.gain_unit,
        offset=found.offset,
        offset_se=np.sqrt(mean_variance) * found.offset_unit,
        weights=found.weights,
        weights_told=told,
    )


def _excitation(x: Floats) -> tuple[bool, tuple[str, ...]]:
    """Whether the inputs, apart from their mean, reach all rows in all combinations."""
    singular = np.linalg.svd(x - x.mean(axis=0), compute_uv=False)
    if singular[0] == 0:
        raise UsageError("x: all vectors are the same; gains cannot be told from offsets")
    reached = int(np.sum(singular > _WEAK * singular[0]))
    if reached >= x.shape[1]:
        return True, ()
    return False, (f"inputs excite {reached} of {x.shape[1]} directions; the weights of the others are not identified",)


class _Shape(NamedTuple):
    """What the noise is estimated from, flat (n columns,) where not said otherwise.

    ratio     residuals over their scale
    kept      share of the noise that a residual keeps, which is also the share of a degree of freedom that it is worth
    squares   (3, n columns): what each part of the noise adds to their variance, with mean one but for `kept`
    unit      (3,) of the parts; power (n,): mean x^2
    """

    ratio: Floats
    kept: Floats
    squares: Floats
    scale: float
    unit: Floats
    power: Floats


def _noise_shape(table: MVMTable, found: Regression) -> _Shape:
    power = np.mean(table.x**2, axis=1)
    output = (table.y - found.residual - found.offset) ** 2
    mean = np.array([1.0, power.mean(), output.mean()])
    parts = np.stack([np.ones_like(output), power[:, None] * np.ones_like(output), output]) / mean[:, None, None]
    kept = np.broadcast_to((1 - found.leverage)[:, None], output.shape)
    scale = float(np.sqrt(np.mean(found.residual**2)))
    squares = (parts * kept).reshape(3, -1)
    return _Shape((found.residual / scale).ravel(), kept.ravel(), squares, scale, np.sqrt(mean), power)


def _shares(shape: _Shape, model: str) -> Floats:
    """One over the noise variance of each vector, averaged over columns, relative to its mean over vectors."""
    which = _NOISES[model]
    theta = estimate(_noise_likelihood(shape, which), _noise_start(which), [_LOG_SD] * len(which))
    variance = (np.exp(2 * theta) @ shape.squares[which]).reshape(len(shape.power), -1).mean(axis=1)
    return np.asarray(variance.mean() / variance)


def _noise_start(which: list[int]) -> Floats:
    return np.full(len(which), -0.5 * np.log(2 * len(which)))


def _noise_likelihood(shape: _Shape, which: list[int], mask: Mask | None = None) -> Any:
    """Log likelihood of each residual, weighted so that all together count as many as there are degrees of freedom."""
    some = slice(None) if mask is None else mask
    parts, square, weight = shape.squares[which][:, some], shape.ratio[some] ** 2, shape.kept[some]

    def at(theta: Floats) -> Floats:
        variance = np.exp(2 * theta) @ parts
        return -0.5 * weight * (np.log(2 * np.pi * variance) + square / variance)

    return at


def _noise_law(name: str, shape: _Shape) -> Law:
    which = _NOISES[name]
    start = _noise_start(which)

    def held_out(train: Mask, test: Mask) -> Floats:
        theta = estimate(_noise_likelihood(shape, which, train), start, [_LOG_SD] * len(which))
        return np.asarray(_noise_likelihood(shape, which, test)(theta))

    return Law(name, len(which), held_out)


class _Columns(NamedTuple):
    parameters: tuple[Any, ...]
    draws: Floats


def _columns(found: Regression, variance: float, seed: int, n: int) -> _Columns:
    """Means and spreads over columns, and the s.d. of the weights' errors; the errors of estimates are taken off."""
    names: list[str] = []
    values: list[float] = []
    low: list[float] = []
    high: list[float] = []
    own_errors = found.errors.size > 0
    slip = np.zeros(0)
    freedom = max(found.errors.shape[0] - 1, 1) * found.errors.shape[1]  # one of each column went into its gain
    if own_errors:  # errors of the weights also move the gain that is measured
        square = float(np.sum(found.errors**2)) / freedom
        error = max(square - variance * found.errors_unit, 0.0)
        slip = error / found.ideal_square
    for name, value, unit in (("gain", found.gain, found.gain_unit), ("offset", found.offset, found.offset_unit)):
        m = len(value)
        if m == 0:
            continue
        se2 = variance * unit**2 + (slip if name == "gain" and own_errors else 0.0)
        names.append(f"{name}_mean")
        values.append(float(value.mean()))
        se = float(np.std(value, ddof=1) / np.sqrt(m)) if m > 1 else float(np.sqrt(se2[0]))
        widen = float(student.ppf(0.95, m - 1) / norm.ppf(0.95)) if m > 1 else 1.0  # the s.d. is an estimate, too
        ends = normal_interval(values[-1], widen * se)
        low.append(ends[0])
        high.append(ends[1])
        if m > 1:
            spread = float(np.var(value, ddof=1))
            names.append(f"{name}_sd")
            own = float(np.mean(se2))
            values.append(float(np.sqrt(max(spread - own, 0.0))))
            for side, ppf in ((low, 0.95), (high, 0.05)):
                side.append(float(np.sqrt(max(spread * (m - 1) / float(chi2.ppf(ppf, m - 1)) - own, 0.0))))
    if own_errors:
        names.append("weight_error")
        values.append(float(np.sqrt(error)))
        for side, ppf in ((low, 0.95), (high, 0.05)):
            side.append(
                float(np.sqrt(max(square * freedom / chi2.ppf(ppf, freedom) - variance * found.errors_unit, 0.0)))
            )
    centre = np.array(values)
    lows, highs = np.minimum(np.array(low, float), centre), np.maximum(np.array(high, float), centre)
    draws = normal_draws(centre, np.diag(((highs - lows) / 3.29) ** 2), n, seed)
    positive = np.array([name.endswith(("_sd", "weight_error")) for name in names])
    draws[:, positive] = np.abs(draws[:, positive])
    return _Columns(parameters(names, centre, lows, highs, _units(names)), draws)


def _units(names: list[str]) -> list[str]:
    units = {"gain_mean": "1", "gain_sd": "1", "noise_output": "1", "weight_error": "y/x", "noise_input": "y/x"}
    return [units.get(name, "y") for name in names]


def _picture(table: MVMTable, found: Regression, z: Floats, sigma: float) -> FitPicture:
    if table.y_ideal is None:
        x, label = (table.y - found.residual).ravel(), "fitted output"
    else:
        x, label = table.y_ideal.ravel(), "ideal output"
    fitted = (table.y - found.residual).ravel()
    order = np.argsort(x)[:: max(1, int(x.size) // 200)]
    slope, start = np.polyfit(x, fitted, 1)
    centre = start + slope * x[order]
    half = 1.645 * np.sqrt(sigma**2 + np.mean((fitted - start - slope * x) ** 2)) * np.ones(len(order))
    return FitPicture.of(
        (x, table.y.ravel(), z), (x[order], centre, centre - half, centre + half), label, "measured output"
    )
