"""Devices summed to the weights they stand for."""

from __future__ import annotations

from numba import njit, prange

from crossbar_sim.kernels.bits import to_stored


@njit(parallel=True, cache=True)
def sum_devices(devices, factors, total):
    """total = sum_d factors_d devices_d.

    Arguments  devices (D, n_out, n); factors (D,) of the same type; total (n_out, n) out, of any stored type
    """
    for o in prange(total.shape[0]):
        sum_row(devices[:, o], factors, total[o])


@njit
def sum_row(devices, factors, total):
    """`sum_devices` of one output; devices (D, n)."""
    n_devices, n = devices.shape
    if n_devices == 2:
        one, other = devices[0], devices[1]
        for j in range(n):
            total[j] = to_stored(total, factors[0] * one[j] + factors[1] * other[j])
        return
    for j in range(n):
        value = factors[0] * devices[0, j]
        for d in range(1, n_devices):
            value += factors[d] * devices[d, j]
        total[j] = to_stored(total, value)
