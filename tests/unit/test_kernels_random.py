"""The counter-based generator: published answers, and three implementations that agree."""

import numpy as np
import pytest
import torch
from numba import njit

from crossbar_sim.array import random_torch
from crossbar_sim.kernels import random, reference
from crossbar_sim.kernels.mvm import GROUP
from crossbar_sim.kernels.random import fill_normals, normal_pair, random_key
from crossbar_sim.kernels.tries import REPEAT, first_tries

u32 = np.uint32
KNOWN_ANSWERS = [
    ((0, 0), (0, 0), (0x9D1C5EC6, 0x8BD50731)),
    ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0xFD36D048, 0x2D17272C)),
    ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xBA3E4725, 0xF27D669E)),
]
"""Key, counter and output of Threefry-2x32-13 as published with the generator (Salmon et al., 2011)."""


@njit
def _compiled(key0, key1, counter0, counter1):
    return random.threefry(key0, key1, counter0, counter1)


def _kernel(key, counter):
    return _compiled(u32(key[0]), u32(key[1]), u32(counter[0]), u32(counter[1]))


def _reference(key, counter):
    return [words[0] for words in reference.threefry(key, *(np.array([word], u32) for word in counter))]


def _torch(key, counter):
    """From words to words; tensors hold them as int32 of the same bits."""
    tensors = (torch.from_numpy(np.array(words, u32).view(np.int32)).reshape(1, -1) for words in ([key], *counter))
    return [words.numpy().view(u32).reshape(np.shape(counter[0])) for words in random_torch.threefry(*tensors)]


@pytest.mark.parametrize("threefry", [_kernel, _reference, _torch])
@pytest.mark.parametrize(("key", "counter", "bits"), KNOWN_ANSWERS)
def test_threefry_gives_the_published_answers(threefry, key, counter, bits):
    assert tuple(int(word) for word in threefry(key, counter)) == bits


def test_the_three_generators_give_the_same_bits_for_many_counters():
    key = tuple(int(word) for word in random_key(3, "bits"))
    counter0, counter1 = np.random.default_rng(0).integers(0, 2**32, (2, 500), dtype=u32)
    expected = np.array(reference.threefry(key, counter0, counter1))
    kernel = np.array([_kernel(key, counter) for counter in zip(counter0, counter1, strict=True)]).T
    np.testing.assert_array_equal(kernel, expected)
    np.testing.assert_array_equal(_torch(key, (counter0, counter1)), expected)


def _rounding(z0, z1):
    """How far float32 normals may lie from exact ones.

    The uniform number has 24 bits, so near 1, where the radius sqrt(-2 ln u) goes to zero, its rounding of 2^-25 moves
    the radius by 2^-25 / radius; the rest is a few units in the last place of radius and phase.
    """
    return 1e-6 + 2**-24 / np.hypot(z0, z1)


@pytest.mark.parametrize("counter1", [0, 7, 2**32 - 1])
def test_kernel_normals_equal_the_reference(counter1):
    key, first, n = random_key(0, "normals"), 2**31 - 50_000, 100_000
    z0, z1 = np.empty(n, np.float32), np.empty(n, np.float32)
    fill_normals(*key, u32(first), u32(counter1), z0, z1)
    exact = reference.normals(key, np.arange(first, first + n, dtype=u32), np.full(n, counter1, u32))
    for z, z_exact in zip((z0, z1), exact, strict=True):
        assert (abs(z - z_exact) <= _rounding(*exact)).all()
        assert np.median(abs(z - z_exact)) < 5e-8


@pytest.mark.parametrize("draw", [random_torch.read_normals, random_torch.device_normals])
@pytest.mark.parametrize(("first_col", "n_cols"), [(0, 1), (0, GROUP - 1), (GROUP, GROUP), (2 * GROUP, 3 * GROUP + 5)])
def test_torch_normals_equal_the_reference(draw, first_col, n_cols):
    keys = np.array([random_key(0, "read", n_cols, part) for part in range(3)])
    tries = first_tries(3, 40) + np.arange(3, dtype=u32)[:, None]
    z = draw(keys, tries, n_cols, torch.device("cpu"), first_col).numpy()
    words = [tuple(int(word) for word in key) for key in keys]
    exact = [reference.read_normals(*own, first_col + n_cols)[:, first_col:] for own in zip(words, tries, strict=True)]
    assert z.shape == np.shape(exact)
    assert np.isfinite(z).all()
    assert abs(z - exact).max() < 1e-5  # the chance of a radius below 0.01 is 5e-5
    assert np.median(abs(z - exact)) < 1e-7


@pytest.mark.parametrize("draw", [random_torch.read_normals, random_torch.device_normals])
def test_torch_normals_of_a_try_are_those_of_its_number(draw):
    key = random_key(0, "read")
    numbers = np.array([3, 3 + REPEAT, 3 + 15 * REPEAT, 4], u32)
    z = draw(np.array([key]), numbers[None], GROUP + 5, torch.device("cpu")).numpy()[0]
    assert abs(z - reference.read_normals(tuple(int(word) for word in key), numbers, GROUP + 5)).max() < 1e-5


@pytest.mark.parametrize(
    ("bits0", "bits1", "pair"),
    [
        (0, 0, (6.660437, 0.0)),
        (0, 0x40000000, (0.0, 6.660437)),
        (0, 0x80000000, (-6.660437, 0.0)),
        (0, 0xC0000000, (0.0, -6.660437)),
        (0, 0x20000000, (4.709640, 4.709640)),
        (0xFFFFFFFF, 0, (0.0, 0.0)),
        (0x80000000, 0, (1.177410, 0.0)),
    ],
)
def test_box_muller_at_the_corners_of_its_square(bits0, bits1, pair):
    assert normal_pair(u32(bits0), u32(bits1)) == pytest.approx(pair, abs=2e-6)


def test_a_counter_runs_over_its_end_to_zero():
    key = random_key(1)
    z0, z1 = np.empty(4, np.float32), np.empty(4, np.float32)
    fill_normals(*key, u32(2**32 - 2), u32(0), z0, z1)
    again0, again1 = np.empty(2, np.float32), np.empty(2, np.float32)
    fill_normals(*key, u32(0), u32(0), again0, again1)
    np.testing.assert_array_equal(z0[2:], again0)
    np.testing.assert_array_equal(z1[2:], again1)


def test_a_key_depends_on_every_part_and_their_order():
    keys = {
        random_key(*parts)
        for parts in [(0,), (1,), (0, "a"), ("a", 0), (0, "a", 1), (0, "a1"), (0, "", "a"), (0, "a", ""), (0, "A")]
    }
    assert len(keys) == 9


def test_a_key_is_the_same_on_every_machine():
    assert [int(word) for word in random_key(0, "lm_head", "program", 0)] == [0x13788F59, 0x9B59FD80]


def test_signs_are_fair_and_each_key_has_its_own():
    signs = np.empty((2, 64, 512), np.float32)
    for own, name in zip(signs, "ab", strict=True):
        random.fill_signs(np.array(random_key(0, name), u32), own)
    assert set(np.unique(signs)) == {-1.0, 1.0}
    n = signs[0].size
    for products in (signs[0], signs[0] * signs[1], signs[0, 1:] * signs[0, :-1], signs[0, :, 1:] * signs[0, :, :-1]):
        assert abs(products.mean()) < 4 / np.sqrt(n)  # four standard errors
