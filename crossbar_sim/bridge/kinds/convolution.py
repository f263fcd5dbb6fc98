"""Convolutions and transposed convolutions: a kernel as one matrix for each group of channels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

from crossbar_sim.array.view import View
from crossbar_sim.bridge.kinds.base import AbstractKind, Matrix
from crossbar_sim.bridge.kinds.computed import COMPUTED, is_computed, sources_of

_FORWARD = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


class ConvolutionKind(AbstractKind):
    """The matrix of a group is what it multiplies a patch by, or in the transposed form a position.

    It is (out_channels / groups, in_channels / groups x kernel), transposed (out_channels / groups x kernel,
    in_channels / groups). One that is the only one has the name of the layer, others have their number behind it.
    """

    def matches(self, layer: nn.Module) -> bool:
        return isinstance(layer, _FORWARD + _TRANSPOSED)

    def matrices(self, layer: nn.Module) -> Mapping[str, Matrix]:
        convolution: Any = layer
        groups, transposed = convolution.groups, isinstance(layer, _TRANSPOSED)
        digital = COMPUTED if is_computed(layer, "weight") else None
        if groups == 1:
            return {"": Matrix(view=View(flat=True, transposed=transposed), digital=digital)}
        size = (convolution.in_channels if transposed else convolution.out_channels) // groups
        return {
            str(g): Matrix(
                view=View(rows=(g * size, (g + 1) * size), flat=True, transposed=transposed), digital=digital
            )
            for g in range(groups)
        }

    def others(self, layer: nn.Module) -> Iterable[str]:
        return sources_of(layer, ["weight"])
