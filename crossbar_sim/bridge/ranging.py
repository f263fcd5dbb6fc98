"""Finding the input ranges of tiles: quantiles of what the digital model feeds its layers on calibration data."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from crossbar_sim.mapping import TilePlan
from crossbar_sim.spec import CalibratedRange
from device_models.errors import UsageError


class _TileQuantile:
    """Exact quantile of |x| of each row tile over the first vectors; keeps only as many largest values as it needs."""

    def __init__(self, name: str, plan: TilePlan, spec: CalibratedRange):
        self.name, self.plan, self.spec = name, plan, spec
        self.n_vectors = 0
        self.largest = [torch.empty(0) for _ in plan.rows]

    def observe(self, x: torch.Tensor) -> None:
        room = self.spec.max_vectors - self.n_vectors
        vectors = x.detach().reshape(-1, x.shape[-1])
        vectors = vectors[vectors.abs().amax(dim=1) != 0][:room].float().abs()  # a silent vector tells nothing
        if not torch.isfinite(vectors).all():
            raise UsageError(f"calibration_data: the input of {self.name} is not finite")
        self.n_vectors += len(vectors)
        for k, (start, stop) in enumerate(self.plan.rows):
            values = torch.cat([self.largest[k], vectors[:, start:stop].reshape(-1).cpu()])
            keep = min(len(values), math.ceil((1 - self.spec.quantile) * self._count(k, self.spec.max_vectors)) + 2)
            self.largest[k] = torch.topk(values, keep).values

    def ranges(self) -> torch.Tensor:
        """Range of each row tile; linear between order statistics, as numpy.quantile."""
        if self.n_vectors == 0:
            raise UsageError(f"calibration_data: {self.name} received no input other than zeros")
        return torch.tensor([self._quantile(k) for k in range(len(self.plan.rows))], dtype=torch.float64)

    def _quantile(self, k: int) -> float:
        from_top = (1 - self.spec.quantile) * (self._count(k, self.n_vectors) - 1)
        above = min(math.floor(from_top), len(self.largest[k]) - 1)
        below = min(above + 1, len(self.largest[k]) - 1)
        high, low = float(self.largest[k][above]), float(self.largest[k][below])
        return high - (from_top - above) * (high - low)

    def _count(self, k: int, n_vectors: int) -> int:
        start, stop = self.plan.rows[k]
        return n_vectors * (stop - start)


def calibrate_ranges(
    model: nn.Module, layers: Mapping[str, tuple[nn.Module, TilePlan, CalibratedRange]], data: Iterable[Any]
) -> dict[str, torch.Tensor]:
    """Input range of each row tile of each named layer from one pass of `data` through the digital `model`.

    `data` yields what the model is called with: a mapping (keywords), a tuple or list (positions), or one tensor.
    """
    observers = {name: _TileQuantile(name, plan, spec) for name, (_, plan, spec) in layers.items()}
    hooks = [
        module.register_forward_pre_hook(lambda _, inputs, name=name: observers[name].observe(inputs[0]))
        for name, (module, _, _) in layers.items()
    ]
    n_batches = 0
    try:
        with torch.no_grad(), _evaluating(model):
            for batch in _batches(data):
                n_batches += 1
                if isinstance(batch, Mapping):
                    model(**batch)
                elif isinstance(batch, tuple | list):
                    model(*batch)
                else:
                    model(batch)
    finally:
        for hook in hooks:
            hook.remove()
    if n_batches == 0:
        raise UsageError("calibration_data: is empty")
    return {name: observer.ranges() for name, observer in observers.items()}


def _batches(data: Iterable[Any]) -> Iterable[Any]:
    if isinstance(data, torch.Tensor | Mapping):
        return [data]
    if isinstance(data, str) or not isinstance(data, Iterable):
        raise UsageError(
            f"calibration_data: must be a batch or an iterable of batches the model can be called with, is {type(data)}"
        )
    return data


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    training = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in training.items():
            module.training = mode
