"""States that are computed for each read: bit for bit those that are kept, in memory for one layer at a time."""

import copy
import threading

import pytest
import torch
from torch import nn

import crossbar_sim as cs
from crossbar_sim.array.matrix import AnalogMatrix
from crossbar_sim.spec import GradientDescentProgramming
from device_models.effects import DeviceAsymmetry

PCM = cs.ChipSpec.preset("pcm_1m").evolve(**{"tile.rows": 24})
X = torch.randn(9, 40, generator=torch.Generator().manual_seed(7))
SPECS = {
    "per-read noise": PCM,
    "frozen noise, no compensation": PCM.evolve(read_noise="frozen", compensation=None),
    "affine compensation": PCM.evolve(compensation="affine"),
    "exact reference": PCM.evolve(compensation={"kind": "column", "reference": "exact"}),
    "reference columns": PCM.evolve(encoding={"kind": "offset", "correction": "column"}),
    "wires": PCM.evolve(wires={"r_wl_ohm": 0.5, "r_bl_ohm": 0.5}),
    "wires, no compensation": PCM.evolve(wires={"r_wl_ohm": 0.5, "r_bl_ohm": 0.5}, compensation=None),
    "polarity": PCM.evolve(**{"device.polarity": DeviceAsymmetry(sigma=0.2)}),
    "gradient descent": PCM.evolve(programming=GradientDescentProgramming(eta=0.1, steps=3, batch=64)),
}


def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(40, 30), nn.ReLU(), nn.Linear(30, 80), nn.ReLU(), nn.Linear(80, 3)).eval()


def pair(spec=PCM, **options):
    return [cs.map_model(model(), spec, seed=3, state=state, **options) for state in ("kept", "regenerated")]


def read(mapped, x=X):
    with torch.no_grad():
        return mapped(x)


def check_same(kept, regenerated):
    """The same answers to many and few vectors, the same corrections, counts and sight of the devices."""
    assert torch.equal(read(kept), read(regenerated))
    assert torch.equal(read(kept, X[:1]), read(regenerated, X[:1]))
    for name, one in kept.chip.matrices.items():
        other = regenerated.chip.matrices[name]
        with other.state():
            assert all(map(torch.equal, one.matrix.effective, other.matrix.effective))
            assert all(map(torch.equal, one.matrix.variance or [], other.matrix.variance or []))
        assert torch.equal(one.matrix.drift_factor, other.matrix.drift_factor)
        offsets = [programmed.matrix.drift_offset for programmed in (one, other)]
        assert torch.equal(*offsets) if offsets[0] is not None else offsets[1] is None
        for number in ("reads", "n_inputs", "n_clipped", "n_outputs", "n_saturated", "time_s", "wire_losses"):
            assert getattr(one.matrix, number) == getattr(other.matrix, number), number
        assert (one.compensated_s, one.stale) == (other.compensated_s, other.stale)
        assert not other.matrix.has_state
    tables = [str(mapped.chip.summary()).splitlines() for mapped in (kept, regenerated)]
    differing = [lines for lines in zip(*tables, strict=True) if lines[0] != lines[1]]
    assert all("memory" in line or line.startswith("expected time") for lines in differing for line in lines)


@pytest.mark.parametrize("name", SPECS)
def test_regenerated_is_kept_bit_for_bit(name):
    both = pair(SPECS[name])
    check_same(*both)
    for mapped in both:
        mapped.chip.set_time("30d")
    check_same(*both)
    for mapped in both:
        mapped.chip.set_time("1h")
        mapped.chip.reset_reads()
        mapped.chip.reset_counts()
    check_same(*both)
    for mapped in both:
        mapped.chip.reprogram(seed=5, write=1)
    check_same(*both)


def test_a_compensation_of_another_time_and_kind():
    both = pair()
    for mapped in both:
        mapped.chip.set_time("30d", compensated_at="1h")
    check_same(*both)
    for mapped in both:
        mapped.chip.compensate("column", probe_vectors=9)
    check_same(*both)
    for mapped in both:
        mapped.chip.compensate(None)
    check_same(*both)


def test_devices_are_seen_as_they_are():
    both = pair()
    for mapped in both:
        mapped.chip.set_time("1d")
    for one, other in zip(*(mapped.chip.conductances("2", (1, 0)) for mapped in both), strict=True):
        assert (one == other).all()
    reports = [mapped.chip.programming_report("2") for mapped in both]
    assert repr(reports[0]) == repr(reports[1])


def test_memory_is_that_of_the_largest_layer():
    kept, regenerated = pair()
    read(regenerated)
    held = {name: programmed.matrix.n_bytes for name, programmed in regenerated.chip.matrices.items()}
    whole = {name: programmed.matrix.n_bytes for name, programmed in kept.chip.matrices.items()}
    states = {name: whole[name] - held[name] for name in whole}
    assert states == {"0": 6 * 1200, "2": 6 * 2400, "4": 6 * 240}  # float32 weights and bfloat16 variances
    memories = {id(programmed.memory): programmed.memory for programmed in regenerated.chip.matrices.values()}
    assert [memory.n_bytes for memory in memories.values()] == [max(states.values())]
    summary = regenerated.chip.summary()
    assert summary.state_bytes == sum(held.values()) + max(states.values())
    assert "MiB of state, regenerated layer by layer, +" in str(summary)
    assert not kept.chip.summary().regenerated


def test_a_state_outside_of_a_read_is_refused():
    _, regenerated = pair()
    with pytest.raises(cs.StateError, match=r"2: its state was released; read it inside ProgrammedMatrix.state\(\)"):
        regenerated.chip.matrices["2"].matrix.effective  # noqa: B018


def test_two_states_at_once_do_not_share_memory():
    kept, regenerated = pair()
    one, other = (regenerated.chip.matrices[name] for name in ("0", "2"))
    with one.state():
        before = [part.clone() for part in one.matrix.effective]
        read(regenerated)
        with other.state():
            assert all(map(torch.equal, other.matrix.effective, kept.chip.matrices["2"].matrix.effective))
        assert all(map(torch.equal, one.matrix.effective, before))
    assert not one.matrix.has_state
    assert not other.matrix.has_state


def test_saved_and_loaded_either_way(tmp_path):
    kept, regenerated = pair()
    for mapped in (kept, regenerated):
        mapped.chip.set_time("30d", compensated_at="1h")
        read(mapped)
    folders = [mapped.chip.save(tmp_path / state) for state, mapped in (("a", kept), ("b", regenerated))]
    assert (folders[0] / "chip.yaml").read_text() == (folders[1] / "chip.yaml").read_text()
    loaded = [cs.load_chip(folders[k], model(), state=state) for k, state in ((0, "regenerated"), (1, "kept"))]
    expected = read(kept)
    assert all(torch.equal(read(mapped), expected) for mapped in loaded)
    assert torch.equal(read(regenerated), expected)
    check_same(loaded[1], loaded[0])


def test_deepcopy_is_another_chip_with_memory_of_its_own():
    kept, regenerated = pair()
    twin = copy.deepcopy(regenerated)
    memories = {id(p.memory) for mapped in (twin, regenerated) for p in mapped.chip.matrices.values()}
    assert len(memories) == 2
    twin.chip.set_time("1y")
    read(twin)
    check_same(kept, regenerated)


def test_a_change_of_type_is_followed():
    both = [mapped.to(torch.float64) for mapped in pair()]
    check_answers = [read(mapped, X.double()) for mapped in both]
    assert torch.equal(*check_answers)
    assert check_answers[0].dtype == torch.float64


@pytest.mark.parametrize("backend", ["auto", "torch"])
@pytest.mark.parametrize("name", ["per-read noise", "reference columns"])
def test_gradients_are_those_of_the_kept_state(name, backend):
    found = []
    kept, regenerated = pair(SPECS[name], backend=backend)
    for mapped in (kept, regenerated):
        mapped.chip.set_time("1d")
        x = X.clone().requires_grad_()
        y = mapped(x)
        if mapped is regenerated:  # what was read stays with the gradients
            mapped.chip.set_time("1y")
            read(mapped)
        y.square().sum().backward()
        found.append([x.grad, *(parameter.grad for parameter in mapped.parameters())])
    assert len(found[0]) == 7
    assert all(map(torch.equal, *found))
    assert not any(programmed.matrix.has_state for programmed in regenerated.chip.matrices.values())


def test_threads_take_turns():
    kept, regenerated = pair(PCM.evolve(read_noise="frozen"))
    inputs = {name: torch.randn(5, module.in_features) for name, module in kept.named_children() if name in "024"}
    expected = {name: read(kept.get_submodule(name), x) for name, x in inputs.items()}
    wrong = []

    def work(name):
        for _ in range(20):
            if not torch.equal(read(regenerated.get_submodule(name), inputs[name]), expected[name]):
                wrong.append(name)

    threads = [threading.Thread(target=work, args=(name,)) for name in [*inputs, *inputs]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_after_an_interruption_the_next_read_is_whole(monkeypatch):
    kept, regenerated = pair()
    age = AnalogMatrix.age

    def interrupted(self, weight, t_s):
        age(self, weight * 0, t_s)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(AnalogMatrix, "age", interrupted)
        with pytest.raises(KeyboardInterrupt):
            read(regenerated)
    assert not any(programmed.matrix.has_state for programmed in regenerated.chip.matrices.values())
    regenerated.chip.reset_reads()
    check_same(kept, regenerated)

    with monkeypatch.context() as patch:
        patch.setattr(AnalogMatrix, "age", interrupted)
        with pytest.raises(KeyboardInterrupt):
            regenerated.chip.set_time("1d")
    with pytest.raises(cs.StateError, match=r"chip\.set_time was interrupted; call it again"):
        read(regenerated)
    for mapped in (kept, regenerated):
        mapped.chip.set_time("1d")
    check_same(kept, regenerated)


def test_new_weights_are_refused_until_reprogrammed():
    both = pair()
    for mapped in both:
        with torch.no_grad():
            mapped[0].weight.mul_(0.5)
        with pytest.raises(cs.StateError, match="weights changed after they were programmed"):
            read(mapped)
        mapped.chip.reprogram()
    check_same(*both)


def test_the_bound_of_the_adc_is_found_on_regenerated_states():
    one, other = (cs.calibrate_adc_bound(mapped, [X]) for mapped in pair())
    assert one == other


def test_an_unknown_choice_is_refused(tmp_path):
    text = r"state = 'keep': must be one of kept, regenerated; nearest: \"kept\""
    with pytest.raises(cs.UsageError, match=text):
        cs.map_model(model(), PCM, state="keep")
    with pytest.raises(cs.UsageError, match=text):
        cs.load_chip(tmp_path, model(), state="keep")
