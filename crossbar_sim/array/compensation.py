"""Global drift compensation: one digital factor per tile from two real reads of the same probe vectors.

Source: M. Le Gallo et al., Adv. Electron. Mater. 4, 1700627 (2018): a reference read after programming is repeated
later and its ratio rescales the outputs in digital.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from crossbar_sim.array.matrix import AnalogMatrix
from crossbar_sim.array.read_numba import read_tiles
from crossbar_sim.converters.states import AdcState, StochasticAdc, UniformAdc
from crossbar_sim.kernels.random import fill_normals, random_key, u32


class ReferenceRead:
    """What the digital side keeps of the read after programming: the ADC codes of random +-1 vectors."""

    def __init__(self, matrix: AnalogMatrix, probe_vectors: int):
        """Read the probes now; `matrix` must be in its state at the end of programming."""
        self.probe_vectors = probe_vectors
        self.codes = {(k, c): _compact(matrix.readouts[k].adc, outputs) for (k, c), outputs in self._read(matrix)}

    def factors(self, matrix: AnalogMatrix) -> torch.Tensor:
        """Factor of each part and output for the present state.

        Equation   alpha = sum y* y / sum y^2 over probes and the outputs of one plane of a tile, y* the read after
                   programming and y the read now; 1 where a tile answers nothing
        """
        factors = torch.ones_like(matrix.drift_factor, device="cpu")
        for (k, c), now in self._read(matrix):
            reference = _expand(matrix.readouts[k].adc, self.codes[k, c], matrix.dtype)
            power = float(now.square().sum(dtype=torch.float64))
            if power > 0:
                start, stop = matrix.plan.cols[c]
                factors[k, start:stop] = float((reference * now).sum(dtype=torch.float64)) / power
        return factors

    @property
    def n_bytes(self) -> int:
        """Memory of the stored codes."""
        return sum(codes.numel() * codes.element_size() for codes in self.codes.values())

    def _read(self, matrix: AnalogMatrix) -> Iterator[tuple[tuple[int, int], torch.Tensor]]:
        # the read is named after its time, so a later time never depends on which times were asked for before
        return read_tiles(matrix, _probes(matrix, self.probe_vectors), f"reference at {matrix.time_s!r}")


def _probes(matrix: AnalogMatrix, count: int) -> torch.Tensor:
    """Random +-1 vectors (count, n_in), the same whenever they are asked for."""
    key = random_key(matrix.seed, matrix.name, "probe")
    half = -(-matrix.plan.n_in // 2)
    z = np.empty((count, 2, half), np.float32)
    for p in range(count):
        fill_normals(*key, u32(0), u32(p), z[p, 0], z[p, 1])
    return torch.from_numpy(np.where(z > 0, 1.0, -1.0).reshape(count, 2 * half)[:, : matrix.plan.n_in])


def _compact(adc: AdcState, outputs: torch.Tensor) -> torch.Tensor:
    """Outputs of a uniform ADC as codes in the smallest integer type that holds them; of others as they are."""
    if not isinstance(adc, UniformAdc | StochasticAdc):
        return outputs
    kind = torch.int8 if adc.levels <= 127 else torch.int16
    return torch.round(outputs / adc.step).to(kind)


def _expand(adc: AdcState, codes: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The way back of `_compact`."""
    return codes.to(dtype) * adc.step if isinstance(adc, UniformAdc | StochasticAdc) else codes
