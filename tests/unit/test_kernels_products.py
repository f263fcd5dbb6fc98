"""Kernels that read vectors through all parts of a matrix, against matrix products and `mvm.read_columns`."""

import numpy as np
import pytest
import torch

from crossbar_sim.array.stored import stored
from crossbar_sim.converters.states import ExactReadout, UniformAdc
from crossbar_sim.kernels import products, reference
from crossbar_sim.kernels.few import n_groups, read_few
from crossbar_sim.kernels.gemm import HAS_PAIRS
from crossbar_sim.kernels.inputs import quantise_inputs
from crossbar_sim.kernels.mvm import GROUP, Draws, read_columns, read_keys
from crossbar_sim.kernels.tries import REPEAT, first_tries
from crossbar_sim.kernels.workers import share

SPANS = ((0, 288), (288, 576), (576, 577))
STOPS = np.array([stop for _, stop in SPANS])
N_COLS = 2 * GROUP + GROUP // 2 + 9
NOISY, KEY = Draws(True, False, False), np.array([3, 4], np.uint32)
NO_RANGE, NO_KEY = np.empty(0), np.zeros(2, np.uint32)


def _adc(levels):
    return UniformAdc(10.0 / levels, levels) if levels else ExactReadout()


class Case:
    """Inputs, three parts and converters; what `read_columns` makes of the products of NumPy."""

    def __init__(self, n_vectors, n_cols=N_COLS, levels=127, spread=True, features=1, dtype=np.float64):
        rng = np.random.default_rng(0)
        self.n_cols, self.levels, self.dtype = n_cols, levels, dtype
        self.x = rng.normal(size=(n_vectors, 577)).astype(dtype)
        self.tries = first_tries(3, n_vectors) + REPEAT * np.array([[0], [1], [2]], np.uint32)
        self.codes, self.full_scale = np.empty_like(self.x), np.empty((3, n_vectors), dtype)
        self.clipped = np.empty(n_vectors, np.int64)
        quantise_inputs(
            0, 0, n_vectors, self.x, STOPS, NO_RANGE.astype(dtype), 127, False, NO_KEY, self.tries, self.codes,
            self.x[:0, :0], self.full_scale, self.clipped,
        )  # fmt: skip
        self.codes = np.stack([self.codes, *(np.rint(self.codes / 2) for _ in range(features - 1))])
        self.effective = rng.uniform(-1, 1, (features, n_cols, 577)).astype(dtype)
        self.variance = rng.uniform(0, 1e-2, (features, n_cols, 577)).astype(dtype)[: features if spread else 0]
        self.gain, self.bias = rng.uniform(0.1, 1, (3, n_cols)).astype(dtype), rng.normal(size=n_cols).astype(dtype)
        self.keys = read_keys(KEY, 7, 3)
        sizes = [n_cols * (stop - start) for start, stop in SPANS]
        first = np.cumsum([0, *sizes])
        self.parts = np.array([(k, k, *span, first[k]) for k, span in enumerate(SPANS)])
        self.y, self.beyond = np.full((n_vectors, n_cols), np.nan, dtype), np.zeros((3, n_vectors), bool)

    @staticmethod
    def flat(of_features):
        """The parts one after the other, for each feature."""
        return tuple(np.concatenate([part[:, a:b].ravel() for a, b in SPANS]) for part in of_features)

    def spreads(self, k):
        """Variances of the sums of part k (T, columns), or none."""
        a, b = SPANS[k]
        if not len(self.variance):
            return np.empty((0, 0), self.dtype)
        return sum(own[:, a:b] ** 2 @ part[:, a:b].T for own, part in zip(self.codes, self.variance, strict=True))

    def expected(self):
        y, beyond, saturated = np.empty_like(self.y), np.zeros_like(self.beyond), 0
        for k, (a, b) in enumerate(SPANS):
            sums = sum(own[:, a:b] @ part[:, a:b].T for own, part in zip(self.codes, self.effective, strict=True))
            saturated += read_columns(
                sums, self.spreads(k), 1 / 127, 0.01, NOISY, _adc(self.levels), None, None, self.full_scale[k],
                self.gain[k], self.bias, self.keys[k], self.tries[k], 0, k == 0, y, beyond[k],
            )  # fmt: skip
        return y, beyond, saturated

    def read_parts(self, squares=None, parts=None, columns=None, first=True, threads=2, stored_types=None):
        """Squares of the codes are given or, where there are variances, computed."""
        of_codes, of_squares = stored_types or (lambda values: values, lambda values: values)
        none = np.empty((0, 0, 0), self.dtype)
        if squares is None:
            squares = self.codes**2 if len(self.variance) else none
        codes, squares = of_codes(self.codes), of_squares(squares)
        rooms = [
            np.empty((threads, len(own), *products.packed_shape(self.dtype, self.n_cols, 288, own.itemsize == 2)), kind)
            for own, kind in ((each, np.uint32 if each.itemsize == 2 else self.dtype) for each in (codes, squares))
        ]
        columns = columns or (0, self.n_cols)
        y = np.ascontiguousarray(self.y[:, slice(*columns)])
        sums = np.empty((threads, 2, products.TURN, rooms[0].shape[2] * rooms[0].shape[4]), self.dtype)
        effective = tuple(of_codes(part) for part in self.flat(self.effective))
        variance = tuple(of_squares(part) for part in self.flat(self.variance) or (none.ravel(),))
        arguments = (
            codes, squares, self.parts if parts is None else self.parts[parts], columns, effective,
            variance, 1 / 127, 0.01, NOISY, _adc(self.levels), None, None, self.full_scale, self.gain, self.bias,
            self.keys, self.tries, first, sums, *rooms, products.block_vectors(len(self.x)), y, self.beyond,
        )  # fmt: skip
        saturated = share(products.read_parts, arguments, products.n_blocks(*y.shape), threads)
        self.y[:, slice(*columns)] = y
        return saturated


@pytest.mark.parametrize("levels", [0, 127])
@pytest.mark.parametrize("spread", [True, False])
@pytest.mark.parametrize("n_vectors", [1, 5, 530])
def test_a_read_of_many_vectors_equals_matrix_products_and_read_columns(levels, spread, n_vectors):
    case = Case(n_vectors, levels=levels, spread=spread)
    expected, beyond, saturated = case.expected()
    assert case.read_parts() == saturated
    np.testing.assert_allclose(case.y, expected, rtol=0, atol=1e-11)
    np.testing.assert_array_equal(case.beyond, beyond)
    assert levels == 0 or n_vectors < 500 or saturated > 0


def test_features_of_devices_are_added_up():
    case = Case(40, features=3)
    expected, _, saturated = case.expected()
    assert case.read_parts() == saturated
    np.testing.assert_allclose(case.y, expected, rtol=0, atol=1e-11)


def test_variances_may_be_those_of_one_vector_for_all():
    case = Case(400)
    case.codes[:] = 127 * np.where(np.arange(577) % 3, 1, -1)
    expected = case.expected()[0]
    case.read_parts(squares=case.codes[:, :1] ** 2)
    np.testing.assert_allclose(case.y, expected, rtol=0, atol=1e-11)


def test_parts_and_columns_may_be_read_one_by_one():
    whole, split = Case(300), Case(300)
    whole.read_parts()
    for k in range(3):
        for start in range(0, N_COLS, GROUP):
            split.read_parts(parts=[k], columns=(start, min(start + GROUP, N_COLS)), first=k == 0)
    np.testing.assert_array_equal(split.y, whole.y)
    np.testing.assert_array_equal(split.beyond, whole.beyond)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("threads", [1, 2, 3, 7])
def test_the_number_of_threads_changes_no_bit(dtype, threads):
    one, more = Case(300, dtype=dtype), Case(300, dtype=dtype)
    assert more.read_parts(threads=threads) == one.read_parts(threads=1)
    np.testing.assert_array_equal(more.y, one.y)


def _bf16(values):
    return stored(torch.from_numpy(np.asarray(values, np.float32)).to(torch.bfloat16))


@pytest.mark.skipif(not HAS_PAIRS, reason="this processor has no bfloat16 products")
@pytest.mark.parametrize("codes_too", [False, True])
def test_bfloat16_codes_and_squares_are_read_as_what_they_stand_for(codes_too):
    case = Case(77, levels=0, dtype=np.float32)
    case.effective = torch.from_numpy(case.effective).to(torch.bfloat16).float().numpy()
    expected = case.expected()[0]
    case.read_parts(stored_types=(_bf16 if codes_too else lambda values: values, _bf16))
    # whole codes up to 127 are exact, and squares and variances err by up to 0.4 %, of a noise of 0.6
    np.testing.assert_allclose(case.y, expected, rtol=0, atol=0.02 * abs(expected).std())


@pytest.mark.parametrize("n_vectors", [1, 4])
@pytest.mark.parametrize("n_cols", [1, 77, GROUP // 2, GROUP // 2 + 5, 2 * GROUP, N_COLS])
@pytest.mark.parametrize("levels", [0, 127])
@pytest.mark.parametrize(("spread", "threads"), [(True, 1), (True, 3), (False, 2)])
def test_a_read_of_few_vectors_equals_matrix_products_and_read_columns(n_vectors, n_cols, levels, spread, threads):
    case = Case(n_vectors, n_cols, levels, spread)
    expected, beyond, saturated = case.expected()
    codes, full_scale = np.empty_like(case.x), np.empty_like(case.full_scale)
    arguments = (
        True, case.x, STOPS, NO_RANGE, 127, False, NO_KEY, case.parts, case.flat(case.effective)[0],
        (case.flat(case.variance) or NO_RANGE[None])[0], 1 / 127, 0.01, NOISY, _adc(levels), case.gain, case.bias, KEY,
        7, case.tries, case.x[0], codes, full_scale, case.clipped, case.y, case.beyond,
    )  # fmt: skip
    found = share(read_few, arguments, n_groups(n_cols), threads)
    np.testing.assert_allclose(case.y, expected, rtol=0, atol=1e-12)
    assert found == saturated
    np.testing.assert_array_equal(case.beyond, beyond)
    np.testing.assert_array_equal(codes, case.codes[0])
    np.testing.assert_array_equal(full_scale, case.full_scale)


def test_a_read_of_few_vectors_takes_bfloat16_variances_beside_float32_weights_and_inputs_as_they_are():
    rng = np.random.default_rng(0)
    x = np.rint(rng.uniform(-127, 127, (2, 301))).astype(np.float32)
    variance = torch.from_numpy(rng.uniform(0, 1e-2, (77, 301))).to(torch.bfloat16)
    one, y = np.ones((1, 77), np.float32), np.empty((2, 77), np.float32)
    keys = read_keys(KEY, 0, 1)
    read_few(
        0, 0, n_groups(77), False, x, STOPS, NO_RANGE.astype(np.float32), 0, False, NO_KEY,
        np.array([(0, 0, 0, 301, 0)]),
        np.zeros(77 * 301, np.float32), stored(variance.flatten()), 1.0, 0.0, NOISY, ExactReadout(), one, 0 * one[0],
        KEY, 0, first_tries(1, 2), x[0], np.empty_like(x), np.empty((1, 2), np.float32), np.empty(2, np.int64), y,
        np.zeros((1, 2), bool),
    )  # fmt: skip
    z = reference.read_normals(tuple(int(word) for word in keys[0]), first_tries(1, 2)[0], 77)
    np.testing.assert_allclose(y, np.sqrt(x.astype(float) ** 2 @ variance.double().numpy().T) * z, rtol=2e-5)
