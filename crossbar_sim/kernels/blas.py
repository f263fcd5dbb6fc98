"""Matrix products inside kernels: the BLAS that SciPy brings, called by each thread for a block of its own.

A thread that multiplies a block and then works on it finds it in its cache, and threads meet once for a whole matrix
rather than once for each product.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import get_cython_function_address, intrinsic
from numpy.typing import DTypeLike
from threadpoolctl import LibController, ThreadpoolController

from crossbar_sim.kernels.random import i32


@cache
def gemm_address(dtype: DTypeLike) -> int:
    """Where the matrix product of float32 or float64 lies in this process; an argument of kernels, so that these can
    be kept from process to process."""
    name = {"float32": "sgemm", "float64": "dgemm"}[np.dtype(dtype).name]
    address: int = get_cython_function_address("scipy.linalg.cython_blas", name)
    return address


class _OneThread:
    """Lets BLAS libraries use one thread while any reader is inside."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._before: list[int] = []

    @contextmanager
    def __call__(self) -> Iterator[None]:
        with self._lock:
            if self._inside == 0:
                self._before = [library.get_num_threads() for library in _libraries()]
                self._set([1] * len(self._before))
            self._inside += 1
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if self._inside == 0:
                    self._set(self._before)

    def _set(self, counts: list[int]) -> None:
        for library, count in zip(_libraries(), counts, strict=True):
            library.set_num_threads(count)


one_blas_thread = _OneThread()
"""`with one_blas_thread():` around kernels whose own threads call BLAS."""


@cache
def _libraries() -> list[LibController]:
    gemm_address("float32")  # loads the library
    return [library for library in ThreadpoolController().lib_controllers if library.user_api == "blas"]


@intrinsic
def _gemm(typing_context, address, kind, m, n, k, one, a, lda, b, ldb, beta, c, ldc):
    """xGEMM("T", "N", m, n, k, 1, a, lda, b, ldb, beta, c, ldc) at `address`; a, b, c stand for where they begin."""
    signature = types.void(address, kind, m, n, k, one, a, lda, b, ldb, beta, c, ldc)

    def generate(context, builder, signature, values):
        byte = ir.IntType(8).as_pointer()

        def pointer(value, kind):
            if isinstance(kind, types.Array):
                return builder.bitcast(context.make_array(kind)(context, builder, value).data, byte)
            return builder.bitcast(cgutils.alloca_once_value(builder, value), byte)

        first, *rest = (pointer(value, kind) for value, kind in zip(values[1:], signature.args[1:], strict=True))
        plain = pointer(ir.Constant(ir.IntType(8), ord("N")), None)
        arguments = [first, plain, *rest]
        function = ir.FunctionType(ir.VoidType(), [byte] * len(arguments))
        builder.call(builder.inttoptr(values[0], function.as_pointer()), arguments)
        return context.get_dummy_value()

    return signature, generate


@njit
def multiply(address, x, weights, beta, out):
    """out (T, C) = x (T, K) weights (C, K)^T + beta out; rows are contiguous, all of the type of `address`."""
    dtype, size = out.dtype.type, out.itemsize
    n_cols, n_vectors, n_rows = i32(weights.shape[0]), i32(x.shape[0]), i32(x.shape[1])
    _gemm(
        address, np.uint8(84), n_cols, n_vectors, n_rows, dtype(1),  # 84: "T"
        weights, max(n_rows, i32(weights.strides[0] // size)), x, max(n_rows, i32(x.strides[0] // size)),
        dtype(beta), out, max(n_cols, i32(out.strides[0] // size)),
    )  # fmt: skip
