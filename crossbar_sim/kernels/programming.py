"""Programming of single devices: one pulse, or pulses with verification; and a report of how it went.

Random numbers are keyed by seed, layer, device, iteration, input and output, so a device is programmed the same way
in any tile, on any thread and as often as asked.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from crossbar_sim.kernels.compiling import inner
from crossbar_sim.kernels.random import f32, fill_columns, fill_normals_at, random_key, threefry, u32
from device_models.errors import UsageError

ANALOG_YIELD_LIMIT = 0.2
"""A weight counts for the analog yield if its error is within this share of the largest weight (Ambrogio 2023)."""

Floats = NDArray[np.floating]


class VerifyTable(NamedTuple):
    """ProgramVerify in the form that kernels take."""

    start_uS: float
    alpha: float
    tolerance_uS: float
    max_pulses: int
    sigma_write_uS: float
    sigma_write_relative: float
    sigma_read_uS: float


def write_keys(seed: int, layer: str, devices: Iterable[int] = range(2)) -> NDArray[np.uint32]:
    """(devices, 2): keys of the pulses on the given devices of a layer's weights."""
    return np.array([random_key(seed, layer, "write", d) for d in devices], dtype=np.uint32)


@njit
def single_shot(target, key, row, col, n, sigma_write, z, spare, g):
    """g = max(0, target (1 + sigma_write z)) [uS] of a block of devices.

    Arguments  target, g [uS], n devices of each output; key (2,) uint32, one row of `write_keys`; row: input of the
               first device; col: its output; z, spare: float32 scratch
    """
    dtype = g.dtype.type
    sigma = dtype(sigma_write)
    fill_columns(key, row, col, n, z, spare)
    for j in range(target.shape[0]):
        g[j] = max(target[j] * (dtype(1) + sigma * dtype(z[j])), dtype(0))


@inner
def _give_pulses(first, enough, target, key, rows, cols, table, g, pulses, converged):
    """Pulses for devices in inputs `rows` and outputs `cols`, from iteration `first` on until `enough` wait for further
    ones; the number of the next iteration."""
    size = target.shape[0]
    dtype = g.dtype.type
    zero = dtype(0)
    alpha, tolerance = dtype(table.alpha), dtype(table.tolerance_uS)
    read, fixed, relative = dtype(table.sigma_read_uS), dtype(table.sigma_write_uS), dtype(table.sigma_write_relative)
    z_read, z_write = np.empty(size, f32), np.empty(size, f32)
    for k in range(first, table.max_pulses + 1):
        key0, key1 = threefry(key[0], key[1], u32(k), u32(0))
        fill_normals_at(key0, key1, rows, cols, z_read, z_write, size)
        waiting = 0
        for j in range(size):
            error = g[j] + read * dtype(z_read[j]) - target[j]
            done = converged[j] or abs(error) <= tolerance
            step = alpha * error
            noise = (fixed + relative * abs(step)) * dtype(z_write[j])
            converged[j] = done
            if k < table.max_pulses:
                g[j] = g[j] if done else max(g[j] - step + noise, zero)
                pulses[j] += not done
                waiting += not done
        if waiting <= enough:
            return k + 1
    return table.max_pulses + 1


@njit
def program_verify(target, key, row, col, n, table, g, pulses, converged):
    """Program a block of devices with verification (equation: ProgramVerify).

    Iteration k takes its normals from the key threefry(key, k). A device has converged only if a read after its last
    pulse found it within the tolerance. The last quarter of the devices goes on by itself.

    Arguments  target [uS], n devices of each output; key (2,) uint32, one row of `write_keys`; row: input of the
               first device; col: its output; table: VerifyTable; g out [uS]; pulses integers out; converged bool out
    """
    size = target.shape[0]
    rows, cols = np.empty(size, u32), np.empty(size, u32)
    for start in range(0, size, n):
        for j in range(n):
            rows[start + j], cols[start + j] = u32(row + j), u32(col + start // n)
    for j in range(size):
        g[j], pulses[j], converged[j] = table.start_uS, 0, False
    following = _give_pulses(0, size // 4, target, key, rows, cols, table, g, pulses, converged)
    lane, left = np.empty(size, u32), u32(0)
    for j in range(size):
        lane[left] = u32(j)
        left = u32(left + u32(not converged[j]))
    if following > table.max_pulses or left == 0:
        return
    own_target, own_g = np.empty(left, g.dtype), np.empty(left, g.dtype)
    own_pulses, own_converged = np.empty(left, np.int32), np.empty(left, np.bool_)
    for k in range(own_g.shape[0]):
        j = lane[k]
        rows[k], cols[k] = rows[j], cols[j]  # never one that is still needed
        own_target[k], own_g[k], own_pulses[k], own_converged[k] = target[j], g[j], pulses[j], False
    _give_pulses(following, 0, own_target, key, rows, cols, table, own_g, own_pulses, own_converged)
    for k in range(own_g.shape[0]):
        j = lane[k]
        g[j], pulses[j], converged[j] = own_g[k], own_pulses[k], own_converged[k]


@njit(nogil=True, cache=True)
def single_shot_matrix(thread, first, last, target, key, row, first_col, sigma_write, g):
    """`single_shot` of outputs first to last - 1 of devices (n_out, n) from input `row`, output `first_col` on."""
    n = target.shape[1]
    z, spare = np.empty(n, f32), np.empty(n, f32)
    for o in range(first, last):
        single_shot(target[o], key, row, first_col + o, n, sigma_write, z, spare, g[o])
    return 0


@njit(nogil=True, cache=True)
def program_verify_matrix(thread, first, last, target, key, row, first_col, table, g, pulses, converged):
    """`program_verify` of outputs first to last - 1 of devices (n_out, n) from input `row`, output `first_col` on."""
    n = target.shape[1]
    for o in range(first, last):
        program_verify(target[o], key, row, first_col + o, n, table, g[o], pulses[o], converged[o])
    return 0


class ProgrammingReport(NamedTuple):
    """How the devices of a matrix took their targets. Counts of devices lie over residuals g - target and pulses."""

    devices: int
    unconverged: int
    converged_share: float
    analog_yield: float
    residual_rms_uS: float
    residual_edges_uS: NDArray[np.float64]
    residual_counts: NDArray[np.int64]
    pulses_counts: NDArray[np.int64]
    stuck: int = 0
    """Devices that are stuck (device.faults)."""
    without_current: int = 0
    """Devices on broken lines (tile.faults)."""
    retargeted: int = 0
    """Partners of such devices that were given the rest of the weight (programming.retarget_stuck)."""
    unreached: int = 0
    """How many of them the window kept from holding all of it."""
    unreached_rms_uS: float = 0.0
    """What these lack, root mean square."""
    limited_pulses: int = 0
    """Pulses of gradient descent that neither device of a pair could follow."""
    product_error: NDArray[np.float64] | None = None
    """Error of the products at each step of gradient descent, root mean square over tiles, in fully driven devices."""


def programming_report(
    target: Floats, programmed: Floats, pulses: NDArray[np.integer], converged: NDArray[np.bool_], span_uS: float
) -> ProgrammingReport:
    """Residuals, pulses and yield of pairs of devices.

    Equation   converged_share = devices within the tolerance at their last read / all; analog_yield = weights with
               |(g+ - g-) - (t+ - t-)| <= 0.2 span / all
    Arguments  target t, programmed g, pulses, converged (2, n_out, n): positive and negative devices; span_uS: the
               conductance difference of the largest weight [uS]
    Returns    ProgrammingReport; pulses_counts[k] devices took k pulses; residual_counts over residual_edges_uS,
               which reach over all residuals
    Source     S. Ambrogio et al., Nature 620, 768 (2023), DOI 10.1038/s41586-023-06337-5 (analog yield)
    """
    shape = target.shape
    if len(shape) != 3 or shape[0] != 2 or target.size == 0:
        raise UsageError(f"target has shape {shape}: must be (2, n_out, n), positive and negative devices")
    for name, array in (("programmed", programmed), ("pulses", pulses), ("converged", converged)):
        if array.shape != shape:
            raise UsageError(f"{name} has shape {array.shape}: must be that of target, {shape}")
    if not span_uS > 0:
        raise UsageError(f"span_uS = {span_uS:g}: must be above 0 uS")
    residual = programmed.astype(np.float64) - target
    if not np.isfinite(residual).all():
        raise UsageError("target and programmed must be finite")
    counts, edges = np.histogram(residual, bins=100)
    good = abs(residual[0] - residual[1]) <= ANALOG_YIELD_LIMIT * span_uS
    return ProgrammingReport(
        devices=target.size,
        unconverged=int((~converged).sum()),
        converged_share=float(converged.mean()),
        analog_yield=float(good.mean()),
        residual_rms_uS=float(np.sqrt((residual**2).mean())),
        residual_edges_uS=edges,
        residual_counts=counts,
        pulses_counts=np.bincount(pulses.ravel()),
    )
