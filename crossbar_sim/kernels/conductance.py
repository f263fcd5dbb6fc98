"""Target -> conductance at a time: programming, drift and frozen noise of every device from its curves and its key.

Everything about a device is looked up in one table (`DeviceTable`), so any device runs through the same kernel.
Random numbers are keyed by the logical position (input, output) of the weight: tiles, threads and order do not matter.
Inner loops run over short chunks in stages, so that each stage is one vectorised loop and a stage that a device does
not need costs nothing.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from crossbar_sim.kernels.bits import to_stored
from crossbar_sim.kernels.effects import break_devices, heat_devices, switch_traps, write_devices
from crossbar_sim.kernels.faults import fault_keys
from crossbar_sim.kernels.programming import write_keys
from crossbar_sim.kernels.random import f32, fill_normals, i32, random_key, u32
from crossbar_sim.kernels.telegraph import telegraph_keys
from crossbar_sim.mapping import Layout
from device_models import DeviceCurves

CHUNK = 512
_LOG2_E = 1.4426950408889634
_BIAS, _SIGMA, _NU, _NU_SIGMA, _FROZEN_ABS, _FROZEN_REL, _READ_ABS, _READ_REL = range(8)


class DeviceTable(NamedTuple):
    """DeviceCurves in the form that kernels take: one interleaved float32 table and what of it is in use."""

    curves: NDArray[np.float32]
    nodes_per_uS: float
    log2_time: float
    g_min_uS: float
    span_uS: float
    dead_uS: float
    has_bias: bool
    has_program: bool
    has_drift: bool
    has_frozen: bool
    has_frozen_abs: bool
    has_read: bool
    has_read_abs: bool
    noise_at_programmed: bool
    floor_at_zero: bool


class PlaneTable(NamedTuple):
    """A Plane in the form that kernels take: one entry for each of its devices."""

    slope: NDArray[np.float64]
    offset: NDArray[np.float64]
    weight: NDArray[np.float64]
    base: NDArray[np.int64]
    radix: NDArray[np.int64]
    levels: int


class DeviceKeys(NamedTuple):
    """Keys of the devices of a plane, a row for each; two neighbouring devices share one of frozen noise."""

    program: NDArray[np.uint32]
    frozen: NDArray[np.uint32]
    write: NDArray[np.uint32]
    temperature: NDArray[np.uint32]
    telegraph: NDArray[np.uint32]
    faults: NDArray[np.uint32]
    polarity: NDArray[np.uint32]


def device_table(curves: DeviceCurves, g_min_uS: float, g_max_uS: float, vary_per_read: bool = False) -> DeviceTable:
    """Tabulate the curves of a device in a conductance window for the kernels of this module.

    `vary_per_read` says that its effects have a per-read variance where its curves have none.
    """
    columns = np.stack(curves[1:9], axis=1).astype(np.float32)
    used = [bool(column.any()) for column in columns.T]
    return DeviceTable(
        curves=np.ascontiguousarray(columns),
        nodes_per_uS=(len(curves.nodes_uS) - 1) / float(curves.nodes_uS[-1]),
        log2_time=curves.log_time * _LOG2_E,
        g_min_uS=g_min_uS,
        span_uS=g_max_uS - g_min_uS,
        dead_uS=curves.dead_uS,
        has_bias=used[_BIAS],
        has_program=used[_SIGMA],
        has_drift=bool(curves.log_time > 0 and (used[_NU] or used[_NU_SIGMA])),
        has_frozen=used[_FROZEN_ABS] or used[_FROZEN_REL],
        has_frozen_abs=used[_FROZEN_ABS],
        has_read=used[_READ_ABS] or used[_READ_REL] or vary_per_read,
        has_read_abs=used[_READ_ABS],
        noise_at_programmed=curves.noise_at_programmed,
        floor_at_zero=curves.floor_at_zero,
    )


def plane_tables(layout: Layout) -> list[PlaneTable]:
    """Tabulate the planes of a layout for the kernels of this module."""
    tables = []
    for plane in layout.planes:
        slope, offset, weight = (np.array([device[i] for device in plane.devices], dtype=np.float64) for i in range(3))
        base, radix = (np.array([device[i] for device in plane.devices], dtype=np.int64) for i in (3, 4))
        tables.append(PlaneTable(slope, offset, weight, base, radix, layout.levels))
    return tables


def device_keys(seed: int, layer: str, layout: Layout, traps: int = 0) -> list[DeviceKeys]:
    """Keys of a layer's devices, for each plane; `traps` is the number of traps of a device."""
    found = []
    first = 0
    for plane in layout.planes:
        devices = range(first, first + len(plane.devices))
        pairs = range(first // 2, first // 2 + -(-len(plane.devices) // 2))
        found.append(
            DeviceKeys(
                program=_keys(seed, layer, "program", devices),
                frozen=_keys(seed, layer, "frozen", pairs),
                write=write_keys(seed, layer, devices),
                temperature=_keys(seed, layer, "temperature", devices),
                telegraph=telegraph_keys(seed, layer, max(traps, 1), devices),
                faults=fault_keys(seed, layer, devices),
                polarity=_keys(seed, layer, "polarity", devices),
            )
        )
        first += 2 * len(pairs)
    return found


def _keys(seed: int, layer: str, purpose: str, devices: range) -> NDArray[np.uint32]:
    return np.array([random_key(seed, layer, purpose, d) for d in devices], dtype=np.uint32)


@njit(inline="always")
def _exp2(y):
    """2^y for -126 <= y <= 126 in float32, relative error below 2e-7 (coefficients: Cephes)."""
    y = min(max(f32(y), f32(-126.0)), f32(126.0))
    whole = np.rint(y)
    x = y - whole
    p = f32(1.535336188319500e-4)
    p = p * x + f32(1.339887440266574e-3)
    p = p * x + f32(9.618437357674640e-3)
    p = p * x + f32(5.550332471162809e-2)
    p = p * x + f32(2.402264791363012e-1)
    p = p * x + f32(6.931472028550421e-1)
    scale = i32(i32(i32(whole) + i32(127)) << i32(23)).view(f32)
    return (f32(1.0) + x * p) * scale


@njit
def _locate(g, nodes_per_uS, last, node, share):
    """Node below each conductance and the share of the way to the next; values off the table take its ends."""
    scale = f32(nodes_per_uS)
    top = i32(last - 1)
    for j in range(g.shape[0]):
        position = f32(g[j]) * scale
        below = min(max(i32(position), i32(0)), top)
        node[j] = u32(below)  # unsigned, because the sign of an index would be checked
        share[j] = min(max(position - f32(below), f32(0.0)), f32(1.0))


@njit(inline="always")
def _at(curves, column, node, share):
    low = curves[node, column]
    return low + share * (curves[u32(node + u32(1)), column] - low)


@njit
def _age_devices(target, table, effects, keys, d, row, col, z_program, z_nu, z_frozen, g, variance, node, share):
    """g and per-read variance [uS, uS^2] of a chunk of devices d with given targets and normals."""
    n = target.shape[0]
    zero = target.dtype.type(0)
    curves = table.curves
    last = curves.shape[0] - 1
    _locate(target, table.nodes_per_uS, last, node, share)
    if not write_devices(effects, keys.write[d], row, col, target, g):
        for j in range(n):
            g[j] = target[j]
        if table.has_bias:
            for j in range(n):
                g[j] += _at(curves, _BIAS, node[j], share[j])
        if table.has_program:
            for j in range(n):
                g[j] += _at(curves, _SIGMA, node[j], share[j]) * z_program[j]
        if (table.has_bias or table.has_program) and table.floor_at_zero:
            for j in range(n):
                g[j] = max(g[j], zero)
    for j in range(n):
        variance[j] = g[j]  # the programmed value, until the variance itself is known
    if table.has_drift:
        log2_time = f32(table.log2_time)
        for j in range(n):
            nu = _at(curves, _NU, node[j], share[j]) + _at(curves, _NU_SIGMA, node[j], share[j]) * z_nu[j]
            z_nu[j] = -abs(nu) * log2_time
        for j in range(n):  # apart from the look-up: each of the two loops is vectorised, their union is not
            g[j] *= _exp2(z_nu[j])
    if effects.has_temperature:
        heat_devices(effects, keys.temperature[d], row, col, node, share, g)
    if table.noise_at_programmed:
        _locate(variance, table.nodes_per_uS, last, node, share)
    if table.has_read:
        for j in range(n):
            read = _at(curves, _READ_REL, node[j], share[j]) * g[j]
            if table.has_read_abs:
                read += _at(curves, _READ_ABS, node[j], share[j])
            variance[j] = read * read
    if table.has_frozen:
        for j in range(n):
            frozen = _at(curves, _FROZEN_REL, node[j], share[j]) * g[j]
            if table.has_frozen_abs:
                frozen += _at(curves, _FROZEN_ABS, node[j], share[j])
            g[j] += frozen * z_frozen[j]
    if effects.has_telegraph:
        switch_traps(effects, keys.telegraph[d], row, col, node, share, g, variance)
    if table.dead_uS > 0:
        for j in range(n):
            if target[j] < table.dead_uS:
                g[j] = zero
                variance[j] = zero
    if effects.has_faults:
        break_devices(effects, keys.faults[d], row, col, g, variance)
    if table.floor_at_zero:
        for j in range(n):
            g[j] = max(g[j], zero)


@njit
def _relative_weights(weights, w_max, u):
    """u = weights / w_max within +-1; 0 where w_max is 0."""
    one = weights.dtype.type(1)
    for j in range(weights.shape[0]):
        u[j] = min(max(weights[j] / w_max, -one), one) if w_max > 0 else weights.dtype.type(0)


@njit
def _set_targets(u, plane, d, g_min, span, target):
    """Target conductances [uS] of device d of a plane (crossbar_sim.mapping.layout.WeightDevice)."""
    dtype = u.dtype.type
    zero, one = dtype(0), dtype(1)
    slope, offset = dtype(plane.slope[d]), dtype(plane.offset[d])
    for j in range(u.shape[0]):
        target[j] = min(max(slope * u[j] + offset, zero), one)
    if plane.radix[d] > 1:
        base, radix, levels = plane.base[d], plane.radix[d], dtype(plane.levels)
        for j in range(u.shape[0]):
            target[j] = dtype(i32(np.rint(target[j] * levels)) // base % radix) / dtype(radix - 1)
    for j in range(u.shape[0]):
        target[j] = g_min + span * target[j]


@njit
def _age_device(u, d, table, effects, plane, keys, row, col, scratch, normals, node, share):
    """Device d of a chunk of weights of output `col`, inputs from `row` on; (g, per-read variance) in uS.

    normals rows: program, nu, frozen noise of this device and of its neighbour, which are drawn together.
    """
    n = u.shape[0]
    dtype = u.dtype.type
    target, g, variance = scratch[0, :n], scratch[1, :n], scratch[2, :n]
    z_program, z_nu = normals[0, :n], normals[1, :n]
    _set_targets(u, plane, d, dtype(table.g_min_uS), dtype(table.span_uS), target)
    if table.has_program or table.has_drift:
        fill_normals(keys.program[d, 0], keys.program[d, 1], u32(row), u32(col), z_program, z_nu)
    if table.has_frozen and d % 2 == 0:
        key = keys.frozen[d // 2]
        fill_normals(key[0], key[1], u32(row), u32(col), normals[2, :n], normals[3, :n])
    z_frozen = normals[2 + d % 2, :n]
    _age_devices(target, table, effects, keys, d, row, col, z_program, z_nu, z_frozen, g, variance, node[:n], share[:n])
    return g, variance


@njit(parallel=True, cache=True)
def age_matrix(weights, w_max, table, effects, plane, keys, row, effective, variance):
    """Relative effective weights of one plane of one row of tiles, and their per-read variance.

    Equation   effective = sum weight_d g_d / span, variance = sum weight_d^2 var_d / span^2, span = g_max - g_min;
               for a pair (g+ - g-) / span
    Arguments  weights (n_out, n); w_max (n_out,); row: index of the first input; effective (n_out, n) out;
               variance (n_out, n) out, ignored where the device has no per-read noise; uint16 holds bfloat16
    """
    dtype = weights.dtype.type
    span = dtype(table.span_uS)
    n_devices = plane.slope.shape[0]
    for col in prange(weights.shape[0]):
        scratch = np.empty((6, CHUNK), weights.dtype)
        normals = np.empty((4, CHUNK), np.float32)
        node, share = np.empty(CHUNK, np.uint32), np.empty(CHUNK, np.float32)
        for start in range(0, weights.shape[1], CHUNK):
            stop = min(start + CHUNK, weights.shape[1])
            n = stop - start
            u, total, power = scratch[3, :n], scratch[4, :n], scratch[5, :n]
            _relative_weights(weights[col, start:stop], w_max[col], u)
            total[:] = dtype(0)
            power[:] = dtype(0)
            for d in range(n_devices):
                g, spread = _age_device(
                    u, d, table, effects, plane, keys, row + start, col, scratch, normals, node, share
                )
                factor = dtype(plane.weight[d])
                for j in range(n):
                    total[j] += factor * g[j]
                if table.has_read:
                    for j in range(n):
                        power[j] += factor * factor * spread[j]
            out = effective[col, start:stop]
            for j in range(n):
                out[j] = total[j] / span
            if table.has_read:
                stored = variance[col, start:stop]
                for j in range(n):
                    stored[j] = to_stored(variance, power[j] / (span * span))


@njit(parallel=True, cache=True)
def age_conductances(weights, w_max, table, effects, plane, keys, row, first_col, g, variance):
    """Conductances [uS] of the devices of one plane of one tile, and their per-read variance [uS^2].

    Arguments  weights (n_out, n), first input `row`, first output `first_col`; g, variance (devices, n_out, n) out
    """
    for o in prange(weights.shape[0]):
        scratch = np.empty((4, CHUNK), weights.dtype)
        normals = np.empty((4, CHUNK), np.float32)
        node, share = np.empty(CHUNK, np.uint32), np.empty(CHUNK, np.float32)
        for start in range(0, weights.shape[1], CHUNK):
            stop = min(start + CHUNK, weights.shape[1])
            u = scratch[3, : stop - start]
            _relative_weights(weights[o, start:stop], w_max[o], u)
            for d in range(plane.slope.shape[0]):
                found, spread = _age_device(
                    u, d, table, effects, plane, keys, row + start, first_col + o, scratch, normals, node, share
                )
                g[d, o, start:stop] = found
                if table.has_read:
                    variance[d, o, start:stop] = spread
                else:
                    variance[d, o, start:stop] = weights.dtype.type(0)


@njit(parallel=True, cache=True)
def device_normals(key, row, first_col, z):
    """One standard normal for each device (n_out, n) of a tile from input `row` and output `first_col` on."""
    for o in prange(z.shape[0]):
        fill_normals(key[0], key[1], u32(row), u32(first_col + o), z[o], np.empty(z.shape[1], np.float32))
