"""What a mapped model checks of itself: that its layers are still in place, and that all of them are read."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import nn

from crossbar_sim.array.programmed import ProgrammedMatrix
from crossbar_sim.bridge.direct import WeightSpy
from crossbar_sim.bridge.layers import AbstractAnalogLayer
from device_models.errors import StateError, UnreadLayerWarning

_SHOWN = 5


class Place(NamedTuple):
    """Where a layer of the chip has to be: a name among the modules of its parent."""

    path: str
    modules: Mapping[str, nn.Module | None]
    name: str
    layer: nn.Module


class ForwardGuard:
    """Hooks on the forward of a mapped model.

    Before each: StateError where something else took the place of a layer, as when embeddings are resized or a library
    replaces linear layers; the chip would be passed by. After the first: a warning with the names of layers that it did
    not read, and of those whose weight something else computed with in digital. Only the first is watched, because
    each function of PyTorch then takes some microseconds longer.
    """

    def __init__(self, places: list[Place], matrices: Mapping[str, list[ProgrammedMatrix]]):
        self.places = places
        self.matrices = matrices
        """By layer, because not every expert of a layer is read each time."""
        self.is_first = True
        self.spy: WeightSpy | None = None

    def install(self, model: nn.Module) -> None:
        """Watch every forward of the model."""
        model.register_forward_pre_hook(self.before)
        model.register_forward_hook(self.after, always_call=True)

    def before(self, model: nn.Module, args: Any) -> None:
        """Check that layers are in place."""
        if torch.compiler.is_compiling():
            return
        for path, modules, name, layer in self.places:
            now = modules.get(name)
            if now is layer:
                continue
            if any(isinstance(each, AbstractAnalogLayer) and each is not layer for each in _within(now)):
                raise StateError(
                    f"{path}: a {type(now).__name__} holds a copy of the layer on the chip, which is on no chip; "
                    "change the digital model and map it again"
                )
            if all(each is not layer for each in _within(now)):
                raise StateError(
                    f"{path}: a {type(now).__name__} took the place of the layer on the chip, which would not be read; "
                    "change the digital model and map it again"
                )

        if self.is_first and self.spy is None:
            self.spy = WeightSpy({place.path: place.layer for place in self.places})
            self.spy.__enter__()

    def after(self, model: nn.Module, args: Any, output: Any) -> None:
        """Warn of layers that the first forward did not read, or whose weights it also used in digital."""
        if self.spy is None or torch.compiler.is_compiling():
            return
        self.spy.__exit__(None, None, None)
        used, self.spy, self.is_first = self.spy.used, None, False
        if output is None:  # the forward failed
            return
        for path, name in used.items():
            text = f"{path}: its weight is used by {name} outside of the layer, which computes in digital, off the chip"
            warnings.warn(text, UnreadLayerWarning, stacklevel=2)
        unread = [layer for layer, own in self.matrices.items() if all(each.matrix.reads == 0 for each in own)]
        if unread:
            more = f" and {len(unread) - _SHOWN} more" if len(unread) > _SHOWN else ""
            text = (
                f"{', '.join(unread[:_SHOWN])}{more}: on the chip, but not read by the first forward, so that what it "
                "computed with them was digital or did not need them; `chip.summary()` lists them"
            )
            warnings.warn(text, UnreadLayerWarning, stacklevel=2)


def _within(module: nn.Module | None) -> list[nn.Module]:
    """The modules of what took a place: adapters hold the layer that they wrap."""
    return [] if module is None else list(module.modules())
