"""Digital compensation from reads that the chip makes of itself, through the same DAC, devices and ADC as any other.

A reference for vectors of random signs is kept from the end of programming; later the same vectors are read again and
the digital side corrects each output by least squares. Sources: M. Le Gallo et al., Adv. Electron. Mater. 4, 1700627
(2018) (one factor); A. Chen et al., Nat. Commun. 16 (2025), DOI 10.1038/s41467-025-63794-4 (factors per column); the
digital unit of R. Khaddam-Aljameh et al., IEEE JSSC 57 (2022) (scale and offset per column).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch

from crossbar_sim.array.matrix import AnalogMatrix
from crossbar_sim.array.read_numba import read_tiles
from crossbar_sim.converters.states import AdcState, StochasticAdc, UniformAdc
from crossbar_sim.kernels.probes import sum_products, to_codes
from crossbar_sim.kernels.random import fill_signs, random_key
from crossbar_sim.spec import Compensation
from device_models.ideal import Ideal

FULL_TRUST = 100
"""Vectors from which on factors per column are taken as they are fitted."""


class Correction(NamedTuple):
    """What the digital side makes of a converted output v: factor v + offset, v in fully driven devices."""

    factor: torch.Tensor
    offset: torch.Tensor | None


class ReferenceRead:
    """The outputs that the probes of a compensation should have, as ADC codes where they were read."""

    def __init__(self, matrix: AnalogMatrix, weight: torch.Tensor, compensation: Compensation):
        """Get the reference for target weights (n_out, n_in); `matrix` must be in its state after programming."""
        self.compensation = compensation
        source = matrix if compensation.reference == "measured" else _without_errors(matrix, weight)
        self._adcs = [readout.adc for readout in source.readouts]
        self.codes = {(k, c): _compact(self._adcs[k], outputs) for (k, c), outputs in self._read(source)}

    def correction(self, matrix: AnalogMatrix) -> Correction:
        """Correction of each part and output for the present state, fitted on each plane of each tile."""
        factor = torch.ones_like(matrix.drift_factor, device="cpu")
        offset = torch.zeros_like(factor)
        for (k, c), now in self._read(matrix):
            start, stop = matrix.plan.cols[c]
            p, q = fit(self.compensation.kind, self.codes[k, c], now, _step(self._adcs[k]) or 1.0)
            factor[k, start:stop], offset[k, start:stop] = p, q
        return Correction(factor, offset if self.compensation.kind == "affine" else None)

    @property
    def n_bytes(self) -> int:
        """Memory of the reference."""
        return sum(codes.numel() * codes.element_size() for codes in self.codes.values())

    def _read(self, matrix: AnalogMatrix) -> Iterator[tuple[tuple[int, int], torch.Tensor]]:
        # the read is named after its time, so a later time never depends on which times were asked for before
        return read_tiles(matrix, _probe_codes(matrix, self.compensation), f"reference at {matrix.time_s!r}")


def fit(kind: str, reference: torch.Tensor, now: torch.Tensor, step: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Factor p and offset q of the outputs of one tile.

    Equation   global   p = sum_bj y*_bj y_bj / sum_bj y_bj^2, q = 0
               column   p_j = sum_b y*_bj y_bj / sum_b y_bj^2, q = 0
               affine   p_j = p + min(1, B / 100) (cov_b(y*_j, y_j) / var_b(y_j) - p), p that of global,
                        q_j = mean_b y*_bj - p_j mean_b y_bj
               p = 1 where a tile or column answers nothing; p_j = p of the tile where a column never varies (affine)
    Arguments  reference y* in units of `step`, now y (B vectors, columns) in fully driven devices
    Returns    p and q (columns,), or () where they are the same for all columns; float64
    Source     module docstring; shrinking against the noise of few vectors: ours
    Test       tests/unit/test_compensation_kinds.py
    """
    sums = np.empty((2, now.shape[1]))
    sum_products(reference.numpy(), step, now.numpy(), sums)
    none = torch.zeros((), dtype=torch.float64)
    if kind == "column":
        products, squares = torch.from_numpy(sums)
        return _ratio(products, squares, none + 1), none
    products, squares = sums.sum(axis=1)
    whole = torch.tensor(products / squares if squares > 0 else 1.0, dtype=torch.float64)
    if kind == "global":
        return whole, none
    reference, now = reference.to(now.dtype).mul(step).double(), now.double()
    mean, reference_mean = now.mean(0), reference.mean(0)
    centred = now - mean
    own = _ratio(((reference - reference_mean) * centred).sum(0), centred.square().sum(0), whole)
    factor = whole + min(1.0, len(now) / FULL_TRUST) * (own - whole)
    return factor, reference_mean - factor * mean


def _ratio(numerator: torch.Tensor, denominator: torch.Tensor, otherwise: torch.Tensor) -> torch.Tensor:
    known = denominator > 0
    return torch.where(known, numerator / torch.where(known, denominator, 1.0), otherwise)


def _without_errors(matrix: AnalogMatrix, weight: torch.Tensor) -> AnalogMatrix:
    """The same tiles with ideal devices of the same window and exact converters."""
    spec = matrix.spec
    device = Ideal(g_max_uS=spec.device.g_max_uS, g_min_uS=spec.device.g_min_uS)
    exact = spec.evolve(
        device=device,
        tile=spec.tile.evolve(faults=None),
        programming="law",
        wires=None,
        output_stage=None,
        adc=None,
        read_noise=None,
        compensation=None,
        weight_dtype=None,
    )
    return AnalogMatrix(weight, exact, matrix.seed, matrix.name)


def _probe_codes(matrix: AnalogMatrix, compensation: Compensation) -> torch.Tensor:
    """Vectors of random signs and one amplitude (count, n_in), in codes, the same whenever they are asked for."""
    signs = np.empty((compensation.probe_vectors, matrix.plan.n_in), np.float32)
    fill_signs(np.array(random_key(matrix.seed, matrix.name, "probe"), np.uint32), signs)
    amplitude, steps = compensation.probe_amplitude, matrix.dac_levels
    return torch.from_numpy(signs).to(matrix.dtype).mul_(max(1, round(amplitude * steps)) if steps else amplitude)


def _step(adc: AdcState) -> float | None:
    """What one code of a uniform ADC is worth; None for others."""
    return adc.step if isinstance(adc, UniformAdc | StochasticAdc) else None


def _compact(adc: AdcState, outputs: torch.Tensor) -> torch.Tensor:
    """Outputs of a uniform ADC as codes in the smallest integer type that holds them; of others as they are."""
    if not isinstance(adc, UniformAdc | StochasticAdc):
        return outputs
    codes = torch.empty(outputs.shape, dtype=torch.int8 if adc.levels <= 127 else torch.int16)
    to_codes(outputs.numpy(), adc.step, codes.numpy())
    return codes
