"""Resistive wires."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from crossbar_sim.circuit.effective import effective_conductance, fold_wires
from crossbar_sim.circuit.nodal import solve_array
from crossbar_sim.spec import WiresSpec
from docs.pictures.base import label, panels, picture

SIDE = 64


def _devices() -> np.ndarray:
    return 25.0 * np.random.default_rng(0).random((SIDE, SIDE)) ** 2


@picture("wires_loss")
def loss(figure: Figure) -> None:
    whole, drive = panels(figure, "kept of a device's current, 3 ohm", "columns, all rows driven")
    g = _devices()
    kept = effective_conductance(g, WiresSpec(r_wl_ohm=3.0, r_bl_ohm=3.0)) / g
    image = whole.imshow(kept, cmap="viridis", interpolation="nearest", vmin=kept.min(), vmax=1)
    figure.colorbar(image, ax=whole)
    label(whole, "column", "row (drivers left, sense below)")
    ideal = g.sum(axis=0)
    one = solve_array(g, np.ones(SIDE), WiresSpec(r_wl_ohm=3.0, r_bl_ohm=3.0)).currents_A[0] * 1e6
    two = solve_array(g, np.ones(SIDE), WiresSpec(r_wl_ohm=3.0, r_bl_ohm=3.0, two_sided=True)).currents_A[0] * 1e6
    far = solve_array(g, np.ones(SIDE), WiresSpec(r_wl_ohm=3.0, r_bl_ohm=3.0, r_driver_ohm=20.0)).currents_A[0] * 1e6
    for name, current in (("one driver", one), ("two_sided", two), ("driver of 20 ohm", far)):
        drive.plot(current / ideal, label=name)
    label(drive, "column", "current / ideal", legend=True)


@picture("wires_models")
def models(figure: Figure) -> None:
    error, column = panels(figure, "error of the currents, 64 x 64", "1T1R: select transistor in series")
    g = _devices()
    ohms = np.geomspace(0.1, 10, 9)
    v = np.random.default_rng(1).random(SIDE)
    exact = [solve_array(g, v, WiresSpec(r_wl_ohm=r, r_bl_ohm=r)).currents_A[0] * 1e6 for r in ohms]
    rows: dict[str, list[float]] = {"ideal wires": [], "first_order": [], "ratio": []}
    for r, true in zip(ohms, exact, strict=True):
        for name, found in rows.items():
            tile = np.ascontiguousarray(g.T)[None]
            if name != "ideal wires":
                fold_wires(tile, None, WiresSpec(r_wl_ohm=r, r_bl_ohm=r, model=name, max_c=1.0))
            found.append(float(np.abs(tile[0] @ v - true).max() / true.max()))
    for name, found in rows.items():
        error.loglog(ohms, found, label=name)
    label(error, "resistance of a segment [ohm]", "largest error / largest current", legend=True)
    conductances = np.linspace(0, 100, 50)
    for kilo in (1.0, 5.0):
        column.plot(conductances, conductances / (1 + conductances * 1e-3 * kilo), label=f"{kilo:g} kohm")
    column.plot(conductances, conductances, "k:", lw=0.6)
    label(column, "device [uS]", "cell [uS]", legend=True)
