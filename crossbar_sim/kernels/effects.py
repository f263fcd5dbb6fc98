"""Effects that any device may have, in the form that the ageing kernels take, and their calls from inside them.

Functions take a block of devices: from input `row` and output `col` on, n inputs of each output, as flat arrays.

Order: programming, drift, temperature, frozen noise, telegraph noise, stuck devices, limit at zero.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from crossbar_sim.kernels.faults import FaultTable, find_stuck
from crossbar_sim.kernels.lines import BrokenLines
from crossbar_sim.kernels.programming import VerifyTable, program_verify, single_shot
from crossbar_sim.kernels.random import f32, fill_columns, u32
from crossbar_sim.kernels.telegraph import TelegraphTable, add_telegraph

Curve = NDArray[np.float32]

LAW, SHOT, VERIFY, GIVEN = range(4)
"""What devices are written by: the law of the device, one pulse, pulses with verification; or they were before."""
_NO_DEVICES = np.zeros((0, 0, 0), np.float32)
_NO_LINES = np.zeros((0, 0, 0), np.bool_)
_NO_TILES = np.zeros(0, np.int32)


class Effects(NamedTuple):
    """All effects of a device. Flat, because parallel kernels take no tuples of tuples.

    log_factor is ln(g(T) / g(T_ref)) over the nodes of the target; trap_delta_uS is the amplitude of the traps over the
    nodes at which read noise is looked up (DeviceCurves), the target or the programmed conductance; the numbers of a
    table (VerifyTable, TelegraphTable, FaultTable) and shot_sigma stand where it is on. What belongs to a plane of a
    matrix comes with `on_plane`: `written_uS` (devices, n_out, n_in), conductances that programming ended with, and the
    broken lines of kernels.lines.
    """

    written_by: int
    shot_sigma: float
    verify: NDArray[np.float64]
    has_temperature: bool
    log_factor: Curve
    log_sigma: float
    has_telegraph: bool
    trap_words: NDArray[np.uint64]
    traps: NDArray[np.float64]
    trap_delta_uS: Curve
    has_faults: bool
    fault_words: NDArray[np.uint64]
    fault_window_uS: NDArray[np.float64]
    retargets: bool
    written_uS: NDArray[np.float32] = _NO_DEVICES
    word_broken: NDArray[np.bool_] = _NO_LINES
    bit_broken: NDArray[np.bool_] = _NO_LINES
    row_tile: NDArray[np.int32] = _NO_TILES
    col_tile: NDArray[np.int32] = _NO_TILES

    def on_plane(self, devices: slice, lines: BrokenLines | None, written_uS: NDArray[np.float32] | None) -> Effects:
        """The effects on the devices of one plane of a matrix, which are `devices` of each weight."""
        found = self
        if written_uS is not None:
            found = found._replace(written_by=GIVEN, written_uS=written_uS[devices])
        if lines is not None:
            found = found._replace(
                has_faults=True,
                word_broken=np.ascontiguousarray(lines.word[:, devices]),
                bit_broken=np.ascontiguousarray(lines.bit[:, devices]),
                row_tile=lines.row_tile,
                col_tile=lines.col_tile,
            )
        return found

    @property
    def vary_per_read(self) -> bool:
        """Whether some traps switch faster than the observation window, so that each read meets another state."""
        return self.has_telegraph and bool(self.trap_words[2] > 0)


@njit(inline="always")
def _look_up(curve, node, share):
    low = curve[node]
    return low + share * (curve[u32(node + u32(1))] - low)


@njit
def unusable_devices(effects, key, d, row, col, n, held, unusable):
    """Which devices d of a block are stuck or on a broken line, and the conductance they hold [uS].

    Arguments  key: one row of keys.faults; held out, of no meaning where usable; unusable bool out
    """
    words, window = effects.fault_words, effects.fault_window_uS
    table = FaultTable(words[0], words[1], words[2], window[0], window[1])
    unusable[:] = False
    for start in range(0, held.shape[0], n):
        o, own = col + start // n, slice(start, start + n)
        if words[2] > 0:
            find_stuck(key, row, o, table, held[own], unusable[own])
        if effects.col_tile.shape[0] > 0:
            tile = effects.col_tile[o]
            for j in range(n):
                place = row + j
                if effects.word_broken[tile, d, place] or effects.bit_broken[effects.row_tile[place], d, o]:
                    held[start + j] = held.dtype.type(0)
                    unusable[start + j] = True


@njit(inline="always")
def partner_of(d):
    """The other device of a pair: positive and negative ones take turns."""
    return d ^ 1


@njit
def retarget_devices(effects, keys, d, row, col, n, partner_target, target):
    """Let the devices d of a block take over from unusable partners, within the window (AbstractTargetProgramming).

    Arguments  keys: those of keys.faults; partner_target, target [uS], `target` changed in place
    """
    dtype = target.dtype.type
    partner = partner_of(d)
    held, unusable = np.empty_like(target), np.empty(target.shape[0], np.bool_)
    unusable_devices(effects, keys[partner], partner, row, col, n, held, unusable)
    low, high = dtype(effects.fault_window_uS[0]), dtype(effects.fault_window_uS[1])
    for j in range(target.shape[0]):
        taken = min(max(held[j] + target[j] - partner_target[j], low), high)
        target[j] = taken if unusable[j] else target[j]


@njit
def take_given(effects, d, row, col, n, target):
    """Where programming ended with given conductances, these are what devices d of a block stand at: their targets."""
    if effects.written_by == GIVEN:
        for start in range(0, target.shape[0], n):
            for j in range(n):
                target[start + j] = effects.written_uS[d, col + start // n, row + j]


@njit
def write_devices(effects, key, row, col, n, target, g):
    """Program a block of devices by pulses; where that is not how it is done, return False and do nothing."""
    size = g.shape[0]
    if effects.written_by == VERIFY:
        v = effects.verify
        table = VerifyTable(v[0], v[1], v[2], int(v[3]), v[4], v[5], v[6])
        pulses, converged = np.empty(size, np.int32), np.empty(size, np.bool_)
        program_verify(target, key, row, col, n, table, g, pulses, converged)
    elif effects.written_by == GIVEN:
        for j in range(size):
            g[j] = target[j]
    elif effects.written_by == SHOT:
        single_shot(target, key, row, col, n, effects.shot_sigma, np.empty(size, f32), np.empty(size, f32), g)
    return effects.written_by != LAW


@njit
def heat_devices(effects, key, row, col, n, node, share, g):
    """Take a block of devices to the temperature of the read."""
    size = g.shape[0]
    z, spare = np.zeros(size, f32), np.empty(size, f32)
    if effects.log_sigma != 0:
        fill_columns(key, row, col, n, z, spare)
    sigma = f32(effects.log_sigma)
    for j in range(size):
        g[j] *= np.exp(_look_up(effects.log_factor, node[j], share[j]) + sigma * z[j])


@njit
def switch_traps(effects, keys, row, col, n, node, share, g, variance):
    """Add the telegraph noise of a block of devices to their conductance and per-read variance."""
    delta = np.empty_like(g)
    for j in range(g.shape[0]):
        delta[j] = _look_up(effects.trap_delta_uS, node[j], share[j])
    words, traps = effects.trap_words, effects.traps
    table = TelegraphTable(traps[0], words[0], words[1], words[2], traps[1], traps[2], traps[3])
    add_telegraph(keys, row, col, n, table, delta, g, variance)


@njit
def break_devices(effects, key, d, row, col, n, g, variance):
    """Overwrite the devices of a block that are stuck or on a broken line."""
    held, unusable = np.empty_like(g), np.empty(g.shape[0], np.bool_)
    unusable_devices(effects, key, d, row, col, n, held, unusable)
    for j in range(g.shape[0]):
        g[j] = held[j] if unusable[j] else g[j]
        variance[j] = g.dtype.type(0) if unusable[j] else variance[j]


@njit(nogil=True, cache=True)
def unusable_matrix(thread, first, last, effects, keys, held, unusable):
    """`unusable_devices` of outputs first to last - 1 of all devices (devices, n_out, n_in) of a plane; returns 0."""
    n = held.shape[2]
    for o in range(first, last):
        for d in range(held.shape[0]):
            unusable_devices(effects, keys[d], d, 0, o, n, held[d, o], unusable[d, o])
    return 0


@njit(nogil=True, cache=True)
def retarget_matrix(thread, first, last, effects, keys, asked, target):
    """`retarget_devices` of outputs first to last - 1 of all devices of a plane; returns 0.

    Arguments  asked: the targets asked for; target (devices, n_out, n_in) out
    """
    n = asked.shape[2]
    for o in range(first, last):
        for d in range(asked.shape[0]):
            partner = partner_of(d)
            for j in range(n):
                target[d, o, j] = asked[d, o, j]
            retarget_devices(effects, keys, d, 0, o, n, asked[partner, o], target[d, o])
    return 0
