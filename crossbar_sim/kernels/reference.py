"""The kernels once more, slow and readable: plain NumPy in float64. Tests hold the fast ones against these."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import interpn

from crossbar_sim.kernels.conductance import DeviceKeys
from crossbar_sim.kernels.mvm import GROUP
from crossbar_sim.mapping import Layout
from device_models import DeviceCurves
from device_models.base import SHIFT_Z

Floats = NDArray[np.float64]
Words = NDArray[np.uint32]


def threefry(key: tuple[int, int], counter0: Words, counter1: Words) -> tuple[Words, Words]:
    """Threefry-2x32 with 13 rounds on arrays of counters."""
    rotations = (13, 15, 26, 6, 17, 29, 16, 24)
    k = [np.uint32(key[0]), np.uint32(key[1]), np.uint32(0x1BD11BDA) ^ np.uint32(key[0]) ^ np.uint32(key[1])]
    with np.errstate(over="ignore"):
        x0, x1 = counter0 + k[0], counter1 + k[1]
        for r in range(13):
            x0 = x0 + x1
            x1 = (x1 << np.uint32(rotations[r % 8])) | (x1 >> np.uint32(32 - rotations[r % 8]))
            x1 = x1 ^ x0
            if r % 4 == 3:
                s = r // 4 + 1
                x0, x1 = x0 + k[s % 3], x1 + k[(s + 1) % 3] + np.uint32(s)
    return x0, x1


def normals(key: tuple[int, int], counter0: Words, counter1: Words) -> tuple[Floats, Floats]:
    """Standard normals of each counter: Box-Muller on the two words, the second as a signed phase."""
    bits0, bits1 = threefry(key, counter0, counter1)
    radius = np.sqrt(-2 * np.log((bits0 | np.uint32(1)) * 2.0**-32))
    phase = bits1.view(np.int32) * (np.pi * 2.0**-31)
    return radius * np.cos(phase), radius * np.sin(phase)


def age_device(
    target: Floats,
    curves: DeviceCurves,
    z_program: Floats,
    z_nu: Floats,
    z_frozen: Floats,
    z_shift: Floats | None = None,
) -> tuple[Floats, Floats]:
    """Conductance and per-read variance of devices with given targets [uS] and normals, from the curves.

    z_shift (K, ...) are the normals of the relaxation of each device, where it has one.
    """

    def look_up(curve: Floats, g: Floats) -> Floats:
        return np.interp(g, curves.nodes_uS, curve)

    def floored(g: Floats) -> Floats:
        return g if curves.floor_uS is None else np.maximum(g, 0)

    programmed = floored(
        target + look_up(curves.program_bias_uS, target) + look_up(curves.program_sigma_uS, target) * z_program
    )
    at = programmed if curves.noise_at_programmed else target
    nu = np.abs(look_up(curves.nu_mean, target) + look_up(curves.nu_sigma, target) * z_nu)
    drifted = programmed * np.exp(-nu * curves.log_time)
    if curves.shift_uS is not None and curves.shift_path is not None and z_shift is not None:
        z = np.clip(np.tensordot(curves.shift_path, z_shift, axes=1), -SHIFT_Z, SHIFT_Z)
        n_g, n_z = curves.shift_uS.shape
        nodes = np.linspace(0, curves.nodes_uS[-1], n_g), np.linspace(-SHIFT_Z, SHIFT_Z, n_z)
        drifted = np.maximum(drifted + interpn(nodes, curves.shift_uS, np.stack([target, z], axis=-1)), 0)
    frozen = look_up(curves.frozen_abs_uS, at) + look_up(curves.frozen_rel, at) * drifted
    per_read = look_up(curves.read_abs_uS, at) + look_up(curves.read_rel, at) * drifted
    dead = target < curves.dead_uS
    low = -np.inf if curves.floor_uS is None else curves.floor_uS
    high = np.inf if curves.ceiling_uS is None else curves.ceiling_uS
    limited = np.clip(drifted + frozen * z_frozen, low, high)
    return np.where(dead, 0, limited), np.where(dead, 0, per_read**2)


def age_matrix(
    weights: Floats,
    w_max: Floats,
    curves: DeviceCurves,
    window_uS: tuple[float, float],
    layout: Layout,
    keys: list[DeviceKeys],
    row: int = 0,
) -> list[tuple[Floats, Floats]]:
    """Relative effective weights (n_out, n) and per-read variances of one row of tiles, for each plane."""
    n_out, n = weights.shape
    counter0, counter1 = np.meshgrid(np.arange(row, row + n, dtype=np.uint32), np.arange(n_out, dtype=np.uint32))
    u = np.divide(weights, w_max[:, None], out=np.zeros_like(weights), where=w_max[:, None] > 0)
    targets = iter(layout.targets(np.clip(u, -1, 1), *window_uS))
    span = window_uS[1] - window_uS[0]
    planes = []
    for plane, key in zip(layout.planes, keys, strict=True):
        effective, variance = np.zeros_like(u), np.zeros_like(u)
        for d, device in enumerate(plane.devices):
            frozen = normals(tuple(key.frozen[d // 2]), counter0, counter1)[d % 2]
            z = normals(tuple(key.program[d]), counter0, counter1)
            shift = np.concatenate([normals(tuple(own), counter0, counter1) for own in key.shift[d]])
            paths = None if curves.shift_path is None else shift[: len(curves.shift_path)]
            g, spread = age_device(next(targets).astype(np.float64), curves, *z, frozen, paths)
            effective += device.weight * g / span
            variance += device.weight**2 * spread / span**2
        planes.append((effective, variance))
    return planes


def quantise(x: Floats, full_scale: Floats | float, levels: int) -> Floats:
    """Codes of the uniform symmetric quantiser: clip(rint(x / (R / L)), -L, L); without levels clip(x, -R, R) / R."""
    full_scale = np.broadcast_to(full_scale, x.shape)
    limit = levels or 1
    codes = np.divide(x, full_scale / limit, out=np.zeros_like(x), where=full_scale > 0)
    return np.clip(np.rint(codes) if levels else codes, -limit, limit)


def read_normals(key: tuple[int, int], tries: Words, n_cols: int) -> Floats:
    """The normals (T, n_cols) of tries (T,) on one row tile (see mvm.GROUP and kernels.tries)."""
    cols = np.arange(n_cols)
    lane = cols % GROUP
    counter = (cols // GROUP * (GROUP // 2) + lane % (GROUP // 2)).astype(np.uint32)
    counter0, counter1 = np.meshgrid(counter, tries)
    z0, z1 = normals(key, counter0, counter1)
    return np.where(lane < GROUP // 2, z0, z1)


def read_columns(
    sums: Floats, sigma: Floats | float, z: Floats, step: float, levels: int, full_scale: Floats, gain: Floats
) -> Floats:
    """Digital outputs of one tile from column sums in the units of the bound; full_scale (T,), gain (C,)."""
    v = sums + sigma * z
    if levels:
        v = np.clip(np.rint(v / step), -levels, levels) * step
    return v * full_scale[:, None] * gain
