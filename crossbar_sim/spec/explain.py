"""A specification as a table for people: every field with value, unit, meaning and source."""

from __future__ import annotations

from typing import Any, NamedTuple

from device_models.strict import StrictModel
from device_models.units import unit_of


class ExplainedField(NamedTuple):
    """One value of a specification: a row of the table that `explain` prints."""

    path: str
    value: str
    unit: str
    meaning: str
    source: str


def explain_rows(spec: StrictModel, prefix: str = "", inherited: str = "") -> list[ExplainedField]:
    """One row per field, nested specifications included, in the order of definition."""
    source = spec.source or inherited or "package default"
    rows: list[ExplainedField] = []
    for name, field in type(spec).model_fields.items():
        if name == "source":
            continue
        value: Any = getattr(spec, name)
        path = f"{prefix}{name}"
        meaning = field.description or ""
        if isinstance(value, StrictModel):
            rows.append(ExplainedField(path, getattr(value, "kind", ""), "-", meaning, value.source or source))
            inner = explain_rows(value, f"{path}.", source)
            rows += [row for row in inner if row.path != f"{path}.kind"]
        else:
            rows.append(ExplainedField(path, _text(value), unit_of(name, value), meaning, source))
    return rows


def format_rows(rows: list[ExplainedField]) -> str:
    """Rows as an aligned text table."""
    table = [ExplainedField("field", "value", "unit", "meaning", "source"), *rows]
    widths = [max(len(row[i]) for row in table) for i in range(4)]
    return "\n".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(row[:4], widths, strict=True)), row.source]).rstrip()
        for row in table
    )


def _text(value: Any) -> str:
    if value is None:
        return "off"
    if isinstance(value, tuple):
        return "(" + ", ".join(_text(item) for item in value) + ")"
    return f"{value:g}" if isinstance(value, float) else str(value)
