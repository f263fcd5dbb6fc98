"""Reading vectors through an AnalogMatrix in plain torch operations: any device, differentiable.

Roundings and conversions pass gradients straight through, saturation stops them, input ranges are constants. The
gradient of the weights is taken at the programmed state and given to the target weights.
"""

from __future__ import annotations

import torch

from crossbar_sim.array.matrix import AnalogMatrix
from crossbar_sim.array.random_torch import read_normals
from crossbar_sim.converters.states import UniformAdc
from crossbar_sim.kernels.mvm import read_keys


def read_torch(
    matrix: AnalogMatrix, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, read: int
) -> torch.Tensor:
    """y (T, n_out) = bias + the digital outputs of all tiles for x (T, n_in); `weight` (n_out, n_in): targets."""
    gain = matrix.gain
    silent = matrix.w_max == 0  # outputs whose weights are all zero: their value is zero, their gradient is not
    learning = weight.requires_grad and torch.is_grad_enabled()
    y = torch.zeros((x.shape[0], matrix.plan.n_out), dtype=matrix.dtype, device=x.device)
    y = y if bias is None else y + bias.to(matrix.dtype)
    effective = matrix.effective
    for k, (tile, p, (start, stop)) in enumerate(matrix.parts):
        codes, full_scale = _convert_inputs(matrix, x[:, start:stop], tile)
        columns, factor = effective[k], gain[k]
        if learning:
            share = len(matrix.layout.planes) * matrix.layout.planes[p].weight  # of the gradient, equal for all planes
            target = weight[:, start:stop].to(matrix.dtype) / torch.where(silent, 1, matrix.w_max)[tile][:, None]
            columns = columns + (target - target.detach()) / share
        v = _digitise(matrix, codes, columns, k, read)
        if learning:
            v = v - v.detach() * silent[tile]
            factor = torch.where(silent[tile], matrix.drift_factor[k] * matrix.layout.planes[p].weight, factor)
        y = y + v * full_scale * factor
        if matrix.drift_offset is not None:
            y = y + full_scale * (matrix.full_scale[k] * matrix.drift_offset[k])
        if matrix.zero:
            y = y - (codes.sum(dim=1, keepdim=True) * full_scale) * (matrix.full_scale[k] * matrix.zero)
        if matrix.reference_columns is not None:
            shown = _digitise(matrix.reference_columns, codes, matrix.reference_columns.effective[k], k, read)
            matrix.n_saturated += matrix.reference_columns.n_saturated
            matrix.reference_columns.n_saturated = 0
            matrix.n_outputs += shown.numel()
            widths = torch.tensor([stop - start for start, stop in matrix.plan.cols], device=x.device)
            y = y - shown.repeat_interleave(widths, dim=1) * full_scale * gain[k]
    matrix.n_inputs += x.numel()
    matrix.n_outputs += y.numel() * len(matrix.parts)
    return y


def _digitise(matrix: AnalogMatrix, codes: torch.Tensor, columns: torch.Tensor, k: int, read: int) -> torch.Tensor:
    """Column outputs of part k after noise and ADC, in the units of the bound; saturated ones are counted."""
    v = codes @ columns.t()
    if matrix.is_noisy:
        v = v + _noise(matrix, codes, k, read)
    adc = matrix.readouts[k].adc
    if isinstance(adc, UniformAdc):
        bound = adc.step * adc.levels
        rounded = torch.round(v / adc.step) * adc.step
        matrix.n_saturated += int((rounded.detach().abs() > bound * (1 + 1e-6)).sum())
        v = torch.clamp(v + (rounded - v).detach(), -bound, bound)
    return v


def _convert_inputs(matrix: AnalogMatrix, x: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Relative inputs of one row tile after the DAC, and their full scale (T, 1)."""
    if matrix.spec.dac is None:
        return x, torch.ones((), dtype=matrix.dtype, device=x.device)
    if matrix.input_range is None:
        full_scale = x.detach().abs().amax(dim=1, keepdim=True)
    else:
        full_scale = matrix.input_range[k].to(matrix.dtype).expand(x.shape[0], 1)
        matrix.n_clipped += int((x.detach().abs() > full_scale).sum())
    levels = matrix.dac_levels or 1
    step = full_scale / levels
    # clamped ahead of the division, whose rounding would push the largest input beyond its range and stop its gradient
    codes = torch.clamp(x, -full_scale, full_scale) / torch.where(step > 0, step, torch.ones_like(step))
    if matrix.dac_levels:
        codes = codes + (torch.round(codes) - codes).detach()
    return codes / levels, torch.where(step > 0, full_scale, torch.zeros_like(full_scale))


def _noise(matrix: AnalogMatrix, codes: torch.Tensor, k: int, read: int) -> torch.Tensor:
    """Read noise of the devices and noise ahead of the ADC, in units of the bound."""
    variance = torch.full((), matrix.output_noise**2, dtype=matrix.dtype, device=codes.device)
    if matrix.variance is not None:
        variance = variance + codes.square() @ matrix.variance[k].to(matrix.dtype).t()
    key0, key1 = read_keys(matrix.read_key, read, len(matrix.parts))[k]
    z = read_normals((int(key0), int(key1)), codes.shape[0], matrix.plan.n_out, codes.device)
    smallest = torch.finfo(matrix.dtype).tiny  # keeps the gradient of the square root finite
    return torch.sqrt(torch.clamp(variance, min=smallest)) * z.to(matrix.dtype)
