"""map_model: from a PyTorch model to the same model on a chip."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, Literal, TypeVar

import torch
from torch import nn

from crossbar_sim.array.programmed import ProgrammedMatrix
from crossbar_sim.array.source import Source
from crossbar_sim.array.state_memory import StateMemory
from crossbar_sim.bridge.direct import Digital, Direct, Held, Slot
from crossbar_sim.bridge.guard import ForwardGuard, Place
from crossbar_sim.bridge.kinds.linear import TransposedKind, conv1d_layer
from crossbar_sim.bridge.layers import AbstractAnalogLayer, AnalogLinear, ChipSlot, check_movable, checked_backend
from crossbar_sim.bridge.offload import (
    Loading,
    drop_foreign_methods,
    is_offloaded,
    is_placed,
    pass_hooks,
    shared_maps,
    values_of,
)
from crossbar_sim.bridge.ranging import calibrate_ranges
from crossbar_sim.bridge.replaced import check_copyable, check_replaceable
from crossbar_sim.bridge.rules import Rules, assign_chips
from crossbar_sim.bridge.survey import ROOT, Found, Survey, survey_model
from crossbar_sim.chip import Chip
from crossbar_sim.expected import VECTORS, Layer, PlannedModel, expect
from crossbar_sim.mapping import BY_RULE, Coverage, DigitalMatrix, ModelPlan, TilePlan, layout_of, pattern_of
from crossbar_sim.progress import track
from crossbar_sim.spec import ChipSpec, FoundRange
from device_models.errors import UnmappedWarning, UsageError, nearest

STATES = ("kept", "regenerated")
_UNKNOWN = "no kind of layer knows it"
_WARN_ABOVE = 0.01
_OF_HOOKS = ("forward", "_old_forward", "_hf_hook")
"""Attributes that belong to a layer alone and not to the one that takes its place."""
M = TypeVar("M", bound=nn.Module)


def map_model(
    model: M,
    chip: ChipSpec,
    seed: int = 0,
    rules: Rules | None = None,
    calibration_data: Iterable[Any] | None = None,
    backend: str = "auto",
    inplace: bool = False,
    state: Literal["kept", "regenerated"] = "kept",
) -> M:
    """The model with every matrix of its layers programmed on a simulated chip, just after programming.

    The result keeps its class, signature and state_dict; `result.chip` is the Chip. Which layers have matrices:
    docs/mapping_models.md (linear layers, stacked experts, convolutions, recurrent layers, attention). Everything else
    stays digital, is shared with `model`, which is left as it was, and is named in the account of `chip.summary()`.

    Arguments
        model             any nn.Module with such layers
        chip              the ChipSpec of every layer that no rule names
        seed              chooses the chip among all chips of this kind: its devices' errors
        rules             name of a matrix, pattern or None -> another ChipSpec or "digital"
                          (bridge.rules.assign_chips)
        calibration_data  batches for the model; needed where dac.range is found on data, refused elsewhere
        backend           "numba" (CPU, no gradients), "torch" (any device, differentiable), or "auto": per call numba
                          where it can, torch where it must
        inplace           change `model` itself instead of a copy
        state             "kept": effective weights and variances of every layer stay in memory. "regenerated": those of
                          a layer are computed anew whenever it is read and then released, bit for bit the same, for
                          models that are too large otherwise; a batch of vectors needs them once
    Parameters are shared with `model`, so `.to(dtype)` of one changes the values of both. A read after a change of
    weights is refused until `chip.reprogram()` writes them (docs/training_on_chip.md says what is noticed when).
    Weights of float64, float32, bfloat16 and float16 are programmed; bridge.layers.ChipSlot says what is computed in
    which. Weights that accelerate offloads to memory or disk are loaded layer by layer where they are needed.
    Raises UsageError for a model without such layers, for bad weights, for layers that compute something else than
    their class says, and for rules or options that cannot act. Warns of matrices that no kind of layer knows.
    """
    if not isinstance(chip, ChipSpec):
        hint = f"; did you mean ChipSpec.preset({chip!r})?" if isinstance(chip, str) else ""
        raise UsageError(f"chip = {chip!r}: must be a ChipSpec{hint}")
    checked_backend(backend)
    checked_state(state)
    survey = survey_model(model)
    if hasattr(model, "chip"):
        raise UsageError("chip: the model has an attribute of this name, which the Chip of a mapped model needs")
    plan = plan_survey(survey, chip, rules, type(model).__name__)
    for name in plan.layers:
        _check_layer(name, survey.matrices[name])
        _check_finite(name, survey.matrices[name])
    if not inplace:
        check_copyable(model, [survey.matrices[name].layer for name in plan.layers])
    ranges = _find_ranges(model, survey, plan, calibration_data)
    mapped = map_survey(model, survey, chip, seed, plan, ranges, backend, inplace, state)
    _warn_of_unknown(survey, plan)
    return mapped


def map_survey(
    model: M,
    survey: Survey,
    chip: ChipSpec,
    seed: int,
    plan: ModelPlan,
    ranges: dict[str, torch.Tensor],
    backend: str,
    inplace: bool,
    state: str,
) -> M:
    """map_model once everything is checked and the calibrated input ranges (per matrix: one per row tile) are known."""
    memory = StateMemory() if state == "regenerated" else None
    matrices: dict[str, ProgrammedMatrix] = {}
    for name, spec, _ in track(list(plan), "programming"):
        found = survey.matrices[name]
        owner = found.layer.get_submodule(found.matrix.owner)
        loading = Loading(owner, found.matrix.attribute) if is_offloaded(owner) else None
        source = Source(owner._parameters, found.matrix.attribute, found.matrix.view)
        programmed = ProgrammedMatrix(source, spec, seed, found.identity, loading=loading, memory=memory)
        programmed.matrix.input_range = ranges.get(name, programmed.matrix.input_range)
        matrices[name] = programmed

    replacements: dict[int, nn.Module] = {}
    replaced: dict[int, str] = {}
    for name, programmed in matrices.items():
        found = survey.matrices[name]
        if found.kind.replaces:
            replacements[id(found.layer)] = _analog(found, programmed, backend)
            replaced[id(found.layer)] = name
    if inplace:
        check_replaceable(model, replaced)
    mapped = _replace(model, replacements) if inplace else _copy_with(model, replacements)
    for part in mapped.modules():
        if isinstance(part, nn.TransformerEncoder):
            part.use_nested_tensor = False  # padded inputs would come as nested tensors, made for the fused path
        if isinstance(part, nn.TransformerEncoderLayer):
            part.activation_relu_or_gelu = 0  # its fused path would take the weights and pass the layers by
    slots = {name: ChipSlot(programmed, backend) for name, programmed in matrices.items()}
    for direct in direct_layers(mapped, survey, slots):
        own = [
            held
            for held in direct.matrices
            if held.name in matrices and (survey.matrices[held.name].path or ROOT) == direct.name
        ]
        for held in own:
            owner = direct.layer.get_submodule(survey.matrices[held.name].matrix.owner)
            _stand_in(owner, held, matrices[held.name])
        direct.install(partial(_follow, [matrices[held.name] for held in own]) if own else None)
    _guard(mapped, survey, matrices)
    mapped.chip = Chip(chip, seed, matrices, plan)  # type: ignore[assignment]
    return mapped


def direct_layers(model: nn.Module, survey: Survey, slots: Mapping[str, Slot]) -> list[Direct]:
    """What makes the layers of `model` that keep their own forward read `slots`, of which each has a matrix by name."""
    found = []
    for path, names in _kept_layers(survey).items():
        if any(name in slots for name in names):
            layer = model.get_submodule(path)
            own = [_held(name, layer, survey.matrices[name], slots) for name in names]
            found.append(Direct(path or ROOT, layer, own))
    for path, names in survey.direct.items():
        used = {name: survey.matrices[name] for name in names}
        paths = {each.path for name, each in used.items() if name in slots}
        if paths:
            own = [
                _held(name, model.get_submodule(each.path), each, slots)
                for name, each in used.items()
                if each.path in paths
            ]
            found.append(Direct(path or ROOT, model.get_submodule(path), own))
    return found


def _stand_in(owner: nn.Module, held: Held, programmed: ProgrammedMatrix) -> None:
    """Let the devices of a matrix follow the parameter of the mapped model, not of the model it was made from."""
    programmed.source = Source(held.parameters, held.attribute, held.view)
    if programmed.loading is not None:
        programmed.loading = Loading(owner, held.attribute)


def _kept_layers(survey: Survey) -> dict[str, list[str]]:
    """The matrices of each layer that keeps its own forward."""
    layers: dict[str, list[str]] = {}
    for name, found in survey.matrices.items():
        if not found.kind.replaces:
            layers.setdefault(found.path, []).append(name)
    return layers


def _held(name: str, layer: nn.Module, found: Found, slots: Mapping[str, Slot]) -> Held:
    matrix = found.matrix
    parameters = layer.get_submodule(matrix.owner)._parameters
    return Held(name, parameters, matrix.attribute, matrix.view, slots.get(name, Digital()))


def _follow(matrices: list[ProgrammedMatrix], layer: nn.Module, fn: Any, recurse: bool) -> nn.Module:
    """`.to()` and its kin on a layer that keeps its own forward: the states follow the weights."""
    for programmed in matrices:
        check_movable(programmed)
    fresh = [programmed.may_follow for programmed in matrices]
    type(layer)._apply(layer, fn, recurse)
    for programmed, was_fresh in zip(matrices, fresh, strict=True):
        programmed.follow(was_fresh)
    return layer


def _analog(found: Found, programmed: ProgrammedMatrix, backend: str) -> AbstractAnalogLayer:
    """The layer on the chip that takes the place of another, with the hooks of accelerate that it had."""
    module = found.layer
    kind = conv1d_layer() if isinstance(found.kind, TransposedKind) else AnalogLinear
    analog = kind(found.parameter, getattr(module, "bias", None), programmed, backend)
    others = {name: value for name, value in vars(module).items() if name not in _OF_HOOKS}
    vars(analog).update({name: value for name, value in others.items() if name not in vars(analog)})
    pass_hooks(module, analog)
    if programmed.loading is not None:
        programmed.loading = Loading(analog)
    return analog.train(module.training)


def _guard(mapped: nn.Module, survey: Survey, matrices: Mapping[str, ProgrammedMatrix]) -> None:
    places: dict[str, Place] = {}
    layers: dict[str, list[ProgrammedMatrix]] = {}
    for name, programmed in matrices.items():
        path = survey.matrices[name].path
        layers.setdefault(path or ROOT, []).append(programmed)
        parent, _, own = path.rpartition(".")
        if path and path not in places:
            places[path] = Place(path, mapped.get_submodule(parent)._modules, own, mapped.get_submodule(path))
    ForwardGuard(list(places.values()), layers).install(mapped)


def checked_state(state: str) -> None:
    """UsageError for anything but "kept" and "regenerated"."""
    if state not in STATES:
        raise UsageError(f"state = {state!r}: must be one of {', '.join(STATES)}{nearest(str(state), STATES)}")


def plan_model(
    model: nn.Module,
    chip: ChipSpec,
    rules: Rules | None = None,
    state: Literal["kept", "regenerated"] = "kept",
    vectors: int = VECTORS,
) -> PlannedModel:
    """Which tiles `map_model` would use, and as `expected` what it would cost, without programming anything.

    The costs are those of mapping, of `set_time` and of a forward in which every layer reads `vectors` vectors at once
    (crossbar_sim.expected).
    """
    checked_state(state)
    survey = survey_model(model)
    plan = plan_survey(survey, chip, rules, type(model).__name__)
    own = [
        Layer(spec, tiles, survey.matrices[name].values, plan.per_token.get(name, 1.0)) for name, spec, tiles in plan
    ]
    expected = expect(own, vectors, state == "regenerated")
    return PlannedModel(plan.layers, plan.digital, plan.coverage, plan.per_token, expected=expected)


def plan_survey(survey: Survey, chip: ChipSpec, rules: Rules | None, what: str) -> ModelPlan:
    """Which matrix of a model goes on which tiles; `what` names the model in errors."""
    matrices = survey.matrices
    if not matrices:
        raise UsageError(
            f"{what}: has no layer that can be mapped, such as nn.Linear (docs/mapping_models.md names them)"
        )
    aside = {name: found.matrix.digital for name, found in matrices.items() if found.matrix.digital is not None}
    aside.update(dict.fromkeys(survey.unknown, _UNKNOWN))
    names = [*matrices, *survey.unknown]
    chips = assign_chips(names, chip, rules, aside)
    by_rule = {name for name, spec in assign_chips(names, chip, rules).items() if spec is None}
    aside = {name: BY_RULE if name in by_rule else reason for name, reason in aside.items()}
    for name in survey.unknown:
        if chips[name] is not None:
            raise UsageError(f"rules: put {name} on a chip, but no kind of layer knows how it is read")
    mapped = {name: spec for name in matrices if (spec := chips[name]) is not None}
    for name in mapped:
        _check_weight(name, matrices[name])
    if not mapped:
        raise UsageError("rules: every layer is digital, so nothing would run on the chip")
    digital = [name for name in matrices if chips[name] is None]
    return ModelPlan(
        {name: (spec, _plan(matrices[name].shape, spec)) for name, spec in mapped.items()},
        digital=tuple(name for name in digital if name in by_rule),
        coverage=_coverage(survey, list(mapped), digital, aside),
        per_token={name: share for name in mapped if (share := matrices[name].matrix.per_token) != 1},
    )


def _coverage(survey: Survey, mapped: list[str], digital: list[str], aside: Mapping[str, str]) -> Coverage:
    found = survey.matrices
    sizes = {name: each.shape[0] * each.shape[1] for name, each in found.items()}
    rest = [
        DigitalMatrix(name, sizes[name], found[name].matrix.per_token, aside.get(name, BY_RULE)) for name in digital
    ]
    rest += [DigitalMatrix(name, size, 1.0, aside[name]) for name, size in survey.unknown.items()]
    return Coverage(
        n_on_chip=sum(sizes[name] for name in mapped),
        macs_on_chip=sum(sizes[name] * found[name].matrix.per_token for name in mapped),
        digital=tuple(rest),
        tables=survey.tables,
    )


def _warn_of_unknown(survey: Survey, plan: ModelPlan) -> None:
    """Parameters that may be matrices, belong to no kind of layer, and are kept digital by no rule.

    Small ones are in the account only: scales and biases with two dimensions are everywhere.
    """
    assert plan.coverage is not None
    unknown = [each.name for each in plan.coverage.digital if each.reason == _UNKNOWN]
    share = sum(survey.unknown[name] for name in unknown) / plan.coverage.n_weights
    if share >= _WARN_ABOVE:
        shown = ", ".join(dict.fromkeys(map(pattern_of, unknown)))
        text = (
            f"{shown}: {100 * share:.2g} % of the matrix weights stay digital, because no kind of layer knows them; "
            'a rule such as {"' + unknown[0] + '": "digital"} says that they may'
        )
        warnings.warn(text, UnmappedWarning, stacklevel=3)


def _plan(shape: tuple[int, int], spec: ChipSpec) -> TilePlan:
    return TilePlan.of(*shape, spec.tile, layout_of(spec.encoding).n_devices)


_DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def _check_weight(name: str, found: Found) -> None:
    """Whether a matrix can be planned: its class, its type and its shape, but not yet its values."""
    layer, matrix = found.layer, found.matrix
    where = f"{name}.weight" if matrix.attribute == "weight" else name
    keep = f'keep it digital with the rule {{{name!r}: "digital"}}'
    if matrix.refusal is not None:
        raise UsageError(f"{name}: {matrix.refusal} and cannot be mapped; {keep}")
    parameter = found.parameter
    if not isinstance(parameter, nn.Parameter) or isinstance(parameter, nn.UninitializedParameter):
        raise UsageError(f"{where}: must be a parameter with values; it is computed or not yet initialised")
    if parameter.dtype not in _DTYPES:
        accepted = ", ".join(str(dtype).removeprefix("torch.") for dtype in _DTYPES)
        raise UsageError(
            f"{where}: must be a floating-point matrix ({accepted}), is {parameter.dtype}; convert its values, "
            f"or {keep}"
        )
    if type(parameter) is not nn.Parameter or type(parameter.data) is not torch.Tensor:
        kind = type(parameter.data) if type(parameter) is nn.Parameter else type(parameter)
        raise UsageError(
            f"{where}: is a {kind.__module__}.{kind.__name__}, not a plain tensor; dequantise or gather the weights, "
            f"or {keep}"
        )
    if parameter.layout is not torch.strided:
        raise UsageError(f"{where}: must be a dense matrix, has layout {parameter.layout}; make it dense, or {keep}")
    if 0 in parameter.shape:
        raise UsageError(f"{where}: shape {tuple(parameter.shape)} has no elements")
    if found.kind.replaces and nn.utils.parametrize.is_parametrized(layer):
        raise UsageError(f"{name}: has a parametrisation, which would be lost; {keep}")


def _check_layer(name: str, found: Found) -> None:
    """Whether a layer does nothing besides, and its weights have values."""
    layer, owner = found.layer, found.layer.get_submodule(found.matrix.owner)
    if found.kind.replaces:
        patched = "forward" in vars(layer) and not is_placed(layer)
        if patched or layer._forward_hooks or layer._forward_pre_hooks:
            raise UsageError(
                f"{name}: has hooks, a parametrisation or a forward of its own, which would be lost; "
                f'keep it digital with the rule {{{name!r}: "digital"}}'
            )
    if found.parameter.device.type == "meta" and not is_offloaded(owner):
        raise UsageError(
            f"{name}.weight: has no values (meta device); load the weights first, or dispatch the model without "
            "preload_module_classes, so that accelerate loads each layer by itself"
        )


def _check_finite(name: str, found: Found) -> None:
    owner = found.layer.get_submodule(found.matrix.owner)
    with values_of(owner, found.matrix.attribute) as parameter:
        weight = found.matrix.view.part(parameter.detach())
        low, high = torch.aminmax(weight)  # NaN wins in both
        if not (torch.isfinite(low) and torch.isfinite(high)):
            place = tuple(int(index) for index in torch.argwhere(~torch.isfinite(weight))[0])
            raise UsageError(f"{name}[{', '.join(map(str, place))}] = {float(weight[place])}: weights must be finite")


def _find_ranges(
    model: nn.Module, survey: Survey, plan: ModelPlan, data: Iterable[Any] | None
) -> dict[str, torch.Tensor]:
    wanted = {
        name: (tiles, spec.dac)
        for name, spec, tiles in plan
        if spec.dac is not None and isinstance(spec.dac.range, FoundRange)
    }
    if wanted and data is None:
        kinds = " and ".join(sorted({dac.range.kind for _, dac in wanted.values()}))
        raise UsageError(f"calibration_data: needed, because dac.range is {kinds}; give batches for the model")
    if data is not None and not wanted:
        raise UsageError("calibration_data: given, but no dac.range of a layer is found on it, so it would not be used")
    if data is None:
        return {}
    hooked = {name: survey.matrices[name].layer for name in wanted if survey.matrices[name].kind.replaces}
    return calibrate_ranges(model, wanted, hooked, partial(direct_layers, model, survey), data)


def _copy_with(model: M, replacements: Mapping[int, nn.Module]) -> M:
    """A copy of the modules with some replaced, which shares every parameter and buffer with the original."""
    shared = [*model.parameters(), *model.buffers(), *shared_maps(model)]
    mapped = copy.deepcopy(model, {**{id(each): each for each in shared}, **replacements})
    drop_foreign_methods(mapped, model)
    return mapped


def _replace(model: M, replacements: Mapping[int, nn.Module]) -> M:
    """The model itself with some modules replaced wherever they are."""
    for module in list(model.modules()):
        for child_name, child in list(module._modules.items()):
            if id(child) in replacements:
                setattr(module, child_name, replacements[id(child)])
    return replacements.get(id(model), model)  # type: ignore[return-value]
