"""Dense algebra of kernels against NumPy."""

import numpy as np
import pytest
from numba import njit

from crossbar_sim.kernels import dense


@njit
def call_product(x, y, out, room):
    dense.product(x, y, out, room)


@njit
def call_factor(a, room, work):
    dense.factor(a, room, 3, work)


@pytest.mark.parametrize(("n", "m", "p"), [(1, 1, 1), (3, 5, 7), (70, 130, 33), (64, 64, 64)])
def test_a_product_is_that_of_numpy(n, m, p):
    rng = np.random.default_rng(0)
    x, y, out = rng.normal(size=(n, p)), rng.normal(size=(m, p)), np.full((n, m), np.nan)
    call_product(x, y, out, np.empty(dense.product_room(n, p)))
    np.testing.assert_allclose(out, x @ y.T, rtol=0, atol=1e-13)


@pytest.mark.parametrize(("n", "p"), [(1, 1), (5, 5), (16, 16), (40, 17), (130, 65)])
def test_further_rows_of_a_factor_are_divided_by_it(n, p):
    rng = np.random.default_rng(0)
    half = rng.normal(size=(p, p + 2))
    square, rest = half @ half.T, rng.normal(size=(n - p, p))
    a = np.concatenate([square, rest])
    call_factor(a, np.empty(3 + dense.factor_room(n, p)), np.empty(dense.product_room(n, p)))
    expected = np.linalg.cholesky(square)
    np.testing.assert_allclose(a[:p], expected, rtol=0, atol=1e-12 * abs(expected).max())
    np.testing.assert_allclose(a[p:] @ expected.T, rest, rtol=0, atol=1e-11)


@pytest.mark.parametrize("rank", [0, 1, 20, 39])
def test_a_singular_matrix_is_the_square_of_its_factor(rank):
    half = np.random.default_rng(0).normal(size=(40, rank))
    square = half @ half.T
    a = square.copy()
    call_factor(a, np.empty(3 + dense.factor_room(40, 40)), np.empty(dense.product_room(40, 40)))
    np.testing.assert_allclose(a @ a.T, square, rtol=0, atol=1e-12 * (1 + square.max()))
    assert np.isfinite(a).all()
