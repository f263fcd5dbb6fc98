"""Elimination of an array with resistive wires: parts are built up device by device, and joined two by two.

What S, its ports and their groups are is said in circuit/elimination.py.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from crossbar_sim.kernels.compiling import inner
from crossbar_sim.kernels.dense import (
    AT_ONCE,
    add_product,
    columns_of_product,
    copy,
    factor,
    factor_room,
    fill,
    product,
)
from crossbar_sim.kernels.views import shaped

DRIVEN, SENSED, WORD, BIT = range(4)
"""Groups of ports: near ends of word lines and of bit lines, far ends of word lines and of bit lines."""

BUILT, DRIVERS = -1, -2
"""In place of halves: of parts that are built up, and of drivers at the far ends of word lines."""


@njit(nogil=True, cache=True)
def eliminate(thread, first_task, last_task, g, wl_ohm, bl_ohm, wl_far_S, steps, tasks, room, work):
    """Steps of some tasks."""
    for task in range(first_task, last_task):
        for k in range(tasks[task, 0], tasks[task, 1]):
            _take_step(k, g, wl_ohm, bl_ohm, wl_far_S, steps, room, work[thread])
    return 0


@inner
def _take_step(k, g, wl_ohm, bl_ohm, wl_far_S, steps, room, work):
    """Find S of part number k."""
    at = steps.ports[k]
    s = shaped(room, steps.places[k, 0], (at[4], at[4]))
    near, far = steps.halves[k, 0], steps.halves[k, 1]
    if near == BUILT:
        _build(g, wl_ohm, bl_ohm, steps.parts[k], at, s)
    elif near == DRIVERS:
        _drive(wl_far_S, at, s)
    else:
        near_at, far_at = steps.ports[near], steps.ports[far]
        unused = steps.parts[k, 2] == 0, steps.parts[k, 1] == g.shape[0]
        near_s = shaped(room, steps.places[near, 0], (near_at[4], near_at[4]))
        far_s = shaped(room, steps.places[far, 0], (far_at[4], far_at[4]))
        _join(near_s, near_at, far_s, far_at, steps.joined[k], unused, s, at, room, steps.places[k, 1], work)


@inner
def _build(g, wl_ohm, bl_ohm, part, at, out):
    """S of a part, device after device away from drivers and sense nodes."""
    top, left = part[0], part[2]
    n, m = part[1] - top, part[3] - left
    size = (2 * (n + m) + 7) // 8 * 8
    s = np.zeros((size, size))  # below its diagonal; near, far ends of word lines, then both of each bit line
    row = np.zeros(size)
    for i in range(n):
        s[n + i, i] = 1.0
    for j in range(m):
        s[2 * (n + j) + 1, 2 * (n + j)] = 1.0
    for j in range(m):
        bit = 2 * (n + j) + 1
        for i in range(n - 1, -1, -1):
            word = n + i
            s[word, word] -= wl_ohm[left + j]
            s[bit, bit] -= bl_ohm[top + i]
            for k in range(word + 1):
                row[k] = s[word, k] - s[bit, k]
            for k in range(word + 1, bit + 1):
                row[k] = s[k, word] - s[bit, k]
            value = g[top + i, left + j]
            value /= 1.0 + value * (row[bit] - row[word])
            for k in range(bit + 1):
                scaled = value * row[k]
                for q in range(k // 8 * 8 + 8):  # whole vectors
                    s[k, q] += scaled * row[q]
    place = np.empty(size, np.int64)
    for k in range(at[SENSED]):
        place[k] = k
    for k in range(at[WORD], at[BIT]):
        place[k] = n + k - at[WORD]
    for k in range(m):
        place[at[SENSED] + k] = 2 * (n + k)
    for k in range(at[BIT], at[4]):
        place[k] = 2 * (n + k - at[BIT]) + 1
    for k in range(at[4]):
        for q in range(at[4]):
            out[k, q] = s[max(place[k], place[q]), min(place[k], place[q])]


@inner
def _drive(wl_far_S, at, out):
    """S of drivers behind conductances: groups of the ends of word lines, and of the drivers."""
    n = at[SENSED]
    fill(out, 0.0)
    for i in range(n):
        out[i, i] = out[n + i, n + i] = wl_far_S
        out[i, n + i] = out[n + i, i] = -wl_far_S


def join_room(near: int, far: int, p: int) -> int:
    """Numbers that `_join` takes beside its arguments and the room of a product: for p joined ports, beside others."""
    return 2 * p**2 + max(4 * p**2 + factor_room(2 * p, p), p * (far + 3 * max(near, far)))


@inner
def _join(near, near_at, far, far_at, joined, unused, out, at, room, start, work):
    """S of two parts where the far ends `joined` of the one are near ends of the other.

    With x and y the ports that stay, a = S[x, .] and b = S[y, .] for those that are joined, D = a (1 - W Z):
    S[x, x] += a W a^T, S[y, x] = b D^T, S[y, y] -= b (Z - Z W Z) b^T. `unused`: whether nobody asks for the
    currents of the drivers there per volt of them, and the same of the sense nodes.
    """
    other = joined - 2
    p = near_at[joined + 1] - near_at[joined]
    n_near, n_far = near_at[4] - p, far_at[4] - p
    z, w = shaped(room, start, (p, p)), shaped(room, start + p**2, (p, p))
    start += 2 * p**2
    first, last = near_at[joined], far_at[other]
    for i in range(p):
        for j in range(p):
            z[i, j] = -near[first + i, first + j]
            w[i, j] = far[last + i, last + j]
    _through(z, w, room, start, work)
    b = shaped(room, start, (n_far, p))
    _keep(far, far_at, other, b)
    start += n_far * p
    a, aw, d = _three(room, start, n_near, p)
    _keep(near, near_at, joined, a)
    product(a, w, aw, work)
    copy(a, d)
    add_product(-1.0, aw, z, d, work)
    _put_groups(out, at, near_at, far_at, joined, True, True, unused, near, 1.0, a, aw, work)
    _put_groups(out, at, near_at, far_at, joined, False, True, unused, near, 1.0, b, d, work)
    bz, bzw, f = _three(room, start, n_far, p)
    product(b, z, bz, work)
    product(bz, w, bzw, work)
    copy(bz, f)
    add_product(-1.0, bzw, z, f, work)
    _put_groups(out, at, near_at, far_at, joined, False, False, unused, far, -1.0, b, f, work)


@inner
def _put_groups(out, at, near_at, far_at, joined, is_near, other_is_near, unused, given, sign, x, y, work):
    """Set the numbers between the groups that stay of one part, near or far, and of the other or the same one: sign
    x y^T, more than what is given where it is the same."""
    one_at, one_gone = (near_at, joined) if is_near else (far_at, joined - 2)
    other_at, other_gone = (near_at, joined) if other_is_near else (far_at, joined - 2)
    is_same = is_near == other_is_near
    for i in range(4):
        for j in range(i + 1 if is_same else 4):
            if i == one_gone or j == other_gone or (i == j and i < 2 and unused[i]):
                continue
            rows = _place(at, near_at, far_at, joined, i, is_near)
            cols = _place(at, near_at, far_at, joined, j, other_is_near)
            given_row, given_col = (one_at[i], other_at[j]) if is_same else (-1, -1)
            of_x, of_y = _group(x, one_at, one_gone, i), _group(y, other_at, other_gone, j)
            _put(out, rows, cols, given, given_row, given_col, sign, of_x, of_y, work)


@inner
def _three(room, start, n, p):
    """Three matrices of a room, one after the other."""
    size = n * p
    return shaped(room, start, (n, p)), shaped(room, start + size, (n, p)), shaped(room, start + 2 * size, (n, p))


@inner
def _through(z, w, room, start, work):
    """w, which is Y, becomes W = Y (1 + Z Y)^-1 = C (1 + C^T Z C)^-1 C^T with Y = C C^T."""
    p = z.shape[0]
    turned, seen, _ = _three(room, start, p, p)
    both = shaped(room, start + 2 * p**2, (2 * p, p))
    factor(w, room, start + 4 * p**2, work)
    for i in range(p):
        for j in range(p):
            turned[j, i] = both[p + i, j] = w[i, j]
            both[i, j] = 1.0 if i == j else 0.0
    product(turned, z, seen, work)
    add_product(1.0, seen, turned, both, work)
    factor(both, room, start + 4 * p**2, work)
    lower = shaped(both, p**2, (p, p))
    product(lower, lower, w, work)


@inner
def _keep(s, at, joined, out):
    """Columns of the ports that are joined, of all others."""
    k = 0
    for i in range(at[4]):
        if not at[joined] <= i < at[joined + 1]:
            for j in range(out.shape[1]):
                out[k, j] = s[i, at[joined] + j]
            k += 1


@inner
def _group(kept, at, joined, group):
    """Rows of a group of what was kept."""
    gone = at[joined + 1] - at[joined] if group > joined else 0
    p = kept.shape[1]
    return shaped(kept, (at[group] - gone) * p, (at[group + 1] - at[group], p))


@inner
def _place(at, near_at, far_at, joined, group, is_near):
    """Where ports of a group of one part begin in both: from left to right and from top to bottom."""
    if group % 2 == joined % 2 or is_near == (joined == WORD):
        return at[group]
    if joined == WORD:
        return at[group] + near_at[group + 1] - near_at[group]
    return at[group] + far_at[group + 1] - far_at[group]


@inner
def _put(out, row, col, given, given_row, given_col, sign, x, y, work):
    """Set out and its mirror image from (row, col) on: sign x y^T, more than what is given unless its place is -1."""
    for start in range(0, y.shape[0], AT_ONCE):
        sums = columns_of_product(x, y, start, work)
        stop = min(start + AT_ONCE, y.shape[0])
        for i in range(x.shape[0]):
            for j in range(start, stop):
                value = sign * sums[i, j - start]
                if given_row >= 0:
                    value += given[given_row + i, given_col + j]
                out[row + i, col + j] = value
        for j in range(start, stop):
            for i in range(x.shape[0]):
                out[col + j, row + i] = out[row + i, col + j]
