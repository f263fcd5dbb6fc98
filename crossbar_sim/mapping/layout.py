"""Layout: the devices of one weight, and what each contributes to it.

Every encoding is a list of planes, the columns that are digitised apart, and each plane a list of devices whose
currents add up before. A device holds a share of the conductance window, a ramp or a digit of the relative weight.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crossbar_sim.spec import BitSliceEncoding, Encoding, OffsetEncoding, PairEncoding

Floats = NDArray[np.floating]


class WeightDevice(NamedTuple):
    """One device of a weight u = w / w_max in [-1, 1]: g = g_min + (g_max - g_min) share(u).

    A ramp (radix 1) has share = clip(slope u + offset, 0, 1); a digit has
    share = (rint(clip(slope u + offset, 0, 1) levels) // base mod radix) / (radix - 1).
    `weight` is the factor of its current in the sum of its plane.
    """

    slope: float
    offset: float
    weight: float
    base: int = 1
    radix: int = 1


class Plane(NamedTuple):
    """Devices that share a column: u = weight (sum of weight_d (g_d / (g_max - g_min)) - zero)."""

    devices: tuple[WeightDevice, ...]
    weight: float = 1.0
    has_offset: bool = False
    polarity: int = 0
    """Sign of its devices where it holds those of one sign only, else 0."""

    def zero(self, g_min_uS: float, g_max_uS: float) -> float:
        """The column's relative conductance at weight zero, where nothing else cancels it."""
        return (g_min_uS + (g_max_uS - g_min_uS) / 2) / (g_max_uS - g_min_uS) if self.has_offset else 0.0


class Layout(NamedTuple):
    """All planes of a weight; `levels` is the largest integer weight where devices hold digits."""

    planes: tuple[Plane, ...]
    levels: int = 1

    @property
    def n_devices(self) -> int:
        """Devices of one weight."""
        return sum(len(plane.devices) for plane in self.planes)

    def apart(self) -> Layout:
        """The same weights with the devices of each sign on planes of their own, for reads of one sign at a time."""
        planes = []
        for plane in self.planes:
            for sign in (1, -1):
                devices = tuple(d._replace(weight=abs(d.weight)) for d in plane.devices if d.weight * sign > 0)
                if devices:
                    planes.append(Plane(devices, plane.weight * sign, plane.has_offset, sign))
        return Layout(tuple(planes), self.levels)

    def targets(self, u: ArrayLike, g_min_uS: float, g_max_uS: float) -> list[Floats]:
        """Target conductances [uS] of each device, plane after plane.

        Equation   as in WeightDevice
        Arguments  u = w / w_max [1]; window [uS]
        Valid      |u| <= 1
        Source     pairs and offsets: CrossSim (balanced, offset), aihwkit (single pair, N pairs with significance);
                   MSF: A. Vasilopoulos et al. (2023), DOI 10.1109/TED.2023.3321014
        Test       tests/unit/test_mapping_layout.py
        """
        values = np.asarray(u)
        span = g_max_uS - g_min_uS
        found: list[Floats] = []
        for device in (device for plane in self.planes for device in plane.devices):
            share = np.clip(device.slope * values + device.offset, 0, 1)
            if device.radix > 1:
                share = np.rint(share * self.levels) // device.base % device.radix / (device.radix - 1)
            found.append(g_min_uS + span * share)
        return found

    def weights(self, conductances_uS: Sequence[Floats], g_min_uS: float, g_max_uS: float) -> Floats:
        """Relative weights that conductances [uS] stand for: the way back of `targets`."""
        span = g_max_uS - g_min_uS
        remaining = iter(conductances_uS)
        total: Floats = np.zeros_like(conductances_uS[0])
        for plane in self.planes:
            column = sum(device.weight * next(remaining) for device in plane.devices) / span
            total = total + plane.weight * (column - plane.zero(g_min_uS, g_max_uS))
        return total


def layout_of(encoding: Encoding) -> Layout:
    """The devices that an encoding spends on a weight; positive and negative devices take turns."""
    match encoding:
        case PairEncoding(pair="two_sided"):
            return Layout((Plane((WeightDevice(0.5, 0.5, 1.0), WeightDevice(-0.5, 0.5, -1.0))),))
        case PairEncoding():
            return Layout((Plane(tuple(_one_sided(encoding))),))
        case OffsetEncoding():
            return Layout((Plane((WeightDevice(0.5, 0.5, 1.0),), weight=2.0, has_offset=True),))
        case BitSliceEncoding():
            return _bit_slices(encoding)


def _one_sided(encoding: PairEncoding) -> list[WeightDevice]:
    n = encoding.devices
    factors = encoding.significance or (1.0,) * n
    total = sum(factors)
    devices = []
    low = 0.0
    for factor in factors:
        equal = encoding.fill == "equal"
        slope, offset = (1.0, 0.0) if equal else (total / factor, -low / factor)
        devices += [WeightDevice(sign * slope, offset, sign * factor / total) for sign in (1.0, -1.0)]
        low += factor
    return devices


def _bit_slices(encoding: BitSliceEncoding) -> Layout:
    levels = 2 ** (encoding.bits - 1) - 1
    planes = []
    base = 1
    for bits in encoding.slices:
        radix = 2**bits
        pair = tuple(WeightDevice(sign, 0.0, sign, base, radix) for sign in (1.0, -1.0))
        planes.append(Plane(pair, weight=base * (radix - 1) / levels))
        base *= radix
    return Layout(tuple(planes), levels)
