"""Devices by `kind`: a decorator inside the package, the entry-point group `crossbar_sim.devices` for others."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.metadata import entry_points
from typing import Annotated, TypeVar

from device_models.base import AbstractDevice
from device_models.errors import UsageError
from device_models.strict import KindOf

ENTRY_POINT_GROUP = "crossbar_sim.devices"

_devices: dict[str, type[AbstractDevice]] = {}
D = TypeVar("D", bound=AbstractDevice)


def register_device(cls: type[D]) -> type[D]:
    """Class decorator: make a device known by the default of its `kind` field. A kind can be taken once."""
    kind = cls.model_fields["kind"].default
    if not isinstance(kind, str):
        raise UsageError(f"{cls.__name__}.kind = {kind!r}: a device needs a default kind of type str")
    if kind in _devices and _devices[kind] is not cls:
        raise UsageError(f"{cls.__name__}.kind = {kind!r}: already taken by {_devices[kind].__name__}")
    _devices[kind] = cls
    return cls


@cache
def _load_plugins() -> None:
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        entry.load()


def devices() -> Mapping[str, type[AbstractDevice]]:
    """All known devices by kind, those of installed plug-ins included."""
    _load_plugins()
    return dict(sorted(_devices.items()))


Device = Annotated[AbstractDevice, KindOf(devices)]
"""Field type: any registered device, given as an object, a mapping with `kind`, or a bare kind."""

__all__ = ["ENTRY_POINT_GROUP", "Device", "devices", "register_device"]
