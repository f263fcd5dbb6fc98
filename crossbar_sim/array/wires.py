"""Tiles with resistive wires: devices first, then the wires of each tile, then the sum over the devices of a weight."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from crossbar_sim.circuit.effective import Folded, fold_tiles
from crossbar_sim.kernels.conductance import DeviceKeys, DeviceTable, PlaneTable, age_conductances
from crossbar_sim.kernels.effects import Effects
from crossbar_sim.mapping.plan import Span
from crossbar_sim.spec import WiresSpec

_TILES_AT_ONCE = 8  # bounds the memory for single devices; threads take whole tiles


class PlaneDevices(NamedTuple):
    """The devices of one plane of one row of tiles: what `age_matrix` takes."""

    weights: NDArray[np.floating]
    w_max: NDArray[np.floating]
    table: DeviceTable
    effects: Effects
    plane: PlaneTable
    keys: DeviceKeys
    row: int


def age_through_wires(
    devices: PlaneDevices, cols: tuple[Span, ...], wires: WiresSpec, effective: torch.Tensor, variance: torch.Tensor
) -> list[Folded]:
    """Relative effective weights (n_out, rows) as the wires let them act, and their per-read variance or (0, 0).

    Every tile, columns `cols`, has wires of its own. Returns how they were folded in, tile by tile.
    """
    folded: list[Folded] = []
    factor = devices.plane.weight.astype(devices.weights.dtype) / devices.weights.dtype.type(devices.table.span_uS)
    for start in range(0, len(cols), _TILES_AT_ONCE):
        spans = cols[start : start + _TILES_AT_ONCE]
        tiles = [_tile(devices, span) for span in spans]
        folded += fold_tiles([(g, spread if variance.numel() else None) for g, spread in tiles], wires)
        for (c0, c1), (g, spread) in zip(spans, tiles, strict=True):
            effective[c0:c1] = torch.from_numpy(np.tensordot(factor, g, axes=1))
            if variance.numel():
                variance[c0:c1] = torch.from_numpy(np.tensordot(factor**2, spread, axes=1))
    return folded


def _tile(devices: PlaneDevices, span: Span) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Conductances and per-read variances (devices, columns, rows) of one tile."""
    weights = devices.weights[span[0] : span[1]]
    g, variance = (np.empty((len(devices.plane.slope), *weights.shape), weights.dtype) for _ in range(2))
    age_conductances(
        weights,
        devices.w_max[span[0] : span[1]],
        devices.table,
        devices.effects,
        devices.plane,
        devices.keys,
        devices.row,
        span[0],
        g,
        variance,
    )
    return g, variance
