"""Where target weights stand: in a module, whose tensors other people replace."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Self

import torch

from crossbar_sim.array.view import WHOLE, View


@dataclass(frozen=True, eq=False)
class Source:
    """The matrix that `view` shows of the tensor that is now the attribute `name` of `owner`."""

    owner: Any
    name: str
    view: View = WHOLE

    @classmethod
    def of(cls, tensor: torch.Tensor, view: View = WHOLE) -> Self:
        """A tensor that nobody replaces."""
        return cls(SimpleNamespace(tensor=tensor), "tensor", view)

    def whole(self) -> torch.Tensor:
        """The tensor itself."""
        own = vars(self.owner)  # a module looks there last, and every read asks
        return own["_parameters"][self.name] if "_parameters" in own else getattr(self.owner, self.name)

    def __call__(self) -> torch.Tensor:
        """The part of the tensor that is the matrix, in the order of the tensor."""
        return self.view.part(self.whole())

    def matrix(self) -> torch.Tensor:
        """The matrix (n_out, n_in)."""
        return self.view(self.whole())
