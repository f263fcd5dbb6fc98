"""The account of a model: what is on the chip, what stays digital, and why; and layers that only look like others."""

import copy

import pytest
import torch
from torch import nn

import crossbar_sim as cs
from crossbar_sim.mapping import Coverage, DigitalMatrix
from device_models.errors import UnmappedWarning, UnreadLayerWarning

IDEAL = cs.ChipSpec.preset("ideal")
PCM = cs.ChipSpec.preset("pcm_1m")
X = torch.randn(3, 8, generator=torch.Generator().manual_seed(4))


class Router(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 8))

    def forward(self, x):
        return nn.functional.linear(x, self.weight.type(x.dtype))


class Mixed(nn.Module):
    """A layer, a router, an embedding, and a matrix that is multiplied in a way of its own."""

    def __init__(self):
        super().__init__()
        self.embed, self.router, self.proj = nn.Embedding(10, 8), Router(), nn.Linear(8, 8, bias=False)
        self.mixing, self.norm = nn.Parameter(torch.randn(4, 8)), nn.LayerNorm(8)

    def forward(self, x):
        return torch.einsum("ij,kj->ik", self.norm(self.proj(x)), self.mixing) + self.router(x)


def test_every_matrix_is_on_the_chip_or_named_with_its_share():
    with pytest.warns(UnmappedWarning) as warned:
        mapped = cs.map_model(Mixed(), IDEAL)
    assert [str(each.message) for each in warned] == [
        "mixing: 25 % of the matrix weights stay digital, because no kind of layer knows them; "
        'a rule such as {"mixing": "digital"} says that they may'
    ]
    coverage = mapped.chip.plan.coverage
    assert coverage == cs.plan_model(Mixed(), IDEAL).coverage
    assert coverage.n_weights == 64 + 32 + 32
    assert coverage.share_of_weights == coverage.share_of_macs == 0.5
    assert coverage.digital == (
        DigitalMatrix("router", 32, 1.0, "router"),
        DigitalMatrix("mixing", 32, 1.0, "no kind of layer knows it"),
    )
    lines = [
        "on the chip: 50 % of 128 matrix weights, 50 % of the multiply-accumulates of a token",
        "digital: router, 25 % of the weights: router",
        "digital: mixing, 25 % of the weights: no kind of layer knows it",
        "tables that are looked up, not counted: embed.weight",
    ]
    assert "\n".join(lines) in str(mapped.chip.summary())
    assert "\n".join(lines) in str(cs.plan_model(Mixed(), IDEAL))


def test_a_rule_says_that_a_matrix_may_stay_digital(recwarn):
    mapped = cs.map_model(Mixed(), IDEAL, rules={"mixing": "digital"})
    assert not [each for each in recwarn if each.category is UnmappedWarning]
    assert mapped.chip.plan.coverage.digital[1].reason == "rule"
    with pytest.raises(cs.UsageError, match="put mixing on a chip, but no kind of layer knows how it is read"):
        cs.map_model(Mixed(), IDEAL, rules={"mixing": PCM})


@pytest.mark.parametrize(("rules", "on_chip"), [({"router": PCM}, True), ({"*": PCM}, False), ({None: PCM}, False)])
def test_a_router_goes_on_a_chip_by_a_rule_of_its_own_only(rules, on_chip):
    mapped = cs.map_model(Mixed(), IDEAL, rules={"mixing": "digital", **rules})
    assert ("router" in mapped.chip.matrices) is on_chip
    with torch.no_grad():
        mapped(X)
    assert not on_chip or mapped.chip.matrices["router"].matrix.reads == 1


def test_experts_count_by_the_tokens_they_are_sent():
    coverage = Coverage(n_on_chip=100, macs_on_chip=25.0, digital=(DigitalMatrix("head", 100, 1.0, "rule"),))
    assert (coverage.share_of_weights, coverage.share_of_macs) == (0.5, 0.2)
    transformers = pytest.importorskip("transformers")
    config = transformers.MixtralConfig(
        vocab_size=100, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, num_local_experts=8, num_experts_per_tok=2,
    )  # fmt: skip
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config)
    coverage = cs.plan_model(model, PCM).coverage
    attention, head, experts, router = 2 * 3 * 1024, 3200, 2 * 8 * 3 * 48 * 32, 2 * 8 * 32
    assert coverage.n_weights == attention + head + experts + router
    assert coverage.macs_on_chip == attention + head + experts / 4


def test_a_share_is_never_rounded_to_all_or_nothing():
    coverage = Coverage(10**7, 1.0, (DigitalMatrix("a", 1, 1e-9, "rule"),))
    assert str(coverage).startswith("on the chip: 99.9 % of")
    assert "1e-05 % of the weights" in str(coverage)


def test_models_without_values_are_planned():
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(8192, 8192, dtype=torch.bfloat16), Scaled(8, 4), Doubled(8, 4))
    plan = cs.plan_model(model, PCM, rules={"2": "digital"})
    assert list(plan.layers) == ["0", "1"]
    with pytest.raises(cs.UsageError, match=r"^0.weight: has no values \(meta device\)"):
        cs.map_model(model, PCM, rules={"2": "digital"})


class Scaled(nn.Linear):
    """Computes what nn.Linear does in another way."""

    def forward(self, input):
        hidden = input @ self.weight.T
        return hidden if self.bias is None else hidden + self.bias


class Doubled(nn.Linear):
    def forward(self, input):
        return 2 * super().forward(input)


class Noisy(nn.Linear):
    def forward(self, input):
        return super().forward(nn.functional.dropout(input, 0.5, self.training))


class Normalised(nn.Linear):
    def forward(self, input):
        return nn.functional.linear(input, self.weight / self.weight.norm(), self.bias)


class Clipped(nn.Linear):
    def forward(self, input):
        return super().forward(input.clamp(-100, 100))


class WithScale(nn.Linear):
    def __init__(self, *args):
        super().__init__(*args)
        self.register_buffer("scale", torch.ones(()))

    def forward(self, input):
        return super().forward(input) * self.scale


class Failing(nn.Linear):
    def forward(self, input):
        raise RuntimeError("needs a GPU")


class Called(nn.Linear):
    def __call__(self, input):
        return 2 * super().__call__(input)


class Renamed(nn.Linear):
    """The forward of nn.Linear itself."""


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", [Scaled, Renamed])
def test_a_subclass_that_computes_the_same_is_mapped(kind, bias):
    torch.manual_seed(0)
    model = nn.Sequential(kind(8, 4, bias)).eval()
    mapped = cs.map_model(model, IDEAL)
    with torch.no_grad():
        torch.testing.assert_close(mapped(X), model(X), rtol=1e-5, atol=1e-6)
    assert mapped.chip.matrices["0"].matrix.reads == 1


@pytest.mark.parametrize("kind", [Doubled, Noisy, Normalised, Clipped, WithScale, Failing, Called])
def test_a_subclass_that_computes_something_else_is_refused_unless_a_rule_keeps_it_digital(kind):
    model = nn.Sequential(kind(8, 4), nn.Linear(4, 4)).eval()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(cs.UsageError) as caught:
        cs.map_model(model, IDEAL)
    assert str(caught.value) == (
        f"0: {kind.__name__} changes what nn.Linear computes and cannot be mapped; "
        "keep it digital with the rule {'0': \"digital\"}"
    )
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    for rules in ({"0": "digital"}, {"re:0": "digital"}, {"1": IDEAL, None: "digital"}):
        assert list(cs.map_model(model, IDEAL, rules=rules).chip.matrices) == ["1"]


ODD = [torch.float8_e4m3fn, torch.float8_e5m2, torch.int8, torch.uint8, torch.complex64]


@pytest.mark.parametrize("dtype", ODD, ids=str)
def test_weights_of_other_types_are_refused_by_name(dtype):
    layer = nn.Linear(8, 4)
    layer.weight = nn.Parameter(torch.ones(4, 8).to(dtype), requires_grad=False)
    model = nn.Sequential(layer, nn.Linear(4, 4))
    with pytest.raises(cs.UsageError, match=rf"^0.weight: must be a floating-point matrix .*, is {dtype}; .*rule"):
        cs.map_model(model, IDEAL)
    assert list(cs.map_model(model, IDEAL, rules={"0": "digital"}).chip.matrices) == ["1"]


def test_weights_that_are_no_plain_tensors_are_refused_by_name():
    class Packed(torch.Tensor):
        pass

    layer = nn.Linear(8, 4)
    layer.weight = nn.Parameter(torch.randn(4, 8).as_subclass(Packed))
    with pytest.raises(cs.UsageError, match=r"^0.weight: is a .*Packed, not a plain tensor; dequantise"):
        cs.map_model(nn.Sequential(layer), IDEAL)


def test_a_layer_on_the_chip_is_what_it_was_to_whoever_asks():
    mapped = cs.map_model(nn.Sequential(nn.Linear(8, 4)), IDEAL)
    assert isinstance(mapped[0], nn.Linear)
    assert (mapped[0].in_features, mapped[0].out_features) == (8, 4)
    conv1d = pytest.importorskip("transformers.pytorch_utils").Conv1D
    mapped = cs.map_model(nn.Sequential(conv1d(4, 8)), IDEAL)
    assert isinstance(mapped[0], conv1d)
    assert (mapped[0].nx, mapped[0].nf) == (8, 4)


class Unused(nn.Module):
    """Has a layer that its forward does not call."""

    def __init__(self):
        super().__init__()
        self.used, self.other = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x):
        return self.used(x)


def test_layers_that_the_first_forward_did_not_read_are_reported_once(recwarn):
    mapped = cs.map_model(Unused(), IDEAL)
    with torch.no_grad(), pytest.warns(UnreadLayerWarning, match=r"^other: on the chip, but not read by the first"):
        mapped(X)
    assert "on the chip, but not read so far: 1 matrices: other" in str(mapped.chip.summary())
    recwarn.clear()
    with torch.no_grad():
        mapped(X)
    assert not list(recwarn)


@pytest.mark.parametrize("change", ["assign", "attribute", "module dict"])
def test_a_layer_that_was_replaced_is_noticed(change):
    mapped = cs.map_model(nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8)), IDEAL)
    match change:
        case "assign":
            mapped[1] = nn.Linear(8, 8)
        case "attribute":
            setattr(mapped, "1", nn.Linear(8, 8))
        case "module dict":
            mapped._modules["1"] = nn.Identity()
    with pytest.raises(cs.StateError, match=r"^1: a \w+ took the place of the layer on the chip"), torch.no_grad():
        mapped(X)


def test_a_layer_may_be_wrapped():
    mapped = cs.map_model(nn.Sequential(nn.Linear(8, 8)), IDEAL)
    mapped[0] = nn.Sequential(mapped[0], nn.ReLU())
    with torch.no_grad():
        assert mapped(X).min() >= 0


class Aliased(nn.Module):
    """Calls its layer, and takes the weight as well, by another name."""

    def __init__(self):
        super().__init__()
        self.proj = nn.Linear(8, 8)

    def forward(self, x):
        layer = self.proj
        return layer(x) @ layer.weight


def test_a_weight_that_something_else_computes_with_is_reported():
    mapped = cs.map_model(Aliased(), IDEAL)
    with (
        torch.no_grad(),
        pytest.warns(UnreadLayerWarning, match=r"^proj: its weight is used by torch.Tensor.matmul out"),
    ):
        mapped(X)


def test_a_tied_embedding_is_no_such_use(recwarn):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.head = nn.Embedding(9, 8), nn.Linear(8, 9, bias=False)
            self.head.weight = self.embed.weight

        def forward(self, x):
            return self.head(self.embed(x))

    with torch.no_grad():
        cs.map_model(Tied(), IDEAL)(torch.tensor([1, 2]))
    assert not list(recwarn)


def test_attributes_of_a_layer_are_kept():
    model = nn.Sequential(nn.Linear(8, 4))
    model[0].SCALE, model[0].weight.tag = 2.0, "first"
    mapped = cs.map_model(model, IDEAL)
    assert mapped[0].SCALE == 2.0


@pytest.mark.parametrize("layout", ["to_sparse", "to_sparse_csr"])
@pytest.mark.filterwarnings("ignore:Sparse")
def test_sparse_weights_are_refused_by_name(layout):
    layer = nn.Linear(8, 4)
    layer.weight = nn.Parameter(getattr(layer.weight.detach(), layout)())
    with pytest.raises(cs.UsageError, match=r"^0.weight: must be a dense matrix, has layout torch.sparse"):
        cs.map_model(nn.Sequential(layer), IDEAL)
