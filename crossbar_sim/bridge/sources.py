"""The source of the methods of a class, where it says what a layer does with its parameters."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

_NO_FORWARD = re.compile(r"__init__|_*init.*|reset_parameters|tie_.*|resize_.*|_*get_.*|_*set_.*|.*_hook|.*load.*")
_LOSSES = "torch.nn.modules.loss"


def methods_of(kind: Any) -> Iterator[str]:
    """The source of each method of a module's class and its parents, but for those that set it up.

    PyTorch's own layers call each other and take no weight, but for a loss: so only its losses count.
    """
    for each in kind.__mro__:
        if (each.__module__.startswith("torch.nn") and each.__module__ != _LOSSES) or each is object:
            continue
        for name, method in vars(each).items():
            if inspect.isfunction(method) and not _NO_FORWARD.fullmatch(name):
                try:
                    yield inspect.getsource(inspect.unwrap(method))
                except (OSError, TypeError):  # made at run time: there is nothing to read
                    continue
