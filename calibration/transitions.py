"""Transition levels of a converter from a static ramp or from how often each code came, with their covariance."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from calibration.tables import ConverterHistogram, ConverterTable
from device_models.errors import UsageError

Floats = NDArray[np.float64]

Stimulus = Literal["ramp", "sine"]

LEAST_TRANSITIONS = 6


class Transitions(NamedTuple):
    """Inputs from which on a converter gives each code.

    code (m,)              codes, ascending without a gap; level (m,): input at which the code is reached
    covariance (m, m)      of the levels; noise: s.d. of the converter's noise in units of the input, none if not seen
    missing                codes between the first and the last that never came
    """

    code: NDArray[np.int64]
    level: Floats
    covariance: Floats
    noise: float | None
    missing: int


def from_ramp(table: ConverterTable) -> Transitions:
    """Levels from inputs that go through the range, in any order and density, once or more often.

    Equation   T_k = x_first + sum of w_i over inputs with a code below k, w_i the inputs' distances (trapezoids);
               sigma = sqrt(pi) d (V - m) / (2 m), V the sum of |steps of the code| along the ramp, m transitions, d the
               mean distance: without noise the code climbs each step once
               cov(T_k, T_l) = d sigma sqrt(2) (phi(v) - v (1 - Phi(v))) + [k = l] d^2 / 12, v = |T_k - T_l| / (sigma
               sqrt(2))
    Errors     UsageError: fewer than six transitions; codes that fall as the input rises
    """
    order = np.lexsort((table.code, table.input))
    x, code = table.input[order], table.code[order]
    places, counts = np.unique(x, return_counts=True)
    if len(places) < 3:
        raise UsageError(f"input: {len(places)} different values: a ramp needs more")
    edges = np.concatenate([[1.5 * places[0] - 0.5 * places[1]], (places[1:] + places[:-1]) / 2, places[-1:]])
    edges[-1] += (places[-1] - places[-2]) / 2
    weight = np.repeat(np.diff(edges) / counts, counts)
    codes = _codes(int(code.min()), int(code.max()))
    _refuse_falling(x, code)
    below = np.concatenate([[0.0], np.cumsum(np.bincount(code - code.min(), weight))])
    level = edges[0] + below[1:-1]
    # along the ramp; reads at one input follow each other in the order in which they were taken
    climbed = np.abs(np.diff(table.code[np.argsort(table.input, kind="stable")])).sum()
    distance = float((edges[-1] - edges[0]) / len(x))
    noise = float(np.sqrt(np.pi) * distance * max(climbed - len(codes), 0) / (2 * len(codes)))
    covariance = np.eye(len(codes)) * distance**2 / 12
    if noise > 0:
        v = np.abs(level[:, None] - level) / (noise * np.sqrt(2))
        covariance += distance * noise * np.sqrt(2) * (np.exp(-0.5 * v**2) / np.sqrt(2 * np.pi) - v * ndtr(-v))
    missing = int(np.sum(np.bincount(code - code.min())[1:-1] == 0))
    return Transitions(codes, level, covariance, noise, missing)


def from_histogram(
    table: ConverterHistogram, stimulus: Stimulus, low: float | None, high: float | None
) -> tuple[Transitions, bool]:
    """Levels from counts, and whether their scale is that of the input; without low and high it is arbitrary.

    Equation   ramp: T_k = low + (high - low) P_k; sine: T_k = (low + high) / 2 - (high - low) / 2 cos(pi P_k), with P_k
               the share of codes below k; cov(P_k, P_l) = P_k (1 - P_l) / N for samples at random phases
    Errors     UsageError: fewer than six transitions; only one of low and high; an empty histogram
    """
    if (low is None) != (high is None):
        raise UsageError(f"low = {low}, high = {high}: the ends of the stimulus must both be given, or none of them")
    known = low is not None and high is not None
    bottom, top = (low, high) if low is not None and high is not None else (-1.0, 1.0)
    if not bottom < top:
        raise UsageError(f"low = {bottom:g}: must be below high = {top:g}")
    came = np.flatnonzero(table.count)
    total = int(table.count.sum())
    if total == 0:
        raise UsageError("count: is 0 for all codes")
    first, last = int(table.code[came[0]]), int(table.code[came[-1]])
    codes = _codes(first, last)
    counts = np.zeros(last - first + 1)
    inside = (table.code >= first) & (table.code <= last)
    counts[table.code[inside] - first] = table.count[inside]
    if not known and stimulus == "ramp":  # the end codes hold whatever the ramp spends beyond the range
        counts[[0, -1]] = np.median(counts)
    total = int(counts.sum())
    p = np.cumsum(counts)[:-1] / total
    if stimulus == "ramp":
        level, slope = bottom + (top - bottom) * p, np.full(len(p), top - bottom)
    else:
        level = (bottom + top) / 2 - (top - bottom) / 2 * np.cos(np.pi * p)
        slope = (top - bottom) / 2 * np.pi * np.sin(np.pi * p)
    covariance = np.minimum.outer(p, p) * (1 - np.maximum.outer(p, p)) / total * np.outer(slope, slope)
    return Transitions(codes, level, covariance, None, int(np.sum(counts[1:-1] == 0))), known


def _codes(first: int, last: int) -> NDArray[np.int64]:
    if last - first < LEAST_TRANSITIONS:
        raise UsageError(f"code: runs from {first} to {last}: must pass at least {LEAST_TRANSITIONS} transitions")
    return np.arange(first + 1, last + 1)


def _refuse_falling(x: Floats, code: NDArray[np.int64]) -> None:
    if np.sum((x - x.mean()) * (code - code.mean())) <= 0:
        raise UsageError("code: falls as the input rises; give minus the input of an inverting converter")
