"""Weights of a mapped model that change, or only seem to: values decide whether its devices may be read."""

import copy
import inspect
import io
import pickle

import numpy as np
import pytest
import torch
from torch import nn

import crossbar_sim as cs
from crossbar_sim.spec import FoundRange, GradientDescentProgramming
from device_models.effects import DeviceAsymmetry

PCM = cs.ChipSpec.preset("pcm_1m")
X = torch.randn(3, 8, generator=torch.Generator().manual_seed(5))
REFUSED = r"weights changed after they were programmed; call chip\.reprogram\(\)"


def tiny():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 2))


def read(model, x=X):
    model.chip.reset_reads()
    with torch.no_grad():
        return model(x)


def check_refused(model):
    with pytest.raises(cs.StateError, match=REFUSED):
        read(model)
    for use in (lambda: model.chip.set_time("1h"), lambda: model.chip.compensate("column"), model.chip.summary):
        with pytest.raises(cs.StateError, match=REFUSED):
            use()


def other_state():
    torch.manual_seed(9)
    return nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 2)).state_dict()


def merge(layer):
    """What adapters do when they are merged."""
    layer.weight.data += torch.ones(4, 1) @ torch.ones(1, 8)


def prune(layer):
    layer.weight.data[layer.weight.abs() < 0.1] = 0


def replaced(layer, weight):
    layer.weight = nn.Parameter(weight)


CHANGES = {
    "merging": lambda model: merge(model[0]),
    "clipping": lambda model: model[0].weight.data.clamp_(-0.1, 0.1),
    "pruning": lambda model: prune(model[0]),
    "one weight": lambda model: model[0].weight.data[3].__setitem__(7, 1.0),
    "one weight by numpy": lambda model: model[0].weight.detach().numpy().__setitem__((0, 0), 1.0),
    "the storage": lambda model: model[0].weight.untyped_storage().fill_(1),
    "the storage of another tensor": lambda model: setattr(model[0].weight, "data", torch.zeros(4, 8)),
    "swap_tensors": lambda model: torch.utils.swap_tensors(model[0].weight, nn.Parameter(torch.zeros(4, 8))),
    "another parameter": lambda model: replaced(model[0], torch.zeros(4, 8)),
    "loading": lambda model: model.load_state_dict(other_state()),
    "loading by assignment": lambda model: model.load_state_dict(other_state(), assign=True),
    "another type by assignment": lambda model: model.load_state_dict(
        {name: value.to(torch.bfloat16) for name, value in model.state_dict().items()}, assign=True
    ),
    "init": lambda model: nn.init.zeros_(model[0].weight),
    "vector_to_parameters": lambda model: nn.utils.vector_to_parameters(torch.zeros(46), model.parameters()),
    "an alias": lambda model: nn.Linear(8, 4).requires_grad_(False).weight.set_(model[0].weight.data).mul_(2),
}


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("name", CHANGES)
def test_changed_weights_are_refused_until_they_are_written(name, inplace):
    mapped = cs.map_model(tiny(), PCM, seed=3, inplace=inplace)
    for _ in range(3):
        read(mapped)
    CHANGES[name](mapped)
    check_refused(mapped)
    mapped.chip.reprogram()
    digital = tiny()
    digital.load_state_dict(mapped.state_dict(), assign=True)
    assert torch.equal(read(mapped), read(cs.map_model(digital, PCM, seed=3)))


def test_a_parameter_of_another_shape_is_refused_by_name():
    mapped = cs.map_model(tiny(), PCM)
    replaced(mapped[0], torch.zeros(5, 8))
    check_refused(mapped)
    with pytest.raises(cs.UsageError, match=r"0: shape \(5, 8\) does not fit the plan, which is \(4, 8\)"):
        mapped.chip.reprogram()


@pytest.mark.parametrize("n_bytes", [0, 10, 10**6])
def test_weights_whose_memory_is_resized(n_bytes):
    mapped = cs.map_model(tiny().bfloat16(), PCM)  # torch refuses it where weights were seen through NumPy
    before = read(mapped, X.bfloat16())
    mapped[0].weight.untyped_storage().resize_(n_bytes)
    if n_bytes > 64:
        assert torch.equal(read(mapped, X.bfloat16()), before)
    else:
        check_refused(mapped)


def same_again(model):
    model.load_state_dict(model.state_dict())


def swap_twice(model):
    other = nn.Parameter(torch.zeros(4, 8))
    for _ in range(2):
        torch.utils.swap_tensors(model[0].weight, other)


SAME = {
    "loading its own state": same_again,
    "loading it by assignment": lambda model: model.load_state_dict(
        {name: value.clone() for name, value in model.state_dict().items()}, assign=True
    ),
    "a step of length zero": lambda model: step(torch.optim.SGD(model.parameters(), lr=0.0), model),
    "broadcast": lambda model: [each.data.copy_(each.data.clone()) for each in model.parameters()],
    "another parameter": lambda model: replaced(model[0], model[0].weight.detach().clone()),
    "swapped twice": swap_twice,
    "shared memory": lambda model: model.share_memory(),
    "to": lambda model: model.to("cpu"),
    "float and back": lambda model: model.double().float(),
    "frozen": lambda model: model.requires_grad_(False),
    "another layout": lambda model: replaced(model[0], model[0].weight.detach().t().contiguous().t()),
    "there and back": lambda model: model[0].weight.data.mul_(2).mul_(0.5),
    "ema of itself": lambda model: torch._foreach_lerp_(
        [each.data for each in model.parameters()], [each.data.clone() for each in model.parameters()], 0.0
    ),
    "vector_to_parameters": lambda model: nn.utils.vector_to_parameters(
        nn.utils.parameters_to_vector(model.parameters()), model.parameters()
    ),
}


@pytest.mark.parametrize("name", SAME)
def test_the_same_bits_are_never_refused(name):
    mapped = cs.map_model(tiny(), PCM, seed=3)
    mapped.chip.set_time("1d")
    before = read(mapped)
    SAME[name](mapped)
    assert torch.equal(read(mapped), before)
    mapped.chip.set_time("1h")
    mapped.chip.set_time("1d")
    assert torch.equal(read(mapped), before)


def test_weights_that_come_back_are_read_again():
    mapped = cs.map_model(tiny(), PCM)
    before, kept = read(mapped), copy.deepcopy(mapped.state_dict())
    mapped.load_state_dict(other_state())
    check_refused(mapped)
    mapped.load_state_dict(kept)
    assert torch.equal(read(mapped), before)


def test_another_parameter_for_one_call():
    mapped = cs.map_model(tiny(), PCM)
    own = {name: value.detach().clone() for name, value in mapped.named_parameters()}
    before = read(mapped)
    mapped.chip.reset_reads()
    with torch.no_grad():
        assert torch.equal(torch.func.functional_call(mapped, own, X), before)
        own["0.weight"] *= 2
        with pytest.raises(cs.StateError, match=REFUSED):
            torch.func.functional_call(mapped, own, X)
    assert torch.equal(read(mapped), before)


OPTIMISERS = sorted(
    name
    for name, value in vars(torch.optim).items()
    if inspect.isclass(value) and issubclass(value, torch.optim.Optimizer) and value is not torch.optim.Optimizer
)
WAYS = [
    (name, way)
    for name in OPTIMISERS
    for way in ({}, {"foreach": True}, {"foreach": False}, {"fused": True})
    if set(way) <= set(inspect.signature(getattr(torch.optim, name)).parameters)
]


def step(optimizer, model):
    def closure():
        optimizer.zero_grad()
        loss = (nn.functional.linear(nn.functional.linear(X, model[0].weight), model[2].weight) - 1).square().sum()
        loss.backward()
        return loss

    closure()
    optimizer.step(closure)


@pytest.mark.parametrize(("name", "way"), WAYS, ids=str)
def test_a_step_of_every_optimiser_is_noticed(name, way):
    kind = getattr(torch.optim, name)
    mapped = cs.map_model(tiny(), PCM)
    weights = [mapped[0].weight, mapped[2].weight]
    before = read(mapped)
    old = [weight.detach().clone() for weight in weights]
    if name == "SparseAdam":
        for weight in weights:
            weight.grad = torch.sparse_coo_tensor([[1]], torch.ones(1, weight.shape[1]), weight.shape)
        kind(weights, lr=0.1, **way).step()
    else:
        step(kind(weights, lr=0.1, **way), mapped)
    assert not any(map(torch.equal, old, weights))
    check_refused(mapped)
    mapped.chip.reprogram()
    assert not torch.equal(read(mapped), before)


def saved(model):
    memory = io.BytesIO()
    torch.save(model, memory)
    memory.seek(0)
    return torch.load(memory, weights_only=False)


COPIES = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),  # noqa: S301
    "torch.save": saved,
    "a copy of a copy": lambda model: saved(copy.deepcopy(model)),
    "copy": copy.copy,
}


def changed_before(state="kept", spec=PCM):
    """A model whose weights were changed in place before it was mapped, as those of every Hugging Face model are."""
    model = tiny()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5).add_(0.01)
    found = spec.dac is not None and isinstance(spec.dac.range, FoundRange)
    mapped = cs.map_model(model, spec, seed=2, state=state, calibration_data=[X] if found else None)
    mapped.chip.set_time("1d")
    return mapped


@pytest.mark.parametrize("state", ["kept", "regenerated"])
@pytest.mark.parametrize("name", COPIES)
def test_copies_answer_with_the_same_bits_and_notice_changes_of_their_own(name, state):
    mapped = changed_before(state)
    before = read(mapped)
    twin = COPIES[name](mapped)
    assert torch.equal(read(twin), before)
    twin.chip.set_time("30d")
    twin.chip.set_time("1d")
    assert torch.equal(read(twin), before)
    with torch.no_grad():
        twin[0].weight.mul_(2)
    check_refused(twin)
    twin.chip.reprogram()
    read(twin)
    if name != "copy":  # which shares layers, weights and chip
        assert torch.equal(read(mapped), before)


SPECS = {
    "reference columns": PCM.evolve(encoding={"kind": "offset", "correction": "column"}),
    "wires": PCM.evolve(wires={"r_wl_ohm": 0.5, "r_bl_ohm": 0.5}),
    "passes": PCM.evolve(**{"dac.encoding": {"kind": "bit_serial"}}),
    "devices with polarity": PCM.evolve(**{"device.polarity": DeviceAsymmetry(sigma=0.2)}),
    "gradient descent": PCM.evolve(programming=GradientDescentProgramming(eta=0.1, steps=3, batch=64)),
    **{name: cs.ChipSpec.preset(name) for name in ("hermes_2d", "neurram")},
}


@pytest.mark.parametrize("name", SPECS)
def test_chips_of_many_kinds_are_copied(name):
    mapped = changed_before(spec=SPECS[name])
    before = read(mapped)
    for copied in (copy.deepcopy, saved):
        twin = copied(mapped)
        assert torch.equal(read(twin), before)
        twin.chip.reprogram()
        twin.chip.set_time("1d")
        assert torch.equal(read(twin), before)


@pytest.mark.parametrize("name", [name for name in COPIES if name != "copy"])
def test_a_copy_of_changed_weights_is_refused(name):
    mapped = changed_before()
    with torch.no_grad():
        mapped[0].weight.mul_(2)
    check_refused(COPIES[name](mapped))


def test_a_spawned_process_and_this_one_answer_with_the_same_bits(llama_folder):
    """Sending a model moves its memory to where both processes see it."""
    model, _ = cs.load_model(str(llama_folder))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.25)
    mapped = cs.map_model(model, PCM, seed=2)
    mapped.chip.set_time("1d")
    before = read_tokens(mapped)
    context = torch.multiprocessing.get_context("spawn")
    results = context.Queue()
    worker = context.Process(target=send_tokens, args=(mapped, results))
    worker.start()
    found = results.get(timeout=120)
    worker.join()
    assert np.array_equal(found, before)
    assert np.array_equal(read_tokens(mapped), before)


def read_tokens(model):
    model.chip.reset_reads()
    with torch.no_grad():
        return model(torch.arange(2, 12)[None]).logits.numpy().copy()


def send_tokens(model, results):
    results.put(read_tokens(model))


def test_an_averaged_model():
    mapped = changed_before()
    before = read(mapped)
    averaged = torch.optim.swa_utils.AveragedModel(mapped)
    assert torch.equal(read(averaged.module), before)
    averaged.update_parameters(mapped)
    assert torch.equal(read(averaged.module), before)
    with torch.no_grad():
        mapped[0].weight.mul_(2)
    mapped.chip.reprogram()
    averaged.update_parameters(mapped)
    check_refused(averaged.module)
    averaged.module.chip.reprogram()
    read(averaged.module)


def test_a_distributed_model(tmp_path):
    distributed = pytest.importorskip("torch.distributed")
    if not distributed.is_available() or not distributed.is_gloo_available():
        pytest.skip("torch was built without gloo")
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    try:
        mapped = changed_before()
        before = read(mapped)
        wrapped = nn.parallel.DistributedDataParallel(mapped)
        mapped.chip.reset_reads()
        with torch.no_grad():
            assert torch.equal(wrapped(X), before)
        optimizer = torch.optim.SGD(wrapped.parameters(), lr=0.1, fused=True)
        wrapped(X).square().sum().backward()
        optimizer.step()
        with pytest.raises(cs.StateError, match=REFUSED):
            wrapped(X)
    finally:
        distributed.destroy_process_group()


class Tied(nn.Module):
    """A head that shares its weights with the embedding, which `.to()` comes to first."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.head = nn.Embedding(20, 8), nn.Linear(8, 20, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens):
        return self.head(self.embedding(tokens))


def fused_step(mapped):
    mapped.head.weight.grad = torch.ones(20, 8)
    torch.optim.SGD(mapped.parameters(), lr=0.1, fused=True).step()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("copied", [lambda mapped: mapped, copy.deepcopy, saved])
def test_shared_weights_are_cast_with_their_state(copied, dtype):
    tokens = torch.arange(5)
    twin = copied(cs.map_model(Tied(), PCM, seed=3)).to(dtype)
    assert twin.head.weight is twin.embedding.weight
    with torch.no_grad():
        assert torch.equal(twin(tokens), cs.map_model(Tied().to(dtype), PCM, seed=3)(tokens))


@pytest.mark.parametrize("change", [lambda mapped: nn.init.zeros_(mapped.head.weight), fused_step])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_shared_weights_that_changed_before_a_cast_stay_refused(change, dtype):
    mapped = cs.map_model(Tied(), PCM)
    change(mapped)
    mapped.to(dtype)
    with pytest.raises(cs.StateError, match=REFUSED):
        mapped(torch.arange(5))


def test_weights_that_are_cast_and_read_follow_their_values():
    """A cast of changed weights stays refused; one of unchanged weights does not."""
    mapped = changed_before()
    mapped.to(torch.bfloat16)
    read(mapped.float())
    mapped[0].weight.data.mul_(2)
    check_refused(mapped.double())
