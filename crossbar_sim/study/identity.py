"""What a model, a tokenizer and a metric are, as plain data: whatever decides a number and is not a weight.

Plain data are numbers, texts and lists and mappings of them, tensors by a fingerprint, and functions and classes by
their names and, outside libraries, by their code. What else a model or a tokenizer holds of libraries is known by its
class; what else a metric holds is refused.
"""

from __future__ import annotations

import array
import collections
import dataclasses
import datetime
import enum
import functools
import hashlib
import inspect
import json
import numbers
import sys
import types
from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import Any

import numpy as np
import torch
from torch import nn

from crossbar_sim.bridge.offload import is_placed, named_values
from crossbar_sim.store import weights_fingerprint
from device_models.errors import UsageError

_NOT_CONFIGURATION = {
    "architectures",  # the class says it
    "dtype", "torch_dtype",  # the weights have it
    "name_or_path", "transformers_version",  # where it comes from
    "generation_config", "gradient_checkpointing", "use_cache",  # for other work than one forward
    "hf_device_map", "hf_quantizer", "is_quantized", "quantization_method", "training",  # how it was loaded, its mode
}  # fmt: skip
_LIBRARIES = {"torch", "transformers", "accelerate", "tokenizers", "numpy", *sys.stdlib_module_names}
_WITH_OTHER_HOOKS = {"transformers", "accelerate"}  # for training and loading
_OF_EVERY_MODULE = set(vars(nn.Module()))
_NOT_HELD = (torch.device, torch.Generator)
_OF_LOADING = {"hf_device_map", "_hf_hook", "_old_forward", "_is_hf_initialized"}  # set on modules of any class
_MADE_FOR_CLASSES = {
    "__init__", "__post_init__", "__repr__", "__eq__", "__hash__", "__setattr__", "__delattr__", "__replace__",
    "__getstate__", "__setstate__", "_abc_impl",
}  # fmt: skip
_METHODS = (types.FunctionType, staticmethod, classmethod, property, functools.cached_property)
_DESCRIPTORS = (types.MemberDescriptorType, types.GetSetDescriptorType, types.WrapperDescriptorType)
_READABLE = (
    numbers.Number, bytes, bytearray, PurePath, torch.Size, torch.dtype, torch.device, range, slice, array.array,
    datetime.date, datetime.time, datetime.timedelta, types.EllipsisType,
)  # fmt: skip
_UNCHANGING = (
    bool, int, float, complex, str, bytes, tuple, frozenset, torch.Tensor, np.ndarray, types.FunctionType,
    functools.partial, type,
)  # fmt: skip


def digest(data: Any) -> str:
    """A hash of plain data."""
    return hashlib.blake2b(json.dumps(data, sort_keys=True).encode(), digest_size=16).hexdigest()


def class_name(kind: Any) -> str:
    """Module and qualified name of a class or function."""
    return f"{kind.__module__}.{kind.__qualname__}"


def weights_identity(model: nn.Module) -> str:
    """A hash of names, types, shapes and values of what a model saves."""
    fingerprint = hashlib.blake2b(digest_size=16)
    for name, tensor in named_values(model):
        fingerprint.update(f"{name} {weights_fingerprint(tensor)}".encode())
    return fingerprint.hexdigest()


def model_identity(model: nn.Module) -> dict[str, Any]:
    """Class and configuration of a model, and a hash of the classes and plain attributes of all modules in it.

    Buffers that are not saved belong to it, such as the frequencies of rotary positions; modes and devices do not.
    """
    return _Plain().model(model)


def tokenizer_identity(tokenizer: Any) -> Any:
    """Class, vocabulary, special tokens and settings of a tokenizer, wherever it was loaded from."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    vocabulary: Any = None
    if backend is not None:
        parts = json.loads(backend.to_str())
        vocabulary = digest({name: parts[name] for name in parts if name not in ("truncation", "padding")})
    elif hasattr(tokenizer, "get_vocab"):
        vocabulary = digest(tokenizer.get_vocab())
    if vocabulary is None:
        return _Plain()(tokenizer, "tokenizer")
    names = (
        "bos_token_id", "eos_token_id", "pad_token_id", "unk_token_id", "add_bos_token", "add_eos_token",
        "padding_side", "truncation_side", "model_max_length", "chat_template",
    )  # fmt: skip
    special = {name: _Plain()(getattr(tokenizer, name, None), name) for name in names}
    return {"class": class_name(type(tokenizer)), "vocabulary": vocabulary, **special}


def metric_identity(metric: Any) -> Any:
    """What `metric.identity()` says, or else its class and attributes.

    UsageError for an attribute that cannot be told from another.
    """

    def refuse(value: Any, path: str) -> Any:
        raise UsageError(
            f"metric {metric.name!r}: {path} is a {type(value).__name__}, which cannot be told from another; give the "
            "metric a method identity() that returns plain data"
        )

    plain = _Plain(refuse)
    if callable(getattr(metric, "identity", None)):
        return plain(metric.identity(), "identity()")
    return plain.attributes(metric, "")


def _settings(module: nn.Module) -> dict[str, Any]:
    """What is set on a module or, outside libraries, its class; with its hooks and a forward of its own."""
    is_library = _library(type(module)) in _LIBRARIES
    of_hugging_face = any(_library(kind) == "transformers" for kind in type(module).__mro__)
    aside = _OF_EVERY_MODULE | _OF_LOADING | (_NOT_CONFIGURATION if of_hugging_face else set())
    prefix = "_" if is_library else "_hf_"
    not_held = (*_NOT_HELD, torch.dtype) if is_library or of_hugging_face else _NOT_HELD
    placed = is_placed(module)  # by accelerate: the same numbers as without
    found: dict[str, Any] = {
        name: value
        for name, value in {**_class_settings(type(module)), **vars(module)}.items()
        if name not in aside
        and not ((is_library or of_hugging_face) and name.startswith(prefix))
        and not (hasattr(nn.Module, name) and (name != "forward" or placed))
        and not isinstance(value, not_held)
        and not (is_library and isinstance(value, torch.Tensor | None))  # a state that a forward leaves behind
    }
    for kind in ("_forward_hooks", "_forward_pre_hooks"):
        hooks = [hook for hook in getattr(module, kind).values() if _library(hook) not in _WITH_OTHER_HOOKS]
        if hooks:
            found[kind] = hooks
    return found


def _library(kind: Any) -> str:
    """The package that a class or function is of."""
    return str(getattr(kind, "__module__", "")).partition(".")[0]


def _is_own(kind: Any) -> bool:
    """Whether a class or function is of no library, so that its name does not say what it does."""
    return _library(kind) not in {*_LIBRARIES, "crossbar_sim"}


def _class_settings(kind: type) -> dict[str, Any]:
    """What a class and those it inherits from have besides methods, but for classes of libraries."""
    return {
        name: value
        for own in reversed(kind.__mro__)
        if _is_own(own)
        for name, value in vars(own).items()
        if not name.startswith("__")
        and name not in _MADE_FOR_CLASSES
        and not isinstance(value, _METHODS + _DESCRIPTORS)
    }


def _methods(kind: type) -> dict[str, list[types.FunctionType]]:
    """The functions that a class and those it inherits from have by name, but for classes of libraries."""
    return {
        f"{class_name(own)}.{name}": _functions(value)
        for own in kind.__mro__
        if _is_own(own)
        for name, value in vars(own).items()
        if name not in _MADE_FOR_CLASSES and isinstance(value, _METHODS)
    }


def _functions(method: Any) -> list[types.FunctionType]:
    """What a method or property calls."""
    if isinstance(method, property):
        parts = [method.fget, method.fset]
    else:
        parts = [getattr(method, "func", getattr(method, "__func__", method))]
    return [part for part in parts if isinstance(part, types.FunctionType)]


def _code(code: types.CodeType, doc: str | None = None) -> list[Any]:
    """Instructions, names and constants of a function and of those within it, but for its docstring."""
    constants = [part for part in code.co_consts if doc is None or part != doc]
    inner = [_code(part) if inspect.iscode(part) else part for part in constants]
    return [code.co_code, code.co_names, inner]


class _Plain:
    """Makes plain data of a value. Objects that it does not know go to `refuse` with their paths, where it is given."""

    def __init__(self, refuse: Callable[[Any, str], Any] | None = None):
        self._refuse = refuse
        self._within: list[int] = []  # objects that hold the present one: they may hold each other in a circle
        self._codes: dict[type, str | None] = {}
        self._paths: dict[int, str] = {}  # of modules that are being described: others may hold them, too

    def __call__(self, value: Any, path: str) -> Any:
        if value is None or (isinstance(value, bool | int | float | str) and not isinstance(value, enum.Enum)):
            return value
        if id(value) in self._within:
            return "the object that holds this"
        self._within.append(id(value))
        try:
            return self._compound(value, path)
        finally:
            self._within.pop()

    def model(self, model: nn.Module) -> dict[str, Any]:
        """model_identity."""
        self._paths.update({id(module): name or "(root)" for name, module in model.named_modules()})
        saved = set(model.state_dict())
        modules = {}
        for path, module in model.named_modules(remove_duplicate=False):
            buffers = [name for name in sorted(module._buffers) if f"{path}.{name}".lstrip(".") not in saved]
            modules[path] = [
                class_name(type(module)),
                {name: self(value, name) for name, value in _settings(module).items()},
                self.code(type(module)),
                {name: self(module._buffers[name], name) for name in buffers},
            ]
        config = self(getattr(model, "config", None), "config")
        return {"class": class_name(type(model)), "config": config, "modules": digest(modules)}

    def attributes(self, value: Any, path: str) -> dict[str, Any]:
        """The class of an object with what it and its class hold."""
        slots = [
            name
            for own in type(value).__mro__
            for name, part in vars(own).items()
            if isinstance(part, types.MemberDescriptorType) and hasattr(value, name)
        ]
        own = {name: getattr(value, name) for name in slots}
        held = {**_class_settings(type(value)), **own, **getattr(value, "__dict__", {})}
        inner = {name: self(part, f"{path}.{name}".lstrip(".")) for name, part in held.items()}
        return {"class": class_name(type(value)), "code": self.code(type(value)), "holds": inner}

    def code(self, kind: type) -> Any:
        """A hash of the methods of a class; None for classes of libraries.

        Lists and mappings that methods share with what is around them may be records of calls, and are left out.
        """
        if kind not in self._codes:
            self._codes[kind] = None  # while it is being described: methods may hold their class
            methods = {
                name: [self._described(function, _UNCHANGING) for function in functions]
                for name, functions in _methods(kind).items()
            }
            self._codes[kind] = digest(methods) if methods else None
        return self._codes[kind]

    def _compound(self, value: Any, path: str) -> Any:
        if isinstance(value, torch.Tensor):
            return "meta" if value.device.type == "meta" else weights_fingerprint(value)
        if isinstance(value, np.ndarray) and value.dtype.hasobject:
            return ["object", list(value.shape), self(value.ravel().tolist(), path)]
        if isinstance(value, np.generic | np.ndarray):
            data = np.ascontiguousarray(value)
            return [str(data.dtype), list(data.shape), hashlib.blake2b(data.tobytes(), digest_size=16).hexdigest()]
        if isinstance(value, Mapping):
            items = [(self(key, f"{path} key"), self(part, f"{path}[{key!r}]")) for key, part in value.items()]
            return {key if isinstance(key, str) else json.dumps(key, sort_keys=True): part for key, part in items}
        if isinstance(value, list | tuple | collections.deque):
            return [self(part, f"{path}[{index}]") for index, part in enumerate(value)]
        if isinstance(value, set | frozenset):
            return sorted((self(part, path) for part in value), key=json.dumps)
        if isinstance(value, enum.Enum):
            return [class_name(type(value)), value.name]
        if isinstance(value, _READABLE):
            return repr(value)
        if isinstance(value, nn.Module):
            return self._paths.get(id(value)) or {"weights": weights_identity(value), **self.model(value)}
        if callable(getattr(value, "to_dict", None)) and hasattr(value, "model_type"):
            return self._config(value, path)
        is_record = dataclasses.is_dataclass(value) or isinstance(value, types.SimpleNamespace)
        if is_record and not isinstance(value, type):
            return self.attributes(value, path)
        return self._function(value, path)

    def _config(self, config: Any, path: str) -> Any:
        """A configuration of transformers, with those within it."""
        parts = {name: getattr(config, name, None) for name in getattr(config, "sub_configs", {})}
        attention = {name: getattr(part, "_attn_implementation", None) for name, part in {"": config, **parts}.items()}
        return {"attention": attention, **self(_without(config.to_dict()), path)}

    def _function(self, value: Any, path: str) -> Any:
        if isinstance(value, functools.partial):
            return [self(part, path) for part in (value.func, value.args, value.keywords)]
        if isinstance(value, types.MethodType):
            return [self(value.__func__, path), self(value.__self__, path)]
        if isinstance(value, types.FunctionType):
            return self._described(value, object, path)
        if isinstance(value, type) and _is_own(value):
            return [class_name(value), self.code(value)]
        if callable(value) and isinstance(getattr(value, "__name__", None), str):
            return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', value.__name__)}"
        if self._refuse is not None:
            return self._refuse(value, path)
        if _library(type(value)) in _LIBRARIES:
            return class_name(type(value))
        return self.attributes(value, path)

    def _described(self, function: types.FunctionType, kept: Any, path: str = "") -> Any:
        """The name of a function, what of the kinds `kept` it has of around it, and its code unless a library's."""
        around = inspect.getclosurevars(function).nonlocals
        held: list[Any] = [{name: value for name, value in around.items() if isinstance(value, kept)}]
        held += [function.__defaults__, function.__kwdefaults__]
        if _is_own(function) or function.__name__ == "<lambda>":  # which is the name of all of them
            held.append(_code(function.__code__, function.__doc__))
        return [class_name(function), self(held, path)]


def _without(config: Any) -> Any:
    """A configuration as mapping without what decides no number."""
    if not isinstance(config, Mapping):
        return config
    kept = {name: value for name, value in config.items() if name not in _NOT_CONFIGURATION}
    return {name: _without(value) for name, value in kept.items() if not str(name).startswith("_")}
