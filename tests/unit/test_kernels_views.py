"""Views inside kernels."""

from __future__ import annotations

import numpy as np
import pytest
from numba import njit
from numba.core.errors import TypingError
from numba.core.runtime import _nrt_python, rtsys

from crossbar_sim.kernels.views import bits_of, float_of, row, shaped


@njit
def _rows(matrix):
    total = np.empty(matrix.shape[0], matrix.dtype)
    for t in range(matrix.shape[0]):
        total[t] = row(matrix, t).sum()
    return total


@njit
def _shaped(array, start):
    return shaped(array, start, (2, 3, 2)).copy()


@njit
def _kept_by_views(n):
    room = np.empty((3, n))
    first, other = shaped(room, 0, (n,)), shaped(room, n, (2, n))
    for j in range(n):
        first[j], other[0, j], other[1, j] = j, 2 * j, 3 * j
    thrown_away = 0.0
    for _ in range(10):  # would be given the memory of `room`, if that were free
        more = np.full((3, n), -1.0)
        thrown_away += more[0, 0]
    return first.sum() + other.sum() + 0 * thrown_away


@njit
def _through_bits(number):
    return bits_of(number), float_of(bits_of(number))


def test_rows_of_a_matrix_whose_rows_lie_apart():
    matrix = np.arange(60.0).reshape(5, 12)[::2, :7]
    np.testing.assert_array_equal(_rows(matrix), matrix.sum(axis=1))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint16])
def test_numbers_of_a_contiguous_array_in_another_shape(dtype):
    array = np.arange(40).astype(dtype).reshape(4, 10)
    np.testing.assert_array_equal(_shaped(array, 7), np.arange(7, 19).reshape(2, 3, 2))


def test_an_array_whose_numbers_lie_apart_has_no_other_shape():
    with pytest.raises(TypingError, match="shaped: takes contiguous arrays"):
        _shaped(np.arange(40)[::2], 0)


def test_a_shape_keeps_the_memory_that_it_shows_and_gives_it_back():
    n = 1000
    expected = 6 * n * (n - 1) / 2
    assert _kept_by_views(n) == expected
    _nrt_python.memsys_enable_stats()
    before = rtsys.get_allocation_stats()
    assert _kept_by_views(n) == expected
    after = rtsys.get_allocation_stats()
    _nrt_python.memsys_disable_stats()
    assert after.alloc - before.alloc == after.free - before.free > 0


@pytest.mark.parametrize("number", [0.0, -0.0, 1.5, np.inf, np.nan])
def test_bits_of_a_number(number):
    word, back = _through_bits(np.float32(number))
    assert np.uint32(word) == np.float32(number).view(np.uint32)
    np.testing.assert_array_equal(back, np.float32(number))
