"""The output stage: kernel against law, off costs nothing and changes nothing, spreads as given."""

import numpy as np
import pytest

from crossbar_sim.converters.output_stage import compress, output_stage, sense_node, shape_rows
from crossbar_sim.spec.output_stage import OutputStageSpec, SenseSpec, SShapeSpec
from device_models.errors import SpecError, UsageError

FULL = OutputStageSpec(
    sense=SenseSpec(load=0.01, offset_sd=0.02),
    s_shape=SShapeSpec(compression=0.1, spread=0.3, calibrated_at=0.5),
)


def _stage(spec, n_cols, dtype=np.float64):
    return output_stage(spec, 10.0, 3, "layer", 1, n_cols, dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_kernel_equals_sense_node_and_compression(dtype):
    rng = np.random.default_rng(0)
    v, base = rng.normal(0, 5, (20, 77)).astype(dtype), rng.normal(0, 5, 20).astype(dtype)
    stage = _stage(FULL, 90, dtype)
    found = v.copy()
    shape_rows(stage, found, base, first_col=13)
    for t in range(20):
        sensed = sense_node(v[t].astype(float), float(base[t]), stage.load, stage.offset[13:].astype(float))
        expected = compress(sensed, stage.factor, stage.compression[13:].astype(float))
        np.testing.assert_allclose(found[t], expected, rtol=0, atol=5e-6 if dtype == np.float32 else 1e-13)


@pytest.mark.parametrize("spec", [None, OutputStageSpec()])
def test_off_is_nothing(spec):
    assert _stage(spec, 5) is None
    v = np.random.default_rng(0).normal(size=(3, 5))
    found = v.copy()
    shape_rows(None, found, np.ones(3))
    np.testing.assert_array_equal(found, v)


def test_half_a_stage_leaves_the_other_half_exact():
    v = np.random.default_rng(0).normal(0, 5, (3, 5))
    only_sense, only_s = v.copy(), v.copy()
    shape_rows(_stage(OutputStageSpec(sense=SenseSpec(load=0.01)), 5), only_sense, np.zeros(3))
    shape_rows(_stage(OutputStageSpec(s_shape=SShapeSpec(compression=0.1)), 5), only_s, np.zeros(3))
    np.testing.assert_array_equal(only_sense, v / (1 + 0.01 * abs(v)))
    np.testing.assert_allclose(only_s, v / (1 + 0.01 * abs(v)), rtol=1e-15)


def test_spreads_are_as_given_and_stay_with_the_column():
    n = 40_000
    stage = _stage(FULL, n)
    assert stage.offset.std() == pytest.approx(0.02, abs=4 * 0.02 / np.sqrt(2 * n))
    assert stage.compression.mean() == pytest.approx(0.01, abs=4 * 0.003 / np.sqrt(n))
    assert stage.compression.std() == pytest.approx(0.003, abs=4 * 0.003 / np.sqrt(2 * n))
    assert stage.compression.min() >= 0
    assert abs(np.corrcoef(stage.offset, stage.compression)[0, 1]) < 4 / np.sqrt(n)
    np.testing.assert_array_equal(_stage(FULL, 50).compression, stage.compression[:50])
    assert stage.factor == pytest.approx((1 + stage.compression.mean() * 5) ** 2, rel=1e-12)


def test_nan_stays():
    v = np.array([[np.nan, 1.0]])
    shape_rows(_stage(FULL, 2), v, np.zeros(1))
    assert np.isnan(v).tolist() == [[True, False]]


def test_refusals():
    with pytest.raises(SpecError, match="sense: needs load or offset_sd"):
        SenseSpec()
    with pytest.raises(SpecError, match=r"output_stage.s_shape.compression = -1: must be above 0"):
        OutputStageSpec(s_shape={"compression": -1})
    with pytest.raises(UsageError, match="n_cols = 0"):
        _stage(FULL, 0)
    with pytest.raises(UsageError, match=r"of shapes \(1, 2\), \(2,\)"):
        shape_rows(None, np.zeros((1, 2)), np.zeros(2))
