"""The torch backend has the gradients it promises, keeps little for them, and waits for no device."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

import crossbar_sim as cs
from crossbar_sim.array import held
from crossbar_sim.array.random_torch import read_normals
from crossbar_sim.kernels.mvm import read_keys
from crossbar_sim.kernels.tries import first_tries

PCM = cs.ChipSpec.preset("pcm_1m")
IDEAL = cs.ChipSpec.preset("ideal")
N_IN, N_OUT = 70, 300  # more outputs than one group of random counters, and no multiple of it


def learning_layer(chip, weight, t=None):
    """A bias-free float64 layer on a chip with the torch backend."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(weight)
    model = cs.map_model(nn.Sequential(layer), chip, backend="torch")
    if t is not None:
        model.chip.set_time(t)
    return model


def weights_and_inputs(n_in=6, n_out=5, n_vectors=4):
    rng = np.random.default_rng(3)
    return (
        torch.from_numpy(rng.normal(size=(n_out, n_in))),
        torch.from_numpy(rng.normal(size=(n_vectors, n_in))).requires_grad_(),
        torch.from_numpy(rng.normal(size=(n_vectors, n_out))),
    )


def gradients(model, x, g):
    x.grad = model[0].weight.grad = None
    model(x).backward(g)
    return x.grad, model[0].weight.grad


def test_ideal_chip_passes_gradcheck():
    weight, x, g = weights_and_inputs()
    model = learning_layer(IDEAL, weight)
    assert torch.autograd.gradcheck(model, (x,), atol=1e-9)
    of_x, of_weight = gradients(model, x, g)
    torch.testing.assert_close(of_x, g @ weight, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(of_weight, g.t() @ x.detach(), rtol=1e-12, atol=1e-12)


def test_ideal_chip_has_the_gradient_of_a_zero_output():
    weight, x, g = weights_and_inputs()
    weight[2] = 0
    _, of_weight = gradients(learning_layer(IDEAL, weight), x, g)
    torch.testing.assert_close(of_weight, g.t() @ x.detach(), rtol=1e-12, atol=1e-12)


def test_bias_has_its_gradient():
    layer = nn.Sequential(nn.Linear(3, 2, dtype=torch.float64))
    model = cs.map_model(layer, IDEAL, backend="torch")
    g = torch.tensor([[1.0, 2.0], [3.0, -1.0]], dtype=torch.float64)
    model(torch.ones(2, 3, dtype=torch.float64)).backward(g)
    assert layer[0].bias.grad.tolist() == [4.0, 1.0]


def test_conv1d_gets_the_gradient_of_its_transposed_weight():
    conv1d = pytest.importorskip("transformers.pytorch_utils").Conv1D(5, 6).double()
    _, x, g = weights_and_inputs()
    cs.map_model(nn.Sequential(conv1d), IDEAL, backend="torch")(x).backward(g)
    torch.testing.assert_close(conv1d.weight.grad, x.detach().t() @ g, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("rows", [512, 3])
def test_straight_through_gradients_by_hand(rows):
    """Rounding is passed straight through; a clipped input and a saturated column pass nothing."""
    weight, x, g = weights_and_inputs()
    full_scale, bound = 1.1, 0.8
    chip = IDEAL.evolve(
        dac={"bits": 5, "range": {"kind": "static", "value": full_scale}},
        adc={"bits": 4, "bound": bound},
        **{"tile.rows": rows},
    )
    of_x, of_weight = gradients(learning_layer(chip, weight), x, g)

    values, w = x.detach(), weight
    w_max = w.abs().amax(dim=1)
    expected_x, expected_weight = torch.zeros_like(values), torch.zeros_like(w)
    n_clipped = n_saturated = 0
    for start in range(0, 6, rows):
        part = slice(start, start + rows)
        codes = torch.clamp(torch.round(values[:, part] / full_scale * 15), -15, 15) / 15
        passed = values[:, part].abs() <= full_scale
        column = codes @ (w[:, part] / w_max[:, None]).t()
        unsaturated = (torch.round(column / (bound / 7)).abs() <= 7) * g
        expected_x[:, part] = unsaturated @ w[:, part] * passed
        expected_weight[:, part] = unsaturated.t() @ codes * full_scale
        n_clipped += int((~passed).sum())
        n_saturated += int((unsaturated == 0).sum())
    assert n_clipped > 0
    assert n_saturated > 0
    torch.testing.assert_close(of_x, expected_x, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(of_weight, expected_weight, rtol=1e-10, atol=1e-10)


def test_dynamic_range_is_a_constant_for_gradients():
    weight, x, g = weights_and_inputs()
    chip = IDEAL.evolve(dac={"bits": 8, "range": "dynamic"})
    of_x, of_weight = gradients(learning_layer(chip, weight), x, g)
    values = x.detach()
    step = values.abs().amax(dim=1, keepdim=True) / 127
    torch.testing.assert_close(of_x, g @ weight, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(of_weight, g.t() @ (torch.round(values / step) * step), rtol=1e-10, atol=1e-10)


def test_gradients_are_taken_at_the_programmed_state():
    """dL/dx sees the drifted devices and the compensation, dL/dW is that of the target weights."""
    weight, x, g = weights_and_inputs()
    chip = PCM.evolve(dac={"bits": None, "range": "dynamic"}, adc=None, read_noise=None)
    model = learning_layer(chip, weight, t="30d")
    of_x, of_weight = gradients(model, x, g)
    g_plus, g_minus = model.chip.conductances("0")
    factor = model.chip.matrices["0"].matrix.drift_factor[0]
    assert float(factor.min()) > 1.2  # a month of drift is worth compensating
    effective = torch.from_numpy(g_plus - g_minus).t() / 25 * weight.abs().amax(dim=1)[:, None] * factor[:, None]
    torch.testing.assert_close(of_x, g @ effective, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(of_weight, (g * factor).t() @ x.detach(), rtol=1e-10, atol=1e-10)


def test_noisy_gradients_are_finite():
    """Also for a silent vector, whose noise has no variance."""
    weight, x, g = weights_and_inputs()
    with torch.no_grad():
        x[0] = 0
    of_x, of_weight = gradients(learning_layer(PCM, weight, t="1y"), x, g)
    assert torch.isfinite(of_x).all()
    assert torch.isfinite(of_weight).all()
    assert (of_weight != 0).any()


class Autograd:
    """What the torch backend computes, once more and slowly: in plain operations that autograd derives itself."""

    def __init__(self, matrix, read):
        self.matrix, self.read = matrix, read

    def outputs(self, x, weight, bias):
        matrix = self.matrix
        y = bias.repeat(len(x), 1)
        for k, (tile, _, (start, stop)) in enumerate(matrix.parts):
            codes, full_scale = self.inputs(x[:, start:stop], tile)
            shown, within = self.shown(matrix, codes, k)
            y = y + shown * full_scale * matrix.gain[k]
            of_weight = (codes.detach() * full_scale) @ weight[:, start:stop].t() * within
            y = y + (of_weight - of_weight.detach()) * matrix.drift_factor[k] / len(matrix.layout.planes)
            if matrix.drift_offset is not None:
                y = y + full_scale * (matrix.full_scale[k] * matrix.drift_offset[k])
            y = y - (codes.sum(dim=1, keepdim=True) * full_scale) * (matrix.full_scale[k] * matrix.zero)
            if matrix.reference_columns is not None:
                shown, _ = self.shown(matrix.reference_columns, codes, k)
                widths = torch.tensor([stop - start for start, stop in matrix.plan.cols])
                y = y - shown.repeat_interleave(widths, dim=1) * full_scale * matrix.gain[k]
        return y

    def inputs(self, x, tile):
        matrix = self.matrix
        full_scale = x.detach().abs().amax(dim=1, keepdim=True)
        if matrix.input_range is not None:
            full_scale = matrix.input_range[tile].expand(len(x), 1)
        codes = torch.clamp(x, -full_scale, full_scale) / torch.where(full_scale > 0, full_scale, 1)
        rounded = torch.round(codes * matrix.dac_levels) / matrix.dac_levels
        return codes + (rounded - codes).detach(), full_scale

    def shown(self, matrix, codes, k):
        """What columns show, and where the ADC is not saturated."""
        v = codes @ matrix.effective[k].t()
        if matrix.is_noisy:
            keys = read_keys(matrix.read_key, self.read, len(matrix.parts))[k : k + 1]
            z = read_normals(keys, first_tries(1, len(codes)), v.shape[1], codes.device)[0].to(v.dtype)
            variance = torch.full_like(v, matrix.output_noise**2)
            if matrix.variance is not None:
                variance = variance + codes.square() @ matrix.variance[k].t()
            v = v + torch.sqrt(variance.clamp(min=1e-300)) * z
        adc = matrix.readouts[k].adc
        rounded = torch.round(v / adc.step)
        within = rounded.abs() <= adc.levels
        value = torch.clamp(rounded, -adc.levels, adc.levels) * adc.step
        return torch.where(within, v + (value - v).detach(), value.detach()), within


DERIVED = {
    "frozen noise": {"read_noise": {"kind": "frozen"}},
    "per-read noise": {},
    "noise of the read-out alone": {"read_noise": None, "adc.output_noise": 0.2},
    "both noises": {"adc.output_noise": 0.2},
    "static range": {"dac": {"bits": 8, "range": {"kind": "static", "value": 1.1}}},
    "12 bit": {"dac.bits": 12, "adc.bits": 12},
    "affine compensation": {"compensation": {"kind": "affine"}},
    "offset": {"encoding": {"kind": "offset"}},
    "reference column": {"encoding": {"kind": "offset", "correction": "column"}, "tile.cols": 100},
    "bit slices": {"encoding": {"kind": "bit_slice", "slices": (3, 2, 2)}},
}


@pytest.mark.parametrize("name", DERIVED)
def test_derivatives_by_hand_are_those_of_autograd(name):
    """Three row tiles, saturated outputs, a silent output and a silent vector, several blocks of columns."""
    n_vectors = 2100 if name in ("frozen noise", "per-read noise") else 20  # many vectors: blocks of 256 columns
    torch.manual_seed(2)
    layer = nn.Linear(30, 300, dtype=torch.float64)
    with torch.no_grad():
        layer.weight[7] = 0
    chip = PCM.evolve(**{"tile.rows": 11, "adc.bound": 1.5}).evolve(**DERIVED[name])
    model = cs.map_model(nn.Sequential(layer), chip, seed=3, backend="torch")
    model.chip.set_time("1d")
    x, g = torch.randn(n_vectors, 30, dtype=torch.float64), torch.randn(n_vectors, 300, dtype=torch.float64)
    x[3] = 0
    inputs = (x.requires_grad_(), layer.weight, layer.bias)
    y = model(x)
    matrix = model.chip.matrices["0"].matrix
    expected = Autograd(matrix, 0).outputs(*inputs)
    assert 0 < matrix.n_saturated < matrix.n_outputs / 10
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-9 * float(y.detach().abs().max()))
    found, derived = torch.autograd.grad(y, inputs, g), torch.autograd.grad(expected, inputs, g)
    for own, reference in zip(found, derived, strict=True):
        torch.testing.assert_close(own, reference, rtol=0, atol=1e-9 * float(reference.abs().max()))


@pytest.mark.parametrize("fast", [False, True])
def test_variances_in_bfloat16_move_gradients_through_noise_by_their_rounding(fast, monkeypatch):
    if fast and not held.HAS_PAIRS:
        pytest.skip("this processor does not multiply pairs of bfloat16 numbers")
    monkeypatch.setattr(held, "HAS_PAIRS", fast)
    chip = PCM.evolve(adc=None, read_noise={"kind": "per_read"}, **{"tile.rows": 24})
    torch.manual_seed(7)
    weight, x, g = torch.randn(N_OUT, N_IN), torch.randn(9, N_IN), torch.randn(9, N_OUT)

    def of_x(own, dtype):
        model = cs.map_model(nn.Sequential(nn.Linear(N_IN, N_OUT, bias=False, dtype=dtype)), own, backend="torch")
        with torch.no_grad():
            model[0].weight.copy_(weight)
        model.chip.reprogram()
        inputs = x.to(dtype).requires_grad_()
        return torch.autograd.grad(model(inputs), inputs, g.to(dtype))[0].double()

    exact = of_x(chip, torch.float64)
    noise = float((exact - of_x(chip.evolve(read_noise=None), torch.float64)).abs().max())
    assert float((of_x(chip, torch.float32) - exact).abs().max()) < 0.01 * noise


def test_gradients_cannot_be_differentiated_again():
    weight, x, g = weights_and_inputs()
    y = learning_layer(PCM, weight)(x)
    with pytest.raises(cs.UsageError, match="0: create_graph = True: gradients of a read on a chip cannot be"):
        torch.autograd.grad(y, x, g, create_graph=True)


def test_gradients_belong_to_the_state_that_was_read():
    weight, x, g = weights_and_inputs()
    model = learning_layer(PCM, weight)
    y = model(x)
    model.chip.set_time("1d")
    with pytest.raises(cs.StateError, match="0: its devices were aged or programmed after this read"):
        y.backward(g)
    y = model(x)
    model.chip.set_time("2d")
    model.chip.set_time("1d")  # the same state
    y.backward(g)


def test_autocast_around_forward_and_backward_changes_nothing():
    torch.manual_seed(4)
    layer = nn.Sequential(nn.Linear(40, 30))
    x, found = torch.randn(8, 40), []
    for enabled in (False, True):
        model = cs.map_model(layer, PCM, backend="torch")
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            model(x).square().sum().backward()
        found.append([parameter.grad for parameter in layer.parameters()])
        layer.zero_grad(set_to_none=True)
    for plain, cast in zip(*found, strict=True):
        assert torch.equal(plain, cast)


class NoSync(TorchDispatchMode):
    """Fails where a number is fetched from a device, which would have to be waited for."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert "local_scalar" not in str(func)
        assert "nonzero.default" not in str(func)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("changes", [{}, {"encoding": {"kind": "offset", "correction": "column"}}])
def test_a_read_and_its_gradient_wait_for_no_device(changes):
    dac = {"bits": 8, "range": {"kind": "static", "value": 1.5}}
    model = cs.map_model(nn.Sequential(nn.Linear(N_IN, N_OUT)), PCM.evolve(dac=dac, **changes), backend="torch")
    x = torch.randn(5, N_IN, requires_grad=True)
    with NoSync():
        model(x).sum().backward()
    counts = model.chip.summary()
    assert counts.n_inputs == 5 * N_IN
    assert counts.n_clipped == int((x.abs() > 1.5).sum()) > 0


@pytest.mark.parametrize(
    ("noise", "bound", "each"), [("frozen", 10, 0), ("split", 10, 2), ("frozen", 1, 1), ("split", 1, 3)]
)
def test_autograd_keeps_codes_and_marks_but_no_weights(noise, bound, each):
    """One byte for an input, `each` bytes for an output of a row tile: of slopes, and of marks if there are any."""
    chip = PCM.evolve(read_noise={"kind": noise}, **{"tile.rows": 35, "adc.bound": bound})
    model = cs.map_model(nn.Sequential(nn.Linear(N_IN, N_OUT)), chip, backend="torch")
    kept: list[torch.Tensor] = []

    def keep(tensor):
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(torch.randn(6, N_IN, requires_grad=True))
    assert (model.chip.summary().n_saturated > 0) == (bound == 1)
    n_bytes = sum(tensor.numel() * tensor.element_size() for tensor in kept)
    assert n_bytes == 6 * (N_IN + each * 2 * N_OUT + 2 * 4)  # and the full scale of each vector on each tile


class Twice(nn.Module):
    """The same layer two times, so that a read number is more than a number of the call."""

    def __init__(self):
        super().__init__()
        self.layer, self.last = nn.Linear(12, 12), nn.Linear(12, 3)

    def forward(self, x):
        return self.last(torch.tanh(self.layer(torch.tanh(self.layer(x)))))


def checkpointed(chip, **options):
    """Gradients and the chip's summary after two steps, the second one checkpointed where there are options."""
    torch.manual_seed(5)
    model = Twice()
    mapped = cs.map_model(model, chip)
    if "context_fn" in options:
        options["context_fn"] = cs.checkpoint_contexts(mapped.chip)
    x = torch.randn(7, 12, requires_grad=True)
    mapped(x)
    y = checkpoint(mapped, x, **options) if options else mapped(x)
    mapped(x)
    y.square().sum().backward()
    return [x.grad, *(parameter.grad for parameter in model.parameters())], mapped.chip


def test_checkpointing_meets_the_same_noise_again():
    chip = PCM.evolve(adc=None)
    expected, plain = checkpointed(chip)
    found, again = checkpointed(chip, use_reentrant=False, context_fn=None)
    for own, reference in zip(found, expected, strict=True):
        assert torch.equal(own, reference)
    assert again.matrices["layer"].matrix.reads == plain.matrices["layer"].matrix.reads == 6
    assert again.summary().n_inputs == plain.summary().n_inputs


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointing_that_would_meet_other_noise_is_refused(reentrant):
    with pytest.raises(cs.StateError, match=r"is read again during a backward pass .*checkpoint_contexts"):
        checkpointed(PCM, use_reentrant=reentrant)
    checkpointed(PCM.evolve(read_noise={"kind": "frozen"}), use_reentrant=reentrant)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("noise", ["frozen", "split"])
def test_a_gpu_reads_and_derives_as_the_cpu_does(noise):
    torch.manual_seed(6)
    layer = nn.Sequential(nn.Linear(N_IN, N_OUT, dtype=torch.float64))
    x, found = torch.randn(9, N_IN, dtype=torch.float64), []
    chip = PCM.evolve(read_noise={"kind": noise}, **{"tile.rows": 24})
    for device in ("cpu", "cuda"):
        model = cs.map_model(layer, chip, seed=5, backend="torch").to(device)
        inputs = x.to(device).requires_grad_()
        y = model(inputs)
        of_x, of_weight = torch.autograd.grad(y.square().sum(), (inputs, model[0].weight))
        found.append([y.cpu(), of_x.cpu(), of_weight.cpu(), model.chip.summary().n_saturated])
    for own, reference in zip(*found, strict=True):
        torch.testing.assert_close(own, reference, rtol=0, atol=1e-6 * float(torch.as_tensor(reference).abs().max()))
