"""Products and factors of dense float64 matrices inside kernels, on one thread."""

from __future__ import annotations

import numpy as np

from crossbar_sim.kernels.compiling import inner
from crossbar_sim.kernels.gemm import HEIGHT, multiply, pack, panel_width
from crossbar_sim.kernels.views import shaped

WIDTH = panel_width(np.float64)
AT_ONCE = 4 * WIDTH
"""Columns of a product that are computed together."""

_PIVOTS = 16


def product_room(n: int, p: int) -> int:
    """Numbers that a product of at most n rows, each of at most p numbers, takes beside its factors."""
    return AT_ONCE * (n + HEIGHT + p)


def factor_room(n: int, p: int) -> int:
    """Numbers that a factor of a matrix (n, p) takes beside it."""
    return n * (p + _PIVOTS)


@inner
def columns_of_product(x, y, start, room):
    """x (n, p) y^T (m, p) from column `start` on, AT_ONCE of them: a view of the room, of more rows than x has."""
    n, p = x.shape
    stop = min(start + AT_ONCE, y.shape[0])
    panels = (stop - start + WIDTH - 1) // WIDTH
    packed = shaped(room, 0, (panels, p, WIDTH))
    sums = shaped(room, panels * p * WIDTH, ((n + HEIGHT - 1) // HEIGHT * HEIGHT, panels * WIDTH))
    pack(shaped(y, start * p, (stop - start, p)), x, packed)
    multiply(x, packed, False, sums)
    return sums


@inner
def add_product(sign, x, y, out, room):
    """out (n, m) += sign x (n, p) y^T (m, p)."""
    for start in range(0, y.shape[0], AT_ONCE):
        sums = columns_of_product(x, y, start, room)
        for i in range(x.shape[0]):
            for j in range(min(AT_ONCE, y.shape[0] - start)):
                out[i, start + j] += sign * sums[i, j]


@inner
def product(x, y, out, room):
    """out (n, m) = x (n, p) y^T (m, p)."""
    fill(out, 0.0)
    add_product(1.0, x, y, out, room)


@inner
def fill(out, value):
    """Set every number of out."""
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            out[i, j] = value


@inner
def copy(given, out):
    """Set out to the first numbers of what is given."""
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            out[i, j] = given[i, j]


@inner
def factor(a, room, place, work):
    """Cholesky factor L of the first rows of a (n, p), in place, with 0 beside; every further row x becomes x L^-T.

    Where the first rows are singular, columns of L are 0. It takes `factor_room` from a place of a room.
    """
    n, p = a.shape
    for start in range(0, p, _PIVOTS):
        width, height = min(_PIVOTS, p - start), n - start
        panel = shaped(room, place, (width, height))  # columns of a as rows, so that loops over them are vectorised
        for i in range(height):
            for j in range(width):
                panel[j, i] = a[start + i, start + j]
        smallest = np.empty(width)
        for j in range(width):
            smallest[j] = panel[j, j] * 1e-15
        if start > 0:
            rows = shaped(room, place + width * height, (height, start))
            for i in range(height):
                for j in range(start):
                    rows[i, j] = a[start + i, j]
            sums = columns_of_product(rows, shaped(rows, 0, (width, start)), 0, work)
            for i in range(height):
                for j in range(width):
                    panel[j, i] -= sums[i, j]
        for j in range(width):
            for q in range(j):
                above = panel[q, j]
                for i in range(j, height):
                    panel[j, i] -= above * panel[q, i]
            scale = 1.0 / np.sqrt(panel[j, j]) if panel[j, j] > smallest[j] else 0.0
            for i in range(height):
                panel[j, i] = panel[j, i] * scale if i >= j else 0.0
        for i in range(start):
            for j in range(width):
                a[i, start + j] = 0.0
        for i in range(height):
            for j in range(width):
                a[start + i, start + j] = panel[j, i]
