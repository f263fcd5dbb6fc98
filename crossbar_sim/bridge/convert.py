"""map_model: from a PyTorch model to the same model on a chip."""

from __future__ import annotations

import copy
import sys
import warnings
from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple, TypeVar

import torch
from torch import nn

from crossbar_sim.array.programmed import ProgrammedMatrix
from crossbar_sim.array.state_memory import StateMemory
from crossbar_sim.bridge.layers import AnalogLinear, checked_backend
from crossbar_sim.bridge.offload import (
    Loading,
    drop_foreign_methods,
    is_offloaded,
    is_placed,
    pass_hooks,
    shared_maps,
    weight_of,
)
from crossbar_sim.bridge.ranging import calibrate_ranges
from crossbar_sim.bridge.rules import Rules, assign_chips
from crossbar_sim.chip import Chip
from crossbar_sim.expected import VECTORS, Layer, PlannedModel, expect
from crossbar_sim.mapping import ModelPlan, TilePlan, layout_of
from crossbar_sim.progress import track
from crossbar_sim.spec import ChipSpec, FoundRange
from device_models.errors import InertOptionWarning, UsageError, nearest

STATES = ("kept", "regenerated")
M = TypeVar("M", bound=nn.Module)


class _Layer(NamedTuple):
    module: nn.Module
    transposed: bool

    @property
    def weight(self) -> nn.Parameter:
        return self.module.weight  # type: ignore[return-value]

    @property
    def shape(self) -> tuple[int, int]:
        """(n_in, n_out)."""
        rows, cols = self.weight.shape
        return (rows, cols) if self.transposed else (cols, rows)


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
    """The model with every linear layer programmed on a simulated chip, just after programming.

    The result keeps its class, signature and state_dict; `result.chip` is the Chip. Linear layers are nn.Linear and
    the Conv1D of GPT-2; everything else stays digital and is shared with `model`, which is left as it was.

    Arguments
        model             any nn.Module with linear layers
        chip              the ChipSpec of every layer that no rule names
        seed              chooses the chip among all chips of this kind: its devices' errors
        rules             layer name, pattern or None -> another ChipSpec or "digital" (bridge.rules.assign_chips)
        calibration_data  batches for the model; needed where dac.range is found on data, refused elsewhere
        backend           "numba" (CPU, no gradients), "torch" (any device, differentiable), or "auto": per call numba
                          where it can, torch where it must
        inplace           change `model` itself instead of a copy
        state             "kept": effective weights and variances of every layer stay in memory. "regenerated": those of
                          a layer are computed anew whenever it is read and then released, bit for bit the same, for
                          models that are too large otherwise; a batch of vectors needs them once
    Parameters are shared with `model`, so `.to(dtype)` of one changes the values of both; a change of weights through
    `.data` cannot be noticed, any other is refused until `chip.reprogram()`. Weights of any float type are programmed;
    AnalogLinear says what is computed in which. Weights that accelerate offloads to memory or disk are loaded layer by
    layer where they are needed, and changes of those are not noticed.
    Raises UsageError for a model without linear layers, for bad weights, and for rules or options that cannot act.
    """
    if not isinstance(model, nn.Module):
        raise UsageError(f"model = {type(model).__name__}: must be a torch.nn.Module")
    if not isinstance(chip, ChipSpec):
        hint = f"; did you mean ChipSpec.preset({chip!r})?" if isinstance(chip, str) else ""
        raise UsageError(f"chip = {chip!r}: must be a ChipSpec{hint}")
    checked_backend(backend)
    checked_state(state)
    layers = find_layers(model)
    if hasattr(model, "chip"):
        raise UsageError("chip: the model has an attribute of this name, which the Chip of a mapped model needs")
    plan = plan_layers(layers, assign_chips(layers, chip, rules))
    for name in plan.layers:
        with weight_of(layers[name].module) as weight:
            _check_finite(name, weight.detach())
    ranges = _find_ranges(model, layers, plan, calibration_data)
    return map_layers(model, layers, chip, seed, plan, ranges, backend, inplace, state)


def map_layers(
    model: M,
    layers: dict[str, _Layer],
    chip: ChipSpec,
    seed: int,
    plan: ModelPlan,
    ranges: dict[str, torch.Tensor],
    backend: str,
    inplace: bool,
    state: str,
) -> M:
    """map_model once everything is checked and the calibrated input ranges (per layer: one per row tile) are known."""
    memory = StateMemory() if state == "regenerated" else None
    matrices: dict[str, ProgrammedMatrix] = {}
    for name, spec, _ in track(list(plan), "programming"):
        module, transposed = layers[name]
        loading = Loading(module) if is_offloaded(module) else None
        programmed = ProgrammedMatrix(
            layers[name].weight, spec, seed, name, transposed=transposed, loading=loading, memory=memory
        )
        programmed.matrix.input_range = ranges.get(name, programmed.matrix.input_range)
        matrices[name] = programmed

    replacements: dict[int, nn.Module] = {}
    for name, programmed in matrices.items():
        module = layers[name].module
        analog = AnalogLinear(layers[name].weight, getattr(module, "bias", None), programmed, backend)
        pass_hooks(module, analog)
        if programmed.loading is not None:
            programmed.loading = Loading(analog)
        replacements[id(module)] = analog.train(module.training)
    mapped = _replace(model, replacements) if inplace else _copy_with(model, replacements)
    for part in mapped.modules():
        if isinstance(part, nn.TransformerEncoder):
            part.use_nested_tensor = False  # padded inputs would come as nested tensors, made for the fused path
        if isinstance(part, nn.TransformerEncoderLayer):
            part.activation_relu_or_gelu = 0  # its fused path would take the weights and pass the layers by
    mapped.chip = Chip(chip, seed, matrices, plan)  # type: ignore[assignment]
    return mapped


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
    layers = find_layers(model)
    plan = plan_layers(layers, assign_chips(layers, chip, rules))
    own = [Layer(spec, tiles, _target(layers[name])) for name, spec, tiles in plan]
    return PlannedModel(plan.layers, plan.digital, expected=expect(own, vectors, state == "regenerated"))


def _target(layer: _Layer) -> torch.Tensor:
    """Its weights as (n_out, n_in)."""
    return layer.weight.t() if layer.transposed else layer.weight


def plan_layers(layers: dict[str, _Layer], chips: dict[str, ChipSpec | None]) -> ModelPlan:
    mapped = {name: spec for name, spec in chips.items() if spec is not None}
    if not mapped:
        raise UsageError("rules: every linear layer is digital, so nothing would run on the chip")
    for name in mapped:
        _check_weight(name, layers[name].module)
    return ModelPlan(
        {name: (spec, _plan(layers[name].shape, spec)) for name, spec in mapped.items()},
        digital=tuple(name for name, spec in chips.items() if spec is None),
    )


def _plan(shape: tuple[int, int], spec: ChipSpec) -> TilePlan:
    return TilePlan.of(*shape, spec.tile, layout_of(spec.encoding).n_devices)


def find_layers(model: nn.Module) -> dict[str, _Layer]:
    """Every linear layer of a model by name; a layer that appears twice is one layer."""
    conv1d = getattr(sys.modules.get("transformers.pytorch_utils"), "Conv1D", ())
    unreachable = {
        id(part): name
        for name, module in model.named_modules()
        if isinstance(module, nn.MultiheadAttention)
        for part in module.modules()
    }
    layers: dict[str, _Layer] = {}
    for name, module in model.named_modules():
        if isinstance(module, AnalogLinear):
            raise UsageError(f"{name}: is on a chip already; map the digital model instead")
        transposed = bool(conv1d) and isinstance(module, conv1d)
        if not transposed and not (isinstance(module, nn.Linear) and type(module).forward is nn.Linear.forward):
            if isinstance(module, nn.Linear) and id(module) not in unreachable:
                raise UsageError(
                    f"{name}: {type(module).__name__} changes what nn.Linear computes and cannot be mapped; "
                    f"keep it digital by replacing it with nn.Linear or by mapping a part of the model"
                )
            continue
        if id(module) in unreachable:
            text = f"{name}: nn.MultiheadAttention uses this weight without calling the layer, so it stays digital"
            warnings.warn(text, InertOptionWarning, stacklevel=3)
            continue
        layers[name or "(root)"] = _Layer(module, transposed)
    if not layers:
        raise UsageError(f"{type(model).__name__}: has no linear layer (nn.Linear or Conv1D), so nothing can be mapped")
    return layers


def _check_weight(name: str, module: nn.Module) -> None:
    weight = module.weight
    if not isinstance(weight, nn.Parameter) or isinstance(weight, nn.UninitializedParameter):
        raise UsageError(f"{name}.weight: must be a parameter with values; it is computed or not yet initialised")
    patched = "forward" in vars(module) and not is_placed(module)
    if patched or module._forward_hooks or module._forward_pre_hooks or nn.utils.parametrize.is_parametrized(module):
        raise UsageError(f"{name}: has hooks, a parametrisation or a forward of its own, which would be lost")
    if weight.device.type == "meta" and not is_offloaded(module):
        raise UsageError(
            f"{name}.weight: has no values (meta device); load the weights first, or dispatch the model without "
            "preload_module_classes, so that accelerate loads each layer by itself"
        )
    if not weight.dtype.is_floating_point:
        raise UsageError(f"{name}.weight: must be a floating-point matrix, is {weight.dtype}")
    if 0 in weight.shape:
        raise UsageError(f"{name}.weight: shape {tuple(weight.shape)} has no elements")


def _check_finite(name: str, weight: torch.Tensor) -> None:
    low, high = torch.aminmax(weight)  # NaN wins in both
    if not (torch.isfinite(low) and torch.isfinite(high)):
        row, col = (int(index) for index in torch.argwhere(~torch.isfinite(weight))[0])
        raise UsageError(f"{name}[{row}, {col}] = {float(weight[row, col])}: weights must be finite")


def _find_ranges(
    model: nn.Module, layers: dict[str, _Layer], plan: ModelPlan, data: Iterable[Any] | None
) -> dict[str, torch.Tensor]:
    wanted = {
        name: (layers[name].module, tiles, spec.dac)
        for name, spec, tiles in plan
        if spec.dac is not None and isinstance(spec.dac.range, FoundRange)
    }
    if wanted and data is None:
        kinds = " and ".join(sorted({dac.range.kind for _, _, dac in wanted.values()}))
        raise UsageError(f"calibration_data: needed, because dac.range is {kinds}; give batches for the model")
    if data is not None and not wanted:
        raise UsageError("calibration_data: given, but no dac.range of a layer is found on it, so it would not be used")
    return calibrate_ranges(model, wanted, data) if data is not None else {}


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
