"""Many vectors on some parts of a matrix: what the kernel takes, and the memory for it."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray

from crossbar_sim.array.drive import SCRATCH, Drive, no_squares
from crossbar_sim.array.held import Held
from crossbar_sim.array.matrix import AnalogMatrix
from crossbar_sim.array.stored import stored
from crossbar_sim.kernels.products import TURN, block_vectors, n_blocks, packed_shape, read_parts
from crossbar_sim.kernels.workers import Work

Drives = tuple[int, DTypeLike]
"""How many features have a drive, and its type as stored."""


class Outputs(NamedTuple):
    """Where conversions go, and what of the converters is the caller's."""

    full_scale: NDArray
    """(row tiles, T) of the inputs"""
    gain: NDArray
    """(parts, n_out) what an output of 1 counts for"""
    keys: NDArray[np.uint32]
    """(parts, 2) of the normals"""
    tries: NDArray[np.uint32]
    """(row tiles, T), see `kernels.tries`"""
    y: NDArray
    """(T, columns that are read), set or added to"""
    beyond: NDArray[np.bool_]
    """(row tiles, T), set where an output saturates"""


def read_works(
    matrix: AnalogMatrix,
    drive: Drive,
    parts: range | list[int],
    bias: NDArray | None,
    outputs: Outputs,
    *,
    adds: bool = False,
    columns: tuple[int, int] | None = None,
) -> list[Work]:
    """Sum and convert all columns, or `columns`, of `parts`; each work returns the number of saturated outputs.

    They are done one after the other (`share_in_turn`), but beside those of other outputs for as many columns. Outputs
    are set to `bias` (n_out,), or 0, first, unless this `adds` to them.
    """
    held = Held.of(matrix)
    columns = columns or (0, matrix.plan.n_out)
    n_vectors, n_cols, threads = len(outputs.y), columns[1] - columns[0], torch.get_num_threads()
    codes = _stacked([drive.codes, *(codes for codes, _ in drive.more)])
    squares = _stacked(_squares(matrix, drive)) if held.noisy else stored(no_squares(matrix))[None][:0]
    shapes = _rooms((len(codes), codes.dtype), (len(squares), squares.dtype), outputs.y.dtype, n_cols, held.longest)
    rooms = [SCRATCH.array(name, (threads, *shape), dtype) for name, (shape, dtype) in shapes.items()]
    # converters with values of their own belong to one part
    groups = [held.parts[parts.start : parts.stop] if isinstance(parts, range) else held.parts[parts]]
    if not held.shared_adc:
        groups = [held.parts[k : k + 1] for k in parts]
    works = []
    for number, group in enumerate(groups):
        adc, errors, stage = matrix.readouts[group[0, 0]]
        arguments = (
            codes, squares, group, columns, held.effective, held.variance, 1.0 / drive.levels, held.noise_variance,
            held.draws, adc, errors, stage, outputs.full_scale, outputs.gain, held.no_bias if bias is None else bias,
            outputs.keys, outputs.tries, number == 0 and not adds, *rooms, block_vectors(n_vectors), outputs.y,
            outputs.beyond,
        )  # fmt: skip
        works.append(Work(read_parts, arguments, n_blocks(n_vectors, n_cols)))
    return works


def _rooms(
    codes: Drives, squares: Drives, dtype: DTypeLike, n_cols: int, n_rows: int
) -> dict[str, tuple[tuple[int, ...], DTypeLike]]:
    """Shape and type of what a thread of `read_parts` takes; `n_rows` of the longest part."""
    rooms: dict[str, tuple[tuple[int, ...], DTypeLike]] = {}
    for name, (count, own) in (("weights", codes), ("variances", squares)):
        in_pairs = np.dtype(own) == np.uint16
        packed = packed_shape(dtype, n_cols, n_rows, in_pairs)
        rooms[name] = (count, *packed), np.uint32 if in_pairs else own
    return {"sums": ((2, TURN, packed[0] * packed[2]), dtype), **rooms}


def memory_bytes(codes: Drives, squares: Drives, dtype: DTypeLike, n_cols: int, n_rows: int) -> int:
    """What `read_works` take beside codes and squares; dtype of the outputs, `n_rows` of the longest row tile."""
    rooms = _rooms(codes, squares, dtype, n_cols, n_rows).values()
    return torch.get_num_threads() * sum(math.prod(shape) * np.dtype(kind).itemsize for shape, kind in rooms)


def _squares(matrix: AnalogMatrix, drive: Drive) -> list[torch.Tensor]:
    """Those of the features that carry read noise, which come first."""
    return [drive.squares, *(squares for _, squares in drive.more)][: 1 + len(matrix.more_variance)]


def _stacked(drives: list[torch.Tensor]) -> NDArray:
    return stored(drives[0])[None] if len(drives) == 1 else stored(torch.stack(drives))
