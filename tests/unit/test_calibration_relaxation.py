"""Relaxation fits on simulated cells: recovery, coverage, rejection, ranking and refusals."""

import numpy as np
import pandas as pd
import pytest

from calibration.quantile_law import Nodes, score
from calibration.relaxation import RelaxationFit, fit_relaxation
from calibration.relaxation_cells import Shifts
from calibration.tables import RetentionTable
from device_models.errors import UsageError
from device_models.relaxation import RelaxationTable

NORMAL = RelaxationTable(
    g_uS=(60.0, 140.0), t_s=(0.1, 1e4), z=(0.0,), median_uS=((0.0, -0.2), (-2.0, -1.0)),
    slope_uS=(((0.5, 0.8),), ((3.0, 1.5),)), path_t_s=(0.1, 1e4), path=((1.0, 0.0), (0.5, 0.75**0.5)),
)  # fmt: skip
TAILED = NORMAL.evolve(
    z=(-2.0, -1.0, 0.0, 1.0, 2.0),
    slope_uS=(((2.0, 1.5), (1.0, 0.8), (0.4, 0.5), (0.5, 0.5), (1.0, 0.8)),
              ((9.0, 4.0), (6.0, 3.0), (1.5, 1.2), (2.0, 1.0), (4.0, 2.0))),
)  # fmt: skip


def _cells(law, n_cells, times, seed):
    """A wide frame of cells that relax by the law; shifts from a fine table of quantiles."""
    rng = np.random.default_rng(seed)
    g, normals = rng.uniform(60.0, 140.0, n_cells), rng.standard_normal((n_cells, len(law.path[0])))
    grid, row = np.linspace(-6, 6, 241), np.arange(n_cells)
    columns = {"cell": row, "g_0s_uS": g}
    for t in times:
        at = (normals @ law.rank_path(t) + 6) * 20
        k, x = at.astype(int), law.shift_uS(g, grid, t)
        columns[f"g_{t:.8g}s_uS"] = g + x[row, k] + (at - k) * (x[row, k + 1] - x[row, k])
    return pd.DataFrame(columns)


def _power_law_cells(n_cells, times, seed):
    rng = np.random.default_rng(seed)
    g, nu = rng.uniform(20.0, 100.0, n_cells), rng.normal(0.05, 0.01, n_cells)
    columns = {"cell": np.arange(n_cells), "g_0s_uS": g}
    for t in times:
        columns[f"g_{t:.8g}s_uS"] = g * (1 + t / 0.5) ** -nu * np.exp(0.005 * rng.standard_normal(n_cells))
    return pd.DataFrame(columns)


def _table(frame):
    return RetentionTable.from_frame(frame)


def _truth(law, fit):
    values = [
        [law.shift_uS(g, 0.0, t)[0, 0], *(law.shift_uS(g, z + 1e-5, t) - law.shift_uS(g, z - 1e-5, t)).ravel() / 2e-5]
        for t in fit.t_s
        for g in fit.g_uS
        for z in [np.array(fit.z)]
    ]
    return np.concatenate([np.ravel(v) for v in values])


def test_scores_are_the_derivatives_of_the_log_density():
    rng = np.random.default_rng(0)
    knots, x, local = np.array([-2.0, -1, 0, 1, 2]), rng.standard_t(2, 300), rng.normal(0, 0.5, (300, 6))
    _, _, slopes = score(x, local, knots)
    for j in range(6):
        step = 1e-6 * (np.arange(6) == j)
        numeric = (score(x, local + step, knots)[1] - score(x, local - step, knots)[1]) / 2e-6
        assert slopes[:, j] == pytest.approx(numeric, rel=1e-5, abs=1e-5)


def test_the_density_is_that_of_the_quantile_function():
    knots, local = np.array([-1.0, 0.0, 1.5]), np.array([[0.3, 1.0, -0.5, 0.8]])
    x = np.linspace(-40, 40, 40001)
    z, log_p, _ = score(x, np.repeat(local, len(x), 0), knots)
    density = np.exp(log_p)
    assert np.trapezoid(density, x) == pytest.approx(1.0, abs=1e-4)
    slopes = (tuple((float(np.exp(v)),) for v in local[0, 1:]),)
    nodes = {"g_uS": (1.0,), "t_s": (1.0,), "z": (-1.0, 0.0, 1.5), "path_t_s": (1.0,), "path": ((1.0,),)}
    law = RelaxationTable(**nodes, median_uS=((0.3,),), slope_uS=slopes)
    assert law.shift_uS(1.0, z[::400], 1.0)[0] == pytest.approx(x[::400], abs=1e-9)


@pytest.mark.parametrize(("law", "model"), [(NORMAL, "normal, power of time"), (TAILED, "5 slopes, power of time")])
def test_intervals_cover_the_truth_without_bias_and_the_true_law_is_kept(law, model):
    repeats, times = 20, np.geomspace(0.1, 1e4, 8)
    covered, bias, width, rejected = [], [], [], []
    for seed in range(repeats):
        fit = fit_relaxation(_table(_cells(law, 512, times, seed)), model=model)
        truth = _truth(law, fit)
        low, high = np.array([(p.low, p.high) for p in fit.parameters]).T
        covered.append((low <= truth) & (truth <= high))
        bias.append(fit.values - truth)
        width.append(high - low)
        rejected.append(any(test.rejected for test in fit.goodness))
    # the standard error of the mean coverage over parameters, which are alike within a repeat, is about 0.02
    assert 0.84 < np.mean(covered) < 0.95
    error = np.std(bias, axis=0, ddof=1) / np.sqrt(repeats)
    assert np.all(np.abs(np.mean(bias, axis=0)) < 0.25 * np.mean(width, axis=0) + 2 * error)
    assert np.sum(rejected) <= 0.1 * repeats + 2  # 0.1 and its standard error of 0.07


def test_a_normal_law_is_rejected_for_tailed_cells():
    times = np.geomspace(0.1, 1e4, 8)
    for seed in range(10):
        fit = fit_relaxation(_table(_cells(TAILED, 512, times, seed)), model="normal, power of time")
        assert any(test.rejected for test in fit.goodness)


def test_ranking_finds_the_tails_and_the_path_keeps_the_ranks():
    fit = fit_relaxation(_table(_cells(TAILED, 600, [0.1, 10.0, 1e4], 3)))
    assert fit.model.startswith("5 slopes")
    assert not fit.warnings
    scores = {c.model: c.score for c in fit.candidates}
    assert scores["power-law drift"] < scores["normal, power of time"] < scores[fit.model]
    assert fit.law().rank_correlation(0.1, 1e4) == pytest.approx(0.5, abs=4 * 0.75 / 600**0.5)
    assert fit.law().rank_correlation(0.1, 10.0) == pytest.approx(TAILED.rank_correlation(0.1, 10.0), abs=0.1)


def test_relaxation_loses_against_the_power_law_where_that_is_true():
    fit = fit_relaxation(_table(_power_law_cells(600, [1.0, 100.0, 1e4], 4)))
    assert any("use fit_drift" in text for text in fit.warnings)
    assert fit.candidates[0].model == "power-law drift"


def test_gaps_and_times_of_each_cell_are_used_as_they_are():
    frame = _cells(NORMAL, 512, np.geomspace(0.1, 1e4, 12), 5)
    long = frame.melt("cell", var_name="t", value_name="g_uS")
    long["t_s"] = long.pop("t").str.extract(r"g_(.*)s_uS")[0].astype(float)
    rng = np.random.default_rng(0)
    kept = long[(long.t_s == 0) | (rng.random(len(long)) < 0.4)]
    fit = fit_relaxation(RetentionTable.from_frame(kept), model="normal, power of time")
    assert fit.provenance.n_used == int(np.sum(kept.t_s > 0))
    low, high = np.array([(p.low, p.high) for p in fit.parameters]).T
    assert np.mean((low <= (truth := _truth(NORMAL, fit))) & (truth <= high)) >= 0.6
    assert fit.values == pytest.approx(truth, abs=3 * np.max(high - low))


def test_extrapolation_is_a_power_of_time_and_only_as_far_as_asked():
    table = _table(_cells(NORMAL, 512, [0.1, 1.0, 10.0, 100.0], 6))
    fit = fit_relaxation(table, model="normal, power of time", extrapolate_to_s=1e4)
    device = fit.to_device()
    shift = device.relaxation.shift_uS(100.0, [-1.0, 1.0], 1e4)[0]
    expected = NORMAL.shift_uS(100.0, [-1.0, 1.0], 1e4)[0]
    assert np.diff(shift) == pytest.approx(np.diff(expected), rel=0.15)
    with pytest.raises(UsageError, match="to 10000 s, the extrapolation"):
        device.curves(2e4, 1.0)
    with pytest.raises(UsageError, match=r"must be one of normal, power of time"):
        fit_relaxation(table, model="normal, each time", extrapolate_to_s=1e4)
    with pytest.raises(UsageError, match="must be above the last time, 100 s"):
        fit_relaxation(table, extrapolate_to_s=50.0)


def test_growth_with_log_time_is_found_and_continued():
    """From reads up to 100 s to 1e4 s, where a power of time would have a spread half as large again."""
    law = NORMAL.evolve(onset_s=0.01)
    early = _table(_cells(law, 1024, np.geomspace(0.1, 100.0, 8), 8))
    fit = fit_relaxation(early, extrapolate_to_s=1e4)
    assert fit.model == "normal, power of log time"
    assert fit.onset_s == pytest.approx(0.01)
    assert not any(test.rejected for test in fit.goodness)
    assert next(c.model for c in fit.candidates if c.chosen) == fit.model
    spread = [np.diff(one.shift_uS(100.0, [-1.0, 1.0], 1e4)[0])[0] for one in (fit.law(), law)]
    assert spread[0] == pytest.approx(spread[1], rel=0.15)
    power = fit_relaxation(early, model="normal, power of time", extrapolate_to_s=1e4).law()
    assert np.diff(power.shift_uS(100.0, [-1.0, 1.0], 1e4)[0])[0] > 1.2 * spread[1]


def test_a_law_that_reads_reject_is_not_taken_where_another_is_not():
    """Shifts that fall and come back are no power of any clock; a node at each time has them."""
    frame, times = _cells(NORMAL, 512, np.geomspace(0.1, 1e4, 8), 9), np.linspace(-1, 1, 8)
    frame.iloc[:, 2:] += 1.5 * (1 - times**2)
    fit = fit_relaxation(_table(frame))
    assert fit.model == "normal, each time"
    assert not any(test.rejected for test in fit.goodness)


def test_a_fit_comes_back_from_yaml_and_makes_devices(tmp_path):
    fit = fit_relaxation(_table(_cells(TAILED, 512, [1.0, 100.0], 7)), model="5 slopes, power of time")
    fit.to_yaml(tmp_path / "fit.yaml")
    again = RelaxationFit.from_yaml(tmp_path / "fit.yaml")
    assert again.to_device() == fit.to_device()
    assert np.array_equal(again.draws, fit.draws)
    spreads = [np.ptp(d.curves(100.0, 1.0).shift_uS[32, [20, 60]]) for d in fit.sample_devices(20, seed=1)]
    assert 0 < np.std(spreads) < 0.2 * np.mean(spreads)


def test_what_cannot_be_fitted_is_refused_in_words():
    frame = _cells(NORMAL, 30, [1.0, 100.0], 8)
    with pytest.raises(UsageError, match="19 cells have a read at 0 s and another: must be at least 20"):
        fit_relaxation(_table(frame[:19]))
    bakes = _table(pd.concat([frame.assign(temperature_C=t) for t in (25.0, 85.0)]))
    with pytest.raises(UsageError, match="several temperatures"):
        fit_relaxation(bakes)
    late = frame.astype(float)
    late.loc[:4, "g_0s_uS"] = np.nan
    shifts = Shifts.of(_table(late))
    assert ("reads of cells without a read at 0 s", 10) in shifts.left_out
    assert shifts.n_cells == 25


def test_nodes_weigh_every_observation_to_one():
    basis = Nodes((1.0, 5.0), (1.0, 100.0), (0.0,)).basis(np.array([0.0, 3.0, 9.0]), np.array([1.0, 10.0, 1000.0]))
    assert basis.sum(axis=1) == pytest.approx(np.ones(3))
    assert basis.toarray()[1] == pytest.approx([0.25] * 4)
