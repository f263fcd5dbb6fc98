"""Fingerprints of weights: digests as they are defined, and that no change of bits goes by unseen."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crossbar_sim.array import fingerprint
from crossbar_sim.array.fingerprint import PHASE_BYTES, WHOLE_BYTES, Fingerprint
from crossbar_sim.kernels.digests import BLOCK_BYTES, digest_phases, is_phase

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.float8_e4m3fn, torch.float8_e5m2]
SHAPES = [(1, 1), (3, 5), (7, 9), (64, 33), (300, 200), (257, 129)]


def mix(x):
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB % 2**64
    return x ^ (x >> 31)


def digests(data, n_phases):
    """In whole numbers of Python."""
    found = [0] * n_phases
    for p, start in enumerate(range(0, len(data), 8)):
        block = start // BLOCK_BYTES
        phase = block % n_phases if block < len(data) // BLOCK_BYTES else 0
        word = int.from_bytes(data[start : start + 8], "little")
        found[phase] += mix((word + (p + 1) * 0x9E3779B97F4A7C15) % 2**64)
    return [each % 2**64 for each in found]


def weights(shape=(300, 200), dtype=torch.float32, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


@settings(max_examples=30, deadline=None)
@given(size=st.integers(0, 3000), offset=st.integers(0, 9), n_phases=st.integers(1, 7), threads=st.integers(1, 3))
def test_digests_are_those_of_the_definition_at_any_alignment_and_split(size, offset, n_phases, threads):
    memory = np.random.default_rng(size).integers(0, 256, size + offset, dtype=np.uint8)
    found = np.empty(n_phases, np.uint64)
    bounds = [i * n_phases // threads for i in range(threads + 1)]
    for first, last in pairwise(bounds):
        digest_phases(0, first, last, memory.ctypes.data + offset, size, found)
    assert found.tolist() == digests(memory[offset:].tobytes(), n_phases)
    assert all(is_phase(memory.ctypes.data + offset, size, found, r) for r in range(n_phases))


def test_the_finaliser_is_the_published_one():
    """First output of SplitMix64 with seed 0."""
    assert mix(0x9E3779B97F4A7C15) == 0xE220A8397B1DCDAF


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(DTYPES), st.sampled_from(SHAPES), st.randoms(use_true_random=False))
def test_a_change_of_any_bit_is_seen_by_its_phase_alone(dtype, shape, random):
    weight = weights(shape, dtype)
    known = Fingerprint(weight)
    assert known.is_of(weight.clone())
    data = weight.view(torch.uint8).view(-1)
    place, bit = random.randrange(len(data)), random.randrange(8)
    data[place] ^= 1 << bit
    assert not known.is_of(weight)
    block = place // BLOCK_BYTES
    own = block % known.n_phases if block < len(data) // BLOCK_BYTES else 0
    seen = [r for r in range(known.n_phases) if not known.is_phase_of(weight.data_ptr(), r)]
    assert seen == [own]


def swap(weight):
    weight[0, 0], weight[1, 1] = weight[1, 1].clone(), weight[0, 0].clone()


WHOLE_MATRIX = {
    "negated": lambda weight: weight.neg_(),
    "moved by a constant": lambda weight: weight.add_(0.5),
    "scaled": lambda weight: weight.mul_(2),
    "clipped": lambda weight: weight.clamp_(-1, 1),
    "rolled": lambda weight: weight.copy_(weight.roll(1, 1)),
    "reversed": lambda weight: weight.copy_(weight.flip(0)),
    "set to zero": lambda weight: weight.zero_(),
}
PARTS = {
    "two exchanged": swap,
    "two negated": lambda weight: weight[0, :2].neg_(),
    "rows exchanged": lambda weight: weight[:2].copy_(weight[:2].flip(0)),
    "a row set to zero": lambda weight: weight[3].zero_(),
    "columns pruned": lambda weight: weight[:, 1::4].zero_(),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("shape", [(4, 8), (300, 200)])
@pytest.mark.parametrize("change", [*WHOLE_MATRIX, *PARTS])
def test_structured_changes_are_seen(change, shape, dtype):
    weight = weights(shape, dtype)
    known = Fingerprint(weight)
    {**WHOLE_MATRIX, **PARTS}[change](weight)
    assert not known.is_of(weight)


@pytest.mark.parametrize("change", WHOLE_MATRIX)
def test_a_change_of_the_whole_matrix_is_seen_in_every_phase(change):
    weight = weights((512, 512))
    known = Fingerprint(weight)
    WHOLE_MATRIX[change](weight)
    assert known.n_phases > 100
    assert not any(known.is_phase_of(weight.data_ptr(), r) for r in range(known.n_phases))


def test_bits_decide():
    zero, nan = torch.zeros(3, 4), torch.full((3, 4), torch.nan)
    assert not Fingerprint(zero).is_of(-zero)
    assert Fingerprint(nan).is_of(nan.clone())
    assert not Fingerprint(zero).is_of(zero.double())
    assert not Fingerprint(zero).is_of(zero.view(4, 3))


LAYOUTS = {
    "as it is": lambda weight: weight,
    "columns first": lambda weight: weight.t().contiguous().t(),
    "rows apart": lambda weight: torch.cat([weight, weight], dim=1)[:, : weight.shape[1]],
    "numbers apart": lambda weight: torch.stack([weight, weight], dim=2)[..., 0],
    "somewhere in memory": lambda weight: torch.cat([weight[:1, 0], weight.flatten()])[1:].view(weight.shape),
    "made in inference mode": lambda weight: inference_copy(weight),
    "with a lazy sign": lambda weight: torch._neg_view(-weight),
}


def inference_copy(weight):
    with torch.inference_mode():
        return weight.clone()


@pytest.mark.parametrize("now", LAYOUTS)
@pytest.mark.parametrize("first", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_layout_in_memory_does_not_matter(first, now, dtype):
    weight = weights(dtype=dtype)
    known, same, other = Fingerprint(LAYOUTS[first](weight)), LAYOUTS[now](weight), weight.clone()
    assert known.is_of(same)
    other[299, 199] += 1
    assert not known.is_of(LAYOUTS[now](other))
    address = known.address_of(same)
    assert address is None or all(known.is_phase_of(address, r) for r in range(known.n_phases))


def test_an_expanded_matrix():
    row = torch.randn(1, 50)
    known = Fingerprint(row.expand(40, 50))
    assert known.is_of(row.repeat(40, 1))
    assert known.address_of(row.expand(40, 50)) is None


@pytest.mark.parametrize("first", ["as it is", "columns first"])
def test_where_digests_can_be_taken_without_a_copy(first):
    weight = LAYOUTS[first](weights())
    assert Fingerprint(weight).address_of(weight) == weight.data_ptr()


def test_weights_without_memory_are_other_weights():
    weight = weights()
    known = Fingerprint(weight)
    assert not known.is_of(torch.empty(300, 200, device="meta"))
    weight.untyped_storage().resize_(0)
    assert not known.is_of(weight)


@pytest.mark.parametrize("n_bytes", [4, WHOLE_BYTES, WHOLE_BYTES + 4, 10 * WHOLE_BYTES])
def test_phases_are_small_and_an_odd_number(n_bytes):
    known = Fingerprint(torch.zeros(1, n_bytes // 4))
    assert known.n_phases % 2 == 1
    assert (known.n_phases == 1) == (n_bytes <= WHOLE_BYTES)
    assert known.n_phases == 1 or n_bytes / known.n_phases <= PHASE_BYTES + 16


def test_threads_change_nothing(monkeypatch):
    weight = weights((700, 300))
    known = Fingerprint(weight)
    monkeypatch.setattr(fingerprint, "_SERIAL_BYTES", 0)
    assert known.is_of(weight)
    assert (Fingerprint(weight).digests == known.digests).all()
