"""Digests of memory, by which a change of any of its bytes is noticed.

Memory is cut into blocks, which the compiler turns into vector instructions, and these are dealt out among phases:
phase r of S holds the blocks r, r + S, r + 2S, ... and phase 0 also what is left behind the last whole block. The
digest of a phase is the sum over its 8-byte words w of mix(w + (p + 1) golden ratio), p being the number of the word in
the memory. `mix` is one to one, so that the change of a single word always shows; what is done to several words at once
(exchanged, negated, scaled) shows but for a chance of 2^-64.

Source   mix: the finaliser of SplitMix64 (Steele, Lea, Flood 2014) with Stafford's constants
Test     tests/unit/test_array_fingerprint.py
"""

from __future__ import annotations

from typing import Final

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic
from numba.np.arrayobj import populate_array

from crossbar_sim.kernels.compiling import inner

BLOCK_BYTES: Final = 256

_WORDS = BLOCK_BYTES // 8
_u64 = np.uint64
_GOLDEN, _FIRST, _SECOND = _u64(0x9E3779B97F4A7C15), _u64(0xBF58476D1CE4E5B9), _u64(0x94D049BB133111EB)


@njit(nogil=True, cache=True)
def digest_phases(thread, first, last, address, n_bytes, found):
    """Set found[r], (S,) uint64, to the digest of phase r for first <= r < last; `address` need not be a multiple of
    anything."""
    words = _numbers(address, n_bytes // 8, _u64)
    n_blocks, n_phases = n_bytes // BLOCK_BYTES, found.shape[0]
    found[first:last] = 0
    for base in range(0, n_blocks, n_phases):
        for r in range(first, min(last, n_blocks - base)):
            found[r] += _block(words, base + r)
    if first == 0:
        found[0] += _rest(address, n_bytes)
    return 0


@njit(nogil=True, cache=True)
def is_phase(address, n_bytes, digests, r):
    """Whether phase r has the r-th of the digests (S,) uint64."""
    words = _numbers(address, n_bytes // 8, _u64)
    total = _rest(address, n_bytes) if r == 0 else _u64(0)
    for block in range(r, n_bytes // BLOCK_BYTES, digests.shape[0]):
        total += _block(words, block)
    return total == digests[r]


@inner
def _block(words, number):
    start = number * _WORDS
    key, total = _u64(start + 1) * _GOLDEN, _u64(0)
    for i in range(_WORDS):
        total += _mix(words[start + i] + (key + _u64(i) * _GOLDEN))
    return total


@inner
def _rest(address, n_bytes):
    """Of what is left behind the last whole block; the last word is filled up with zeros."""
    singles, total = _numbers(address, n_bytes, np.uint8), _u64(0)
    for p in range(n_bytes // BLOCK_BYTES * _WORDS, -(-n_bytes // 8)):
        word = _u64(0)
        for i in range(8 * p, min(8 * p + 8, n_bytes)):
            word |= _u64(singles[i]) << _u64(8 * (i - 8 * p))
        total += _mix(word + _u64(p + 1) * _GOLDEN)
    return total


@inner
def _mix(x):
    x = (x ^ (x >> _u64(30))) * _FIRST
    x = (x ^ (x >> _u64(27))) * _SECOND
    return x ^ (x >> _u64(31))


@intrinsic
def _numbers(typing_context, address, length, kind):
    """The numbers of a type at an address that need not be a multiple of their size. Only inside kernels."""
    array = types.Array(kind.dtype, 1, "C", aligned=False)

    def generate(context, builder, signature, values):
        view = context.make_array(array)(context, builder)
        size = ir.Constant(ir.IntType(64), array.dtype.bitwidth // 8)
        data = builder.inttoptr(values[0], view.data.type)
        populate_array(view, data=data, shape=[values[1]], strides=[size], itemsize=size, meminfo=None)
        return view._getvalue()

    return array(types.intp, types.intp, kind), generate
