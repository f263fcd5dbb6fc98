"""Where target weights stand: in a module, whose tensors other people replace."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Self

import torch


@dataclass(frozen=True, eq=False)
class Source:
    """The tensor that is now the attribute `name` of `owner`, or what `view` shows of it, as a matrix.

    `view` is a view in the sense of torch, such as `functools.partial(torch.select, dim=0, index=3)`: its memory is
    that of the tensor. What is to be pickled needs a `view` that can be.
    """

    owner: Any
    name: str
    view: Callable[[torch.Tensor], torch.Tensor] | None = None

    @classmethod
    def of(cls, tensor: torch.Tensor) -> Self:
        """A tensor that nobody replaces."""
        return cls(SimpleNamespace(tensor=tensor), "tensor")

    def whole(self) -> torch.Tensor:
        """The tensor itself."""
        return getattr(self.owner, self.name)

    def __call__(self) -> torch.Tensor:
        """The matrix."""
        return self.whole() if self.view is None else self.view(self.whole())
