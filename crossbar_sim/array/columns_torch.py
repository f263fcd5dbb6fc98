"""The columns of a matrix in torch operations: sums, read noise, ADC, and the derivative of what they show.

Inputs and outputs are in ADC steps here; where there is no ADC a step is a fully driven device.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from crossbar_sim.array.held import product_dtype
from crossbar_sim.array.matrix import AnalogMatrix
from crossbar_sim.array.random_torch import read_normals
from crossbar_sim.array.stacks_torch import Stack, product
from crossbar_sim.converters.states import UniformAdc
from crossbar_sim.kernels.mvm import read_keys


class Drive(NamedTuple):
    """What the word lines carry."""

    inputs: torch.Tensor
    """(T, n_in)"""
    squares: torch.Tensor | None
    """(T, n_in) of the inputs, in the type of the variance product; None where devices have no read noise"""
    tries: NDArray[np.uint32]
    """(row tiles, T), see crossbar_sim.kernels.tries"""


class Kept(NamedTuple):
    """What the derivative needs of a read, (parts, T, n_out) each; None where there is nothing to keep."""

    saturated: torch.Tensor | None
    """1 where an output was beyond the bound of the ADC, else 0; int8. None also where a CPU knows that none was"""
    slope: torch.Tensor | None
    """z / sigma of the noise, in the type that variances are stored in"""


class Columns:
    """All columns of a matrix during one read of its present state.

    Equation   v_j = sum_i d_i E_ij + sigma_j z_j, sigma_j^2 = sum_i d_i^2 V_ij + output noise^2
               shown_j = clip(rint(v_j), -levels, levels)
               d shown_j / d d_i = E_ij + d_i V_ij z_j / sigma_j where v_j is within the bound, else 0

    Products with V are of the type that V is stored in where that is faster (`held.product_dtype`); sums of them are
    not.
    """

    def __init__(self, matrix: AnalogMatrix, read: int):
        self.matrix = matrix
        self.effective, self.variance = matrix.effective_flat, matrix.variance_flat
        self.product_dtype = product_dtype(matrix)
        self.adc = matrix.readouts[0].adc
        self.converts = isinstance(self.adc, UniformAdc)
        self.step = self.adc.step if isinstance(self.adc, UniformAdc) else 1.0
        self.noise = matrix.output_noise / self.step
        self.keys = read_keys(matrix.read_key, read, len(matrix.parts))
        self.starts = [*matrix.part_table[:, 4].tolist(), matrix.effective_flat.numel()]

    def drive(self, inputs: torch.Tensor, tries: NDArray[np.uint32]) -> Drive:
        return Drive(inputs, None if self.variance is None else inputs.square().to(self.product_dtype), tries)

    def room(self, n_vectors: int, device: torch.device) -> Kept:
        """Where `shown` leaves what the derivative needs."""
        shape = (len(self.matrix.parts), n_vectors, self.matrix.plan.n_out)
        # pages of zeros that nobody writes to take no memory
        saturated = torch.from_numpy(np.zeros(shape, np.int8)).to(device) if self.converts else None
        return Kept(
            saturated,
            torch.empty(shape, dtype=self.matrix.variance_dtype, device=device) if self.variance is not None else None,
        )

    def shown(
        self, stack: Stack, start: int, stop: int, drive: Drive, kept: Kept, counted: torch.Tensor
    ) -> torch.Tensor:
        """(K, T, stop - start) what columns of a stack of parts show; `start` is a multiple of GROUP.

        `counted` (row tiles, T) grows by the outputs beyond the bound of an ADC; one that is no number is not.
        """
        v = product(stack.split(drive.inputs), self._effective(stack, start, stop).mT)
        if self.matrix.is_noisy:
            self._add_noise(v, stack, start, stop, drive, kept)
        if not isinstance(self.adc, UniformAdc):
            return v
        v.round_()
        if known_to_be_within(v, self.adc.levels):
            return v
        code = torch.clamp(v, -self.adc.levels, self.adc.levels)
        # as floats, which are compared and added several times faster than truth values
        saturated = v.abs_().gt_(self.adc.levels)
        counted[stack.tiles].add_(stack.sum_planes(saturated.sum(dim=2)))
        if kept.saturated is not None:
            kept.saturated[stack.parts, :, start:stop].copy_(saturated)
        return code

    def _add_noise(self, v: torch.Tensor, stack: Stack, start: int, stop: int, drive: Drive, kept: Kept) -> None:
        tries = np.repeat(drive.tries[stack.tiles], stack.planes, axis=0)
        z = read_normals(self.keys[stack.parts], tries, v.shape[2], v.device, start)
        if self.variance is None or drive.squares is None:
            spread = torch.full_like(v, self.noise**2)
        else:
            spread = product(stack.split(drive.squares), self._variance(stack, start, stop).mT).to(v.dtype)
            # at least what keeps the slope of a silent column finite
            spread.add_(max(self.noise**2, torch.finfo(v.dtype).tiny))
        slope = spread.rsqrt().mul_(z)
        v.addcmul_(spread, slope)
        if kept.slope is not None:
            kept.slope[stack.parts, :, start:stop] = slope

    def pull(
        self,
        stack: Stack,
        start: int,
        g: torch.Tensor,
        kept: Kept,
        of_sums: torch.Tensor,
        of_noise: torch.Tensor | None,
    ) -> None:
        """Add the gradients of the inputs through sums and through noise, (T, n_in) each, the latter still to be
        multiplied with the inputs, for gradients g (K, T, C) of what columns from `start` on show; saturated ones are 0
        in g, and g is overwritten."""
        stop = start + g.shape[2]
        stack.add_product(of_sums, g, self._effective(stack, start, stop))
        if of_noise is not None and kept.slope is not None:
            through = g.to(self.product_dtype).mul_(kept.slope[stack.parts, :, start:stop])
            stack.add_product(of_noise, through, self._variance(stack, start, stop))

    def stop_saturated(self, stack: Stack, start: int, g: torch.Tensor, kept: Kept) -> None:
        """Set gradients g (K, T, C) of what columns from `start` on show to 0 where the output was saturated."""
        if kept.saturated is not None:
            g.addcmul_(g, kept.saturated[stack.parts, :, start : start + g.shape[2]].to(g.dtype), value=-1)

    def _effective(self, stack: Stack, start: int, stop: int) -> torch.Tensor:
        return self._stacked(self.effective, stack)[:, start:stop].to(self.matrix.dtype)

    def _variance(self, stack: Stack, start: int, stop: int) -> torch.Tensor:
        assert self.variance is not None
        return self._stacked(self.variance, stack)[:, start:stop].to(self.product_dtype)

    def _stacked(self, flat: torch.Tensor, stack: Stack) -> torch.Tensor:
        """(K, n_out, rows of a part), a view: parts lie one after the other."""
        first, last = self.starts[stack.parts.start], self.starts[stack.parts.stop]
        n_out = self.matrix.plan.n_out
        return flat[first:last].view(stack.parts.stop - stack.parts.start, n_out, -1)


def known_to_be_within(v: torch.Tensor, limit: float) -> bool:
    """Whether all are numbers from -limit to limit, where that can be known without waiting for a device."""
    if v.device.type != "cpu" or v.numel() == 0:
        return v.numel() == 0
    low, high = (float(end.numpy()) for end in torch.aminmax(v))
    return -limit <= low and high <= limit
