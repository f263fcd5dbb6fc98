"""Training on a chip: devices that are written again after each step, by a hook or by the Trainer of transformers."""

import pytest
import torch
from torch import nn

import crossbar_sim as cs

IDEAL, PCM = (cs.ChipSpec.preset(name) for name in ("ideal", "pcm_1m"))
X = torch.randn(16, 8, generator=torch.Generator().manual_seed(5))
Y = torch.randn(16, 2, generator=torch.Generator().manual_seed(6))
REFUSED = r"weights changed after they were programmed; call chip\.reprogram\(\)"


def tiny():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 12), nn.Tanh(), nn.Linear(12, 2))


def losses(model, optimizer, steps=6, batches=1):
    found = []
    for _ in range(steps):
        optimizer.zero_grad()
        for x, y in zip(X.chunk(batches), Y.chunk(batches), strict=True):
            loss = (model(x) - y).square().mean() / batches
            loss.backward()
            found.append(float(loss.detach()))
        optimizer.step()
    return found


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("batches", [1, 4])
def test_on_an_ideal_chip_training_is_digital_training(batches, fused):
    digital = tiny()
    mapped = cs.map_model(tiny(), IDEAL)
    optimizers = [torch.optim.AdamW(model.parameters(), lr=0.05, fused=fused) for model in (digital, mapped)]
    cs.write_after_step(optimizers[1], mapped)
    expected, found = (losses(*each, batches=batches) for each in zip((digital, mapped), optimizers, strict=True))
    assert found == pytest.approx(expected, abs=1e-5)
    assert sum(found[-batches:]) < 0.8 * sum(found[:batches])
    assert mapped.chip.is_fresh


def test_without_it_the_next_read_is_refused():
    mapped = cs.map_model(tiny(), IDEAL)
    optimizer = torch.optim.AdamW(mapped.parameters(), fused=True)
    handle = cs.write_after_step(optimizer, mapped)
    losses(mapped, optimizer)
    handle.remove()
    with pytest.raises(cs.StateError, match=REFUSED):
        losses(mapped, optimizer)


def test_each_step_is_the_next_writing_at_the_time_that_was_named():
    mapped = cs.map_model(tiny(), PCM, seed=4)
    optimizer = torch.optim.SGD(mapped.parameters(), lr=0.01)
    cs.write_after_step(optimizer, mapped.chip, at="1d")
    losses(mapped, optimizer, steps=3)
    chip = mapped.chip
    assert (chip.write, chip.time_s) == (3, 86400.0)
    digital = tiny()
    digital.load_state_dict(mapped.state_dict())
    other = cs.map_model(digital, PCM, seed=4)
    other.chip.reprogram(write=3)
    other.chip.set_time("1d")
    mapped.chip.reset_reads()
    with torch.no_grad():
        assert torch.equal(mapped(X), other(X))


def test_reads_after_each_writing_meet_other_noise():
    mapped = cs.map_model(tiny(), PCM)
    optimizer = torch.optim.SGD(mapped.parameters(), lr=0.01)
    cs.write_after_step(optimizer, mapped)
    losses(mapped, optimizer, steps=3, batches=2)
    assert {programmed.matrix.reads for programmed in mapped.chip.matrices.values()} == {6}


def test_a_step_that_changes_nothing_writes_nothing(monkeypatch):
    mapped = cs.map_model(tiny(), PCM)
    optimizer = torch.optim.SGD(mapped.parameters(), lr=0.0)
    cs.write_after_step(optimizer, mapped)
    monkeypatch.setattr(cs.Chip, "reprogram", None)
    losses(mapped, optimizer, steps=2)


def test_a_step_that_a_scaler_skips_writes_nothing():
    mapped = cs.map_model(tiny(), IDEAL)
    optimizer = torch.optim.SGD(mapped.parameters(), lr=0.1)
    cs.write_after_step(optimizer, mapped)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    for factor, write in ((1.0, 1), (torch.inf, 1), (1.0, 2)):
        optimizer.zero_grad()
        scaler.scale((mapped(X) - Y).square().mean() * factor).backward()
        scaler.step(optimizer)
        scaler.update()
        assert mapped.chip.write == write


@pytest.mark.parametrize(
    ("model", "at", "text"),
    [
        (tiny(), 0.0, "model = Sequential: is not on a chip; give what map_model returned"),
        (cs.map_model(tiny(), IDEAL), "1 parsec", "at = '1 parsec'"),
        (cs.map_model(tiny(), IDEAL), -1.0, "at = -1.0"),
    ],
)
def test_mistakes_are_refused_before_training(model, at, text):
    with pytest.raises(cs.UsageError, match=text):
        cs.write_after_step(torch.optim.SGD(tiny().parameters(), lr=0.1), model, at=at)


class Texts(torch.utils.data.Dataset):
    """Rows of tokens that a model can learn by heart."""

    def __init__(self):
        self.rows = torch.randint(2, 40, (8, 12), generator=torch.Generator().manual_seed(3))

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        return {"input_ids": self.rows[index], "labels": self.rows[index]}


@pytest.fixture
def train(llama_folder, tmp_path):
    """Trains a tiny Llama and gives its losses, mapped or digital, with callbacks and options of the Trainer."""
    transformers = pytest.importorskip("transformers")

    def run(chip=None, callbacks=(), seed=0, resume=None, **options):
        model, _ = cs.load_model(str(llama_folder))
        model.train()
        if chip is not None:
            model = cs.map_model(model, chip, seed=seed)
        arguments = transformers.TrainingArguments(
            output_dir=str(tmp_path / "out"),
            **{
                "per_device_train_batch_size": 4,
                "max_steps": 6,
                "learning_rate": 0.02,
                "logging_steps": 1,
                "report_to": "none",
                "use_cpu": True,
                "disable_tqdm": True,
                "save_strategy": "no",
                **options,
            },
        )
        trainer = transformers.Trainer(
            model, arguments, train_dataset=Texts(), eval_dataset=Texts(), callbacks=list(callbacks)
        )
        trainer.train(resume_from_checkpoint=resume)
        return trainer, [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]

    return run


@pytest.mark.parametrize("batches", [1, 2])
def test_a_trainer_on_an_ideal_chip_is_digital_training(train, batches):
    _, expected = train(gradient_accumulation_steps=batches)
    trainer, found = train(IDEAL, [cs.WriteDevices()], gradient_accumulation_steps=batches)
    assert found == pytest.approx(expected, abs=1e-4)
    assert found[-1] < 0.8 * found[0]
    assert trainer.model.chip.is_fresh
    assert trainer.model.chip.write == 6


def test_a_trainer_without_it_is_refused_at_the_second_step(train):
    with pytest.raises(cs.StateError, match=REFUSED):
        train(IDEAL)


def test_a_trainer_of_a_model_that_is_not_on_a_chip_is_refused(train):
    with pytest.raises(cs.UsageError, match="LlamaForCausalLM: is not on a chip"):
        train(None, [cs.WriteDevices()])


def test_at_the_end_the_devices_hold_the_weights_that_were_best(train):
    """The learning rate is so high that the best weights are not the last ones."""
    trainer, _ = train(
        PCM,
        [cs.WriteDevices(at="1h")],
        seed=7,
        learning_rate=0.3,
        eval_strategy="steps",
        eval_steps=1,
        save_strategy="steps",
        save_steps=1,
        load_best_model_at_end=True,
    )
    model, best = trainer.model, trainer.state.best_global_step
    assert 0 < best < 6
    assert model.chip.is_fresh
    assert (model.chip.write, model.chip.time_s) == (6, 3600.0)
    with torch.no_grad():
        model(torch.arange(2, 12)[None])


def test_a_training_that_is_resumed_meets_the_devices_of_one_that_was_not_interrupted(train):
    chip = PCM.evolve(read_noise=None)
    options = {"callbacks": [cs.WriteDevices(at="1d")], "save_strategy": "steps", "save_steps": 3}
    whole, expected = train(chip, **options)
    checkpoint = f"{whole.args.output_dir}/checkpoint-3"
    resumed, found = train(chip, resume=checkpoint, **options)
    assert found[-3:] == pytest.approx(expected[-3:], abs=1e-6)
    assert resumed.model.chip.write == whole.model.chip.write == 6


def test_a_trainer_of_a_model_whose_best_weights_are_the_last(train):
    trainer, _ = train(
        IDEAL,
        [cs.WriteDevices()],
        eval_strategy="steps",
        eval_steps=3,
        save_strategy="steps",
        save_steps=3,
        load_best_model_at_end=True,
    )
    assert trainer.state.best_global_step == 6
    assert trainer.evaluate()["eval_loss"] == pytest.approx(trainer.state.best_metric, abs=1e-6)


def test_an_optimiser_of_other_weights_is_refused():
    mapped = cs.map_model(torch.nn.Linear(4, 4), cs.ChipSpec.preset("ideal"))
    other = torch.optim.SGD(torch.nn.Linear(4, 4).parameters(), lr=0.1)
    with pytest.raises(cs.UsageError, match=r"^optimizer: has no weight of the chip among its parameters"):
        cs.write_after_step(other, mapped)
    with pytest.raises(cs.UsageError, match=r"^optimizer = int: must be a torch.optim.Optimizer"):
        cs.write_after_step(3, mapped)
