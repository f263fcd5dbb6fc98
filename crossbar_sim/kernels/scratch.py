"""Memory that is used again: the first touch of fresh pages costs more than what a kernel writes into them."""

from __future__ import annotations

import math
import threading

import numpy as np
from numpy.typing import DTypeLike, NDArray


class Scratch(threading.local):
    """Arrays by name, for each thread its own; what `array` returned before under that name is overwritten."""

    def __init__(self) -> None:
        self._held: dict[str, NDArray] = {}

    def array(self, name: str, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray:
        """An array whose elements are of no meaning yet."""
        n_bytes = math.prod(shape) * np.dtype(dtype).itemsize
        held = self._held.get(name)
        if held is None or held.nbytes < n_bytes:
            held = self._held[name] = np.empty(n_bytes, np.uint8)
        return held[:n_bytes].view(dtype).reshape(shape)
