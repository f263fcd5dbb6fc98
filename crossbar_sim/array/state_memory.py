"""Memory for states that are not kept: one place for all matrices of a chip, which one of them uses at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from crossbar_sim.array.matrix import AnalogMatrix


class StateMemory:
    """Room for the state of one matrix; it grows to that of the largest which asked for it.

    Threads take turns. A matrix that needs its state while another one has the room gets memory of its own.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._users: list[AnalogMatrix] = []
        self._room: dict[tuple[str, torch.dtype], torch.Tensor] = {}

    @contextmanager
    def lend(self, matrix: AnalogMatrix, apart: bool = False) -> Iterator[None]:
        """Whatever `matrix` computes of its state meanwhile is released at the end.

        `apart` puts it into memory of its own, for readers that hold on to it for longer, as gradients do.
        """
        with self._lock:
            if any(user is matrix for user in self._users):
                if apart and matrix.room is not None:
                    matrix.room = None
                    matrix.release()
                yield
                return
            matrix.room = None if apart or self._users else self._take
            self._users.append(matrix)
            try:
                yield
            finally:
                self._users.pop()
                matrix.room = None
                matrix.release()

    @property
    def n_bytes(self) -> int:
        """Memory that is taken so far."""
        return sum(room.numel() * room.element_size() for room in self._room.values())

    def _take(self, name: str, size: int, dtype: torch.dtype) -> torch.Tensor:
        room = self._room.get((name, dtype))
        if room is None or room.numel() < size:
            self._room.pop((name, dtype), None)
            del room  # the smaller one is gone before there is a larger one
            with torch.inference_mode(False):  # it serves inside and outside of it
                room = self._room[name, dtype] = torch.empty(size, dtype=dtype)
        return room[:size]

    def __reduce__(self) -> tuple[type[StateMemory], tuple[()]]:
        """Copies and pickles have room of their own, with nothing in it."""
        return type(self), ()
