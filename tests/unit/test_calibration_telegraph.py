"""Telegraph fits: levels and dwells come back, intervals cover them, noise without states has none."""

import itertools

import numpy as np
import pytest
from scipy import stats

from calibration.circuit_tables import ReadTrace
from calibration.device import fit_device
from calibration.hidden_states import log_likelihood
from calibration.telegraph import TelegraphFit, fit_telegraph
from calibration.telegraph_cells import telegraph_cell
from calibration.trap_share import band_variance
from crossbar_sim.spec import ChipSpec
from device_models.effects.telegraph import TelegraphNoise
from device_models.errors import UsageError

FS_HZ = 400.0
LOW_S, HIGH_S, AMPLITUDE_US = 0.05, 0.1, 2.0
UP, DOWN = 1 / (LOW_S * FS_HZ), 1 / (HIGH_S * FS_HZ)


def telegraph(rng, cells, samples, amplitude=AMPLITUDE_US, sigma=0.5, slower=1.0):
    """Chains that are stationary, about 50 uS, in white noise; dwells `slower` times as long."""
    chance, up, down = rng.random((cells, samples)), UP / slower, DOWN / slower
    state = np.empty((cells, samples), bool)
    state[:, 0] = chance[:, 0] < up / (up + down)
    for i in range(1, samples):
        state[:, i] = np.where(state[:, i - 1], chance[:, i] >= down, chance[:, i] < up)
    return 50 + amplitude * state + sigma * rng.standard_normal((cells, samples))


def trace(g):
    return ReadTrace(g_uS=np.atleast_2d(g), fs_Hz=FS_HZ, level=np.zeros(len(np.atleast_2d(g)), int))


def test_likelihood_equals_the_sum_over_all_paths():
    x, (low, high, sigma, up, down) = np.array([0.1, 0.9, 1.2, -0.3]), (0.0, 1.0, 0.4, 0.2, 0.35)
    total = 0.0
    for path in itertools.product((0, 1), repeat=len(x)):
        chance = (up if path[0] else down) / (up + down)
        for a, b in itertools.pairwise(path):
            stay = (1 - down) if a else (1 - up)
            chance *= stay if a == b else 1 - stay
        means = np.where(np.array(path) == 1, high, low)
        total += chance * np.prod(np.exp(-0.5 * ((x - means) / sigma) ** 2) / (sigma * np.sqrt(2 * np.pi)))
    assert log_likelihood(x, low, high, sigma, up, down) == pytest.approx(np.log(total), rel=1e-12)


def test_intervals_cover_and_the_true_law_is_not_rejected():
    """100 repeats of one cell: coverage 0.82 to 0.97 (0.9 with s.e. 0.03), small bias, rejection at most 0.15."""
    g = telegraph(np.random.default_rng(0), 100, 4000)
    fits = [fit_telegraph(trace(row)) for row in g]
    assert all(fit.present == (True,) for fit in fits)
    for i, true in ((1, AMPLITUDE_US), (2, LOW_S), (3, HIGH_S)):
        low, high = np.array([(fit.parameters[i].low, fit.parameters[i].high) for fit in fits]).T
        assert 0.82 <= np.mean((low <= true) & (true <= high)) <= 0.97, fits[0].parameters[i].name
        bias = np.mean([fit.parameters[i].value for fit in fits]) - true
        assert abs(bias) < 0.25 * np.mean(high - low), fits[0].parameters[i].name
    assert np.mean([any(test.rejected for test in fit.goodness) for fit in fits]) <= 0.15


def test_noise_without_states_has_none():
    """White noise, noise of one correlation time, and noise that wanders."""
    rng = np.random.default_rng(1)
    white = 50 + rng.standard_normal((10, 2000))
    slow = np.zeros((10, 2000))
    steps = rng.standard_normal((10, 2000))
    for i in range(1, 2000):
        slow[:, i] = 0.95 * slow[:, i - 1] + steps[:, i]
    walk = 200 + np.cumsum(rng.standard_normal((10, 2000)), axis=1)
    fit = fit_telegraph(trace(np.concatenate([white, 100 + slow, walk])))
    assert sum(fit.present) <= 1
    assert sum(fit.present[:20]) == 0
    none = fit_telegraph(trace(white))
    assert none.model == "no states"
    assert none.device_parts(np.array([1.0])) == {}
    assert none.value("p_trap") == 0.0
    assert not any(test.rejected for test in none.goodness)
    two_traps = telegraph(rng, 1, 8000, sigma=0.5) + telegraph(rng, 1, 8000, amplitude=1.2, sigma=0.0)
    several = fit_telegraph(trace(two_traps))  # neither one trap nor noise of one correlation time
    assert any(test.rejected for test in several.goodness)


def test_a_population_gives_the_share_of_traps_and_a_device(tmp_path):
    rng = np.random.default_rng(2)
    g = np.concatenate([telegraph(rng, 24, 3000), 50 + 0.5 * rng.standard_normal((16, 3000))])
    fit = fit_telegraph(trace(g))
    assert fit.present == (True,) * 24 + (False,) * 16
    share = fit.parameters[0]
    assert share.value == 0.6
    assert 0.44 < share.low < 0.5  # Jeffreys: 0.468 to 0.722
    assert 0.7 < share.high < 0.75
    assert fit.value("tau_log_spread") < 0.15
    device = fit.to_device(g_max_uS=60.0)
    assert device.telegraph.occupation == pytest.approx(HIGH_S / (LOW_S + HIGH_S), abs=0.03)
    assert device.telegraph.amplitude.amplitude_uS == pytest.approx(AMPLITUDE_US, rel=0.02)
    tau_s = LOW_S * HIGH_S / (LOW_S + HIGH_S)
    assert device.telegraph.tau_min_s <= tau_s * 1.1
    assert device.telegraph.tau_max_s >= tau_s * 0.9
    assert ChipSpec(device=device).device.telegraph == device.telegraph
    assert fit.window_uS is None  # one level
    fit.to_yaml(tmp_path / "telegraph.yaml")
    assert TelegraphFit.from_yaml(tmp_path / "telegraph.yaml").to_device(g_max_uS=60.0) == device


def test_intervals_over_few_cells_are_those_of_students_t():
    """Drawing eight cells again and again gave intervals that were a fifth too narrow."""
    rng = np.random.default_rng(5)
    g = np.concatenate([telegraph(rng, 1, 2000, amplitude) for amplitude in 2.0 * np.exp(0.2 * rng.standard_normal(8))])
    fit = fit_telegraph(trace(g))
    logs = [telegraph_cell(row).logs[0] for row in g]
    low, high = stats.t.interval(0.9, 7, np.mean(logs), stats.sem(logs))
    amplitude = fit.parameters[1]
    assert np.log([amplitude.low, amplitude.high]) == pytest.approx([low, high])
    assert np.quantile(np.log(fit.draws[:, 1]), [0.05, 0.95]) == pytest.approx([low, high], abs=0.3 * (high - low) / 2)
    two = fit_telegraph(trace(g[:2]))
    assert np.all(np.isfinite(two.draws))
    assert any("hardly identified" in text for text in two.warnings)
    assert len(two.sample_devices(50, g_max_uS=60.0)) == 50


def test_traps_are_taken_off_the_read_noise_of_a_device():
    """Variances of either level by hand: traps 4 p (1 - p) = 0.889 uS^2, white noise 0.25 uS^2."""
    g = telegraph(np.random.default_rng(4), 12, 8000)
    g[:6] -= 20
    levels = ReadTrace(g_uS=g, fs_Hz=FS_HZ, level=np.repeat([0, 1], 6))
    law = {"fit_read_noise": {"model": "1/f^a + white + 1 trap"}}
    fit = fit_device(levels, literature=None, options=law)
    assert fit["telegraph noise"].window_uS == pytest.approx((31.33, 51.33), abs=0.1)
    device, alone = fit.to_device(), fit["read noise"].to_device()
    p, log_band = HIGH_S / (LOW_S + HIGH_S), np.log(4000)
    traps = AMPLITUDE_US**2 * p * (1 - p)
    own = device.telegraph.amplitude.amplitude_uS**2 * device.telegraph.variance()
    assert own == pytest.approx(traps, rel=0.1)
    ends = np.array([0, -1])
    at = np.array(device.g_uS)[ends]
    both, left = (
        at**2 * (np.array(d.read.q_s)[ends] ** 2 * log_band + np.array(d.read.white)[ends] ** 2)
        for d in (alone, device)
    )
    measured = [g[:6].var(axis=1).mean(), g[6:].var(axis=1).mean()]
    assert both == pytest.approx(measured, rel=0.05)
    assert left + own == pytest.approx(measured, rel=0.05)  # 2.0 instead of 1.1 uS^2 if traps counted twice
    assert left == pytest.approx([0.25, 0.25], abs=0.06)
    assert (at * np.array(device.read.white)[ends]) ** 2 == pytest.approx([0.25, 0.25], abs=0.06)  # it stays white
    assert device.source == "fitted"
    assert any("% at the top, is taken off the read noise" in text for text in fit["read noise"].warnings)


def test_variance_in_the_band_is_that_of_the_sampled_process():
    """All of it in a long trace; against the sum of the sampled Lorentzian over a band that cuts it."""
    traps = TelegraphNoise(
        amplitude={"kind": "absolute", "amplitude_uS": 1.0}, occupation=0.3, tau_min_s=0.05, tau_max_s=0.05, p_trap=0.5
    )
    assert band_variance(traps, FS_HZ, 1e6) == pytest.approx(0.5 * 0.3 * 0.7, rel=1e-5)
    f, r = np.linspace(1 / 0.4, FS_HZ / 2, 200_001), np.exp(-1 / (FS_HZ * 0.05))
    density = 2 / FS_HZ * (1 - r**2) / (1 - 2 * r * np.cos(2 * np.pi * f / FS_HZ) + r**2)
    assert band_variance(traps, FS_HZ, 0.4) == pytest.approx(0.105 * np.trapezoid(density, f), rel=1e-6)


def test_correlated_noise_on_the_levels_is_rejected():
    rng = np.random.default_rng(3)
    g = telegraph(rng, 1, 8000, amplitude=5.0)
    slow = np.zeros(8000)
    for i in range(1, 8000):
        slow[i] = 0.9 * slow[i - 1] + 0.2 * rng.standard_normal()
    fit = fit_telegraph(trace(g[0] + slow))
    assert fit.present == (True,)
    assert next(test for test in fit.goodness if test.test == "correlation of neighbours").rejected


def test_what_cannot_be_fitted_is_refused():
    with pytest.raises(UsageError, match="at least 100"):
        fit_telegraph(trace(np.arange(50.0)))
    with pytest.raises(UsageError, match="never changes"):
        fit_telegraph(trace(np.full(500, 3.0)))
