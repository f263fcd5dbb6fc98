"""The conductances that a chip shows."""

import numpy as np
import pytest
import torch
from test_chip import IDEAL, make
from torch import nn

import crossbar_sim as cs


class TestConductances:
    def test_they_are_the_weights(self):
        """g+ - g- over g_max is the weight over the largest of its output; inputs are rows."""
        mapped = make(IDEAL.evolve(**{"tile.rows": 24, "tile.cols": 20}))
        weight = mapped[0].weight.detach().numpy()
        relative = weight / np.abs(weight).max(axis=1, keepdims=True)
        for address in mapped.chip.tiles:
            if address.layer != "0":
                continue
            g_plus, g_minus = mapped.chip.conductances(*address[:2])
            (i0, i1), (o0, o1) = address.inputs, address.outputs
            assert g_plus.shape == g_minus.shape == (i1 - i0, o1 - o0)
            block = relative[o0:o1, i0:i1].T
            np.testing.assert_allclose(g_plus, 25 * np.maximum(block, 0), rtol=1e-6)
            np.testing.assert_allclose(g_minus, 25 * np.maximum(-block, 0), rtol=1e-6)

    @pytest.mark.parametrize("t", [0, "1y"])
    def test_they_are_what_is_read(self, t):
        mapped = make()
        mapped.chip.set_time(t)
        for layer, tile, (i0, _), (o0, o1) in mapped.chip.tiles:
            matrix = mapped.chip.matrices[layer].matrix
            g_plus, g_minus = mapped.chip.conductances(layer, tile)
            assert g_plus.min() >= 0
            effective = matrix.effective[tile[0]][o0:o1].numpy()
            assert matrix.plan.rows[tile[0]][0] == i0
            np.testing.assert_allclose((g_plus - g_minus).T / 25, effective, rtol=1e-5, atol=1e-6)

    def test_two_sided_pairs(self):
        mapped = make(IDEAL.evolve(encoding={"pair": "two_sided"}))
        g_plus, g_minus = mapped.chip.conductances("2")
        np.testing.assert_allclose(g_plus + g_minus, 25.0, rtol=1e-6)
        weight = mapped[2].weight.detach().numpy()
        np.testing.assert_allclose(
            (g_plus - g_minus).T / 25, weight / np.abs(weight).max(axis=1, keepdims=True), rtol=1e-5, atol=1e-6
        )

    def test_conv1d_has_inputs_as_rows_too(self):
        conv1d = pytest.importorskip("transformers.pytorch_utils").Conv1D(5, 8)  # weight (8, 5)
        g_plus, g_minus = cs.map_model(nn.Sequential(conv1d), IDEAL).chip.conductances("0")
        weight = conv1d.weight.detach().numpy()
        np.testing.assert_allclose((g_plus - g_minus) / 25, weight / np.abs(weight).max(axis=0), rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize(
        ("arguments", "text"),
        [
            (("3",), "layer = '3': is not on the chip (2 layers are)"),
            (("0", (2, 0)), "tile = (2, 0): must be (row, column) within (0..1, 0..1)"),
            (("0", (0, -1)), "tile = (0, -1): must be (row, column) within (0..1, 0..1)"),
        ],
    )
    def test_bad_addresses(self, arguments, text):
        with pytest.raises(cs.UsageError) as error:
            make().chip.conductances(*arguments)
        assert str(error.value) == text

    def test_nearest_layer_is_named(self):
        mapped = cs.map_model(nn.Sequential(nn.Sequential(nn.Linear(4, 4))), IDEAL)
        with pytest.raises(cs.UsageError, match=r'nearest: "0\.0"'):
            mapped.chip.conductances("0.1")

    def test_of_changed_weights_are_refused(self):
        mapped = make()
        with torch.no_grad():
            mapped[0].weight.mul_(2)
        with pytest.raises(cs.StateError, match="weights changed after they were programmed"):
            mapped.chip.conductances("0")

    def test_tiles(self):
        tiles = make().chip.tiles
        first = [tile for tile in tiles if tile.layer == "0"]
        assert [(t.tile, t.inputs, t.outputs) for t in first] == [
            ((0, 0), (0, 20), (0, 15)),
            ((0, 1), (0, 20), (15, 30)),
            ((1, 0), (20, 40), (0, 15)),
            ((1, 1), (20, 40), (15, 30)),
        ]
        assert len(tiles) == 4 + 2
