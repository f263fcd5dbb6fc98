"""Values as they are typed on the command line."""

from __future__ import annotations

from typing import Any

import yaml

from crossbar_sim.spec.yaml_text import parse_yaml
from device_models.errors import UsageError


def typed_value(text: str) -> Any:
    """What a text given to --set says as YAML; UsageError where it is none."""
    try:
        return parse_yaml(text)
    except (yaml.YAMLError, ValueError):  # ValueError: a date that does not exist
        raise UsageError(f"--set: {text!r} is not a value") from None
