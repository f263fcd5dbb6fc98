"""A chip on disk: its specification in YAML, its calibrated numbers in safetensors; states are computed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load, save

from crossbar_sim.array.programmed import ProgrammedMatrix
from crossbar_sim.mapping import ModelPlan
from crossbar_sim.spec import ChipSpec
from crossbar_sim.spec.whole_file import write_whole
from device_models.errors import StoreError

FORMAT = 2
_CHIP = "chip.yaml"


def weights_fingerprint(weight: torch.Tensor) -> str:
    """A hash of type, shape and values of a weight matrix."""
    array = weight.detach().cpu().contiguous()
    digest = hashlib.blake2b(f"{array.dtype} {tuple(array.shape)}".encode(), digest_size=16)
    digest.update(array.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def write_chip(
    path: str | Path,
    spec: ChipSpec,
    seed: int,
    write: int,
    time_s: float,
    matrices: Mapping[str, ProgrammedMatrix],
    plan: ModelPlan,
) -> Path:
    """Write a chip to the folder `path`; what was there before stays whole until the new files are."""
    folder = Path(path)
    numbers: dict[str, torch.Tensor] = {}
    layers: dict[str, Any] = {}
    specs: dict[str, Any] = {}
    for name, programmed in matrices.items():
        programmed.check_fresh()
        matrix = programmed.matrix
        key = next((k for k, known in specs.items() if known == matrix.spec), None)
        if key is None:
            key = f"chip_{len(specs)}"
            specs[key] = matrix.spec
        compensation = programmed.compensation
        with programmed.values() as part:
            fingerprint = weights_fingerprint(part)
        layers[name] = {
            "spec": key,
            "weights": fingerprint,
            "compensation": compensation.model_dump(mode="json") if compensation else None,
            "compensated_s": programmed.compensated_s,
            "reads": matrix.reads,
        }
        numbers[f"{name}|drift_factor"] = matrix.drift_factor.cpu().contiguous()
        if matrix.drift_offset is not None:
            numbers[f"{name}|drift_offset"] = matrix.drift_offset.cpu().contiguous()
        if matrix.input_range is not None:
            numbers[f"{name}|input_range"] = matrix.input_range.cpu().contiguous()
    data = {
        "format": FORMAT,
        "seed": seed,
        "write": write,
        "time_s": time_s,
        "default_spec": spec.to_dict(),
        "specs": {key: known.to_dict() for key, known in specs.items()},
        "digital": list(plan.digital),
        "layers": layers,
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        content = save(numbers)
        data["numbers"] = hashlib.blake2b(content, digest_size=16).hexdigest()
        write_whole(folder / _numbers(data), content)
        data["checksum"] = _checksum(data)
        text = yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=120)
        write_whole(folder / _CHIP, text)
        for old in folder.glob("chip-*.safetensors"):  # those of the chip that was here before
            if old.name != _numbers(data):
                old.unlink()
    except (OSError, SafetensorError) as error:
        raise StoreError(f"{folder}: the chip could not be saved: {error}") from None
    return folder


def read_chip(folder: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """What `write_chip` wrote, checked against its checksums."""
    try:
        data = yaml.safe_load((folder / _CHIP).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise StoreError(f"{folder / _CHIP}: cannot be read: {' '.join(str(error).split())}") from None
    if not isinstance(data, dict) or "format" not in data:
        raise StoreError(f"{folder / _CHIP}: is not a saved chip")
    if data["format"] != FORMAT:
        raise StoreError(f"{folder / _CHIP}: format {data['format']!r} is unknown; this version reads {FORMAT}")
    if data.pop("checksum", None) != _checksum(data):
        raise StoreError(f"{folder / _CHIP}: is damaged or was edited (its checksum does not fit)")
    try:
        content = (folder / _numbers(data)).read_bytes()
    except OSError as error:
        raise StoreError(f"{folder / _numbers(data)}: cannot be read: {error}") from None
    if hashlib.blake2b(content, digest_size=16).hexdigest() != data["numbers"]:
        raise StoreError(f"{folder / _numbers(data)}: is damaged (its checksum does not fit)")
    return data, load(content)


def _numbers(data: dict[str, Any]) -> str:
    """Numbers have the name of their content, so that those of the chip that was saved before stay whole."""
    return f"chip-{data['numbers'][:16]}.safetensors"


def _checksum(data: dict[str, Any]) -> str:
    return hashlib.blake2b(json.dumps(data, sort_keys=True).encode(), digest_size=16).hexdigest()
