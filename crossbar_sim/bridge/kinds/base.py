"""What a kind of layer says of a module: which matrices its parameters hold, and which of them a chip takes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from crossbar_sim.array.view import WHOLE, View


@dataclass(frozen=True)
class Matrix:
    """A matrix that a layer multiplies its input by.

    owner            path of the module that holds the parameter, from the layer on; "" for the layer itself
    attribute, view  the parameter, and where the matrix lies in it
    digital          why it stays digital unless a rule of its own puts it on a chip; None: a chip takes it
    refusal          why it cannot be mapped; it is refused unless a rule keeps it digital
    per_token        how often it is read for each token, 1 for most: experts are read by those that the router sends
    """

    owner: str = ""
    attribute: str = "weight"
    view: View = WHOLE
    digital: str | None = None
    refusal: str | None = None
    per_token: float = 1.0

    def parameter(self, layer: nn.Module) -> nn.Parameter:
        """The parameter of the layer that holds it."""
        return getattr(layer.get_submodule(self.owner), self.attribute)

    def of(self, layer: nn.Module) -> torch.Tensor:
        """Its values (n_out, n_in)."""
        return self.view(self.parameter(layer))


class AbstractKind(ABC):
    """A kind of layer, known by its class or by its parameters.

    A layer either is replaced by one that reads the chip (`replaces`), or keeps its own forward, in which products with
    its matrices become reads (crossbar_sim.bridge.direct).
    """

    replaces = False

    @abstractmethod
    def matches(self, layer: nn.Module) -> bool:
        """Whether a layer is of this kind."""

    @abstractmethod
    def matrices(self, layer: nn.Module) -> Mapping[str, Matrix]:
        """Its matrices by the name that follows the name of the layer; "" for one that has the name of the layer."""

    @abstractmethod
    def others(self, layer: nn.Module) -> Iterable[str]:
        """Parameters of the layer with several dimensions that are no matrices, such as biases of several experts."""
