"""Drift fits: known parameters come back, intervals cover them, wrong laws are rejected."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from calibration.drift import DriftFit, fit_drift
from calibration.folded import cumulative, log_density
from calibration.statistics_tables import DriftStatistics
from calibration.tables import RetentionTable
from crossbar_sim.spec import ChipSpec
from device_models.errors import UsageError
from device_models.pcm_1m import Pcm1M

N_CELLS, T_S, PCM = 512, np.geomspace(20, 1e5, 20), Pcm1M()
DIGITISED = Path(__file__).parents[2] / ".." / "shared" / "data" / "devices" / "pcm_reram_ibm_digitised"


def drifting(seed, mean=PCM.nu_mean, spread=PCM.nu_sigma, t_s=T_S, read=0.01, n=N_CELLS, t0_s=20.0):
    """Cells of the million-device array, or of laws of their own, numbers or functions of the conductance; read noise
    relative to the conductance."""
    rng = np.random.default_rng(seed)
    g = rng.uniform(0.25, 25, n)
    m, s = (law(g) if callable(law) else law for law in (mean, spread))
    nu = np.abs(m + s * rng.standard_normal(n))
    start = g * np.exp(0.05 * rng.standard_normal(n))
    noise = np.exp(read * rng.standard_normal((n, len(t_s))))
    return table(g, t_s, start[:, None] * np.exp(-nu[:, None] * np.log1p(t_s / t0_s)) * noise)


def table(target, t_s, g):
    n, m = g.shape
    columns = {
        "cell": np.repeat(np.arange(n), m),
        "t_s": np.tile(t_s, n),
        "g_uS": g.ravel(),
        "g_target_uS": np.repeat(target, m),
    }
    return RetentionTable.from_frame(pd.DataFrame(columns))


@pytest.mark.parametrize(("mean", "spread", "error"), [(0.05, 0.01, 0.005), (0.02, 0.03, 0.01), (0.0, 0.03, 0.02)])
def test_folded_density_is_the_convolution(mean, spread, error):
    def convolved(y):
        def part(u):
            return (norm.pdf(u, mean, spread) + norm.pdf(-u, mean, spread)) * norm.pdf(y, u, error)

        return quad(part, 0, 0.3, points=[max(y, 0.0), mean], limit=200)[0]

    y = np.linspace(-0.03, 0.12, 7)
    m, s, e = (np.full_like(y, value) for value in (mean, spread, error))
    np.testing.assert_allclose(np.exp(log_density(y, m, s, e)), [convolved(v) for v in y], rtol=1e-7, atol=1e-9)
    fine = np.linspace(-0.2, 0.12, 20001)
    m, s, e = (np.full_like(fine, value) for value in (mean, spread, error))
    density = np.exp(log_density(fine, m, s, e))
    area = np.concatenate([[0], np.cumsum((density[1:] + density[:-1]) / 2)]) * (fine[1] - fine[0])
    np.testing.assert_allclose(cumulative(fine, m, s, e), area, atol=1e-6)


def test_intervals_cover_and_the_true_law_is_not_rejected():
    """200 repeats: coverage 0.85 to 0.95 (s.e. 0.021), bias below a quarter of the interval, rejection below 0.1."""
    truth = {"nu_mean": 0.05, "nu_sigma": 0.012, "read_sigma": 0.01, "read_exponent": 0.0}
    fits = [fit_drift(drifting(seed, 0.05, 0.012), t0_s=20.0, g_max_uS=25.0, model="constant") for seed in range(200)]
    for i, (name, true) in enumerate(truth.items()):
        low, high = np.array([(fit.parameters[i].low, fit.parameters[i].high) for fit in fits]).T
        assert fits[0].parameters[i].name == name
        assert 0.85 <= np.mean((low <= true) & (true <= high)) <= 0.95, name
        bias = np.mean([fit.value(name) for fit in fits]) - true
        assert abs(bias) < 0.25 * np.mean(high - low), name
    assert np.mean([any(test.rejected for test in fit.goodness) for fit in fits]) <= 0.1


def test_the_law_of_phase_change_memory_is_recovered():
    fits = [fit_drift(drifting(seed, n=2048), t0_s=20.0, g_max_uS=25.0, model="clipped log") for seed in range(5)]
    g = np.array([1.25, 2.5, 5.0, 12.5, 20.0])
    curves = np.array([fit.exponents(g) for fit in fits])
    device = Pcm1M()
    for measured, true in zip(curves.mean(axis=0), (device.nu_mean(g), device.nu_sigma(g)), strict=True):
        np.testing.assert_allclose(measured, true, rtol=0.06)
    assert not any(test.rejected for test in fits[0].goodness)


def test_ranking_finds_the_dependence_on_conductance_and_the_plainest_law():
    state_dependent = fit_drift(drifting(3, n=256), t0_s=20.0)
    assert state_dependent.model in ("clipped log", "spline", "linear in ln g")
    assert min(state_dependent.candidates, key=lambda c: c.score).model == "constant"
    assert fit_drift(drifting(4, 0.05, 0.012, n=256), t0_s=20.0).model == "constant"


def test_first_verified_read_is_found_where_the_reads_tell():
    t_s = np.geomspace(1, 1e5, 12)
    fits = [fit_drift(drifting(seed, 0.05, 0.012, t_s, n=200), model="constant") for seed in range(8)]
    covered = [fit.parameters[-1].low <= 20.0 <= fit.parameters[-1].high for fit in fits]
    assert np.sum(covered) >= 5  # 8 with chance 0.9 each: fewer than 5 in 0.5 % of cases
    late = fit_drift(drifting(0, 0.05, 0.012, np.geomspace(1e5, 1e7, 6), read=0.05), model="constant")
    assert late.t0_s == 1e5
    assert any(text.startswith("t0_s: not identified") for text in late.warnings)


def test_relaxation_in_log_time_is_rejected():
    """Shifts of both signs that grow with ln t are no drift; the level of the tests together is 0.08."""
    rejected = 0
    for seed in range(10):
        rng = np.random.default_rng(seed)
        g = rng.uniform(5, 25, 200)
        shift = rng.normal(0, 0.15, 200)[:, None] * np.log1p(T_S / 1.0)
        reads = (g[:, None] + shift) * np.exp(0.01 * rng.standard_normal((200, len(T_S))))
        fit = fit_drift(table(g, T_S, np.maximum(reads, 0.01)), t0_s=20.0, model="constant")
        rejected += any(test.rejected for test in fit.goodness)
    assert rejected >= 8


def test_read_noise_that_wanders_is_rejected():
    rng = np.random.default_rng(1)
    g = rng.uniform(5, 25, N_CELLS)
    wander = np.cumsum(0.01 * rng.standard_normal((N_CELLS, len(T_S))), axis=1)
    reads = g[:, None] * np.exp(-0.05 * np.log1p(T_S / 20) + wander)
    fit = fit_drift(table(g, T_S, reads), t0_s=20.0, model="constant")
    assert next(test for test in fit.goodness if test.test.startswith("F of")).rejected


def test_a_fitted_device_drops_into_a_chip_and_round_trips(tmp_path):
    fit = fit_drift(drifting(0), t0_s=20.0, g_max_uS=25.0, model="clipped log")
    device = fit.to_device()
    nodes = device.curves(1e4, 1.0)
    np.testing.assert_allclose(np.interp(12.5, nodes.nodes_uS, nodes.nu_mean), 0.049, rtol=0.05)
    spec = ChipSpec(device=device)
    spec.to_yaml(tmp_path / "chip.yaml")
    assert ChipSpec.from_yaml(tmp_path / "chip.yaml") == spec
    fit.to_yaml(tmp_path / "drift.yaml")
    again = DriftFit.from_yaml(tmp_path / "drift.yaml")
    assert again.to_device() == device
    assert np.array_equal(again.draws, fit.draws)
    sampled = fit.sample_devices(5)
    assert len({s.drift.nu_mean for s in sampled}) == 5


def test_what_the_table_does_not_tell_is_said():
    two = fit_drift(drifting(0, 0.05, 0.012, np.array([20.0, 1e5])), t0_s=20.0, model="constant")
    assert any("not identified by two reads" in text for text in two.warnings)
    reads = drifting(0, 0.05, 0.012)
    g = reads.g_uS.copy()
    g[:20], g[20] = 0.0, 0.0
    zeros = RetentionTable.from_frame(pd.DataFrame({"cell": reads.cell, "t_s": reads.t_s, "g_uS": g}))
    fit = fit_drift(zeros, t0_s=20.0, model="constant")
    counts = {item.reason: item.count for item in fit.provenance.left_out}
    assert counts["reads at 0 uS, which have no logarithm"] == 21
    with pytest.raises(UsageError, match='nearest: "spline"'):
        fit_drift(reads, t0_s=20.0, model="splin")
    with pytest.raises(UsageError, match="t0_s = -1"):
        fit_drift(reads, t0_s=-1.0)
    with pytest.raises(UsageError, match="t0_s = None: must be given"):
        fit_drift(DriftStatistics.from_frame(pd.DataFrame({"g_uS": [1.0], "nu_mean": [0.1], "nu_sigma": [0.1]})))


def test_published_statistics_give_the_published_law():
    """Within the published band at every point, with residuals no larger than those of the published coefficients."""
    if not DIGITISED.exists():
        pytest.skip("the shared device data are not beside this repository")
    data = DriftStatistics.from_csv(
        DIGITISED / "pcm_drift_exponent_vs_conductance.csv",
        columns={"nu_mean": "drift_exponent_mean", "nu_sigma": "drift_exponent_std"},
    )
    fit = fit_drift(data, t0_s=20.0, g_max_uS=25.0)
    assert fit.model == "clipped log"
    mean, spread = fit.exponents(data.g_uS)
    published = Pcm1M()
    mean_law, spread_law = published.nu_mean(data.g_uS), published.nu_sigma(data.g_uS)
    assert np.all(np.abs(mean - mean_law) < spread_law)

    def rms(curve, points):
        return np.sqrt(np.mean((curve - points) ** 2))

    assert rms(mean, data.nu_mean) <= rms(mean_law, data.nu_mean)
    assert rms(spread, data.nu_sigma) <= rms(spread_law, data.nu_sigma)
