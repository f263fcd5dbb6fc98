"""Training on a chip: the devices are written again after each step of an optimiser."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from crossbar_sim.bridge.captures import outside_of_graphs
from crossbar_sim.chip import Chip
from device_models.errors import UsageError
from device_models.units import seconds


def write_after_step(optimizer: Optimizer, model: nn.Module | Chip, at: float | str = 0.0) -> RemovableHandle:
    """Write the weights of a mapped model to its devices after each step of `optimizer`, from the next one on.

        handle = write_after_step(optimizer, mapped, at="1h")
        ...                                # any loop: forward, backward, optimizer.step()
        handle.remove()

    Each step is the next writing of the same devices, `chip.reprogram(write=chip.write + 1)`, with programming errors
    of its own. A step that changed no weight writes nothing; neither does one that a gradient scaler skips.

    Arguments
        optimizer  a torch.optim.Optimizer that has weights of the model, or one that accelerate prepared
        model      a mapped model, or its chip
        at         the time after programming at which the devices are read until the next step: seconds or "1h"
    """
    chip = chip_of(model)
    seconds(at, "at")
    optimizer = getattr(optimizer, "optimizer", optimizer)  # accelerate wraps the one that makes the steps
    if not isinstance(optimizer, Optimizer):
        raise UsageError(f"optimizer = {type(optimizer).__name__}: must be a torch.optim.Optimizer")
    weights = {id(programmed.source.whole()) for programmed in chip.matrices.values()}
    if not any(id(parameter) in weights for group in optimizer.param_groups for parameter in group["params"]):
        raise UsageError("optimizer: has no weight of the chip among its parameters, so nothing would be written")

    def write(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        write_devices(chip, chip.write + 1, at)

    return optimizer.register_step_post_hook(write)


@outside_of_graphs
def write_devices(chip: Chip, write: int, at: float | str) -> None:
    """Write changed weights to the devices, as their writing of that number, and go to the time `at`.

    Reads are counted on, so that those after each writing meet other noise.
    """
    if chip.is_fresh:
        return
    reads = [programmed.matrix.reads for programmed in chip.matrices.values()]
    chip.reprogram(write=write)
    if seconds(at, "at") > 0:
        chip.set_time(at)
    for programmed, number in zip(chip.matrices.values(), reads, strict=True):
        programmed.matrix.reads = number


def chip_of(model: Any) -> Chip:
    """The chip of a mapped model, or the chip itself."""
    chip = model if isinstance(model, Chip) else getattr(model, "chip", None)
    if not isinstance(chip, Chip):
        raise UsageError(f"model = {type(model).__name__}: is not on a chip; give what map_model returned")
    return chip
