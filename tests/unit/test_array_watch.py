"""What a read notices of changed weights, by what sign, and when."""

import copy
import pickle
from types import SimpleNamespace

import pytest
import torch

from crossbar_sim.array import watch
from crossbar_sim.array.source import Source
from crossbar_sim.array.view import View
from crossbar_sim.array.watch import Watch

LARGE, SMALL = (300, 200), (8, 4)


PAUSE = 1e6
"""How many times what comparing takes go by between two comparisons; by chance none falls into a test."""


class Clock:
    """The time that the watch sees: it moves by a microsecond when looked at, and when it is moved on."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        self.now += 1e-6
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(watch, "perf_counter", clock)
    monkeypatch.setattr(watch, "_TIMES_ITS_COST", PAUSE)
    return clock


def watched(shape=LARGE):
    """A parameter, where it stands, and its watch after the reads that compare everything."""
    holder = SimpleNamespace(weight=torch.nn.Parameter(torch.randn(shape, generator=torch.Generator().manual_seed(1))))
    source = Source(vars(holder), "weight")
    own = Watch(source)
    for _ in range(3):
        assert own.seems_fresh(source)
    return holder, source, own


def reads_until_noticed(own, source):
    return next((n for n in range(own.fingerprint.n_phases + 1) if not own.seems_fresh(source)), None)


def alias(tensor):
    """The same memory without its count of versions."""
    return tensor.detach().numpy()


SIGNS = {
    "in place": lambda holder: holder.weight.add_(1.0),
    "in place, of one": lambda holder: holder.weight[0, 0].add_(1.0),
    "data": lambda holder: setattr(holder.weight, "data", holder.weight.data + 1),
    "data, turned": lambda holder: setattr(holder.weight, "data", holder.weight.data.t()),
    "data of another type": lambda holder: setattr(holder.weight, "data", holder.weight.data.double()),
    "set_": lambda holder: holder.weight.set_(torch.zeros(LARGE)),
    "resize_": lambda holder: holder.weight.requires_grad_(False).resize_(4, 4),
    "an empty storage": lambda holder: holder.weight.untyped_storage().resize_(0),
    "a storage that is swapped": lambda holder: torch.utils.swap_tensors(
        holder.weight, torch.nn.Parameter(torch.zeros(LARGE))
    ),
    "another parameter": lambda holder: setattr(holder, "weight", torch.nn.Parameter(torch.zeros(LARGE))),
    "a parameter on the meta device": lambda holder: setattr(holder, "weight", holder.weight.to("meta")),
}


@pytest.mark.parametrize("name", SIGNS)
def test_a_change_with_a_sign_is_noticed_at_the_next_read(name, clock):
    holder, source, own = watched()
    with torch.no_grad():
        SIGNS[name](holder)
    assert not own.seems_fresh(source)
    assert not own.is_fresh(source)
    assert not own.seems_fresh(source)


SILENT = {
    "numpy": lambda holder: alias(holder.weight).__imul__(1.5),
    "data": lambda holder: holder.weight.data.mul_(1.5),
    "another name": lambda holder: torch.nn.Parameter(holder.weight.data).data.neg_(),
    "untyped storage": lambda holder: holder.weight.untyped_storage().fill_(7),
    "as bytes": lambda holder: holder.weight.data.view(torch.uint8).fill_(7),
}


@pytest.mark.parametrize("shape", [LARGE, SMALL])
@pytest.mark.parametrize("name", SILENT)
def test_a_silent_change_of_most_weights_is_noticed_at_the_next_read(name, shape, clock):
    holder, source, own = watched(shape)
    SILENT[name](holder)
    assert not own.seems_fresh(source)


def test_a_silent_change_of_one_weight_of_a_small_matrix_is_noticed_at_the_next_read(clock):
    for place in range(32):
        holder, source, own = watched(SMALL)
        alias(holder.weight).reshape(-1)[place] += 1
        assert not own.seems_fresh(source)


@pytest.mark.parametrize("place", [(0, 0), (150, 100), (299, 199)])
def test_a_silent_change_of_one_weight_of_a_large_matrix_is_noticed_in_so_many_reads(place, clock):
    holder, source, own = watched()
    alias(holder.weight)[place] += 1
    assert 0 < reads_until_noticed(own, source) < own.fingerprint.n_phases


def test_it_is_noticed_at_the_next_read_after_a_pause(clock):
    holder, source, own = watched()
    assert own.seems_fresh(source)
    alias(holder.weight)[150, 100] += 1
    assert own.seems_fresh(source)
    clock.now += 0.9 * PAUSE * own.cost_s
    assert own.seems_fresh(source)
    clock.now += 0.2 * PAUSE * own.cost_s
    assert not own.seems_fresh(source)


def test_the_pause_is_that_of_all_matrices_that_are_read(clock):
    (one, source, own), (_, *other) = watched(), watched()
    for _ in range(2):
        assert own.seems_fresh(source)
        assert other[1].seems_fresh(other[0])
    alias(one.weight)[150, 100] += 1
    clock.now += 1.1 * PAUSE * own.cost_s
    assert own.seems_fresh(source)
    other[1].seems_fresh(other[0])
    clock.now += PAUSE * own.cost_s
    assert not own.seems_fresh(source)


def test_it_is_noticed_at_the_first_reads_after_an_operation_of_the_chip(clock):
    holder, source, own = watched()
    assert own.is_fresh(source)
    assert own.seems_fresh(source)
    alias(holder.weight)[150, 100] += 1
    assert not own.seems_fresh(source)


def test_a_step_of_an_optimiser_is_a_sign(clock):
    """Also where its kernel leaves none and but one weight changes."""
    holder, source, own = watched()
    optimizer = torch.optim.SGD([holder.weight], lr=0.1, fused=True)
    holder.weight.grad = torch.zeros(LARGE)
    holder.weight.grad[150, 100] = 1.0
    version = holder.weight._version
    optimizer.step()
    assert holder.weight._version == version
    assert not own.seems_fresh(source)


def test_a_step_of_an_optimiser_of_other_weights_compares_nothing(clock, monkeypatch):
    _, source, own = watched()
    other = torch.nn.Parameter(torch.zeros(3))
    other.grad = torch.ones(3)
    monkeypatch.setattr(own, "_compare", None)
    torch.optim.SGD([other], lr=0.1, fused=True).step()
    assert own.seems_fresh(source)


def step_of_length_zero(holder):
    holder.weight.grad = torch.ones(LARGE)
    torch.optim.SGD([holder.weight], lr=0.0).step()


SAME = {
    "written again": lambda holder: holder.weight.copy_(holder.weight.clone()),
    "a step": step_of_length_zero,
    "data": lambda holder: setattr(holder.weight, "data", holder.weight.data.clone()),
    "another layout": lambda holder: setattr(holder.weight, "data", holder.weight.data.t().contiguous().t()),
    "another parameter": lambda holder: setattr(holder, "weight", torch.nn.Parameter(holder.weight.clone())),
    "no parameter": lambda holder: setattr(holder, "weight", holder.weight.detach()),
    "a larger storage": lambda holder: holder.weight.data.resize_(1000, 1000),
    "shared memory": lambda holder: holder.weight.share_memory_(),
    "there and back": lambda holder: setattr(holder.weight, "data", holder.weight.data.double().float()),
    "requires_grad": lambda holder: holder.weight.requires_grad_(False),
}


@pytest.mark.parametrize("name", SAME)
def test_the_same_bits_are_fresh_whatever_was_done(name, clock):
    holder, source, own = watched()
    with torch.no_grad():
        SAME[name](holder)
    assert own.seems_fresh(source)
    assert own.is_fresh(source)


def test_values_that_come_back_are_fresh_again(clock):
    holder, source, own = watched()
    alias(holder.weight)[:] *= 2
    assert not own.seems_fresh(source)
    alias(holder.weight)[:] /= 2
    assert own.seems_fresh(source)


def test_memory_of_another_tensor_at_the_same_place(clock):
    """Where the old tensor is gone, the new one may get its memory: then only its values tell."""
    holder, source, own = watched()
    for _ in range(20):
        holder.weight = torch.nn.Parameter(holder.weight.detach() + 1)
        assert not own.seems_fresh(source)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda own: pickle.loads(pickle.dumps(own))])  # noqa: S301
def test_a_copy_knows_the_values(copied, clock):
    holder, source, own = watched()
    twin = copied(own)
    assert twin.seems_fresh(source)
    alias(holder.weight)[150, 100] += 1
    assert not copied(own).seems_fresh(source)
    assert not twin.seems_fresh(source)  # its second read


def test_parts_of_one_tensor_are_watched_apart(clock):
    holder = SimpleNamespace(experts=torch.nn.Parameter(torch.randn(3, *LARGE)))
    sources = [Source(vars(holder), "experts", View(entry=k)) for k in range(3)]
    own = [Watch(source) for source in sources]
    with torch.no_grad():
        holder.experts[1, 7, 7] = 9.0
    assert [each.seems_fresh(source) for each, source in zip(own, sources, strict=True)] == [True, False, True]


def test_a_tensor_made_in_inference_mode(clock):
    with torch.inference_mode():
        holder = SimpleNamespace(weight=torch.randn(LARGE))
        source = Source(vars(holder), "weight")
        own = Watch(source)
        assert own.seems_fresh(source)
        holder.weight.mul_(2)
    assert not own.seems_fresh(source)


@pytest.mark.parametrize("view", [lambda whole: whole[:, ::2], lambda whole: whole[:, 3:150]])
def test_weights_that_lie_apart_are_compared_when_it_is_time(view, clock):
    holder = SimpleNamespace(weight=torch.randn(400, 300))
    source = Source(vars(holder), "weight", SimpleNamespace(part=view))
    own = Watch(source)
    for _ in range(4):
        assert own.seems_fresh(source)
    alias(holder.weight)[5, 4] += 1
    clock.now += 2 * PAUSE * own.cost_s
    assert not own.seems_fresh(source)


def test_an_optimiser_of_parameters_without_storage_is_left_in_peace():
    parameter = torch.nn.Parameter(torch.zeros(3, device="meta"))
    parameter.grad = torch.zeros(3, device="meta")
    torch.optim.SGD([parameter], lr=0.1, foreach=False).step()
