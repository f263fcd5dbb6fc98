"""From a matrix to tiles, scales and target conductances, and back."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from scipy.stats import norm

from crossbar_sim.mapping import ModelPlan, TilePlan, full_scale_weights, split_evenly
from crossbar_sim.spec import ChipSpec, PairEncoding, SigmaClip, TileSpec
from device_models.errors import UsageError

exactly = settings(max_examples=200, deadline=None, derandomize=True)


@pytest.mark.parametrize(
    ("size", "largest", "sizes"),
    [(576, 512, [288, 288]), (1000, 512, [500, 500]), (1025, 512, [342, 342, 341]), (512, 512, [512]), (1, 512, [1]),
     (513, 512, [257, 256]), (7, 1, [1] * 7), (10**6, None, [10**6])],
)  # fmt: skip
def test_a_matrix_is_split_evenly(size, largest, sizes):
    assert [stop - start for start, stop in split_evenly(size, largest)] == sizes


@exactly
@given(st.integers(1, 5000), st.integers(1, 600))
def test_an_even_split_is_complete_minimal_and_even(size, largest):
    spans = split_evenly(size, largest)
    sizes = [stop - start for start, stop in spans]
    assert [spans[0][0], *(stop for _, stop in spans)] == [*(start for start, _ in spans), size]
    assert max(sizes) <= largest
    assert len(spans) == -(-size // largest)
    assert sizes == sorted(sizes, reverse=True)
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("size", [0, -1])
def test_an_empty_matrix_is_refused(size):
    with pytest.raises(UsageError) as caught:
        split_evenly(size, 512)
    assert str(caught.value) == f"size = {size}: a weight matrix needs at least one row and one column"


W4 = np.array([[1.0, -4.0, 0.5, 0.25], [-2.0, 3.0, 8.0, 0.0], [0.1, 0.2, 0.3, -0.4], [0.0, 0.0, 0.0, 0.0]])


@pytest.mark.parametrize(
    ("scale", "w_max"),
    [
        ("tensor", [[8, 8, 8, 8], [8, 8, 8, 8]]),
        ("tile", [[4, 4, 0.2, 0.2], [8, 8, 0.4, 0.4]]),
        ("column", [[4, 8, 0.4, 0], [4, 8, 0.4, 0]]),
        ("tile_column", [[4, 3, 0.2, 0], [0.5, 8, 0.4, 0]]),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_full_scale_is_the_largest_weight_of_its_part(scale, w_max, dtype):
    plan = TilePlan.of(4, 4, TileSpec(rows=2, cols=2))
    found = full_scale_weights(W4.astype(dtype), plan, PairEncoding(scale=scale))
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, np.array(w_max, dtype))


def test_full_scale_of_many_outputs_is_that_of_each_alone():
    weights = np.random.default_rng(0).normal(size=(5000, 7))
    plan = TilePlan.of(7, 5000, TileSpec(rows=4, cols=None))
    w_max = full_scale_weights(
        weights, plan, PairEncoding(scale="tile_column", clip=SigmaClip(alpha=1.0, per="column"))
    )
    limit = np.sqrt((weights**2).mean(axis=1))
    np.testing.assert_allclose(w_max[0], np.minimum(abs(weights[:, :4]).max(axis=1), limit), rtol=1e-14)
    np.testing.assert_allclose(w_max[1], np.minimum(abs(weights[:, 4:]).max(axis=1), limit), rtol=1e-14)


GAUSSIAN = norm.ppf((np.arange(1_000_000) + 0.5) / 1_000_000).reshape(1000, 1000)
"""The quantiles of a standard normal: a sample without sampling error, of root mean square 1 within 1e-5."""


@pytest.mark.parametrize(
    ("alpha", "share", "mse"), [(2.0, 0.04550, 0.0115375), (2.5, 0.012419, 0.00239864), (3.0, 0.0026998, 0.00040687)]
)
def test_sigma_clip_cuts_the_known_share_of_a_gaussian(alpha, share, mse):
    plan = TilePlan.of(1000, 1000, TileSpec(rows=None, cols=None))
    w_max = full_scale_weights(GAUSSIAN, plan, PairEncoding(scale="tensor", clip=SigmaClip(alpha=alpha)))
    assert np.ptp(w_max) == 0
    assert w_max[0, 0] == pytest.approx(alpha, rel=2e-5)
    assert (abs(GAUSSIAN) > w_max[0, 0]).mean() == pytest.approx(share, rel=5e-4)
    assert ((GAUSSIAN - GAUSSIAN.clip(-w_max, w_max)) ** 2).mean() == pytest.approx(mse, rel=2e-3)


def test_a_clip_above_the_largest_weight_changes_nothing():
    plan = TilePlan.of(4, 4, TileSpec())
    for scale in ("tensor", "column"):
        clipped = full_scale_weights(W4, plan, PairEncoding(scale=scale, clip=SigmaClip(alpha=100.0)))
        np.testing.assert_array_equal(clipped, full_scale_weights(W4, plan, PairEncoding(scale=scale)))


def test_a_column_of_zeros_has_full_scale_zero_with_and_without_clip():
    for clip in (None, SigmaClip(per="column"), SigmaClip(per="tensor")):
        assert full_scale_weights(W4, TilePlan.of(4, 4, TileSpec()), PairEncoding(clip=clip))[0, 3] == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("clip", [None, SigmaClip()])
@pytest.mark.filterwarnings("error")
def test_a_weight_that_is_not_finite_is_named(bad, clip):
    weights = np.ones((3, 4), np.float32)
    weights[1, 2] = bad
    with pytest.raises(UsageError) as caught:
        full_scale_weights(weights, TilePlan.of(4, 3, TileSpec(rows=2)), PairEncoding(clip=clip), "lm_head")
    assert str(caught.value) == f"lm_head[1, 2] = {bad}: weights must be finite"


def test_a_matrix_of_another_shape_is_refused():
    with pytest.raises(UsageError) as caught:
        full_scale_weights(np.ones((3, 4)), TilePlan.of(3, 4, TileSpec()), PairEncoding(), "lm_head")
    assert str(caught.value) == "lm_head: shape (3, 4) does not fit the plan, which is (4, 3)"


@pytest.mark.parametrize(
    ("n_in", "n_out", "tile", "tiles", "used", "text"),
    [
        (576, 512, TileSpec(), 2, 0.5625, "576 x 512 on 2 tiles: 2x288 rows x 512 columns, 56% used"),
        (1025, 600, TileSpec(rows=512, cols=256), 9, 1025 * 600 / (9 * 512 * 256),
         "1025 x 600 on 9 tiles: 2x342+341 rows x 3x200 columns, 52% used"),
        (1000, 70, TileSpec(rows=512, cols=None), 2, 500 / 512,
         "1000 x 70 on 2 tiles: 2x500 rows x 70 columns, 98% used"),
        (9, 4, TileSpec(rows=None, cols=None), 1, 1.0, "9 x 4 on 1 tiles: 9 rows x 4 columns, 100% used"),
    ],
)  # fmt: skip
def test_a_plan_counts_tiles_devices_and_used_cells(n_in, n_out, tile, tiles, used, text):
    plan = TilePlan.of(n_in, n_out, tile)
    assert plan.n_tiles == tiles
    assert plan.n_devices == 2 * n_in * n_out
    assert plan.utilisation == pytest.approx(used, rel=1e-14)
    assert str(plan) == text


def test_a_plan_gives_the_span_of_a_tile_and_refuses_others():
    plan = TilePlan.of(1025, 600, TileSpec(rows=512, cols=512))
    assert plan.spans((2, 1)) == ((684, 1025), (300, 600))
    for tile in ((3, 0), (0, 2), (-1, 0)):
        with pytest.raises(UsageError) as caught:
            plan.spans(tile)
        assert str(caught.value) == f"tile = {tile}: must be (row, column) within (0..2, 0..1)"


def test_a_model_plan_sums_its_layers_and_groups_equal_ones():
    spec = ChipSpec.preset("pcm_1m")
    small, head = TilePlan.of(576, 192, spec.tile), TilePlan.of(576, 1000, spec.tile)
    layers = {f"layers.{i}.q_proj": (spec, small) for i in range(3)} | {"lm_head": (spec, head)}
    plan = ModelPlan(layers, digital=("embed", "gate"))
    assert plan.n_weights == 3 * 576 * 192 + 576 * 1000
    assert plan.n_devices == 2 * plan.n_weights
    assert plan.n_tiles == 3 * 2 + 4
    assert plan.utilisation == pytest.approx(plan.n_weights / (10 * 512 * 512))
    assert plan.groups() == [("layers.*.q_proj", 3, spec, small), ("lm_head", 1, spec, head)]
    assert str(plan).splitlines() == [
        "layer            count  chip    in x out    tiles each  tile sizes (rows | columns)  used",
        "layers.*.q_proj  3      pcm_1m  576 x 192   2           2x288 | 192                  21%",
        "lm_head          1      pcm_1m  576 x 1000  4           2x288 | 2x500                55%",
        "total: 4 layers, 907,776 weights, 10 tiles, 1,815,552 devices, 35% of the cells used",
        "kept digital by rule: embed, gate",
    ]
