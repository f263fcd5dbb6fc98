"""Parts of a matrix that torch operations take at once: all of equal length, or on CPUs one at a time, which stays in
the cache between operations."""

from __future__ import annotations

from itertools import groupby
from typing import NamedTuple

import torch

from crossbar_sim.array.matrix import AnalogMatrix


class Stack(NamedTuple):
    """K parts of some row tiles, `planes` of each from plane `plane` on."""

    parts: slice
    tiles: slice
    rows: slice
    """Inputs of all of them."""
    planes: int
    plane: int

    @property
    def n_tiles(self) -> int:
        return self.tiles.stop - self.tiles.start

    def split(self, x: torch.Tensor) -> torch.Tensor:
        """What each part has of the inputs, (K, T, rows of a part), for x (T, n_in)."""
        tiles = self._by_tile(x).transpose(0, 1)
        return tiles if self.planes == 1 else tiles.repeat_interleave(self.planes, dim=0)

    def of_tiles(self, values: torch.Tensor) -> torch.Tensor:
        """What each part has of values of row tiles, (K, T), for values (T, row tiles)."""
        tiles = values[:, self.tiles].t()
        return tiles if self.planes == 1 else tiles.repeat_interleave(self.planes, dim=0)

    def sum_planes(self, values: torch.Tensor) -> torch.Tensor:
        """Sums (row tiles of the stack, ...) of values (K, ...)."""
        return values if self.planes == 1 else values.unflatten(0, (self.n_tiles, self.planes)).sum(dim=1)

    def add_product(self, out: torch.Tensor, a: torch.Tensor, b: torch.Tensor, sets: bool = False) -> None:
        """Add a (K, X, Y) times b (K, Y, rows of a part) to the inputs of each part in out (X, n_in), or set them."""
        if len(a) == 1 and a.dtype == out.dtype:
            own = out[:, self.rows]
            torch.addmm(own, a[0], b[0], beta=0 if sets else 1, out=own)
            return
        found, own = self.sum_planes(product(a, b)).transpose(0, 1), self._by_tile(out)
        if sets:
            own.copy_(found)
        else:
            own.add_(found)

    def _by_tile(self, x: torch.Tensor) -> torch.Tensor:
        """(X, row tiles of the stack, rows of a part), a view of x (X, n_in)."""
        return x[:, self.rows].unflatten(1, (self.n_tiles, -1))


def stacks_of(matrix: AnalogMatrix, at_once: bool) -> list[Stack]:
    """All parts in their order, one by one or `at_once` those of neighbouring row tiles of equal length."""
    planes = len(matrix.layout.planes)
    if not at_once:
        return [
            Stack(slice(k, k + 1), slice(part.row_tile, part.row_tile + 1), slice(*part.rows), 1, part.plane)
            for k, part in enumerate(matrix.parts)
        ]
    found = []
    for _, group in groupby(enumerate(matrix.plan.rows), key=lambda tile: tile[1][1] - tile[1][0]):
        tiles = list(group)
        (first, (start, _)), (last, (_, stop)) = tiles[0], tiles[-1]
        parts = slice(first * planes, (last + 1) * planes)
        found.append(Stack(parts, slice(first, last + 1), slice(start, stop), planes, 0))
    return found


def product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """a (K, X, Y) times b (K, Y, Z)."""
    return torch.mm(a[0], b[0])[None] if len(a) == 1 else torch.bmm(a, b)


def add_scaled(before: torch.Tensor, shown: torch.Tensor, gain: torch.Tensor, out: torch.Tensor) -> None:
    """out (T, C) = before + the sum of shown (K, T, C), which is overwritten, times gain (K, C)."""
    if len(shown) == 1:
        torch.addcmul(before, shown[0], gain[0], out=out)
    else:
        torch.add(before, shown.mul_(gain[:, None]).sum(dim=0), out=out)
