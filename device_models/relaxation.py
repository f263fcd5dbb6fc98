"""Relaxation that is no power law: the shift of a device after programming, as a distribution that grows with log time.

Sources
    the quantile function follows J. W. Tukey's idea of a distribution as a transformed standard normal
    (D. C. Hoaglin, "Summarizing shape numerically: the g-and-h distributions", 1985), with a slope of its own at each
    normal score instead of two constants, because resistive memories relax with a quiet core and unequal heavy tails;
    measurements of that kind: A. Levy et al., https://github.com/akashlevy/RRAM-Relaxation-Master-Model.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field, model_validator

from device_models.errors import UsageError
from device_models.strict import NonNegative, Number, Positive, StrictModel
from device_models.units import seconds

Array = NDArray[np.float64]

MOST_PATHS = 8
"""Standard normals of one device that its path through the ranks may be made of."""


def hat_weights(at: ArrayLike, nodes: ArrayLike, *, beyond: bool = False) -> tuple[NDArray[np.int64], Array]:
    """Linear interpolation: value = (1 - w) node[i] + w node[i + 1].

    Arguments  at (n,); nodes (m,) ascending, m >= 2; beyond: straight on outside the nodes, else held at the ends
    Returns    i (n,) from 0 to m - 2, w (n,)
    """
    at, nodes = np.asarray(at, float), np.asarray(nodes, float)
    i = np.clip(np.searchsorted(nodes, at, side="right") - 1, 0, len(nodes) - 2)
    w = (at - nodes[i]) / (nodes[i + 1] - nodes[i])
    return i, w if beyond else np.clip(w, 0.0, 1.0)


def growth_clock(t_s: ArrayLike, onset_s: float | None) -> Array:
    """c(t), of which slopes grow with a power: t, or ln(1 + t / onset)."""
    t = np.asarray(t_s, float)
    return t if onset_s is None else np.log1p(t / onset_s)


def rise(log_slopes: ArrayLike, knots: ArrayLike, z: ArrayLike) -> Array:
    """The quantile function above its median.

    Equation   x(z) = int_0^z exp(l(s)) ds with l linear between the knots and held beyond them; within a segment of
               width h from l0 to l1, up to the share v of it: h v exp(l0) (exp(y) - 1) / y with y = (l1 - l0) v
    Arguments  log_slopes (..., k) l at the knots; knots (k,) ascending normal scores, one of them 0; z (m,)
    Returns    (..., m), rising in z and 0 at z = 0
    Test       tests/unit/test_devices_relaxation.py::test_the_rise_is_the_integral_of_the_slope
    """
    knots, z = np.asarray(knots, float), np.asarray(z, float)
    edges = np.concatenate([[min(z.min(), knots[0]) - 1.0], knots, [max(z.max(), knots[-1]) + 1.0]])
    log_slopes = np.asarray(log_slopes, float)
    held = np.concatenate([log_slopes[..., :1], log_slopes, log_slopes[..., -1:]], axis=-1)
    width, change = np.diff(edges), np.diff(held, axis=-1)
    starts = np.zeros(held.shape)
    starts[..., 1:] = np.cumsum(width * np.exp(held[..., :-1]) * _mean_exp(change), axis=-1)
    i, v = hat_weights(z, edges)
    x = starts[..., i] + width[i] * v * np.exp(held[..., i]) * _mean_exp(change[..., i] * v)
    return x - starts[..., [int(np.argmin(np.abs(edges)))]]


def _mean_exp(y: Array) -> Array:
    """(exp(y) - 1) / y, the mean of exp from 0 to y."""
    small = np.abs(y) < 1e-8
    return np.where(small, 1.0 + y / 2, np.expm1(y) / np.where(small, 1.0, y))


class RelaxationTable(StrictModel):
    """Shift g(t) - g(0) of a device: a quantile function over conductance and time, and how ranks persist.

    Equation   shift = median(g, t) + int_0^z exp(l(s; g, t)) ds, z the device's standard normal at time t and exp(l)
               the slope of the quantile function [uS per unit of z], which for a normal law is its s.d.
               median and l are linear in g and in ln c(t) between the nodes, l also in s between the scores `z`, held
               beyond the outermost; c = t, or ln(1 + t / onset) where there is an onset: slopes then grow with a
               power of log time; z(t) = sum_k path[k](t) z_k, with z_k standard normals of the device, path linear
               in ln t and scaled to norm 1
    Valid      at t = 0, where the shift is 0, and from the first to the last time, or to `extrapolate_to_s`, where
               the last two times are continued: median in ln c, slopes as a power of c; the path is held there
    """

    g_uS: tuple[NonNegative, ...] = Field(
        description="Conductances of the table, ascending; one stands for all", min_length=1
    )
    t_s: tuple[Positive, ...] = Field(description="Times of the table since programming, ascending", min_length=1)
    onset_s: Positive | None = Field(
        None, description="Time at which growth with log time sets in; none: growth with a power of time"
    )
    z: tuple[Number, ...] = Field(description="Normal scores of the slopes, ascending, one of them 0", min_length=1)
    median_uS: tuple[tuple[Number, ...], ...] = Field(description="Median shift: a row for each t_s, over g_uS")
    slope_uS: tuple[tuple[tuple[Positive, ...], ...], ...] = Field(
        description="Slope of the shift over the normal score: for each t_s a row for each z, over g_uS"
    )
    path_t_s: tuple[Positive, ...] = Field(description="Times of the path, ascending", min_length=1)
    path: tuple[tuple[Number, ...], ...] = Field(
        description="Weights of the device's standard normals: a row of norm 1 for each path_t_s"
    )
    extrapolate_to_s: Positive | None = Field(
        None, description="Time up to which the law may be used beyond the last of t_s; none: not beyond it"
    )

    @model_validator(mode="after")
    def _rows(self) -> Self:
        for name in ("g_uS", "t_s", "z", "path_t_s"):
            if not all(a < b for a, b in pairwise(getattr(self, name))):
                raise ValueError(f"{name} = {getattr(self, name)} must ascend")
        if 0.0 not in self.z:
            raise ValueError(f"z = {self.z} must contain 0, where the shift is the median")
        n_t, n_z, n_g = len(self.t_s), len(self.z), len(self.g_uS)
        self._check_shape("median_uS", self.median_uS, (n_t, n_g), "one row for each t_s, one value for each g_uS")
        if len(self.slope_uS) != n_t:
            raise ValueError(f"slope_uS has {len(self.slope_uS)} tables: must have {n_t}, one for each t_s")
        for table in self.slope_uS:
            self._check_shape("slope_uS", table, (n_z, n_g), "one row for each z, one value for each g_uS")
        width = len(self.path[0]) if self.path else 0
        self._check_shape("path", self.path, (len(self.path_t_s), width), "one row for each path_t_s, all as long")
        if not 1 <= width <= MOST_PATHS:
            raise ValueError(f"path has rows of {width} values: must be from 1 to {MOST_PATHS}")
        norms = np.linalg.norm(self.path, axis=1)
        if np.any(np.abs(norms - 1) > 1e-6):
            raise ValueError(f"path has a row of norm {norms[np.argmax(np.abs(norms - 1))]:g}: must be 1")
        if self.extrapolate_to_s is not None and (n_t < 2 or self.extrapolate_to_s <= self.t_s[-1]):
            raise ValueError(
                f"extrapolate_to_s = {self.extrapolate_to_s:g}: must be above the last of t_s = {self.t_s[-1]:g}, and "
                f"needs two times, has {n_t}"
            )
        return self

    @staticmethod
    def _check_shape(name: str, rows: tuple[tuple[float, ...], ...], shape: tuple[int, int], rule: str) -> None:
        found = (len(rows), *sorted({len(row) for row in rows}))
        if found != shape:
            raise ValueError(f"{name} has {found[0]} rows of {' or '.join(map(str, found[1:])) or 'no'} values: {rule}")

    def _time(self, t_s: float) -> float:
        t_s = seconds(t_s, "relaxation: t_s")
        first, last = self.t_s[0], self.extrapolate_to_s or self.t_s[-1]
        if t_s != 0.0 and not first <= t_s <= last:
            how = "the extrapolation that was asked for" if self.extrapolate_to_s else "as measured"
            raise UsageError(
                f"device (tabulated): relaxation: t_s = {t_s:g}: must be 0 or from {first:g} to {last:g} s, {how}"
            )
        return t_s

    def shift_uS(self, g_uS: ArrayLike, z: ArrayLike, t_s: float) -> Array:
        """Shift of devices that started at g_uS (n,) with the normal scores z (m,) at a time; (n, m) [uS].

        Conductances beyond g_uS of the table have the shift of its ends. UsageError outside the times.
        """
        g, z = np.atleast_1d(np.asarray(g_uS, float)), np.atleast_1d(np.asarray(z, float))
        t_s = self._time(t_s)
        if t_s == 0.0:
            return np.zeros((len(g), len(z)))
        slopes = self._at_time(np.log(self.slope_uS), t_s)  # (n_z, n_g)
        median = self._at_time(np.array(self.median_uS), t_s)
        own = [np.interp(g, self.g_uS, row) for row in (median, *slopes)]
        return own[0][:, None] + rise(np.stack(own[1:], axis=-1), self.z, z)

    def _at_time(self, values: Array, t_s: float) -> Array:
        """Values (n_t, ...) at a time, straight on beyond the last node."""
        if len(values) == 1:
            return values[0]
        nodes = np.log(growth_clock(self.t_s, self.onset_s))
        i, w = hat_weights(np.log(growth_clock([t_s], self.onset_s)), nodes, beyond=True)
        return (1 - w[0]) * values[i[0]] + w[0] * values[i[0] + 1]

    def rank_path(self, t_s: float) -> Array:
        """Weights (K,) of norm 1 of the device's standard normals at a time; held outside the path's times."""
        log_t = np.log(np.clip(self._time(t_s), self.path_t_s[0], self.path_t_s[-1]))
        weights = np.array([np.interp(log_t, np.log(self.path_t_s), column) for column in np.array(self.path).T])
        return weights / np.linalg.norm(weights)

    def rank_correlation(self, t1_s: float, t2_s: float) -> float:
        """Correlation of a device's normal scores at two times [1]."""
        return float(self.rank_path(t1_s) @ self.rank_path(t2_s))
