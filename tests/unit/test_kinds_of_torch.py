"""Every layer of torch.nn whose parameters may hold a matrix: mapped, a table, refused by name, or in the account."""

import warnings

import pytest
import torch
from torch import nn
from torch.nn.parameter import is_lazy

import crossbar_sim as cs

IDEAL = cs.ChipSpec.preset("ideal")

ARGUMENTS = {
    nn.AdaptiveLogSoftmaxWithLoss: (4, 6, [2]),
    nn.Bilinear: (4, 3, 2),
    nn.LayerNorm: ((4, 3),),
    nn.RMSNorm: ((4, 3),),
    nn.MultiheadAttention: (4, 2),
    nn.Transformer: (4, 2, 1, 1, 8),
    nn.TransformerDecoderLayer: (4, 2, 8),
    nn.TransformerEncoderLayer: (4, 2, 8),
    nn.RNNBase: ("LSTM", 4, 3),
    nn.modules.rnn.RNNCellBase: (4, 3, True, 4),
}
MAPPED, TABLE, REFUSED, UNKNOWN = "mapped", "table", "refused", "in the account"
OTHERS = {nn.Bilinear: REFUSED, nn.LayerNorm: UNKNOWN, nn.RMSNorm: UNKNOWN, nn.Embedding: TABLE, nn.EmbeddingBag: TABLE}


def _classes(kind=nn.Module):
    for each in kind.__subclasses__():
        yield each
        yield from _classes(each)


def _built(kind):
    """A layer of a class, by its arguments above or by few small numbers; None where it cannot be built so."""
    for arguments in [ARGUMENTS[kind]] if kind in ARGUMENTS else [(), (4,), (4, 3), (2, 4), (4, 3, 2)]:
        try:
            layer = kind(*arguments)
        except Exception:  # each class refuses arguments that do not suit it in its own way
            continue
        lazy_norm = isinstance(layer, nn.modules.batchnorm._LazyNormBase)  # will have vectors only
        if not lazy_norm and any(is_lazy(p) or p.dim() >= 2 for p in layer.parameters()):
            return layer
    return None


with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # some classes are deprecated
    LAYERS = {
        kind: layer
        for kind in sorted(set(_classes()), key=lambda each: (each.__module__, each.__name__))
        if kind.__module__.startswith("torch.nn.modules") and (layer := _built(kind)) is not None
    }


def test_the_walk_finds_what_it_must():
    assert len(LAYERS) >= 25
    assert {nn.Linear, nn.Conv3d, nn.ConvTranspose2d, nn.LSTM, nn.GRUCell, *ARGUMENTS, *OTHERS} <= set(LAYERS)


def _model(layer):
    return nn.ModuleDict({"layer": layer, "beside": nn.Linear(2, 2)})


@pytest.mark.parametrize("kind", LAYERS, ids=lambda each: each.__name__)
def test_each_layer_is_mapped_or_named(kind):
    layer = LAYERS[kind]
    parameters = list(layer.parameters())
    if OTHERS.get(kind) == REFUSED or any(map(is_lazy, parameters)):
        with pytest.raises(cs.UsageError, match=r"^layer[:.]"):
            cs.plan_model(_model(layer), IDEAL)
        return
    coverage = cs.plan_model(_model(layer), IDEAL).coverage
    assert coverage.n_weights + sum(coverage.tables.values()) == 4 + sum(p.numel() for p in parameters if p.dim() >= 2)
    found = UNKNOWN if coverage.digital else TABLE if coverage.tables else MAPPED
    assert found == OTHERS.get(kind, MAPPED)
    assert all(name.startswith("layer.") for name in (*coverage.tables, *(each.name for each in coverage.digital)))


def _inputs(layer):
    """What a layer takes, by its class."""
    match layer:
        case nn.Transformer() | nn.TransformerDecoderLayer():
            return torch.ones(3, 2, 4), torch.ones(3, 2, 4)
        case nn.MultiheadAttention():
            return (torch.ones(3, 2, 4),) * 3
        case nn.AdaptiveLogSoftmaxWithLoss() | nn.modules.loss._Loss():
            return torch.ones(3, 4), torch.tensor([0, 2, 1])
    sizes = [5] * (layer.weight.dim() - 2) if hasattr(layer, "kernel_size") else []
    return (torch.ones(2, getattr(layer, "in_channels", 4), *sizes),)


ABSTRACT = {nn.RNNBase, nn.modules.rnn.RNNCellBase}


@pytest.mark.parametrize("kind", LAYERS, ids=lambda each: each.__name__)
def test_what_is_mapped_is_read_or_refused_by_name(kind):
    layer = LAYERS[kind]
    if kind in OTHERS or kind in ABSTRACT or any(map(is_lazy, layer.parameters())):
        return
    mapped = cs.map_model(_model(layer), IDEAL, rules={"beside": "digital"})
    with torch.no_grad():
        if issubclass(kind, nn.modules.loss._Loss):  # it hands its weight to a fused function
            with pytest.raises(cs.UsageError, match=r"^layer\.linear: .* uses its weight in torch"):
                mapped["layer"](*_inputs(layer))
            return
        mapped["layer"](*_inputs(layer))
    assert all(each.matrix.reads > 0 for each in mapped.chip.matrices.values())


def test_a_layer_that_is_not_initialised_yet_and_has_no_matrix_is_no_hindrance():
    assert list(cs.plan_model(_model(nn.LazyBatchNorm1d()), IDEAL).layers) == ["beside"]


def test_bilinear_is_refused_unless_a_rule_keeps_it_digital():
    model = _model(nn.Bilinear(4, 3, 2))
    with pytest.raises(cs.UsageError) as caught:
        cs.map_model(model, IDEAL)
    assert str(caught.value) == (
        "layer: nn.Bilinear multiplies its weights by two inputs at once and cannot be mapped; "
        "keep it digital with the rule {'layer': \"digital\"}"
    )
    kept = cs.map_model(model, IDEAL, rules={"layer": "digital"})
    assert [(each.name, each.n_weights, each.reason) for each in kept.chip.plan.coverage.digital] == [
        ("layer", 24, "rule")
    ]
    assert kept["layer"](torch.zeros(1, 4), torch.zeros(1, 3)).shape == (1, 2)
