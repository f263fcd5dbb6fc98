"""nn.Bilinear, which no chip computes: it has no vector that meets a matrix."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import nn

from crossbar_sim.array.view import View
from crossbar_sim.bridge.kinds.base import AbstractKind, Matrix


class BilinearKind(AbstractKind):
    """Its weight (n_out, n_in1, n_in2) counts in the account, and is refused unless a rule keeps it digital."""

    def matches(self, layer: nn.Module) -> bool:
        return isinstance(layer, nn.Bilinear)

    def matrices(self, layer: nn.Module) -> Mapping[str, Matrix]:
        return {"": Matrix(view=View(flat=True), refusal="nn.Bilinear multiplies its weights by two inputs at once")}

    def others(self, layer: nn.Module) -> Iterable[str]:
        return ()
