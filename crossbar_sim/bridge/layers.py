"""AnalogLinear: a linear layer whose product is computed on tiles."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import nn

from crossbar_sim.array.programmed import BACKENDS, ProgrammedMatrix
from crossbar_sim.array.source import Source
from device_models.errors import StateError, UsageError, nearest


def checked_backend(backend: str) -> str:
    """The backend if it is one of "auto", "numba", "torch", else UsageError."""
    if backend not in BACKENDS:
        hint = nearest(str(backend), BACKENDS)
        raise UsageError(f"backend = {backend!r}: must be one of {', '.join(BACKENDS)}{hint}")
    return backend


class AnalogLinear(nn.Module):
    """Stands in for nn.Linear (weight (out, in)) or the transposed Conv1D of GPT-2 (weight (in, out)).

    `weight` and `bias` are the parameters of the layer it replaces, shared and under the same names; what the devices
    make of them lives in `programmed`. The bias is added in digital.

    Everything on the chip is computed in float32, in float64 where the weights are: weights, inputs and bias of other
    types (bfloat16, float16) are widened, which changes no value, and the output is rounded once to the type of the
    input. The variances of read noise are stored as bfloat16 beside float32.
    """

    def __init__(self, parameter: nn.Parameter, bias: nn.Parameter | None, programmed: ProgrammedMatrix, backend: str):
        super().__init__()
        self.weight = parameter
        self.register_parameter("bias", bias)
        self.programmed = programmed
        programmed.source = Source(self, "weight")
        self.backend = checked_backend(backend)
        plan = programmed.matrix.plan
        self.in_features, self.out_features = plan.n_in, plan.n_out

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """input (..., in_features) -> (..., out_features) in its type; each call is one read of the devices."""
        x, matrix = input, self.programmed.matrix
        if not x.dtype.is_floating_point:
            raise UsageError(f"{matrix.name}: its input must be floating-point, is {x.dtype}")
        if x.shape[-1] != self.in_features:
            raise UsageError(
                f"{matrix.name}: the last dimension of its input must be {self.in_features}; shape {tuple(x.shape)}"
            )
        if torch.is_autocast_enabled(x.device.type):
            with torch.autocast(x.device.type, enabled=False):
                return self._read(x)
        return self._read(x)

    def _read(self, x: torch.Tensor) -> torch.Tensor:
        vectors = x.reshape(-1, self.in_features).to(self.programmed.matrix.dtype).contiguous()
        bias = self.bias
        assert bias is None or isinstance(bias, torch.Tensor)
        y = self.programmed.read(vectors, bias, self.backend)
        return y.to(x.dtype).reshape(*x.shape[:-1], self.out_features)

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        """`.to()` and its kin: the state follows the weight to its device, and is made anew where its type changes."""
        if self.programmed.loading is not None:
            raise StateError(
                f"{self.programmed.matrix.name}: its weights are loaded by accelerate, so they cannot be moved or "
                "change their type; do that before the model is dispatched, and map it then"
            )
        fresh = self.programmed.may_follow
        super()._apply(fn, recurse)
        self.programmed.follow(fresh)
        return self

    def extra_repr(self) -> str:
        matrix = self.programmed.matrix
        return f"{self.in_features}, {self.out_features}, bias={self.bias is not None}, chip={matrix.spec.name!r}"
