"""nn.MultiheadAttention: projections of queries, keys and values, packed into one parameter or not, and the output."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import nn

from crossbar_sim.array.view import View
from crossbar_sim.bridge.kinds.base import AbstractKind, Matrix


class AttentionKind(AbstractKind):
    """Each projection is a matrix of its own: q_proj, k_proj, v_proj, out_proj."""

    def matches(self, layer: nn.Module) -> bool:
        return isinstance(layer, nn.MultiheadAttention)

    def matrices(self, layer: nn.Module) -> Mapping[str, Matrix]:
        assert isinstance(layer, nn.MultiheadAttention)
        size, names = layer.embed_dim, ("q_proj", "k_proj", "v_proj")
        if layer.in_proj_weight is not None:
            found = {
                name: Matrix(attribute="in_proj_weight", view=View(rows=(k * size, (k + 1) * size)))
                for k, name in enumerate(names)
            }
        else:
            found = {name: Matrix(attribute=f"{name}_weight") for name in names}
        return {**found, "out_proj": Matrix("out_proj")}

    def others(self, layer: nn.Module) -> Iterable[str]:
        return ()
