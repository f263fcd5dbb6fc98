"""What the word lines carry when vectors are read on a CPU: codes of the DAC, passes, features of the devices."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from crossbar_sim.array.held import Held, product_dtype
from crossbar_sim.array.matrix import AnalogMatrix
from crossbar_sim.array.stored import stored
from crossbar_sim.converters.dac import Pass, split_codes
from crossbar_sim.kernels.inputs import quantise_inputs
from crossbar_sim.kernels.random import random_key
from crossbar_sim.kernels.scratch import Scratch
from crossbar_sim.kernels.workers import share

_SERIAL_INPUTS = 100_000
"""Below that, waking a thread takes longer than its share of the work."""

_NO_KEY = np.zeros(2, np.uint32)
SCRATCH = Scratch()
"""Of reads."""


def scratch(name: str, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """A tensor to be filled, in memory that the next call of that name in this thread takes again."""
    if dtype == torch.bfloat16:
        return torch.from_numpy(SCRATCH.array(name, shape, np.uint16)).view(dtype)
    return torch.from_numpy(SCRATCH.array(name, shape, torch.empty(0, dtype=dtype).numpy().dtype))


class Drive(NamedTuple):
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


def convert_inputs(
    matrix: AnalogMatrix,
    held: Held,
    x: torch.Tensor,
    read: int,
    tries: NDArray[np.uint32],
    clipped: NDArray[np.int64],
    full_scale: NDArray,
) -> tuple[torch.Tensor, torch.Tensor]:
    """DAC: codes (T, n_in), and their squares where one conversion of them is all.

    `clipped` (T,) gets the number of clipped inputs, full_scale (row tiles, T) what 1 stands for.
    """
    squares = no_squares(matrix)
    if not held.has_dac:
        full_scale[:] = 1
        return x, squares
    codes = scratch("codes", tuple(x.shape), held.code_dtype)
    if held.at_once and held.noisy:
        squares = scratch("squares", tuple(x.shape), product_dtype(matrix))
    arguments = (
        x.numpy(), held.stops, held.ranges, held.levels, held.stochastic, rounding_key(matrix, held, read), tries,
        stored(codes), stored(squares), full_scale, clipped,
    )  # fmt: skip
    share(quantise_inputs, arguments, len(x), _threads(x), chunks=1)
    return codes, squares


def _threads(inputs: torch.Tensor) -> int:
    return torch.get_num_threads() if inputs.numel() > _SERIAL_INPUTS else 1


def rounding_key(matrix: AnalogMatrix, held: Held, read: int) -> NDArray[np.uint32]:
    """Key of the uniforms that round inputs; of no meaning where they are rounded to nearest."""
    if not held.stochastic:
        return _NO_KEY
    return np.array(random_key(matrix.seed, matrix.name, "input rounding", read), dtype=np.uint32)


def drives(matrix: AnalogMatrix, codes: torch.Tensor, squares: torch.Tensor | None = None) -> Iterator[Drive]:
    """The drives of vectors of codes, one for each conversion; `squares` of the codes where they are known."""
    conversions = conversions_of(matrix)
    if len(matrix.passes) == 1:
        own = squares if squares is not None and squares.numel() else squares_of(matrix, codes)
        yield featured(matrix, Drive(codes, own, *conversions[0]))
        return
    for passes, conversion in zip(matrix.conversions, conversions, strict=True):
        yield featured(matrix, _drive(matrix, codes, passes, conversion))


def featured(matrix: AnalogMatrix, drive: Drive) -> Drive:
    """The drive of each feature of the devices in place of the codes."""
    if matrix.features is None:
        return drive
    features = matrix.features
    squares = drive.squares if drive.squares.numel() else squares_of(matrix, drive.codes)
    (codes, own), *more = (
        (part, features.squares(part, squares) if squares.numel() else squares)
        for part in features.drives(drive.codes, drive.levels)
    )
    return drive._replace(codes=codes.contiguous(), squares=own, more=tuple(more))


class Conversion(NamedTuple):
    """What a conversion is, whatever the inputs are."""

    levels: int
    """Code of a fully driven line."""
    weight: float
    """Of the converted value, relative to an input of full scale."""
    polarity: int
    """Sign of the devices that are read; 0 for the differences of pairs."""


def conversions_of(matrix: AnalogMatrix) -> list[Conversion]:
    """The conversions of a read, in their order."""
    levels = matrix.dac_levels or 1
    if len(matrix.passes) == 1:
        return [Conversion(levels, 1.0, 0)]
    found = []
    for passes in matrix.conversions:
        polarity = {(True, True): 0, (True, False): 1, (False, True): -1}[passes[0].g_plus, passes[0].g_minus]
        alone = len(passes) == 1
        largest = levels if passes[0].n_bits is None or not alone else 2 ** passes[0].n_bits - 1
        found.append(Conversion(largest, passes[0].weight * largest / levels if alone else 1.0, polarity))
    return found


def _drive(matrix: AnalogMatrix, codes: torch.Tensor, passes: list[Pass], conversion: Conversion) -> Drive:
    """One conversion: a pass by itself, or several whose charges are weighted and added ahead of the ADC."""
    total, power = torch.zeros_like(codes), torch.zeros_like(codes)
    part = scratch("part", tuple(codes.shape), matrix.dtype)
    for each in passes:
        share(split_codes, (codes.numpy(), each, part.numpy()), len(codes), _threads(codes))
        weight = 1 if len(passes) == 1 else each.weight
        total.add_(part, alpha=weight)
        power.addcmul_(part, part, value=weight**2)
    squares = no_squares(matrix) if matrix.variance_flat is None else power.to(product_dtype(matrix))
    return Drive(total, squares, *conversion)


def squares_of(matrix: AnalogMatrix, drive: torch.Tensor) -> torch.Tensor:
    return no_squares(matrix) if matrix.variance_flat is None else drive.square().to(product_dtype(matrix))


def no_squares(matrix: AnalogMatrix) -> torch.Tensor:
    return torch.empty((0, 0), dtype=product_dtype(matrix))
