"""Recurrent layers and their cells on the chip, with every option that PyTorch gives them."""

import copy
import io
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import parametrizations
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pack_sequence

import crossbar_sim as cs

IDEAL = cs.ChipSpec.preset("ideal")
PCM = cs.ChipSpec.preset("pcm_1m")
LAYERS = (nn.LSTM, nn.GRU, nn.RNN)
CELLS = (nn.LSTMCell, nn.GRUCell, nn.RNNCell)
N_IN, N = 4, 5


def normal(*shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def tensors(value):
    """Every tensor of an output, in order."""
    if isinstance(value, torch.Tensor):
        return [value]
    return [tensor for each in value if each is not None for tensor in tensors(each)]


def assert_same(found, expected, **tolerance):
    assert type(found) is type(expected)
    for own, other in zip(tensors(found), tensors(expected), strict=True):
        torch.testing.assert_close(own, other, **(tolerance or {"rtol": 1e-12, "atol": 1e-12}))


def ideal_equals_digital(model, *inputs):
    model = model.double().eval()
    mapped = cs.map_model(model, IDEAL)
    with torch.no_grad():
        assert_same(mapped(*inputs), model(*inputs))
    weights = {name for name, parameter in model.named_parameters() if parameter.dim() == 2}
    assert set(mapped.chip.matrices) == weights
    assert all(each.matrix.reads > 0 for each in mapped.chip.matrices.values())
    return mapped


@st.composite
def layers(draw):
    """Any recurrent layer, sequences of one length or of several, and a first state or none."""
    kind = draw(st.sampled_from(LAYERS))
    options = {name: draw(st.booleans()) for name in ("bias", "bidirectional", "batch_first")}
    options["num_layers"] = draw(st.integers(1, 3))
    if kind is nn.LSTM:
        options["proj_size"] = draw(st.sampled_from([0, 3]))
    if kind is nn.RNN:
        options["nonlinearity"] = draw(st.sampled_from(["tanh", "relu"]))
    torch.manual_seed(draw(st.integers(0, 9)))
    layer = kind(N_IN, N, **options)
    steps, sequences = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    match draw(st.sampled_from(["padded", "alone", "packed", "sorted"])):
        case "padded":
            x = normal(*((sequences, steps) if layer.batch_first else (steps, sequences)), N_IN)
        case "alone":
            x, sequences = normal(steps, N_IN), None
        case "packed":
            lengths = [draw(st.integers(1, steps)) for _ in range(sequences)]
            x = pack_sequence([normal(length, N_IN, seed=length) for length in lengths], enforce_sorted=False)
        case "sorted":
            x = pack_padded_sequence(normal(steps, sequences, N_IN), [steps] * sequences)
    if draw(st.booleans()):
        return layer, (x,)
    many = layer.num_layers * (1 + layer.bidirectional)
    batch = () if sequences is None else (sequences,)
    h = normal(many, *batch, layer.proj_size or N, seed=1)
    return layer, (x, (h, normal(many, *batch, N, seed=2)) if kind is nn.LSTM else h)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(layers())
def test_any_layer(case):
    layer, inputs = case
    ideal_equals_digital(layer, *inputs)


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("batch", [(), (3,)], ids=str)
@pytest.mark.parametrize("has_state", [False, True])
def test_any_cell(kind, bias, batch, has_state):
    torch.manual_seed(0)
    h, c = normal(*batch, N, seed=1), normal(*batch, N, seed=2)
    state = ((h, c) if kind is nn.LSTMCell else h,) if has_state else ()
    ideal_equals_digital(kind(N_IN, N, bias=bias), normal(*batch, N_IN), *state)


def test_a_cell_with_relu():
    ideal_equals_digital(nn.RNNCell(N_IN, N, nonlinearity="relu"), normal(3, N_IN))


@pytest.mark.parametrize("function", [torch.lstm, torch.gru])
def test_arguments_by_name(function):
    """What code that calls the functions itself may do."""

    class Own(nn.LSTM if function is torch.lstm else nn.GRU):
        def forward(self, x):
            h = torch.zeros(1, x.shape[1], N, dtype=x.dtype)
            options = {"has_biases": True, "num_layers": 1, "dropout": 0.0, "train": False, "bidirectional": False}
            hx = (h, h) if function is torch.lstm else h
            padded = function(input=x, hx=hx, params=self._flat_weights, batch_first=False, **options)
            sizes = torch.full((len(x),), x.shape[1])
            packed = function(data=x.flatten(0, 1), batch_sizes=sizes, hx=hx, params=self._flat_weights, **options)
            return padded[0], packed[0]

    ideal_equals_digital(Own(N_IN, N), normal(3, 2, N_IN))


@pytest.mark.parametrize("kind", LAYERS)
def test_dropout_between_layers_is_drawn_in_training_alone(kind):
    torch.manual_seed(0)
    model, x = kind(N_IN, N, num_layers=2, dropout=0.5).double(), normal(6, 50, N_IN)
    mapped = cs.map_model(model, IDEAL)
    with torch.no_grad():
        outputs = [each.eval()(x)[0] for each in (model, mapped)]
        torch.testing.assert_close(*outputs, rtol=1e-12, atol=1e-12)
        outputs = []
        for each in (model, mapped):
            torch.manual_seed(1)
            outputs.append(each.train()(x)[0])
    torch.testing.assert_close(*outputs, rtol=1e-12, atol=1e-12)
    assert (outputs[0] - mapped.eval()(x)[0].detach()).abs().max() > 1e-2


def models():
    return {
        "lstm": (nn.LSTM(N_IN, N, num_layers=2, bidirectional=True, proj_size=3), (normal(3, 2, N_IN),)),
        "gru": (nn.GRU(N_IN, N), (pack_sequence([normal(3, N_IN), normal(2, N_IN)]),)),
        "rnn": (nn.RNN(N_IN, N, bias=False), (normal(3, 2, N_IN),)),
        "lstm cell": (nn.LSTMCell(N_IN, N), (normal(2, N_IN), (normal(2, N, seed=1), normal(2, N, seed=2)))),
        "gru cell": (nn.GRUCell(N_IN, N), (normal(2, N_IN), normal(2, N, seed=1))),
    }


@pytest.fixture(params=["lstm", "gru", "rnn", "lstm cell", "gru cell"])
def case(request):
    torch.manual_seed(0)
    model, inputs = models()[request.param]
    return model.double().eval(), inputs


def test_gradients_are_those_of_the_digital_layer(case):
    model, inputs = case
    mapped = cs.map_model(copy.deepcopy(model), IDEAL, backend="torch")
    for each in (model, mapped):
        sum(own.square().sum() for own in tensors(each(*inputs)) if own.is_floating_point()).backward()
    for (name, own), other in zip(mapped.named_parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(own.grad, other.grad, rtol=1e-10, atol=1e-11, msg=name)


def test_each_matrix_may_stay_digital(case):
    model, inputs = case
    names = list(cs.plan_model(model, IDEAL).layers)
    for name in names:
        mapped = cs.map_model(model, IDEAL, rules={name: "digital"})
        assert set(mapped.chip.matrices) == set(names) - {name}
        with torch.no_grad():
            assert_same(mapped(*inputs), model(*inputs))


def test_a_chip_is_chosen_by_its_seed_and_ages(case):
    model, inputs = case
    with torch.no_grad():
        chips = [cs.map_model(model, PCM, seed=seed) for seed in (3, 3, 4)]
        y, same, other = (tensors(each(*inputs))[0] for each in chips)
        assert torch.equal(y, same)
        assert not torch.equal(y, other)
        assert (y - tensors(model(*inputs))[0]).abs().max() > 1e-4
        chips[0].chip.set_time("1y")
        assert (tensors(chips[0](*inputs))[0] - y).abs().max() > 1e-4


def test_copies_files_types_and_states(case, tmp_path):
    model, inputs = case
    mapped = cs.map_model(model, PCM, seed=3)
    mapped.chip.set_time("1d")
    mapped.chip.save(tmp_path / "chip")
    buffer = io.BytesIO(pickle.dumps(mapped))
    copies = [copy.deepcopy(mapped), pickle.load(buffer), cs.load_chip(tmp_path / "chip", model)]  # noqa: S301
    inplace = cs.map_model(copy.deepcopy(model), PCM, seed=3, inplace=True, state="regenerated")
    inplace.chip.set_time("1d")
    exact = {"rtol": 0, "atol": 0}
    with torch.no_grad():
        first = mapped(*inputs)
        for each in (*copies, inplace):
            assert_same(each(*inputs), first, **exact)
        widened = cs.map_model(copy.deepcopy(model).float(), IDEAL).double()
        assert_same(widened(*inputs), model(*inputs), rtol=1e-6, atol=1e-6)


def test_a_state_dict_is_that_of_the_digital_layer(case):
    model, _ = case
    assert list(cs.map_model(model, IDEAL).state_dict()) == list(model.state_dict())


def test_ranges_and_bounds_are_found_on_data(case):
    model, inputs = case
    chip = PCM.evolve(**{"dac.range": {"kind": "calibrated", "quantile": 1.0}})
    mapped = cs.map_model(model, chip, calibration_data=[inputs])
    found = {name: float(each.matrix.input_range.max()) for name, each in mapped.chip.matrices.items()}
    assert min(found.values()) > 0
    first = next(iter(found))
    data = inputs[0].data if isinstance(inputs[0], PackedSequence) else inputs[0]
    assert found[first] == pytest.approx(float(data.abs().max()), rel=1e-6)
    assert set(cs.calibrate_adc_bounds(cs.map_model(model, PCM), [inputs])) == set(found)


def test_every_step_is_a_read_and_the_inputs_of_all_steps_are_one():
    mapped = cs.map_model(nn.LSTM(N_IN, N), IDEAL)
    with torch.no_grad():
        mapped(torch.zeros(7, 2, N_IN))
    assert [mapped.chip.matrices[name].matrix.reads for name in ("weight_ih_l0", "weight_hh_l0")] == [1, 7]


def test_a_parametrised_weight_stays_digital_beside_others():
    torch.manual_seed(0)
    layer = parametrizations.weight_norm(nn.LSTM(N_IN, N).double(), "weight_hh_l0").eval()
    mapped, x = cs.map_model(layer, IDEAL), normal(3, 2, N_IN)
    assert list(mapped.chip.matrices) == ["weight_ih_l0"]
    assert {each.reason for each in mapped.chip.plan.coverage.digital} == {"parametrised weight"}
    with torch.no_grad():
        assert_same(mapped(x), layer(x))


def test_low_precision_comes_out_in_its_type(case):
    layer = copy.deepcopy(case[0]).bfloat16()
    x = torch.zeros(3, 2, N_IN) if isinstance(layer, nn.RNNBase) else torch.zeros(2, N_IN)
    with torch.no_grad():
        assert tensors(cs.map_model(layer, IDEAL)(x.bfloat16()))[0].dtype == torch.bfloat16
