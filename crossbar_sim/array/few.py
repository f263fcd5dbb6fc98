"""A few vectors at a time, as a model reads that writes one token after the other."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from crossbar_sim.array.drive import rounding_key
from crossbar_sim.array.held import Held
from crossbar_sim.array.matrix import AnalogMatrix
from crossbar_sim.array.stored import stored
from crossbar_sim.kernels.few import read_few
from crossbar_sim.kernels.workers import share

FEW_VECTORS = 4
"""Up to here a read is one pass over the weights."""

_SERIAL_PRODUCTS = 2_000_000
"""Below that, waking a second thread that sleeps takes longer than its share of the work."""


def read_few_vectors(
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
    """Set y (T, n_out), clipped (T,), and what of beyond (row tiles, T) the outputs do; x (T, n_in).

    Returns codes (T, n_in), full scales (row tiles, T), and the number of saturated outputs.
    """
    inputs = x.numpy()
    threads = torch.get_num_threads() if len(inputs) * held.effective[0].size > _SERIAL_PRODUCTS else 1
    offset = held.no_bias if bias is None else bias.detach().to(x.dtype).numpy()
    codes, full_scale = torch.empty(x.shape, dtype=held.code_dtype), np.empty(tries.shape, inputs.dtype)
    arguments = (
        held.has_dac, inputs, held.stops, held.ranges, held.levels, held.stochastic, rounding_key(matrix, held, read),
        held.parts, held.effective[0], held.variance[0], held.per_level, held.noise_variance, held.draws, held.adc,
        held.gain, offset, held.key, read, tries, held.square_type, stored(codes), full_scale, clipped, y.numpy(),
        beyond,
    )  # fmt: skip
    saturated = share(read_few, arguments, held.column_groups, threads)
    return codes, full_scale, saturated
