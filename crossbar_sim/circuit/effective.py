"""Wires folded into conductances: with linear devices and driven lines an array is one linear map."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import config
from numpy.typing import ArrayLike, NDArray

from crossbar_sim.circuit.closed_form import attenuate, first_order_loss
from crossbar_sim.circuit.elimination import linear_map
from crossbar_sim.circuit.lines import Lines, in_series, lines_of
from crossbar_sim.circuit.solution import checked_conductances
from crossbar_sim.circuit.units import S_PER_uS, to_S, to_uS
from crossbar_sim.spec.wires import WiresSpec
from device_models.errors import UsageError

Floats = NDArray[np.floating]


class Folded(NamedTuple):
    """How the wires of one tile were folded in: its largest first-order loss C and whether it was solved exactly."""

    max_c: float
    exact: bool


def effective_conductance(g_uS: ArrayLike, wires: WiresSpec, threads: int | None = None) -> NDArray[np.float64]:
    """The matrix with I = G_eff^T V that an array with resistive wires amounts to.

    Equation   row i of G_eff: column currents of the nodal solution per volt on word line i alone
    Arguments  g_uS (N, M) [uS] as in nodal.solve_array; threads: those of Numba unless given; result (N, M) [uS]
    Valid      idle_rows clamped and topology shared: otherwise currents are not linear in the inputs, UsageError
    Errors     StateError where wires leave nothing of the voltages (elimination.linear_map)
    Cost       a few products of N x N with N x M matrices
    Test       tests/unit/test_circuit_effective.py
    """
    g = checked_conductances(g_uS)
    _check_linear(wires)
    threads = config.NUMBA_NUM_THREADS if threads is None else threads  # type: ignore[attr-defined]
    return to_uS(linear_map(in_series(to_S(g), wires.r_transistor_ohm), lines_of(wires, *g.shape), threads))


def fold_wires(
    g_uS: Floats, variance: Floats | None, wires: WiresSpec, loss: Floats | None = None, threads: int = 1
) -> Folded:
    """Replace the conductances of one tile by those that ideal wires would need for the same currents.

    Equation   g / (1 + C), g (1 - C) or the nodal solution (`wires.model`; nodal where max C > `wires.max_c`); the
               variance of a read is scaled by the square of the closed form's factor; with a transistor in series
               g is g / (1 + g R) first, its variance scaled by (1 + g R)^-4
    Arguments  g_uS (D, M, N) [uS] and variance (D, M, N) [uS^2] or None, both changed in place: device d of output m
               and input n; bit lines in the order of outputs, the devices of an output side by side (M D of them), or,
               if interleaved, each pair (2 q, 2 q + 1) on one bit line with two word lines per input;
               loss: room for as many numbers as g_uS has, else it is made; threads: for the nodal solution
    Valid      finite g >= 0 (UsageError); idle_rows clamped and topology shared
    Test       tests/unit/test_circuit_effective.py
    """
    loss = np.empty_like(g_uS) if loss is None else loss
    if g_uS.ndim != 3 or g_uS.size == 0 or (variance is not None and variance.shape != g_uS.shape):
        raise UsageError(f"g_uS: shape {g_uS.shape}; must be (devices, outputs, inputs), and variance the same")
    if g_uS.dtype not in (np.float32, np.float64):
        raise UsageError(f"g_uS: numbers of type {g_uS.dtype}; must be float32 or float64")
    if g_uS.shape[0] % wires.devices_per_node:
        raise UsageError(f"wires.interleaved = True: needs pairs of devices, the encoding has {g_uS.shape[0]}")
    _check_linear(wires)
    if wires.r_transistor_ohm is not None:
        share = 1 / (1 + g_uS * (wires.r_transistor_ohm * S_PER_uS))
        g_uS *= share
        if variance is not None:
            variance *= share**4
    max_c = _find_loss(g_uS, wires, loss)
    if not np.isfinite(max_c):
        raise UsageError("g_uS: conductances must be finite and at least 0 uS")
    spread = np.empty((0, 0, 0), g_uS.dtype) if variance is None else variance
    if wires.model != "exact" and (wires.max_c is None or max_c <= wires.max_c):
        attenuate(g_uS, spread, loss, wires.model == "ratio")
        return Folded(max_c, exact=False)
    lines, pairs = _tile_lines(g_uS, wires), wires.devices_per_node
    effective = _to_tile(to_uS(linear_map(to_S(_to_array(g_uS, pairs)), lines, threads)), g_uS.shape, pairs)
    if variance is not None:  # not by (g_eff / g)^2: a device that is nearly off has the g_eff of paths around it
        variance /= (1 + loss) ** 2
    g_uS[...] = effective
    return Folded(max_c, exact=True)


def tile_loss(g_uS: Floats, wires: WiresSpec) -> tuple[float, Floats]:
    """Largest and every first-order loss C [1] of a tile g_uS (D, M, N) [uS]; see closed_form.first_order_loss."""
    loss = np.empty_like(g_uS)
    return _find_loss(g_uS, wires, loss), loss


def _find_loss(g_uS: Floats, wires: WiresSpec, loss: Floats) -> float:
    lines, per_node = _tile_lines(g_uS, wires), wires.devices_per_node
    segments = lines.bl_ohm[per_node - 1 :: per_node].copy()  # those between inputs
    return first_order_loss(g_uS, lines.wl_ohm, lines.wl_far_S, segments, per_node, S_PER_uS, loss)


def _tile_lines(g: Floats, wires: WiresSpec) -> Lines:
    n_devices, n_out, n_in = g.shape
    return lines_of(wires, n_in * wires.devices_per_node, n_out * n_devices // wires.devices_per_node)


def _check_linear(wires: WiresSpec) -> None:
    if not wires.is_linear:
        raise UsageError(
            f"wires.idle_rows = {wires.idle_rows!r}, wires.topology = {wires.topology!r}: currents are not linear in "
            "the inputs, so no effective matrix exists; solve each input with nodal.solve_array"
        )


def _to_array(g: Floats, per_node: int) -> Floats:
    """(D, M, N) -> (word lines, bit lines)."""
    n_devices, n_out, n_in = g.shape
    split = g.reshape(n_devices // per_node, per_node, n_out, n_in)
    return split.transpose(3, 1, 2, 0).reshape(n_in * per_node, -1)


def _to_tile(g: Floats, shape: tuple[int, ...], per_node: int) -> Floats:
    """(word lines, bit lines) -> (D, M, N)."""
    n_devices, n_out, n_in = shape
    split = g.reshape(n_in, per_node, n_out, n_devices // per_node)
    return split.transpose(3, 1, 2, 0).reshape(shape)
