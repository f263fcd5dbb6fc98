"""map_model on models that are unusual, and what it refuses."""

import pytest
import torch
from torch import nn

import crossbar_sim as cs

IDEAL = cs.ChipSpec.preset("ideal")
PCM = cs.ChipSpec.preset("pcm_1m")
X = torch.randn(3, 8, generator=torch.Generator().manual_seed(4))


def tiny():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4)).eval()


def assert_equal_digital(mapped, model, *inputs, **options):
    with torch.no_grad():
        torch.testing.assert_close(mapped(*inputs, **options), model(*inputs, **options), rtol=1e-5, atol=1e-6)


class Custom(nn.Linear):
    def forward(self, input):
        return 2 * super().forward(input)


class HasChip(nn.Module):
    def __init__(self):
        super().__init__()
        self.chip = nn.Linear(8, 4)

    def forward(self, x):
        return self.chip(x)


class HasChipAttribute(HasChip):
    def __init__(self):
        nn.Module.__init__(self)
        self.linear, self.chip = nn.Linear(8, 4), 3.0

    def forward(self, x):
        return self.linear(x) * self.chip


class ByKeyword(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 4)

    def forward(self, x):
        return self.linear(input=x)


@pytest.mark.parametrize(
    ("model", "options", "text"),
    [
        ("a model", {}, "model = str: must be a torch.nn.Module"),
        (tiny(), {"chip": "ideal"}, "chip = 'ideal': must be a ChipSpec; did you mean ChipSpec.preset('ideal')?"),
        (tiny(), {"chip": None}, "chip = None: must be a ChipSpec"),
        (tiny(), {"backend": "nmba"}, "backend = 'nmba': must be one of auto, numba, torch; nearest: \"numba\""),
        (tiny(), {"backend": None}, "backend = None: must be one of auto, numba, torch"),
        (tiny(), {"seed": -1}, "seed = -1: must be a whole number >= 0"),
        (tiny(), {"seed": True}, "seed = True: must be a whole number >= 0"),
        (tiny(), {"seed": 1.0}, "seed = 1.0: must be a whole number >= 0"),
        (
            nn.Sequential(nn.Embedding(4, 3), nn.ReLU()),
            {},
            "Sequential: has no layer that can be mapped, such as nn.Linear (docs/mapping_models.md names them)",
        ),
        (nn.Sequential(nn.Linear(2, 2, device="meta")), {}, "0.weight: has no values (meta device); load the weights"),
        (nn.Sequential(nn.Linear(0, 2, device="cpu")), {}, "0.weight: shape (2, 0) has no elements"),
        (nn.Sequential(Custom(2, 2)), {}, "0: Custom changes what nn.Linear computes and cannot be mapped; keep it"),
        (cs.map_model(tiny(), IDEAL), {}, "0: is on a chip already; map the digital model instead"),
    ],
)
@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_refused_arguments(model, options, text):
    with pytest.raises(cs.UsageError) as error:
        cs.map_model(model, **{"chip": IDEAL, **options})
    assert str(error.value).startswith(text)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("bad", ["nan", "inf", "-inf"])
@pytest.mark.parametrize("chip", [IDEAL, PCM.evolve(encoding={"scale": "tensor", "clip": {"alpha": 2.0}})])
def test_weights_must_be_finite(bad, chip):
    model = tiny()
    with torch.no_grad():
        model[2].weight[1, 5] = float(bad)
    with pytest.raises(cs.UsageError) as error:
        cs.map_model(model, chip, inplace=True)
    assert str(error.value) == f"2[1, 5] = {bad}: weights must be finite"
    assert type(model[0]) is type(model[2]) is nn.Linear


def test_bad_weight_of_a_conv1d_is_named_as_in_its_own_matrix():
    conv1d = pytest.importorskip("transformers.pytorch_utils").Conv1D(4, 8)  # weight (8, 4)
    with torch.no_grad():
        conv1d.weight[6, 1] = float("nan")
    with pytest.raises(cs.UsageError, match=r"^0\[6, 1\] = nan"):
        cs.map_model(nn.Sequential(conv1d), IDEAL)


# where each output has a scale of its own; numba alone reads inputs that are played out bit by bit
SCALED = [name for name in cs.ChipSpec.presets() if cs.ChipSpec.preset(name).encoding.scale != "tensor"]
BACKENDS = [(name, backend) for name in SCALED for backend in ("numba", "torch")]


@pytest.mark.parametrize(
    ("preset", "backend"), [both for both in BACKENDS if both not in (("neurram", "torch"), ("sonos_40nm", "torch"))]
)
def test_zero_output_stays_exactly_zero(preset, backend):
    model = tiny()[:1]
    with torch.no_grad():
        model[0].weight[3] = 0
        mapped = cs.map_model(model, cs.ChipSpec.preset(preset), backend=backend)
        if mapped.chip.spec.compensation:
            mapped.chip.set_time("1y")
        y = mapped(X)
        assert torch.equal(y[:, 3], model[0].bias[3].expand(3))
        model[0].bias.zero_()
        assert torch.equal(mapped(X)[:, 3], torch.zeros(3))
        assert (mapped(X)[:, 2] != 0).all()


@pytest.mark.parametrize("backend", ["numba", "torch"])
def test_zero_matrix_and_zero_input(backend):
    model = tiny()[:1]
    with torch.no_grad():
        quiet = cs.map_model(model, PCM.evolve(read_noise=None), backend=backend)
        assert torch.equal(quiet(torch.zeros(2, 8)), model[0].bias.expand(2, 8))
        model[0].weight.zero_()
        mapped = cs.map_model(model, PCM, backend=backend)
        mapped.chip.set_time("1d")
        assert torch.equal(mapped(X), model[0].bias.expand(3, 8))


@pytest.mark.parametrize("backend", ["numba", "torch"])
@pytest.mark.parametrize("shape", [(3, 7), (9,), (2, 2, 1)])
def test_wrong_input_width(shape, backend):
    mapped = cs.map_model(tiny(), PCM, backend=backend)
    with pytest.raises(cs.UsageError) as error, torch.no_grad():
        mapped(torch.zeros(shape))
    assert str(error.value) == f"0: the last dimension of its input must be 8; shape {shape}"


def test_whole_numbers_are_no_input():
    """nn.Linear refuses them, too; answering in whole numbers would cut the result."""
    with pytest.raises((cs.UsageError, RuntimeError)), torch.no_grad():
        cs.map_model(tiny(), IDEAL)(torch.ones(2, 8, dtype=torch.long))


@pytest.mark.parametrize("inplace", [False, True])
def test_a_bare_layer(inplace):
    layer = nn.Linear(8, 4)
    mapped = cs.map_model(layer, IDEAL, inplace=inplace)
    assert len(mapped.chip.matrices) == 1
    assert_equal_digital(mapped, layer, X)


def test_inplace_changes_the_model_itself():
    model, twin = tiny(), tiny()
    mapped = cs.map_model(model, IDEAL, inplace=True)
    assert mapped is model
    assert_equal_digital(model, twin, X)
    with pytest.raises(cs.UsageError, match="is on a chip already"):
        cs.map_model(model, IDEAL)


@pytest.mark.parametrize("inplace", [False, True])
def test_layer_that_appears_twice_is_one_matrix_read_twice(inplace):
    torch.manual_seed(0)
    layer = nn.Linear(8, 8)
    model = nn.Sequential(layer, nn.ReLU(), layer)
    mapped = cs.map_model(model, PCM, inplace=inplace)
    assert mapped[0] is mapped[2]
    assert list(mapped.chip.matrices) == ["0"]
    with torch.no_grad():
        mapped(X)
    assert mapped.chip.matrices["0"].matrix.reads == 2


def test_layers_that_share_a_weight_are_two_matrices():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    model[1].weight = model[0].weight
    mapped = cs.map_model(model, PCM)
    assert mapped[0].weight is mapped[1].weight is model[0].weight
    first, second = (mapped.chip.conductances(name)[0] for name in "01")
    assert (first != second).mean() > 0.4  # other devices; half of the pairs are at zero on this side
    assert_equal_digital(cs.map_model(model, IDEAL), model, X)


@pytest.mark.parametrize("kind", [HasChip, HasChipAttribute])
def test_a_model_that_has_a_chip_of_its_own_is_refused_before_anything_changes(kind):
    model = kind()
    before = model.chip
    with pytest.raises(cs.UsageError, match=r"^chip: "):
        cs.map_model(model, IDEAL, inplace=True)
    assert model.chip is before
    assert not any("AnalogLinear" in type(part).__name__ for part in model.modules())


def test_layer_called_by_keyword():
    model = ByKeyword().eval()
    assert_equal_digital(cs.map_model(model, IDEAL), model, X)


def weight_norm(model):
    nn.utils.parametrizations.weight_norm(model[0])


def spectral_norm_hook(model):
    nn.utils.spectral_norm(model[0])


def forward_hook(model):
    model[0].register_forward_hook(lambda layer, inputs, output: 3 * output)


def forward_pre_hook(model):
    model[0].register_forward_pre_hook(lambda layer, inputs: (3 * inputs[0],))


def own_forward(model):
    plain = model[0].forward
    model[0].forward = lambda x: 3 * plain(x)


@pytest.mark.parametrize("change", [weight_norm, spectral_norm_hook, forward_hook, forward_pre_hook, own_forward])
@pytest.mark.filterwarnings("ignore:.*spectral_norm:FutureWarning")
def test_layer_that_does_more_than_its_weight_is_refused_or_right(change):
    model = tiny()
    change(model)
    with torch.no_grad():
        expected = model(X)
        keys = list(model.state_dict())
        try:
            mapped = cs.map_model(model, IDEAL)
        except cs.UsageError as error:
            assert str(error).startswith("0")  # noqa: PT017
            return
        assert list(mapped.state_dict()) == keys
        torch.testing.assert_close(mapped(X), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("change", [weight_norm, forward_hook, own_forward])
def test_a_layer_that_stays_digital_may_do_anything(change):
    model = tiny()
    change(model)
    assert_equal_digital(cs.map_model(model, IDEAL, rules={"0": "digital"}), model, X)


def test_layer_without_shape_yet_is_refused():
    with pytest.raises(cs.UsageError, match=r"^0"):
        cs.map_model(nn.Sequential(nn.LazyLinear(4)), IDEAL)


def encoder(n_layers=2):
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.1)
    return nn.TransformerEncoder(layer, n_layers).eval()


class TestTransformerEncoder:
    """PyTorch's fused path would take the weights and pass the layers by."""

    def test_layers_are_read(self):
        model = encoder()
        mapped = cs.map_model(model, IDEAL)
        assert_equal_digital(mapped, model, X[None])
        assert {m.matrix.reads for m in mapped.chip.matrices.values()} == {1}
        assert len(mapped.chip.matrices) == 12
        assert model.layers[0].activation_relu_or_gelu == 1  # the original keeps its fused path

    def test_single_layer(self):
        model = encoder().layers[0]
        mapped = cs.map_model(model, IDEAL)
        assert_equal_digital(mapped, model, X[None])
        assert {m.matrix.reads for m in mapped.chip.matrices.values()} == {1}

    @pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
    def test_padding_mask(self):
        model = encoder()
        mask = torch.tensor([[False, False, False], [False, False, True]])
        x = torch.stack([X, X.flip(0)])
        mapped = cs.map_model(model, IDEAL)
        with torch.no_grad():
            found, expected = mapped(x, src_key_padding_mask=mask), model(x, src_key_padding_mask=mask)
        torch.testing.assert_close(found[~mask], expected[~mask], rtol=1e-5, atol=1e-6)


def double(model):
    model.load_state_dict({key: 2 * value for key, value in model.state_dict().items()})


def double_by_assigning(model):
    model.load_state_dict({key: 2 * value for key, value in model.state_dict().items()}, assign=True)


def step_of_an_optimiser(model):
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    model(X).sum().backward()
    optimiser.step()


@pytest.mark.parametrize("move", [None, lambda m: m.to("cpu"), lambda m: m.float()], ids=["stay", "to", "float"])
@pytest.mark.parametrize("change", [double, double_by_assigning, step_of_an_optimiser])
def test_changed_weights_are_refused_wherever_the_model_is_moved(change, move):
    mapped = cs.map_model(tiny(), PCM)
    change(mapped)
    if move:
        move(mapped)
    with pytest.raises(cs.StateError, match=r"weights changed after they were programmed|weight was replaced"):
        mapped(X)


@pytest.mark.parametrize("move", [lambda m: m.to("cpu"), lambda m: m.float(), lambda m: m.requires_grad_(False)])
def test_moving_nowhere_changes_nothing(move):
    mapped = cs.map_model(tiny(), PCM, seed=2)
    mapped.chip.set_time("1d")
    with torch.no_grad():
        before = mapped(X)
        mapped.chip.reset_reads()
        assert torch.equal(move(mapped)(X), before)
    assert mapped.chip.time_s == 86400


def test_change_of_type_keeps_chip_and_time():
    mapped = cs.map_model(tiny(), PCM, seed=2)
    mapped.chip.set_time("1d")
    with torch.no_grad():
        mapped(X)
    mapped.to(torch.float64)
    expected = cs.map_model(tiny().double(), PCM, seed=2)
    expected.chip.set_time("1d")
    with torch.no_grad():
        expected(X.double())
        assert torch.equal(mapped(X.double()), expected(X.double()))  # second read of each


@pytest.mark.parametrize("backend", ["numba", "torch"])
def test_autocast_does_not_lower_the_precision_of_the_chip(backend):
    mapped = cs.map_model(tiny(), PCM.evolve(adc=None), backend=backend)
    with torch.no_grad():
        expected = mapped(X)
        mapped.chip.reset_reads()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(mapped(X), expected)


@pytest.mark.parametrize("made_in_it", [False, True])
@pytest.mark.parametrize("backend", ["auto", "numba", "torch"])
def test_inference_mode(made_in_it, backend):
    """Tensors made in inference mode count no changes and know no gradients."""
    expected = cs.map_model(tiny(), PCM)
    expected.chip.set_time("1d")
    with torch.inference_mode(made_in_it):
        mapped = cs.map_model(tiny(), PCM, backend="auto" if made_in_it else backend)
    with torch.inference_mode():
        mapped.chip.set_time("1y")
        mapped(X)
    mapped.chip.set_time("1d")
    mapped.chip.reset_reads()
    with torch.no_grad():
        torch.testing.assert_close(mapped(X), expected(X), rtol=1e-5, atol=1e-5)


def test_plan_is_that_of_the_mapped_model():
    chip = PCM.evolve(**{"tile.rows": 3})
    rules = {"2": "digital"}
    plan = cs.plan_model(tiny(), chip, rules)
    mapped = cs.map_model(tiny(), chip, rules=rules).chip.plan
    assert (plan.layers, plan.digital) == (mapped.layers, mapped.digital)
    assert plan.n_tiles == 3
    assert plan.n_devices == 128
