"""Training on a chip with the Trainer of transformers."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from crossbar_sim.bridge.writing import chip_of, write_devices
from device_models.units import seconds


class WriteDevices(TrainerCallback):
    """Writes the weights of a mapped model to its devices after each step of the optimiser, and at the end of training.

        Trainer(mapped, args, train_dataset=data, callbacks=[WriteDevices(at="1h")]).train()

    The writing after step n is `chip.reprogram(write=n)`, so that a training that is resumed meets the programming
    errors of one that was not interrupted. Batches whose gradients are only accumulated write nothing, nor does a step
    that changed no weight. At the end the devices hold the final weights, also where `load_best_model_at_end` chose
    them.

    Arguments
        at  the time after programming at which the devices are read until the next step: seconds or "1h"
    """

    def __init__(self, at: float | str = 0.0):
        seconds(at, "at")
        self.at = at

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **others: Any
    ) -> None:
        """Write the weights of the checkpoint that training is resumed from."""
        write_devices(chip_of(model), state.global_step, self.at)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **others: Any
    ) -> None:
        """Write the devices as writing number `state.global_step`."""
        write_devices(chip_of(model), state.global_step, self.at)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **others: Any
    ) -> None:
        """Write the weights that training ends with."""
        write_devices(chip_of(model), state.global_step, self.at)
