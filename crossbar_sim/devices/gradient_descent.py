"""Gradient-descent programming: pulses that lower the error of whole products, measured through the periphery.

No device is read alone, so no fine converter is needed, and whatever the read does to a product, a gain or an offset
of a column or a loss in the wires, is programmed away as far as the weights can.

Sources
    J. Buechel et al., "Gradient descent-based programming of analog in-memory computing cores", IEDM 2022,
    DOI 10.1109/IEDM45625.2022.10019486; J. Buechel et al., "Programming weights to analog in-memory computing cores by
    direct minimization of the matrix-vector multiplication error", IEEE JETCAS 13 (2023).
"""
# mypy: allow-untyped-defs, allow-incomplete-defs
# Numba compiles these from the types of the call.

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from crossbar_sim.kernels.random import fill_normals, threefry, u32
from crossbar_sim.spec.programming import GradientDescentProgramming
from device_models.errors import UsageError

Floats = NDArray[np.float64]
Read = Callable[[Floats, Floats, Floats, int], Floats]
"""read(g_plus, g_minus, x, step) -> y (batch, n_out): one read of inputs x (batch, n_in), in units of x @ weights.T."""

_INPUTS, _WRITES = u32(0), u32(1)


class GradientDescentResult(NamedTuple):
    """What gradient-descent programming left behind, and how it came there."""

    g_plus_uS: Floats
    g_minus_uS: Floats
    error_rms: Floats
    """Root mean square error of the products, measured at the beginning of each step; the last entry is after all."""
    pulses: NDArray[np.int64]
    """Pulses on each weight."""
    limited: int
    """Pulses cut short because both devices of the pair were at the ends of their window."""


def gradient_descent_program(
    weights: Floats,
    read: Read,
    spec: GradientDescentProgramming,
    start_uS: tuple[Floats, Floats],
    window_uS: tuple[float, float],
    key: tuple[np.uint32, np.uint32],
    input_sigma: float = 1.0,
    play: Callable[[Floats], Floats] = np.asarray,
) -> GradientDescentResult:
    """Bring the products of differential pairs to those of `weights`, whatever `read` is made of.

    Equation   E = A(X; G) - X W^T, D = E^T X / (B s_x^2), X ~ N(0, s_x^2); where |D| > threshold the pair changes by
               d = -eta D (g_max - g_min), rounded to pulses, plus (sigma_write_uS + sigma_write_relative |d|) z.
               First the device that has to fall takes the change; what its window does not hold, its partner takes
               by rising. So a pair stays one-sided, and no change is lost twice on a device that does not move
    Arguments  weights (n_out, n_in) relative, in [-1, 1]; read: see `Read`; start_uS: g+ and g- (n_out, n_in) [uS];
               window_uS: g_min, g_max [uS]; key: of this matrix and purpose; input_sigma: s_x, within the input range
               of the read; play: the inputs that the read has in place of X, for example rounded, which E then takes
    Returns    GradientDescentResult
    Valid      eta (1 + (n_in + 1) / B) < 2, else the error grows (refused)
    Errors     UsageError for shapes that do not fit, values that are not finite, starts outside the window
    Source     Buechel 2022, 2023
    Test       tests/oracles/test_effects_programming.py::test_gradient_descent_follows_the_linear_theory
    """
    weights = np.asarray(weights, np.float64)
    g_min, g_max = window_uS
    g_plus, g_minus = (np.array(g, np.float64, order="C") for g in start_uS)
    _check(weights, (g_plus, g_minus), g_min, g_max, spec, input_sigma)
    span = g_max - g_min
    n_out, n_in = weights.shape
    pulses, limited = np.zeros(weights.shape, np.int64), 0
    error_rms = np.empty(spec.steps + 1)
    for step in range(spec.steps + 1):
        x = play(input_sigma * _inputs(key, step, (spec.batch, n_in)))
        y = np.asarray(read(g_plus, g_minus, x, step), np.float64)
        if y.shape != (spec.batch, n_out) or not np.isfinite(y).all():
            raise UsageError(f"read gave {y.shape} values: must be finite, of shape {(spec.batch, n_out)}")
        error = y - x @ weights.T
        error_rms[step] = np.sqrt((error**2).mean())
        if step == spec.steps:
            break
        gradient = error.T @ x / (spec.batch * input_sigma**2)
        limited += _pulse(
            u32(key[0]), u32(key[1]), u32(step), gradient, spec.threshold, -spec.eta * span, spec.pulse_uS or 0.0,
            spec.sigma_write_uS, spec.sigma_write_relative, g_min, g_max, g_plus, g_minus, pulses,
        )  # fmt: skip
    return GradientDescentResult(g_plus, g_minus, error_rms, pulses, limited)


@njit(cache=True)
def _pulse(
    key0, key1, step, gradient, threshold, scale, pulse, sigma, sigma_relative, g_min, g_max, g_plus, g_minus, pulses
):
    """Pulses of one step on all weights, counted; returns how many were cut short."""
    key0, key1 = threefry(key0, key1, step, _WRITES)
    z, spare = np.empty(gradient.shape[1], np.float32), np.empty(gradient.shape[1], np.float32)
    limited = 0
    for o in range(gradient.shape[0]):
        fill_normals(key0, key1, u32(0), u32(o), z, spare)
        for k in range(gradient.shape[1]):
            change = scale * gradient[o, k] if abs(gradient[o, k]) > threshold else 0.0
            if pulse > 0:
                change = np.rint(change / pulse) * pulse
            is_pulsed = change != 0
            change += (sigma + sigma_relative * abs(change)) * np.float64(z[k]) if is_pulsed else 0.0
            pulses[o, k] += is_pulsed
            rises, plus, minus = change >= 0, g_plus[o, k], g_minus[o, k]
            below = (minus if rises else plus) - abs(change)
            lowered = max(below, g_min)
            above = (plus if rises else minus) + (lowered - below)
            raised = min(above, g_max)
            g_plus[o, k] = raised if rises else lowered
            g_minus[o, k] = lowered if rises else raised
            limited += raised != above
    return limited


def _inputs(key: tuple[np.uint32, np.uint32], step: int, shape: tuple[int, int]) -> Floats:
    """Standard normals of a step: counter 0 is the input, counter 1 the vector."""
    z = np.empty(shape, np.float32)
    _fill(u32(key[0]), u32(key[1]), u32(step), z)
    return z.astype(np.float64)


@njit(cache=True)
def _fill(key0, key1, step, z):
    key0, key1 = threefry(key0, key1, step, _INPUTS)
    spare = np.empty(z.shape[1], np.float32)
    for row in range(z.shape[0]):
        fill_normals(key0, key1, u32(0), u32(row), z[row], spare)


def _check(
    weights: Floats,
    start_uS: tuple[Floats, Floats],
    g_min: float,
    g_max: float,
    spec: GradientDescentProgramming,
    input_sigma: float,
) -> None:
    if weights.ndim != 2 or weights.size == 0:
        raise UsageError(f"weights have shape {weights.shape}: must be (n_out, n_in)")
    if not (abs(weights) <= 1).all():
        raise UsageError("weights: must be finite and within -1 to 1, relative to the largest weight")
    if not 0 <= g_min < g_max < np.inf:
        raise UsageError(f"window_uS = ({g_min:g}, {g_max:g}): must be 0 <= g_min < g_max")
    for name, g in zip(("start_uS[0]", "start_uS[1]"), start_uS, strict=True):
        if g.shape != weights.shape:
            raise UsageError(f"{name} has shape {g.shape}: must be that of weights, {weights.shape}")
        if not ((g >= g_min) & (g <= g_max)).all():
            raise UsageError(f"{name}: must be finite and within the window, {g_min:g} to {g_max:g} uS")
    if not 0 < input_sigma < np.inf:
        raise UsageError(f"input_sigma = {input_sigma:g}: must be above 0 and finite")
    largest = 2 / (1 + (weights.shape[1] + 1) / spec.batch)
    if spec.eta >= largest:
        raise UsageError(
            f"eta = {spec.eta:g}: must be below {largest:.4g} with {weights.shape[1]} inputs and a batch of "
            f"{spec.batch}, else the error grows; a larger batch allows a larger eta"
        )
