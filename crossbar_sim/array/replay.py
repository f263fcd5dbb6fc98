"""Reading once more what was read before, with the same random numbers: what gradient checkpointing asks for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import torch

from crossbar_sim.array.matrix import AnalogMatrix
from device_models.errors import StateError

_replaying = ContextVar("replaying", default=False)
_COUNTS = ("reads", "n_inputs", "n_clipped", "n_outputs", "n_saturated", "n_read_again", "n_repeats")


@contextmanager
def replay(matrices: Sequence[AnalogMatrix], reads: Sequence[int]) -> Iterator[None]:
    """Number the reads of each matrix from `reads` on again; afterwards numbers and counts are what they were."""
    before = [[getattr(matrix, name) for name in _COUNTS] for matrix in matrices]
    token = _replaying.set(True)
    try:
        for matrix, read in zip(matrices, reads, strict=True):
            matrix.reads = read
        yield
    finally:
        _replaying.reset(token)
        for matrix, values in zip(matrices, before, strict=True):
            for name, value in zip(_COUNTS, values, strict=True):
                setattr(matrix, name, value)


def check_noise_is_known(matrix: AnalogMatrix) -> None:
    """StateError for a noisy read in the midst of a backward pass, unless it is a replay.

    Gradient checkpointing computes activations again there; with random numbers of another read the gradients would be
    those of outputs that nobody saw.
    """
    if torch._C._current_graph_task_id() != -1 and not _replaying.get() and matrix.is_noisy:
        raise StateError(
            f"{matrix.name}: is read again during a backward pass and would meet other noise; give gradient "
            "checkpointing use_reentrant=False and context_fn=crossbar_sim.checkpoint_contexts(model.chip)"
        )
