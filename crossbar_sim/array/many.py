"""Many vectors on some parts of a matrix: what the kernel takes, and the memory for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from crossbar_sim.array.drive import Drive, has_bf16_products, product_dtype, workspace
from crossbar_sim.array.held import Held
from crossbar_sim.array.matrix import AnalogMatrix
from crossbar_sim.array.stored import stored
from crossbar_sim.kernels.blas import gemm_address, one_blas_thread
from crossbar_sim.kernels.mvm import GROUP
from crossbar_sim.kernels.products import block_vectors, n_blocks, read_parts, room_size
from crossbar_sim.kernels.workers import share

_SPREAD_ELEMENTS = 1 << 20
"""Variances that torch multiplies at once where the kernels do not."""


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
    """(T, n_out), set or added to"""
    beyond: NDArray[np.bool_]
    """(row tiles, T), set where an output saturates"""


def read_drive(
    matrix: AnalogMatrix,
    drive: Drive,
    parts: range | list[int],
    bias: NDArray | None,
    outputs: Outputs,
    *,
    adds: bool = False,
    columns: tuple[int, int] | None = None,
) -> int:
    """Sum and convert all columns, or `columns`, of `parts`; the number of saturated outputs.

    They are set to `bias` (n_out,), or 0, first, unless this `adds` to them.
    """
    held = Held.of(matrix)
    start, stop = columns or (0, matrix.plan.n_out)
    n_vectors = len(outputs.y)
    codes = _stacked([drive.codes, *(codes for codes, _ in drive.more)])
    in_kernel = held.noisy and product_dtype(matrix) == matrix.dtype
    squares = _stacked(_squares(matrix, drive)) if in_kernel else codes[:0, :0, :0]
    size = room_size(n_vectors, stop - start, held.longest, held.noisy)
    threads = torch.get_num_threads()
    room = workspace.take("room", (threads, size), matrix.dtype).numpy()
    # converters with values of their own belong to one part
    groups = [held.parts[parts.start : parts.stop] if isinstance(parts, range) else held.parts[parts]]
    if not held.shared_adc:
        groups = [held.parts[k : k + 1] for k in parts]
    saturated = 0
    with one_blas_thread():
        for number, group in enumerate(groups):
            adc, errors, stage = matrix.readouts[group[0, 0]]
            for block, spreads in _spreads(matrix, drive, group, (start, stop), held.noisy and not in_kernel):
                arguments = (
                    gemm_address(codes.dtype), codes, squares, spreads, group, block, held.effective, held.variance,
                    1.0 / drive.levels, held.noise_variance, held.draws, adc, errors, stage, outputs.full_scale,
                    outputs.gain, held.no_bias if bias is None else bias, outputs.keys, outputs.tries,
                    number == 0 and not adds, room, block_vectors(n_vectors), outputs.y, outputs.beyond,
                )  # fmt: skip
                saturated += share(read_parts, arguments, n_blocks(n_vectors, block[1] - block[0]), threads)
    return saturated


def memory_bytes(n_vectors: int, n_in: int, n_out: int, n_rows: int, float_bytes: int, noisy: bool) -> int:
    """What `read_drive` of T vectors takes: squares of their codes, and the room of the kernel; `n_rows` of the longest
    row tile."""
    by_torch = noisy and has_bf16_products() and float_bytes == 4
    squares = n_vectors * n_in * (2 if by_torch else float_bytes) if noisy else 0
    spreads = 2 * n_vectors * min(n_out, _spread_columns(n_vectors)) if by_torch else 0
    room = torch.get_num_threads() * float_bytes * room_size(n_vectors, n_out, n_rows, noisy)
    return squares + spreads + room


def _squares(matrix: AnalogMatrix, drive: Drive) -> list[torch.Tensor]:
    """Those of the features that carry read noise, which come first."""
    return [drive.squares, *(squares for _, squares in drive.more)][: 1 + len(matrix.more_variance)]


def _stacked(drives: list[torch.Tensor]) -> NDArray:
    stacked: NDArray = drives[0].numpy()[None] if len(drives) == 1 else torch.stack(drives).numpy()
    return stacked


def _spread_columns(n_vectors: int) -> int:
    return max(GROUP, _SPREAD_ELEMENTS // n_vectors // GROUP * GROUP)


def _spreads(
    matrix: AnalogMatrix, drive: Drive, parts: NDArray[np.int64], columns: tuple[int, int], by_torch: bool
) -> Iterator[tuple[tuple[int, int], NDArray]]:
    """Blocks of columns, and variances (parts, T, columns) of their sums where torch multiplies them."""
    if not by_torch:
        yield columns, stored(torch.empty((0, 0, 0), dtype=matrix.variance_dtype))
        return
    squares = _squares(matrix, drive)
    assert matrix.variance_flat is not None
    variances = [matrix.views(flat) for flat in (matrix.variance_flat, *matrix.more_variance)]
    width = _spread_columns(len(drive.codes))
    for start in range(*columns, width):
        stop = min(start + width, columns[1])
        spreads = torch.empty((len(parts), len(squares[0]), stop - start), dtype=matrix.variance_dtype)
        for spread, k in zip(spreads, parts[:, 0].tolist(), strict=True):
            rows = slice(*matrix.parts[k].rows)
            for f, own in enumerate(variances):
                spread.addmm_(squares[f][:, rows], own[k][start:stop].t(), beta=min(f, 1))
        yield (start, stop), stored(spreads.expand(-1, len(drive.codes), -1).contiguous())
