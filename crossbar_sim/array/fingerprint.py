"""Fingerprint: by which weights are known to be, bit for bit, what they were."""

from __future__ import annotations

import math

import numpy as np
import torch

from crossbar_sim.kernels.digests import BLOCK_BYTES, digest_phases, is_phase
from crossbar_sim.kernels.workers import share

PHASE_BYTES = 4 * BLOCK_BYTES
"""Memory of a phase, which is looked at between two reads."""

WHOLE_BYTES = 1 << 16
"""Up to here weights are one phase."""

_SERIAL_BYTES = 1 << 22
"""Below that, waking a second thread that sleeps takes longer than its share of the work."""


class Fingerprint:
    """The digests of a matrix of any float type, on any device, and of any layout in memory."""

    def __init__(self, weight: torch.Tensor):
        self.dtype, self.shape = weight.dtype, weight.shape
        self.turned = weight.dim() == 2 and not weight.is_contiguous() and weight.t().is_contiguous()
        self.n_bytes = weight.numel() * weight.element_size()
        self.n_phases = 1 if self.n_bytes <= WHOLE_BYTES else _odd(self.n_bytes // PHASE_BYTES)
        self.digests = self._digests(weight)

    def is_of(self, weight: torch.Tensor) -> bool:
        """Whether all bits are the same."""
        alike = weight.dtype == self.dtype and weight.shape == self.shape and _has_values(weight)
        return alike and np.array_equal(self._digests(weight), self.digests)

    def is_phase_of(self, address: int, number: int) -> bool:
        """Whether one phase of the weights that lie at `address` is the same."""
        return is_phase(address, self.n_bytes, self.digests, number)

    def address_of(self, weight: torch.Tensor) -> int | None:
        """Where the weights lie in memory as the digests take them; None where that would be a copy."""
        laid_out = self._laid_out(weight)
        return laid_out.data_ptr() if laid_out.data_ptr() == weight.data_ptr() and weight.is_cpu else None

    def _digests(self, weight: torch.Tensor) -> np.ndarray:
        values = self._laid_out(weight)
        threads = torch.get_num_threads() if self.n_bytes > _SERIAL_BYTES else 1
        digests = np.empty(self.n_phases, np.uint64)
        share(digest_phases, (values.data_ptr(), self.n_bytes, digests), self.n_phases, threads, chunks=1)
        return digests

    def _laid_out(self, weight: torch.Tensor) -> torch.Tensor:
        """Its values one after the other, rows or columns as they were first, on the CPU; without a copy if so."""
        values = weight.detach()
        return (values.t() if self.turned else values).resolve_neg().cpu().contiguous()


def _odd(number: int) -> int:
    """Else the blocks of a phase could all lie in a few columns, whose number is often a power of two."""
    return number | 1


def _has_values(weight: torch.Tensor) -> bool:
    """Whether there is memory behind it; a storage may be empty, or smaller than what is seen of it."""
    if weight.is_meta:
        return False
    last = weight.storage_offset() + sum((n - 1) * step for n, step in zip(weight.shape, weight.stride(), strict=True))
    return math.prod(weight.shape) == 0 or (last + 1) * weight.element_size() <= weight.untyped_storage().nbytes()
