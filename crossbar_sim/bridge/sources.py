"""What the methods of a class say of its parameters: read from their code, before anything runs."""

from __future__ import annotations

import dis
import inspect
import re
from collections.abc import Iterator
from types import CodeType
from typing import Any

_NO_FORWARD = re.compile(r"__init__|_*init.*|reset_parameters|tie_.*|resize_.*|_*get_.*|_*set_.*|.*_hook|.*load.*")
_LOSSES = "torch.nn.modules.loss"
_LOOKS_ONLY = {"dtype", "device", "shape", "size", "dim", "ndim", "numel", "requires_grad", "is_cuda"}


def sources_of(kind: Any) -> Iterator[str]:
    """The source of each method of a module's class and its parents, where there is one."""
    for method in _methods_of(kind):
        try:
            yield inspect.getsource(method)
        except (OSError, TypeError):  # made at run time: there is nothing to read
            continue


def attributes_of_attributes(kind: Any) -> Iterator[tuple[str, str]]:
    """The pairs (a, b) for which a method uses ``self.a.b``, but for its type, shape or place."""
    for method in _methods_of(kind):
        own = method.__code__.co_varnames[:1]  # most call it self
        for code in _codes(method.__code__):
            loads = [each for each in dis.get_instructions(code) if each.opname not in ("CACHE", "RESUME")]
            for one, two, three, four in zip(loads, loads[1:], loads[2:], [*loads[3:], None], strict=False):
                chain = _loads(one, own) and _names(two) and _names(three)
                if chain and not (four is not None and _names(four) and four.argval in _LOOKS_ONLY):
                    yield two.argval, three.argval


def _methods_of(kind: Any) -> Iterator[Any]:
    """The methods of a class and its parents, but for those that prepare parameters.

    PyTorch's own layers call each other and take no weight, but for a loss: so only its losses count.
    """
    for each in kind.__mro__:
        if (each.__module__.startswith("torch.nn") and each.__module__ != _LOSSES) or each is object:
            continue
        for name, method in vars(each).items():
            if inspect.isfunction(method) and not _NO_FORWARD.fullmatch(name):
                yield inspect.unwrap(method)


def _codes(code: CodeType) -> Iterator[CodeType]:
    """A code with those of the functions and comprehensions within it."""
    yield code
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield from _codes(each)


def _loads(instruction: dis.Instruction, own: tuple[str, ...]) -> bool:
    """Whether an instruction loads the first argument of its method, within it or a function in it."""
    names = instruction.argval if isinstance(instruction.argval, tuple) else (instruction.argval,)
    return instruction.opname.startswith(("LOAD_FAST", "LOAD_DEREF")) and names[-1:] == own


def _names(instruction: dis.Instruction) -> bool:
    return instruction.opname in ("LOAD_ATTR", "LOAD_METHOD")
