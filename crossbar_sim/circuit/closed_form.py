"""The loss of every device to the wires of its tile to first order, without solving anything.

Kernels take tiles as chips store them: g (D, M, N), device d of the weight of output m and input n. Without
interleaving device d has bit line m D + d; with it, devices come in pairs that share a bit line and have a word line
each. A tile is short work, so threads take whole tiles (array.devices).
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from crossbar_sim.kernels.bits import largest_magnitude
from crossbar_sim.kernels.random import i32

Floats = NDArray[np.floating]

_CHUNK = 512
"""Inputs whose word lines are followed side by side."""
_LINES = 4
"""Bit lines that are followed side by side: along one alone each step would wait for the last."""


def first_order_loss(
    g: Floats, wl_ohm: Floats, wl_far_S: float, bl_ohm: Floats, per_node: int, S_per_unit: float, loss: Floats
) -> float:
    """Share of a device's current that resistive wires take away, to first order.

    Equation   C_ij = r_b sum_k min(N+1-i, N+1-k) G_kj + r_w sum_l min(j, l) G_il + R_d sum_l G_il + R_s sum_k G_kj,
               as drops along each line that carries the currents of its devices at full voltage; word lines with a
               second driver share their current between both as a lever
    Arguments  g (D, M, N); wl_ohm (M D / per_node,), bl_ohm (N,) segments as in lines.Lines, one bit-line segment per
               input; per_node: devices that meet in a bit-line node (2 if interleaved, else 1); S_per_unit: siemens
               per unit of g; loss (D, M, N) out
    Returns    largest loss of the tile; infinity where a conductance is negative or not finite
    Valid      error of the ratio form G / (1 + C) below 0.4 % of the output at C = 0.2, 2 % at C = 0.6
    Source     first-order expansion of the nodal equations; N. Lepri et al., IEEE TED 69 (2022) compares such models
    Test       tests/oracles/test_circuit_oracles.py, tests/unit/test_circuit_effective.py
    """
    _word_line_loss(g, wl_ohm * S_per_unit, wl_far_S / S_per_unit, per_node, loss)
    return float(_add_bit_line_loss(g, bl_ohm * S_per_unit, per_node, loss))


@njit(cache=True, nogil=True)
def _word_line_loss(g: Floats, ohm: Floats, far: float, per_node: int, loss: Floats) -> None:
    n_in = g.shape[2]
    shared = g.shape[0] // per_node  # devices of one weight on the same word line
    for chunk in range((n_in + _CHUNK - 1) // _CHUNK):
        start = chunk * _CHUNK
        stop = min(start + _CHUNK, n_in)
        n = stop - start
        current, drop = np.empty(n, g.dtype), np.empty(n, g.dtype)
        for line in range(per_node):
            current[:] = 0
            to_node = ohm.sum()
            length = to_node + 1.0 / far if far > 0.0 else 1.0
            for position in range(ohm.shape[0] - 1, -1, -1):
                share = g.dtype.type(1.0 - to_node / length if far > 0.0 else 1.0)
                part = g[position % shared * per_node + line, position // shared, start:stop]
                for i in range(n):
                    current[i] += share * part[i]
                to_node -= ohm[position]
            drop[:] = 0
            for position in range(ohm.shape[0]):
                d, m = position % shared * per_node + line, position // shared
                part, out, segment = g[d, m, start:stop], loss[d, m, start:stop], g.dtype.type(ohm[position])
                for i in range(n):
                    drop[i] += segment * current[i]
                    out[i] = drop[i]
                for i in range(n):
                    current[i] -= part[i]


@njit(cache=True, nogil=True)
def _add_bit_line_loss(g: Floats, ohm: Floats, per_node: int, loss: Floats) -> float:
    n_in = g.shape[2]
    shared = g.shape[0] // per_node
    n_lines = g.shape[1] * shared
    segments, drops = ohm.astype(g.dtype), np.empty((_LINES, n_in), g.dtype)
    current, largest = np.empty(_LINES, g.dtype), np.empty(n_lines)
    for start in range(0, n_lines, _LINES):
        block = (start, min(start + 1, n_lines - 1), min(start + 2, n_lines - 1), min(start + 3, n_lines - 1))
        for k in range(_LINES):
            m, d = block[k] // shared, block[k] % shared * per_node
            total, negative = _sum_and_sign(g[d, m])
            for other in range(d + 1, d + per_node):
                more, below = _sum_and_sign(g[other, m])
                total, negative = total + more, negative + below
            current[k] = total
            largest[block[k]] = 0.0 if negative == 0 and np.isfinite(total) else np.inf
        a, b, c, d = block
        _follow_bit_lines(
            g[a % shared * per_node :, a // shared],
            g[b % shared * per_node :, b // shared],
            g[c % shared * per_node :, c // shared],
            g[d % shared * per_node :, d // shared],
            segments, current, per_node, drops,
        )  # fmt: skip
        for k in range(min(_LINES, n_lines - start)):
            m, d = block[k] // shared, block[k] % shared * per_node
            for device in range(d, d + per_node):
                out, drop = loss[device, m], drops[k]
                for i in range(n_in):
                    out[i] += drop[i]
                largest[block[k]] = max(largest[block[k]], largest_magnitude(out))
    return largest.max()


@njit(fastmath={"reassoc", "nsz"})
def _sum_and_sign(g: Floats) -> tuple[float, np.int32]:
    """Sum and number of negative entries."""
    total, negative = 0.0, i32(0)
    for i in range(g.shape[0]):
        total += g[i]
        negative = i32(negative + (i32(1) if g[i] < 0 else i32(0)))  # stays 32 bit: vectorised
    return total, negative


@njit
def _follow_bit_lines(g0, g1, g2, g3, ohm, current, per_node, drops):  # type: ignore[no-untyped-def]
    """Drops at each node of four lines that carry `current` to their ends; g of each from its first device on."""
    n = ohm.shape[0]
    zero = drops.dtype.type(0)
    a, b, c, d = zero, zero, zero, zero
    at_a, at_b, at_c, at_d = current[0], current[1], current[2], current[3]
    for step in range(n):
        i = n - 1 - step
        a += ohm[i] * at_a
        b += ohm[i] * at_b
        c += ohm[i] * at_c
        d += ohm[i] * at_d
        drops[0, i] = a
        drops[1, i] = b
        drops[2, i] = c
        drops[3, i] = d
        for k in range(per_node):
            at_a -= g0[k, i]
            at_b -= g1[k, i]
            at_c -= g2[k, i]
            at_d -= g3[k, i]


@njit(cache=True, nogil=True)
def attenuate(g: Floats, variance: Floats, loss: Floats, ratio_form: bool) -> None:
    """Effective conductances and their per-read variances from the loss C, in place.

    Equation   g *= f, variance *= f^2 with f = 1 / (1 + C) (ratio form) or 1 - C (first order); variance to first order
    Arguments  g, loss (D, M, N); variance (D, M, N) or (0, 0, 0)
    """
    for d in range(g.shape[0]):
        for m in range(g.shape[1]):
            _loss_to_factor(loss[d, m], ratio_form)
            _multiply(g[d, m], loss[d, m])
            if variance.shape[0] > 0:
                _multiply(variance[d, m], loss[d, m])
                _multiply(variance[d, m], loss[d, m])


@njit(error_model="numpy")  # a check for zero would keep the division from being vectorised
def _loss_to_factor(loss: Floats, ratio_form: bool) -> None:
    one = loss.dtype.type(1)
    if ratio_form:
        for i in range(loss.shape[0]):
            loss[i] = one / (one + loss[i])
    else:
        for i in range(loss.shape[0]):
            loss[i] = one - loss[i]


@njit
def _multiply(values: Floats, factors: Floats) -> None:
    for i in range(values.shape[0]):
        values[i] *= factors[i]
