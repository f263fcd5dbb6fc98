"""Gradient-descent programming of the tiles of a matrix, each through its own reads at time 0.

What no kernel can compute anew from keys, the conductances that all steps end with, is kept: 8 bytes per weight.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from crossbar_sim.array.matrix import AnalogMatrix
from crossbar_sim.array.read_numba import read_tile
from crossbar_sim.devices.gradient_descent import GradientDescentResult, gradient_descent_program
from crossbar_sim.kernels.random import random_key
from crossbar_sim.mapping.plan import Span
from crossbar_sim.spec import GradientDescentProgramming

Floats = NDArray[np.float64]


def descend(matrix: AnalogMatrix, weight: torch.Tensor) -> Iterator[tuple[Span, Span, GradientDescentResult]]:
    """Program the target weights (n_out, n_in) tile after tile: its rows, columns and result. Afterwards the matrix
    is in its state at time 0.

    Equation   as in devices.gradient_descent, for the relative weights w / w_max of each tile, from g_min on; inputs
               are multiples of a step of the DAC and limited to the input range
    Reads      the tile's own: devices at time 0 with their faults, frozen and per-read noise, wires, output stage, ADC.
               Random numbers are keyed by seed, layer, writing, tile and step, so tiles come out alike in any order
    Errors     UsageError where eta is too large for the rows of a tile (gradient_descent_program)
    Test       tests/unit/test_chip_gradient_descent.py
    """
    assert matrix.written is not None
    matrix.written[:] = matrix.spec.device.g_min_uS
    u = matrix.relative_weights(weight).astype(np.float64)
    for k, rows in enumerate(matrix.plan.rows):
        for c, cols in enumerate(matrix.plan.cols):
            yield rows, cols, _descend_tile(matrix, weight, u, k, c)
    matrix.age(weight, 0.0)


def _descend_tile(matrix: AnalogMatrix, weight: torch.Tensor, u: Floats, k: int, c: int) -> GradientDescentResult:
    spec, device = matrix.spec.programming, matrix.spec.device
    assert isinstance(spec, GradientDescentProgramming)
    rows, cols = (slice(*span) for span in matrix.plan.spans((k, c)))
    assert matrix.written is not None
    held = matrix.written[:, cols, rows]
    place = (matrix.seed, matrix.name, "gradient descent", matrix.write, k, c)
    steps = matrix.dac_levels

    def play(x: Floats) -> Floats:
        limited = x.clip(-1, 1)
        return np.rint(limited * steps) / steps if steps else limited

    def read(plus: Floats, minus: Floats, x: Floats, step: int) -> Floats:
        held[0], held[1] = plus, minus
        matrix.age_tile(weight, k, c)
        key = np.array(random_key(*place, step), dtype=np.uint32)
        outputs: Floats = read_tile(matrix, k, c, torch.from_numpy(x), key).double().numpy()
        return outputs

    target = u[cols, rows]
    start = np.full(target.shape, device.g_min_uS)
    window = (device.g_min_uS, device.g_max_uS)
    with ThreadpoolController().limit(limits=1, user_api="blas"):  # small products, whose threads wait for each other
        result = gradient_descent_program(
            target, read, spec, (start, start), window, random_key(*place), spec.input_sigma, play
        )
    held[0], held[1] = result.g_plus_uS, result.g_minus_uS
    return result
