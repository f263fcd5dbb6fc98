"""Functions on modules that hold the model they were made for: a copy of the model would run them on the original."""

from __future__ import annotations

import functools
import inspect
import types
import weakref
from collections.abc import Iterable, Iterator
from typing import Any

from torch import nn

from device_models.errors import UsageError

_COPIED_ANEW = "OptimizedModule"
"""What torch.compile gives: its copy compiles the copy of the model within."""

_OWN_METHODS = {"_compiled_call_impl", "to", "cuda", "npu", "xpu", "mlu", "sdaa", "musa"}
"""What PyTorch leaves out of a copy, and methods that accelerate guards: bridge.offload drops them from the copy."""


def check_copyable(model: nn.Module, layers: Iterable[nn.Module]) -> None:
    """UsageError for a method that was replaced on a module and holds any of `layers`, or a module that contains one.

    Copying a module copies what it holds, but not what a function remembers in its closure or by a global name: the
    replaced forward of the copy would compute with the digital original.
    """
    wanted = {id(layer) for layer in layers}
    modules = {id(module) for module in model.modules() if any(id(each) in wanted for each in module.modules())}
    for path, module in model.named_modules():
        if type(module).__name__ == _COPIED_ANEW:
            continue
        for name, value in _functions_on(module):
            if name in _OWN_METHODS:
                continue
            if any(id(each) in modules for each in _remembered(value, set())):
                if name in _HOOKS.values():
                    what = f"{path or '(root)'}: has a {name} that holds modules of this model"
                else:
                    where = ".".join(part for part in (path, name) if part)
                    how = "refers to" if isinstance(value, weakref.ref) else "was replaced by a function that holds"
                    what = f"{where}: {how} modules of this model"
                raise UsageError(
                    f"{what}, so a copy of the model would run the digital original; use inplace=True, or make it a "
                    "method of a class that asks its own module"
                )


def check_replaceable(model: nn.Module, layers: dict[int, str]) -> None:
    """UsageError for a replaced method that holds a layer which is to make way for one on the chip."""
    for path, module in model.named_modules():
        for name, value in _functions_on(module):
            held = next((id(each) for each in _remembered(value, set(), copied=False) if id(each) in layers), None)
            if held is not None and id(module) != held:
                where = ".".join(part for part in (path, name) if part)
                raise UsageError(
                    f"{where}: was replaced by a function that holds the layer {layers[held]!r} itself, so it would go "
                    "on computing in digital; let it ask its module for the layer"
                )


_HOOKS = {
    "_forward_hooks": "forward hook",
    "_forward_pre_hooks": "forward pre-hook",
    "_backward_hooks": "backward hook",
    "_backward_pre_hooks": "backward pre-hook",
}


def _functions_on(module: nn.Module) -> Iterator[tuple[str, Any]]:
    """What may be called or followed to another module: methods and references on a module, and its hooks."""
    for name, value in vars(module).items():
        if name in _HOOKS:
            yield from ((_HOOKS[name], hook) for hook in value.values())
        elif name not in ("_modules", "_parameters", "_buffers"):
            yield from ((name, each) for each in _within(value))


def _within(value: Any, depth: int = 2) -> Iterator[Any]:
    """A function or a weak reference, and those within lists, tuples, sets and mappings."""
    if isinstance(value, weakref.ref) or (callable(value) and not isinstance(value, nn.Module | type)):
        yield value
    elif depth and isinstance(value, list | tuple | set | weakref.WeakSet | dict):
        for each in value.values() if isinstance(value, dict) else value:
            if isinstance(value, weakref.WeakSet) and isinstance(each, nn.Module):
                yield weakref.ref(each)
            yield from _within(each, depth - 1)


def _remembered(function: Any, seen: set[int], copied: bool = True) -> Iterator[nn.Module]:
    """Modules that a function reaches by its closure, defaults or global names, and that copying it would not copy.

    `copied`: bound methods and partial objects are copied together with what they are bound to, so only what they hold
    within functions counts.
    """
    if id(function) in seen:
        return
    seen.add(id(function))
    if isinstance(function, weakref.ref):
        if isinstance(function(), nn.Module):
            yield function()  # type: ignore[misc]
    elif isinstance(function, types.MethodType):
        if not copied and isinstance(function.__self__, nn.Module):
            yield function.__self__
        yield from _remembered(function.__func__, seen, copied)
    elif isinstance(function, functools.partial):
        held = [*function.args, *function.keywords.values()]
        if not copied:
            yield from (each for each in held if isinstance(each, nn.Module))
        for each in (function.func, *held):
            yield from _remembered(each, seen, copied)
    elif inspect.isfunction(function):
        for value in _values_of(function):
            if isinstance(value, nn.Module):
                yield value
            elif isinstance(value, types.MethodType) and isinstance(value.__self__, nn.Module):
                yield value.__self__
            elif isinstance(value, tuple | list):
                yield from (each for each in value if isinstance(each, nn.Module))
            elif callable(value) and not isinstance(value, type):
                yield from _remembered(value, seen, copied)


def _values_of(function: Any) -> Iterator[Any]:
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # not yet filled
            continue
    yield from function.__defaults__ or ()
    yield from (function.__kwdefaults__ or {}).values()
    if getattr(function, "__module__", "").partition(".")[0] not in ("torch", "transformers", "accelerate", "peft"):
        yield from (function.__globals__[name] for name in function.__code__.co_names if name in function.__globals__)
