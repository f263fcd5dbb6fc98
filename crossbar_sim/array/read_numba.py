"""Reading vectors through an AnalogMatrix on a CPU: BLAS for the sums, Numba kernels around it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from crossbar_sim.array.matrix import AnalogMatrix
from crossbar_sim.array.stored import stored
from crossbar_sim.converters.dac import Pass, split_codes
from crossbar_sim.kernels.mvm import GROUP, quantise_inputs, read_columns, read_few, read_keys
from crossbar_sim.kernels.random import random_key
from crossbar_sim.kernels.threads import use_threads

_BLOCK_ELEMENTS = 1 << 19  # column sums of one block, 2 MB in float32, stay in a core's second-level cache
_FEW_VECTORS = 4  # up to here a read is one kernel of our own
_SERIAL_PRODUCTS = 100_000


@cache
def has_bf16_products() -> bool:
    """Whether this processor multiplies bfloat16 matrices faster than float32 ones, as far as torch can tell."""
    known = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(known.get("avx512_bf16") or known.get("amx_bf16"))


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


def block_columns(n_vectors: int) -> int:
    """Columns that are summed, converted and added together while they are in cache; a multiple of GROUP."""
    return max(GROUP, _BLOCK_ELEMENTS // max(1, n_vectors) // GROUP * GROUP)


class _Drive(NamedTuple):
    """What the word lines carry during one conversion, in codes, and what its result counts for."""

    codes: torch.Tensor
    """(T, n_in)"""
    squares: torch.Tensor
    """(T, n_in) for the variance product, (0, 0) where it is not needed"""
    levels: int
    """Code of a fully driven line."""
    weight: float
    """Of the converted value, relative to an input of full scale."""
    polarity: int
    """Sign of the devices that are read; 0 for the differences of pairs."""
    more: tuple[tuple[torch.Tensor, torch.Tensor], ...] = ()
    """Codes and squares of further features (crossbar_sim.array.features)."""


@torch.no_grad()
def read_numba(matrix: AnalogMatrix, x: torch.Tensor, bias: torch.Tensor | None, read: int) -> torch.Tensor:
    """y (T, n_out) = bias + the digital outputs of all tiles for x (T, n_in); both in the matrix' float type."""
    y = torch.empty((x.shape[0], matrix.plan.n_out), dtype=matrix.dtype)
    offset = torch.zeros(matrix.plan.n_out, dtype=matrix.dtype) if bias is None else bias.detach().to(matrix.dtype)
    plain = len(matrix.passes) == 1 and matrix.features is None
    few = x.shape[0] <= _FEW_VECTORS and plain and matrix.readouts[0].is_shared
    use_threads(1 if few else torch.get_num_threads())
    codes, squares, full_scale = _convert_inputs(matrix, x, read, with_squares=plain and not few)
    keys = read_keys(matrix.read_key, read, len(matrix.parts) * len(matrix.conversions))
    if few:
        matrix.n_saturated += _convert_few(matrix, codes, full_scale, offset, keys, y)
        _add_offsets(matrix, full_scale, 1.0, 0, y)
    else:
        first = True
        for number, drive in enumerate(_drives(matrix, codes, squares)):
            own = keys[number * len(matrix.parts) :]
            matrix.n_saturated += _convert_many(matrix, drive, full_scale, offset, own, first, y)
            _add_offsets(matrix, full_scale, drive.weight, drive.polarity, y)
            first = False
    matrix.n_inputs += x.numel()
    matrix.n_outputs += y.numel() * matrix.n_conversions
    if matrix.zero:
        _subtract_zero(matrix, codes, full_scale, y)
    if matrix.reference_columns is not None:
        _subtract_reference(matrix, matrix.reference_columns, codes, full_scale, read, y)
    return y


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
    drive = _featured(matrix, _Drive(codes, _squares(matrix, alike), levels, 1.0, 0))
    full_scale = torch.ones(n_probes, dtype=matrix.dtype)
    use_threads(torch.get_num_threads())
    one, zero = torch.ones(matrix.plan.n_out, dtype=matrix.dtype), torch.zeros(matrix.plan.n_out, dtype=matrix.dtype)
    for k in range(len(matrix.parts)):
        outputs = torch.empty((n_probes, matrix.plan.n_out), dtype=matrix.dtype)
        key = np.array(random_key(matrix.seed, matrix.name, purpose, k), dtype=np.uint32)
        for start in range(0, matrix.plan.n_out, block_columns(n_probes)):
            stop = min(start + block_columns(n_probes), matrix.plan.n_out)
            sums, variances = _sum_columns(matrix, drive, k, start, stop)
            if variances.shape[0] == 1:
                variances = variances.expand(n_probes, -1).contiguous()
            factor = one[start:stop]  # converters belong to columns of the matrix, so these are read at their place
            _convert(matrix, k, sums, variances, levels, full_scale, factor, zero, key, start, True, outputs)
        for c, (start, stop) in enumerate(matrix.plan.cols):
            yield (k, c), outputs[:, start:stop]


@torch.no_grad()
def read_tile(matrix: AnalogMatrix, k: int, c: int, x: torch.Tensor, key: NDArray[np.uint32]) -> torch.Tensor:
    """What `read_tiles` gives, of part k on column c of tiles alone, for relative inputs x (T, rows)."""
    levels, (start, stop) = matrix.dac_levels or 1, matrix.plan.cols[c]
    codes = torch.zeros((len(x), matrix.plan.n_in), dtype=matrix.dtype)
    codes[:, slice(*matrix.parts[k].rows)] = x * levels
    drive = _featured(matrix, _Drive(codes, _squares(matrix, codes), levels, 1.0, 0))
    sums, variances = _sum_columns(matrix, drive, k, start, stop)
    one, zero = torch.ones(stop - start, dtype=matrix.dtype), torch.zeros(matrix.plan.n_out, dtype=matrix.dtype)
    outputs = torch.empty((len(x), matrix.plan.n_out), dtype=matrix.dtype)
    unit = torch.ones(len(x), dtype=matrix.dtype)
    use_threads(torch.get_num_threads())
    _convert(matrix, k, sums, variances, levels, unit, one, zero, key, start, True, outputs)
    return outputs[:, start:stop]


@torch.no_grad()
def column_outputs(matrix: AnalogMatrix, x: torch.Tensor) -> Iterator[torch.Tensor]:
    """The outputs (T, n_out) of every part and conversion when x (T, n_in) is read, in fully driven devices."""
    codes, squares, _ = _convert_inputs(matrix, x, matrix.reads, with_squares=len(matrix.passes) == 1)
    n_out, unit = matrix.plan.n_out, torch.ones(x.shape[0], dtype=matrix.dtype)
    one, zero = torch.ones(n_out, dtype=matrix.dtype), torch.zeros(n_out, dtype=matrix.dtype)
    keys = read_keys(matrix.read_key, matrix.reads, len(matrix.parts) * len(matrix.conversions))
    for number, drive in enumerate(_drives(matrix, codes, squares)):
        for k in _parts_read(matrix, drive.polarity):
            outputs = torch.empty((x.shape[0], n_out), dtype=matrix.dtype)
            sums, variances = _sum_columns(matrix, drive, k, 0, n_out)
            key = keys[number * len(matrix.parts) + k]
            _convert(matrix, k, sums, variances, drive.levels, unit, one, zero, key, 0, True, outputs)
            yield outputs


def _convert_many(
    matrix: AnalogMatrix,
    drive: _Drive,
    full_scale: torch.Tensor,
    offset: torch.Tensor,
    keys: NDArray[np.uint32],
    first: bool,
    y: torch.Tensor,
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
            factor, scale = gain[k, start:stop], full_scale[matrix.parts[k].row_tile]
            sets = first and k == parts[0]
            saturated += _convert(
                matrix, k, sums, variances, drive.levels, scale, factor, offset, keys[k], start, sets, y
            )
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
    y: torch.Tensor,
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
        y.numpy(),
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
    first_col: int,
    first: bool,
    y: torch.Tensor,
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
        first_col,
        first,
        y.numpy(),
    )
    return saturated


def _convert_inputs(
    matrix: AnalogMatrix, x: torch.Tensor, read: int, with_squares: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """DAC: codes (T, n_in), their squares where asked for and variances are needed, and full scales (row tiles, T)."""
    n_tiles = len(matrix.plan.rows)
    dac = matrix.spec.dac
    if dac is None:
        squares = _squares(matrix, x) if with_squares else _no_squares(matrix)
        return x, squares, torch.ones((n_tiles, x.shape[0]), dtype=matrix.dtype)
    codes = _workspace.take("codes", (x.shape[0], x.shape[1]), matrix.dtype)
    squares = _no_squares(matrix)
    if with_squares and matrix.variance_flat is not None:
        squares = _workspace.take("squares", (x.shape[0], x.shape[1]), _product_dtype(matrix))
    full_scale = torch.empty((n_tiles, x.shape[0]), dtype=matrix.dtype)
    ranges = torch.empty(0, dtype=matrix.dtype) if matrix.input_range is None else matrix.input_range.to(matrix.dtype)
    key = np.zeros(2, dtype=np.uint32)
    if dac.stochastic_rounding:  # hashed only where it is looked at: a token passes here once per layer
        key = np.array(random_key(matrix.seed, matrix.name, "input rounding", read), dtype=np.uint32)
    matrix.n_clipped += quantise_inputs(
        x.numpy(),
        np.array([stop for _, stop in matrix.plan.rows]),
        ranges.numpy(),
        matrix.dac_levels,
        dac.stochastic_rounding,
        key,
        codes.numpy(),
        stored(squares),
        full_scale.numpy(),
    )
    return codes, squares, full_scale


def _drives(matrix: AnalogMatrix, codes: torch.Tensor, squares: torch.Tensor) -> Iterator[_Drive]:
    """The drives of one vector of codes, one for each conversion."""
    levels = matrix.dac_levels or 1
    if len(matrix.passes) == 1:
        yield _featured(matrix, _Drive(codes, squares, levels, 1.0, 0))
        return
    for passes in matrix.conversions:
        yield _featured(matrix, _drive(matrix, codes, passes, levels))


def _featured(matrix: AnalogMatrix, drive: _Drive) -> _Drive:
    """The drive of each feature of the devices in place of the codes."""
    if matrix.features is None:
        return drive
    features = matrix.features
    squares = drive.squares if drive.squares.numel() else _squares(matrix, drive.codes)
    (codes, own), *more = (
        (part, features.squares(part, squares) if squares.numel() else squares)
        for part in features.drives(drive.codes, drive.levels)
    )
    return drive._replace(codes=codes.contiguous(), squares=own, more=tuple(more))


def _drive(matrix: AnalogMatrix, codes: torch.Tensor, passes: list[Pass], levels: int) -> _Drive:
    """One conversion: a pass by itself, or several whose charges are weighted and added ahead of the ADC."""
    polarity = {(True, True): 0, (True, False): 1, (False, True): -1}[passes[0].g_plus, passes[0].g_minus]
    alone = len(passes) == 1
    largest = levels if passes[0].n_bits is None or not alone else 2 ** passes[0].n_bits - 1
    total, power = torch.zeros_like(codes), torch.zeros_like(codes)
    part = _workspace.take("part", (codes.shape[0], codes.shape[1]), matrix.dtype)
    for each in passes:
        split_codes(codes.numpy(), each, part.numpy())
        weight = 1 if alone else each.weight
        total.add_(part, alpha=weight)
        power.addcmul_(part, part, value=weight**2)
    squares = _no_squares(matrix) if matrix.variance_flat is None else power.to(_product_dtype(matrix))
    return _Drive(total, squares, largest, passes[0].weight * largest / levels if alone else 1.0, polarity)


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
    y: torch.Tensor,
) -> None:
    """Read the reference column of each tile and take what it shows from all columns of the tile."""
    n_columns = reference.plan.n_out
    one, zero = torch.ones(n_columns, dtype=matrix.dtype), torch.zeros(n_columns, dtype=matrix.dtype)
    shown = torch.empty((codes.shape[0], n_columns), dtype=matrix.dtype)
    all_keys = read_keys(reference.read_key, read, len(matrix.parts) * len(matrix.conversions))
    for number, drive in enumerate(_drives(matrix, codes, _squares(matrix, codes))):
        gain = matrix.gain * drive.weight
        for k, part in enumerate(matrix.parts):
            key, scale = all_keys[number * len(matrix.parts) + k], full_scale[part.row_tile]
            sums, variances = _sum_columns(reference, drive, k, 0, n_columns)
            matrix.n_saturated += _convert(
                reference, k, sums, variances, drive.levels, scale, one, zero, key, 0, True, shown
            )
            for c, (start, stop) in enumerate(matrix.plan.cols):
                y[:, start:stop].addr_(shown[:, c], gain[k, start:stop], alpha=-1)
    matrix.n_outputs += shown.numel() * matrix.n_conversions


def _squares(matrix: AnalogMatrix, drive: torch.Tensor) -> torch.Tensor:
    return _no_squares(matrix) if matrix.variance_flat is None else drive.square().to(_product_dtype(matrix))


def _no_squares(matrix: AnalogMatrix) -> torch.Tensor:
    return torch.empty((0, 0), dtype=_product_dtype(matrix))


def _product_dtype(matrix: AnalogMatrix) -> torch.dtype:
    """Type of the variance product: that of the stored variances where the processor multiplies it fast."""
    return matrix.variance_dtype if has_bf16_products() else matrix.dtype


def _sum_columns(
    matrix: AnalogMatrix, drive: _Drive, k: int, start: int, stop: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Column sums and their variances (T, stop - start) of one part, in DAC codes."""
    row_start, row_stop = matrix.parts[k].rows
    shape = (drive.codes.shape[0], stop - start)
    sums = _workspace.take("sums", shape, matrix.dtype)
    torch.mm(drive.codes[:, row_start:row_stop], matrix.effective[k][start:stop].t(), out=sums)
    for (codes, _), flat in zip(drive.more, matrix.more_effective, strict=True):
        sums.addmm_(codes[:, row_start:row_stop], matrix.views(flat)[k][start:stop].t())
    if matrix.variance_flat is None:
        return sums, _no_squares(matrix)
    squares = [drive.squares, *(part for _, part in drive.more)]
    variances = _workspace.take("variances", (len(squares[0]), stop - start), _product_dtype(matrix))
    for f, flat in enumerate([matrix.variance_flat, *matrix.more_variance]):
        variance = matrix.views(flat)[k][start:stop]
        if variance.dtype != variances.dtype:
            wide = _workspace.take("variance", (stop - start, row_stop - row_start), variances.dtype)
            variance = wide.copy_(variance)
        variances.addmm_(squares[f][:, row_start:row_stop], variance.t(), beta=min(f, 1))
    return sums, variances
