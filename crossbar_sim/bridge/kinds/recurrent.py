"""nn.LSTM, nn.GRU, nn.RNN and their cells: the matrices of inputs, of the state before, and of projections."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import nn

from crossbar_sim.bridge.kinds.base import AbstractKind, Matrix
from crossbar_sim.bridge.kinds.computed import COMPUTED, is_computed, sources_of


class RecurrentKind(AbstractKind):
    """Each weight is a matrix with the name of its parameter, such as weight_ih_l0 or weight_hh_l1_reverse.

    The gates of a cell lie in the rows of one matrix, as they do in its parameter.
    """

    def matches(self, layer: nn.Module) -> bool:
        return isinstance(layer, nn.RNNBase | nn.RNNCellBase)

    def matrices(self, layer: nn.Module) -> Mapping[str, Matrix]:
        return {
            name: Matrix(attribute=name, digital=COMPUTED if is_computed(layer, name) else None)
            for name in _weights(layer)
        }

    def others(self, layer: nn.Module) -> Iterable[str]:
        return sources_of(layer, _weights(layer))


def _weights(layer: nn.Module) -> list[str]:
    if isinstance(layer, nn.RNNBase):
        return [name for name in layer._flat_weights_names if name.startswith("weight")]
    return ["weight_ih", "weight_hh"]
