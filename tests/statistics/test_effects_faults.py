"""Rates of stuck devices. Limits are four standard errors."""

import numpy as np
import pytest

from crossbar_sim.devices.effect_tables import fault_table
from crossbar_sim.kernels.faults import fault_keys, find_stuck
from device_models.effects import StuckFaults

N = 1000


def _stuck(faults):
    held, stuck = np.empty((N, N)), np.empty((N, N), bool)
    key, table = fault_keys(0, "layer")[0], fault_table(faults, 0.0, 25.0)
    for col in range(N):
        find_stuck(key, 0, col, table, held[col], stuck[col])
    return np.where(stuck, held, 7.0)


@pytest.mark.parametrize("p", [0.01, 0.1, 1e-4])
def test_observed_rates_are_the_asked_ones(p):
    g = _stuck(StuckFaults(p_reset=p, p_set=p, p_random=2 * p))
    stuck_low, stuck_high, healthy = g == 0.0, g == 25.0, g == 7.0
    for found, rate in ((stuck_low, p), (stuck_high, p), (~(stuck_low | stuck_high | healthy), 2 * p)):
        assert abs(found.sum() - N * N * rate) < 4 * (N * N * rate * (1 - rate)) ** 0.5


def test_ten_thousand_of_a_million_devices_are_stuck_at_each_end():
    g = _stuck(StuckFaults(p_reset=0.01, p_set=0.01))
    assert abs((g == 0.0).sum() - 10_000) < 4 * 99.5
    assert abs((g == 25.0).sum() - 10_000) < 4 * 99.5
    rate, n_pairs = 0.02, N * (N - 1)
    faulty = g != 7.0
    for neighbours in ((faulty[:, 1:] & faulty[:, :-1]).sum(), (faulty[1:] & faulty[:-1]).sum()):
        assert abs(neighbours - n_pairs * rate**2) < 4 * (n_pairs * rate**2) ** 0.5


def test_values_of_devices_stuck_anywhere_are_uniform_in_the_window():
    values = _stuck(StuckFaults(p_random=1.0)) / 25.0
    assert values.min() > 0
    assert values.max() < 1
    assert abs(values.mean() - 0.5) < 4 * (1 / 12 / values.size) ** 0.5
    assert abs(values.var() - 1 / 12) < 4 * (1 / 180 / values.size) ** 0.5
