"""What the kernels take of a matrix in its present state, gathered once.

Between two reads of a matrix the processor's caches see the whole model, so that each step of Python on the way to a
kernel costs microseconds.
"""

from __future__ import annotations

from operator import is_

import numpy as np
import torch
from numpy.typing import NDArray

from crossbar_sim.array.matrix import AnalogMatrix
from crossbar_sim.array.stored import stored
from crossbar_sim.kernels.few import n_groups
from crossbar_sim.kernels.gemm import HAS_PAIRS

EXACT_IN_BF16 = 256
"""Up to here all whole numbers are bfloat16 numbers."""


class Held:
    """Arguments of kernels; arrays share memory with the state, or hold what follows from it."""

    def __init__(self, matrix: AnalogMatrix):
        self._source, self._address = _source(matrix), matrix.effective_flat.data_ptr()  # of storages that are shared
        dtype, dac, more = matrix.dtype, matrix.spec.dac, matrix.more_variance
        none = torch.empty(0, dtype=matrix.variance_dtype)
        ranges = torch.empty(0, dtype=dtype) if matrix.input_range is None else matrix.input_range.to(dtype)
        self.has_dac, self.stochastic = dac is not None, dac is not None and dac.stochastic_rounding
        self.stops = np.array([stop for _, stop in matrix.plan.rows])
        self.ranges: NDArray = ranges.numpy()
        self.levels, self.per_level = matrix.dac_levels, 1.0 / (matrix.dac_levels or 1)
        self.parts: NDArray[np.int64] = matrix.part_table
        self.longest = int((self.parts[:, 3] - self.parts[:, 2]).max())
        self.effective = tuple(stored(flat) for flat in (matrix.effective_flat, *matrix.more_effective))
        self.noisy = matrix.variance_flat is not None
        variances = (none,) if matrix.variance_flat is None else (matrix.variance_flat, *more)
        self.variance = tuple(stored(flat) for flat in variances)
        self.square_type = stored(torch.empty(0, dtype=product_dtype(matrix)))
        self.noise_variance, self.draws = matrix.output_noise**2, matrix.draws
        self.no_bias: NDArray = torch.zeros(matrix.plan.n_out, dtype=dtype).numpy()
        self.key: NDArray[np.uint32] = matrix.read_key
        # one conversion for all parts and columns, of inputs as the DAC gives them
        self.at_once = len(matrix.passes) == 1 and matrix.features is None
        in_pairs = HAS_PAIRS and matrix.effective_flat.dtype == torch.bfloat16 and self.at_once
        self.code_dtype = torch.bfloat16 if in_pairs and 0 < self.levels <= EXACT_IN_BF16 else dtype
        self.shared_adc, self.adc = matrix.readouts[0].is_shared, matrix.readouts[0].adc
        self.zero, self.max_halvings = matrix.zero, matrix.max_halvings
        references = matrix.reference_columns
        columns = matrix.plan.n_out + (0 if references is None else references.plan.n_out)
        self.conversions_per_vector = columns * matrix.n_conversions
        self.column_groups = n_groups(matrix.plan.n_out)
        self.has_offsets, self.has_references = matrix.drift_offset is not None, references is not None
        self.gain: NDArray = matrix.gain.numpy()

    @classmethod
    def of(cls, matrix: AnalogMatrix) -> Held:
        """That of the present state of a matrix, which keeps it."""
        held = matrix.held
        if not isinstance(held, Held) or not held._is_of(matrix):
            held = matrix.held = cls(matrix)
        return held

    def _is_of(self, matrix: AnalogMatrix) -> bool:
        return self._address == matrix.effective_flat.data_ptr() and all(map(is_, self._source, _source(matrix)))


def _source(matrix: AnalogMatrix) -> tuple[object, ...]:
    """What a state consists of: each part is replaced where it changes, or keeps its place in memory."""
    return (
        matrix.effective_flat,
        matrix.variance_flat,
        matrix.more_effective,
        matrix.more_variance,
        matrix.w_max,
        matrix.drift_factor,
        matrix.drift_offset,
        matrix.input_range,
        matrix.readouts,
        matrix.read_key,
    )


def product_dtype(matrix: AnalogMatrix) -> torch.dtype:
    """Type of the variance product: that of the stored variances where the processor multiplies it fast, as GPUs do."""
    return matrix.variance_dtype if matrix.device.type != "cpu" or HAS_PAIRS else matrix.dtype
