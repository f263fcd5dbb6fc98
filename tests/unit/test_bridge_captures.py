"""Graphs, wrappers and replaced functions around a mapped model."""

import functools
import types
import weakref

import pytest
import torch
from torch import nn

import crossbar_sim as cs
from device_models.errors import UnreadLayerWarning

IDEAL = cs.ChipSpec.preset("ideal")
PCM = cs.ChipSpec.preset("pcm_1m")
X = torch.randn(3, 8, generator=torch.Generator().manual_seed(4))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.up, self.down = nn.Linear(8, 16), nn.Linear(16, 8)

    def forward(self, x):
        return x + self.down(torch.relu(self.up(x)))


def tiny():
    torch.manual_seed(0)
    return nn.Sequential(Block(), nn.Linear(8, 4)).eval()


@pytest.mark.parametrize("kind", ["linear", "attention"])
@pytest.mark.parametrize("options", [{"backend": "eager"}, {"backend": "aot_eager", "dynamic": True}], ids=str)
def test_a_compiled_model_reads_outside_of_its_graphs(options, kind):
    torch.compiler.reset()
    torch.manual_seed(0)
    model = tiny() if kind == "linear" else nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    x = X if kind == "linear" else X[None]
    mapped, eager = cs.map_model(model, PCM), cs.map_model(model, PCM)
    compiled = torch.compile(mapped, **options)
    with torch.no_grad():
        for _ in range(3):
            torch.testing.assert_close(compiled(x), eager(x), rtol=1e-5, atol=1e-6)
    assert {each.matrix.reads for each in mapped.chip.matrices.values()} == {3}


def test_gradients_pass_a_compiled_model():
    torch.compiler.reset()
    model = tiny()
    compiled = torch.compile(cs.map_model(model, IDEAL), backend="aot_eager")
    compiled(X).square().sum().backward()
    found = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    model(X).square().sum().backward()
    for own, parameter in zip(found, model.parameters(), strict=True):
        torch.testing.assert_close(own, parameter.grad, rtol=1e-4, atol=1e-5)


def make_fx(model, x):
    from torch.fx.experimental.proxy_tensor import make_fx as trace

    return trace(model)(x)


CAPTURES = {
    "torch.jit.trace": torch.jit.trace,
    "torch.export": lambda model, x: torch.export.export(model, (x,), strict=False),
    "torch.fx": make_fx,
    "torch.func": lambda model, x: torch.func.vmap(model)(x[:, None]),
    "without values": lambda model, x: model(x.to("meta")),
}


@pytest.mark.parametrize("name", CAPTURES)
def test_captures_that_would_freeze_a_read_are_refused(name):
    mapped = cs.map_model(tiny(), PCM)
    with pytest.raises(cs.UsageError, match=f"a read of the chip cannot be recorded by .*{name}"), torch.no_grad():
        CAPTURES[name](mapped, X)
    with torch.no_grad():
        assert mapped(X).isfinite().all()


@pytest.mark.parametrize("x", [X.to_sparse(), torch.nested.nested_tensor([X, X]), None, "text"], ids=type)
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_inputs_that_are_no_dense_tensors_are_refused(x):
    mapped = cs.map_model(tiny()[1], PCM)
    with pytest.raises((cs.UsageError, NotImplementedError)), torch.no_grad():
        mapped(x)


WRAPPERS = {
    "DataParallel": nn.DataParallel,
    "compile": lambda model: torch.compile(model, backend="eager"),
    "AveragedModel": torch.optim.swa_utils.AveragedModel,
    "both": lambda model: nn.DataParallel(torch.compile(model, backend="eager")),
}


@pytest.mark.parametrize("name", WRAPPERS)
def test_a_wrapper_chooses_no_other_devices(name):
    torch.compiler.reset()
    bare, wrapped = cs.map_model(tiny(), PCM, seed=3), cs.map_model(WRAPPERS[name](tiny()), PCM, seed=3)
    with torch.no_grad():
        assert torch.equal(wrapped(X), bare(X))
    assert [p.matrix.name for p in wrapped.chip.matrices.values()] == list(bare.chip.matrices)


def test_checkpoint_wrappers_choose_no_other_devices():
    wrapper = pytest.importorskip("torch.distributed.algorithms._checkpoint.checkpoint_wrapper")
    model = tiny()
    model[0] = wrapper.checkpoint_wrapper(model[0])
    bare, wrapped = cs.map_model(tiny(), PCM), cs.map_model(model, PCM)
    with torch.no_grad():
        assert torch.equal(wrapped(X), bare(X))


def test_a_module_of_the_same_name_as_a_wrapper_is_part_of_the_name():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.module = nn.Linear(8, 8)

        def forward(self, x):
            return self.module(x)

    mapped = cs.map_model(Own(), PCM)
    assert [each.matrix.name for each in mapped.chip.matrices.values()] == ["module"]


class TestPeft:
    """Adapters before and after mapping (docs/mapping_models.md)."""

    peft = pytest.importorskip("peft")

    def config(self, **options):
        return self.peft.LoraConfig(r=2, target_modules=["up", "down"], **options)

    def test_zero_adapters_choose_no_other_devices(self):
        bare = cs.map_model(tiny(), PCM)
        wrapped = cs.map_model(self.peft.get_peft_model(tiny(), self.config()).eval(), PCM, rules={"*lora*": "digital"})
        with torch.no_grad():
            assert torch.equal(wrapped(X), bare(X))

    def test_adapters_of_a_mapped_model_are_digital(self):
        mapped = cs.map_model(tiny(), PCM)
        with torch.no_grad():
            before = mapped(X)
            adapted = self.peft.get_peft_model(mapped, self.config(init_lora_weights=False)).eval()
            mapped.chip.reset_reads()
            after = adapted(X)
        assert (after - before).abs().max() > 1e-3
        assert len(mapped.chip.matrices) == 3
        with adapted.disable_adapter(), torch.no_grad():
            mapped.chip.reset_reads()
            assert torch.equal(adapted(X), before)

    def test_a_copy_of_a_layer_on_the_chip_is_refused(self):
        adapted = self.peft.get_peft_model(cs.map_model(tiny(), PCM), self.config(modules_to_save=["1"]))
        with pytest.raises(cs.StateError, match=r"^1: a .* holds a copy of the layer on the chip"), torch.no_grad():
            adapted(X)

    def test_merged_adapters_are_new_weights(self):
        mapped = cs.map_model(tiny(), PCM)
        adapted = self.peft.get_peft_model(mapped, self.config(init_lora_weights=False)).eval()
        adapted.merge_adapter()
        with pytest.raises(cs.StateError, match="weights changed after they were programmed"), torch.no_grad():
            adapted(X)


def captured(model):
    block = model[0]
    block.forward = lambda x: x + block.down(torch.relu(block.up(x)))


def captured_method(model):
    plain = model[0].forward
    model[0].forward = lambda x: plain(x)


def captured_in_default(model):
    def forward(x, block=model[0]):
        return x + block.down(torch.relu(block.up(x)))

    model[0].forward = forward


def captured_in_nested_function(model):
    plain = model[0].forward

    def inner(x):
        return plain(x)

    model[0].forward = lambda x: inner(x)


def captured_layer(model):
    up = model[0].up
    model[0].forward = types.MethodType(lambda self, x: x + self.down(torch.relu(up(x))), model[0])


def bound(model):
    model[0].forward = types.MethodType(lambda self, x: 2 * self.down(torch.relu(self.up(x))), model[0])


def partial(model):
    def forward(block, x):
        return 2 * block.down(torch.relu(block.up(x)))

    model[0].forward = functools.partial(forward, model[0])


@pytest.mark.parametrize(
    "replace", [captured, captured_method, captured_in_default, captured_in_nested_function, captured_layer]
)
def test_a_forward_that_would_run_the_original_is_refused(replace):
    model = tiny()
    replace(model)
    with pytest.raises(cs.UsageError, match=r"^0.forward: was replaced by a function that holds modules of this model"):
        cs.map_model(model, PCM)


def hook(model):
    block = model[0]
    block.register_forward_hook(lambda module, inputs, output: block.down(torch.relu(block.up(inputs[0]))))


def pre_hook(model):
    block = model[0]
    model[1].register_forward_pre_hook(lambda module, inputs: (block.down(torch.relu(block.up(inputs[0]))),))


def weak_reference(model):
    model[0].root = weakref.ref(model)


def functions_in_a_list(model):
    up = model[0].up
    model[0].branches = [lambda x: up(x)]


@pytest.mark.parametrize("replace", [hook, pre_hook, weak_reference, functions_in_a_list])
def test_other_ways_to_hold_the_original_are_refused(replace):
    model = tiny()
    replace(model)
    with pytest.raises(
        cs.UsageError, match="modules of this model, so a copy of the model would run the digital original"
    ):
        cs.map_model(model, PCM, rules={"1": "digital"})


def test_a_model_that_compiles_itself_is_copied():
    model = tiny()
    model.compile(backend="eager")
    mapped = cs.map_model(model, IDEAL)
    with torch.no_grad():
        torch.testing.assert_close(mapped(X), tiny()(X), rtol=1e-5, atol=1e-6)


def test_models_of_torch_jit_are_refused():
    with pytest.raises(cs.UsageError, match=r"is compiled by torch.jit"):
        cs.map_model(torch.jit.trace(tiny(), X), IDEAL)


@pytest.mark.parametrize("replace", [captured, captured_method, captured_in_default, captured_in_nested_function])
def test_inplace_such_a_forward_reads_the_chip(replace):
    model = tiny()
    replace(model)
    with torch.no_grad():
        expected = model(X)
        mapped = cs.map_model(model, IDEAL, inplace=True)
        torch.testing.assert_close(mapped(X), expected, rtol=1e-5, atol=1e-6)
    assert {each.matrix.reads for each in mapped.chip.matrices.values()} == {1}


def test_inplace_a_forward_that_holds_the_layer_itself_is_refused():
    model = tiny()
    captured_layer(model)
    with pytest.raises(cs.UsageError, match=r"^0.forward: was replaced by a function that holds the layer '0.up'"):
        cs.map_model(model, IDEAL, inplace=True)


@pytest.mark.parametrize("replace", [bound, partial])
def test_a_forward_that_asks_its_module_is_copied(replace):
    model = tiny()
    replace(model)
    mapped = cs.map_model(model, IDEAL)
    with torch.no_grad():
        torch.testing.assert_close(mapped(X), model(X), rtol=1e-5, atol=1e-6)
    assert {each.matrix.reads for each in mapped.chip.matrices.values()} == {1}


def test_an_unread_copy_is_at_least_reported():
    """What no look at functions can see: a class that keeps the original where nobody looks."""
    model = tiny()
    hidden = {"block": model[0]}

    class Elsewhere(nn.Module):
        def forward(self, x):
            return hidden["block"](x)

    model.append(Elsewhere())
    mapped = cs.map_model(nn.Sequential(model[1], nn.Linear(4, 8), Elsewhere(), model[0]), IDEAL)
    mapped[3].forward = lambda x: x
    with pytest.warns(UnreadLayerWarning, match="3.up, 3.down"), torch.no_grad():
        mapped(X)
