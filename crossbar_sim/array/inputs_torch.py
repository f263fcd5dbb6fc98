"""The DAC in torch operations."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from crossbar_sim.array.matrix import AnalogMatrix
from crossbar_sim.kernels.tries import REPEAT


class Inputs(NamedTuple):
    """Inputs after the DAC."""

    codes: torch.Tensor
    """(T, n_in) whole at the DAC's levels, else relative to the full scale"""
    full_scale: torch.Tensor
    """(T, row tiles) R; 0 where a whole vector is"""
    clipped: torch.Tensor | None
    """(T, n_in) whether an input was beyond its range; None where none can be"""


def convert_inputs(matrix: AnalogMatrix, x: torch.Tensor, tries: NDArray[np.uint32]) -> Inputs:
    """DAC of tries (row tiles, T) of vectors x (T, n_in), as `kernels.inputs.quantise_inputs`."""
    rows = matrix.plan.rows
    if matrix.spec.dac is None:
        return Inputs(x, x.new_ones((x.shape[0], len(rows))), None)
    clipped = None
    widened = torch.from_numpy(np.exp2(tries.T // REPEAT)).to(x)
    if matrix.input_range is None:
        magnitudes = x.abs()
        full_scale = torch.stack([magnitudes[:, start:stop].amax(dim=1) for start, stop in rows], dim=1) * widened
    else:
        full_scale = matrix.input_range.to(matrix.dtype) * widened
        clipped = torch.cat([x[:, rows[k][0] : rows[k][1]].abs() > full_scale[:, k, None] for k in range(len(rows))], 1)
    limit = matrix.dac_levels or 1
    step = full_scale / limit
    alive = step > 0
    full_scale, step = torch.where(alive, full_scale, 0), torch.where(alive, step, 1)
    codes = torch.empty_like(x)
    for k, (start, stop) in enumerate(rows):
        torch.div(x[:, start:stop], step[:, k, None], out=codes[:, start:stop])
    if matrix.dac_levels:
        codes.round_()
    return Inputs(codes.clamp_(-limit, limit), full_scale, clipped)
