"""The ageing kernel of the commonest case: one-sided pairs on which nothing but curves and normals acts.

It gives the weights that the devices of `conductance.age_conductances` make, in a third of the time. One device of such
a pair always has the lowest target, so its curves are looked up once for all weights; and everything happens in one
function, because each call that takes tables and buffers costs as much as a few hundred devices.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from crossbar_sim.kernels.bits import to_stored
from crossbar_sim.kernels.conductance import (
    CHUNK,
    DeviceKeys,
    DeviceTable,
    PlaneTable,
    exp2,
    locate,
    look_up,
    relative_weights,
)
from crossbar_sim.kernels.effects import Effects
from crossbar_sim.kernels.random import f32, fill_normals, i32, u32


def is_plain_pair(table: DeviceTable, plane: PlaneTable, effects: Effects) -> bool:
    """Whether `age_pairs` may take the place of `age_conductances`."""
    plus, minus = slice(0, None, 2), slice(1, None, 2)
    paired = len(plane.slope) % 2 == 0 and all(
        np.array_equal(part[plus], sign * part[minus])
        for part, sign in ((plane.slope, -1), (plane.offset, 1), (plane.weight, -1))
    )
    one_sided = bool((plane.slope[plus] > 0).all() and (plane.offset <= 0).all() and (plane.radix == 1).all())
    acted_on = effects.written_by or effects.has_temperature or effects.has_telegraph or effects.has_faults
    simple = not (table.noise_at_programmed or table.dead_uS > 0 or table.has_limits or len(table.shift))
    return paired and one_sided and simple and not acted_on


class PairTable(NamedTuple):
    """What `age_pairs` takes of a device and its plane, in few arrays."""

    writing: NDArray[np.float32]
    noise: NDArray[np.float32]
    has: NDArray[np.bool_]
    """Programming errors, drift, frozen noise, noise per read."""
    scales: NDArray[np.float64]
    """Nodes per uS, log2 of the drift time, g_min, span, lowest conductance after writing."""
    ramps: NDArray[np.float64]
    """(pairs, 3): slope and offset of a device for weights of its sign, factor of its current."""
    program_keys: NDArray[np.uint32]
    frozen_keys: NDArray[np.uint32]


def pair_table(table: DeviceTable, plane: PlaneTable, keys: DeviceKeys) -> PairTable:
    """The tables of a plane of which `is_plain_pair` holds."""
    lowest = 0.0 if table.floor_at_zero else -np.inf
    return PairTable(
        table.writing,
        table.noise,
        np.array([table.has_program, table.has_drift, table.has_frozen, table.has_read]),
        np.array([table.nodes_per_uS, table.log2_time, table.g_min_uS, table.span_uS, lowest]),
        np.stack([plane.slope, plane.offset, plane.weight], axis=1)[::2].copy(),
        keys.program,
        keys.frozen,
    )


@njit(inline="always")
def _swap(u, first, second, n):
    """Exchange first and second where u < 0, by their bits: a choice would be stored under a mask, which is slow."""
    a, b = first.view(np.int32), second.view(np.int32)
    for j in range(n):
        changed = i32(f32(u[j]).view(i32) >> i32(31)) & (a[j] ^ b[j])
        a[j] ^= changed
        b[j] ^= changed


@njit(parallel=True, cache=True)
def age_pairs(weights, w_max, writing, noise, has, scales, ramps, program_keys, frozen_keys, row, effective, variance):
    """Relative effective weights of one plane of one row of tiles, and their per-read variance.

    Equation   effective = sum weight_d g_d / span, variance = sum weight_d^2 var_d / span^2, span = g_max - g_min;
               of a pair, the device in use has the target of |u|, the one at rest the lowest; the sign of u tells
               which of them is g+
    Arguments  weights (n_out, n_in) of all inputs; w_max (n_out,); a PairTable; row: first input of the tiles;
               effective (n_out, n) out; variance (n_out, n) out, ignored where devices have no per-read noise; uint16
               holds bfloat16
    """
    dtype = weights.dtype.type
    zero = dtype(0)
    has_program, has_drift, has_frozen, has_read = has[0], has[1], has[2], has[3]
    log2_time, g_min, span, lowest = f32(scales[1]), dtype(scales[2]), dtype(scales[3]), dtype(scales[4])
    n_rows = writing.shape[0]
    low, node0, share0 = np.full(1, g_min), np.empty(1, np.uint32), np.empty(1, np.float32)
    locate(low, scales[0], n_rows, node0, share0)
    at_rest = np.empty((8, 1), np.float32)
    look_up(writing, node0, share0, at_rest[0], at_rest[1], at_rest[2], at_rest[3])
    look_up(noise, node0, share0, at_rest[4], at_rest[5], at_rest[6], at_rest[7])
    for col in prange(weights.shape[0]):
        u, target, g, rest = (
            np.empty(CHUNK, dtype),
            np.empty(CHUNK, dtype),
            np.empty(CHUNK, dtype),
            np.empty(CHUNK, dtype),
        )
        total, power = np.empty(CHUNK, dtype), np.empty(CHUNK, dtype)
        zp, zn, zf = np.zeros(CHUNK, np.float32), np.zeros(CHUNK, np.float32), np.zeros(CHUNK, np.float32)
        rp, rn, rf = np.zeros(CHUNK, np.float32), np.zeros(CHUNK, np.float32), np.zeros(CHUNK, np.float32)
        a, b = np.empty(CHUNK, np.float32), np.empty(CHUNK, np.float32)
        c, d = np.empty(CHUNK, np.float32), np.empty(CHUNK, np.float32)
        node, share = np.empty(CHUNK, np.uint32), np.empty(CHUNK, np.float32)
        for start in range(0, effective.shape[1], CHUNK):
            n = min(CHUNK, effective.shape[1] - start)
            first = u32(row + start)
            relative_weights(weights[col, row + start : row + start + n], w_max[col], u[:n])
            total[:n] = zero
            power[:n] = zero
            for pair in range(ramps.shape[0]):
                slope, offset, factor = dtype(ramps[pair, 0]), dtype(ramps[pair, 1]), dtype(ramps[pair, 2])
                for j in range(n):
                    target[j] = g_min + span * min(max(slope * abs(u[j]) + offset, zero), dtype(1))
                if has_program or has_drift:
                    key = program_keys[2 * pair]
                    fill_normals(key[0], key[1], first, u32(col), zp[:n], zn[:n])
                    key = program_keys[2 * pair + 1]
                    fill_normals(key[0], key[1], first, u32(col), rp[:n], rn[:n])
                    _swap(u, zp, rp, n)
                    _swap(u, zn, rn, n)
                if has_frozen:
                    key = frozen_keys[pair]
                    fill_normals(key[0], key[1], first, u32(col), zf[:n], rf[:n])
                    _swap(u, zf, rf, n)
                locate(target[:n], scales[0], n_rows, node, share)
                if has_program or has_drift:
                    look_up(writing, node[:n], share, a, b, c, d)
                if has_program:
                    bias, sigma = at_rest[0, 0], at_rest[1, 0]
                    for j in range(n):
                        written = target[j] + a[j] + b[j] * zp[j]
                        g[j] = lowest if written < lowest else written
                        written = g_min + bias + sigma * rp[j]
                        rest[j] = lowest if written < lowest else written
                else:
                    for j in range(n):
                        g[j] = target[j]
                        rest[j] = g_min
                if has_drift:
                    mean, spread = at_rest[2, 0], at_rest[3, 0]
                    for j in range(n):
                        g[j] *= exp2(-abs(c[j] + d[j] * zn[j]) * log2_time)
                    for j in range(n):
                        rest[j] *= exp2(-abs(mean + spread * rn[j]) * log2_time)
                if has_read or has_frozen:
                    look_up(noise, node[:n], share, a, b, c, d)
                if has_read:
                    absolute, relative = at_rest[6, 0], at_rest[7, 0]
                    for j in range(n):
                        read, other = c[j] + d[j] * g[j], absolute + relative * rest[j]
                        power[j] += factor * factor * (read * read) + factor * factor * (other * other)
                if has_frozen:
                    absolute, relative = at_rest[4, 0], at_rest[5, 0]
                    for j in range(n):
                        noisy = g[j] + (a[j] + b[j] * g[j]) * zf[j]
                        g[j] = lowest if noisy < lowest else noisy
                        noisy = rest[j] + (absolute + relative * rest[j]) * rf[j]
                        rest[j] = lowest if noisy < lowest else noisy
                for j in range(n):
                    difference = factor * (g[j] - rest[j])
                    total[j] += -difference if u[j] < zero else difference
            out = effective[col, start : start + n]
            for j in range(n):
                out[j] = total[j] / span
            if has_read:
                stored = variance[col, start : start + n]
                for j in range(n):
                    stored[j] = to_stored(variance, power[j] / (span * span))
