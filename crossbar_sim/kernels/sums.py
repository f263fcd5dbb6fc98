"""Devices summed to the weights they stand for."""

from __future__ import annotations

from numba import njit

from crossbar_sim.kernels.bits import to_stored


@njit(nogil=True, cache=True)
def sum_devices(devices, weights, unit, total):
    """total = sum_d weights_d devices_d / unit, in the order of operations of `kernels.pairs`, whose bits it gives.

    Arguments  devices (D, n_out, n); weights (D,) and unit of the same type; total (n_out, n) out, of any stored type
    """
    for o in range(total.shape[0]):
        sum_row(devices[:, o], weights, unit, total[o])


@njit(error_model="numpy")  # a check for zero would keep the division from being vectorised
def sum_row(devices, weights, unit, total):
    """`sum_devices` of one output; devices (D, n)."""
    n_devices, n = devices.shape
    if n_devices == 2:
        one, other = devices[0], devices[1]
        for j in range(n):
            total[j] = to_stored(total, (weights[0] * one[j] + weights[1] * other[j]) / unit)
        return
    for j in range(n):
        value = weights[0] * devices[0, j]
        for d in range(1, n_devices):
            value += weights[d] * devices[d, j]
        total[j] = to_stored(total, value / unit)
