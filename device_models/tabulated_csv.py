"""CSV files of numbers by column, and from the columns of a tabulated device to the parts of its specification."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import numpy as np

from device_models.errors import StoreError, UsageError, nearest

_COLUMNS = ("t_s", "g_uS", "program_bias_uS", "program_sigma_uS", "nu_mean", "nu_sigma", "relative", "q_s")
_REQUIRED = ("g_uS", "program_bias_uS", "program_sigma_uS")


def read_parts(path: str | Path, t0_s: float | None, t_read_s: float | None) -> dict[str, Any]:
    """Fields of device_models.tabulated.Tabulated from a CSV file; see its `from_csv` for columns and errors."""
    table = read_columns(path, _REQUIRED, _COLUMNS)
    times = len(set(table.get("t_s", [0.0])))
    n_rows = len(table["g_uS"])
    if n_rows % times:
        raise UsageError(f"{path}: {n_rows} rows at {times} times: must list the same g_uS at each time")
    rows = {name: np.reshape(values, (times, -1)).tolist() for name, values in table.items()}
    if any(len(set(row)) > 1 for row in rows.get("t_s", [])):
        raise UsageError(f"{path}: rows of one t_s must follow each other")
    for name in rows.keys() - {"t_s", "program_bias_uS", "program_sigma_uS"}:
        if any(row != rows[name][0] for row in rows[name]):
            raise UsageError(f"{path}: {name} must be the same at each time")
    if t0_s is not None and not {"nu_mean", "nu_sigma", "q_s"} & rows.keys():
        raise UsageError(f"t0_s = {t0_s!r}: cannot act, because {path} has no column nu_mean or q_s")
    if t_read_s is not None and "q_s" not in rows:
        raise UsageError(f"t_read_s = {t_read_s!r}: cannot act, because {path} has no column q_s")

    once = {name: tuple(row[0]) for name, row in rows.items()}
    drift = {name: once[name] for name in ("nu_mean", "nu_sigma") if name in once}
    white = "white" if "q_s" in once else "relative"  # as read noise names it, beside 1/f noise or alone
    read = {own: once[name] for own, name in (("q_s", "q_s"), (white, "relative")) if name in once}
    pulse = {} if t_read_s is None else {"t_read_s": t_read_s}
    clock = {} if t0_s is None else {"t0_s": t0_s}
    noise_kind = {"kind": "one_over_f", **clock, **pulse} if "q_s" in read else {"kind": "white"}
    parts: dict[str, Any] = {
        "programming": {
            "t_s": tuple(row[0] for row in rows["t_s"]) if "t_s" in rows else None,
            "bias_uS": tuple(map(tuple, rows["program_bias_uS"])),
            "sigma_uS": tuple(map(tuple, rows["program_sigma_uS"])),
        },
        "drift": {**drift, **clock} if drift else None,
        "read": {**read, **noise_kind} if read else None,
    }
    g = once["g_uS"]
    return {"source": Path(path).name, "g_uS": g, "g_min_uS": g[0], "g_max_uS": g[-1], **parts}


def read_columns(
    path: str | Path, required: tuple[str, ...], accepted: tuple[str, ...] | None = None
) -> dict[str, list[float]]:
    """Columns of a CSV file by name: `accepted` ones where given, without repetition, every cell a finite number."""
    try:
        lines = list(csv.reader(Path(path).read_text(encoding="utf-8-sig").splitlines(), skipinitialspace=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise StoreError(f"{path}: cannot be read as a table: {error}") from None
    if len(lines) < 2:
        raise UsageError(f"{path}: must have a header and at least one row, has {len(lines)} lines")
    header = [name.strip() for name in lines[0]]
    for name in header:
        if accepted is not None and name not in accepted:
            raise UsageError(
                f"{path}: column {name!r} is unknown; accepted: {', '.join(accepted)}{nearest(name, accepted)}"
            )
    if len(set(header)) != len(header) or not set(required) <= set(header):
        raise UsageError(f"{path}: columns {', '.join(header)}: each once, and {', '.join(required)} are required")
    for number, line in enumerate(lines[1:], start=2):
        if len(line) != len(header):
            raise UsageError(f"{path}: line {number} has {len(line)} cells: must have {len(header)}")
    return {
        name: [_number(line[k], f"{path}: line {number}: {name}") for number, line in enumerate(lines[1:], start=2)]
        for k, name in enumerate(header)
    }


def _number(text: str, name: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UsageError(f"{name} = {text!r}: must be a finite number")
    return value
