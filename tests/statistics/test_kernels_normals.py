"""The normals are standard, and independent of all their neighbours. Limits are four standard errors."""

import numpy as np
import pytest
from scipy.stats import kstest, norm

from crossbar_sim.kernels.random import fill_normals, random_key

N = 1000
TWO_SIDED_P = 6.3e-5
"""Chance that a normal lies beyond four standard deviations."""


def _square(*parts):
    """z0, z1 of shape (N counters 1, N counters 0)."""
    z0, z1 = np.empty((N, N), np.float32), np.empty((N, N), np.float32)
    for row in range(N):
        fill_normals(*random_key(*parts), np.uint32(0), np.uint32(row), z0[row], z1[row])
    return z0.astype(float), z1.astype(float)


@pytest.fixture(scope="module")
def normals():
    return _square(0, "layer", "program", 0)


@pytest.mark.parametrize("which", [0, 1])
def test_normals_have_the_moments_of_a_standard_normal(normals, which):
    z, n = normals[which], N * N
    assert abs(z.mean()) < 4 * (1 / n) ** 0.5
    assert abs((z**2).mean() - 1) < 4 * (2 / n) ** 0.5
    assert abs((z**3).mean()) < 4 * (15 / n) ** 0.5
    assert abs((z**4).mean() - 3) < 4 * (96 / n) ** 0.5


@pytest.mark.parametrize("which", [0, 1])
def test_normals_follow_the_normal_distribution(normals, which):
    z = normals[which].ravel()
    assert kstest(z, "norm").pvalue > TWO_SIDED_P
    expected = 2 * norm.sf(4) * len(z)
    assert abs((abs(z) > 4).sum() - expected) < 4 * expected**0.5


def _uncorrelated(a, b):
    a, b = a.ravel(), b.ravel()
    return max(abs((f(a) * f(b)).mean()) for f in (lambda v: v, lambda v: (v**2 - 1) / 2**0.5)) < 4 / len(a) ** 0.5


def test_the_two_normals_of_a_pair_are_independent(normals):
    assert _uncorrelated(*normals)


@pytest.mark.parametrize("lag", [1, 2, 128])
def test_neighbours_are_independent_along_rows_and_columns(normals, lag):
    for z in normals:
        assert _uncorrelated(z[:, lag:], z[:, :-lag])
        assert _uncorrelated(z[lag:], z[:-lag])
    assert _uncorrelated(normals[0][:, lag:], normals[1][:, :-lag])


@pytest.mark.parametrize(
    "other",
    [(1, "layer", "program", 0), (0, "layer", "program", 1), (0, "layer", "frozen", 0), (0, "layes", "program", 0)],
)
def test_keys_that_differ_in_one_part_give_independent_normals(normals, other):
    for z, w in zip(normals, _square(*other), strict=True):
        assert _uncorrelated(z, w)
        assert _uncorrelated(z, w.T)


def test_the_check_of_independence_sees_a_correlation_of_one_percent(normals):
    assert not _uncorrelated(normals[0], normals[1] + 0.01 * normals[0])
