"""Text files of numbers by column, and from the columns of a tabulated device to the parts of its specification."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from device_models.errors import UsageError, nearest
from device_models.table_names import Heading, Quantity, Unit, find
from device_models.table_numbers import DecimalMarks, Fault, faults, numbers
from device_models.table_text import TextTable, read_table

_COLUMNS = ("t_s", "g_uS", "program_bias_uS", "program_sigma_uS", "nu_mean", "nu_sigma", "relative", "q_s")
_PURE = ("q_s",)
"""Pure numbers, although their names end as those of times do."""
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
    """Columns of a text file by name, every cell a finite number: `accepted` ones in any unit, or else all as they are.

    Errors   StoreError: the file cannot be read; UsageError: a name or a number, with its line
    """
    table = read_table(path)
    if not table.lines:
        raise UsageError(f"{path}: must have a header and at least one row, has {table.n_lines} lines")
    quantities = _quantities(path, table, accepted)
    headings = [Heading.of(name) for name in table.names]
    once = len(set(table.names)) == len(table.names)
    places = {quantity: find(quantity, headings, str(path)) for quantity in quantities} if once else {}
    found = {quantity: place for quantity, place in places.items() if place is not None}
    if not set(required) <= {quantity.name for quantity in found}:
        raise UsageError(f"{path}: columns {', '.join(table.names)}: each once, and {', '.join(required)} are required")
    marks = DecimalMarks(str(path))
    return {quantity.name: _checked(path, table, quantity, *place, marks) for quantity, place in found.items()}


def _quantities(path: str | Path, table: TextTable, accepted: tuple[str, ...] | None) -> list[Quantity]:
    """What the columns may be; UsageError for a column that is none of them."""
    if accepted is None:
        return [Quantity.pure(Heading.of(name).plain) for name in table.names]
    quantities = [Quantity.pure(name) if name in _PURE else Quantity.named(name) for name in accepted]
    for name in table.names:
        heading = Heading.of(name)
        if not any(quantity.unit(heading) for quantity in quantities):
            for quantity in quantities:
                find(quantity, [heading], str(path))  # that a unit is refused says more than an unknown name
            raise UsageError(
                f"{path}: column {name!r} is unknown; accepted: {', '.join(accepted)}{nearest(name, accepted)}"
            )
    return quantities


def _checked(
    path: str | Path, table: TextTable, quantity: Quantity, column: int, unit: Unit, marks: DecimalMarks
) -> list[float]:
    texts, name = table.columns[column], table.names[column]
    cells = numbers(texts, table.separator)
    values = unit.convert(cells.values)
    gaps = Fault("wrong", cells.gap, "must be a finite number")
    for fault in (gaps, *faults(cells, values, unit, quantity.of)):
        if fault.rows.any():
            row = int(np.argmax(fault.rows))
            raise UsageError(f"{path}: line {table.lines[row]}: {name} = {texts[row].strip()!r}: {fault.rule}")
    if cells.mark:
        marks.add(cells.mark, f"line {table.lines[cells.marked]}: {name} = {texts[cells.marked].strip()!r}")
    return list(values.tolist())
