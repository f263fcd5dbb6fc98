"""What the summary of a chip says."""

import pytest
import torch
from test_chip import IDEAL, PCM, make
from torch import nn

import crossbar_sim as cs


class TestSummary:
    def test_numbers(self):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(600, 40), nn.Linear(40, 40)).eval()
        chip = cs.ChipSpec.preset("pcm_1m").evolve(compensation=None)
        mapped = cs.map_model(model, chip, seed=12)
        mapped.chip.set_time("30d")
        summary = mapped.chip.summary()
        effective, variance, columns = 4 * 25600, 2 * 25600, 4 * 2 * 40 * 3  # float32, bfloat16, w_max and factors
        assert summary.state_bytes == effective + variance + columns
        assert summary.compensation_bytes == 0
        text = str(summary)
        cells = 3 * 512 * 512
        assert (
            f"total: 2 layers, 25,600 weights, 3 tiles, 51,200 devices, {25600 / cells:.0%} of the cells used" in text
        )
        assert "seed 12, 30d after programming" in text
        assert "2x300 | 40" in text
        assert "inputs clipped, outputs saturated: nothing was read yet" in text
        for phrase in (
            "device pcm_1m, 0 to 25 uS",
            "one_sided pairs scaled per column",
            "DAC 8 bit, dynamic range",
            "ADC 8 bit, bound 10",
            "read noise split at 1 s",
            "drift compensation off",
        ):
            assert phrase in text

    def test_what_is_off(self):
        text = str(make(IDEAL).chip.summary())
        for phrase in ("DAC off", "ADC off", "read noise off", "drift compensation off"):
            assert phrase in text

    def test_memory_of_reference_reads(self):
        summary = make().chip.summary()
        assert summary.compensation_bytes == 32 * (2 * 30 + 2 * 5)  # one byte per probe, row tile and output

    @pytest.mark.parametrize(("kind", "phrase"), [(None, "drift compensation off"), ("global", "compensation global")])
    def test_present_compensation(self, kind, phrase):
        mapped = make(PCM if kind is None else PCM.evolve(compensation=None))
        mapped.chip.compensate(kind)
        assert phrase in str(mapped.chip.summary())

    def test_two_chips_of_one_name(self):
        text = str(make(rules={"2": PCM.evolve(**{"dac.bits": 6})}).chip.summary())
        assert "DAC 8 bit" in text
        assert "DAC 6 bit" in text

    @pytest.mark.parametrize("backend", ["numba", "torch"])
    def test_clipped_and_saturated_are_counted(self, backend):
        """Four devices at g_max: full inputs drive 4 units against a bound of 2.5; inputs beyond 1 are clipped."""
        layer = nn.Linear(4, 3, bias=False)
        with torch.no_grad():
            layer.weight.copy_(torch.tensor([[1.0, 1, 1, 1], [-1, -1, -1, -1], [1, -1, 1, -1]]))
        chip = IDEAL.evolve(dac={"bits": 8, "range": {"kind": "static", "value": 1.0}}, adc={"bits": 8, "bound": 2.5})
        mapped = cs.map_model(nn.Sequential(layer), chip, backend=backend)
        x = torch.tensor([[1.0, 1, 1, 1], [0.5, 0.5, 0.5, 0.5], [2.0, -3.0, 0, 1.01], [0.0, 0, 0, 0]])
        with torch.no_grad():
            y = mapped(x)
        summary = mapped.chip.summary()
        # sums: 4 -4 0 | 2 -2 0 | 1-1+0+1 -1 1+1+0-1
        assert (summary.n_inputs, summary.n_clipped) == (16, 3)
        assert (summary.n_outputs, summary.n_saturated) == (12, 2)
        assert "inputs clipped by the DAC: 3 of 16 (0.19); outputs saturated in the ADC: 2 of 12 (0.17)" in str(summary)
        expected = torch.tensor([[2.5, -2.5, 0], [2.0, -2.0, 0], [1.0, -1.0, 1.0], [0, 0, 0]])
        assert torch.allclose(y, expected, atol=4 / 127 + 2.5 / 127 / 2)
        assert y[0].tolist() == [2.5, -2.5, 0.0]
        mapped.chip.reset_counts()
        assert mapped.chip.summary().n_inputs == 0
        assert "nothing was read yet" in str(mapped.chip.summary())
