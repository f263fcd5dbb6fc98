"""Devices of non-volatile memory: one file per published device, found by `kind`.

Every module of this package is imported, so that a new device is one new file and nothing else.
"""

from importlib import import_module
from pkgutil import iter_modules

from device_models.base import AbstractDevice, AbstractPowerLawDevice, DeviceCurves, ReferencePoint
from device_models.registry import Device, devices, register_device

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")

__all__ = [
    "AbstractDevice",
    "AbstractPowerLawDevice",
    "Device",
    "DeviceCurves",
    "ReferencePoint",
    "devices",
    "register_device",
]
