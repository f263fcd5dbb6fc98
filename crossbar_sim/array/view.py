"""Where a matrix lies in a parameter."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class View:
    """One matrix (n_out, n_in) within a parameter of any shape; calling it gives that part of a tensor.

    The steps are taken in the order of the fields: entry `entry` of the first dimension, the rows (first, stop), all
    dimensions but the first as one (a kernel of a convolution), and rows and columns exchanged.
    """

    entry: int | None = None
    rows: tuple[int, int] | None = None
    flat: bool = False
    transposed: bool = False

    def part(self, parameter: torch.Tensor) -> torch.Tensor:
        """The part of a parameter that is this matrix, in the order of the parameter."""
        part = parameter if self.entry is None else parameter[self.entry]
        return part if self.rows is None else part[slice(*self.rows)]

    def __call__(self, parameter: torch.Tensor) -> torch.Tensor:
        part = self.part(parameter)
        matrix = part.flatten(1) if self.flat else part
        return matrix.t() if self.transposed else matrix


WHOLE = View()
