"""Tiles device by device, where a weight is more than a sum over its devices: resistive wires, features of currents."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from itertools import zip_longest
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from crossbar_sim.array.features import AbstractFeatures
from crossbar_sim.array.stored import stored
from crossbar_sim.circuit.effective import Folded, fold_wires
from crossbar_sim.kernels.conductance import (
    DeviceKeys,
    DeviceTable,
    PlaneTable,
    age_conductances,
    device_normals,
)
from crossbar_sim.kernels.effects import Effects
from crossbar_sim.kernels.pairs import age_pairs, is_plain_pair, pair_table, slice_weights
from crossbar_sim.kernels.scratch import Scratch
from crossbar_sim.kernels.sums import sum_devices
from crossbar_sim.kernels.workers import Work, share
from crossbar_sim.mapping.plan import Span
from crossbar_sim.spec import WiresSpec

_COLUMNS_AT_ONCE = 128  # where there are no wires
_SCRATCH = Scratch()

Floats = NDArray[np.floating]


class PlaneDevices(NamedTuple):
    """The devices of one plane of one row of tiles: what the kernels take.

    weights (n_out, n_in) of all inputs, w_max (n_out,); the tiles have the inputs `rows`.
    """

    weights: Floats
    w_max: Floats
    table: DeviceTable
    effects: Effects
    plane: PlaneTable
    keys: DeviceKeys
    rows: Span
    are_plain_pairs: bool
    """Whether `age_pairs` knows all that happens to them."""

    @classmethod
    def of(
        cls,
        weights: Floats,
        w_max: Floats,
        table: DeviceTable,
        effects: Effects,
        plane: PlaneTable,
        keys: DeviceKeys,
        rows: Span,
    ) -> PlaneDevices:
        """Those of a plane with the kernel that suits them."""
        return cls(weights, w_max, table, effects, plane, keys, rows, is_plain_pair(table, plane, effects))

    @property
    def are_slices(self) -> bool:
        """Whether they hold digits of the weights, of which `ageing` keeps a copy."""
        return self.are_plain_pairs and bool(self.plane.radix[0] > 1)

    def ageing(self, effective: Floats, variance: Floats) -> Work:
        """That of relative effective weights (n_out, n) and per-read variances, which are not touched without any."""
        none = np.empty((0, 0, 0), self.weights.dtype)
        threads = torch.get_num_threads()
        kernel, arguments = self._ageing((0, len(self.weights)), none, none, effective, variance, threads)
        return Work(kernel, arguments, len(self.weights))

    def shape(self, span: Span) -> tuple[int, int, int]:
        """Of the devices of some columns: (devices, columns, rows)."""
        return len(self.plane.slope), span[1] - span[0], self.rows[1] - self.rows[0]

    def age_tile(self, span: Span, g: Floats, variance: Floats) -> None:
        """Conductances and, where devices have read noise, per-read variances of some columns; both `shape`, out."""
        kernel, arguments = self._by_device(span, g, variance)
        kernel(0, 0, span[1] - span[0], *arguments)

    def conductances(self, span: Span) -> Floats:
        """Conductances (devices, columns, rows) of some columns."""
        g = np.empty(self.shape(span), self.weights.dtype)
        kernel, arguments = self._by_device(span, g, np.empty_like(g))
        share(kernel, arguments, span[1] - span[0], torch.get_num_threads())
        return g

    def _by_device(self, span: Span, g: Floats, variance: Floats) -> tuple[Callable[..., int], tuple[Any, ...]]:
        """The kernel of `age_tile` and what it takes beside a range of the columns."""
        no_sums = np.empty((0, 0), g.dtype), np.empty((0, 0), np.uint16 if g.dtype == np.float32 else g.dtype)
        return self._ageing(span, g, variance, *no_sums)

    def _ageing(
        self, span: Span, g: Floats, variance: Floats, effective: Floats, spread: Floats, threads: int = 1
    ) -> tuple[Callable[..., int], tuple[Any, ...]]:
        """The kernel for devices `g` and `variance` of some columns or, where these are empty, for their sums."""
        columns = slice(*span)
        given = self.weights[columns], self.w_max[columns]
        if self.are_plain_pairs:
            if self.plane.radix[0] > 1:
                given = self._slice(*given, threads)
            out = (g, variance) if g.size else (effective, spread)
            return age_pairs, (*given, *pair_table(self.table, self.plane, self.keys), self.rows[0], span[0], *out)
        tables = self.table, self.effects, self.plane, self.keys
        return age_conductances, (*given, *tables, self.rows[0], span[0], g, variance, effective, spread)

    def _slice(self, weights: Floats, w_max: Floats, threads: int) -> tuple[Floats, Floats]:
        """The weights that pairs of a slice hold, and the largest."""
        plane, digits = self.plane, np.empty_like(weights)
        arguments = weights, w_max, plane.base[0], plane.radix[0], plane.levels, *self.rows, digits
        share(slice_weights, arguments, len(weights), threads)
        return digits, np.ones_like(w_max)


def normals_of(keys: DeviceKeys, names: tuple[str, ...], shape: tuple[int, ...], first: Span) -> Floats:
    """Standard normals of devices, one for each of these keys; (names, *shape), shape (devices, columns, rows).

    first: row and column of the first.
    """
    z = np.empty((len(names), *shape), np.float32)
    for own, name in zip(z, names, strict=True):
        for key, of_device in zip(getattr(keys, name), own, strict=True):
            device_normals(key, *first, of_device)
    return z


def age_by_device(
    devices: PlaneDevices,
    cols: tuple[Span, ...],
    wires: WiresSpec | None,
    features: AbstractFeatures | None,
    effective: list[torch.Tensor],
    variance: list[torch.Tensor],
) -> list[Folded]:
    """Relative effective weights (n_out, rows) of each feature, and per-read variances of those that have one.

    Every tile, columns `cols`, has wires of its own. Returns how they were folded in, tile by tile.
    """
    weight, unit = devices.plane.weight.astype(devices.weights.dtype), devices.weights.dtype.type(devices.table.span_uS)
    if wires is None:  # then columns do not meet, and a few at a time take less memory
        start, stop = cols[0][0], cols[-1][1]
        cols = tuple((c, min(c + _COLUMNS_AT_ONCE, stop)) for c in range(start, stop, _COLUMNS_AT_ONCE))
    noisy = len(variance) if devices.table.has_read else 0
    for spread in variance[noisy:]:
        spread.zero_()
    folded: list[list[Folded]] = [[] for _ in cols]
    largest = math.prod(max(devices.shape(span) for span in cols))
    threads = torch.get_num_threads()
    at_once = min(threads, len(cols))
    rooms = [_SCRATCH.array(f"devices {t}", (3, largest), devices.weights.dtype) for t in range(at_once)]

    def work(thread: int, first: int, last: int) -> int:
        for place in range(first, last):
            columns, shape = slice(*cols[place]), devices.shape(cols[place])
            g, spread, loss = (room[: math.prod(shape)].reshape(shape) for room in rooms[thread])
            devices.age_tile(cols[place], g, spread)
            for f, (own, own_spread) in enumerate(_features(devices, cols[place], features, g, spread, noisy)):
                if wires is not None:
                    folded[place].append(fold_wires(own, own_spread, wires, loss, threads // at_once))
                sum_devices(own, weight, unit, stored(effective[f][columns]))
                if own_spread is not None:
                    sum_devices(own_spread, weight**2, unit**2, stored(variance[f][columns]))
        return 0

    share(work, (), len(cols), at_once)
    return [each for found in folded for each in found]


def _features(
    devices: PlaneDevices, span: Span, features: AbstractFeatures | None, g: Floats, variance: Floats, noisy: int
) -> list[tuple[Floats, Floats | None]]:
    """Conductances of each feature of a tile, and the variances of the first `noisy`, which may be changed in place."""
    factors: list[Floats | None] = [None]
    if features is not None:
        draw = partial(normals_of, devices.keys, features.normals, g.shape, (devices.rows[0], span[0]))
        factors = features.factors(g, draw)
    conductances = [g if factor is None else g * factor for factor in factors]
    spreads = [variance if factor is None else variance * (factor * factor) for factor in factors[:noisy]]
    return list(zip_longest(conductances, spreads))
