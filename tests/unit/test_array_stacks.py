"""Parts that the torch backend takes at once, as on GPUs, against one part after the other."""

import pytest
import torch
from torch import nn

import crossbar_sim as cs
from crossbar_sim.array import read_torch
from crossbar_sim.array.stacks_torch import stacks_of

PCM = cs.ChipSpec.preset("pcm_1m")
CHIPS = {
    "frozen noise": {"read_noise": {"kind": "frozen"}},
    "per-read noise": {},
    "noise of the read-out alone": {"read_noise": None, "adc.output_noise": 0.2},
    "no converters": {"adc": None, "dac": None},
    "static range": {"dac": {"bits": 8, "range": {"kind": "static", "value": 1.1}}},
    "affine compensation": {"compensation": {"kind": "affine"}},
    "offset": {"encoding": {"kind": "offset"}},
    "reference column": {"encoding": {"kind": "offset", "correction": "column"}, "tile.cols": 100},
    "bit slices": {"encoding": {"kind": "bit_slice", "slices": (3, 2, 2)}},
    "bound management": {"adc.bound_management": {"kind": "iterative"}},
    "bfloat16 weights": {"weight_dtype": "bfloat16"},
}
ROWS = {"all alike": 12, "two lengths": 8, "one tile": None}  # of 36 inputs: 3 x 12, or 8 and 4 x 7


def layer(dtype=torch.float64):
    torch.manual_seed(2)
    return nn.Sequential(nn.Linear(36, 300, dtype=dtype))


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("name", CHIPS)
def test_parts_at_once_give_what_one_after_the_other_gives(name, rows, monkeypatch):
    dtype = torch.float32 if name == "bfloat16 weights" else torch.float64
    chip = PCM.evolve(**{"tile.rows": ROWS[rows], "adc.bound": 1.5}).evolve(**CHIPS[name])
    found = []
    for at_once in (False, True):
        monkeypatch.setattr(read_torch, "stacks_of", lambda matrix, at_once, own=at_once: stacks_of(matrix, own))
        model = cs.map_model(layer(dtype), chip, seed=3, backend="torch")
        model.chip.set_time("1d")
        x = torch.randn(20, 36, dtype=dtype, generator=torch.Generator().manual_seed(0)).requires_grad_()
        y = model(x)
        gradients = torch.autograd.grad(y.square().sum(), (x, model[0].weight, model[0].bias))
        found.append([y.detach(), *gradients])
        found[-1].append(torch.tensor(float(model.chip.summary().n_saturated)))
    for one, several in zip(*found, strict=True):
        tolerance = 1e-5 if dtype == torch.float32 else 1e-12
        torch.testing.assert_close(several, one, rtol=0, atol=tolerance * float(one.abs().max()))


def test_stacks_hold_neighbouring_tiles_of_equal_length():
    chip = PCM.evolve(**{"tile.rows": 11, "encoding": {"kind": "bit_slice", "slices": (3, 2, 2)}})
    matrix = cs.map_model(nn.Sequential(nn.Linear(35, 20)), chip).chip.matrices["0"].matrix
    assert [stop - start for start, stop in matrix.plan.rows] == [9, 9, 9, 8]
    stacks = stacks_of(matrix, at_once=True)
    assert [(own.parts, own.tiles, own.rows, own.planes) for own in stacks] == [
        (slice(0, 9), slice(0, 3), slice(0, 27), 3),
        (slice(9, 12), slice(3, 4), slice(27, 35), 3),
    ]
    assert [own.plane for own in stacks_of(matrix, at_once=False)] == [0, 1, 2] * 4
