"""Kernels that look at the bits of floats: bfloat16 storage (as uint16) and a fast largest magnitude."""

from __future__ import annotations

import numpy as np
from numba.extending import overload

from crossbar_sim.kernels.random import f32, u32
from crossbar_sim.kernels.views import bits_of, float_of


def to_stored(out, value):
    """The element of array `out` that stands for `value` (half to even for bfloat16). Only inside kernels."""
    raise TypeError("to_stored works only inside compiled kernels")


def from_stored(array, element):
    """The number that an element of `array` stands for. Only inside kernels."""
    raise TypeError("from_stored works only inside compiled kernels")


@overload(to_stored, inline="always")
def _to_stored(out, value):
    if out.dtype.name == "uint16":

        def store(out, value):
            bits = bits_of(f32(value))
            return np.uint16(u32(bits + u32(0x7FFF) + u32(u32(bits >> u32(16)) & u32(1))) >> u32(16))

    else:

        def store(out, value):
            return value

    return store


@overload(from_stored, inline="always")
def _from_stored(array, element):
    if array.dtype.name == "uint16":

        def load(array, element):
            return float_of(u32(u32(element) << u32(16)))

    else:

        def load(array, element):
            return element

    return load


def largest_magnitude(values):
    """max |values|; NaN where one is NaN. Only inside kernels."""
    raise TypeError("largest_magnitude works only inside compiled kernels")


@overload(largest_magnitude)
def _largest_magnitude(values):
    # without their sign bit, floats order like the integers of their bits, and NaN comes last; a maximum of integers
    # is vectorised, one of floats is not
    single = values.dtype.name == "float32"
    real, word = (np.float32, np.int32) if single else (np.float64, np.int64)
    mask = word(0x7FFFFFFF if single else 0x7FFFFFFFFFFFFFFF)

    def largest(values):
        bits = values.view(word)
        top = word(0)
        for i in range(bits.shape[0]):
            top = max(top, word(bits[i] & mask))
        found = word(top)
        return found.view(real)

    return largest
