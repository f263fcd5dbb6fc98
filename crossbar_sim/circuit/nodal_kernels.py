"""Conjugate gradients on the bit-line nodes of an array, with exact elimination along every line.

The nodal equations of an array with word-line nodes u, bit-line nodes b and device conductances G are

    A_w u = G b + d,    A_b b = G u        (d: currents of the drivers)

where A_w couples nodes of one word line only and A_b nodes of one bit line only. Eliminating u leaves
(A_b - G A_w^-1 G) b = G A_w^-1 d, solved by conjugate gradients preconditioned with A_b: each step is one exact
solution along all word lines and one along all bit lines. Lines are solved as ladders, from the far end to the near end
by Norton equivalents and back by voltages. This divides by no resistance, so ideal wires are no special case.

Rows come in blocks of BLOCK, whose ladders are computed side by side to fill the vector units.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from crossbar_sim.circuit.kirchhoff import bit_line_residual, word_line_residual

Floats = NDArray[np.float64]

BLOCK = 8
"""Arrays have a multiple of BLOCK rows; rows without devices are put at the far end of the bit lines to fill up."""

_FAST = {"contract", "reassoc", "nsz"}
_X, _R, _Q, _P, _A = range(5)


@njit(cache=True)
def factor_lines(
    g: Floats, wl: Floats, wl_far: Floats, bl: Floats, is_open: NDArray[np.bool_]
) -> tuple[Floats, Floats, Floats]:
    """Ladder factors f = 1 / (1 + r Y), Y the conductance seen from a node towards the far end.

    Returns word-line factors (N / BLOCK, M, BLOCK), bit-line factors (N, M), and the voltage of the first node of each
    word line per Norton current there (N,). The first word-line factor multiplies the driver's voltage: 0 if open.
    """
    n, m = g.shape
    word, bit, near = np.empty((n // BLOCK, m, BLOCK)), np.empty((n, m)), np.empty(n)
    for i in range(n):
        seen = wl_far[i]
        for j in range(m - 1, -1, -1):
            seen += g[i, j]
            factor = 1.0 / (1.0 + wl[j] * seen)
            word[i // BLOCK, j, i % BLOCK] = factor
            if j > 0:
                seen *= factor
        near[i] = wl[0] * word[i // BLOCK, 0, i % BLOCK]
        if is_open[i]:
            near[i] = 1.0 / seen if seen > 0 else 0.0
            word[i // BLOCK, 0, i % BLOCK] = 0.0
    below = np.zeros(m)
    for i in range(n):
        for j in range(m):
            below[j] += g[i, j]
            bit[i, j] = 1.0 / (1.0 + bl[i] * below[j])
            below[j] *= bit[i, j]
    return word, bit, near


@njit(fastmath=_FAST)
def _word_lines(word: Floats, near: Floats, wl: Floats, far: Floats, v: Floats, c: Floats) -> None:
    """Currents c (M, BLOCK) into the nodes of BLOCK word lines driven at v (BLOCK,) become the voltages there."""
    m = c.shape[0]
    for k in range(BLOCK):
        c[m - 1, k] += far[k] * v[k]
    for j in range(m - 2, -1, -1):
        for k in range(BLOCK):
            c[j, k] += word[j + 1, k] * c[j + 1, k]
    for k in range(BLOCK):
        c[0, k] = word[0, k] * v[k] + near[k] * c[0, k]
    for j in range(1, m):
        for k in range(BLOCK):
            c[j, k] = word[j, k] * (c[j - 1, k] + wl[j] * c[j, k])


@njit(fastmath=_FAST)
def _bit_lines_down(r: Floats, q: Floats, alpha: float, bit: Floats, bl: Floats) -> float:
    """r -= alpha q; q becomes the Norton currents of r; returns the squared norm of r under A_b^-1."""
    n, m = r.shape
    rho = 0.0
    for i in range(n):
        ri, qi, fi = r[i], q[i], bit[i]
        for j in range(m):
            ri[j] -= alpha * qi[j]
        above = max(i - 1, 0)
        carry = 1.0 if i > 0 else 0.0
        before, f_before = q[above], bit[above]
        for j in range(m):
            qi[j] = ri[j] + carry * (f_before[j] * before[j])
        total = 0.0
        for j in range(m):
            total += fi[j] * (qi[j] * qi[j])
        rho += bl[i] * total
    return rho


@njit(fastmath=_FAST)
def _bit_lines_up(
    state: Floats, i: int, alpha: float, beta: float, g: Floats, bit: Floats, bl: Floats, z: Floats, worst: Floats
) -> None:
    """Row i on the way back: z = A_b^-1 r of the row, the step x += alpha p, and the new direction p = z + beta p."""
    x, r, q, p, a = state[_X, i], state[_R, i], state[_Q, i], state[_P, i], state[_A, i]
    f, gi, ohm = bit[i], g[i], bl[i]
    for j in range(z.shape[0]):
        z[j] = f[j] * (z[j] + ohm * q[j])
    for j in range(z.shape[0]):
        worst[j] = max(worst[j], abs(gi[j] * z[j]))
    for j in range(z.shape[0]):
        x[j] += alpha * p[j]
    for j in range(z.shape[0]):
        p[j] = z[j] + beta * p[j]
    for j in range(z.shape[0]):  # a = A_b p without applying A_b, which has no finite form for ideal lines
        a[j] = r[j] + beta * a[j]


@njit(fastmath=_FAST)
def _solve(
    g: Floats,
    v: Floats,
    source: Floats,
    lines: tuple[Floats, Floats, Floats],
    factors: tuple[Floats, Floats, Floats],
    tolerance: float,
    max_iterations: int,
    state: Floats,
) -> int:
    """Bit-line voltages of one drive v (N,) into state[0]; returns the number of iterations."""
    wl, wl_far, bl = lines
    word, bit, near = factors
    n, m = g.shape
    c, z, worst, at_rest = np.empty((m, BLOCK)), np.empty(m), np.empty(m), np.zeros(BLOCK)
    has_source = source.shape[0] > 0
    scale = 0.0
    for block in range(n // BLOCK):  # r = G A_w^-1 (d - s) + s
        rows = slice(block * BLOCK, (block + 1) * BLOCK)
        _fill(c, source[rows], -1.0, has_source)
        _word_lines(word[block], near[rows], wl, wl_far[rows], v[rows], c)
        for k in range(BLOCK):
            r = state[_R, block * BLOCK + k]
            for j in range(m):
                r[j] = g[block * BLOCK + k, j] * c[j, k]
                if has_source:
                    r[j] += source[block * BLOCK + k, j]
                scale = max(scale, abs(r[j]))
    for part in (_X, _Q, _P, _A):
        _clear(state[part])
    alpha, before = 0.0, 1.0
    for iteration in range(max_iterations):
        rho = _bit_lines_down(state[_R], state[_Q], alpha, bit, bl)
        beta = rho / before if iteration > 0 else 0.0
        for j in range(m):
            z[j] = worst[j] = 0.0
        gamma = 0.0
        for block in range(n // BLOCK - 1, -1, -1):
            rows = slice(block * BLOCK, (block + 1) * BLOCK)
            for k in range(BLOCK - 1, -1, -1):
                _bit_lines_up(state, block * BLOCK + k, alpha, beta, g, bit, bl, z, worst)
            for k in range(BLOCK):
                gi, p = g[block * BLOCK + k], state[_P, block * BLOCK + k]
                for j in range(m):
                    c[j, k] = gi[j] * p[j]
            _word_lines(word[block], near[rows], wl, wl_far[rows], at_rest, c)
            for k in range(BLOCK):
                i = block * BLOCK + k
                gi, p, q, a = g[i], state[_P, i], state[_Q, i], state[_A, i]
                for j in range(m):
                    q[j] = a[j] - gi[j] * c[j, k]
                for j in range(m):
                    gamma += p[j] * q[j]
        if worst.max() <= tolerance * scale or not gamma > 0.0:
            return iteration
        alpha, before = rho / gamma, rho
    return max_iterations


@njit
def _clear(part: Floats) -> None:
    for i in range(part.shape[0]):
        for j in range(part.shape[1]):
            part[i, j] = 0.0


@njit(fastmath=_FAST)
def _fill(c: Floats, rows: Floats, sign: float, present: bool) -> None:
    """c (M, BLOCK) = sign rows (BLOCK, M), or 0 where there are none."""
    _clear(c)
    if present:
        for k in range(BLOCK):
            for j in range(c.shape[0]):
                c[j, k] = sign * rows[k, j]


@njit(fastmath=_FAST)
def _finish(
    g: Floats,
    v: Floats,
    source: Floats,
    lines: tuple[Floats, Floats, Floats],
    factors: tuple[Floats, Floats, Floats],
    is_open: NDArray[np.bool_],
    state: Floats,
    column_current: Floats,
    u_out: Floats,
    b_out: Floats,
) -> float:
    """Column currents and node voltages from bit-line voltages state[0]; returns the largest Kirchhoff residual.

    The residual is that of the device currents: what G (u - b) would be with the voltages that these currents cause
    along the lines, less the currents themselves, relative to the largest of them.
    """
    wl, wl_far, bl = lines
    word, _, near = factors
    n, m = g.shape
    b, u, current = state[_X], state[_R], state[_Q]
    c = np.empty((m, BLOCK))
    for j in range(m):
        column_current[j] = 0.0
    largest, worst = 0.0, 0.0
    for block in range(n // BLOCK):
        rows = slice(block * BLOCK, (block + 1) * BLOCK)
        _fill(c, source[rows], -1.0, source.shape[0] > 0)
        for k in range(BLOCK):
            for j in range(m):
                c[j, k] += g[block * BLOCK + k, j] * b[block * BLOCK + k, j]
        _word_lines(word[block], near[rows], wl, wl_far[rows], v[rows], c)
        for k in range(BLOCK):
            i = block * BLOCK + k
            for j in range(m):
                u[i, j] = c[j, k]
                current[i, j] = g[i, j] * (u[i, j] - b[i, j])
            if source.shape[0] > 0:
                for j in range(m):
                    current[i, j] += source[i, j]
            for j in range(m):
                column_current[j] += current[i, j]
                largest = max(largest, abs(current[i, j]))
            start = u[i, 0] if is_open[i] else v[i]
            worst = max(worst, word_line_residual(current[i], g[i], u[i], wl, wl_far[i], start, is_open[i]))
    worst = max(worst, bit_line_residual(current, g, b, bl, column_current))
    if u_out.shape[0] > 0:
        for i in range(n):
            for j in range(m):
                u_out[0, i, j], b_out[0, i, j] = u[i, j], b[i, j]
    return worst / largest if largest > 0 else 0.0


@njit(cache=True, nogil=True)
def solve_drives(
    g: Floats,
    v: Floats,
    source: Floats,
    lines: tuple[Floats, Floats, Floats],
    factors: tuple[Floats, Floats, Floats],
    is_open: NDArray[np.bool_],
    tolerance: float,
    max_iterations: int,
    column_current: Floats,
    iterations: NDArray[np.int64],
    residual: Floats,
    u: Floats,
    b: Floats,
) -> None:
    """The drives v (T, N) one after the other; callers hand parts of them to their threads.

    Arguments  g (N, M) [S]; source (N, M) [A] or (0, 0): currents of the devices at zero voltage; lines: wl (M,),
               wl_far (N,), bl (N,); column_current (T, M), iterations, residual (T,) out; u, b (T, N, M) out or
               (0, 0, 0)
    """
    state = np.empty((5, g.shape[0], g.shape[1]))
    for t in range(v.shape[0]):
        iterations[t] = _solve(g, v[t], source, lines, factors, tolerance, max_iterations, state)
        residual[t] = _finish(
            g, v[t], source, lines, factors, is_open, state, column_current[t], u[t : t + 1], b[t : t + 1]
        )
