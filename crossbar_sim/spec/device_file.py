"""A device by itself in a YAML file: what a fit writes and a sweep takes."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from crossbar_sim.spec.yaml_text import read_yaml, write_text
from device_models.base import AbstractDevice
from device_models.errors import SpecError, UsageError
from device_models.registry import devices
from device_models.strict import KindOf


def device_to_yaml(device: AbstractDevice, path: str | Path | None = None) -> str:
    """The device as YAML text, also written to `path` where given; every number comes back bit for bit."""
    text = yaml.safe_dump(json.loads(device.model_dump_json()), sort_keys=False, allow_unicode=True, width=120)
    if path is not None:
        write_text(path, text)
    return text


def device_from_yaml(path: str | Path) -> AbstractDevice:
    """The device of a YAML or JSON file with `kind` and its fields. Only data are read, never code."""
    data = read_yaml(path, "a device")
    if not isinstance(data, dict) or "kind" not in data:
        raise UsageError(f"{path}: must hold a mapping of device fields with a kind")
    try:
        device = KindOf(devices).resolve(data)
    except SpecError as error:
        raise SpecError(f"{path}: device", error.problems) from None
    assert isinstance(device, AbstractDevice)
    return device
