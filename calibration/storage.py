"""Fits as YAML: every float comes back bit for bit, and nothing is ever unpickled."""

from __future__ import annotations

import hashlib
import json
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, cast

import numpy as np
import yaml
from numpy.typing import NDArray
from pydantic import PlainSerializer, PlainValidator, TypeAdapter, ValidationError

from calibration.measurements import checked_path
from crossbar_sim.spec.yaml_text import read_yaml, write_text
from device_models.errors import CrossbarError, StoreError, UsageError, nearest

if TYPE_CHECKING:
    from calibration.fit import Fit


def _text_of(array: NDArray[np.float64]) -> dict[str, Any]:
    return {"shape": list(array.shape), "values": " ".join(map(repr, array.ravel().tolist()))}


def _array_of(value: Any) -> NDArray[np.float64]:
    if isinstance(value, dict):
        if value.keys() != {"shape", "values"} or not all(type(n) is int and n >= 0 for n in value["shape"]):
            raise ValueError("must have a shape of whole numbers and values")
        return np.array(str(value["values"]).split(), float).reshape(value["shape"])
    return np.asarray(value, float)


Array = Annotated[NDArray[np.float64], PlainValidator(_array_of), PlainSerializer(_text_of)]
"""Field type of an array of floats in a fit; written as its shape and one text of numbers, which is read fast."""

F = TypeVar("F", bound="Fit")


SCHEMA_VERSION = 1
"""Of the files that are written; files without one name the class and the module that had it then."""

KINDS = {
    "ConverterFit": "calibration.converters",
    "DriftFit": "calibration.drift",
    "IVFit": "calibration.iv",
    "MVMFit": "calibration.mvm",
    "ProgrammingFit": "calibration.programming",
    "PulseFit": "calibration.pulses",
    "ReadNoiseFit": "calibration.read_noise",
    "RelaxationFit": "calibration.relaxation",
    "RetentionFit": "calibration.retention",
    "StuckFit": "calibration.stuck",
    "TelegraphFit": "calibration.telegraph",
    "ThresholdFit": "calibration.threshold",
    "WriteVerifyFit": "calibration.write_verify",
}
"""Where the class of each kind of fit is now. A kind stands in files and never changes; the module may."""

_IN_FIRST_FILES = {
    "ConverterFit": "calibration.converters",
    "DriftFit": "calibration.drift",
    "IVFit": "calibration.iv",
    "MVMFit": "calibration.mvm",
    "ProgrammingFit": "calibration.programming",
    "PulseFit": "calibration.pulses",
    "ReadNoiseFit": "calibration.read_noise",
    "RelaxationFit": "calibration.relaxation",
    "RetentionFit": "calibration.retention",
    "StuckFit": "calibration.stuck",
    "TelegraphFit": "calibration.telegraph",
    "ThresholdFit": "calibration.threshold",
    "WriteVerifyFit": "calibration.write_verify",
}
"""The module that files without a kind name beside the class. This does not change where a module moves."""


def save_fit(fit: Fit, path: str | Path | None) -> str:
    """The YAML text of a fit, its kind and the version of the form first; written to `path` where given."""
    cls = type(fit)
    if KINDS.get(cls.__name__, cls.__module__) != cls.__module__:
        raise UsageError(f"{cls.__module__}.{cls.__name__}: must have a name of its own, which a file can tell apart")
    content = TypeAdapter(cls).dump_python(fit, mode="json")
    head = {"kind": cls.__name__, "schema_version": SCHEMA_VERSION, "checksum": _checksum(cls.__name__, content)}
    data = {**head, **content}
    text = yaml.dump(data, Dumper=_Dumper, sort_keys=False, default_flow_style=None, width=120, allow_unicode=True)
    if path is not None:
        write_text(path, text)
    return text


def load_fit(cls: type[F], root: type[Any], path: str | Path) -> F:
    """The fit of a file that `save_fit` wrote: a `cls`, or of a class below it. `root`: the class of all fits."""
    data = _data(checked_path(path))
    if not isinstance(data, dict) or not ("kind" in data or {"fit", "module"} <= data.keys()):
        raise StoreError(f"{path}: is not a fit: has no `kind`")
    found = _class(root, _kind(data, path), path)
    if not issubclass(found, cls):
        raise StoreError(f"{path}: holds a {found.__name__}, not a {cls.__name__}")
    checksum = data.pop("checksum", None)
    known = [field.name for field in fields(found)]
    for name in data:
        if name not in known:
            raise StoreError(f"{path}: is damaged: unknown field {name!r}{nearest(str(name), known)}")
    for name in known:
        if name not in data:
            raise StoreError(f"{path}: is damaged: field {name!r} is missing")
    try:
        fit = TypeAdapter(found).validate_python(data)
        if checksum is not None and checksum != _checksum(found.__name__, data):
            raise ValueError("its checksum is that of other content, so that it was cut off or edited")
        _refuse_broken(fit)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise StoreError(f"{path}: is damaged: {where}: {' '.join(first['msg'].split())}") from None
    except (CrossbarError, ArithmeticError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise StoreError(f"{path}: is damaged: {' '.join(str(error).split())}") from None
    return fit


def _data(path: str | Path) -> Any:
    try:
        return read_yaml(path, "a fit")
    except RecursionError:
        raise StoreError(f"{path}: is not a fit: has too many brackets within each other") from None
    except (LookupError, TypeError, ValueError) as error:  # as of a date that does not exist
        raise StoreError(f"{path}: is not valid YAML: {' '.join(str(error).split())}") from None


def _checksum(kind: str, content: dict[str, Any]) -> str:
    """SHA-256 of a fit, whatever the layout of its file."""
    return hashlib.sha256(json.dumps([kind, content], sort_keys=True, default=repr).encode()).hexdigest()


def _refuse_broken(fit: Fit) -> None:
    """ValueError for what no fit has and the types of its fields do not exclude."""
    names = [parameter.name for parameter in fit.parameters]
    if len(set(names)) != len(names):
        raise ValueError(f"parameters are named {', '.join(names)}: must be named once each")
    if not np.isfinite(fit.draws).all():
        raise ValueError("draws: must be finite numbers")


def _kind(data: dict[str, Any], path: str | Path) -> str:
    """The kind of a fit, taken out of its data together with the version."""
    if "kind" not in data:
        name, module = str(data.pop("fit")), str(data.pop("module"))
        if _IN_FIRST_FILES.get(name, module) != module:
            raise StoreError(f"{path}: is a fit of an unknown class {module}.{name}")
        return name
    version = data.pop("schema_version", None)
    if type(version) is not int or not 1 <= version <= SCHEMA_VERSION:
        raise StoreError(
            f"{path}: schema_version = {version!r}: must be a whole number from 1 to {SCHEMA_VERSION}; a newer version "
            "of crossbar-sim may have written the file"
        )
    return str(data.pop("kind"))


def _class(root: type[Any], kind: str, path: str | Path) -> type[Any]:
    """The class of a kind: one of this table, or one that its owner has imported. Nothing else is looked for."""
    if kind in KINDS:
        return cast(type[Any], getattr(import_module(KINDS[kind]), kind))
    known = {cls.__name__: cls for cls in _below(root)}
    if kind not in known:
        kinds = sorted({*KINDS, *known})
        raise StoreError(f"{path}: kind = {kind!r}: must be one of {', '.join(kinds)}{nearest(kind, kinds)}")
    return known[kind]


def _below(cls: type[Any]) -> list[type[Any]]:
    return [inner for sub in cls.__subclasses__() for inner in (sub, *_below(sub))]


class _Dumper(yaml.SafeDumper):
    """Floats by `repr`, which is exact; no anchors, which only hide equal lists."""

    def ignore_aliases(self, data: Any) -> bool:
        return True
