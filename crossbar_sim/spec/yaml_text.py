"""YAML as people write it in specifications: plain data, no key twice, 250e-9 is a number."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from crossbar_sim.spec.whole_file import write_whole
from device_models.errors import StoreError


def parse_yaml(text: str) -> Any:
    """The data of a YAML text; raises yaml.YAMLError. Never runs code."""
    return yaml.load(text, Loader=_StrictLoader)


def read_yaml(path: str | Path, what: str) -> Any:
    """The data of a YAML or JSON file that holds `what`, as "a device"; StoreError where it cannot be read."""
    try:
        return parse_yaml(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(f"{path}: cannot be read as {what}: {error}") from None
    except yaml.YAMLError as error:
        raise StoreError(f"{path}: is not valid YAML: {' '.join(str(error).split())}") from None


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text, the whole of it or nothing; StoreError where the file cannot be written."""
    write_whole(path, text)


class _StrictLoader(yaml.SafeLoader):
    """Plain data only, and a key given twice is an error instead of the last one winning."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        for key, _ in node.value:
            if keys.count(key.value) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value} is given twice", key.start_mark)
        return super().construct_mapping(node, deep)


# YAML 1.1 takes 250e-9 for a text, because it has no point
_StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)
