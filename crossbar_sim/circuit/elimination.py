"""The linear map of an array with resistive wires by elimination: of small parts first, then of pairs of them.

A rectangular part of an array is known by what it shows at its ports, where its lines leave it. With voltages v given
at the near ends of its lines, towards drivers and sense nodes, and currents c drawn from their far ends, it answers
with the currents i into the near ends and the voltages u of the far ends,

    [i; u] = S [v; c],    S = [[Y, A], [A^T, -Z]],

symmetric by reciprocity, Y and Z without negative eigenvalues. No resistance is divided by, so ideal wires are no
special case. A device of conductance g between two far ends, of voltages u_1 and u_2 with row s = S_1 - S_2 for their
difference, adds g s^T s / (1 + g z) to S, z being what it sees between them. Where far ends of one part (a: its rows
of S for them) are near ends of another (b), W = Y_b (1 + Z_a Y_b)^-1 takes the place of g / (1 + g z).

Ports are in groups: near ends of word lines and of bit lines, far ends of word lines and of bit lines. Far ends at the
edge of the array draw nothing and are left out. The joins of the largest parts cost most, about as much as a few
products of N x N with N x M matrices, whatever the resistances are: nested dissection (A. George, SIAM J. Numer. Anal.
10, 345 (1973), DOI 10.1137/0710032) of a network that is never written down as a matrix.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from crossbar_sim.circuit.lines import Lines
from crossbar_sim.circuit.solution import RESIDUAL_LIMIT
from crossbar_sim.circuit.units import to_uS
from crossbar_sim.kernels.dense import product_room
from crossbar_sim.kernels.elimination import BIT, BUILT, DRIVERS, WORD, eliminate, join_room
from crossbar_sim.kernels.workers import share
from device_models.errors import StateError

_LEAF = 16
"""Rows and columns of parts that are built up device by device."""

Floats = NDArray[np.float64]
_Part = tuple[int, int, int, int]  # top, bottom, left, right
_Ports = tuple[int, int, int, int, int]  # where the groups begin, and their number


def linear_map(g_S: Floats, lines: Lines, threads: int = 1) -> Floats:
    """Currents of the sense nodes per volt of the drivers, (N, M) [S], of an array g_S (N, M) [S].

    Valid      finite g >= 0. A voltage that lines reduce to a share f has lost the digits of f: StateError where what
               is lost may be more than 1e-10 of the largest number
    Cost       memory as `n_bytes` says; threads change no bit
    Test       tests/unit/test_circuit_elimination.py
    """
    plan = _plan(*g_S.shape, lines.wl_far_S > 0, threads)
    room, work = np.empty(plan.room), np.empty((threads, plan.work))
    array = np.ascontiguousarray(g_S), *lines, plan.steps
    share(eliminate, (*array, plan.tasks, room, work), len(plan.tasks), threads)
    eliminate(0, 0, 1, *array, plan.rest, room, work)
    start, (_, sensed, word, _, n_ports) = plan.steps.places[-1, 0], plan.steps.ports[-1]
    s = room[start : start + n_ports**2].reshape(n_ports, n_ports)
    found = -s[sensed:word, :sensed].T
    if lines.wl_far_S > 0:
        found -= s[sensed:word, word:].T
    lost = np.finfo(np.float64).eps * g_S.max()
    if not lost <= RESIDUAL_LIMIT * np.abs(found).max():
        raise StateError(
            f"wires: the lines of the {g_S.shape[0]} x {g_S.shape[1]} array have so much resistance that of devices of "
            f"up to {to_uS(g_S.max()):.3g} uS {to_uS(np.abs(found).max()):.3g} uS are left: too little to compute with"
        )
    return np.ascontiguousarray(found)


def n_bytes(n_rows: int, n_cols: int, two_sided: bool, threads: int = 1) -> int:
    """Memory that `linear_map` takes beside its arguments and its result."""
    plan = _plan(n_rows, n_cols, two_sided, threads)
    return 8 * (plan.room + threads * plan.work)


class _Steps(NamedTuple):
    """Parts (K, 4) as top, bottom, left, right; halves (K, 2), near and far: their numbers, or BUILT where a part is
    built up device by device and DRIVERS for those at the far ends; the group of ports of the near half they
    are joined at (K,); where the ports of each part begin (K, 5); places in the room (K, 2): of S and of what a join
    takes."""

    parts: NDArray[np.int64]
    halves: NDArray[np.int64]
    joined: NDArray[np.int64]
    ports: NDArray[np.int64]
    places: NDArray[np.int64]


class _Plan(NamedTuple):
    """Ranges of steps: tasks (., 2) that may be taken side by side, and the rest (1, 2). And numbers of the rooms."""

    steps: _Steps
    tasks: NDArray[np.int64]
    rest: NDArray[np.int64]
    room: int
    work: int


@lru_cache(maxsize=64)
def _plan(n: int, m: int, two_sided: bool, threads: int) -> _Plan:
    """Of an array of n word and m bit lines: as many parts side by side as there are threads, then what joins them."""
    planner, places, tasks, joins = _Planner(m, two_sided), {}, [], []
    whole, closed = (0, n, 0, m), (0, n, n + m, 2 * n + m, 2 * n + m)
    end = closed[4] ** 2 + 4 * n**2 if two_sided else 0  # of what is kept from here on

    def open_up(part: _Part, levels: int) -> None:
        nonlocal end
        places[part], end = end, end + planner.ports(part)[4] ** 2
        halves = _halves(part)
        if levels == 0 or halves is None:
            tasks.append(part)
            return
        for half in halves[1:]:
            open_up(half, levels - 1)
        joins.append((part, *halves))

    open_up(whole, (threads - 1).bit_length())
    numbers: dict[_Part, int] = {}
    ranges: list[tuple[int, int]] = []
    planner.room = end
    for part in tasks:
        numbers[part] = planner.eliminate(part, places[part], planner.room)
        ranges.append((ranges[-1][1] if ranges else 0, len(planner.steps)))
    for part, joined, near, far in joins:
        halves = numbers[near], numbers[far]
        numbers[part] = planner.add(part, halves, joined, planner.ports(part), places[part], end)
    if two_sided:
        drivers = planner.add(whole, (DRIVERS, DRIVERS), 0, (0, n, n, 2 * n, 2 * n), closed[4] ** 2, end)
        planner.add(whole, (numbers[whole], drivers), WORD, closed, 0, end)
    columns = [np.array(column, np.int64) for column in zip(*planner.steps, strict=True)]
    columns[2] = columns[2].ravel()
    rest = np.array([(ranges[-1][1], len(planner.steps))])
    return _Plan(_Steps(*columns), np.array(ranges), rest, planner.room, planner.work)


class _Planner:
    """Numbers parts in the order that they are eliminated in and gives them places, those of halves until they are
    joined."""

    def __init__(self, n_cols: int, two_sided: bool):
        self.n_cols, self.two_sided = n_cols, two_sided
        self.steps: list[tuple[tuple[int, ...], ...]] = []
        self.room = self.work = 0

    def ports(self, part: _Part) -> _Ports:
        """Where the groups of ports begin, and their number."""
        top, bottom, left, right = part
        n, m = bottom - top, right - left
        word = n if right < self.n_cols or self.two_sided else 0
        return 0, n, n + m, n + m + word, n + m + word + (m if top > 0 else 0)

    def add(self, part: _Part, halves: tuple[int, int], joined: int, ports: _Ports, place: int, rest: int) -> int:
        """The number of a part, with S at `place` and room from `rest` on."""
        if halves[0] >= 0:
            near, far = (self.steps[half][3] for half in halves)
            p = near[joined + 1] - near[joined]
            self.room = max(self.room, rest + join_room(near[4] - p, far[4] - p, p))
            self.work = max(self.work, product_room(max(ports[4], near[4], far[4]), p))
        self.room = max(self.room, rest, place + ports[4] ** 2)
        self.steps.append((part, halves, (joined,), ports, (place, rest)))
        return len(self.steps) - 1

    def eliminate(self, part: _Part, place: int, rest: int) -> int:
        """The number of a part after all of it."""
        ports, halves = self.ports(part), _halves(part)
        if halves is None:
            return self.add(part, (BUILT, BUILT), 0, ports, place, rest)
        joined, near, far = halves
        far_place = rest + self.ports(near)[4] ** 2
        after = far_place + self.ports(far)[4] ** 2
        numbers = self.eliminate(near, rest, far_place), self.eliminate(far, far_place, after)
        return self.add(part, numbers, joined, ports, place, after)


def _halves(part: _Part) -> tuple[int, _Part, _Part] | None:
    """The far ends that halves are joined at, the half that they belong to and the other; None for small parts."""
    top, bottom, left, right = part
    n, m = bottom - top, right - left
    if max(n, m) <= _LEAF:
        return None
    kept = (max(n, m) + _LEAF) // (2 * _LEAF) * _LEAF  # so that few parts are narrower than others
    if m >= n:
        return WORD, (top, bottom, left, left + kept), (top, bottom, left + kept, right)
    return BIT, (bottom - kept, bottom, left, right), (top, bottom - kept, left, right)
