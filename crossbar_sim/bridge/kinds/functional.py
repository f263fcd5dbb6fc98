"""Parameters that the code of a layer hands to F.linear itself, such as the mixing matrices of hyper-connections."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from torch import nn
from torch.nn.parameter import is_lazy

from crossbar_sim.bridge.kinds.base import AbstractKind, Matrix
from crossbar_sim.bridge.sources import sources_of

_LINEAR = re.compile(r"\blinear\([^\n]*?,\s*self\.(\w+)\b(?!\.\w+\.)")


class FunctionalKind(AbstractKind):
    """Known by the source of the class: ``F.linear(x, self.name)``, where `name` is a parameter of the layer."""

    def matches(self, layer: nn.Module) -> bool:
        return bool(self._names(layer))

    def matrices(self, layer: nn.Module) -> Mapping[str, Matrix]:
        return {name: Matrix(attribute=name) for name in self._names(layer)}

    def others(self, layer: nn.Module) -> Iterable[str]:
        return ()

    def _names(self, layer: nn.Module) -> list[str]:
        kind: Any = type(layer)
        values = {name: p for name, p in layer._parameters.items() if p is not None and not is_lazy(p)}
        own = {name for name, p in values.items() if p.dim() == 2}
        return sorted(own & _given_to_linear(kind)) if own else []


@cache
def _given_to_linear(kind: Any) -> frozenset[str]:
    return frozenset(name for source in sources_of(kind) for name in _LINEAR.findall(source))
