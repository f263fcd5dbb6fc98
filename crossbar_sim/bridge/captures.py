"""Reads stay outside of graphs: torch.compile breaks its graph there, and captures that would freeze them are refused.

A read draws noise by its number and counts what was clipped, so a capture that replays recorded numbers would give the
answer of another read without a word.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import torch

from device_models.errors import UsageError

F = TypeVar("F", bound=Callable[..., Any])
_FAKE = ("FakeTensor", "FunctionalTensor")


def outside_of_graphs(method: F) -> F:
    """A forward that torch.compile calls as it is, with graphs before and after it.

    `torch.compiler.disable` as a decorator would import the compiler for everybody, which takes a second.
    """

    @wraps(method)
    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling():
            return torch.compiler.disable(method)(self, *args, **kwargs)
        return method(self, *args, **kwargs)

    return forward  # type: ignore[return-value]


def check_eager(x: Any, name: str) -> None:
    """UsageError where `x` is not a tensor with values, or a graph is being recorded from the values it meets."""
    plain = type(x) is torch.Tensor and not (x.is_meta or x.is_cuda or x.is_nested or x.layout is not torch.strided)
    if plain and not (
        torch._C._get_tracing_state()
        or torch._C._len_torch_dispatch_stack()
        or torch._C._functorch.is_functorch_wrapped_tensor(x)
    ):
        return  # every read comes by here, and what follows would be a hundredth of one of a single vector
    if not isinstance(x, torch.Tensor):
        raise UsageError(f"{name}: its input must be a tensor, is {type(x).__name__}")
    recorder = None
    if torch.jit.is_tracing():
        recorder = "torch.jit.trace"
    elif type(x).__name__ in _FAKE or x.device.type == "meta":
        recorder = "torch.export or a trace on tensors without values"
    elif torch._C._functorch.is_functorch_wrapped_tensor(x):
        recorder = "a transform of torch.func"
    elif (proxy := sys.modules.get("torch.fx.experimental.proxy_tensor")) and proxy.get_proxy_mode() is not None:
        recorder = "torch.fx"
    elif x.is_cuda and torch.cuda.is_current_stream_capturing():
        recorder = "a CUDA graph"
    if recorder is not None:
        raise UsageError(
            f"{name}: a read of the chip cannot be recorded by {recorder}, because each read is another one; call the "
            "model itself, or torch.compile, which reads outside of its graphs"
        )
    if x.layout != torch.strided or x.is_nested:
        raise UsageError(f"{name}: its input must be a dense tensor, is {'nested' if x.is_nested else x.layout}")
