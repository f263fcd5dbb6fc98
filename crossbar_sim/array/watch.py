"""Watch: notices that weights are no longer those that were written to the devices."""

from __future__ import annotations

from contextlib import suppress
from time import perf_counter
from typing import Any, NamedTuple

import torch
from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook

from crossbar_sim.array.fingerprint import Fingerprint
from crossbar_sim.array.source import Source

_TIMES_ITS_COST = 200
"""All of a model's weights are compared at most in every 200th part of the time."""

_FREE_READS = 2
"""Reads that compare all weights, whatever it takes, after each operation of the chip, which takes much longer."""


class _Known(NamedTuple):
    """What shows a change of a tensor at no cost, as it was when its values were compared last."""

    whole: torch.Tensor | None
    """The tensor itself, so that its memory is not given to another one meanwhile"""
    version: int | None
    pointer: int
    shape: torch.Size
    stride: tuple[int, ...]
    dtype: torch.dtype
    storage: int
    """By which the steps of optimisers are counted"""
    n_steps: int
    address: int | None
    """Where the values lie as their fingerprint takes them"""
    on_cpu: bool

    def has_signs_of(self, tensor: torch.Tensor) -> bool:
        """Whether nothing shows that a tensor was changed or moved; one by one, because every read asks."""
        return (
            _version(tensor) == self.version
            and tensor.data_ptr() == self.pointer
            and tensor.shape == self.shape
            and tensor.stride() == self.stride
            and tensor.dtype is self.dtype
        )


class _Reads:
    """What it would have cost to compare all weights that were read, at each read in this process [s]."""

    def __init__(self) -> None:
        self.cost_s = 0.0


_reads = _Reads()
_steps: dict[int, int] = {}
"""How many steps optimisers made with each storage: fused kernels write into it without a sign."""


def _count_steps(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            with suppress(RuntimeError):  # tensors without storage are none that a chip has
                storage = _storage(parameter)
                _steps[storage] = _steps.get(storage, 0) + 1


register_optimizer_step_post_hook(_count_steps)


class Watch:
    """Knows by their values whether weights are still those whose fingerprint it took.

    To compare all values at each read would cost as much as the read of a few vectors, so `seems_fresh` does that where

    - a cheap sign differs: tensor, version, place in memory, layout, type, or a step of an optimiser that has it,
    - the weights are small (fingerprint.WHOLE_BYTES),
    - the read is one of the first two after an operation of the chip, or
    - 200 times what it takes for all weights of the model went by since: below 0.5 % of the time,

    and else looks at the next phase of the fingerprint. So a change of most weights shows at the next read by whatever
    means it was made. One of a few weights of a large matrix that gives none of these signs (an edit through `.data`
    or NumPy) may show only at a later read, at the latest when all phases had their turn; on other devices than the
    CPU only signs are looked at. `is_fresh` always compares all values.

    Where the same values come back, by whatever means, the weights are fresh again. A copy knows what was copied.
    """

    def __init__(self, source: Source, placed: bool = True):
        """`placed`: whether the tensor stays the same one from read to read."""
        start = perf_counter()
        self.fingerprint = Fingerprint(source())
        self.cost_s = perf_counter() - start
        self._forget()
        self.is_fresh(source, placed)

    def _forget(self) -> None:
        self._known: _Known | None = None
        self._is_stale = False
        self._next_phase, self._free_reads = 0, _FREE_READS
        self._compared_at, self._reads_s = 0.0, _reads.cost_s

    def __getstate__(self) -> dict[str, Any]:
        return {"fingerprint": self.fingerprint, "cost_s": self.cost_s}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget()

    def is_fresh(self, source: Source, placed: bool = True) -> bool:
        """Whether all values are the same."""
        self._free_reads = _FREE_READS
        return self._compare(source, placed)

    def was_cast(self, source: Source, placed: bool = True) -> bool:
        """Whether the tensor has another type and no other sign of a change: as one has that a layer shares with
        another, when `.to()` comes to the second."""
        known, whole = self._known, source.whole()
        if whole.dtype == self.fingerprint.dtype or self._is_stale:
            return False
        if known is None:  # a copy, which never saw the tensor
            return True
        same = whole is known.whole and _version(whole) == known.version
        return same and _steps.get(known.storage, 0) == known.n_steps

    def seems_fresh(self, source: Source, placed: bool = True) -> bool:
        """What is seen of that within a hundredth of the time of a read, mostly."""
        known, whole = self._known, source.whole()
        if (
            known is None
            or (placed and whole is not known.whole)
            or not known.has_signs_of(whole)
            or _steps.get(known.storage, 0) != known.n_steps
        ):
            return self._compare(source, placed)
        if not known.on_cpu:
            return True
        small = self.fingerprint.n_phases == 1
        if known.address is None if small else self._is_due():
            return self._compare(source, placed)
        if known.address is None:
            return True
        self._next_phase = 0 if small else (self._next_phase + 1) % self.fingerprint.n_phases
        return self.fingerprint.is_phase_of(known.address, self._next_phase) or self._compare(source, placed)

    def _is_due(self) -> bool:
        """Whether a read is to compare all values of large weights."""
        reads_s = _reads.cost_s = _reads.cost_s + self.cost_s
        since_s, self._reads_s = reads_s - self._reads_s, reads_s
        free, self._free_reads = self._free_reads > 0, max(0, self._free_reads - 1)
        return free or perf_counter() - self._compared_at >= _TIMES_ITS_COST * since_s

    def _compare(self, source: Source, placed: bool) -> bool:
        start, whole = perf_counter(), source.whole()
        signs = _version(whole), whole.data_ptr(), whole.shape, whole.stride(), whole.dtype
        storage = _storage(whole)
        n_steps, weight = _steps.get(storage, 0), source()
        self._is_stale = not self.fingerprint.is_of(weight)
        if self._is_stale:
            self._known = None
            return False
        address = self.fingerprint.address_of(weight)
        self._known = _Known(whole if placed else None, *signs, storage, n_steps, address, weight.is_cpu)
        self._compared_at = perf_counter()
        self.cost_s = min(self.cost_s, self._compared_at - start)
        return True


def _version(tensor: torch.Tensor) -> int | None:
    """Tensors that were made in inference mode count no versions."""
    return None if tensor.is_inference() else tensor._version


def _storage(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
