"""Fits as YAML: every float comes back bit for bit, and nothing is ever unpickled."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import numpy as np
import yaml
from numpy.typing import NDArray
from pydantic import PlainSerializer, PlainValidator, TypeAdapter, ValidationError

from crossbar_sim.spec.yaml_text import read_yaml, write_text
from device_models.errors import CrossbarError, StoreError

if TYPE_CHECKING:
    from calibration.fit import Fit


def _text_of(array: NDArray[np.float64]) -> dict[str, Any]:
    return {"shape": list(array.shape), "values": " ".join(map(repr, array.ravel().tolist()))}


def _array_of(value: Any) -> NDArray[np.float64]:
    if isinstance(value, dict):
        return np.array(str(value["values"]).split(), float).reshape(value["shape"])
    return np.asarray(value, float)


Array = Annotated[NDArray[np.float64], PlainValidator(_array_of), PlainSerializer(_text_of)]
"""Field type of an array of floats in a fit; written as its shape and one text of numbers, which is read fast."""

F = TypeVar("F", bound="Fit")


def save_fit(fit: Fit, path: str | Path | None) -> str:
    """The YAML text of a fit, with the name of its class; written to `path` where given."""
    cls = type(fit)
    data = {"fit": cls.__name__, "module": cls.__module__, **TypeAdapter(cls).dump_python(fit, mode="json")}
    text = yaml.dump(data, Dumper=_Dumper, sort_keys=False, default_flow_style=None, width=120, allow_unicode=True)
    if path is not None:
        write_text(path, text)
    return text


def load_fit(cls: type[F], root: type[Any], path: str | Path) -> F:
    """The fit of a file that `save_fit` wrote: a `cls`, or of a class below it. `root`: the class of all fits."""
    data = read_yaml(path, "a fit")
    if not isinstance(data, dict) or not {"fit", "module"} <= data.keys():
        raise StoreError(f"{path}: is not a fit: has no `fit` and `module`")
    found = _class(root, str(data.pop("module")), str(data.pop("fit")), path)
    if not issubclass(found, cls):
        raise StoreError(f"{path}: holds a {found.__name__}, not a {cls.__name__}")
    try:
        return TypeAdapter(found).validate_python(data)
    except (ValidationError, CrossbarError) as error:
        raise StoreError(f"{path}: is damaged: {' '.join(str(error).split())}") from None


def _class(root: type[Any], module: str, name: str, path: str | Path) -> type[Any]:
    """A class of this room only: a file must not choose what is imported."""
    known = {(cls.__module__, cls.__name__): cls for cls in _below(root)}
    if (module, name) not in known and module.startswith("calibration.") and module.count(".") == 1:
        try:
            import_module(module)
        except ModuleNotFoundError:
            raise StoreError(f"{path}: is a fit of an unknown module {module!r}") from None
        known = {(cls.__module__, cls.__name__): cls for cls in _below(root)}
    if (module, name) not in known:
        raise StoreError(f"{path}: is a fit of an unknown class {module}.{name}")
    return known[module, name]


def _below(cls: type[Any]) -> list[type[Any]]:
    return [inner for sub in cls.__subclasses__() for inner in (sub, *_below(sub))]


class _Dumper(yaml.SafeDumper):
    """Floats by `repr`, which is exact; no anchors, which only hide equal lists."""

    def ignore_aliases(self, data: Any) -> bool:
        return True
