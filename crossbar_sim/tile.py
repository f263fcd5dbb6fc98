"""Tile: a matrix times vectors on simulated devices, in three lines and NumPy arrays."""

from __future__ import annotations

from typing import Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from crossbar_sim.array.programmed import ProgrammedMatrix
from crossbar_sim.spec import ChipSpec, FoundRange
from device_models.errors import StateError, UsageError
from device_models.units import seconds


class Tile:
    """One weight matrix on a chip.

    >>> y = Tile(ChipSpec.preset("pcm_1m"), seed=0).program(weights).mvm(x, t="1d")

    A matrix larger than the tile of the spec takes several tiles, as it would on the chip.
    """

    def __init__(self, spec: ChipSpec, seed: int = 0):
        if spec.dac is not None and isinstance(spec.dac.range, FoundRange):
            kind = spec.dac.range.kind
            raise UsageError(f'chip.dac.range.kind = "{kind}": a Tile has no calibration data; use dynamic or static')
        self.spec = spec
        self.seed = seed
        self._programmed: ProgrammedMatrix | None = None

    def program(self, weights: ArrayLike) -> Self:
        """Program a weight matrix (n_out, n_in) of float32 or float64; time starts at zero."""
        matrix = np.asarray(weights)
        if matrix.dtype.kind not in "fiu":
            raise UsageError(f"weights: must be real numbers, are {matrix.dtype}")
        if matrix.dtype not in (np.float32, np.float64):
            matrix = matrix.astype(np.float64)
        self._programmed = ProgrammedMatrix(torch.from_numpy(matrix.copy()), self.spec, self.seed, "tile")
        return self

    def mvm(self, x: ArrayLike, t: float | str | None = None) -> NDArray:
        """weights @ x as the chip computes it at time `t` after programming (default: the time asked for last).

        x is (n_in,) or (..., n_in); the result has n_out in place of n_in. Every call is a new read.
        """
        programmed = self._state()
        if t is not None:
            programmed.set_time(seconds(t, "t"))
        vectors = torch.as_tensor(np.asarray(x, dtype=np.float64)).to(programmed.matrix.dtype)
        if vectors.dim() == 0 or vectors.shape[-1] != programmed.matrix.plan.n_in:
            expected = f"(..., {programmed.matrix.plan.n_in})"
            raise UsageError(f"x: shape {tuple(vectors.shape)} does not fit the programmed matrix; expected {expected}")
        y = programmed.read(vectors.reshape(-1, vectors.shape[-1]).contiguous())
        return y.reshape(*vectors.shape[:-1], programmed.matrix.plan.n_out).numpy()

    def conductances(self, tile: tuple[int, int] = (0, 0)) -> tuple[NDArray, ...]:
        """(g+, g-) in uS of one tile, each (rows, columns) with inputs as rows, at the time asked for last.

        One array for each device of a weight, in the order of crossbar_sim.mapping.layout, where it is not a pair.
        """
        programmed = self._state()
        return programmed.matrix.conductances(programmed.weight, tile)

    def _state(self) -> ProgrammedMatrix:
        if self._programmed is None:
            raise StateError("Tile: nothing is programmed; call program(weights) first")
        return self._programmed
