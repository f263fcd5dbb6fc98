"""Reading vectors through an AnalogMatrix on a CPU: the kernels that sum and convert, and what surrounds them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from crossbar_sim.array.bound_management import count_repeats, halve_inputs
from crossbar_sim.array.drive import Drive, conversions_of, convert_inputs, drives, featured, squares_of
from crossbar_sim.array.few import FEW_VECTORS, read_few_vectors
from crossbar_sim.array.held import Held
from crossbar_sim.array.many import Outputs, read_works
from crossbar_sim.array.matrix import AnalogMatrix
from crossbar_sim.kernels.mvm import GROUP, read_keys
from crossbar_sim.kernels.random import random_key
from crossbar_sim.kernels.tries import first_tries
from crossbar_sim.kernels.workers import share_all, share_in_turn
from crossbar_sim.mapping.plan import Span

PROBED_COLUMNS = 4096
"""Outputs, or those of one tile, that the chip reads about itself at a time for each vector."""


class _Try(NamedTuple):
    """What one try to read vectors gave."""

    y: torch.Tensor
    """(T, n_out)"""
    clipped: NDArray[np.int64]
    """(T,) inputs beyond their range"""
    beyond: NDArray[np.bool_]
    """(row tiles, T) whether an output of the tile saturated"""
    n_saturated: int


def read_numba(matrix: AnalogMatrix, x: torch.Tensor, bias: torch.Tensor | None, read: int) -> torch.Tensor:
    """y (T, n_out) = bias + the digital outputs of all tiles for x (T, n_in); both in the matrix' float type.

    Neither asks for a gradient.
    """
    held = Held.of(matrix)
    n_vectors = x.shape[0]  # len() of a tensor goes through Python
    tries = first_tries(held.stops.size, n_vectors)
    y, clipped, beyond, n_saturated = _read(matrix, held, x, bias, read, tries)
    if held.max_halvings and n_saturated:

        def read_again(vectors: NDArray[np.intp], own_tries: NDArray[np.uint32]) -> NDArray[np.bool_]:
            nonlocal n_saturated
            again = _read(matrix, held, x[vectors], bias, read, own_tries)
            y[vectors], clipped[vectors], n_saturated = again.y, again.clipped, again.n_saturated
            return again.beyond

        count_repeats(matrix, halve_inputs(held.max_halvings, tries, beyond, read_again))
    matrix.n_inputs += x.numel()
    matrix.n_clipped += sum(clipped.tolist())
    matrix.n_outputs += n_vectors * held.conversions_per_vector
    matrix.n_saturated += n_saturated
    return y


def _read(
    matrix: AnalogMatrix, held: Held, x: torch.Tensor, bias: torch.Tensor | None, read: int, tries: NDArray[np.uint32]
) -> _Try:
    """One try (row tiles, T) of each vector x (T, n_in)."""
    n_vectors = x.shape[0]
    y = torch.empty((n_vectors, matrix.plan.n_out), dtype=matrix.dtype)
    clipped, beyond = np.zeros(n_vectors, np.int64), np.zeros(tries.shape, np.bool_)
    if n_vectors <= FEW_VECTORS and held.at_once and held.shared_adc:
        codes, full_scale, saturated = read_few_vectors(matrix, held, x, bias, read, tries, clipped, y, beyond)
    else:
        codes, full_scale, saturated = _read_many(matrix, held, x, bias, read, tries, clipped, y, beyond)
    if held.has_offsets or held.zero or held.has_references:
        saturated += _correct(matrix, codes.to(matrix.dtype), torch.from_numpy(full_scale), read, tries, y, beyond)
    return _Try(y, clipped, beyond, saturated)


def _read_many(
    matrix: AnalogMatrix,
    held: Held,
    x: torch.Tensor,
    bias: torch.Tensor | None,
    read: int,
    tries: NDArray[np.uint32],
    clipped: NDArray[np.int64],
    y: torch.Tensor,
    beyond: NDArray[np.bool_],
) -> tuple[torch.Tensor, NDArray, int]:
    offset = None if bias is None else bias.detach().to(matrix.dtype).numpy()
    full_scale = np.empty(tries.shape, held.gain.dtype)
    codes, squares = convert_inputs(matrix, held, x, read, tries, clipped, full_scale)
    keys = read_keys(held.key, read, len(matrix.parts) * len(matrix.conversions))
    saturated = 0
    for number, drive in enumerate(drives(matrix, codes, squares)):
        gain = held.gain if drive.weight == 1 else held.gain * held.gain.dtype.type(drive.weight)
        own = keys[number * len(matrix.parts) :]
        outputs = Outputs(full_scale, gain, own, tries, y.numpy(), beyond)
        parts = matrix.parts_read(drive.polarity)
        works = read_works(matrix, drive, parts, offset, outputs, adds=number > 0)
        saturated += share_in_turn(works, torch.get_num_threads())
    return codes, full_scale, saturated


def _correct(
    matrix: AnalogMatrix,
    codes: torch.Tensor,
    full_scale: torch.Tensor,
    read: int,
    tries: NDArray[np.uint32],
    y: torch.Tensor,
    beyond: NDArray[np.bool_],
) -> int:
    """What the digital side adds to and takes from the outputs; the number of saturated reference outputs."""
    levels = matrix.dac_levels or 1
    if matrix.drift_offset is not None:
        offset = matrix.full_scale * matrix.drift_offset
        for conversion in conversions_of(matrix):
            parts = matrix.parts_read(conversion.polarity)
            scales = full_scale[[matrix.parts[k].row_tile for k in parts]]
            y.addmm_(scales.t(), offset[parts], alpha=conversion.weight)
    if matrix.zero:
        for (k, _, (start, stop)), weight in zip(matrix.parts, matrix.full_scale, strict=True):
            inputs = codes[:, start:stop].sum(dim=1) / levels * full_scale[k]
            y.addr_(inputs, weight, alpha=-matrix.zero)
    if matrix.reference_columns is None:
        return 0
    return _subtract_reference(matrix, matrix.reference_columns, codes, full_scale, read, tries, y, beyond)


@torch.no_grad()
def read_tiles(
    matrix: AnalogMatrix, codes: torch.Tensor, purpose: str
) -> Iterator[tuple[tuple[int, int], torch.Tensor]]:
    """(part, column of tiles) and the converted outputs (P, columns) for codes (P, n_in) of one magnitude.

    The chip reads about itself: through DAC, devices and ADC, but without input range, weight scale or compensation, so
    outputs are in fully driven devices, as the bound is. A few tiles at a time, so that little memory is needed.
    """
    codes = codes.to(Held.of(matrix).code_dtype)
    alike = codes if matrix.features is not None else codes[:1]  # all have the same squares, and so variances
    drive = featured(matrix, Drive(codes, squares_of(matrix, alike), matrix.dac_levels or 1, 1.0, 0))
    numbers = range(len(matrix.parts))
    keys = np.array([random_key(matrix.seed, matrix.name, purpose, k) for k in numbers], np.uint32)
    at_once = max(1, PROBED_COLUMNS // max(stop - start for start, stop in matrix.plan.cols))
    for c in range(0, len(matrix.plan.cols), at_once):
        tiles = matrix.plan.cols[c : c + at_once]
        first, end = tiles[0][0] // GROUP * GROUP, tiles[-1][1]  # noise is keyed by groups of columns
        beside = max(1, PROBED_COLUMNS // (end - first))
        for parts in (numbers[k : k + beside] for k in numbers[::beside]):
            outputs = _read_about_itself(matrix, drive, parts, keys, len(codes), (first, end))
            for k, own in zip(parts, outputs, strict=True):
                for place, (start, stop) in enumerate(tiles, start=c):
                    yield (k, place), own[:, start - first : stop - first]


@torch.no_grad()
def read_tile(matrix: AnalogMatrix, k: int, c: int, x: torch.Tensor, key: NDArray[np.uint32]) -> torch.Tensor:
    """What `read_tiles` gives, of part k on column c of tiles alone, for relative inputs x (T, rows)."""
    levels = matrix.dac_levels or 1
    codes = torch.zeros((len(x), matrix.plan.n_in), dtype=matrix.dtype)
    codes[:, slice(*matrix.parts[k].rows)] = x * levels
    drive = featured(matrix, Drive(codes, squares_of(matrix, codes), levels, 1.0, 0))
    keys, (start, stop) = np.tile(key, (len(matrix.parts), 1)), matrix.plan.cols[c]
    first = start // GROUP * GROUP
    return _read_about_itself(matrix, drive, [k], keys, len(x), (first, stop))[0, :, start - first :]


@torch.no_grad()
def column_outputs(matrix: AnalogMatrix, x: torch.Tensor) -> Iterator[torch.Tensor]:
    """The outputs (T, n_out) of every part and conversion when x (T, n_in) is read, in fully driven devices.

    Of the first try, where vectors may be read again.
    """
    tries = first_tries(len(matrix.plan.rows), x.shape[0])
    held, unused = Held.of(matrix), np.zeros(x.shape[0], np.int64)
    codes, squares = convert_inputs(
        matrix, held, x, matrix.reads, tries, unused, np.empty(tries.shape, held.gain.dtype)
    )
    keys = read_keys(matrix.read_key, matrix.reads, len(matrix.parts) * len(matrix.conversions))
    for number, drive in enumerate(drives(matrix, codes, squares)):
        for k in matrix.parts_read(drive.polarity):
            own = keys[number * len(matrix.parts) :]
            yield _read_about_itself(matrix, drive, [k], own, x.shape[0], (0, matrix.plan.n_out))[0]


def _read_about_itself(
    matrix: AnalogMatrix, drive: Drive, parts: Sequence[int], keys: NDArray[np.uint32], n_vectors: int, columns: Span
) -> torch.Tensor:
    """Outputs (parts, T, columns) in fully driven devices; columns begin with a group of random numbers."""
    n_tiles = len(matrix.plan.rows)
    y = torch.empty((len(parts), n_vectors, columns[1] - columns[0]), dtype=matrix.dtype)
    values = y.numpy()
    one = np.ones((len(matrix.parts), matrix.plan.n_out), values.dtype)
    unit, beyond = np.ones((n_tiles, n_vectors), values.dtype), np.zeros((n_tiles, n_vectors), np.bool_)
    tries, works = first_tries(n_tiles, n_vectors), []
    for k, own in zip(parts, values, strict=True):
        works += read_works(matrix, drive, [k], None, Outputs(unit, one, keys, tries, own, beyond), columns=columns)
    share_all(works, torch.get_num_threads())
    return y


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
    shown = torch.empty((codes.shape[0], n_columns), dtype=matrix.dtype)
    values = shown.numpy()
    one = np.ones((len(matrix.parts), n_columns), values.dtype)
    all_keys = read_keys(reference.read_key, read, len(matrix.parts) * len(matrix.conversions))
    saturated = 0
    for number, drive in enumerate(drives(matrix, codes)):
        gain, keys = matrix.gain * drive.weight, all_keys[number * len(matrix.parts) :]
        outputs = Outputs(full_scale.numpy(), one, keys, tries, values, beyond)
        for k in range(len(matrix.parts)):
            works = read_works(reference, drive, [k], None, outputs)
            saturated += share_in_turn(works, torch.get_num_threads())
            for c, (start, stop) in enumerate(matrix.plan.cols):
                y[:, start:stop].addr_(shown[:, c], gain[k, start:stop], alpha=-1)
    return saturated
