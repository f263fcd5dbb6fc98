"""The bound of the ADC of a chip, from the column outputs of a mapped model on calibration data."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from crossbar_sim.array.matrix import AnalogMatrix
from crossbar_sim.array.read_numba import column_outputs
from crossbar_sim.array.readout import Readout
from crossbar_sim.bridge.layers import AnalogLinear
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
    Valid      static errors of the ADC and reference columns are left out. The model runs as if its ADC were exact, so
               the result does not depend on the present bound; its devices, read numbers and counts stay as they were
    Errors     UsageError for a model that is not mapped, a chip without ADC or with an output stage (which counts in
               the bound), empty data, outputs that are all zero
    Source     a bound from calibration data that fewer than 1e-4 of the outputs exceed: common practice
    Test       tests/unit/test_ranging_kinds.py
    """
    chip = getattr(mapped, "chip", None)
    if not isinstance(chip, Chip):
        raise UsageError(f"mapped = {type(mapped).__name__}: must be a model from map_model")
    if not (isinstance(share, float | int) and 0 <= share < 1):
        raise UsageError(f"share = {share!r}: must be at least 0 and below 1")
    if chip.spec.adc is None:
        raise UsageError("chip.adc: is off, so it has no bound to find")
    if chip.spec.output_stage is not None:
        raise UsageError("chip.output_stage: counts in the bound of the ADC, which therefore must be given")
    layers = [m for m in mapped.modules() if isinstance(m, AnalogLinear) and m.programmed.matrix.spec == chip.spec]
    if not layers:
        raise UsageError("rules: put every layer on another chip, so there is nothing to find a bound for")
    counts = np.zeros(_BINS, np.int64)
    largest = 0.0

    def observe(layer: AnalogLinear, inputs: tuple[torch.Tensor, ...]) -> None:
        nonlocal largest
        matrix = layer.programmed.matrix
        if inputs[0].device.type != "cpu":
            raise UsageError(f"{matrix.name}: its input is on {inputs[0].device}; move the model to the CPU")
        vectors = inputs[0].reshape(-1, layer.in_features).to(matrix.dtype).contiguous()
        for outputs in column_outputs(matrix, vectors):
            if not torch.isfinite(outputs).all():
                raise UsageError(f"calibration_data: the input of {matrix.name} is not finite")
            magnitudes = outputs.abs()
            largest = max(largest, float(magnitudes.max()))
            counts[:] += np.bincount(_bins(magnitudes.numpy()), minlength=_BINS)

    hooks = [layer.register_forward_pre_hook(observe) for layer in layers]
    try:
        with _exact_readouts([programmed.matrix for programmed in chip.matrices.values()]):
            run_model(mapped, calibration_data)
    finally:
        for hook in hooks:
            hook.remove()
    bound = _bound(counts, share, largest)
    if bound == 0:
        raise UsageError(f"share = {share!r}: gives a bound of 0 on these data; must be smaller")
    return chip.spec.evolve(**{"adc.bound": bound})


def _bins(magnitudes: NDArray[np.floating]) -> NDArray[np.int64]:
    """Bin i > 0 reaches up to _SMALLEST _RATIO^i; bin 0 holds what is smaller, zeros as well."""
    steps = np.log(np.maximum(magnitudes.ravel().astype(np.float64), _SMALLEST) / _SMALLEST) / math.log(_RATIO)
    return np.minimum(np.ceil(steps), _BINS - 1).astype(np.int64)


def _bound(counts: NDArray[np.int64], share: float, largest: float) -> float:
    allowed = math.floor(share * int(counts.sum()))
    above = counts.sum() - np.cumsum(counts)
    first = int(np.argmax(above <= allowed))
    return min(_SMALLEST * _RATIO**first, largest) if first > 0 else 0.0


@contextmanager
def _exact_readouts(matrices: list[AnalogMatrix]) -> Iterator[None]:
    """Read without ADCs meanwhile; afterwards read numbers and counts are what they were before."""
    every = matrices + [matrix.reference_columns for matrix in matrices if matrix.reference_columns is not None]
    names = ("readouts", "reads", "n_inputs", "n_clipped", "n_outputs", "n_saturated")
    before = [{name: getattr(matrix, name) for name in names} for matrix in every]
    try:
        for matrix in every:
            matrix.readouts = [Readout(ExactReadout(), None, None) for _ in matrix.readouts]
        yield
    finally:
        for matrix, state in zip(every, before, strict=True):
            for name, value in state.items():
                setattr(matrix, name, value)
