"""The relaxation shift of a tabulated device: quantile function, path of the ranks, refusals."""

import numpy as np
import pytest
from scipy.integrate import quad

from crossbar_sim.spec import ChipSpec
from device_models.base import SHIFT_Z
from device_models.errors import SpecError, UsageError
from device_models.relaxation import RelaxationTable, rise
from device_models.tabulated import Tabulated

NORMAL = {
    "g_uS": (1.0, 50.0),
    "t_s": (1.0, 100.0),
    "z": (0.0,),
    "median_uS": ((0.0, -1.0), (-2.0, -3.0)),
    "slope_uS": (((1.0, 2.0),), ((4.0, 8.0),)),
    "path_t_s": (1.0, 100.0),
    "path": ((1.0, 0.0), (0.6, 0.8)),
}
SKEWED = {
    **NORMAL,
    "z": (-1.5, 0.0, 1.5),
    "slope_uS": (((4.0, 6.0), (0.5, 1.0), (1.0, 3.0)), ((8.0, 9.0), (2.0, 2.0), (4.0, 6.0))),
}
FLAT = {"bias_uS": ((0.0, 0.0),), "sigma_uS": ((0.0, 0.0),)}


def _device(relaxation, **changes):
    parts = {"g_uS": (1.0, 50.0), "g_min_uS": 1.0, "g_max_uS": 50.0, "programming": FLAT, "relaxation": relaxation}
    return Tabulated(**{**parts, **changes})


def test_the_rise_is_the_integral_of_the_slope():
    knots, logs = [-2.0, -0.5, 0.0, 1.0], np.array([1.0, -1.0, -1.0, 2.0])
    for z in (-4.0, -2.0, -1.1, -0.2, 0.0, 0.7, 1.0, 3.5):
        expected = quad(lambda s: np.exp(np.interp(s, knots, logs)), 0.0, z, points=knots, limit=200)[0]
        assert rise(logs, knots, [z])[0] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("g_uS", "z", "t_s", "expected"),
    [
        (1.0, 1.0, 1.0, 0.0 + 1.0),
        (50.0, -2.0, 1.0, -1.0 - 2 * 2.0),
        (25.5, 1.0, 1.0, -0.5 + 2**0.5),  # slopes are interpolated geometrically
        (1.0, 3.0, 10.0, -1.0 + 3 * 2.0),  # half way in ln t
        (50.0, 0.0, 100.0, -3.0),
        (1.0, 3.0, 0.0, 0.0),
    ],
)
def test_a_single_slope_is_a_normal_law(g_uS, z, t_s, expected):
    assert RelaxationTable(**NORMAL).shift_uS(g_uS, z, t_s)[0, 0] == pytest.approx(expected, abs=1e-12)


def test_times_are_continued_only_where_asked():
    with pytest.raises(UsageError, match="t_s = 10000: must be 0 or from 1 to 100 s, as measured"):
        RelaxationTable(**NORMAL).shift_uS(1.0, 0.0, 1e4)
    with pytest.raises(UsageError, match=r"t_s = 0\.5: must be 0 or from 1"):
        RelaxationTable(**NORMAL).shift_uS(1.0, 0.0, 0.5)
    further = RelaxationTable(**NORMAL, extrapolate_to_s=1e4)
    assert further.shift_uS(1.0, [0.0, 1.0], 1e4)[0] == pytest.approx([-4.0, -4.0 + 16.0])
    assert further.rank_path(1e4) == pytest.approx([0.6, 0.8])
    with pytest.raises(UsageError, match=r"from 1 to 10000 s, the extrapolation that was asked for"):
        further.shift_uS(1.0, 0.0, 2e4)


def test_growth_with_log_time():
    """From c = ln(1 + 1/1) = ln 2 to c = ln(101): the slope is 1 at the first and 4 at the last, a power between."""
    grown = RelaxationTable(**NORMAL, onset_s=1.0, extrapolate_to_s=1e4)
    share = np.log(np.log(11) / np.log(2)) / np.log(np.log(101) / np.log(2))
    assert grown.shift_uS(1.0, [0.0, 1.0], 10.0)[0] == pytest.approx([-2 * share, -2 * share + 4**share])
    beyond = np.log(np.log(1e4 + 1) / np.log(2)) / np.log(np.log(101) / np.log(2))
    assert np.diff(grown.shift_uS(1.0, [0.0, 1.0], 1e4)[0]) == pytest.approx(4**beyond)
    assert 4**beyond < 8 < 16  # a power of time is 16 there


def test_the_path_keeps_unit_norm_and_gives_the_correlation_of_ranks():
    table = RelaxationTable(**NORMAL)
    assert table.rank_correlation(1.0, 100.0) == pytest.approx(0.6)
    assert table.rank_path(10.0) == pytest.approx(np.array([0.8, 0.4]) / np.hypot(0.8, 0.4))
    assert np.linalg.norm(table.rank_path(3.0)) == pytest.approx(1.0)


def test_the_kernel_table_is_the_law():
    device = _device(SKEWED)
    curves = device.curves(10.0, 1.0)
    law = RelaxationTable(**SKEWED)
    z = np.linspace(-SHIFT_Z, SHIFT_Z, curves.shift_uS.shape[1])
    g = np.linspace(0.0, 50.0, curves.shift_uS.shape[0])
    assert curves.shift_uS == pytest.approx(law.shift_uS(g, z, 10.0))
    assert np.all(np.diff(curves.shift_uS, axis=1) > 0)
    between = np.array([np.interp(0.5 * (z[1:] + z[:-1]), z, row) for row in curves.shift_uS])
    assert between == pytest.approx(law.shift_uS(g, 0.5 * (z[1:] + z[:-1]), 10.0), abs=5e-3 * 4.0)
    assert curves.shift_path == pytest.approx(law.rank_path(10.0))
    at_zero = device.curves(0.0, 1.0)
    assert not np.any(at_zero.shift_uS)
    assert np.linalg.norm(at_zero.shift_path) == pytest.approx(1.0)


def test_without_relaxation_there_is_no_shift():
    curves = _device(None).curves(10.0, 1.0)
    assert curves.shift_uS is None
    assert curves.shift_path is None


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"z": (0.5,)}, "must contain 0"),
        ({"t_s": (1.0, 1.0)}, r"t_s = \(1.0, 1.0\) must ascend"),
        ({"median_uS": ((0.0, -1.0),)}, "median_uS has 1 rows of 2 values: one row for each t_s"),
        ({"slope_uS": (((1.0, 2.0),),)}, "slope_uS has 1 tables: must have 2"),
        ({"slope_uS": (((1.0, 2.0),), ((1.0,),))}, "slope_uS has 1 rows of 1 values"),
        ({"slope_uS": (((1.0, 2.0),), ((1.0, 0.0),))}, "must be above 0"),
        ({"path": ((1.0, 0.0), (0.6, 0.6))}, "norm 0.848528: must be 1"),
        ({"path": ((1.0,), (0.6, 0.8))}, "path has 2 rows of 1 or 2 values"),
        ({"extrapolate_to_s": 50.0}, "extrapolate_to_s = 50: must be above the last of t_s = 100"),
    ],
)
def test_tables_that_do_not_fit_are_refused_in_words(change, text):
    with pytest.raises(SpecError, match=text):
        RelaxationTable(**{**NORMAL, **change})


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"drift": {"t0_s": 1.0, "nu_mean": (0.1, 0.1), "nu_sigma": (0.0, 0.0)}}, "relaxation and drift exclude"),
        ({"programming": {**FLAT, "t_s": (1.0,)}}, r"relaxation and programming.t_s exclude"),
        ({"g_uS": (0.5, 50.0), "g_min_uS": 0.5}, "window 0.5 to 50 uS must lie within relaxation.g_uS, 1 to 50"),
    ],
)
def test_a_device_has_one_law_of_change_in_time(change, text):
    with pytest.raises(SpecError, match=text):
        _device(NORMAL, **change)


def test_a_relaxing_device_comes_back_from_yaml(tmp_path):
    spec = ChipSpec(device=_device(SKEWED))
    spec.to_yaml(tmp_path / "chip.yaml")
    assert ChipSpec.from_yaml(tmp_path / "chip.yaml") == spec
