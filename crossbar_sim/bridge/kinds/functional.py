"""Parameters that the code of a layer hands to F.linear itself, such as the mixing matrices of hyper-connections."""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any

from torch import nn
from torch.nn.parameter import is_lazy

from crossbar_sim.bridge.kinds.base import AbstractKind, Matrix
from crossbar_sim.bridge.sources import sources_of


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
    return frozenset(name for source in sources_of(kind) for name in _second_arguments(source))


def _second_arguments(source: str) -> Iterator[str]:
    """The attributes of self that calls of a function named linear have as their weight, cast to a type or not."""
    try:
        tree = ast.parse(textwrap.dedent(source))
    except SyntaxError:  # part of a statement, such as a lambda
        return
    method = next((node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)), None)
    own = method.args.args[0].arg if method is not None and method.args.args else "self"
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _is_linear(node.func):
            given = node.args[1] if len(node.args) > 1 else _keyword(node, "weight")
            if isinstance(given, ast.Call) and isinstance(given.func, ast.Attribute):
                given = given.func.value  # self.weight.float()
            if isinstance(given, ast.Attribute) and isinstance(given.value, ast.Name) and given.value.id == own:
                yield given.attr


def _is_linear(function: ast.expr) -> bool:
    return getattr(function, "attr", getattr(function, "id", None)) == "linear"


def _keyword(call: ast.Call, name: str) -> ast.expr | None:
    return next((each.value for each in call.keywords if each.arg == name), None)
