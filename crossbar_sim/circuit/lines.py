"""The resistances of one array as the solvers take them: one number per wire segment."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from crossbar_sim.spec.wires import WiresSpec

Floats = NDArray[np.float64]


class Lines(NamedTuple):
    """Segment resistances of an array of N word lines and M bit lines.

    wl_ohm (M,)   between each word-line node and its neighbour towards the driver; the first includes the driver
    bl_ohm (N,)   between each bit-line node and its neighbour towards the sense node; the last includes the sense
    wl_far_S      conductance from the last node of a word line to a second driver at its far end; 0 where there is none
    """

    wl_ohm: Floats
    bl_ohm: Floats
    wl_far_S: float = 0.0


def lines_of(wires: WiresSpec, n_rows: int, n_cols: int) -> Lines:
    """Segment resistances of an array of `n_rows` x `n_cols` devices.

    Interleaved arrays have a word line for each device of a weight (a pair: +V, -V) and one bit-line node for them, so
    the bit-line segments inside a weight have no resistance. Separate source lines are those of source_lines.py.
    """
    driver, sense = wires.r_driver_ohm or 0.0, wires.r_sense_ohm or 0.0
    r_wl, r_bl = wires.r_wl_ohm or 0.0, wires.r_bl_ohm or 0.0
    far_ohm = driver + r_wl if wires.two_sided else 0.0
    return Lines(
        wl_ohm=_line(n_cols, r_wl, driver, 1),
        bl_ohm=_line(n_rows, r_bl, sense, wires.devices_per_node)[::-1].copy(),
        wl_far_S=1.0 / far_ohm if far_ohm > 0 else 0.0,  # a line without any resistance has one potential anyway
    )


def _line(n: int, segment_ohm: float, end_ohm: float, devices_per_node: int) -> Floats:
    ohm = np.where(np.arange(n) % devices_per_node == 0, segment_ohm, 0.0)
    ohm[0] += end_ohm
    return ohm


def in_series(g_S: Floats, r_ohm: float | None) -> Floats:
    """Equation: g' = g / (1 + g R), a device in series with the transistor that selects it."""
    return g_S if r_ohm is None else g_S / (1.0 + g_S * r_ohm)
