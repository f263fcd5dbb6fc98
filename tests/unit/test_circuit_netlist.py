"""SPICE decks: ngspice finds the currents of the package's solvers; tests are skipped where it is not installed."""

import shutil
import subprocess

import numpy as np
import pytest

from crossbar_sim.circuit.netlist import read_currents, write_netlist
from crossbar_sim.circuit.nodal import solve_array
from crossbar_sim.circuit.nonlinear import DeviceLaw, solve_nonlinear
from crossbar_sim.spec.wires import WiresSpec
from device_models.effects import CubicIV, MiloIV, SinhIV
from device_models.errors import UsageError

needs_ngspice = pytest.mark.skipif(shutil.which("ngspice") is None, reason="ngspice is not installed")
LAWS = {
    "linear": None,
    "cubic": CubicIV(k3_per_V2=0.25),
    "sinh": SinhIV(v0_V=0.25),
    "milo": MiloIV(),
    "own": DeviceLaw(lambda g, v: g * np.arctan(v), lambda g, v: g / (1 + v * v), "{g}*atan({v})"),
}
WIRES = WiresSpec(r_wl_ohm=20.0, r_bl_ohm=30.0, r_driver_ohm=200.0, r_sense_ohm=100.0)


def array(n):
    rng = np.random.default_rng(n)
    g = 50 * rng.uniform(size=(n, n)) ** 2
    g[rng.uniform(size=g.shape) < 0.2] = 0
    return g, 0.4 * rng.uniform(-1, 1, n)


def ngspice(path):
    done = subprocess.run(["ngspice", "-b", str(path)], capture_output=True, text=True, check=False)
    return read_currents(done.stdout)


@needs_ngspice
@pytest.mark.parametrize("n", [8, 16, 32])
@pytest.mark.parametrize("law", LAWS)
def test_ngspice_finds_the_same_currents(n, law, tmp_path):
    (g, v), device = array(n), LAWS[law]
    if law == "milo":
        g = 60 + g
    write_netlist(tmp_path / "array.cir", g, v, WIRES, device)
    own = solve_array(g, v, WIRES) if device is None else solve_nonlinear(g, v, WIRES, device)
    found = ngspice(tmp_path / "array.cir")
    np.testing.assert_allclose(own.currents_A[0], found, rtol=1e-6, atol=1e-6 * abs(found).max())


@needs_ngspice
@pytest.mark.parametrize(
    "fields",
    [
        {"two_sided": True},
        {"r_wl_ohm": None},
        {"r_bl_ohm": None},
        {"r_wl_ohm": None, "r_driver_ohm": None},
        {"r_bl_ohm": None, "r_sense_ohm": None},
        {"interleaved": True},
        {"r_transistor_ohm": 5e3},
        {"idle_rows": "floating", "model": "exact"},
        {"idle_rows": "floating", "model": "exact", "r_wl_ohm": None, "two_sided": True},
        {"topology": "separate_source", "model": "exact", "r_wl_ohm": None, "r_source_ohm": 25.0},
        {"topology": "separate_source", "model": "exact", "r_wl_ohm": None, "r_driver_ohm": None},
    ],
    ids=str,
)
def test_ngspice_agrees_on_every_kind_of_array(fields, tmp_path):
    g, v = array(8)
    v[[1, 6]] = 0
    wires = WIRES.evolve(**fields)
    if wires.topology == "separate_source":
        v = np.where(v == 0, 0, 0.2)
    write_netlist(tmp_path / "array.cir", g, v, wires)
    found = ngspice(tmp_path / "array.cir")
    np.testing.assert_allclose(solve_array(g, v, wires).currents_A[0], found, atol=1e-6 * abs(found).max())


@needs_ngspice
@pytest.mark.parametrize("law", LAWS)
def test_ngspice_agrees_on_separate_source_lines(law, tmp_path):
    g = 60 + array(8)[0]
    v = 0.3 * (np.arange(8) % 3 > 0)
    wires = WIRES.evolve(topology="separate_source", model="exact", r_wl_ohm=None, r_source_ohm=25.0)
    write_netlist(tmp_path / "array.cir", g, v, wires, LAWS[law])
    own = solve_nonlinear(g, v, wires, LAWS[law]) if LAWS[law] else solve_array(g, v, wires)
    np.testing.assert_allclose(own.currents_A[0], ngspice(tmp_path / "array.cir"), rtol=1e-6)


def test_a_deck_holds_every_element_once():
    text = write_netlist(None, [[10.0, 0.0], [30.0, 40.0]], [0.2, 0.1], WIRES)
    names = [line.split()[0] for line in text.splitlines() if line[0] in "rvb"]
    wires = [f"{kind}{i}_{j}" for kind in ("rw", "rb") for i in (0, 1) for j in (0, 1)]
    assert sorted(names) == sorted([*wires, "rg0_0", "rg1_0", "rg1_1", "vd0", "vd1", "vs0", "vs1"])
    assert "rw0_0 d0 w0_0 220" in text
    assert "rb1_1 b1_1 s1 130" in text
    assert f"rg0_0 w0_0 b0_0 {1 / (10.0 * 1e-6):.17g}" in text


@pytest.mark.parametrize(
    ("v", "wires", "device", "message"),
    [
        (np.ones((2, 1)), WIRES, None, "2 vectors; a netlist holds one drive"),
        ([1.0], WIRES, DeviceLaw(np.multiply, np.multiply), "needs the `spice` expression"),
        ([1.0], WIRES.evolve(r_transistor_ohm=1.0), LAWS["sinh"], "r_transistor_ohm"),
    ],
)
def test_what_cannot_be_written_is_refused(v, wires, device, message):
    with pytest.raises(UsageError, match=message):
        write_netlist(None, [[1.0]], v, wires, device)


@pytest.mark.parametrize("printed", ["", "no such node", "i(vs1) = 1e-6"])
def test_incomplete_output_is_refused(printed):
    with pytest.raises(UsageError, match="no complete set"):
        read_currents(printed)
