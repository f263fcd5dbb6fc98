"""What a model, a tokenizer and a metric are, as plain data: whatever decides a number and is not a weight.

Plain data are numbers, texts and lists and mappings of them, tensors by a fingerprint, and functions and classes by
their names. What else a model or a tokenizer holds is known by its class; what else a metric holds is refused.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import hashlib
import inspect
import json
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
_NOT_HELD = (torch.dtype, torch.device, torch.Generator)


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
    """Class, vocabulary and special tokens of a tokenizer, wherever it was loaded from; no chat template."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    vocabulary: Any = None
    if backend is not None:
        parts = json.loads(backend.to_str())
        vocabulary = digest({name: parts[name] for name in parts if name not in ("truncation", "padding")})
    elif hasattr(tokenizer, "get_vocab"):
        vocabulary = digest(tokenizer.get_vocab())
    if vocabulary is None:
        return _Plain()(tokenizer, "tokenizer")
    names = ("bos_token_id", "eos_token_id", "pad_token_id", "unk_token_id", "add_bos_token", "add_eos_token")
    special = {name: getattr(tokenizer, name, None) for name in names}
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
    placed = is_placed(module)  # by accelerate: the same numbers as without
    found: dict[str, Any] = {
        name: value
        for name, value in {**_class_settings(type(module)), **vars(module)}.items()
        if name not in _OF_EVERY_MODULE | _NOT_CONFIGURATION
        and not name.startswith(("_hf_", "_is_hf_", "_old_forward") if not is_library else "_")
        and not (hasattr(nn.Module, name) and (name != "forward" or placed))
        and not isinstance(value, _NOT_HELD)
        and not (is_library and isinstance(value, torch.Tensor | None))  # a state that a forward leaves behind
    }
    for kind in ("_forward_hooks", "_forward_pre_hooks"):
        hooks = [hook for hook in getattr(module, kind).values() if _library(hook) not in _WITH_OTHER_HOOKS]
        if hooks:
            found[kind] = [getattr(hook, "__qualname__", type(hook)) for hook in hooks]
    return found


def _library(kind: Any) -> str:
    """The package that a class or function is of."""
    return str(getattr(kind, "__module__", "")).partition(".")[0]


def _class_settings(kind: type) -> dict[str, Any]:
    """Numbers, texts and tuples that a class and those it inherits from have, but for classes of libraries."""
    return {
        name: value
        for own in reversed(kind.__mro__)
        if _library(own) not in {*_LIBRARIES, "crossbar_sim"}
        for name, value in vars(own).items()
        if not name.startswith("__") and isinstance(value, bool | int | float | str | tuple)
    }


class _Plain:
    """Makes plain data of a value. Objects that it does not know go to `refuse` with their paths, where it is given."""

    def __init__(self, refuse: Callable[[Any, str], Any] | None = None):
        self._refuse = refuse
        self._within: list[int] = []  # objects that hold the present one: they may hold each other in a circle
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
                {name: self(module._buffers[name], name) for name in buffers},
            ]
        config = self(getattr(model, "config", None), "config")
        return {"class": class_name(type(model)), "config": config, "modules": digest(modules)}

    def attributes(self, value: Any, path: str) -> dict[str, Any]:
        """The class of an object with what it and its class hold."""
        slots = [name for own in type(value).__mro__ for name in getattr(own, "__slots__", ())]
        own = {name: getattr(value, name) for name in slots if not name.startswith("__") and hasattr(value, name)}
        held = {**_class_settings(type(value)), **own, **getattr(value, "__dict__", {})}
        inner = {name: self(part, f"{path}.{name}".lstrip(".")) for name, part in held.items()}
        return {"class": class_name(type(value)), **inner}

    def _compound(self, value: Any, path: str) -> Any:
        if isinstance(value, torch.Tensor):
            return "meta" if value.device.type == "meta" else weights_fingerprint(value)
        if isinstance(value, np.generic | np.ndarray) and value.dtype != object:
            data = np.ascontiguousarray(value)
            return [str(data.dtype), list(data.shape), hashlib.blake2b(data.tobytes(), digest_size=16).hexdigest()]
        if isinstance(value, Mapping):
            items = [(self(key, f"{path} key"), self(part, f"{path}[{key!r}]")) for key, part in value.items()]
            return {key if isinstance(key, str) else json.dumps(key, sort_keys=True): part for key, part in items}
        if isinstance(value, list | tuple):
            return [self(part, f"{path}[{index}]") for index, part in enumerate(value)]
        if isinstance(value, set | frozenset):
            return sorted((self(part, path) for part in value), key=json.dumps)
        if isinstance(value, enum.Enum):
            return [class_name(type(value)), value.name]
        if isinstance(value, bytes | bytearray | complex | PurePath | torch.Size | torch.dtype | torch.device):
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
            return [value.__func__.__qualname__, self(value.__self__, path)]
        if isinstance(value, types.FunctionType):
            held: list[Any] = [dict(inspect.getclosurevars(value).nonlocals)]
            held += [value.__defaults__, value.__kwdefaults__]
            if value.__name__ == "<lambda>":  # which is the name of all of them
                code = value.__code__
                held += [code.co_code, code.co_names, [part for part in code.co_consts if not inspect.iscode(part)]]
            return [class_name(value), self(held, path)]
        if callable(value) and isinstance(getattr(value, "__name__", None), str):
            return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', value.__name__)}"
        if self._refuse is not None:
            return self._refuse(value, path)
        if _library(type(value)) in _LIBRARIES or not hasattr(value, "__dict__"):
            return class_name(type(value))
        return self.attributes(value, path)


def _without(config: Any) -> Any:
    """A configuration as mapping without what decides no number."""
    if not isinstance(config, Mapping):
        return config
    kept = {name: value for name, value in config.items() if name not in _NOT_CONFIGURATION}
    return {name: _without(value) for name, value in kept.items() if not str(name).startswith("_")}
