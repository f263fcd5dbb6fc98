"""Running calibration data through a model, and finding the input ranges of tiles by what its layers receive."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from crossbar_sim.bridge.mode import evaluating
from crossbar_sim.bridge.observers import observer_of
from crossbar_sim.mapping import TilePlan
from crossbar_sim.spec import DacSpec
from device_models.errors import UsageError


def calibrate_ranges(
    model: nn.Module, layers: Mapping[str, tuple[nn.Module, TilePlan, DacSpec]], data: Iterable[Any]
) -> dict[str, torch.Tensor]:
    """Input range of each row tile of each named layer from one pass of `data` through the digital `model`.

    `data` yields what the model is called with: a mapping (keywords), a tuple or list (positions), or one tensor.
    """
    observers = {name: observer_of(name, plan, dac) for name, (_, plan, dac) in layers.items()}
    hooks = [
        module.register_forward_pre_hook(lambda _, inputs, name=name: observers[name].observe(inputs[0]))
        for name, (module, _, _) in layers.items()
    ]
    try:
        run_model(model, data)
    finally:
        for hook in hooks:
            hook.remove()
    return {name: observer.ranges() for name, observer in observers.items()}


def run_model(model: nn.Module, data: Iterable[Any]) -> None:
    """Call `model` with every batch of `data`, without dropout and gradients."""
    n_batches = 0
    with torch.no_grad(), evaluating(model):
        for batch in _batches(data):
            n_batches += 1
            if isinstance(batch, Mapping):
                model(**batch)
            elif isinstance(batch, tuple | list):
                model(*batch)
            else:
                model(batch)
    if n_batches == 0:
        raise UsageError("calibration_data: is empty")


def _batches(data: Iterable[Any]) -> Iterable[Any]:
    if isinstance(data, torch.Tensor | Mapping):
        return [data]
    if isinstance(data, str) or not isinstance(data, Iterable):
        raise UsageError(
            f"calibration_data: must be a batch or an iterable of batches the model can be called with, is {type(data)}"
        )
    return data
