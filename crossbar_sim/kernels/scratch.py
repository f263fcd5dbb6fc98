"""Memory that is used again: the first touch of fresh pages costs more than what a kernel writes into them."""

from __future__ import annotations

import math
import threading

import numpy as np
from numpy.typing import DTypeLike, NDArray

_ALIGNMENT = 64
"""Bytes of a cache line, which no vector of a kernel should lie across."""


class Scratch(threading.local):
    """Arrays by name, for each thread its own; what `array` returned before under that name is overwritten."""

    def __init__(self) -> None:
        self._held: dict[str, NDArray] = {}

    def array(self, name: str, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray:
        """An array whose elements are of no meaning yet."""
        n_bytes = math.prod(shape) * np.dtype(dtype).itemsize
        held = self._held.get(name)
        if held is None or held.nbytes < n_bytes:
            room = np.empty(n_bytes + _ALIGNMENT, np.uint8)
            held = self._held[name] = room[-room.ctypes.data % _ALIGNMENT :]
        return held[:n_bytes].view(dtype).reshape(shape)

    def clear(self) -> None:
        """Give the memory of this thread back."""
        self._held.clear()
