"""The bound of the ADC of a chip, from the column outputs of a mapped model on calibration data."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from crossbar_sim.array.matrix import AnalogMatrix
from crossbar_sim.array.programmed import ProgrammedMatrix
from crossbar_sim.array.read_numba import column_outputs
from crossbar_sim.bridge.ranging import run_model
from crossbar_sim.chip import Chip
from crossbar_sim.converters.states import ExactReadout
from crossbar_sim.spec import ChipSpec
from device_models.errors import UsageError

_RATIO = 1.001
_SMALLEST, _BINS = 1e-6, 32768  # up to 1.7e8 fully driven devices


def calibrate_adc_bound(mapped: nn.Module, calibration_data: Iterable[Any], share: float = 1e-4) -> ChipSpec:
    """The chip of a mapped model with the smallest `adc.bound` that at most a part `share` of its outputs exceeds.

    Equation   bound = the (k + 1)-th largest |v|, k = floor(share n), rounded up by less than 0.1 %, but never beyond
               the largest; v the n outputs of all tiles, vectors and conversions of layers on this chip ahead of the
               ADC, in fully driven devices, with read noise and output noise, drifted as `mapped` is now
    Arguments  mapped: from `map_model`, on the CPU; calibration_data: as there; share at least 0 and below 1
    Valid      static errors of the ADC and reference columns are left out; outputs are those of first reads where
               adc.bound_management would read again. The model runs as if its ADC were exact, so
               the result does not depend on the present bound; its devices, read numbers and counts stay as they were
    Errors     UsageError for a model that is not mapped, a chip without ADC or with an output stage (which counts in
               the bound), empty data, outputs that are all zero
    Source     a bound from calibration data that fewer than 1e-4 of the outputs exceed: common practice
    Test       tests/unit/test_ranging_kinds.py
    """
    chip = _checked_chip(mapped, share)
    seen = _observe(mapped, chip, calibration_data)
    return chip.spec.evolve(**{"adc.bound": sum(seen.values(), _Magnitudes()).bound(share)})


def calibrate_adc_bounds(
    mapped: nn.Module, calibration_data: Iterable[Any], share: float = 1e-4
) -> dict[str, ChipSpec]:
    """`calibrate_adc_bound` for each layer by itself: rules for `map_model` that give every layer a bound of its own.

    A chip with them is saved and loaded like any other, because the bounds are part of its specifications:
    ``map_model(model, spec, seed, rules={**rules, **calibrate_adc_bounds(mapped, data)})``. An ADC whose full scale
    differs between layers is one with a programmable reference or integration time.
    """
    chip = _checked_chip(mapped, share)
    seen = _observe(mapped, chip, calibration_data)
    return {name: chip.spec.evolve(**{"adc.bound": own.bound(share)}) for name, own in seen.items()}


class _Magnitudes:
    """A histogram of |v| that is fine enough for bounds, and the largest of them."""

    def __init__(self) -> None:
        self.counts = np.zeros(_BINS, np.int64)
        self.largest = 0.0

    def add(self, outputs: torch.Tensor) -> None:
        magnitudes = outputs.abs()
        self.largest = max(self.largest, float(magnitudes.max()))
        self.counts += np.bincount(_bins(magnitudes.numpy()), minlength=_BINS)

    def __add__(self, other: _Magnitudes) -> _Magnitudes:
        both = _Magnitudes()
        both.counts, both.largest = self.counts + other.counts, max(self.largest, other.largest)
        return both

    def bound(self, share: float) -> float:
        allowed = math.floor(share * int(self.counts.sum()))
        above = self.counts.sum() - np.cumsum(self.counts)
        first = int(np.argmax(above <= allowed))
        if first == 0:
            raise UsageError(f"share = {share!r}: gives a bound of 0 on these data; must be smaller")
        return min(_SMALLEST * _RATIO**first, self.largest)


def _checked_chip(mapped: nn.Module, share: float) -> Chip:
    chip = getattr(mapped, "chip", None)
    if not isinstance(chip, Chip):
        raise UsageError(f"mapped = {type(mapped).__name__}: must be a model from map_model")
    if not (isinstance(share, float | int) and 0 <= share < 1):
        raise UsageError(f"share = {share!r}: must be at least 0 and below 1")
    if chip.spec.adc is None:
        raise UsageError("chip.adc: is off, so it has no bound to find")
    if chip.spec.output_stage is not None:
        raise UsageError("chip.output_stage: counts in the bound of the ADC, which therefore must be given")
    return chip


def _observe(mapped: nn.Module, chip: Chip, calibration_data: Iterable[Any]) -> dict[str, _Magnitudes]:
    """The column outputs of every matrix on the chip of a mapped model."""
    own = {name: programmed for name, programmed in chip.matrices.items() if programmed.matrix.spec == chip.spec}
    if not own:
        raise UsageError("rules: put every layer on another chip, so there is nothing to find a bound for")
    seen = {name: _Magnitudes() for name in own}

    def observe(name: str, programmed: ProgrammedMatrix, vectors: torch.Tensor) -> None:
        if vectors.device.type != "cpu":
            raise UsageError(f"{name}: its input is on {vectors.device}; move the model to the CPU")
        with programmed.state():
            for outputs in column_outputs(programmed.matrix, vectors):
                if not torch.isfinite(outputs).all():
                    raise UsageError(f"calibration_data: the input of {name} is not finite")
                seen[name].add(outputs)

    try:
        for name, programmed in own.items():
            programmed.observer = partial(observe, name, programmed)
        with _exact_readouts([programmed.matrix for programmed in chip.matrices.values()]):
            run_model(mapped, calibration_data)
    finally:
        for programmed in own.values():
            programmed.observer = None
    return seen


def _bins(magnitudes: NDArray[np.floating]) -> NDArray[np.int64]:
    """Bin i > 0 reaches up to _SMALLEST _RATIO^i; bin 0 holds what is smaller, zeros as well."""
    steps = np.log(np.maximum(magnitudes.ravel().astype(np.float64), _SMALLEST) / _SMALLEST) / math.log(_RATIO)
    return np.minimum(np.ceil(steps), _BINS - 1).astype(np.int64)


@contextmanager
def _exact_readouts(matrices: list[AnalogMatrix]) -> Iterator[None]:
    """Read without ADCs meanwhile; afterwards read numbers and counts are what they were before."""
    every = matrices + [matrix.reference_columns for matrix in matrices if matrix.reference_columns is not None]
    names = ("readouts", "reads", "n_inputs", "n_clipped", "n_outputs", "n_saturated", "n_read_again", "n_repeats")
    before = [{name: getattr(matrix, name) for name in names} for matrix in every]
    try:
        for matrix in every:
            matrix.readouts = [readout._replace(adc=ExactReadout(), errors=None) for readout in matrix.readouts]
        yield
    finally:
        for matrix, state in zip(every, before, strict=True):
            for name, value in state.items():
                setattr(matrix, name, value)
