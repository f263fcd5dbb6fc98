"""Where target weights stand: in a module, whose tensors other people replace."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch

from crossbar_sim.array.view import WHOLE, View
from device_models.errors import StateError


def gone(name: str) -> StateError:
    """The error for a weight that stands nowhere any more: it was removed, or is computed since by another module."""
    return StateError(
        f"{name}: its weight is no parameter any more (it was removed, or is computed at each forward since the model "
        "was mapped); change the digital model and map it again"
    )


@dataclass(frozen=True, eq=False)
class Source:
    """The matrix that `view` shows of the tensor that `tensors` now has under `name`.

    `tensors` are the parameters of a module, not the module, which holds what reads them: memory in a circle of
    references would wait for Python's garbage collection.
    """

    tensors: Mapping[str, Any]
    name: str
    view: View = WHOLE

    @classmethod
    def of(cls, tensor: torch.Tensor, view: View = WHOLE) -> Self:
        """A tensor that nobody replaces."""
        return cls({"tensor": tensor}, "tensor", view)

    def whole(self) -> torch.Tensor:
        """The tensor itself; StateError where there is none any more, as when it is computed at each forward since."""
        tensor = self.tensors.get(self.name)
        if tensor is None:
            raise gone(self.name)
        return tensor

    def __call__(self) -> torch.Tensor:
        """The part of the tensor that is the matrix, in the order of the tensor."""
        return self.view.part(self.whole())

    def matrix(self) -> torch.Tensor:
        """The matrix (n_out, n_in)."""
        return self.view(self.whole())
