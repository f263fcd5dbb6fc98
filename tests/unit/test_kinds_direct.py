"""Layers that keep their own forward: experts, attention, and layers that use the weights of others directly."""

import copy
import gc
import inspect
import io
import pickle
import weakref

import pytest
import torch
import torch.nn.utils.prune
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

import crossbar_sim as cs
from crossbar_sim.bridge.kinds import kind_of

IDEAL = cs.ChipSpec.preset("ideal")
PCM = cs.ChipSpec.preset("pcm_1m")
N_EXPERTS, WIDTH, INNER = 4, 6, 10


class StackedExperts(nn.Module):
    """Three-dimensional parameters, read in the ways that models do."""

    def __init__(self, transposed=False, way="loop"):
        super().__init__()
        self.is_transposed, self.way = transposed, way
        shape = (N_EXPERTS, WIDTH, INNER) if transposed else (N_EXPERTS, INNER, WIDTH)
        self.up_proj = nn.Parameter(torch.randn(shape))
        self.up_proj_bias = nn.Parameter(torch.randn(N_EXPERTS, INNER))

    def forward(self, x):  # (experts, tokens, WIDTH)
        match self.way:
            case "loop":
                return torch.stack([self._one(own, e) for e, own in enumerate(x)])
            case "tensor_index":
                return torch.stack([self._one(x[int(e)], e) for e in torch.arange(N_EXPERTS)])
            case "bmm":
                weight = self.up_proj if self.is_transposed else self.up_proj.transpose(1, 2)
                return torch.bmm(x, weight) + self.up_proj_bias[:, None]
            case "matmul":
                weight = self.up_proj if self.is_transposed else self.up_proj.mT
                return x @ weight + self.up_proj_bias[:, None]
            case "baddbmm":
                weight = self.up_proj if self.is_transposed else self.up_proj.mT
                return torch.baddbmm(self.up_proj_bias[:, None], x, weight)
            case "cast":
                weight = self.up_proj.float().double()
                return (
                    torch.stack([self._linear(own, weight[e]) for e, own in enumerate(x)]) + self.up_proj_bias[:, None]
                )
            case "unbind":
                return torch.stack(
                    [
                        self._linear(own, w) + b
                        for own, w, b in zip(x, self.up_proj.unbind(), self.up_proj_bias, strict=True)
                    ]
                )
            case "square":
                return torch.stack([self._linear(own, self.up_proj[e] * 2) for e, own in enumerate(x)])

    def _linear(self, x, weight):
        return x @ weight if self.is_transposed else F.linear(x, weight)

    def _one(self, x, e):
        weight, bias = self.up_proj[e], self.up_proj_bias[e]
        return x @ weight + bias if self.is_transposed else F.linear(x, weight, bias)


class TiedUse(nn.Module):
    """Takes the weight of a layer within it, instead of calling the layer."""

    def __init__(self, way):
        super().__init__()
        self.proj, self.out, self.way = nn.Linear(WIDTH, INNER), nn.Linear(INNER, WIDTH), way

    def forward(self, x):
        match self.way:
            case "linear":
                y = F.linear(x, self.proj.weight, self.proj.bias)
            case "left":
                y = (self.proj.weight @ x.mT).mT + self.proj.bias
            case "vector":
                y = torch.stack([torch.mv(self.proj.weight, v) for v in x.reshape(-1, WIDTH)]).reshape(
                    *x.shape[:-1], -1
                )
            case "addmm":
                flat = x.reshape(-1, WIDTH)
                y = torch.addmm(self.proj.bias, flat, self.proj.weight.t()).reshape(*x.shape[:-1], -1)
            case "called too":
                y = F.linear(x, self.proj.weight) + self.proj(x)
        return self.out(y)


def ideal_equals_digital(model, *inputs, **options):
    model = model.double().eval()
    mapped = cs.map_model(model, IDEAL)
    with torch.no_grad():
        found, expected = mapped(*inputs, **options), model(*inputs, **options)
    if isinstance(found, tuple):
        found, expected = found[0], expected[0]
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-12)
    assert all(each.matrix.reads > 0 for each in mapped.chip.matrices.values())
    return mapped


def normal(*shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("way", ["loop", "tensor_index", "bmm", "matmul", "baddbmm", "unbind"])
def test_experts_are_matrices_of_their_own(transposed, way):
    torch.manual_seed(0)
    mapped = ideal_equals_digital(nn.Sequential(StackedExperts(transposed, way)), normal(N_EXPERTS, 3, WIDTH))
    assert list(mapped.chip.matrices) == [f"0.up_proj.{e}" for e in range(N_EXPERTS)]
    shapes = {(p.matrix.plan.n_in, p.matrix.plan.n_out) for p in mapped.chip.matrices.values()}
    assert shapes == {(WIDTH, INNER)}
    assert mapped.chip.plan.coverage.share_of_weights == 1


def test_a_weight_that_is_cast_before_its_product_is_read():
    torch.manual_seed(0)
    model = nn.Sequential(StackedExperts(way="cast"))
    mapped = cs.map_model(model, PCM)
    with torch.no_grad():
        mapped(normal(N_EXPERTS, 3, WIDTH))
    assert all(each.matrix.reads == 1 for each in mapped.chip.matrices.values())


def test_a_use_that_is_no_product_is_refused_by_name():
    model = nn.Sequential(StackedExperts(way="square"))
    mapped = cs.map_model(model, PCM)
    with pytest.raises(cs.UsageError) as caught, torch.no_grad():
        mapped(torch.zeros(N_EXPERTS, 3, WIDTH))
    assert str(caught.value) == (
        "0.up_proj.0: StackedExperts uses its weight in torch.Tensor.mul, which is no product that a chip computes; "
        "keep it digital with the rule {'0*': \"digital\"}"
    )
    kept = cs.map_model(nn.Sequential(StackedExperts(way="square"), nn.Linear(4, 4)), PCM, rules={"0*": "digital"})
    with torch.no_grad():
        kept[0](torch.zeros(N_EXPERTS, 3, WIDTH))


@pytest.mark.parametrize("way", ["linear", "left", "vector", "addmm", "called too"])
@pytest.mark.parametrize("chip", [IDEAL, PCM], ids=lambda spec: spec.name)
def test_a_layer_whose_weight_is_used_by_its_parent_is_read(way, chip):
    torch.manual_seed(0)
    model = nn.Sequential(TiedUse(way)).double().eval()
    x = normal(2, 3, WIDTH)
    if chip is IDEAL:
        ideal_equals_digital(model, x)
    else:
        mapped = cs.map_model(model, chip)
        with torch.no_grad():
            first = mapped(x)
            mapped.chip.set_time("1y")
            assert (mapped(x) - first).abs().max() > 1e-3
        assert mapped.chip.matrices["0.proj"].matrix.reads > 0


ATTENTION = [
    {},
    {"bias": False},
    {"kdim": 5, "vdim": 7},
    {"add_bias_kv": True},
    {"add_zero_attn": True},
    {"batch_first": True},
    {"dropout": 0.5},
]


@pytest.mark.parametrize("options", ATTENTION, ids=str)
@pytest.mark.parametrize("need_weights", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_attention(options, need_weights, masked):
    torch.manual_seed(0)
    model = nn.MultiheadAttention(8, 2, **options)
    q, k, v = (normal(4, 4, width, seed=width) for width in (8, options.get("kdim", 8), options.get("vdim", 8)))
    masks = {"key_padding_mask": torch.tensor([[False] * 3 + [True]] * 4)} if masked else {}
    mapped = ideal_equals_digital(model, q, k, v, need_weights=need_weights, **masks)
    assert list(mapped.chip.matrices) == ["q_proj", "k_proj", "v_proj", "out_proj"]
    with torch.no_grad():
        pcm = cs.map_model(model, PCM)
        assert (pcm(q, k, v)[0] - model(q, k, v)[0]).abs().max() > 1e-3


def test_one_projection_may_stay_digital():
    torch.manual_seed(0)
    model = nn.MultiheadAttention(8, 2).double().eval()
    x = normal(3, 2, 8)
    mapped = cs.map_model(model, IDEAL, rules={"k_proj": "digital"})
    assert list(mapped.chip.matrices) == ["q_proj", "v_proj", "out_proj"]
    with torch.no_grad():
        torch.testing.assert_close(mapped(x, x, x)[0], model(x, x, x)[0], rtol=1e-11, atol=1e-12)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 5), st.integers(1, 9), st.integers(1, 9), st.booleans(), st.integers(0, 4), st.randoms())
def test_experts_of_any_shape(experts, n_in, n_out, transposed, tokens, random):
    class AnyExperts(nn.Module):
        def __init__(self):
            super().__init__()
            self.is_transposed = transposed
            self.weight = nn.Parameter(normal(experts, *((n_in, n_out) if transposed else (n_out, n_in)), seed=n_in))

        def forward(self, x, order):
            weights = [self.weight[e].t() if transposed else self.weight[e] for e in order]
            return torch.cat([F.linear(x, weight) for weight in weights])

    model, order = AnyExperts(), list(range(experts))
    random.shuffle(order)
    mapped, x = cs.map_model(model, IDEAL), normal(tokens, n_in)
    with torch.no_grad():
        torch.testing.assert_close(mapped(x, order), model(x, order), rtol=1e-11, atol=1e-12)


def models():
    torch.manual_seed(0)
    return {
        "experts": (nn.Sequential(StackedExperts()), (normal(N_EXPERTS, 3, WIDTH),)),
        "attention": (nn.MultiheadAttention(8, 2), (normal(3, 2, 8),) * 3),
        "tied": (nn.Sequential(TiedUse("linear")), (normal(3, WIDTH),)),
    }


@pytest.fixture(params=["experts", "attention", "tied"])
def case(request):
    model, inputs = models()[request.param]
    return model.double().eval(), inputs


def output(model, inputs):
    result = model(*inputs)
    return result[0] if isinstance(result, tuple) else result


def test_gradients_are_those_of_the_digital_layer(case):
    model, inputs = case
    mapped = cs.map_model(copy.deepcopy(model), IDEAL)
    for each in (model, mapped):
        output(each, inputs).square().sum().backward()
    for (name, own), other in zip(mapped.named_parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(own.grad, other.grad, rtol=1e-10, atol=1e-12, msg=name)


def test_copies_are_chips_of_their_own(case):
    model, inputs = case
    mapped = cs.map_model(model, PCM, seed=3)
    mapped.chip.set_time("1d")
    buffer = io.BytesIO()
    pickle.dump(mapped, buffer)
    buffer.seek(0)
    copies = [copy.deepcopy(mapped), pickle.load(buffer)]  # noqa: S301
    with torch.no_grad():
        first = output(mapped, inputs)
        for twin in copies:
            assert torch.equal(output(twin, inputs), first)
            twin.chip.set_time("1y")
        for each in mapped.chip.matrices.values():
            assert each.matrix.time_s == 86400


def test_a_change_of_type_is_followed(case):
    model, inputs = case
    mapped = cs.map_model(model.float(), IDEAL).double()
    with torch.no_grad():
        torch.testing.assert_close(output(mapped, inputs), output(model.double(), inputs), rtol=1e-11, atol=1e-12)


def test_a_saved_chip_comes_back(case, tmp_path):
    model, inputs = case
    mapped = cs.map_model(model, PCM, seed=5)
    mapped.chip.set_time("1h")
    mapped.chip.save(tmp_path / "chip")
    loaded = cs.load_chip(tmp_path / "chip", model)
    with torch.no_grad():
        assert torch.equal(output(loaded, inputs), output(mapped, inputs))


def test_ranges_are_found_on_what_each_matrix_receives(case):
    model, inputs = case
    chip = PCM.evolve(**{"dac.range": {"kind": "calibrated", "quantile": 1.0}})
    mapped = cs.map_model(model, chip, calibration_data=[inputs])
    assert not any("forward" in vars(each) for each in model.modules())
    ranges = [float(each.matrix.input_range.max()) for each in mapped.chip.matrices.values()]
    assert min(ranges) > 0
    first = inputs[0][0] if len(ranges) == N_EXPERTS and inputs[0].shape[0] == N_EXPERTS else inputs[0]
    assert ranges[0] == pytest.approx(float(first.abs().max()), rel=1e-6)


def test_bounds_of_adcs_are_found(case):
    model, inputs = case
    mapped = cs.map_model(model, PCM)
    bounds = cs.calibrate_adc_bounds(mapped, [inputs])
    assert set(bounds) == set(mapped.chip.matrices)


def test_it_is_on_the_chip_already(case):
    model, _ = case
    mapped = cs.map_model(model, IDEAL)
    with pytest.raises(cs.UsageError, match="is on a chip already"):
        cs.map_model(mapped, IDEAL)


def test_inplace_and_regenerated(case):
    model, inputs = case
    kept = cs.map_model(copy.deepcopy(model), PCM)
    other = cs.map_model(model, PCM, inplace=True, state="regenerated")
    assert other is model
    with torch.no_grad():
        assert torch.equal(output(other, inputs), output(kept, inputs))


def test_memory_goes_with_the_model(case):
    """A circle of references would keep the state of the devices until garbage is collected."""
    model, inputs = case
    gc.collect()
    gc.disable()
    try:
        mapped = cs.map_model(model, PCM)
        with torch.no_grad():
            output(mapped, inputs)
        last = [weakref.ref(each) for each in (mapped, *mapped.chip.matrices.values())]
        del mapped
        assert [each() for each in last] == [None] * len(last)
    finally:
        gc.enable()


def test_the_signature_is_kept(case):
    model, _ = case
    mapped = cs.map_model(model, IDEAL)
    for own, other in zip(mapped.modules(), model.modules(), strict=True):
        assert list(inspect.signature(own.forward).parameters) == list(inspect.signature(other.forward).parameters)


class TwoMatrices(nn.Module):
    """One matrix that is multiplied, and one that is used in a way of its own as well."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Parameter(torch.randn(6, 6)), nn.Parameter(torch.randn(6, 6))

    def forward(self, x):
        return F.linear(F.linear(x, self.first), self.second) / self.second.norm()


def test_a_matrix_that_a_rule_keeps_digital_may_be_used_in_any_way():
    model = nn.Sequential(TwoMatrices()).double()
    x = normal(3, 6)
    with torch.no_grad():
        with pytest.raises(cs.UsageError, match=r"^0.second: TwoMatrices uses its weight in torch.* keep it digital"):
            cs.map_model(model, IDEAL)(x)
        mapped = cs.map_model(model, IDEAL, rules={"0.second": "digital"})
        torch.testing.assert_close(mapped(x), model(x), rtol=1e-11, atol=1e-12)
    assert mapped.chip.matrices["0.first"].matrix.reads == 1


def test_parameters_that_move_in_memory_are_found_again():
    torch.manual_seed(0)
    model = nn.Sequential(StackedExperts()).double().eval()
    mapped, x = cs.map_model(model, IDEAL), normal(N_EXPERTS, 3, WIDTH)
    with torch.no_grad():
        expected = mapped(x)
        mapped.load_state_dict({name: value.clone() for name, value in mapped.state_dict().items()}, assign=True)
        assert torch.equal(mapped(x), expected)
    assert {each.matrix.reads for each in mapped.chip.matrices.values()} == {2}


def weights_of(module):
    return [(each, name) for each in module.modules() for name, p in each._parameters.items() if p is not None]


@pytest.mark.parametrize("change", ["pruned", "parametrised", "deleted", "none"])
def test_a_weight_that_is_no_parameter_any_more_is_noticed(case, change):
    model, inputs = case
    mapped = cs.map_model(model, PCM)
    owner, name = next((each, name) for each, name in weights_of(mapped) if getattr(each, name).dim() > 1)
    with torch.no_grad():
        output(mapped, inputs)
        match change:
            case "pruned":
                nn.utils.prune.l1_unstructured(owner, name, 0.5)
            case "parametrised":
                nn.utils.parametrize.register_parametrization(owner, name, nn.Identity())
            case "deleted":
                value = getattr(owner, name).detach()
                delattr(owner, name)
                setattr(owner, name, value)
            case "none":
                setattr(owner, name, None)
        with pytest.raises((cs.StateError, AttributeError, TypeError), match=r"no parameter|None"):
            output(mapped, inputs)


def test_transforms_of_torch_func_are_refused_at_the_first_forward(case):
    model, inputs = case
    mapped = cs.map_model(model, PCM)
    with pytest.raises(cs.UsageError, match=r"a read of the chip cannot be recorded by a transform of torch.func"):
        torch.func.grad(lambda x: output(mapped, (x, *inputs[1:])).sum())(inputs[0])


def test_a_layer_that_no_kind_knows_has_none():
    assert kind_of(nn.LayerNorm(4)) is None
