"""Convolutions and transposed convolutions on the chip, with every option that PyTorch gives them."""

import copy
import io
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, prune

import crossbar_sim as cs
from crossbar_sim.bridge.products import convolution as products

IDEAL = cs.ChipSpec.preset("ideal")
PCM = cs.ChipSpec.preset("pcm_1m")
FORWARD = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def normal(*shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def ideal_equals_digital(model, x, **options):
    model = model.double().eval()
    mapped = cs.map_model(model, IDEAL)
    with torch.no_grad():
        found, expected = mapped(x, **options), model(x, **options)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    assert found.is_contiguous()
    assert all(each.matrix.reads > 0 for each in mapped.chip.matrices.values())
    return mapped


@st.composite
def convolutions(draw):
    """Any convolution of small sizes, and an input of its own."""
    n = draw(st.integers(1, 3))

    def each(low, high):
        number = st.integers(low, high)
        return draw(st.one_of(number, st.tuples(*[number] * n)))

    groups = draw(st.integers(1, 3))
    channels, outputs = groups * draw(st.integers(1, 3)), groups * draw(st.integers(1, 3))
    options = {"stride": each(1, 3), "dilation": each(1, 2), "groups": groups, "bias": draw(st.booleans())}
    options["padding"] = draw(st.one_of(st.just("valid"), st.just(each(0, 2))))
    if draw(st.booleans()) and options["padding"] != "valid":
        options["padding_mode"] = draw(st.sampled_from(["reflect", "replicate", "circular"]))
    if draw(st.booleans()):
        options.update(stride=1, padding="same")
    torch.manual_seed(draw(st.integers(0, 9)))
    layer = FORWARD[n - 1](channels, outputs, each(1, 3), **options)
    sizes = [draw(st.integers(5, 7)) for _ in range(n)]
    batch = draw(st.sampled_from([(), (1,), (2,)]))
    return layer, normal(*batch, channels, *sizes)


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@settings(max_examples=60, deadline=None, derandomize=True)
@given(convolutions())
def test_any_convolution(case):
    layer, x = case
    mapped = ideal_equals_digital(layer, x)
    names = [str(g) for g in range(layer.groups)] if layer.groups > 1 else ["(root)"]
    assert list(mapped.chip.matrices) == names
    shapes = {(each.matrix.plan.n_in, each.matrix.plan.n_out) for each in mapped.chip.matrices.values()}
    assert shapes == {(layer.weight[0].numel(), layer.out_channels // layer.groups)}


@st.composite
def transposed_convolutions(draw):
    """Any transposed convolution of small sizes, an input of its own, and a size to ask for or None."""
    n = draw(st.integers(1, 3))
    groups = draw(st.integers(1, 3))
    channels, outputs = groups * draw(st.integers(1, 3)), groups * draw(st.integers(1, 3))
    strides = [draw(st.integers(1, 3)) for _ in range(n)]
    gaps = [draw(st.integers(1, 2)) for _ in range(n)]
    more = [draw(st.integers(0, max(s, d) - 1)) for s, d in zip(strides, gaps, strict=True)]
    options = {"stride": strides, "dilation": gaps, "groups": groups, "bias": draw(st.booleans())}
    options["padding"] = [draw(st.integers(0, 1)) for _ in range(n)]
    torch.manual_seed(draw(st.integers(0, 9)))
    kernel = [draw(st.integers(1, 3)) for _ in range(n)]
    layer = TRANSPOSED[n - 1](channels, outputs, kernel, output_padding=more, **options)
    sizes = [draw(st.integers(3, 4)) for _ in range(n)]
    batch = draw(st.sampled_from([(), (1,), (2,)]))
    return layer, normal(*batch, channels, *sizes)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(transposed_convolutions())
def test_any_transposed_convolution(case):
    layer, x = case
    mapped = ideal_equals_digital(layer, x)
    assert len(mapped.chip.matrices) == layer.groups
    shapes = {(each.matrix.plan.n_in, each.matrix.plan.n_out) for each in mapped.chip.matrices.values()}
    assert shapes == {(layer.in_channels // layer.groups, layer.weight[0].numel())}


def test_a_size_that_is_asked_for():
    layer = nn.ConvTranspose2d(2, 3, 3, stride=2)
    ideal_equals_digital(layer, normal(1, 2, 4, 4), output_size=(10, 9))


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("kind", [nn.Conv2d, nn.ConvTranspose2d])
def test_kernels_and_inputs_in_channels_last(kind, groups):
    torch.manual_seed(0)
    layer = kind(4, 6, (3, 2), groups=groups).to(memory_format=torch.channels_last)
    assert not layer.weight.is_contiguous()
    ideal_equals_digital(layer, normal(2, 4, 5, 6).to(memory_format=torch.channels_last))


@pytest.mark.parametrize("kind", [nn.Conv1d, nn.Conv2d])
def test_patches_that_are_too_many_at_once_are_read_in_blocks(kind, monkeypatch):
    torch.manual_seed(0)
    layer = kind(2, 3, 3).double()
    x = normal(3, 2, *[9] * (layer.weight.dim() - 2))
    whole = ideal_equals_digital(layer, x)
    monkeypatch.setattr(products, "_AT_ONCE", 50)
    blocks = ideal_equals_digital(layer, x)
    assert whole.chip.matrices["(root)"].matrix.reads == 1 < blocks.chip.matrices["(root)"].matrix.reads


class Padded(nn.Conv1d):
    """As models do: a subclass that pads and asks its parent."""

    def forward(self, x):
        return super().forward(F.pad(x, (self.kernel_size[0] - 1, 0)))


class Standardised(nn.Conv2d):
    """As models do: a subclass that changes its weight at each forward."""

    def forward(self, x):
        return F.conv2d(x, self.weight - self.weight.mean((1, 2, 3), keepdim=True), self.bias)


class Cast(nn.Conv2d):
    """A subclass that casts its weight before the product."""

    def forward(self, x):
        return F.conv2d(x.double(), self.weight.double(), self.bias.double())


class General(nn.Conv2d):
    """A subclass that calls the function behind all convolutions."""

    def forward(self, x):
        return torch.convolution(x, self.weight, self.bias, (2, 1), (1, 0), (1, 2), False, (0, 0), self.groups)


class GeneralTransposed(nn.ConvTranspose2d):
    def forward(self, x):
        return torch.convolution(x, self.weight, self.bias, (2, 1), (1, 0), (1, 2), True, (1, 0), self.groups)


@pytest.mark.parametrize(
    "layer",
    [Padded(3, 4, 3), General(4, 6, 3, groups=2), GeneralTransposed(4, 6, 3, groups=2)],
    ids=lambda m: type(m).__name__,
)
def test_subclasses(layer):
    ideal_equals_digital(layer, normal(2, layer.in_channels, *[7] * (layer.weight.dim() - 2)))


@pytest.mark.parametrize("last", [False, True])
def test_a_kernel_that_is_cast(last):
    torch.manual_seed(0)
    layer = Cast(4, 6, 3)
    layer = layer.to(memory_format=torch.channels_last) if last else layer
    mapped = cs.map_model(layer, IDEAL)
    with torch.no_grad():
        x = normal(1, 4, 5, 5)
        torch.testing.assert_close(mapped(x), layer(x), rtol=1e-5, atol=1e-5)
    assert mapped.chip.matrices["(root)"].matrix.reads == 1


def test_a_kernel_that_is_changed_at_each_forward_is_refused_by_name():
    model = nn.Sequential(Standardised(3, 4, 3), nn.Conv2d(4, 4, 1))
    mapped, x = cs.map_model(model, IDEAL), torch.zeros(1, 3, 5, 5)
    with (
        pytest.raises(cs.UsageError, match=r"^0: Standardised uses its weight in .*\{'0': \"digital\"\}$"),
        torch.no_grad(),
    ):
        mapped(x)
    kept = cs.map_model(model, IDEAL, rules={"0": "digital"})
    with torch.no_grad():
        torch.testing.assert_close(kept(x), model(x))


def test_a_part_of_a_kernel_or_other_groups_are_refused_by_name():
    class Sliced(nn.Conv1d):
        def forward(self, x):
            return F.conv1d(x, self.weight[:2])

    class Regrouped(nn.Conv1d):
        def forward(self, x):
            return F.conv1d(x, self.weight, groups=2)

    for layer, channels in ((Sliced(4, 4, 1), 4), (Regrouped(2, 4, 1), 4)):
        mapped = cs.map_model(nn.Sequential(layer), IDEAL)
        with pytest.raises(cs.UsageError, match=r"^0: multiplies by a part of shape"), torch.no_grad():
            mapped(torch.zeros(1, channels, 3))


@pytest.mark.parametrize("shape", [(1, 5, 8), (4,), (1, 4, 2)], ids=str)
@pytest.mark.parametrize("kind", [nn.Conv1d, nn.ConvTranspose1d])
def test_inputs_that_pytorch_refuses_are_refused(kind, shape):
    layer, x = kind(4, 4, 3, groups=2), torch.zeros(shape)
    mapped = cs.map_model(layer, IDEAL)
    with torch.no_grad():
        if kind is nn.ConvTranspose1d and shape == (1, 4, 2):  # shorter than the kernel, which this one may be
            assert mapped(x).shape == layer(x).shape
            return
        for each in (layer, mapped):
            with pytest.raises(RuntimeError):
                each(x)


@pytest.mark.parametrize("function", [F.conv1d, F.conv3d, F.conv_transpose1d, F.conv_transpose3d])
@pytest.mark.parametrize("n", [1, 2, 3])
def test_a_kernel_of_other_dimensions_is_refused_as_by_pytorch(function, n):
    class Odd(nn.Conv2d):
        def forward(self, x):
            return function(x, self.weight)

    layer, x = Odd(2, 3, 1), torch.zeros(1, 2, *[4] * n)
    for each in (layer, cs.map_model(layer, IDEAL)):
        with pytest.raises(RuntimeError), torch.no_grad():
            each(x)


class CallsAndTakes(nn.Module):
    """Calls its convolution, and in a branch that is not taken hands its kernel to a function."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(2, 3, 2)

    def forward(self, x, again=False):
        return F.conv1d(x, self.conv.weight, self.conv.bias) if again else self.conv(x)


def test_a_call_within_a_layer_that_is_watched_is_one_read():
    torch.manual_seed(0)
    model, x = nn.Sequential(CallsAndTakes()).double(), normal(1, 2, 4)
    mapped = ideal_equals_digital(model, x)
    assert mapped.chip.matrices["0.conv"].matrix.reads == 1
    with torch.no_grad():
        torch.testing.assert_close(mapped[0](x, again=True), model(x), rtol=1e-12, atol=1e-12)
    assert mapped.chip.matrices["0.conv"].matrix.reads == 2


class TakesTheKernel(nn.Module):
    """As Mamba does: the parent hands the kernel of its convolution to a function of its own."""

    def __init__(self, groups):
        super().__init__()
        self.conv = nn.Conv1d(4, 4, 3, groups=groups)

    def forward(self, x):
        weight = self.conv.weight.squeeze(1) if self.conv.groups == 4 else self.conv.weight
        weight = weight.unsqueeze(1) if self.conv.groups == 4 else weight
        return F.conv1d(x, weight, self.conv.bias, padding=2, groups=self.conv.groups)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_a_parent_that_takes_the_kernel(groups):
    torch.manual_seed(0)
    model = nn.Sequential(TakesTheKernel(groups)).double()
    ideal_equals_digital(model, normal(2, 4, 5))
    if groups > 1:
        mapped, x = cs.map_model(model, IDEAL, rules={"0.conv.1": "digital"}), normal(2, 4, 5)
        assert "0.conv.1" not in mapped.chip.matrices
        with torch.no_grad():
            torch.testing.assert_close(mapped(x), model(x), rtol=1e-12, atol=1e-12)
    kept = cs.map_model(nn.Sequential(model[0], nn.Conv1d(4, 4, 1).double()), IDEAL, rules={"0.*": "digital"})
    with torch.no_grad():
        assert kept(normal(2, 4, 5)).shape == (2, 4, 7)


PARAMETRISED = {
    "weight_norm": parametrizations.weight_norm,
    "spectral_norm": parametrizations.spectral_norm,
    "spectral_norm of hooks": nn.utils.spectral_norm,
    "weight_norm of hooks": nn.utils.weight_norm,
    "pruning": lambda conv: prune.l1_unstructured(conv, "weight", 0.5),
}


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("norm", PARAMETRISED)
def test_parametrised_kernels_stay_digital_and_are_in_the_account(norm, groups, bias):
    torch.manual_seed(0)
    conv = PARAMETRISED[norm](nn.Conv1d(4, 4, 3, groups=groups, bias=bias))
    model = nn.Sequential(conv, nn.Conv1d(4, 2, 1)).eval()
    mapped = cs.map_model(model, IDEAL, inplace="hooks" in norm or norm == "pruning")
    coverage = mapped.chip.plan.coverage
    assert {each.reason for each in coverage.digital} == {"parametrised weight"}
    assert sum(each.n_weights for each in coverage.digital) == 4 * 4 // groups * 3
    with torch.no_grad():
        assert mapped(torch.zeros(1, 4, 5)).shape == (1, 2, 3)
    with pytest.raises(cs.UsageError, match="computed"):
        cs.plan_model(nn.Sequential(conv), IDEAL, rules={"0*": PCM})


CASES = {
    "conv": lambda: (nn.Sequential(nn.Conv2d(4, 6, 3, padding=1, groups=2)), normal(2, 4, 5, 6)),
    "transposed": lambda: (nn.Sequential(nn.ConvTranspose1d(4, 6, 3, stride=2, groups=2)), normal(2, 4, 5)),
    "channels last": lambda: (
        nn.Sequential(nn.Conv2d(4, 6, 3, padding=1)).to(memory_format=torch.channels_last),
        normal(2, 4, 5, 6),
    ),
}


@pytest.fixture(params=CASES)
def case(request):
    torch.manual_seed(0)
    model, x = CASES[request.param]()
    return model.double().eval(), x


def test_gradients_are_those_of_the_digital_layer(case):
    model, x = case
    mapped = cs.map_model(copy.deepcopy(model), IDEAL, backend="torch")
    inputs = [x.clone().requires_grad_() for _ in range(2)]
    for each, own in zip((model, mapped), inputs, strict=True):
        each(own).square().sum().backward()
    torch.testing.assert_close(inputs[1].grad, inputs[0].grad, rtol=1e-10, atol=1e-11)
    for (name, own), other in zip(mapped.named_parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(own.grad, other.grad, rtol=1e-10, atol=1e-11, msg=name)


def test_a_chip_is_chosen_by_its_seed_and_ages(case):
    model, x = case
    with torch.no_grad():
        first, same, other = (cs.map_model(model, PCM, seed=seed) for seed in (3, 3, 4))
        digital, y = model(x), first(x)
        assert torch.equal(y, same(x))
        assert not torch.equal(y, other(x))
        assert (y - digital).abs().max() > 1e-3
        first.chip.set_time("1y")
        assert (first(x) - y).abs().max() > 1e-3


def test_copies_files_types_and_states(case, tmp_path):
    model, x = case
    mapped = cs.map_model(model, PCM, seed=3)
    mapped.chip.set_time("1d")
    mapped.chip.save(tmp_path / "chip")
    buffer = io.BytesIO(pickle.dumps(mapped))
    copies = [copy.deepcopy(mapped), pickle.load(buffer), cs.load_chip(tmp_path / "chip", model)]  # noqa: S301
    inplace = cs.map_model(copy.deepcopy(model), PCM, seed=3, inplace=True, state="regenerated")
    inplace.chip.set_time("1d")
    with torch.no_grad():
        first = mapped(x)
        assert all(torch.equal(each(x), first) for each in (*copies, inplace))
        widened = cs.map_model(copy.deepcopy(model).float(), IDEAL).double()
        torch.testing.assert_close(widened(x), model(x), rtol=1e-6, atol=1e-6)


def test_ranges_and_bounds_are_found_on_data(case):
    model, x = case
    chip = PCM.evolve(**{"dac.range": {"kind": "calibrated", "quantile": 1.0}})
    mapped = cs.map_model(model, chip, calibration_data=[x])
    groups = model[0].groups
    found = [float(each.matrix.input_range.max()) for each in mapped.chip.matrices.values()]
    expected = [float(part.abs().max()) for part in x.chunk(groups, 1)]
    assert found == pytest.approx(expected, rel=1e-6)
    assert set(cs.calibrate_adc_bounds(cs.map_model(model, PCM), [x])) == set(mapped.chip.matrices)


def test_low_precision_comes_out_in_its_type(case):
    model, x = case
    mapped = cs.map_model(model.bfloat16(), IDEAL)
    with torch.no_grad():
        y = mapped(x.bfloat16())
        assert y.dtype == torch.bfloat16
        torch.testing.assert_close(y, model(x.bfloat16()), rtol=0.05, atol=0.05)
