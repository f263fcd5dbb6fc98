"""Products of packed weights: against NumPy, exactly where sums are exact, and whatever lies around the inputs."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from numba import njit

from crossbar_sim.array.stored import stored
from crossbar_sim.kernels.gemm import HAS_PAIRS, HEIGHT, multiply, pack, panel_width

SHAPES = [(1, 1, 1), (1, 7, 3), (33, 1, 40), (HEIGHT, 64, 32), (70, 130, 401), (9, 257, 1000)]
KINDS = {
    "float32": (torch.float32, torch.float32),
    "float64": (torch.float64, torch.float64),
    "bfloat16 weights": (torch.float32, torch.bfloat16),
    "bfloat16": pytest.param(
        (torch.bfloat16, torch.bfloat16),
        marks=pytest.mark.skipif(not HAS_PAIRS, reason="this processor has no bfloat16 products"),
    ),
}


@njit
def _multiply(codes, weights, packed, adds, out):
    pack(weights, codes, packed)
    multiply(codes, packed, adds, out)


def product(codes, weights, out=None):
    """codes (T, K) times weights (C, K), added to `out` where it is given."""
    real = np.float64 if codes.dtype == torch.float64 else np.float32
    width = panel_width(real)
    n_panels = -(-len(weights) // width)
    n_steps = -(-codes.shape[1] // 2) if codes.itemsize == 2 else codes.shape[1]
    packed = np.full((n_panels, n_steps, width), 77, np.uint32 if codes.itemsize == 2 else real)
    room = np.full((-(-len(codes) // HEIGHT) * HEIGHT, n_panels * width), np.nan, real)
    if out is not None:
        room[: len(codes), : len(weights)] = out
    _multiply(stored(codes), stored(weights), packed, out is not None, room)
    return room[: len(codes), : len(weights)].copy()


def _whole(rng, shape, largest, dtype):
    return torch.from_numpy(rng.integers(-largest, largest + 1, shape)).to(dtype)


@pytest.mark.parametrize("types", KINDS.values(), ids=KINDS.keys())
@pytest.mark.parametrize("shape", SHAPES)
def test_products_of_whole_numbers_are_exact(types, shape):
    """Sums stay below 2^24, so that no order of additions rounds."""
    n, n_cols, n_rows = shape
    rng = np.random.default_rng(0)
    codes, weights = _whole(rng, (n, n_rows), 127, types[0]), _whole(rng, (n_cols, n_rows), 127, types[1])
    expected = (codes.double() @ weights.double().t()).numpy()
    np.testing.assert_array_equal(product(codes, weights), expected)
    np.testing.assert_array_equal(product(codes, weights, np.full((n, n_cols), 3.0)), expected + 3)


@pytest.mark.parametrize("types", KINDS.values(), ids=KINDS.keys())
@pytest.mark.parametrize("shape", SHAPES)
def test_rows_and_columns_beside_the_product_do_not_enter(types, shape):
    n, n_cols, n_rows = shape
    rng = np.random.default_rng(0)
    around = torch.full((n + 2, n_rows + 5), torch.nan).to(types[0])
    around[1:-1, 2:-3] = _whole(rng, (n, n_rows), 127, types[0])
    weights = _whole(rng, (n_cols, n_rows), 127, types[1])
    inner = around[1:-1, 2:-3]
    np.testing.assert_array_equal(product(inner, weights), product(inner.contiguous(), weights))


@pytest.mark.parametrize("types", KINDS.values(), ids=KINDS.keys())
def test_any_numbers_are_summed_as_well_as_in_their_type(types):
    rng = np.random.default_rng(0)
    codes = torch.from_numpy(rng.normal(size=(70, 401))).to(types[0])
    weights = torch.from_numpy(rng.normal(size=(130, 401))).to(types[1])
    exact = (codes.double() @ weights.double().t()).numpy()
    found = product(codes, weights)
    np.testing.assert_allclose(found, exact, rtol=0, atol=2e-13 if types[0] == torch.float64 else 2e-4)


@pytest.mark.parametrize("types", KINDS.values(), ids=KINDS.keys())
def test_a_vector_has_the_same_bits_among_any_others(types):
    rng = np.random.default_rng(0)
    codes = torch.from_numpy(rng.normal(size=(3 * HEIGHT + 1, 77))).to(types[0])
    weights = torch.from_numpy(rng.normal(size=(2 * panel_width(np.float32) + 3, 77))).to(types[1])
    whole = product(codes, weights)
    for t in (0, 1, HEIGHT - 1, HEIGHT, 3 * HEIGHT):
        np.testing.assert_array_equal(product(codes[t : t + 1], weights)[0], whole[t])
    for column in (0, 31, len(weights) - 1):
        np.testing.assert_array_equal(product(codes, weights[column : column + 1])[:, 0], whole[:, column])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("types", KINDS.values(), ids=KINDS.keys())
def test_what_is_not_finite_stays_in_its_vector(types, bad):
    codes, weights = torch.ones((9, 33)).to(types[0]), torch.ones((40, 33)).to(types[1])
    codes[4, 32] = bad
    found = product(codes, weights)
    assert not np.isfinite(found[4]).any()
    assert (np.delete(found, 4, axis=0) == 33).all()


PROGRAM = """
import sys; sys.path.insert(0, {folder!r})
import numpy as np, torch
from test_kernels_gemm import product
from crossbar_sim.kernels import gemm
rng = np.random.default_rng(0)
codes, weights = torch.from_numpy(rng.normal(size=(31, 301))), torch.from_numpy(rng.normal(size=(77, 301)))
print(gemm.HEIGHT, gemm.HAS_PAIRS, *(product(codes.to(own), weights.to(own)).tobytes().hex()[-4000:] for own in
      (torch.float32, torch.float64)))
"""


@pytest.mark.skipif(HEIGHT != 8, reason="this processor has no wider vectors than those it is compared with")
def test_narrower_vectors_give_the_same_bits(request):
    program = PROGRAM.format(folder=str(request.path.parent))
    found = []
    for features in (None, "+avx,+avx2,+fma,+sse4.2"):
        own = {} if features is None else {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": features}
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True, env={**os.environ, **own}
        )
        found.append(done.stdout.split())
    assert [each[:2] for each in found] == [["8", str(HAS_PAIRS)], ["6", "False"]]
    assert found[0][2:] == found[1][2:]
