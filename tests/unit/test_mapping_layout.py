"""Encodings: what each device of a weight holds, and the weight that it gives back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossbar_sim.mapping import full_scale_weights, layout_of
from crossbar_sim.mapping.plan import TilePlan
from crossbar_sim.spec import BitSliceEncoding, ChipSpec, OffsetEncoding, PairEncoding, TileSpec
from device_models.errors import SpecError

W = np.array([[0.5, -0.2], [-1.0, 0.05]])


def _targets(encoding, u, g_min_uS=0.0, g_max_uS=25.0):
    return [g.tolist() for g in layout_of(encoding).targets(np.asarray(u, float), g_min_uS, g_max_uS)]


@pytest.mark.parametrize(
    ("g_min_uS", "pair", "plus", "minus"),
    [
        (0.0, "one_sided", [[12.5, 0], [0, 1.25]], [[0, 5], [25, 0]]),
        (0.25, "one_sided", [[12.625, 0.25], [0.25, 1.4875]], [[0.25, 5.2], [25, 0.25]]),
        (0.0, "two_sided", [[18.75, 10], [0, 13.125]], [[6.25, 15], [25, 11.875]]),
        (0.25, "two_sided", [[18.8125, 10.15], [0.25, 13.24375]], [[6.4375, 15.1], [25, 12.00625]]),
    ],
)
def test_pair_oracle(g_min_uS, pair, plus, minus):
    g_plus, g_minus = _targets(PairEncoding(pair=pair), W, g_min_uS)
    np.testing.assert_allclose(g_plus, plus, atol=1e-13)
    np.testing.assert_allclose(g_minus, minus, atol=1e-13)


@pytest.mark.parametrize(("w", "low", "high"), [(0.1, 10, 0), (0.25, 25, 0), (0.5, 25, 25 / 3), (1, 25, 25)])
@pytest.mark.parametrize("sign", [1, -1])
def test_significance_oracle(w, low, high, sign):
    encoding = PairEncoding(devices=2, fill="significance", significance=(1.0, 3.0))
    found = _targets(encoding, [sign * w])
    assert np.ravel(found)[[0, 2] if sign > 0 else [1, 3]] == pytest.approx([low, high], abs=1e-6)
    assert np.ravel(found)[[1, 3] if sign > 0 else [0, 2]].tolist() == [0, 0]


def test_max_set_fill_keeps_at_most_one_device_between_the_ends():
    """k = floor(G / g_dev_max) devices full, the next holds the rest, all others none."""
    u = np.linspace(0, 1, 101)
    devices = np.array(_targets(PairEncoding(devices=4, fill="msf"), u))[::2]
    total = u * 4 * 25
    for d, held in enumerate(devices):
        np.testing.assert_allclose(held, np.clip(total - 25 * d, 0, 25), atol=1e-12)
    assert (((devices > 1e-9) & (devices < 25 - 1e-9)).sum(axis=0) <= 1).all()


def test_equal_fill_gives_every_device_the_same():
    devices = _targets(PairEncoding(devices=3, fill="equal"), [-0.4, 0.7])
    assert devices[0] == devices[2] == devices[4] == [0, 17.5]
    assert devices[1] == devices[3] == devices[5] == [10, 0]


@pytest.mark.parametrize(("w", "g_uS"), [(-1, 9), (0, 48.6), (0.5, 68.4), (1, 88.2)])
def test_offset_oracle(w, g_uS):
    (found,) = _targets(OffsetEncoding(), [w], 9.0, 88.199997)
    assert found == pytest.approx([g_uS], abs=1e-5)


@pytest.mark.parametrize(("w", "low", "high"), [(0.5, 0, 4), (1, 15, 7), (-0.3, -6, -2), (0.01, 1, 0)])
def test_bit_slice_oracle(w, low, high):
    encoding = BitSliceEncoding(bits=8, slices=(4, 4))
    plus_low, minus_low, plus_high, minus_high = np.ravel(_targets(encoding, [w], 0.0, 15.0))
    assert [plus_low - minus_low, plus_high - minus_high] == pytest.approx([low, high])
    assert min(plus_low, minus_low) == min(plus_high, minus_high) == 0


ENCODINGS = st.one_of(
    st.builds(PairEncoding, pair=st.sampled_from(["one_sided", "two_sided"])),
    st.builds(PairEncoding, devices=st.integers(2, 5), fill=st.sampled_from(["equal", "msf"])),
    st.lists(st.floats(0.1, 10), min_size=2, max_size=4).map(
        lambda f: PairEncoding(devices=len(f), fill="significance", significance=tuple(sorted(f)))
    ),
    st.builds(OffsetEncoding),
)


@given(
    encoding=ENCODINGS,
    u=st.lists(st.floats(-1, 1), min_size=1, max_size=8),
    g_min=st.floats(0, 10),
    span=st.floats(1, 100),
)
def test_every_encoding_stays_in_the_window_and_gives_its_weight_back(encoding, u, g_min, span):
    layout = layout_of(encoding)
    targets = layout.targets(u, g_min, g_min + span)
    assert len(targets) == layout.n_devices
    for g in targets:
        assert (g >= g_min).all()
        assert (g <= (g_min + span) * (1 + 1e-15)).all()
    np.testing.assert_allclose(layout.weights(targets, g_min, g_min + span), u, atol=1e-12)


@given(
    slices=st.lists(st.integers(1, 5), min_size=1, max_size=5).filter(lambda b: 1 <= sum(b) <= 15),
    spare=st.integers(0, 4),
    u=st.lists(st.floats(-1, 1), min_size=1, max_size=8),
)
def test_slices_of_any_width_give_the_integer_weight_back(slices, spare, u):
    bits = sum(slices) + 1 - min(spare, slices[-1] - 1)
    if bits < 2:
        return
    layout = layout_of(BitSliceEncoding(bits=bits, slices=tuple(slices)))
    levels = 2 ** (bits - 1) - 1
    found = layout.weights(layout.targets(u, 0.5, 25.0), 0.5, 25.0)
    np.testing.assert_allclose(found, np.rint(np.array(u) * levels) / levels, atol=1e-9)


def test_neighbouring_outputs_of_a_tile_share_a_scale():
    weights = np.arange(1.0, 21.0).reshape(10, 2)
    plan = TilePlan.of(2, 10, TileSpec(rows=1, cols=5))
    found = full_scale_weights(weights, plan, PairEncoding(scale="tile_column", columns_per_scale=2))
    assert found[0].tolist() == [3, 3, 7, 7, 9, 13, 13, 17, 17, 19]  # groups end with their tile
    found = full_scale_weights(weights, plan, PairEncoding(columns_per_scale=3))
    assert found[1].tolist() == [6, 6, 6, 10, 10, 16, 16, 16, 20, 20]


@pytest.mark.parametrize(
    ("encoding", "message"),
    [
        ({"devices": 2}, "chip.encoding: fill = None with devices = 2: several devices need a fill, one none"),
        ({"fill": "msf"}, "chip.encoding: fill = 'msf' with devices = 1: several devices need a fill, one none"),
        ({"devices": 2, "fill": "equal", "pair": "two_sided"},
         "chip.encoding: pair = 'two_sided' has one device per polarity"),
        ({"devices": 2, "fill": "significance"},
         "chip.encoding: significance and fill = 'significance' belong together"),
        ({"devices": 2, "fill": "significance", "significance": (1.0,)},
         "chip.encoding: significance has 1 values for devices = 2"),
        ({"devices": 2, "fill": "significance", "significance": (3.0, 1.0)},
         "chip.encoding: significance = [3.0, 1.0]: must ascend"),
        ({"scale": "tensor", "columns_per_scale": 4},
         "chip.encoding: columns_per_scale groups outputs, but scale = 'tensor' is not taken per output"),
        ({"kind": "bit_slice", "bits": 8, "slices": (3, 3)},
         "chip.encoding: slices = [3, 3]: must hold the 7 bits of a magnitude"),
        ({"kind": "bit_slice", "bits": 8, "slices": (4, 29)},
         "chip.encoding: slices = [4, 29]: must hold 32 bits at most"),
        ({"kind": "bit_slice", "bits": 8, "slices": (7, 1)},
         "chip.encoding: slices = [7, 1]: must hold the 7 bits of a magnitude"),
        ({"kind": "ofset"},
         "chip.encoding.kind = 'ofset': must be one of pair, offset, bit_slice; nearest: \"offset\""),
    ],
)  # fmt: skip
def test_encodings_that_cannot_be_are_refused(encoding, message):
    with pytest.raises(SpecError) as caught:
        ChipSpec.preset("pcm_1m").evolve(encoding=encoding)
    assert str(caught.value) == message
