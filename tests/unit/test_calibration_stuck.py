"""Stuck devices: which, how many, and what the device gets."""

import numpy as np
import pytest
from scipy import stats

from calibration.intervals import clopper_pearson
from calibration.stuck import StuckFit, fit_stuck
from calibration.tables import ProgrammingTable, RetentionTable
from device_models.effects import StuckFaults
from device_models.errors import UsageError

RATES = (0.02, 0.01, 0.03)


def writes(seed, n=20_000, rates=RATES, sigma=0.6, levels=None, tail=None):
    """Targets over 0 to 25 uS, normal errors, and faults as in StuckFaults; with the fault class of each cell."""
    rng = np.random.default_rng(seed)
    target = rng.uniform(0, 25, n) if levels is None else rng.choice(np.linspace(0, 25, levels), n)
    error = rng.standard_normal(n) if tail is None else rng.standard_t(tail, n)
    g = np.maximum(target + sigma * error, 0)
    kind = rng.choice(4, n, p=[*rates, 1 - sum(rates)])
    g = np.where(kind == 0, 0.0, np.where(kind == 1, 25.0, np.where(kind == 2, rng.uniform(0, 25, n), g)))
    return ProgrammingTable(g_target_uS=target, g_uS=g, cell=np.arange(n)), kind


@pytest.mark.parametrize("levels", [None, 8])
def test_rates_are_recovered(levels):
    fit = fit_stuck(writes(0, levels=levels)[0], g_min_uS=0.0, g_max_uS=25.0)
    for name, p in zip(("p_reset", "p_set", "p_random"), RATES, strict=True):
        assert fit.value(name) == pytest.approx(p, abs=4 * np.sqrt(p / 20_000))  # 4 standard errors


def test_cells_are_named():
    table, kind = writes(1, n=4000)
    fit = fit_stuck(table, g_min_uS=0.0, g_max_uS=25.0)
    found = {int(name) for name in fit.low_cells}
    dead_and_told = set(np.flatnonzero((kind == 0) & (table.g_target_uS > 6)))
    assert dead_and_told <= found
    assert {int(c) for c in (*fit.low_cells, *fit.high_cells, *fit.other_cells)} <= set(np.flatnonzero(kind < 3))
    assert len(set(fit.other_cells) & set(fit.low_cells)) == 0


def test_intervals_cover():
    covered = np.zeros(3)
    bias = np.zeros(3)
    for seed in range(60):
        fit = fit_stuck(writes(seed, n=2000, levels=8)[0], g_min_uS=0.0, g_max_uS=25.0)
        for k, p in enumerate(fit.parameters[:3]):
            covered[k] += p.low <= RATES[k] <= p.high
            bias[k] += (p.value - RATES[k]) / (p.high - p.low) / 60
    # Clopper-Pearson covers at least as often as it says; 60 repeats: +- 0.04
    assert np.all(covered / 60 >= 0.82)
    assert np.abs(bias).max() < 0.25


def test_interval_is_that_of_scipy_and_zero_counts_have_one():
    table, _ = writes(2, n=2000, rates=(0, 0, 0), levels=8)
    fit = fit_stuck(table, g_min_uS=0.0, g_max_uS=25.0)
    told = int(np.sum(table.g_target_uS - 5 * 0.6 > 2.5))  # those of low targets do not show a cell stuck at 0
    upper = stats.binomtest(0, told).proportion_ci(0.9, "exact").high
    assert fit.value("p_reset") == 0.0
    assert fit.parameters[0].high == pytest.approx(upper, rel=0.2)
    assert fit.value("yield") == 1.0


def test_clopper_pearson_is_that_of_scipy():
    counts, trials = [0, 3, 17, 40], [40, 40, 1000, 40]
    low, high = clopper_pearson(counts, trials)
    for k, n, a, b in zip(counts, trials, low, high, strict=True):
        exact = stats.binomtest(k, n).proportion_ci(0.9, "exact")
        assert (a, b) == pytest.approx((exact.low, exact.high), abs=1e-9)


def test_heavy_tailed_errors_are_not_taken_for_stuck_cells_in_silence():
    right = sum(fit_stuck(writes(s, n=4000)[0], g_min_uS=0, g_max_uS=25).goodness[0].rejected for s in range(12))
    wrong = sum(
        fit_stuck(writes(s, n=4000, rates=(0.01, 0.01, 0), tail=2.5)[0], g_min_uS=0, g_max_uS=25).goodness[0].rejected
        for s in range(12)
    )
    assert right <= 3
    assert wrong >= 10


def test_cells_of_several_targets_are_stuck_only_where_nothing_moves_them():
    rng = np.random.default_rng(3)
    target = np.tile([5.0, 12.0, 20.0], 300)
    cell = np.repeat(np.arange(300), 3)
    g = target + 0.3 * rng.standard_normal(900)
    g[cell == 7] = 14.0 + 0.1 * rng.standard_normal(3)
    g[(cell == 8) & (target == 12.0)] = 3.0  # one write that failed
    fit = fit_stuck(ProgrammingTable(g_target_uS=target, g_uS=g, cell=cell), g_min_uS=0.0, g_max_uS=25.0)
    assert fit.other_cells == ("7",)
    assert fit.low_cells == fit.high_cells == ()
    assert any("1 cells missed a target by far but followed another" in text for text in fit.warnings)


def test_retention_table_counts_its_first_reads():
    table, _ = writes(4, n=3000, levels=8)
    later = RetentionTable(
        cell=np.repeat(table.cell, 2),
        t_s=np.tile([1.0, 1e6], 3000),
        g_uS=np.repeat(table.g_uS, 2) * np.tile([1.0, 0.3], 3000),
        g_target_uS=np.repeat(table.g_target_uS, 2),
    )
    first, same = (fit_stuck(t, g_min_uS=0.0, g_max_uS=25.0) for t in (table, later))
    assert np.array_equal(first.values, same.values)


def test_device_and_yaml(tmp_path):
    fit = fit_stuck(writes(5, n=2000, levels=8)[0])
    device = fit.to_device()
    assert device.faults == StuckFaults(**{p.name: p.value for p in fit.parameters[:3]}, source="fitted")
    rates = [d.faults.p_stuck for d in fit.sample_devices(50)]
    assert np.std(rates) == pytest.approx(np.sqrt(0.06 * 0.94 / 2000), rel=0.5)
    fit.to_yaml(tmp_path / "stuck.yaml")
    assert StuckFit.from_yaml(tmp_path / "stuck.yaml").low_cells == fit.low_cells


def test_refusals():
    table, _ = writes(6, n=100)
    with pytest.raises(UsageError, match="g_target_uS is missing"):
        fit_stuck(RetentionTable(cell=table.cell, t_s=np.zeros(100), g_uS=table.g_uS))
    with pytest.raises(UsageError, match="give g_min_uS and g_max_uS"):
        fit_stuck(ProgrammingTable(g_target_uS=np.full(100, 5.0), g_uS=table.g_uS, cell=table.cell))
    with pytest.raises(UsageError, match="3 writes: must be at least 20"):
        fit_stuck(ProgrammingTable(g_target_uS=table.g_target_uS[:3], g_uS=table.g_uS[:3], cell=table.cell[:3]))
    low = table.g_target_uS < 3
    near = ProgrammingTable(
        g_target_uS=np.tile(table.g_target_uS[low], 5), g_uS=np.tile(table.g_uS[low], 5), cell=np.arange(5 * low.sum())
    )
    with pytest.raises(UsageError, match="no cell has a target from which one stuck at the bottom"):
        fit_stuck(near, g_min_uS=0.0, g_max_uS=250.0)
