"""The kinds of layers that run on a chip. A new kind is a file here and its name in `KINDS`."""

from __future__ import annotations

from torch import nn

from crossbar_sim.bridge.kinds.attention import AttentionKind
from crossbar_sim.bridge.kinds.base import AbstractKind, Matrix
from crossbar_sim.bridge.kinds.bilinear import BilinearKind
from crossbar_sim.bridge.kinds.convolution import ConvolutionKind
from crossbar_sim.bridge.kinds.experts import ExpertsKind, FlatExpertsKind, GroupedLinearKind, RouterKind
from crossbar_sim.bridge.kinds.functional import FunctionalKind
from crossbar_sim.bridge.kinds.linear import LinearKind, TransposedKind
from crossbar_sim.bridge.kinds.recurrent import RecurrentKind

KINDS: tuple[AbstractKind, ...] = (
    RouterKind(),
    ExpertsKind(),
    FlatExpertsKind(),
    GroupedLinearKind(),
    AttentionKind(),
    TransposedKind(),
    LinearKind(),
    ConvolutionKind(),
    RecurrentKind(),
    BilinearKind(),
    FunctionalKind(),
)
"""The first that matches decides."""


def kind_of(layer: nn.Module) -> AbstractKind | None:
    """The kind of a layer; None where no kind knows it."""
    return next((kind for kind in KINDS if kind.matches(layer)), None)


__all__ = ["KINDS", "AbstractKind", "Matrix", "kind_of"]
