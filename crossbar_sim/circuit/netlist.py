"""An array with its wires as a SPICE deck, and the currents that ngspice prints for it."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crossbar_sim.circuit.lines import Lines, in_series, lines_of
from crossbar_sim.circuit.nonlinear import DeviceLaw
from crossbar_sim.circuit.solution import checked_conductances, checked_drives
from crossbar_sim.circuit.source_lines import source_voltage
from crossbar_sim.circuit.units import to_A, to_S
from crossbar_sim.spec.whole_file import write_whole
from crossbar_sim.spec.wires import WiresSpec
from device_models.effects import AbstractIVCurve, SinhIV
from device_models.errors import UsageError

Floats = NDArray[np.float64]


def write_netlist(
    path: str | Path | None,
    g_uS: ArrayLike,
    v_V: ArrayLike,
    wires: WiresSpec,
    device: AbstractIVCurve | DeviceLaw | None = None,
) -> str:
    """The SPICE deck of an array at one drive, also written to `path` where given; run it with ``ngspice -b``.

    Nodes are w<row>_<col> (of word or source lines) and b<row>_<col> from 0; nodes without resistance between them are
    one. The deck prints the current of each column, i(vs<col>), positive into the sense node.

    Arguments  g_uS (N, M) [uS]; v_V (N,) [V]; device: current law of the devices; None is linear
    Valid      as nodal.solve_array; UsageError for a law without SPICE expression and one beside r_transistor_ohm
    Test       tests/unit/test_circuit_netlist.py
    """
    g, v = checked_conductances(g_uS), checked_drives(v_V, np.shape(g_uS))
    if len(v) != 1:
        raise UsageError(f"v_V: {len(v)} vectors; a netlist holds one drive")
    if device is not None and wires.r_transistor_ohm is not None:
        raise UsageError("wires.r_transistor_ohm: cannot be lumped into a non-linear device; must be none")
    active = v[0] != 0
    lines = lines_of(wires, *g.shape)
    deck = ["* crossbar array", ".options reltol=1e-10 abstol=1e-18 vntol=1e-15 gmin=1e-18"]
    floating = np.zeros_like(active)
    if wires.topology == "separate_source":
        g = g * active[:, None]
        ohm = np.full(len(active), wires.r_source_ohm or 0.0)
        ohm[0] += wires.r_driver_ohm or 0.0
        deck += _source_lines(ohm, source_voltage(v[0]), g.shape[1])
    else:
        if wires.idle_rows == "floating":  # a line without devices has no voltage of its own
            floating = ~active & (g > 0).any(axis=1)
        deck += _word_lines(lines, v[0], floating)
    deck += _bit_lines(lines)
    for i, j in np.argwhere(g > 0):
        if wires.topology == "separate_source":
            ends = _source_node(ohm, i, j), _bit_node(lines, i, j)
        else:
            ends = _word_node(lines, i, j, floating[i]), _bit_node(lines, i, j)
        deck.append(_device(f"g{i}_{j}", g[i, j], ends, wires, device))
    prints = [f"print i(vs{j})" for j in range(g.shape[1])]
    deck += [".control", "set numdgt=14", "op", *prints, ".endc", ".end"]
    text = "\n".join(deck) + "\n"
    if path is not None:
        write_whole(path, text)
    return text


def read_currents(printed: str) -> Floats:
    """Column currents (M,) [A] from what ngspice printed for a deck of `write_netlist`; UsageError if it did not."""
    found = {int(col): float(value) for col, value in re.findall(r"i\(vs(\d+)\)\s*=\s*(\S+)", printed)}
    if not found or sorted(found) != list(range(len(found))):
        raise UsageError(f"ngspice printed no complete set of column currents: {printed.strip()[-200:]!r}")
    return np.array([found[col] for col in range(len(found))])


def _device(
    name: str, g_uS: float, ends: tuple[str, str], wires: WiresSpec, device: AbstractIVCurve | DeviceLaw | None
) -> str:
    if device is None:
        return f"r{name} {ends[0]} {ends[1]} {1 / in_series(to_S(g_uS), wires.r_transistor_ohm):.17g}"
    return f"b{name} {ends[0]} {ends[1]} i={_law_text(g_uS, f'v({ends[0]},{ends[1]})', device)}"


def _source_node(ohm: Floats, i: int, j: int) -> str:
    """Name of a source-line node: that of the nearest node towards the driver without resistance in between."""
    while i >= 0 and ohm[i] == 0:
        i -= 1
    return f"d{j}" if i < 0 else f"w{i}_{j}"


def _source_lines(ohm: Floats, volt: float, n_cols: int) -> list[str]:
    deck = []
    for j in range(n_cols):
        deck.append(f"vd{j} d{j} 0 {volt:.17g}")
        for i in np.flatnonzero(ohm).tolist():
            deck.append(f"rw{i}_{j} {_source_node(ohm, i - 1, j)} w{i}_{j} {ohm[i]:.17g}")
    return deck


def _word_node(lines: Lines, i: int, j: int, is_open: bool) -> str:
    """Name of a word-line node: that of the nearest node towards the driver without resistance in between."""
    while j >= 0 and lines.wl_ohm[j] == 0:
        if j == 0 and is_open:
            break
        j -= 1
    return f"d{i}" if j < 0 else f"w{i}_{j}"


def _bit_node(lines: Lines, i: int, j: int) -> str:
    while i < len(lines.bl_ohm) and lines.bl_ohm[i] == 0:
        i += 1
    return f"s{j}" if i == len(lines.bl_ohm) else f"b{i}_{j}"


def _word_lines(lines: Lines, v: Floats, is_open: NDArray[np.bool_]) -> list[str]:
    deck, last = [], len(lines.wl_ohm) - 1
    for i, volt in enumerate(v):
        if not is_open[i]:
            deck.append(f"vd{i} d{i} 0 {volt:.17g}")
        for j, ohm in enumerate(lines.wl_ohm):
            if ohm > 0 and not (j == 0 and is_open[i]):
                near = _word_node(lines, i, j - 1, is_open[i]) if j > 0 else f"d{i}"
                deck.append(f"rw{i}_{j} {near} w{i}_{j} {ohm:.17g}")
        if lines.wl_far_S > 0 and not is_open[i]:
            deck.append(f"rf{i} {_word_node(lines, i, last, False)} d{i} {1 / lines.wl_far_S:.17g}")
    return deck


def _bit_lines(lines: Lines) -> list[str]:
    deck = []
    for j in range(len(lines.wl_ohm)):
        for i, ohm in enumerate(lines.bl_ohm):
            if ohm > 0:
                deck.append(f"rb{i}_{j} b{i}_{j} {_bit_node(lines, i + 1, j)} {ohm:.17g}")
        deck.append(f"vs{j} s{j} 0 0")
    return deck


def _law_text(g_uS: float, v: str, device: AbstractIVCurve | DeviceLaw) -> str:
    """Current of a device in ampere as a SPICE expression of its voltage `v`."""
    if isinstance(device, SinhIV):
        return f"{to_S(g_uS) * device.v0_V:.17g}*sinh({v}/{device.v0_V:.17g})"
    if isinstance(device, DeviceLaw) and device.spice:
        return device.spice.format(v=v, g=f"{to_S(g_uS):.17g}")
    polynomial = device.polynomial(g_uS) if isinstance(device, AbstractIVCurve) else None
    if polynomial is None:
        raise UsageError("device: a netlist needs the `spice` expression of its law")
    first, second, third = (f"{float(to_A(term)):.17g}" for term in polynomial)  # products: a power drops the sign
    return f"{v}*({first}+{v}*({second}+{v}*({third})))"
