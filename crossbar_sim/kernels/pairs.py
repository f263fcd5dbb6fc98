"""The ageing kernel of the commonest case: one-sided pairs on which nothing but curves and normals acts.

It gives the weights that the devices of `conductance.age_conductances` make, in a third of the time. One device of such
a pair always has the lowest target, so only those of the other are looked up, and of these only the curves that are not
constant. Everything happens in one function, because each call that takes tables and buffers costs as much as a few
hundred devices.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from crossbar_sim.kernels.bits import to_stored
from crossbar_sim.kernels.conductance import (
    DeviceKeys,
    DeviceTable,
    PlaneTable,
    exp2,
    locate,
    relative_weights,
    take_digit,
)
from crossbar_sim.kernels.effects import Effects
from crossbar_sim.kernels.random import f32, fill_normals, i32, u32
from crossbar_sim.kernels.views import bits_of, float_of, shaped

CHUNK = 512
"""Inputs that share buffers, which stay in the first-level cache."""

_BIAS, _SIGMA, _NU, _NU_SIGMA, _FROZEN, _FROZEN_REL, _READ, _READ_REL = range(8)


def is_plain_pair(table: DeviceTable, plane: PlaneTable, effects: Effects) -> bool:
    """Whether the kernels of this module may take the place of `age_conductances`."""
    plus, minus = slice(0, None, 2), slice(1, None, 2)
    paired = len(plane.slope) % 2 == 0 and all(
        np.array_equal(part[plus], sign * part[minus])
        for part, sign in ((plane.slope, -1), (plane.offset, 1), (plane.weight, -1), (plane.base, 1), (plane.radix, 1))
    )
    one_sided = bool((plane.slope[plus] > 0).all() and (plane.offset <= 0).all())
    whole = bool((plane.radix == 1).all()) or (len(plane.radix) == 2 and plane.slope[0] == 1 and plane.offset[0] == 0)
    acted_on = (
        effects.written_by
        or effects.has_temperature
        or effects.has_telegraph
        or effects.has_faults
        or effects.retargets
    )
    simple = not (table.noise_at_programmed or table.dead_uS > 0 or table.has_limits or len(table.shift))
    return paired and one_sided and whole and simple and not acted_on


@njit(nogil=True, cache=True)
def slice_weights(thread, first, last, weights, w_max, base, radix, levels, row, stop, digits):
    """Weights that the pairs of a slice hold, in inputs row to stop - 1 of outputs first to last - 1; returns 0.

    Arguments  weights (n_out, n_in); w_max (n_out,); base, radix, levels: a PlaneTable; digits (n_out, n_in) out, of
               which other inputs are left as they are: digits within +-1, with the signs of the weights
    """
    zero = weights.dtype.type(0)
    u, share = np.empty(stop - row, weights.dtype), np.empty(stop - row, weights.dtype)
    for col in range(first, last):
        relative_weights(weights[col, row:stop], w_max[col], u)
        for j in range(u.shape[0]):
            share[j] = abs(u[j])
        take_digit(share, base, radix, levels)
        for j in range(u.shape[0]):
            digits[col, row + j] = -share[j] if u[j] < zero else share[j]
    return 0


class PairTable(NamedTuple):
    """What the kernels take of a device and its plane, in few arrays."""

    writing: NDArray[np.float32]
    noise: NDArray[np.float32]
    varies: NDArray[np.bool_]
    """(8,) curves of `writing`, then of `noise`, that are in use and not constant."""
    has: NDArray[np.bool_]
    """Programming errors, drift, frozen noise, noise per read."""
    scales: NDArray[np.float64]
    """Nodes per uS, log2 of the drift time, g_min, span, lowest conductance after writing."""
    ramps: NDArray[np.float64]
    """(pairs, 3): slope and offset of a device for weights of its sign, factor of its current."""
    keys: NDArray[np.uint32]
    """(pairs, 3, 2): of programming and drift of the first device and of the second, of the frozen noise of both."""


def pair_table(table: DeviceTable, plane: PlaneTable, keys: DeviceKeys) -> PairTable:
    """The tables of a plane of which `is_plain_pair` holds."""
    has = np.array([table.has_program, table.has_drift, table.has_frozen, table.has_read])
    lowest = 0.0 if table.floor_at_zero else -np.inf
    drawn = keys.program.reshape(-1, 2, 2)
    return PairTable(
        table.writing,
        table.noise,
        table.varies,
        has,
        np.array([table.nodes_per_uS, table.log2_time, table.g_min_uS, table.span_uS, lowest]),
        np.stack([plane.slope, plane.offset, plane.weight], axis=1)[::2].copy(),
        np.concatenate([drawn, keys.frozen[: len(drawn), None]], axis=1),
    )


@njit(nogil=True, cache=True)
def age_pairs(
    thread, first, last, weights, w_max, writing, noise, varies, has, scales, ramps, keys, row, first_col, effective,
    variance,
):  # fmt: skip
    """Relative effective weights of outputs first to last - 1 on a row of tiles, or the devices behind them.

    Equation   effective = sum weight_d g_d / span, variance = sum weight_d^2 var_d / span^2, span = g_max - g_min;
               of a pair, the device in use has the target of |u|, the one at rest the lowest; the sign of u tells
               which of them is g+
    Arguments  weights (n_out, n_in) of all inputs; w_max (n_out,); a PairTable; row: first input of the tiles;
               first_col: the first output; effective (n_out, n) out, or (devices, n_out, n) for conductances [uS];
               variance of the same shape out: per-read variances, those of conductances in uS^2; ignored where
               devices have none; uint16 holds bfloat16, in both
    Returns    0
    """
    dtype = weights.dtype.type
    zero = dtype(0)
    has_program, has_drift, has_frozen, has_read = has[0], has[1], has[2], has[3]
    log2_time, g_min, span, lowest = f32(scales[1]), dtype(scales[2]), dtype(scales[3]), dtype(scales[4])
    n_nodes, width = writing.shape[0], effective.shape[-1]
    chunk = min(CHUNK, width)
    room, curves, node = np.empty((9, chunk), dtype), np.empty((23, chunk), np.float32), np.empty(chunk, np.uint32)
    u, total, power = shaped(room, 0, (chunk,)), shaped(room, chunk, (chunk,)), shaped(room, 2 * chunk, (chunk,))
    # rows of `side`: the device in use, the one at rest
    target, g = shaped(room, 3 * chunk, (2, chunk)), shaped(room, 5 * chunk, (2, chunk))
    spread = shaped(room, 7 * chunk, (2, chunk))
    z = shaped(curves, 0, (6, chunk))  # programming and drift of each, then frozen noise of each
    found, share = shaped(curves, 6 * chunk, (8, 2, chunk)), shaped(curves, 22 * chunk, (chunk,))
    for j in range(chunk):
        target[1, j] = g_min
    locate(target[1], scales[0], n_nodes, node, share)
    for k in range(4):
        for side in range(2):
            for j in range(chunk):
                found[k, side, j] = writing[node[0], k] + share[0] * writing[node[0], k + 4]
                found[k + 4, side, j] = noise[node[0], k] + share[0] * noise[node[0], k + 4]
    for start in range(0, width, chunk):
        n = min(chunk, width - start)
        stop = start + n
        counter = u32(row + start)
        u_part, in_use, node_part, share_part = u[:n], target[0, :n], node[:n], share[:n]
        for col in range(first, last):
            relative_weights(weights[col, row + start : row + stop], w_max[col], u_part)
            for j in range(n):
                total[j] = zero
                power[j] = zero
            for pair in range(ramps.shape[0]):
                slope, offset, factor = dtype(ramps[pair, 0]), dtype(ramps[pair, 1]), dtype(ramps[pair, 2])
                for j in range(n):
                    in_use[j] = g_min + span * min(max(slope * abs(u[j]) + offset, zero), dtype(1))
                for k in range(0 if has_program or has_drift else 2, 3 if has_frozen else 2):
                    key0, key1 = keys[pair, k, 0], keys[pair, k, 1]
                    fill_normals(key0, key1, counter, u32(first_col + col), z[2 * k, :n], z[2 * k + 1, :n])
                for k in range(3):
                    if has[k]:  # of negative weights, the second device is in use
                        a, b = (k, k + 2) if k < 2 else (4, 5)
                        for j in range(n):  # by their bits: a choice would be stored under a mask, which is slow
                            one, other = bits_of(z[a, j]), bits_of(z[b, j])
                            changed = u32(i32(bits_of(f32(u[j]))) >> i32(31)) & (one ^ other)
                            z[a, j] = float_of(one ^ changed)
                            z[b, j] = float_of(other ^ changed)
                locate(in_use, scales[0], n_nodes, node_part, share_part)
                for k in range(4):
                    if varies[k]:
                        for j in range(n):
                            found[k, 0, j] = writing[node[j], k] + share[j] * writing[node[j], k + 4]
                    if varies[k + 4]:
                        for j in range(n):
                            found[k + 4, 0, j] = noise[node[j], k] + share[j] * noise[node[j], k + 4]
                for side in range(2):
                    if has_program:
                        for j in range(n):
                            written = target[side, j] + found[_BIAS, side, j] + found[_SIGMA, side, j] * z[2 * side, j]
                            g[side, j] = lowest if written < lowest else written
                    else:
                        for j in range(n):
                            g[side, j] = target[side, j]
                    if has_drift:
                        for j in range(n):
                            nu = abs(found[_NU, side, j] + found[_NU_SIGMA, side, j] * z[2 * side + 1, j])
                            g[side, j] *= exp2(-nu * log2_time)
                    if has_read:
                        for j in range(n):
                            read = found[_READ, side, j] + found[_READ_REL, side, j] * g[side, j]
                            spread[side, j] = read * read
                    if has_frozen:
                        for j in range(n):
                            error = found[_FROZEN, side, j] + found[_FROZEN_REL, side, j] * g[side, j]
                            noisy = g[side, j] + error * z[4 + side, j]
                            g[side, j] = lowest if noisy < lowest else noisy
                if effective.ndim == 3:  # known when this is compiled: the other branch then is not
                    for side in range(2):
                        devices, (used, idle) = 2 * pair + side, (g[side, :n], g[1 - side, :n])
                        out = effective[devices, col, start:stop]
                        for j in range(n):
                            one, other = used[j], idle[j]
                            out[j] = to_stored(effective, other if u_part[j] < zero else one)
                        if has_read:
                            used, idle = spread[side, :n], spread[1 - side, :n]
                            stored = variance[devices, col, start:stop]
                            for j in range(n):
                                one, other = used[j], idle[j]
                                stored[j] = to_stored(variance, other if u_part[j] < zero else one)
                else:
                    for j in range(n):
                        difference = factor * (g[0, j] - g[1, j])
                        total[j] += -difference if u[j] < zero else difference
                    for j in range(n if has_read else 0):
                        power[j] += factor * factor * spread[0, j] + factor * factor * spread[1, j]
            if effective.ndim == 2:
                out = effective[col, start:stop]
                for j in range(n):
                    out[j] = to_stored(effective, total[j] / span)
                if has_read:
                    stored = variance[col, start:stop]
                    for j in range(n):
                        stored[j] = to_stored(variance, power[j] / (span * span))
    return 0
