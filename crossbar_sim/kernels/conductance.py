"""Target -> conductance at a time: programming, drift and frozen noise of every device from its curves and its key.

Everything about a device is looked up in one table (`DeviceTable`), so any device runs through the same kernel.
Random numbers are keyed by the logical position (input, output) of the weight: tiles, threads and order do not matter.
Inner loops run over blocks of devices in stages, so that each stage is one vectorised loop and a stage that a device
does not need costs nothing.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from crossbar_sim.kernels.compiling import inner
from crossbar_sim.kernels.effects import (
    break_devices,
    heat_devices,
    partner_of,
    retarget_devices,
    switch_traps,
    take_given,
    write_devices,
)
from crossbar_sim.kernels.faults import fault_keys
from crossbar_sim.kernels.programming import write_keys
from crossbar_sim.kernels.random import f32, fill_columns, fill_normals, i32, random_key, u32
from crossbar_sim.kernels.shift import SHIFT_KEYS, shift_devices
from crossbar_sim.kernels.sums import sum_row
from crossbar_sim.kernels.telegraph import telegraph_keys
from crossbar_sim.kernels.views import float_of, shaped
from crossbar_sim.mapping import Layout
from device_models import DeviceCurves

BLOCK = 4096
"""Devices that share buffers: a call that takes all tables costs as much as some hundreds of them."""
_LOG2_E = 1.4426950408889634


class DeviceTable(NamedTuple):
    """DeviceCurves in the form that kernels take, and what of them is in use.

    Row i of `writing` and of `noise` holds four curves at node i, then what each gains up to node i + 1: bias, sigma,
    nu and its sigma; frozen noise absolute and relative, per-read noise absolute and relative. `varies` says which of
    the eight are in use and not constant. `shift` and `shift_path` are those of DeviceCurves, or empty.
    """

    writing: NDArray[np.float32]
    noise: NDArray[np.float32]
    varies: NDArray[np.bool_]
    shift: NDArray[np.float32]
    shift_path: NDArray[np.float32]
    nodes_per_uS: float
    top_uS: float
    log2_time: float
    g_min_uS: float
    span_uS: float
    dead_uS: float
    has_program: bool
    has_drift: bool
    has_frozen: bool
    has_read: bool
    noise_at_programmed: bool
    floor_at_zero: bool
    has_limits: bool
    floor_uS: float
    ceiling_uS: float


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
    curvature: NDArray[np.uint32]
    cubic: NDArray[np.uint32]
    shift: NDArray[np.uint32]


def device_table(curves: DeviceCurves, g_min_uS: float, g_max_uS: float, vary_per_read: bool = False) -> DeviceTable:
    """Tabulate the curves of a device in a conductance window for the kernels of this module.

    `vary_per_read` says that its effects have a per-read variance where its curves have none.
    """
    used = [bool(np.any(curve)) for curve in curves[1:9]]
    none = np.empty((0, 0), np.float32)
    path = np.empty(0) if curves.shift_path is None else curves.shift_path
    writing, noise = _rows(curves[1:5]), _rows(curves[5:9])
    has = any(used[:2]), curves.log_time > 0 and any(used[2:4]), any(used[4:6]), any(used[6:8])
    return DeviceTable(
        writing=writing,
        noise=noise,
        varies=np.repeat(has, 2) & np.concatenate([part[:, 4:].any(axis=0) for part in (writing, noise)]),
        shift=none if curves.shift_uS is None else np.ascontiguousarray(curves.shift_uS, np.float32),
        shift_path=path.astype(np.float32),
        nodes_per_uS=(len(curves.nodes_uS) - 1) / float(curves.nodes_uS[-1]),
        top_uS=float(curves.nodes_uS[-1]),
        log2_time=curves.log_time * _LOG2_E,
        g_min_uS=g_min_uS,
        span_uS=g_max_uS - g_min_uS,
        dead_uS=curves.dead_uS,
        has_program=has[0],
        has_drift=has[1],
        has_frozen=has[2],
        has_read=has[3] or vary_per_read,
        noise_at_programmed=curves.noise_at_programmed,
        floor_at_zero=curves.floor_uS is not None,
        has_limits=bool(curves.floor_uS) or curves.ceiling_uS is not None,
        floor_uS=-np.inf if curves.floor_uS is None else curves.floor_uS,
        ceiling_uS=np.inf if curves.ceiling_uS is None else curves.ceiling_uS,
    )


def _rows(curves: tuple[NDArray[np.float64], ...]) -> NDArray[np.float32]:
    nodes = np.stack(curves, axis=1)
    return np.concatenate([nodes[:-1], np.diff(nodes, axis=0)], axis=1, dtype=np.float32)


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
                curvature=_keys(seed, layer, "curvature", devices),
                cubic=_keys(seed, layer, "cubic", devices),
                shift=np.stack([_keys(seed, layer, f"shift {k}", devices) for k in range(SHIFT_KEYS)], axis=1),
            )
        )
        first += 2 * len(pairs)
    return found


def _keys(seed: int, layer: str, purpose: str, devices: range) -> NDArray[np.uint32]:
    return np.array([random_key(seed, layer, purpose, d) for d in devices], dtype=np.uint32)


@njit(inline="always")
def exp2(y):
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
    scale = float_of(u32(i32(i32(whole) + i32(127)) << i32(23)))
    return (f32(1.0) + x * p) * scale


@inner
def locate(g, nodes_per_uS, n_rows, node, share):
    """Node below each conductance and the share of the way to the next; values off the table take its ends."""
    scale = f32(nodes_per_uS)
    top = i32(n_rows - 1)
    for j in range(g.shape[0]):
        position = f32(g[j]) * scale
        below = min(max(i32(position), i32(0)), top)
        node[j] = u32(below)  # unsigned, because the sign of an index would be checked
        share[j] = min(max(position - f32(below), f32(0.0)), f32(1.0))


@njit
def look_up(rows, varies, node, share, found):
    """The four curves of a table at the located conductances; those that do not vary are left as they are."""
    for k in range(4):
        if varies[k]:
            for j in range(node.shape[0]):
                found[k, j] = rows[node[j], k] + share[j] * rows[node[j], k + 4]


@inner
def relative_weights(weights, w_max, u):
    """u = weights / w_max within +-1; 0 where w_max is 0."""
    zero, one = weights.dtype.type(0), weights.dtype.type(1)
    for j in range(weights.shape[0]):
        u[j] = min(max(weights[j] / w_max, -one), one) + zero if w_max > 0 else zero  # + 0 takes the sign from -0


@njit(error_model="numpy")  # a check for zero would keep the division from being vectorised
def take_digit(share, base, radix, levels):
    """Shares of the largest weight to a digit of theirs, relative to its largest; base and radix are powers of two."""
    dtype = share.dtype.type
    top = np.int64(base) * (np.int64(radix) - 1)  # the bits of the digit: not divided by base, above and below
    mask, largest = i32(top & 0x7FFFFFFF), dtype(top)  # levels have 15 bits at most, slices may have more
    for j in range(share.shape[0]):
        share[j] = dtype(i32(np.rint(share[j] * dtype(levels))) & mask) / largest


@njit
def _set_targets(u, plane, d, g_min, span, target):
    """Target conductances [uS] of device d of a plane (crossbar_sim.mapping.layout.WeightDevice)."""
    dtype = u.dtype.type
    zero, one = dtype(0), dtype(1)
    slope, offset = dtype(plane.slope[d]), dtype(plane.offset[d])
    for j in range(u.shape[0]):
        target[j] = min(max(slope * u[j] + offset, zero), one)
    if plane.radix[d] > 1:
        take_digit(target, plane.base[d], plane.radix[d], plane.levels)
    for j in range(u.shape[0]):
        target[j] = g_min + span * target[j]


@njit
def _age_devices(
    u, d, table, effects, plane, keys, row, col, n, target, normals, node, share, writing, noise, g, variance
):  # fmt: skip
    """g and per-read variance [uS, uS^2] of the devices d of a block of relative weights, n inputs of some outputs.

    normals rows: program, nu, frozen noise of this device and of its neighbour, which are drawn together; writing,
    noise: the curves of the table, of which those that do not vary are filled in
    """
    size = u.shape[0]
    dtype = u.dtype.type
    zero = dtype(0)
    lowest = zero if table.floor_at_zero else dtype(-np.inf)
    g_min, span, n_rows = dtype(table.g_min_uS), dtype(table.span_uS), table.writing.shape[0]
    z_program, z_nu, z_frozen = normals[0], normals[1], normals[2 + d % 2]
    _set_targets(u, plane, d, g_min, span, target)
    if effects.retargets:
        _set_targets(u, plane, partner_of(d), g_min, span, g)
        retarget_devices(effects, keys.faults, d, row, col, n, g, target)
    take_given(effects, d, row, col, n, target)
    if table.has_program or table.has_drift:
        fill_columns(keys.program[d], row, col, n, z_program, z_nu)
    if table.has_frozen and d % 2 == 0:
        fill_columns(keys.frozen[d // 2], row, col, n, normals[2], normals[3])
    locate(target, table.nodes_per_uS, n_rows, node, share)
    look_up(table.writing, table.varies[:4], node, share, writing)
    if not write_devices(effects, keys.write[d], row, col, n, target, g):
        if table.has_program:
            for j in range(size):
                written = target[j] + writing[0, j] + writing[1, j] * z_program[j]
                g[j] = lowest if written < lowest else written  # not in place, which would store under a slow mask
        else:
            for j in range(size):
                g[j] = target[j]
    if table.noise_at_programmed:
        for j in range(size):
            variance[j] = g[j]  # the programmed value, until the variance itself is known
    if table.has_drift:
        log2_time = f32(table.log2_time)
        for j in range(size):
            g[j] *= exp2(-abs(writing[2, j] + writing[3, j] * z_nu[j]) * log2_time)
    if table.shift.shape[0] > 0:
        shift_devices(table.shift, table.shift_path, f32(table.top_uS), keys.shift[d], row, col, n, target, g)
    if effects.has_temperature:
        heat_devices(effects, keys.temperature[d], row, col, n, node, share, g)
    if table.noise_at_programmed:
        locate(variance, table.nodes_per_uS, n_rows, node, share)
    look_up(table.noise, table.varies[4:], node, share, noise)
    if table.has_read:
        for j in range(size):
            read = noise[2, j] + noise[3, j] * g[j]
            variance[j] = read * read
    else:
        variance[:] = zero
    if table.has_frozen:
        for j in range(size):
            g[j] += (noise[0, j] + noise[1, j] * g[j]) * z_frozen[j]
    if effects.has_telegraph:
        switch_traps(effects, keys.telegraph[d], row, col, n, node, share, g, variance)
    if table.has_limits:
        low, high = dtype(table.floor_uS), dtype(table.ceiling_uS)
        for j in range(size):
            g[j] = min(max(g[j], low), high)
    if table.dead_uS > 0:
        for j in range(size):
            dead = target[j] < table.dead_uS
            g[j] = zero if dead else g[j]
            variance[j] = zero if dead else variance[j]
    if effects.has_faults:
        break_devices(effects, keys.faults[d], d, row, col, n, g, variance)
    if table.floor_at_zero:
        for j in range(size):
            g[j] = max(g[j], zero)


@njit
def _constants(rows, found):
    """The four curves of a table everywhere, as far as they do not vary."""
    for k in range(4):
        found[k] = rows[0, k]


@inner
def _copy(rows, out):
    """What an assignment does, which takes two seconds to compile for the text of an error that cannot occur."""
    for d in range(rows.shape[0]):
        for j in range(rows.shape[1]):
            out[d, j] = rows[d, j]


@njit(nogil=True, cache=True)
def age_conductances(
    thread, first, last, weights, w_max, table, effects, plane, keys, row, first_col, g, variance, effective, spread
):
    """Relative effective weights of outputs first to last - 1 on a row of tiles, or the devices behind them.

    Equation   effective = sum weight_d g_d / span, spread = sum weight_d^2 variance_d / span^2, span = g_max - g_min
    Arguments  weights (n_out, n_in) of all inputs; w_max (n_out,); row: first input of the tiles; first_col: the first
               output; g, variance (devices, n_out, n) out: conductances [uS] and their per-read variance [uS^2]; or
               these (0, 0, 0) and effective (n_out, n), spread (n_out, n) out: relative weights and their per-read
               variances, ignored where devices have none; uint16 holds bfloat16
    Returns    0
    """
    apart, n_devices = g.shape[0] > 0, plane.slope.shape[0]
    width = g.shape[2] if apart else effective.shape[1]
    longest = min(BLOCK, width)
    columns = BLOCK // longest  # of a block, which has more than one only if it has all their inputs
    dtype = weights.dtype.type
    unit, factor = dtype(table.span_uS), plane.weight.astype(weights.dtype)
    u, target = np.empty(BLOCK, weights.dtype), np.empty(BLOCK, weights.dtype)
    devices, spreads = np.empty(n_devices * BLOCK, weights.dtype), np.empty(n_devices * BLOCK, weights.dtype)
    normals, node, share = np.empty(4 * BLOCK, f32), np.empty(BLOCK, u32), np.empty(BLOCK, f32)
    writing, noise = np.empty((4, BLOCK), f32), np.empty((4, BLOCK), f32)
    _constants(table.writing, writing)
    _constants(table.noise, noise)
    for top in range(first, last, columns):
        end = min(top + columns, last)
        for start in range(0, width, longest):
            n = min(longest, width - start)
            stop, size = start + n, (end - top) * n
            own, own_spread = shaped(devices, 0, (n_devices, size)), shaped(spreads, 0, (n_devices, size))
            z = shaped(normals, 0, (4, size))
            for o in range(top, end):
                at = (o - top) * n
                relative_weights(weights[o, row + start : row + stop], w_max[o], u[at : at + n])
            for d in range(n_devices):
                _age_devices(
                    u[:size], d, table, effects, plane, keys, row + start, first_col + top, n, target[:size], z,
                    node[:size], share[:size], writing, noise, own[d], own_spread[d],
                )  # fmt: skip
            for o in range(top, end):
                part = slice((o - top) * n, (o - top + 1) * n)
                if apart:
                    _copy(own[:, part], g[:, o, start:stop])
                    _copy(own_spread[:, part], variance[:, o, start:stop])
                else:
                    sum_row(own[:, part], factor, unit, effective[o, start:stop])
                    if table.has_read:
                        sum_row(own_spread[:, part], factor * factor, unit * unit, spread[o, start:stop])
    return 0


@njit(nogil=True, cache=True)
def device_normals(key, row, first_col, z):
    """One standard normal for each device (n_out, n) of a tile from input `row` and output `first_col` on."""
    unused = np.empty(z.shape[1], np.float32)
    for o in range(z.shape[0]):
        fill_normals(key[0], key[1], u32(row), u32(first_col + o), z[o], unused)
