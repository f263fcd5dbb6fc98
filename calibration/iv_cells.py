"""Currents of each cell over voltage, reduced to the few numbers that hold all about its non-linearity."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import digamma, polygamma

from device_models.errors import UsageError

Floats = NDArray[np.float64]

LEAST_VOLTAGES = 5
"""Different voltages that a cell needs: four coefficients and one to tell the noise."""
LEAST_FOR_DEGREE_5 = 9
"""Currents of a cell, from which on its polynomials of degree 4 and 5 are told from noise."""
ODD_POWERS = np.arange(3, 23, 2)
"""Of the power series of the hyperbolic sine; enough for arguments up to 8, where they err by 1e-4 of it."""


class CellCurves(NamedTuple):
    """Least squares of I = i0 + g V + a2 V^2 + a3 V^3 for n cells, in orthonormal polynomials of each cell's voltages.

    g_uS (n,)           slope of the straight line through a cell's currents
    parts (n, 4)        coefficients of the orthonormal polynomials [uA]; independent, each with the noise of a current
    triangle (n, 4, 4)  parts = triangle @ (i0, g, a2, a3)
    reference (4, 4)    the triangle of all different voltages together
    noise_uA (n,)       s.d. of a current about its cell's polynomial of degree 5, shrunk towards that of all cells
    variance (n,)       the same squared, not shrunk, with `freedom` (n,) degrees of freedom
    higher (n, 2)       coefficients of the polynomials of degree 4 and 5 [uA]; NaN where there are too few voltages to
                        tell them from noise, and the noise is that about the cubic
    v_ref_V             the largest |V|
    odd (n, k, 5)       share of polynomials 1 to 5 in (V / v_ref)^p, p of ODD_POWERS: what an odd current adds
    labels (n,)         names of the cells
    """

    labels: NDArray
    g_uS: Floats
    parts: Floats
    triangle: Floats
    reference: Floats
    noise_uA: Floats
    variance: Floats
    freedom: Floats
    higher: Floats
    v_ref_V: float
    odd: Floats
    left_out: tuple[tuple[str, int], ...]

    def only(self, keep: NDArray[np.bool_]) -> CellCurves:
        """The same for some of the cells."""
        return self._replace(**{name: getattr(self, name)[keep] for name in _BY_CELL})


_BY_CELL = ("labels", "g_uS", "parts", "triangle", "noise_uA", "variance", "freedom", "higher", "odd")


def cell_curves(cell: NDArray, v_V: Floats, i_uA: Floats) -> CellCurves:
    """Reduce currents, one row each. UsageError where no cell has enough voltages and a positive conductance."""
    labels, index, counts = np.unique(cell, return_inverse=True, return_counts=True)
    order = np.lexsort((v_V, index))
    place = np.arange(len(cell)) - np.repeat(np.cumsum(counts) - counts, counts)
    volts, currents, there = (np.zeros((len(labels), counts.max())) for _ in range(3))
    at = (index[order], place)
    volts[at], currents[at], there[at] = v_V[order], i_uA[order], 1.0
    different = 1 + np.sum((np.diff(volts, axis=1) > 0) & (there[:, 1:] > 0), axis=1)
    enough = different >= LEAST_VOLTAGES
    if not enough.any():
        raise UsageError(f"i_uA: no cell has {LEAST_VOLTAGES} different voltages; most has {different.max()}")
    labels, volts, currents, there = labels[enough], volts[enough], currents[enough], there[enough]
    basis, triangle = _orthonormal(volts, there, 6)
    parts = np.einsum("nmk,nm->nk", basis, currents)
    degrees = np.where(there.sum(axis=1) >= LEAST_FOR_DEGREE_5, 6, 4)
    parts[:, 4:][degrees == 4] = np.nan
    told = np.nan_to_num(parts)
    residuals = (currents - np.einsum("nmk,nk->nm", basis, told)) * there
    freedom = there.sum(axis=1) - degrees
    variance = np.sum(residuals**2, axis=1) / freedom
    if not np.any(variance > 0):
        raise UsageError("i_uA: lie exactly on polynomials; the noise of the currents cannot be told")
    noise = np.sqrt(shrunk_variances(variance, freedom))
    g = parts[:, 1] / triangle[:, 1, 1]
    positive = g > 0
    if not positive.any():
        raise UsageError(f"i_uA: no cell has a positive conductance; the largest is {g.max():g} uS")
    v_ref = float(np.abs(volts).max())
    powers = (volts / v_ref)[:, :, None] ** ODD_POWERS
    odd = np.einsum("nmk,nmp->npk", basis[:, :, 1:], powers)
    parts, higher, triangle = parts[:, :4], parts[:, 4:], triangle[:, :4, :4]
    left_out = [
        (f"cells with fewer than {LEAST_VOLTAGES} different voltages", int(np.sum(~enough))),
        ("cells without a positive conductance", int(np.sum(~positive))),
    ]
    _, reference = _orthonormal(np.unique(v_V)[None], np.ones((1, len(np.unique(v_V)))), 4)
    return CellCurves(
        labels[positive], g[positive], parts[positive], triangle[positive], reference[0], noise[positive],
        variance[positive], freedom[positive], higher[positive], v_ref, odd[positive],
        tuple(item for item in left_out if item[1]),
    )  # fmt: skip


def shrunk_variances(variance: Floats, freedom: Floats) -> Floats:
    """Variances of many cells, each drawn towards the common one by as much as they scatter less than chance allows.

    Equation   (d0 s0^2 + d s^2) / (d0 + d), where the true variances are s0^2 d0 / chi2(d0); d0, s0 from mean and
               variance of ln s^2
    Source     G. K. Smyth, Stat. Appl. Genet. Mol. Biol. 3, 3 (2004), DOI 10.2202/1544-6115.1027
    """
    held = np.maximum(variance, 1e-12 * variance.max())
    e = np.log(held) - digamma(freedom / 2) + np.log(freedom / 2)
    excess = np.var(e, ddof=1) - np.mean(polygamma(1, freedom / 2)) if len(e) > 1 else 0.0
    if excess <= polygamma(1, 1e4):  # no scatter but that of chance: all cells have the same noise
        return np.full_like(variance, np.average(variance, weights=freedom))
    half = brentq(lambda h: polygamma(1, h) - excess, 1e-3, 1e4)
    common = np.exp(np.mean(e) + digamma(half) - np.log(half))
    return (2 * half * common + freedom * variance) / (2 * half + freedom)


def _orthonormal(volts: Floats, there: Floats, degree: int) -> tuple[Floats, Floats]:
    """Polynomials below `degree` (n, m, degree), orthonormal over each row, and the triangle of their coefficients."""
    powers = volts[:, :, None] ** np.arange(degree) * there[:, :, None]
    q, r = np.linalg.qr(powers)
    sign = np.sign(np.einsum("nkk->nk", r))
    return q * sign[:, None, :], r * sign[:, :, None]
