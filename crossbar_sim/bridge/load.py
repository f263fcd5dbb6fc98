"""load_chip: a saved chip and the digital model it was made from, back together."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeVar

from torch import nn

from crossbar_sim.array.compensation import Correction
from crossbar_sim.bridge.convert import checked_state, find_layers, map_layers, plan_layers
from crossbar_sim.bridge.offload import weight_of
from crossbar_sim.bridge.rules import assign_chips
from crossbar_sim.chip import Chip
from crossbar_sim.spec import ChipSpec, compensation_kinds
from crossbar_sim.store import read_chip, weights_fingerprint
from device_models.errors import StoreError

M = TypeVar("M", bound=nn.Module)


def load_chip(
    path: str | Path,
    model: M,
    backend: str = "auto",
    inplace: bool = False,
    state: Literal["kept", "regenerated"] = "kept",
) -> M:
    """The digital `model` on the chip saved at `path`, in the state it was saved in; options as in `map_model`.

    Raises StoreError for a missing or damaged file, or where a layer's weights are not those that were programmed.
    """
    checked_state(state)
    folder = Path(path)
    data, numbers = read_chip(folder)
    specs = {key: ChipSpec(**spec) for key, spec in data["specs"].items()}
    layers = find_layers(model)
    expected = {**data["layers"], **dict.fromkeys(data["digital"])}
    if set(expected) != set(layers):
        odd = sorted(set(expected) ^ set(layers))[0]
        where = "the saved chip" if odd in expected else "the model"
        raise StoreError(f"{folder}: belongs to another model: layer {odd!r} is only in {where}")
    for name, entry in data["layers"].items():
        with weight_of(layers[name].module) as weight:
            fingerprint = weights_fingerprint(weight)
        if fingerprint != entry["weights"]:
            raise StoreError(f"{folder}: the weights of {name!r} are not those that were programmed")
    default = ChipSpec(**data["default_spec"])
    rules: dict[str | None, ChipSpec | str] = {
        name: specs[entry["spec"]] for name, entry in data["layers"].items() if specs[entry["spec"]] != default
    }
    rules.update(dict.fromkeys(data["digital"], "digital"))
    ranges = {name: numbers[key] for name in data["layers"] if (key := f"{name}|input_range") in numbers}
    plan = plan_layers(layers, assign_chips(layers, default, rules))
    mapped = map_layers(model, layers, default, data["seed"], plan, ranges, backend, inplace, state)
    chip: Chip = mapped.chip  # type: ignore[assignment]
    if data["write"]:
        chip.reprogram(write=data["write"])
    for name, programmed in chip.matrices.items():
        entry = data["layers"][name]
        chosen = entry["compensation"]
        compensation = None if chosen is None else compensation_kinds()[chosen["kind"]](**chosen)
        correction = Correction(numbers[f"{name}|drift_factor"], numbers.get(f"{name}|drift_offset"))
        programmed.restore(data["time_s"], entry["reads"], compensation, entry["compensated_s"], correction)
    chip.time_s = data["time_s"]
    return mapped
