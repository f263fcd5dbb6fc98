"""Tiles device by device, where a weight is more than a sum over its devices: resistive wires, features of currents."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from crossbar_sim.array.features import AbstractFeatures
from crossbar_sim.array.stored import stored
from crossbar_sim.circuit.effective import Folded, fold_tiles
from crossbar_sim.kernels.conductance import (
    DeviceKeys,
    DeviceTable,
    PlaneTable,
    age_conductances,
    device_normals,
)
from crossbar_sim.kernels.effects import Effects
from crossbar_sim.kernels.pairs import age_pairs, is_plain_pair, pair_table
from crossbar_sim.kernels.scratch import Scratch
from crossbar_sim.kernels.sums import sum_devices
from crossbar_sim.mapping.plan import Span
from crossbar_sim.spec import WiresSpec

_TILES_AT_ONCE = 4  # bounds the memory for single devices; threads take whole tiles
_COLUMNS_AT_ONCE = 64  # where there are no wires
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

    @property
    def are_plain_pairs(self) -> bool:
        """Whether `age_pairs` knows all that happens to them."""
        return is_plain_pair(self.table, self.plane, self.effects)

    def age_pairs(self, effective: Floats, variance: Floats) -> None:
        """Relative effective weights (n_out, n) of plain pairs, and their per-read variances."""
        pairs = pair_table(self.table, self.plane, self.keys)
        age_pairs(self.weights, self.w_max, *pairs, self.rows[0], 0, effective[None], variance[None])

    def shape(self, span: Span) -> tuple[int, int, int]:
        """Of the devices of some columns: (devices, columns, rows)."""
        return len(self.plane.slope), span[1] - span[0], self.rows[1] - self.rows[0]

    def age_tile(self, span: Span, g: Floats, variance: Floats) -> None:
        """Conductances and, where devices have read noise, per-read variances of some columns; both `shape`, out."""
        columns = slice(*span)
        weights, w_max = self.weights[columns], self.w_max[columns]
        if self.are_plain_pairs:
            pairs = pair_table(self.table, self.plane, self.keys)
            age_pairs(weights, w_max, *pairs, self.rows[0], span[0], g, variance)
        else:
            age_conductances(
                weights, w_max, self.table, self.effects, self.plane, self.keys, self.rows[0], span[0], g, variance
            )

    def conductances(self, span: Span) -> Floats:
        """Conductances (devices, columns, rows) of some columns."""
        g = np.empty(self.shape(span), self.weights.dtype)
        self.age_tile(span, g, np.empty_like(g))
        return g


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
    folded: list[Folded] = []
    weight, unit = devices.plane.weight.astype(devices.weights.dtype), devices.weights.dtype.type(devices.table.span_uS)
    if wires is None:  # then columns do not meet, and a few at a time take less memory
        first, last = cols[0][0], cols[-1][1]
        cols = tuple((c, min(c + _COLUMNS_AT_ONCE, last)) for c in range(first, last, _COLUMNS_AT_ONCE))
    for start in range(0, len(cols), _TILES_AT_ONCE):
        spans = cols[start : start + _TILES_AT_ONCE]
        tiles = [_features(devices, span, place, features) for place, span in enumerate(spans)]
        for f in range(len(effective)):
            own = [tile[f] for tile in tiles]
            has_variance = f < len(variance) and devices.table.has_read
            if wires is not None:
                folded += fold_tiles([(g, spread if has_variance else None) for g, spread in own], wires)
            for (c0, c1), (g, spread) in zip(spans, own, strict=True):
                sum_devices(g, weight, unit, effective[f][c0:c1].numpy())
                if has_variance:
                    sum_devices(spread, weight**2, unit**2, stored(variance[f][c0:c1]))
                elif f < len(variance):
                    variance[f][c0:c1] = 0
    return folded


def _features(
    devices: PlaneDevices, span: Span, place: int, features: AbstractFeatures | None
) -> list[tuple[Floats, Floats]]:
    """Conductances and variances of each feature of a tile, which may be changed in place."""
    g, variance = (
        _SCRATCH.array(f"{name} {place}", devices.shape(span), devices.weights.dtype) for name in ("g", "variance")
    )
    devices.age_tile(span, g, variance)
    if features is None:
        return [(g, variance)]
    factors = features.factors(g, normals_of(devices.keys, features.normals, g.shape, (devices.rows[0], span[0])))
    return [(g * factor, variance * (factor * factor)) for factor in factors]
