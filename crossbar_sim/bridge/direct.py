"""Layers that keep their own forward: products with their matrices become reads of the chip while it runs.

The idea. A layer such as a stack of experts, nn.MultiheadAttention or an LSTM hands its parameters to functions of
PyTorch. While its forward runs, a TorchFunctionMode sees every one of these calls. A call with a parameter of the chip,
or a view of one, among its arguments is one of three things: a product, which becomes reads (bridge.products);
something that only asks for a view or a shape, which is let through; or anything else, which is refused by name: it
would compute with the digital weights what the chip is to compute. So no such layer is on the chip in name only.

A matrix is found by where it lies in memory (storage, offset, strides), whatever chain of views led there.
Proof: tests/unit/test_kinds_direct.py, tests/llm/test_every_family.py.
"""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

import torch
from torch import nn
from torch.overrides import TorchFunctionMode, resolve_name

from crossbar_sim.array.source import gone
from crossbar_sim.array.view import View
from crossbar_sim.bridge.captures import check_eager, outside_of_graphs
from device_models.errors import UsageError

_FORWARDS = ("_old_forward", "forward")
"""Where a layer has a forward of its own; accelerate keeps the one that runs between its hooks in the first."""

Place = tuple[int, tuple[int, ...], tuple[int, ...]]
"""Offset in the storage, shape and strides of a matrix."""


class Slot(Protocol):
    """What stands for a matrix in products."""

    def __call__(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        """x (..., n_in) -> (..., n_out); `weight` (n_out, n_in) is the matrix as the layer holds it."""


class Digital:
    """A matrix that stays digital beside others of the same layer that are on the chip."""

    def __call__(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        return nn.functional.linear(x, weight, bias)


class Held(NamedTuple):
    """A matrix of a layer: where its parameter stands and its name there, where it lies in it, and what reads it."""

    name: str
    parameters: Mapping[str, Any]
    attribute: str
    view: View
    slot: Slot


class Direct:
    """Stands for the forward of a layer, with reads in place of its products, and for what `.to()` does to it."""

    def __init__(self, name: str, layer: nn.Module, matrices: Sequence[Held]):
        self.name, self.matrices = name, list(matrices)
        self._layer = weakref.ref(layer)  # which holds this: a circle would keep its memory until garbage is collected
        self.follow: Callable[..., nn.Module] | None = None
        self._place = next((name for name in _FORWARDS if name in vars(layer)), "forward")
        self.original = vars(layer).get(self._place)
        self._laid_out: tuple[Any, _Layout] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_layer": self.layer, "_laid_out": None}  # addresses are those of this process

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update({**state, "_layer": weakref.ref(state["_layer"])})

    @property
    def layer(self) -> nn.Module:
        """The layer."""
        layer = self._layer()
        assert layer is not None  # it is what calls this
        return layer

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(self._forward)

    def install(self, follow: Callable[..., nn.Module] | None = None) -> None:
        """Let the layer read the chip from now on; `follow` does what `.to()` asks for, and takes devices along."""
        own = vars(self.layer)
        own[self._place] = self
        self.follow = follow
        if follow is not None:
            own["_apply"] = self.apply

    def remove(self) -> None:
        """Give the layer its own forward back."""
        own = vars(self.layer)
        if self.original is None:
            del own[self._place]
        else:
            own[self._place] = self.original
        own.pop("_apply", None)

    @outside_of_graphs
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the layer computes."""
        for x in _tensors((args, kwargs)):
            check_eager(x, self.name)
        with _Reads(self, self._layout()):
            return self._forward(*args, **kwargs)

    def apply(self, fn: Callable[..., Any], recurse: bool = True) -> nn.Module:
        """nn.Module._apply, after which the devices follow."""
        assert self.follow is not None
        return self.follow(self.layer, fn, recurse)

    @property
    def _forward(self) -> Callable[..., Any]:
        if self.original is not None:
            return self.original
        return _loop_over_experts(type(self.layer).forward).__get__(self.layer)

    def _layout(self) -> _Layout:
        """Where the matrices lie in memory, found anew only where a parameter moved: a layer may have hundreds."""
        parameters: dict[tuple[int, str], tuple[torch.Tensor, list[Held]]] = {}
        for held in self.matrices:
            parameter = held.parameters.get(held.attribute)
            if parameter is None and not isinstance(held.slot, Digital):
                raise gone(held.name)
            if parameter is not None:  # one that is computed at each forward is digital
                parameters.setdefault((id(held.parameters), held.attribute), (parameter, []))[1].append(held)
        on_chip = [each for each in parameters.values() if not all(isinstance(held.slot, Digital) for held in each[1])]
        key = tuple((_storage(parameter), _place(parameter)) for parameter, _ in on_chip)
        if self._laid_out is None or self._laid_out[0] != key:
            layout = _Layout({}, {})
            for parameter, own in on_chip:
                layout.know(parameter.detach(), own)
            self._laid_out = key, layout
        known = self._laid_out[1]
        return _Layout(dict(known.places), dict(known.wholes))  # casts of one forward are not those of the next


class _Layout(NamedTuple):
    """Where matrices lie, and where whole parameters with their matrices in order do; both by storage."""

    places: dict[int, dict[Place, Held]]
    wholes: dict[int, dict[Place, list[Held]]]

    def know(self, parameter: torch.Tensor, matrices: list[Held]) -> None:
        """Add a parameter, or a copy of it, and the matrices in it."""
        storage = _storage(parameter)
        self.wholes[storage] = {**self.wholes.get(storage, {}), _place(parameter): matrices}
        places = dict(self.places.get(storage, {}))
        for each in matrices:
            matrix = each.view(parameter)
            if _storage(matrix) == storage:  # it is a copy where its rows are no rows in memory, as in channels_last
                places[_place(matrix)] = each
        self.places[storage] = places


def is_direct(layer: nn.Module) -> bool:
    """Whether a layer reads the chip in its own forward."""
    return any(isinstance(vars(layer).get(name), Direct) for name in _FORWARDS)


def _loop_over_experts(forward: Callable[..., Any]) -> Callable[..., Any]:
    """The forward that loops over experts, which transformers wraps in a choice of others that gather all weights."""
    if "experts_interface" in forward.__code__.co_freevars:
        return forward.__wrapped__  # type: ignore[attr-defined]
    return forward


class _Reads(TorchFunctionMode):
    """Sees the calls of PyTorch while the forward of a layer runs."""

    def __init__(self, direct: Direct, layout: _Layout):
        super().__init__()
        self.direct, self.layout = direct, layout
        self.casts: list[torch.Tensor] = []
        """They live as long as their places, so that no other tensor takes their memory meanwhile."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        from crossbar_sim.bridge.products import PRODUCTS

        kwargs = kwargs or {}
        used = next((t for t in _tensors((args, kwargs)) if self.holds(t)), None)
        if used is None:
            return func(*args, **kwargs)
        product = PRODUCTS.get(func)
        if product is not None:
            return product(self, *args, **kwargs)
        result = func(*args, **kwargs)
        if _only_looks(func) or all(self.holds(t) for t in _tensors(result)):
            return result
        if getattr(func, "__name__", "") in _CASTS and self._follow_cast(used, result):
            return result
        raise self.refusal(used, func)

    def _follow_cast(self, weight: torch.Tensor, cast: torch.Tensor) -> bool:
        """Know the matrices of a weight in a copy of another type, as in ``F.linear(x, self.weight.float())``."""
        held, whole = self.of(weight), self.layout.wholes.get(_storage(weight), {}).get(_place(weight))
        if held is not None:
            self.layout.places[_storage(cast)] = {_place(cast): held}
        if whole is not None:
            self.layout.know(cast, whole)
        if held is None and whole is None:
            return False
        self.casts.append(cast)
        return True

    def holds(self, tensor: torch.Tensor) -> bool:
        """Whether a tensor is a parameter of the chip or a view of one."""
        return _storage(tensor) in self.layout.places

    def of(self, weight: torch.Tensor) -> Held | None:
        """The matrix (n_out, n_in) that a tensor shows; None where it shows none."""
        return self.layout.places.get(_storage(weight), {}).get(_place(weight))

    def read(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        """x (..., n_in) through the matrix that `weight` (n_out, n_in) shows."""
        if not self.holds(weight):
            return nn.functional.linear(x, weight, bias)
        held = self.of(weight)
        if held is None:
            raise self._no_matrix(weight)
        return held.slot(x, weight, bias)

    def of_groups(self, weight: torch.Tensor, groups: int) -> list[Callable[..., torch.Tensor]]:
        """For each group of a whole parameter of a convolution: what reads (x, bias=None) through its matrix."""
        matrices = self.layout.wholes.get(_storage(weight), {}).get(_place(weight), [])
        if len(matrices) != groups:
            raise self._no_matrix(weight)
        return [partial(held.slot, weight=held.view(weight)) for held in matrices]

    def _no_matrix(self, weight: torch.Tensor) -> UsageError:
        return UsageError(
            f"{self.direct.name}: multiplies by a part of shape {tuple(weight.shape)} of its weights that is no "
            f'matrix of the chip; keep it digital with the rule {{{self._rule}: "digital"}}'
        )

    def refusal(self, used: torch.Tensor, func: Any) -> UsageError:
        """The error for a use of a weight that is no product."""
        storage = _storage(used)
        name = next((each.name for each in self.layout.places.get(storage, {}).values()), self.direct.name)
        return UsageError(
            f"{name}: {type(self.direct.layer).__name__} uses its weight in {_name(func)}, which is no product that a "
            f'chip computes; keep it digital with the rule {{{self._rule}: "digital"}}'
        )

    @property
    def _rule(self) -> str:
        names = [held.name for held in self.direct.matrices]
        return repr(names[0] if len(names) == 1 else f"{self.direct.name}*")


class WeightSpy(TorchFunctionMode):
    """Notes functions of PyTorch that compute with the weights of layers on the chip outside of their reads."""

    def __init__(self, layers: Mapping[str, nn.Module]):
        super().__init__()
        own = {path: layer._parameters.get("weight") for path, layer in layers.items() if not is_direct(layer)}
        self.layers = {_storage(weight): path for path, weight in own.items() if weight is not None}
        self.used: dict[str, str] = {}
        """The name of a function for each layer."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if not _only_looks(func):
            mine = [path for t in _tensors((args, kwargs or {})) if (path := self.layers.get(_storage(t)))]
            if mine and not all(_storage(t) in self.layers for t in _tensors(result)):
                self.used.setdefault(mine[0], _name(func))
        return result


def _storage(tensor: torch.Tensor) -> int:
    """The address of a tensor's storage; 0 where it has none of its own."""
    try:
        return tensor.untyped_storage()._cdata
    except (NotImplementedError, RuntimeError):
        return 0


def _place(matrix: torch.Tensor) -> Place:
    """Strides of dimensions of size one say nothing."""
    strides = tuple(0 if size == 1 else stride for size, stride in zip(matrix.shape, matrix.stride(), strict=True))
    return int(matrix.storage_offset()), tuple(matrix.shape), strides


def _tensors(values: Any) -> Iterator[torch.Tensor]:
    """Every tensor within lists, tuples and mappings of arguments or results."""
    if isinstance(values, torch.Tensor):
        yield values
    elif isinstance(values, tuple | list):
        for value in values:
            yield from _tensors(value)
    elif isinstance(values, dict):
        yield from _tensors(list(values.values()))


_CASTS = {"to", "type", "type_as", "float", "double", "half", "bfloat16", "contiguous", "clone"}
_NO_VALUES = {"empty_like", "zeros_like", "ones_like", "full_like", "rand_like", "randn_like"}
_NO_VALUES |= {"new_empty", "new_zeros", "new_ones", "new_full", "new_tensor", "__get__", "embedding"}


def _only_looks(func: Any) -> bool:
    """Whether a function takes no product with its tensor: it asks for its type or shape, or looks up rows."""
    return getattr(func, "__name__", "") in _NO_VALUES


def _name(func: Any) -> str:
    return resolve_name(func) or getattr(func, "__name__", repr(func))
