"""What the word lines carry when vectors are read on a CPU: codes of the DAC, passes, features of the devices."""

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
from crossbar_sim.kernels.inputs import quantise_inputs
from crossbar_sim.kernels.random import random_key


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


workspace = _Workspace()


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
    x: torch.Tensor,
    read: int,
    tries: NDArray[np.uint32],
    clipped: NDArray[np.int64],
    with_squares: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, int]:
    """DAC: codes (T, n_in), their squares where asked for and variances are needed, full scales (row tiles, T), and
    the number of clipped inputs, which `clipped` (T,) has for each vector."""
    n_tiles = len(matrix.plan.rows)
    dac = matrix.spec.dac
    if dac is None:
        squares = squares_of(matrix, x) if with_squares else no_squares(matrix)
        return x, squares, torch.ones((n_tiles, x.shape[0]), dtype=matrix.dtype), 0
    codes = workspace.take("codes", (x.shape[0], x.shape[1]), matrix.dtype)
    squares = no_squares(matrix)
    if with_squares and matrix.variance_flat is not None:
        squares = workspace.take("squares", (x.shape[0], x.shape[1]), product_dtype(matrix))
    full_scale = torch.empty((n_tiles, x.shape[0]), dtype=matrix.dtype)
    ranges = torch.empty(0, dtype=matrix.dtype) if matrix.input_range is None else matrix.input_range.to(matrix.dtype)
    key = np.zeros(2, dtype=np.uint32)
    if dac.stochastic_rounding:  # hashed only where it is looked at: a token passes here once per layer
        key = np.array(random_key(matrix.seed, matrix.name, "input rounding", read), dtype=np.uint32)
    n_clipped: int = quantise_inputs(
        x.numpy(),
        np.array([stop for _, stop in matrix.plan.rows]),
        ranges.numpy(),
        matrix.dac_levels,
        dac.stochastic_rounding,
        key,
        tries,
        codes.numpy(),
        stored(squares),
        full_scale.numpy(),
        clipped,
    )
    return codes, squares, full_scale, n_clipped


def drives(matrix: AnalogMatrix, codes: torch.Tensor, squares: torch.Tensor) -> Iterator[Drive]:
    """The drives of one vector of codes, one for each conversion."""
    levels = matrix.dac_levels or 1
    if len(matrix.passes) == 1:
        yield featured(matrix, Drive(codes, squares, levels, 1.0, 0))
        return
    for passes in matrix.conversions:
        yield featured(matrix, _drive(matrix, codes, passes, levels))


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


def _drive(matrix: AnalogMatrix, codes: torch.Tensor, passes: list[Pass], levels: int) -> Drive:
    """One conversion: a pass by itself, or several whose charges are weighted and added ahead of the ADC."""
    polarity = {(True, True): 0, (True, False): 1, (False, True): -1}[passes[0].g_plus, passes[0].g_minus]
    alone = len(passes) == 1
    largest = levels if passes[0].n_bits is None or not alone else 2 ** passes[0].n_bits - 1
    total, power = torch.zeros_like(codes), torch.zeros_like(codes)
    part = workspace.take("part", (codes.shape[0], codes.shape[1]), matrix.dtype)
    for each in passes:
        split_codes(codes.numpy(), each, part.numpy())
        weight = 1 if alone else each.weight
        total.add_(part, alpha=weight)
        power.addcmul_(part, part, value=weight**2)
    squares = no_squares(matrix) if matrix.variance_flat is None else power.to(product_dtype(matrix))
    return Drive(total, squares, largest, passes[0].weight * largest / levels if alone else 1.0, polarity)


def squares_of(matrix: AnalogMatrix, drive: torch.Tensor) -> torch.Tensor:
    return no_squares(matrix) if matrix.variance_flat is None else drive.square().to(product_dtype(matrix))


def no_squares(matrix: AnalogMatrix) -> torch.Tensor:
    return torch.empty((0, 0), dtype=product_dtype(matrix))


def product_dtype(matrix: AnalogMatrix) -> torch.dtype:
    """Type of the variance product: that of the stored variances where the processor multiplies it fast."""
    return matrix.variance_dtype if has_bf16_products() else matrix.dtype
