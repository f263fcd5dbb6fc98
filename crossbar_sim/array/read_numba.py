"""Reading vectors through an AnalogMatrix on a CPU: BLAS for the sums, Numba kernels around it."""

from __future__ import annotations

import threading

import numpy as np
import torch
from numpy.typing import NDArray

from crossbar_sim.array.matrix import AnalogMatrix, stored
from crossbar_sim.kernels.mvm import GROUP, quantise_inputs, read_columns, sum_variances
from crossbar_sim.kernels.random import random_key
from crossbar_sim.kernels.threads import use_threads

_BLOCK_ELEMENTS = 1 << 19  # column sums of one block, 2 MB in float32, stay in a core's second-level cache
_FEW_VECTORS = 4  # up to here the variances are summed by our own kernel


class _Workspace(threading.local):
    """Buffers kept from call to call, one set per Python thread."""

    def __init__(self) -> None:
        self.buffers: dict[tuple[str, torch.dtype], torch.Tensor] = {}

    def take(self, name: str, shape: tuple[int, int], dtype: torch.dtype) -> torch.Tensor:
        size = shape[0] * shape[1]
        buffer = self.buffers.get((name, dtype))
        if buffer is None or buffer.numel() < size:
            buffer = self.buffers[name, dtype] = torch.empty(size, dtype=dtype)
        return buffer[:size].view(shape)


_workspace = _Workspace()


def read_key(matrix: AnalogMatrix, read: int, row_tile: int, purpose: str = "read") -> NDArray[np.uint32]:
    """Key of all normals of one read of one row tile; vector and column are the counter."""
    return np.array(random_key(matrix.seed, matrix.name, purpose, read, row_tile), dtype=np.uint32)


def block_columns(n_vectors: int) -> int:
    """Columns that are summed, converted and added together while they are in cache; a multiple of GROUP."""
    return max(GROUP, _BLOCK_ELEMENTS // max(1, n_vectors) // GROUP * GROUP)


@torch.no_grad()
def read_numba(matrix: AnalogMatrix, x: torch.Tensor, bias: torch.Tensor | None, read: int) -> torch.Tensor:
    """y (T, n_out) = bias + the digital outputs of all tiles for x (T, n_in); both in the matrix' float type."""
    y = torch.empty((x.shape[0], matrix.plan.n_out), dtype=matrix.dtype)
    offset = torch.zeros(matrix.plan.n_out, dtype=matrix.dtype) if bias is None else bias.detach().to(matrix.dtype)
    use_threads(torch.get_num_threads())
    codes, squares, full_scale = _convert_inputs(matrix, x)
    keys = [read_key(matrix, read, k) for k in range(len(matrix.plan.rows))]
    outputs = [y] * len(matrix.plan.rows)
    matrix.n_saturated += _convert_columns(matrix, codes, squares, full_scale, matrix.gain, offset, keys, outputs)
    matrix.n_inputs += x.numel()
    matrix.n_outputs += y.numel() * len(matrix.plan.rows)
    return y


@torch.no_grad()
def read_tiles(matrix: AnalogMatrix, probes: torch.Tensor, purpose: str) -> list[torch.Tensor]:
    """Converted outputs (P, n_out) of each row of tiles for relative inputs `probes` (P, n_in), in units of the bound.

    The chip reads about itself: through DAC, devices and ADC, but without input range, weight scale or compensation.
    """
    n_probes, n_out, n_tiles = probes.shape[0], matrix.plan.n_out, len(matrix.plan.rows)
    drive = (probes * (matrix.dac_levels or 1)).to(matrix.dtype)
    use_threads(torch.get_num_threads())
    outputs = [torch.empty((n_probes, n_out), dtype=matrix.dtype) for _ in range(n_tiles)]
    keys = [read_key(matrix, 0, k, purpose) for k in range(n_tiles)]
    full_scale = torch.ones((n_tiles, n_probes), dtype=matrix.dtype)
    gain = torch.ones((n_tiles, n_out), dtype=matrix.dtype)
    offset = torch.zeros(n_out, dtype=matrix.dtype)
    _convert_columns(matrix, drive, _squares(matrix, drive), full_scale, gain, offset, keys, outputs)
    return outputs


def _convert_columns(
    matrix: AnalogMatrix,
    codes: torch.Tensor,
    squares: torch.Tensor,
    full_scale: torch.Tensor,
    gain: torch.Tensor,
    offset: torch.Tensor,
    keys: list[NDArray[np.uint32]],
    outputs: list[torch.Tensor],
) -> int:
    """Sum and convert all columns, block by block; row tile k goes to outputs[k], added up where that is one tensor."""
    n_vectors, n_out = codes.shape[0], matrix.plan.n_out
    saturated = 0
    for start in range(0, n_out, block_columns(n_vectors)):
        stop = min(start + block_columns(n_vectors), n_out)
        for k, y in enumerate(outputs):
            sums, variances = _sum_columns(matrix, codes, squares, k, start, stop)
            saturated += read_columns(
                sums.numpy(),
                stored(variances),
                1.0 / (matrix.dac_levels or 1),
                matrix.output_noise**2,
                matrix.is_noisy,
                matrix.adc_step,
                matrix.adc_levels,
                full_scale[k].numpy(),
                gain[k, start:stop].numpy(),
                offset.numpy(),
                keys[k],
                start,
                k == 0 or y is not outputs[k - 1],
                y.numpy(),
            )
    return saturated


def _convert_inputs(matrix: AnalogMatrix, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """DAC: codes (T, n_in), their squares where variances are needed, and full scales (row tiles, T)."""
    n_tiles = len(matrix.plan.rows)
    if matrix.spec.dac is None:
        return x, _squares(matrix, x), torch.ones((n_tiles, x.shape[0]), dtype=matrix.dtype)
    codes = _workspace.take("codes", (x.shape[0], x.shape[1]), matrix.dtype)
    squares = torch.empty((0, 0), dtype=matrix.variance_dtype)
    if matrix.variance is not None:
        squares = _workspace.take("squares", (x.shape[0], x.shape[1]), matrix.variance_dtype)
    full_scale = torch.empty((n_tiles, x.shape[0]), dtype=matrix.dtype)
    ranges = torch.empty(0, dtype=matrix.dtype) if matrix.input_range is None else matrix.input_range.to(matrix.dtype)
    stops = np.array([stop for _, stop in matrix.plan.rows])
    matrix.n_clipped += quantise_inputs(
        x.numpy(), stops, ranges.numpy(), matrix.dac_levels, codes.numpy(), stored(squares), full_scale.numpy()
    )
    return codes, squares, full_scale


def _squares(matrix: AnalogMatrix, drive: torch.Tensor) -> torch.Tensor:
    if matrix.variance is None:
        return torch.empty((0, 0), dtype=matrix.variance_dtype)
    return drive.square().to(matrix.variance_dtype)


def _sum_columns(
    matrix: AnalogMatrix, drive: torch.Tensor, squares: torch.Tensor, k: int, start: int, stop: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Column sums and their variances (T, stop - start) of one row of tiles, in DAC codes."""
    row_start, row_stop = matrix.plan.rows[k]
    shape = (drive.shape[0], stop - start)
    sums = _workspace.take("sums", shape, matrix.dtype)
    torch.mm(drive[:, row_start:row_stop], matrix.effective[k][start:stop].t(), out=sums)
    if matrix.variance is None:
        return sums, torch.empty((0, 0), dtype=matrix.variance_dtype)
    variances = _workspace.take("variances", shape, matrix.variance_dtype)
    drive_squared, variance = squares[:, row_start:row_stop], matrix.variance[k][start:stop]
    if drive.shape[0] <= _FEW_VECTORS:
        sum_variances(drive_squared.to(matrix.dtype).numpy(), stored(variance), stored(variances))
    else:
        torch.mm(drive_squared, variance.t(), out=variances)
    return sums, variances
