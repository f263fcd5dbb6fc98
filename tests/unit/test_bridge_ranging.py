"""Calibrated input ranges: quantiles of what the digital model feeds its layers."""

import numpy as np
import pytest
import torch
from torch import nn

import crossbar_sim as cs

ROWS = 5
BATCHES = [torch.randn(7, 3, 12, generator=torch.Generator().manual_seed(i)) for i in range(3)]


class Model(nn.Module):
    """Two layers in a row; `unused` is never called; `keep` scales the input."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(12, 9), nn.Linear(9, 4)
        self.dropout = nn.Dropout(0.5)

    def forward(self, x, keep=1.0):
        return self.second(self.dropout(torch.relu(self.first(x * keep))))


def calibrated(quantile=0.9, **changes):
    chip = cs.ChipSpec.preset("pcm_1m")
    return chip.evolve(
        dac={"bits": 8, "range": {"kind": "calibrated", "quantile": quantile, **changes}}, **{"tile.rows": ROWS}
    )


def found_ranges(mapped):
    return {name: programmed.matrix.input_range.tolist() for name, programmed in mapped.chip.matrices.items()}


def expected_ranges(model, data, quantile, max_vectors=1000):
    """numpy.quantile of |x| of each row tile, from hooks of its own."""
    seen = {"first": [], "second": []}
    hooks = [
        getattr(model, name).register_forward_hook(lambda _, x, y, name=name: seen[name].append(x[0].detach()))
        for name in seen
    ]
    model.eval()
    for batch in data:
        model(batch)
    for hook in hooks:
        hook.remove()
    ranges = {}
    for name, parts in seen.items():
        vectors = np.abs(torch.cat([part.reshape(-1, part.shape[-1]) for part in parts]).numpy())
        vectors = vectors[vectors.max(axis=1) > 0][:max_vectors]
        spans = [(0, 4), (4, 8), (8, 12)] if name == "first" else [(0, 5), (5, 9)]
        ranges[name] = [float(np.quantile(vectors[:, a:b].astype(np.float64), quantile)) for a, b in spans]
    return ranges


@pytest.mark.parametrize("quantile", [1.0, 0.99995, 0.99, 0.7])
def test_ranges_are_quantiles_of_each_row_tile(quantile):
    mapped = cs.map_model(Model(), calibrated(quantile), calibration_data=BATCHES)
    expected = expected_ranges(Model(), BATCHES, quantile)
    assert found_ranges(mapped).keys() == expected.keys()
    for name, values in found_ranges(mapped).items():
        assert values == pytest.approx(expected[name], rel=1e-6)


@pytest.mark.parametrize("max_vectors", [1, 10, 21, 40])
def test_only_the_first_vectors_count(max_vectors):
    mapped = cs.map_model(Model(), calibrated(0.8, max_vectors=max_vectors), calibration_data=BATCHES)
    for name, values in expected_ranges(Model(), BATCHES, 0.8, max_vectors).items():
        assert found_ranges(mapped)[name] == pytest.approx(values, rel=1e-6)


def test_silent_vectors_do_not_count():
    data = [torch.cat([torch.zeros(50, 12), BATCHES[0].reshape(-1, 12)])]
    mapped = cs.map_model(Model(), calibrated(0.7), calibration_data=data)
    assert found_ranges(mapped)["first"] == pytest.approx(expected_ranges(Model(), data, 0.7)["first"], rel=1e-6)
    assert found_ranges(mapped)["first"][0] > 0.3


@pytest.mark.parametrize(
    "data",
    [
        BATCHES[0],
        {"x": BATCHES[0]},
        [BATCHES[0]],
        [(BATCHES[0],)],
        [[BATCHES[0], 1.0]],
        [{"x": BATCHES[0] / 2, "keep": 2.0}],
        (batch for batch in BATCHES[:1]),
    ],
    ids=["tensor", "mapping", "list", "tuples", "lists", "mappings", "generator"],
)
def test_forms_of_data(data):
    mapped = cs.map_model(Model(), calibrated(), calibration_data=data)
    expected = expected_ranges(Model(), BATCHES[:1], 0.9)
    assert found_ranges(mapped)["first"] == pytest.approx(expected["first"], rel=1e-6)


def test_model_is_left_in_its_mode_and_without_hooks():
    model = Model().train()
    model.second.eval()
    mapped = cs.map_model(model, calibrated(), calibration_data=BATCHES)
    assert [m.training for m in (model, model.first, model.second, model.dropout)] == [True, True, False, True]
    assert not model.first._forward_pre_hooks
    expected = expected_ranges(Model(), BATCHES, 0.9)  # without the dropout of the training mode
    assert found_ranges(mapped)["second"] == pytest.approx(expected["second"], rel=1e-6)


def test_calibrated_reads_like_static_with_the_same_value():
    layer, x = nn.Sequential(nn.Linear(12, 9)), torch.randn(5, 12)
    chip = calibrated(1.0).evolve(**{"tile.rows": 512})
    static = chip.evolve(dac={"bits": 8, "range": {"kind": "static", "value": float(x.abs().max())}})
    with torch.no_grad():
        assert torch.equal(cs.map_model(layer, chip, calibration_data=x)(x), cs.map_model(layer, static)(x))


def test_only_layers_with_calibrated_ranges_are_calibrated():
    mapped = cs.map_model(
        Model(), cs.ChipSpec.preset("pcm_1m"), rules={"second": calibrated()}, calibration_data=BATCHES
    )
    assert mapped.chip.matrices["first"].matrix.input_range is None
    assert len(found_ranges_of(mapped, "second")) == 2


def found_ranges_of(mapped, name):
    return mapped.chip.matrices[name].matrix.input_range


def test_changed_time_and_reprogramming_keep_the_ranges():
    mapped = cs.map_model(Model(), calibrated(), calibration_data=BATCHES)
    before = found_ranges(mapped)
    mapped.chip.set_time("1y")
    mapped.chip.reprogram(5)
    assert found_ranges(mapped) == before


class Lazy(Model):
    def forward(self, x):
        return self.first(x)


@pytest.mark.parametrize(
    ("model", "chip", "data", "text"),
    [
        (Model, calibrated(), None, "calibration_data: needed, because dac.range is calibrated; give batches for the"),
        (
            Model,
            cs.ChipSpec.preset("pcm_1m"),
            BATCHES,
            "calibration_data: given, but no dac.range of a layer is found on it, so it would not be used",
        ),
        (
            Model,
            calibrated(0.01),
            BATCHES,
            "second: dac.range.kind = 'calibrated' gives row tile 0 a full scale of 0, though its inputs reach ",
        ),
        (Model, calibrated(), [], "calibration_data: is empty"),
        (Model, calibrated(), "some text", "calibration_data: must be a batch or an iterable of batches"),
        (Model, calibrated(), 3, "calibration_data: must be a batch or an iterable of batches"),
        (Lazy, calibrated(), BATCHES, "calibration_data: second received no input other than zeros"),
        (Model, calibrated(), [torch.zeros(4, 12)], "calibration_data: first received no input other than zeros"),
        (
            Model,
            calibrated(),
            [BATCHES[0], torch.full((2, 12), torch.nan)],
            "calibration_data: the input of first is not finite",
        ),
        (
            Model,
            calibrated(),
            [torch.full((2, 12), torch.inf)],
            "calibration_data: the input of first is not finite",
        ),
    ],
    ids=["none", "unused", "mostly zeros", "empty", "text", "number", "unreached", "zeros", "nan", "inf"],
)
def test_refused_data(model, chip, data, text):
    model = model()
    with pytest.raises(cs.UsageError) as error:
        cs.map_model(model, chip, calibration_data=data)
    assert str(error.value).startswith(text)
    assert not model.first._forward_pre_hooks
