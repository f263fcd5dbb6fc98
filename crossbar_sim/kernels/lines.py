"""Broken word and bit lines: the same ones of each tile for ever, whatever the time, thread or order."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from crossbar_sim.kernels.chance import below
from crossbar_sim.kernels.random import random_key, threefry, u32
from crossbar_sim.mapping.plan import Span, TilePlan
from crossbar_sim.spec.tile import LineFaults

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


def broken_lines(faults: LineFaults, seed: int, layer: str, plan: TilePlan, interleaved: bool) -> BrokenLines:
    """Draw the broken lines of the tiles of a matrix.

    Equation   a word of (seed, layer, kind of line, tile, line of the weight; input or output) lies below p 2^32
    Arguments  interleaved: see BrokenLines
    """
    devices = range(plan.devices_per_weight)
    word = np.empty((len(plan.cols), len(devices), plan.n_in), np.bool_)
    bit = np.empty((len(plan.rows), len(devices), plan.n_out), np.bool_)
    for d in devices:
        word_line, bit_line = (d % 2, d // 2) if interleaved else (0, d)
        for c in range(len(plan.cols)):
            word[c, d] = _events(faults.p_word_line, plan.n_in, seed, layer, "word line", c, word_line)
        for r in range(len(plan.rows)):
            bit[r, d] = _events(faults.p_bit_line, plan.n_out, seed, layer, "bit line", r, bit_line)
    return BrokenLines(word, bit, _tiles(plan.rows), _tiles(plan.cols), interleaved)


def _events(p: float, size: int, *key: int | str) -> Bools:
    found = np.empty(size, np.bool_)
    _draw(*random_key(*key), below(p), found)
    return found


@njit(cache=True)
def _draw(key0, key1, limit, found):
    for i in range(found.shape[0]):
        word, _ = threefry(key0, key1, u32(i), u32(0))
        found[i] = word < limit


def _tiles(spans: tuple[Span, ...]) -> NDArray[np.int32]:
    """The tile of each row or column."""
    return np.repeat(np.arange(len(spans), dtype=np.int32), [stop - start for start, stop in spans])
