"""Evaluation mode: without dropout, and afterwards as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Within it `model` is in evaluation mode; afterwards, or after an error, every module has the mode it had."""
    before = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in before.items():  # parents come first, so that children may differ from them
            if module.training != mode:
                module.train(mode)
