"""Broken word and bit lines: the same ones of each tile for ever, whatever the time, thread or order."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from crossbar_sim.kernels.random import threefry, u32

Bools = NDArray[np.bool_]


class BrokenLines(NamedTuple):
    """Which lines of the tiles of a matrix are broken, for each device of a weight as it is wired.

    word (col tiles, devices, n_in): the word line of an input in a column of tiles; bit (row tiles, devices, n_out):
    the bit line of an output in a row of tiles; row_tile (n_in,), col_tile (n_out,): where inputs and outputs lie.
    Where pairs are interleaved, even and odd devices have word lines of their own, and each pair of them a bit line;
    else all share a word line, and each has its bit line.
    """

    word: Bools
    bit: Bools
    row_tile: NDArray[np.int32]
    col_tile: NDArray[np.int32]
    interleaved: bool

    @property
    def counts(self) -> tuple[int, int, int, int]:
        """Broken word lines, all word lines, broken bit lines, all bit lines; a line that devices share counts once."""
        word, bit = (self.word[:, :2], self.bit[:, ::2]) if self.interleaved else (self.word[:, :1], self.bit)
        return int(word.sum()), word.size, int(bit.sum()), bit.size


@njit(cache=True)
def draw_events(key0, key1, limit, found):
    """found[i] = whether word i of the key lies below `limit`."""
    for i in range(found.shape[0]):
        word, _ = threefry(key0, key1, u32(i), u32(0))
        found[i] = word < limit
