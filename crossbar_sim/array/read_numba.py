"""Reading vectors through an AnalogMatrix on a CPU: BLAS for the sums, Numba kernels around it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from crossbar_sim.array.bound_management import count_repeats, halve_inputs
from crossbar_sim.array.drive import (
    Drive,
    convert_inputs,
    drives,
    featured,
    no_squares,
    product_dtype,
    squares_of,
    workspace,
)
from crossbar_sim.array.matrix import AnalogMatrix
from crossbar_sim.array.stored import stored
from crossbar_sim.kernels.mvm import GROUP, read_columns, read_few, read_keys
from crossbar_sim.kernels.random import random_key
from crossbar_sim.kernels.threads import use_threads
from crossbar_sim.kernels.tries import first_tries

_BLOCK_ELEMENTS = 1 << 19  # column sums of one block, 2 MB in float32, stay in a core's second-level cache
_FEW_VECTORS = 4  # up to here a read is one kernel of our own
_SERIAL_PRODUCTS = 100_000


def block_columns(n_vectors: int) -> int:
    """Columns that are summed, converted and added together while they are in cache; a multiple of GROUP."""
    return max(GROUP, _BLOCK_ELEMENTS // max(1, n_vectors) // GROUP * GROUP)


class _Try(NamedTuple):
    """What one try to read vectors gave."""

    y: torch.Tensor
    """(T, n_out)"""
    clipped: NDArray[np.int64]
    """(T,) inputs beyond their range"""
    beyond: NDArray[np.bool_]
    """(row tiles, T) whether an output of the tile saturated"""
    n_clipped: int
    n_saturated: int


@torch.no_grad()
def read_numba(matrix: AnalogMatrix, x: torch.Tensor, bias: torch.Tensor | None, read: int) -> torch.Tensor:
    """y (T, n_out) = bias + the digital outputs of all tiles for x (T, n_in); both in the matrix' float type."""
    offset = torch.zeros(matrix.plan.n_out, dtype=matrix.dtype) if bias is None else bias.detach().to(matrix.dtype)
    tries = first_tries(len(matrix.plan.rows), x.shape[0])
    y, clipped, beyond, n_clipped, n_saturated = _read(matrix, x, offset, read, tries)
    if matrix.max_halvings and n_saturated:

        def read_again(vectors: NDArray[np.intp], own_tries: NDArray[np.uint32]) -> NDArray[np.bool_]:
            nonlocal n_saturated
            again = _read(matrix, x[vectors], offset, read, own_tries)
            y[vectors], clipped[vectors], n_saturated = again.y, again.clipped, again.n_saturated
            return again.beyond

        count_repeats(matrix, halve_inputs(matrix.max_halvings, tries, beyond, read_again))
        n_clipped = int(clipped.sum())
    matrix.n_inputs += x.numel()
    matrix.n_clipped += n_clipped
    references = matrix.reference_columns
    columns = matrix.plan.n_out + (0 if references is None else references.plan.n_out)
    matrix.n_outputs += x.shape[0] * columns * matrix.n_conversions
    matrix.n_saturated += n_saturated
    return y


def _read(matrix: AnalogMatrix, x: torch.Tensor, offset: torch.Tensor, read: int, tries: NDArray[np.uint32]) -> _Try:
    """One try (row tiles, T) of each vector x (T, n_in)."""
    y = torch.empty((x.shape[0], matrix.plan.n_out), dtype=matrix.dtype)
    beyond, clipped = np.zeros(tries.shape, np.bool_), np.zeros(x.shape[0], np.int64)
    plain = len(matrix.passes) == 1 and matrix.features is None
    few = x.shape[0] <= _FEW_VECTORS and plain and matrix.readouts[0].is_shared
    use_threads(1 if few else torch.get_num_threads())
    codes, squares, full_scale, n_clipped = convert_inputs(matrix, x, read, tries, clipped, plain and not few)
    keys = read_keys(matrix.read_key, read, len(matrix.parts) * len(matrix.conversions))
    saturated = 0
    if few:
        saturated += _convert_few(matrix, codes, full_scale, offset, keys, tries, y, beyond)
        _add_offsets(matrix, full_scale, 1.0, 0, y)
    else:
        first = True
        for number, drive in enumerate(drives(matrix, codes, squares)):
            own = keys[number * len(matrix.parts) :]
            saturated += _convert_many(matrix, drive, full_scale, offset, own, tries, first, y, beyond)
            _add_offsets(matrix, full_scale, drive.weight, drive.polarity, y)
            first = False
    if matrix.zero:
        _subtract_zero(matrix, codes, full_scale, y)
    if matrix.reference_columns is not None:
        saturated += _subtract_reference(matrix, matrix.reference_columns, codes, full_scale, read, tries, y, beyond)
    return _Try(y, clipped, beyond, n_clipped, saturated)


@torch.no_grad()
def read_tiles(
    matrix: AnalogMatrix, probes: torch.Tensor, purpose: str
) -> Iterator[tuple[tuple[int, int], torch.Tensor]]:
    """(part, column of tiles) and the converted outputs (P, columns) for inputs `probes` (P, n_in) of +-1.

    The chip reads about itself: through DAC, devices and ADC, but without input range, weight scale or compensation, so
    outputs are in fully driven devices, as the bound is. One row of tiles at a time, so that little memory is needed.
    """
    n_probes = probes.shape[0]
    levels = matrix.dac_levels or 1
    codes = (probes * levels).to(matrix.dtype)
    alike = codes if matrix.features is not None else codes[:1]  # +-1 all have the same squares, and so variances
    drive = featured(matrix, Drive(codes, squares_of(matrix, alike), levels, 1.0, 0))
    full_scale = torch.ones(n_probes, dtype=matrix.dtype)
    use_threads(torch.get_num_threads())
    one, zero = torch.ones(matrix.plan.n_out, dtype=matrix.dtype), torch.zeros(matrix.plan.n_out, dtype=matrix.dtype)
    tries, beyond = first_tries(1, n_probes)[0], np.zeros(n_probes, np.bool_)
    for k in range(len(matrix.parts)):
        outputs = torch.empty((n_probes, matrix.plan.n_out), dtype=matrix.dtype)
        key = np.array(random_key(matrix.seed, matrix.name, purpose, k), dtype=np.uint32)
        for start in range(0, matrix.plan.n_out, block_columns(n_probes)):
            stop = min(start + block_columns(n_probes), matrix.plan.n_out)
            sums, variances = _sum_columns(matrix, drive, k, start, stop)
            if variances.shape[0] == 1:
                variances = variances.expand(n_probes, -1).contiguous()
            factor = one[start:stop]  # converters belong to columns of the matrix, so these are read at their place
            _convert(
                matrix, k, sums, variances, levels, full_scale, factor, zero, key, tries, start, True, outputs, beyond
            )
        for c, (start, stop) in enumerate(matrix.plan.cols):
            yield (k, c), outputs[:, start:stop]


@torch.no_grad()
def read_tile(matrix: AnalogMatrix, k: int, c: int, x: torch.Tensor, key: NDArray[np.uint32]) -> torch.Tensor:
    """What `read_tiles` gives, of part k on column c of tiles alone, for relative inputs x (T, rows)."""
    levels, (start, stop) = matrix.dac_levels or 1, matrix.plan.cols[c]
    codes = torch.zeros((len(x), matrix.plan.n_in), dtype=matrix.dtype)
    codes[:, slice(*matrix.parts[k].rows)] = x * levels
    drive = featured(matrix, Drive(codes, squares_of(matrix, codes), levels, 1.0, 0))
    sums, variances = _sum_columns(matrix, drive, k, start, stop)
    one, zero = torch.ones(stop - start, dtype=matrix.dtype), torch.zeros(matrix.plan.n_out, dtype=matrix.dtype)
    outputs = torch.empty((len(x), matrix.plan.n_out), dtype=matrix.dtype)
    unit = torch.ones(len(x), dtype=matrix.dtype)
    tries, beyond = first_tries(1, len(x))[0], np.zeros(len(x), np.bool_)
    use_threads(torch.get_num_threads())
    _convert(matrix, k, sums, variances, levels, unit, one, zero, key, tries, start, True, outputs, beyond)
    return outputs[:, start:stop]


@torch.no_grad()
def column_outputs(matrix: AnalogMatrix, x: torch.Tensor) -> Iterator[torch.Tensor]:
    """The outputs (T, n_out) of every part and conversion when x (T, n_in) is read, in fully driven devices.

    Of the first try, where vectors may be read again.
    """
    tries = first_tries(len(matrix.plan.rows), x.shape[0])
    unused, beyond = np.zeros(x.shape[0], np.int64), np.zeros(tries.shape, np.bool_)
    codes, squares, *_ = convert_inputs(matrix, x, matrix.reads, tries, unused, with_squares=len(matrix.passes) == 1)
    n_out, unit = matrix.plan.n_out, torch.ones(x.shape[0], dtype=matrix.dtype)
    one, zero = torch.ones(n_out, dtype=matrix.dtype), torch.zeros(n_out, dtype=matrix.dtype)
    keys = read_keys(matrix.read_key, matrix.reads, len(matrix.parts) * len(matrix.conversions))
    for number, drive in enumerate(drives(matrix, codes, squares)):
        for k in _parts_read(matrix, drive.polarity):
            outputs = torch.empty((x.shape[0], n_out), dtype=matrix.dtype)
            sums, variances = _sum_columns(matrix, drive, k, 0, n_out)
            key = keys[number * len(matrix.parts) + k]
            tile = matrix.parts[k].row_tile
            _convert(
                matrix, k, sums, variances, drive.levels, unit, one, zero, key, tries[tile], 0, True, outputs,
                beyond[tile],
            )  # fmt: skip
            yield outputs


def _convert_many(
    matrix: AnalogMatrix,
    drive: Drive,
    full_scale: torch.Tensor,
    offset: torch.Tensor,
    keys: NDArray[np.uint32],
    tries: NDArray[np.uint32],
    first: bool,
    y: torch.Tensor,
    beyond: NDArray[np.bool_],
) -> int:
    """Sum and convert all columns block by block and add them up over parts; the number of saturated outputs."""
    n_vectors, n_out = drive.codes.shape[0], matrix.plan.n_out
    gain = matrix.gain if drive.weight == 1 else matrix.gain * drive.weight
    parts = _parts_read(matrix, drive.polarity)
    saturated = 0
    for start in range(0, n_out, block_columns(n_vectors)):
        stop = min(start + block_columns(n_vectors), n_out)
        for k in parts:
            sums, variances = _sum_columns(matrix, drive, k, start, stop)
            factor, tile = gain[k, start:stop], matrix.parts[k].row_tile
            sets = first and k == parts[0]
            saturated += _convert(
                matrix, k, sums, variances, drive.levels, full_scale[tile], factor, offset, keys[k], tries[tile],
                start, sets, y, beyond[tile],
            )  # fmt: skip
    return saturated


def _parts_read(matrix: AnalogMatrix, polarity: int) -> list[int]:
    """The parts that a drive of this polarity reads."""
    polarities = [matrix.layout.planes[part.plane].polarity for part in matrix.parts]
    return [k for k, own in enumerate(polarities) if polarity in (0, own)]


def _add_offsets(matrix: AnalogMatrix, full_scale: torch.Tensor, weight: float, polarity: int, y: torch.Tensor) -> None:
    """Add the offset of the compensation to what one conversion of weight `weight` gave."""
    if matrix.drift_offset is None:
        return
    parts = _parts_read(matrix, polarity)
    scales = full_scale[[matrix.parts[k].row_tile for k in parts]]
    y.addmm_(scales.t(), (matrix.full_scale * matrix.drift_offset)[parts], alpha=weight)


def _convert_few(
    matrix: AnalogMatrix,
    codes: torch.Tensor,
    full_scale: torch.Tensor,
    offset: torch.Tensor,
    keys: NDArray[np.uint32],
    tries: NDArray[np.uint32],
    y: torch.Tensor,
    beyond: NDArray[np.bool_],
) -> int:
    """What `_convert_many` does, for a few vectors played out in one pass."""
    # below that, waking a second thread takes longer than its share of the work
    use_threads(torch.get_num_threads() if codes.shape[0] * matrix.effective_flat.numel() > _SERIAL_PRODUCTS else 1)
    none = torch.empty(0, dtype=matrix.variance_dtype)
    saturated: int = read_few(
        codes.numpy(),
        np.array([(part.row_tile, *part.rows) for part in matrix.parts]),
        matrix.effective_flat.numpy(),
        stored(none if matrix.variance_flat is None else matrix.variance_flat),
        1.0 / (matrix.dac_levels or 1),
        matrix.output_noise**2,
        matrix.draws,
        matrix.readouts[0].adc,
        full_scale.numpy(),
        matrix.gain.numpy(),
        offset.numpy(),
        keys,
        tries,
        y.numpy(),
        beyond,
    )
    return saturated


def _convert(
    matrix: AnalogMatrix,
    k: int,
    sums: torch.Tensor,
    variances: torch.Tensor,
    levels: int,
    full_scale: torch.Tensor,
    gain: torch.Tensor,
    offset: torch.Tensor,
    key: NDArray[np.uint32],
    tries: NDArray[np.uint32],
    first_col: int,
    first: bool,
    y: torch.Tensor,
    beyond: NDArray[np.bool_],
) -> int:
    readout = matrix.readouts[k]
    saturated: int = read_columns(
        sums.numpy(),
        stored(variances),
        1.0 / levels,
        matrix.output_noise**2,
        matrix.draws,
        readout.adc,
        readout.errors,
        readout.stage,
        full_scale.numpy(),
        gain.numpy(),
        offset.numpy(),
        key,
        tries,
        first_col,
        first,
        y.numpy(),
        beyond,
    )
    return saturated


def _subtract_zero(matrix: AnalogMatrix, codes: torch.Tensor, full_scale: torch.Tensor, y: torch.Tensor) -> None:
    """Take the sum of the inputs times the zero level of an offset encoding from y."""
    for (k, _, (start, stop)), weight in zip(matrix.parts, matrix.full_scale, strict=True):
        inputs = codes[:, start:stop].sum(dim=1) / (matrix.dac_levels or 1) * full_scale[k]
        y.addr_(inputs, weight, alpha=-matrix.zero)


def _subtract_reference(
    matrix: AnalogMatrix,
    reference: AnalogMatrix,
    codes: torch.Tensor,
    full_scale: torch.Tensor,
    read: int,
    tries: NDArray[np.uint32],
    y: torch.Tensor,
    beyond: NDArray[np.bool_],
) -> int:
    """Read the reference column of each tile and take what it shows from all columns of the tile.

    Returns the number of saturated outputs.
    """
    n_columns = reference.plan.n_out
    one, zero = torch.ones(n_columns, dtype=matrix.dtype), torch.zeros(n_columns, dtype=matrix.dtype)
    shown = torch.empty((codes.shape[0], n_columns), dtype=matrix.dtype)
    all_keys = read_keys(reference.read_key, read, len(matrix.parts) * len(matrix.conversions))
    saturated = 0
    for number, drive in enumerate(drives(matrix, codes, squares_of(matrix, codes))):
        gain = matrix.gain * drive.weight
        for k, part in enumerate(matrix.parts):
            key, tile = all_keys[number * len(matrix.parts) + k], part.row_tile
            sums, variances = _sum_columns(reference, drive, k, 0, n_columns)
            saturated += _convert(
                reference, k, sums, variances, drive.levels, full_scale[tile], one, zero, key, tries[tile], 0, True,
                shown, beyond[tile],
            )  # fmt: skip
            for c, (start, stop) in enumerate(matrix.plan.cols):
                y[:, start:stop].addr_(shown[:, c], gain[k, start:stop], alpha=-1)
    return saturated


def _sum_columns(
    matrix: AnalogMatrix, drive: Drive, k: int, start: int, stop: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Column sums and their variances (T, stop - start) of one part, in DAC codes."""
    row_start, row_stop = matrix.parts[k].rows
    shape = (drive.codes.shape[0], stop - start)
    sums = workspace.take("sums", shape, matrix.dtype)
    torch.mm(drive.codes[:, row_start:row_stop], matrix.effective[k][start:stop].t(), out=sums)
    for (codes, _), flat in zip(drive.more, matrix.more_effective, strict=True):
        sums.addmm_(codes[:, row_start:row_stop], matrix.views(flat)[k][start:stop].t())
    if matrix.variance_flat is None:
        return sums, no_squares(matrix)
    squares = [drive.squares, *(part for _, part in drive.more)]
    variances = workspace.take("variances", (len(squares[0]), stop - start), product_dtype(matrix))
    for f, flat in enumerate([matrix.variance_flat, *matrix.more_variance]):
        variance = matrix.views(flat)[k][start:stop]
        if variance.dtype != variances.dtype:
            wide = workspace.take("variance", (stop - start, row_stop - row_start), variances.dtype)
            variance = wide.copy_(variance)
        variances.addmm_(squares[f][:, row_start:row_stop], variance.t(), beta=min(f, 1))
    return sums, variances
