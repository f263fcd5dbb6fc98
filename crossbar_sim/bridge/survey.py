"""Every matrix of a model: what a kind of layer makes of it, and what no kind knows."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import nn

from crossbar_sim.bridge.direct import is_direct
from crossbar_sim.bridge.kinds import AbstractKind, Matrix, kind_of
from crossbar_sim.bridge.layers import AbstractAnalogLayer
from crossbar_sim.bridge.sources import attributes_of_attributes
from crossbar_sim.bridge.wrappers import unwrapped_names
from device_models.errors import UsageError

ROOT = "(root)"


class Found(NamedTuple):
    """A matrix of a model: its layer by path and as a module, the layer's kind, and where the matrix lies in it."""

    path: str
    layer: nn.Module
    kind: AbstractKind
    matrix: Matrix
    identity: str
    """The name that chooses its devices: that of the matrix without wrappers around the model."""

    @property
    def parameter(self) -> nn.Parameter:
        return self.matrix.parameter(self.layer)

    @property
    def values(self) -> torch.Tensor:
        """The matrix (n_out, n_in)."""
        return self.matrix.of(self.layer)

    @property
    def shape(self) -> tuple[int, int]:
        """Inputs and outputs (n_in, n_out)."""
        n_out, n_in = self.values.shape
        return n_in, n_out


class Survey(NamedTuple):
    """All matrices by name, what else has several dimensions, and which layers use the weights of others directly."""

    matrices: dict[str, Found]
    unknown: dict[str, int]
    """Weights of each parameter that may be a matrix, but belongs to no kind."""
    tables: dict[str, int]
    """Weights of each table of vectors that are looked up, such as an embedding."""
    direct: dict[str, list[str]]
    """For each layer that takes the weights of layers within it: their matrices."""


def survey_model(model: nn.Module) -> Survey:
    """Look through the modules of a model once; a module that appears twice counts once."""
    if not isinstance(model, nn.Module):
        raise UsageError(f"model = {type(model).__name__}: must be a torch.nn.Module")
    matrices: dict[str, Found] = {}
    unknown: dict[str, int] = {}
    tables: dict[str, int] = {}
    known: set[tuple[int, str]] = set()
    modules = dict(model.named_modules())
    for path, layer in modules.items():
        if isinstance(layer, AbstractAnalogLayer) or is_direct(layer):
            raise UsageError(f"{path or ROOT}: is on a chip already; map the digital model instead")
        if isinstance(layer, torch.jit.ScriptModule):
            raise UsageError(
                f"{path or ROOT}: is compiled by torch.jit, whose layers cannot be read; map the model itself"
            )
        own = {name: p for name, p in layer._parameters.items() if p is not None and (id(layer), name) not in known}
        elsewhere = isinstance(layer, nn.MultiheadAttention) or nn.utils.parametrize.is_parametrized(layer)
        kind = kind_of(layer) if own or elsewhere else None
        if kind is not None:
            held = kind.matrices(layer)
            for suffix, matrix in held.items():
                name = ".".join(part for part in (path, suffix) if part) or ROOT
                owner = layer.get_submodule(matrix.owner)
                if (id(layer), matrix.attribute) in known and matrix.owner == "":
                    continue
                matrices[name] = Found(path, layer, kind, matrix, name)
                own.pop(matrix.attribute, None) if owner is layer else None
            known |= {(id(layer.get_submodule(m.owner)), m.attribute) for m in held.values()}
            for name in kind.others(layer):
                own.pop(name, None)
        if isinstance(layer, nn.utils.parametrize.ParametrizationList):
            continue  # what a weight is computed from counts as that weight
        for name, parameter in own.items():
            where = f"{path}.{name}" if path else name
            if isinstance(layer, nn.Embedding | nn.EmbeddingBag):
                tables[where] = parameter.numel()
            elif _may_be_matrix(parameter):
                unknown[where] = parameter.numel()
    names = unwrapped_names(model, matrices)
    matrices = {name: found._replace(identity=names[name]) for name, found in matrices.items()}
    return Survey(matrices, unknown, tables, dict(_users_of_weights(modules, matrices)))


def _may_be_matrix(parameter: nn.Parameter) -> bool:
    if isinstance(parameter, nn.UninitializedParameter):
        return False
    return sum(size > 1 for size in parameter.shape) >= 2


def _users_of_weights(modules: dict[str, nn.Module], matrices: dict[str, Found]) -> Iterator[tuple[str, list[str]]]:
    """Layers that name the weight of a layer within them in their code, as in ``F.linear(x, self.proj.weight)``."""
    within: dict[tuple[str, str], list[str]] = {}
    for name, found in matrices.items():
        if not found.matrix.owner:
            within.setdefault((found.path, found.matrix.attribute), []).append(name)
    for path, layer in modules.items():
        kind: Any = type(layer)
        named = [each for each in sorted(_weights_named(kind)) if each[0] in layer._modules]
        keys = [(f"{path}.{child}" if path else child, attribute) for child, attribute in named]
        used = [name for key in keys for name in within.get(key, ())]
        if used:
            yield path, used


@cache
def _weights_named(kind: Any) -> frozenset[tuple[str, str]]:
    """Attributes of attributes that the methods of a class use, such as the weight of a layer within."""
    return frozenset(attributes_of_attributes(kind))
