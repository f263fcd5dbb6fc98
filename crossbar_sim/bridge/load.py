"""load_chip: a saved chip and the digital model it was made from, back together."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeVar

from torch import nn

from crossbar_sim.array.compensation import Correction
from crossbar_sim.bridge.convert import checked_state, map_survey, plan_survey
from crossbar_sim.bridge.offload import values_of
from crossbar_sim.bridge.survey import survey_model
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
    survey = survey_model(model)
    layers = survey.matrices
    expected = {**data["layers"], **dict.fromkeys(data["digital"])}
    # matrices that are digital of themselves, or of kinds that an earlier version did not map, are not in the file
    optional = {name for name, found in layers.items() if found.matrix.digital or not found.kind.replaces}
    odd = sorted((set(expected) - set(layers)) | (set(layers) - set(expected) - optional))
    if odd:
        where = "the saved chip" if odd[0] in expected else "the model"
        raise StoreError(f"{folder}: belongs to another model: layer {odd[0]!r} is only in {where}")
    for name, entry in data["layers"].items():
        found = layers[name]
        with values_of(found.layer.get_submodule(found.matrix.owner), found.matrix.attribute) as parameter:
            fingerprint = weights_fingerprint(found.matrix.view.part(parameter))
        if fingerprint != entry["weights"]:
            raise StoreError(f"{folder}: the weights of {name!r} are not those that were programmed")
    default = ChipSpec(**data["default_spec"])
    rules: dict[str | None, ChipSpec | str] = {
        name: specs[entry["spec"]] for name, entry in data["layers"].items() if specs[entry["spec"]] != default
    }
    rules.update({name: specs[data["layers"][name]["spec"]] for name in optional & set(data["layers"])})
    rules.update(dict.fromkeys([*data["digital"], *(optional - set(data["layers"]))], "digital"))
    ranges = {name: numbers[key] for name in data["layers"] if (key := f"{name}|input_range") in numbers}
    plan = plan_survey(survey, default, rules, type(model).__name__)
    mapped = map_survey(model, survey, default, data["seed"], plan, ranges, backend, inplace, state)
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
