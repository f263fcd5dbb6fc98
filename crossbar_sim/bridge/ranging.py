"""Running calibration data through a model, and finding the input ranges of tiles by what its layers receive."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import nn

from crossbar_sim.bridge.direct import Direct
from crossbar_sim.bridge.mode import evaluating
from crossbar_sim.bridge.observers import AbstractObserver, observer_of
from crossbar_sim.mapping import TilePlan
from crossbar_sim.spec import DacSpec
from device_models.errors import UsageError


def calibrate_ranges(
    model: nn.Module,
    matrices: Mapping[str, tuple[TilePlan, DacSpec]],
    layers: Mapping[str, nn.Module],
    direct: Callable[[Mapping[str, Any]], list[Direct]],
    data: Iterable[Any],
) -> dict[str, torch.Tensor]:
    """Input range of each row tile of each named matrix from one pass of `data` through the digital `model`.

    layers   those whose input is that of their one matrix; the inputs of others are seen within their forward
    direct   what makes such layers hand their inputs to observers (bridge.convert.direct_layers)
    data     yields what the model is called with: a mapping (keywords), a tuple or list (positions), or one tensor
    """
    observers = {name: observer_of(name, plan, dac) for name, (plan, dac) in matrices.items()}
    hooks = [
        module.register_forward_pre_hook(
            lambda _, inputs, keywords, name=name: observers[name].observe(_input(inputs, keywords)), with_kwargs=True
        )
        for name, module in layers.items()
    ]
    watched = direct({name: _Observed(observer) for name, observer in observers.items()})
    for each in watched:
        each.install()
    try:
        run_model(model, data)
    finally:
        for hook in hooks:
            hook.remove()
        for each in reversed(watched):
            each.remove()
    return {name: observer.ranges() for name, observer in observers.items()}


def _input(inputs: tuple[Any, ...], keywords: Mapping[str, Any]) -> torch.Tensor:
    """What a layer was called with, by position or by name."""
    return inputs[0] if inputs else next(iter(keywords.values()))


class _Observed:
    """A matrix that stays digital and whose inputs are looked at."""

    def __init__(self, observer: AbstractObserver):
        self.observer = observer

    def __call__(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        self.observer.observe(x)
        return nn.functional.linear(x, weight, bias)


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
