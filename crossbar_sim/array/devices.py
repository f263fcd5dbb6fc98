"""Tiles device by device, where a weight is more than a sum over its devices: resistive wires, features of currents."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from crossbar_sim.array.features import AbstractFeatures
from crossbar_sim.circuit.effective import Folded, fold_tiles
from crossbar_sim.kernels.conductance import (
    DeviceKeys,
    DeviceTable,
    PlaneTable,
    age_conductances,
    age_matrix,
    device_normals,
)
from crossbar_sim.kernels.effects import Effects
from crossbar_sim.kernels.pairs import age_pairs, is_plain_pair, pair_table
from crossbar_sim.mapping.plan import Span
from crossbar_sim.spec import WiresSpec

_TILES_AT_ONCE = 8  # bounds the memory for single devices; threads take whole tiles

Floats = NDArray[np.floating]


class PlaneDevices(NamedTuple):
    """The devices of one plane of one row of tiles: what `age_matrix` takes."""

    weights: Floats
    w_max: Floats
    table: DeviceTable
    effects: Effects
    plane: PlaneTable
    keys: DeviceKeys
    row: int

    def age(self, effective: Floats, variance: Floats) -> None:
        """Relative effective weights (n_out, n) and their per-read variances, as of `age_matrix`."""
        if is_plain_pair(self.table, self.plane, self.effects):
            pairs = pair_table(self.table, self.plane, self.keys)
            age_pairs(self.weights, self.w_max, *pairs, self.row, effective, variance)
        else:
            age_matrix(*self, effective, variance)

    def tile(self, span: Span) -> tuple[Floats, Floats]:
        """Conductances and per-read variances (devices, columns, rows) of one tile."""
        weights, w_max = self.weights[slice(*span)], self.w_max[slice(*span)]
        g, variance = (np.empty((len(self.plane.slope), *weights.shape), weights.dtype) for _ in range(2))
        age_conductances(
            weights, w_max, self.table, self.effects, self.plane, self.keys, self.row, span[0], g, variance
        )
        return g, variance

    def polarity_normals(self, shape: tuple[int, ...], span: Span) -> Floats:
        """The normals of the devices of a tile by which their polarity differs, (devices, columns, rows)."""
        z = np.empty(shape, np.float32)
        for d, key in enumerate(self.keys.polarity):
            device_normals(key, self.row, span[0], z[d])
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
    factor = devices.plane.weight.astype(devices.weights.dtype) / devices.weights.dtype.type(devices.table.span_uS)
    for start in range(0, len(cols), _TILES_AT_ONCE):
        spans = cols[start : start + _TILES_AT_ONCE]
        tiles = [_features(devices, span, features) for span in spans]
        for f in range(len(effective)):
            own = [tile[f] for tile in tiles]
            has_variance = f < len(variance)
            if wires is not None:
                folded += fold_tiles([(g, spread if has_variance else None) for g, spread in own], wires)
            for (c0, c1), (g, spread) in zip(spans, own, strict=True):
                effective[f][c0:c1] = torch.from_numpy(np.tensordot(factor, g, axes=1))
                if has_variance:
                    variance[f][c0:c1] = torch.from_numpy(np.tensordot(factor**2, spread, axes=1))
    return folded


def _features(devices: PlaneDevices, span: Span, features: AbstractFeatures | None) -> list[tuple[Floats, Floats]]:
    """Conductances and variances of each feature of a tile, which may be changed in place."""
    g, variance = devices.tile(span)
    if features is None:
        return [(g, variance)]
    factors = features.factors(g, devices.polarity_normals(g.shape, span))
    return [(g * factor, variance * (factor * factor)) for factor in factors]
