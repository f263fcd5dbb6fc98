"""nn.Linear, its subclasses that compute the same product, and the transposed Conv1D of GPT-2."""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from crossbar_sim.array.view import View
from crossbar_sim.bridge.kinds.base import AbstractKind, Matrix


class LinearKind(AbstractKind):
    """nn.Linear and every subclass of it whose answer to probes is that of nn.Linear."""

    replaces = True

    def matches(self, layer: nn.Module) -> bool:
        return isinstance(layer, nn.Linear)

    def matrices(self, layer: nn.Module) -> Mapping[str, Matrix]:
        refusal = None if _is_plain(layer) else f"{type(layer).__name__} changes what nn.Linear computes"
        return {"": Matrix(refusal=refusal)}

    def others(self, layer: nn.Module) -> Iterable[str]:
        return ()


class TransposedKind(AbstractKind):
    """Conv1D of transformers, whose weight is (n_in, n_out)."""

    replaces = True

    def matches(self, layer: nn.Module) -> bool:
        conv1d: Any = getattr(sys.modules.get("transformers.pytorch_utils"), "Conv1D", None)
        return conv1d is not None and isinstance(layer, conv1d)

    def matrices(self, layer: nn.Module) -> Mapping[str, Matrix]:
        changed = type(layer).forward is not _transformers_conv1d().forward
        refusal = f"{type(layer).__name__} changes what Conv1D computes" if changed else None
        return {"": Matrix(view=View(transposed=True), refusal=refusal)}

    def others(self, layer: nn.Module) -> Iterable[str]:
        return ()


def _transformers_conv1d() -> Any:
    return sys.modules["transformers.pytorch_utils"].Conv1D


def _is_plain(layer: nn.Module) -> bool:
    kind = type(layer)
    if kind.__call__ is not nn.Module.__call__:
        return False
    if kind.forward is nn.Linear.forward:
        return True
    if _foreign_state(layer):
        return False
    return _answers_as_linear(kind, layer)


def _foreign_state(layer: nn.Module) -> bool:
    """Whether it holds parameters, buffers or modules that nn.Linear does not know."""
    own = {name for name, value in layer.named_parameters() if value is not None}
    return bool(own - {"weight", "bias"}) or bool(dict(layer.named_buffers())) or bool(layer._modules)


def _answers_as_linear(kind: type[nn.Module], layer: nn.Module) -> bool:
    """Ask a small twin of the layer, so that neither the size nor the device of its weights matters."""
    twin = copy.copy(layer)
    generator = torch.Generator().manual_seed(0)
    n_in, n_out = 5, 3

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64, device="cpu")

    weight, bias = normal(n_out, n_in), None if layer.bias is None else normal(n_out)
    own = {"weight": nn.Parameter(weight), "bias": None if bias is None else nn.Parameter(bias)}
    twin.__dict__ = {**vars(layer), "_parameters": own}
    twin.in_features, twin.out_features = n_in, n_out  # type: ignore[assignment]
    probes = [normal(2, n_in), normal(2, 3, n_in) * 1e3, normal(1, n_in) * 1e-3, torch.zeros(1, n_in).double()]
    with torch.no_grad():
        for training in (False, True):
            twin.training = training
            for x in probes:
                try:
                    found = kind.forward(twin, x.clone())
                except Exception:  # whatever a foreign forward raises, it is not nn.Linear
                    return False
                expected = nn.functional.linear(x, weight, bias)
                if not isinstance(found, torch.Tensor) or found.shape != expected.shape:
                    return False
                if not torch.allclose(found.double(), expected, rtol=1e-9, atol=1e-12):
                    return False
    return True


def conv1d_layer() -> Any:
    """The class that takes the place of Conv1D, which exists only where transformers does."""
    from crossbar_sim.bridge.kinds.transposed import AnalogConv1D

    return AnalogConv1D
