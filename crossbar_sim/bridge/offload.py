"""Models whose weights accelerate loads layer by layer: its hooks pass to the layers that take the place of others.

accelerate keeps offloaded parameters in memory or in files; a hook on each layer puts them into the layer before its
forward and takes them out again. Sources: accelerate.hooks, accelerate.big_modeling.
"""

from __future__ import annotations

import copy
import inspect
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn

from device_models.errors import UsageError


class Loading:
    """Calling it gives a parameter of a layer with its values, for as long as the context lasts."""

    def __init__(self, module: nn.Module, attribute: str = "weight"):
        self.module, self.attribute = module, attribute

    @contextmanager
    def __call__(self) -> Iterator[torch.Tensor]:
        module: Any = self.module
        if getattr(module, self.attribute).device.type != "meta":  # the layer is just running
            yield getattr(module, self.attribute)
            return
        with _loaded(module):
            yield getattr(module, self.attribute)


@contextmanager
def _loaded(module: Any) -> Iterator[None]:
    module._hf_hook.pre_forward(module)
    try:
        yield
    finally:
        module._hf_hook.post_forward(module, None)


def named_values(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """The names and values of a model's state, one after the other; those that hooks load are valid until the next."""
    for name, tensor in model.state_dict().items():
        if tensor.device.type != "meta":
            yield name, tensor
            continue
        path, _, own = name.rpartition(".")
        module = model.get_submodule(path)
        if not is_offloaded(module):
            raise UsageError(f"{name}: has no values (device meta) and no hook that loads them")
        with _loaded(module):
            yield name, getattr(module, own)


def is_offloaded(module: nn.Module) -> bool:
    """Whether a hook of the layer itself loads its parameters."""
    return is_placed(module) and any(hook.offload for hook in _hooks(module))


def values_of(module: nn.Module, attribute: str = "weight") -> AbstractContextManager[torch.Tensor]:
    """A parameter of a layer with its values."""
    return Loading(module, attribute)() if is_offloaded(module) else nullcontext(getattr(module, attribute))


def is_placed(module: nn.Module) -> bool:
    """Whether the forward of a layer is that of its class behind hooks that do nothing but place inputs and weights."""
    known = sys.modules.get("accelerate.hooks")
    own, shown = getattr(module, "_old_forward", None), vars(module).get("forward")
    if known is None or not _hooks(module) or getattr(own, "__func__", None) is not type(module).forward:
        return False
    return getattr(shown, "__wrapped__", None) == own and all(
        type(hook) is known.AlignDevicesHook for hook in _hooks(module)
    )


def pass_hooks(old: nn.Module, new: nn.Module) -> None:
    """Put hooks like those of `old` on the layer that takes its place, whose parameters are the same."""
    if not is_placed(old):
        return
    hook: Any = copy.copy(old._hf_hook)
    if hasattr(hook, "hooks"):
        hook.hooks = [copy.copy(each) for each in hook.hooks]
    sys.modules["accelerate.hooks"].add_hook_to_module(new, hook)
    for own, each in zip(_hooks(new), _hooks(old), strict=True):
        if each.offload:
            own.original_devices = each.original_devices  # where weights go back to when hooks are removed


def shared_maps(model: nn.Module) -> list[Any]:
    """Where the hooks of a model find weights: a copy of the model shares it."""
    maps = [each for module in model.modules() for hook in _hooks(module) for each in vars(hook).items()]
    return [value for name, value in maps if name in ("weights_map", "tied_params_map") and value is not None]


def drop_foreign_methods(model: nn.Module, original: nn.Module) -> None:
    """Forget the guarded `to` and `cuda` of a dispatched model on its copy, where they would move the original.

    Where weights are offloaded these refuse to move anything, which holds for the copy as well.
    """
    if any(parameter.device.type == "meta" for parameter in original.parameters()):
        return
    for name, value in list(vars(model).items()):
        if inspect.isfunction(value):
            method = inspect.unwrap(value, stop=inspect.ismethod)
            if inspect.ismethod(method) and method.__self__ is original:
                delattr(model, name)


def _hooks(module: nn.Module) -> list[Any]:
    hook = getattr(module, "_hf_hook", None)
    return [] if hook is None else list(getattr(hook, "hooks", (hook,)))
