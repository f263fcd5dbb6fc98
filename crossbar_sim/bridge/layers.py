"""Layers whose product is computed on tiles, and the read that all of them share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Self

import torch
from torch import nn

from crossbar_sim.array.programmed import BACKENDS, ProgrammedMatrix
from crossbar_sim.array.source import gone
from crossbar_sim.bridge.captures import check_eager, outside_of_graphs
from device_models.errors import StateError, UsageError, nearest


def checked_backend(backend: str) -> str:
    """The backend if it is one of "auto", "numba", "torch", else UsageError."""
    if backend not in BACKENDS:
        hint = nearest(str(backend), BACKENDS)
        raise UsageError(f"backend = {backend!r}: must be one of {', '.join(BACKENDS)}{hint}")
    return backend


class ChipSlot:
    """Reads one matrix on the chip: input (..., n_in) -> (..., n_out) in its type, each call one read of the devices.

    Everything on the chip is computed in float32, in float64 where the weights are: weights, inputs and bias of other
    types (bfloat16, float16) are widened, which changes no value, and the output is rounded once to the type of the
    input. The variances of read noise are stored as bfloat16 beside float32.
    """

    def __init__(self, programmed: ProgrammedMatrix, backend: str):
        self.programmed = programmed
        self.backend = checked_backend(backend)

    def __call__(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        matrix = self.programmed.matrix
        check_eager(x, matrix.name)
        if not x.dtype.is_floating_point:
            raise UsageError(f"{matrix.name}: its input must be floating-point, is {x.dtype}")
        n_in, n_out = matrix.plan.n_in, matrix.plan.n_out
        if x.dim() == 0 or x.shape[-1] != n_in:
            raise UsageError(f"{matrix.name}: the last dimension of its input must be {n_in}; shape {tuple(x.shape)}")
        with torch._C.DisableTorchFunction():  # a read within a layer that `bridge.direct` watches is its own affair
            if torch.is_autocast_enabled(x.device.type):
                with torch.autocast(x.device.type, enabled=False):
                    return self._read(x, bias, n_in, n_out)
            return self._read(x, bias, n_in, n_out)

    def _read(self, x: torch.Tensor, bias: torch.Tensor | None, n_in: int, n_out: int) -> torch.Tensor:
        vectors = x.reshape(-1, n_in).to(self.programmed.matrix.dtype).contiguous()
        y = self.programmed.read(vectors, bias, self.backend)
        return y.to(x.dtype).reshape(*x.shape[:-1], n_out)


class AbstractAnalogLayer(nn.Module):
    """Stands in for a layer whose one matrix is on the chip.

    `weight` and `bias` are the parameters of the layer it replaces, shared and under the same names; what the devices
    make of them lives in `programmed`. The bias is added in digital.
    """

    bias: nn.Parameter | None

    def __init__(self, parameter: nn.Parameter, bias: nn.Parameter | None, programmed: ProgrammedMatrix, backend: str):
        nn.Module.__init__(self)  # others, such as nn.Linear.__init__, would make weights of their own
        self.weight = parameter
        self.register_parameter("bias", bias)
        programmed.source = replace(programmed.source, tensors=self._parameters, name="weight")
        self.slot = ChipSlot(programmed, backend)
        self.in_features, self.out_features = programmed.matrix.plan.n_in, programmed.matrix.plan.n_out

    @property
    def programmed(self) -> ProgrammedMatrix:
        """The devices of the weight."""
        return self.slot.programmed

    @property
    def backend(self) -> str:
        """What reads them: "auto", "numba" or "torch"."""
        return self.slot.backend

    @outside_of_graphs
    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """input (..., n_in) -> (..., n_out) in its type; each call is one read of the devices."""
        weight = self._parameters.get("weight")
        if weight is None:
            raise gone(self.programmed.matrix.name)
        return self.slot(input, weight, self.bias)

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        """`.to()` and its kin: the state follows the weight to its device, and is made anew where its type changes."""
        check_movable(self.programmed)
        fresh = self.programmed.may_follow
        super()._apply(fn, recurse)
        self.programmed.follow(fresh)
        return self

    def extra_repr(self) -> str:
        chip = self.programmed.matrix.spec.name
        return f"{self.in_features}, {self.out_features}, bias={self.bias is not None}, chip={chip!r}"


class AnalogLinear(AbstractAnalogLayer, nn.Linear):  # type: ignore[misc]
    """nn.Linear on the chip, and an nn.Linear to whoever asks for its class."""


def check_movable(programmed: ProgrammedMatrix) -> None:
    """StateError for weights that accelerate loads: they have no place to be moved to."""
    if programmed.loading is not None:
        raise StateError(
            f"{programmed.matrix.name}: its weights are loaded by accelerate, so they cannot be moved or "
            "change their type; do that before the model is dispatched, and map it then"
        )
