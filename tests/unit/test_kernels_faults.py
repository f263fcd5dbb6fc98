"""Stuck devices: kernel against NumPy, and identity of a device over tiles, threads and chunks."""

import numpy as np
import pytest
from numba import njit

from crossbar_sim.devices.effect_tables import fault_table
from crossbar_sim.kernels import reference
from crossbar_sim.kernels.faults import fault_keys, find_stuck
from device_models.effects import StuckFaults

G_MIN, G_MAX = 0.5, 25.0
MIXED = StuckFaults(p_reset=0.1, p_set=0.05, p_random=0.2)


@njit
def _find(key, row, first_col, table, held, stuck):
    for o in range(held.shape[0]):
        find_stuck(key, row, first_col + o, table, held[o], stuck[o])


def _stuck(faults, n_out, n, row=0, first_col=0, dtype=np.float64, polarity=0):
    held, stuck = np.empty((n_out, n), dtype), np.empty((n_out, n), bool)
    _find(fault_keys(0, "layer")[polarity], row, first_col, fault_table(faults, G_MIN, G_MAX), held, stuck)
    return np.where(stuck, held, dtype(7.0)), stuck


def _reference(faults, n_out, n):
    """Conductances by inverting the distribution of faults; healthy devices keep 7 uS."""
    counter0, counter1 = np.meshgrid(np.arange(n, dtype=np.uint32), np.arange(n_out, dtype=np.uint32))
    key = tuple(int(word) for word in fault_keys(0, "layer")[0])
    u, level = (word * 2.0**-32 for word in reference.threefry(key, counter0, counter1))
    ends = np.cumsum([faults.p_reset, faults.p_set, faults.p_random])
    classes = [u < ends[0], u < ends[1], u < ends[2]]
    return np.select(classes, [G_MIN, G_MAX, G_MIN + (G_MAX - G_MIN) * (level + 2.0**-33)], 7.0)


@pytest.mark.parametrize(("dtype", "rtol"), [(np.float32, 2e-7), (np.float64, 1e-15)])
@pytest.mark.parametrize(
    "faults",
    [MIXED, StuckFaults(), StuckFaults(p_reset=1.0), StuckFaults(p_set=1.0), StuckFaults(p_random=1.0),
     StuckFaults(p_reset=0.7, p_set=0.2, p_random=0.1)],
)  # fmt: skip
def test_kernel_equals_the_reference(faults, dtype, rtol):
    g, stuck = _stuck(faults, 30, 700, dtype=dtype)
    expected = _reference(faults, 30, 700)
    np.testing.assert_allclose(g, expected, rtol=rtol)
    np.testing.assert_array_equal(stuck, expected != 7.0)


def test_a_device_is_stuck_alike_in_any_tile():
    whole, _ = _stuck(MIXED, 30, 700)
    part, _ = _stuck(MIXED, 7, 100, row=513, first_col=11)
    np.testing.assert_array_equal(part, whole[11:18, 513:613])


def test_a_device_that_is_stuck_stays_so_when_more_are():
    few, _ = _stuck(StuckFaults(p_reset=0.01), 30, 700)
    more, _ = _stuck(StuckFaults(p_reset=0.03), 30, 700)
    assert (few == G_MIN).sum() > 100
    assert (more[few == G_MIN] == G_MIN).all()


def test_the_devices_of_a_pair_and_of_two_layers_fail_apart():
    plus, minus = (_stuck(MIXED, 300, 700, polarity=p)[0] != 7.0 for p in range(2))
    n, p = plus.size, MIXED.p_stuck
    assert abs((plus & minus).sum() - n * p**2) < 4 * (n * p**2 * (1 - p**2)) ** 0.5
    assert not np.array_equal(fault_keys(0, "layer"), fault_keys(0, "other"))
    assert not np.array_equal(fault_keys(0, "layer"), fault_keys(1, "layer"))
