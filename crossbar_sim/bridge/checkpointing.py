"""Gradient checkpointing of mapped models."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from crossbar_sim.array.replay import replay
from crossbar_sim.chip import Chip

Contexts = tuple[AbstractContextManager[None], AbstractContextManager[None]]


def checkpoint_contexts(chip: Chip) -> Callable[[], Contexts]:
    """The `context_fn` of torch.utils.checkpoint.checkpoint for parts of a model on `chip`.

        checkpoint(block, x, use_reentrant=False, context_fn=checkpoint_contexts(model.chip))
        model.gradient_checkpointing_enable({"use_reentrant": False, "context_fn": checkpoint_contexts(model.chip)})

    What is computed again during the backward pass then has the read numbers, and so the noise, of the first time, and
    is not counted. Without it, noisy reads are refused there (StateError).
    """
    matrices = [programmed.matrix for programmed in chip.matrices.values()]

    def contexts() -> Contexts:
        reads: list[int] = []

        @contextmanager
        def first() -> Iterator[None]:
            reads[:] = [matrix.reads for matrix in matrices]
            yield

        @contextmanager
        def again() -> Iterator[None]:
            with replay(matrices, reads):
                yield

        return first(), again()

    return contexts
