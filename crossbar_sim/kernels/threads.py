"""The thread pool of the kernels, chosen on purpose.

PyTorch on CPUs brings OpenMP threads that spin for a while after each operation. Numba's OpenMP layer lives beside them
without loss; its own work queue costs about three times more per small region here. Kernels use as many threads as
PyTorch does, so `torch.set_num_threads` rules both.
"""

from __future__ import annotations

import os

import numba

if "NUMBA_THREADING_LAYER" not in os.environ:
    numba.config.THREADING_LAYER_PRIORITY = ["omp", "tbb", "workqueue"]  # type: ignore[attr-defined]


def use_threads(count: int) -> None:
    """Let kernels called from this thread use `count` threads, at most as many as Numba started with."""
    numba.set_num_threads(max(1, min(count, numba.config.NUMBA_NUM_THREADS)))  # type: ignore[attr-defined]
