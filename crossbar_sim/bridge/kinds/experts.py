"""Experts of mixtures that are held in one parameter each, one expert behind the other, and their routers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

from crossbar_sim.array.view import View
from crossbar_sim.bridge.kinds.base import AbstractKind, Matrix

_TRANSPOSED = ("Llama4TextExperts",)  # classes that multiply by (experts, n_in, n_out) and do not say so
_TOP_K = ("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_top_k", "top_k_experts", "moe_k", "top_k")


class ExpertsKind(AbstractKind):
    """Parameters (experts, n_out, n_in), or (experts, n_in, n_out) where the class is transposed: a matrix an expert.

    Known by the name of the class, which ends in "Experts" throughout transformers; `is_transposed` is what its
    decorator `use_experts_implementation` leaves on the module.
    """

    def matches(self, layer: nn.Module) -> bool:
        return type(layer).__name__.endswith("Experts") and bool(self._stacks(layer))

    def matrices(self, layer: nn.Module) -> Mapping[str, Matrix]:
        transposed = bool(getattr(layer, "is_transposed", type(layer).__name__ in _TRANSPOSED))
        found = {}
        for name, parameter in self._stacks(layer).items():
            share = experts_per_token(layer, len(parameter))
            for e in range(len(parameter)):
                found[f"{name}.{e}"] = Matrix(
                    attribute=name, view=View(entry=e, transposed=transposed), per_token=share
                )
        return found

    def others(self, layer: nn.Module) -> Iterable[str]:
        return [name for name in layer._parameters if name.endswith("bias")]

    def _stacks(self, layer: nn.Module) -> dict[str, nn.Parameter]:
        own = {name: p for name, p in layer._parameters.items() if p is not None}
        return {name: p for name, p in own.items() if p.dim() == 3 and not name.endswith("bias")}


class FlatExpertsKind(AbstractKind):
    """DBRX: parameters (experts x n, n_in) of a module within the experts, which are cut into blocks of rows."""

    def matches(self, layer: nn.Module) -> bool:
        return type(layer).__name__ == "DbrxExperts"

    def matrices(self, layer: nn.Module) -> Mapping[str, Matrix]:
        size, count = int(layer.ffn_hidden_size), int(layer.num_experts)  # type: ignore[arg-type]
        share = experts_per_token(layer, count)
        return {
            f"mlp.{name}.{e}": Matrix(
                "mlp", name, View(rows=(e * size, (e + 1) * size), transposed=name == "w2"), per_token=share
            )
            for name in ("w1", "v1", "w2")
            for e in range(count)
        }

    def others(self, layer: nn.Module) -> Iterable[str]:
        return ()


class GroupedLinearKind(AbstractKind):
    """A linear layer whose rows are cut into groups, each of which has inputs of its own (DeepSeek V4)."""

    def matches(self, layer: nn.Module) -> bool:
        return type(layer).__name__.endswith("GroupedLinear") and hasattr(layer, "n_groups")

    def matrices(self, layer: nn.Module) -> Mapping[str, Matrix]:
        count = int(layer.n_groups)  # type: ignore[arg-type]
        size = len(layer.weight) // count  # type: ignore[arg-type]
        return {str(g): Matrix(view=View(rows=(g * size, (g + 1) * size))) for g in range(count)}

    def others(self, layer: nn.Module) -> Iterable[str]:
        return ()


class RouterKind(AbstractKind):
    """What chooses the experts of a token: a small matrix whose errors would send tokens elsewhere."""

    def matches(self, layer: nn.Module) -> bool:
        name = type(layer).__name__
        weight = layer._parameters.get("weight")
        plain = isinstance(layer, nn.Linear) and type(layer).forward is nn.Linear.forward
        return ("Router" in name or "TopKGat" in name) and not plain and weight is not None and weight.dim() == 2

    def matrices(self, layer: nn.Module) -> Mapping[str, Matrix]:
        return {"": Matrix(digital="router")}

    def others(self, layer: nn.Module) -> Iterable[str]:
        return ()


def experts_per_token(layer: nn.Module, count: int) -> float:
    """The share of `count` experts that each token is sent to; 1 where neither layer nor configuration says it."""
    for source in (layer, getattr(layer, "config", None)):
        for name in _TOP_K:
            value: Any = getattr(source, name, None)
            if isinstance(value, int) and not isinstance(value, bool):
                return min(1.0, value / count)
    return 1.0
