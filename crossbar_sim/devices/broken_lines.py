"""Which word and bit lines of the tiles of a matrix are broken."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from crossbar_sim.kernels.chance import below
from crossbar_sim.kernels.lines import Bools, BrokenLines, draw_events
from crossbar_sim.kernels.random import random_key
from crossbar_sim.mapping.plan import Span, TilePlan
from crossbar_sim.spec.tile import LineFaults


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
    draw_events(*random_key(*key), below(p), found)
    return found


def _tiles(spans: tuple[Span, ...]) -> NDArray[np.int32]:
    """The tile of each row or column."""
    return np.repeat(np.arange(len(spans), dtype=np.int32), [stop - start for start, stop in spans])
