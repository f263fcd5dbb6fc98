"""Telegraph noise is the stationary two-state process that it claims to be. Limits are four standard errors."""

import math

import numba
import numpy as np
import pytest
from scipy.stats import kstest
from trap_times import states

from crossbar_sim.devices.effect_tables import telegraph_table
from crossbar_sim.kernels.chance import below
from crossbar_sim.kernels.telegraph import add_telegraph, telegraph_keys
from device_models.effects import TelegraphNoise

TWO_SIDED_P = 6.3e-5
"""Chance that a normal lies beyond four standard deviations."""
N = 500


def _noise(occupation, **other):
    fields = {"tau_min_s": 1.0, "tau_max_s": 1.0, **other}
    return TelegraphNoise(amplitude={"kind": "absolute", "amplitude_uS": 1.0}, occupation=occupation, **fields)


@numba.njit(parallel=True)
def _add(keys, table, delta, g, variance):
    for col in numba.prange(g.shape[0]):
        add_telegraph(keys, 0, col, g.shape[1], table, delta, g[col], variance[col])


def _devices(noise, t_s, t_obs_s=0.0, n_out=N, n=N, layer="layer"):
    """g with amplitude 1 uS around 0, and the variance."""
    g, variance = np.zeros((n_out, n)), np.zeros((n_out, n))
    keys = telegraph_keys(0, layer, noise.traps_per_device)[0]
    _add(keys, telegraph_table(noise, t_s, t_obs_s), np.ones(n), g, variance)
    return g, variance


@pytest.mark.parametrize("occupation", [0.5, 0.1, 0.97])
@pytest.mark.parametrize("t_s", [0.0, 0.2, 7.3, 3e7])
def test_occupation_is_that_asked_for_at_all_times(occupation, t_s):
    g, _ = _devices(_noise(occupation), t_s)
    assert set(np.unique(g)) == {-occupation, 1 - occupation}
    assert abs(g.mean()) < 4 * (occupation * (1 - occupation)) ** 0.5 / N


@pytest.mark.parametrize("occupation", [0.5, 0.2])
@pytest.mark.parametrize("t_s", [0.0, 0.9, 1234.5])
@pytest.mark.parametrize("lag", [0.01, 0.3, 1.0, 2.5, 20.0])
def test_autocorrelation_falls_exponentially(occupation, t_s, lag):
    product = _devices(_noise(occupation), t_s)[0] * _devices(_noise(occupation), t_s + lag)[0]
    expected = occupation * (1 - occupation) * math.exp(-lag)
    assert abs(product.mean() - expected) < 4 * product.std() / N


def _dwells(up_below, steps_per_cell, n_steps, wanted):
    """Lengths of the stays in a state in cells, to a step; the first and the last stay are cut and left out."""
    times = np.array_split(np.arange(n_steps) / steps_per_cell, 100)
    state = np.concatenate([states(np.uint32(5), np.uint32(6), cells, up_below) for cells in times])
    changes = np.flatnonzero(np.diff(state)) + 1
    return np.diff(changes)[state[changes[:-1]] == wanted] / steps_per_cell


@pytest.mark.parametrize("occupation", [0.5, 0.2])
@pytest.mark.parametrize("state", [1, 0])
def test_stays_in_a_state_are_exponential(occupation, state):
    mean = 1 / (1 - occupation) if state else 1 / occupation
    steps = 400
    lengths = _dwells(below(occupation), steps, 8000 * steps, state)
    assert len(lengths) > 1000
    assert abs(lengths.mean() - mean) < 4 * mean / len(lengths) ** 0.5 + 2 / steps
    # stays shorter than a step are missed, so those seen are compared from a step on
    assert kstest(lengths - 1 / steps, "expon", args=(0, mean)).pvalue > TWO_SIDED_P


def test_the_test_of_stays_sees_a_mean_that_is_a_quarter_wrong():
    lengths = _dwells(below(0.5), 400, 8000 * 400, 1)
    assert kstest(lengths, "expon", args=(0, 2.5)).pvalue < TWO_SIDED_P


def test_two_traps_of_a_device_and_two_devices_are_independent():
    two, _ = _devices(_noise(0.5, traps_per_device=2), 3.0)
    assert abs((two**2).mean() - 0.5) < 4 * (two**2).std() / N
    one, _ = _devices(_noise(0.5), 3.0)
    assert abs((one[:, 1:] * one[:, :-1]).mean()) < 4 * 0.25 / N
    assert abs((one[1:] * one[:-1]).mean()) < 4 * 0.25 / N


def test_traps_are_as_many_and_as_fast_as_asked():
    noise = _noise(0.5, tau_min_s=1e-3, tau_max_s=1e3, traps_per_device=3, p_trap=0.25)
    for t_obs_s in (0.01, 1.0, 10.0, np.inf):
        _, variance = _devices(noise, 0.0, t_obs_s)
        rate = 0.25 * noise.fast_share(t_obs_s)
        assert abs(variance.mean() / 0.25 - 3 * rate) < 4 * (3 * rate * (1 - rate)) ** 0.5 / N


def test_correlation_over_log_uniform_traps_is_that_of_one_over_f_noise():
    noise = _noise(0.5, tau_min_s=1e-2, tau_max_s=1e4)
    tau = np.geomspace(1e-2, 1e4, 4001)
    first, _ = _devices(noise, 500.0)
    for lag in (0.1, 10.0, 1000.0):
        weights = np.exp(-lag / tau)
        expected = 0.25 * (weights[1:] + weights[:-1]).sum() / 2 / (len(tau) - 1)
        product = first * _devices(noise, 500.0 + lag)[0]
        assert abs(product.mean() - expected) < 4 * product.std() / N


def test_variance_of_fast_traps_is_that_of_column_sums_resampled_in_time():
    rng = np.random.default_rng(0)
    n_out, n, n_reads = 40, 300, 1500
    noise, x = _noise(0.3, traps_per_device=2), rng.uniform(-1, 1, n)
    _, variance = _devices(noise, 0.0, np.inf, n_out, n)
    expected = variance @ x**2
    np.testing.assert_allclose(expected, 2 * 0.21 * (x**2).sum())
    # reads forty correlation times apart are independent
    reads = np.array([_devices(noise, 40.0 * (k + 1), 0.0, n_out, n)[0] @ x for k in range(n_reads)])
    share = (reads**2).mean(axis=0) / expected
    assert abs(share.mean() - 1) < 4 * (2 / (n_out * n_reads)) ** 0.5
    assert abs(share - 1).max() < 4.5 * (2 / n_reads) ** 0.5
