"""Cross-check against badcrossbar (full sparse nodal analysis), where it is installed."""

import logging

import numpy as np
import pytest

from crossbar_sim.circuit.nodal import solve_array
from crossbar_sim.spec.wires import WiresSpec

badcrossbar = pytest.importorskip("badcrossbar", reason="badcrossbar 1.1.0 is not installed")


@pytest.mark.parametrize("shape", [(32, 32), (64, 64), (24, 40)])
@pytest.mark.parametrize(("r_wl", "r_bl"), [(1.0, 1.0), (0.5, 20.0), (300.0, 100.0)])
def test_currents_and_voltages_agree(shape, r_wl, r_bl):
    logging.getLogger("badcrossbar").setLevel(logging.WARNING)
    rng = np.random.default_rng(0)
    g, v = rng.uniform(0.1, 25, shape), rng.normal(size=(3, shape[0]))
    theirs = badcrossbar.compute(v.T, 1e6 / g, r_i_word_line=r_wl, r_i_bit_line=r_bl)
    own = solve_array(g, v, WiresSpec(r_wl_ohm=r_wl, r_bl_ohm=r_bl), voltages=True)
    np.testing.assert_allclose(own.currents_A, theirs.currents.output, rtol=0, atol=1e-9 * abs(own.currents_A).max())
    np.testing.assert_allclose(own.u_V, np.moveaxis(theirs.voltages.word_line, 2, 0), rtol=0, atol=1e-9)
    np.testing.assert_allclose(own.b_V, np.moveaxis(theirs.voltages.bit_line, 2, 0), rtol=0, atol=1e-9)
