"""Wide tables, with a column for each time or voltage, as long ones."""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np

from calibration.columns import Choice, Column, Columns, Part
from device_models.errors import UsageError
from device_models.table_names import Quantity, Unit, is_possible, known_unit

_NUMBER = r"([-+]?(?:[0-9]+[.,]?[0-9]*|[.,][0-9]+)(?:[eE][-+]?[0-9]+)?)"


class _Wide(NamedTuple):
    """A column of a wide table, the unit of its cells, and its place on the axis."""

    column: Column
    unit: Unit
    at: float


def long_form(columns: Columns, what: str, axis: str, *, low: float, negative: Choice | None) -> Columns:
    """A wide table as a long one: columns ``<what>_<number><unit of axis>_<unit of what>`` become rows.

    what = "g_uS", axis = "t_s": ``g_0.1s_uS`` becomes g_uS at t_s = 0.1, and so does ``r_0.1s_kohm``. A table without
    such columns is returned as it is; one that has both forms is refused.
    """
    found = _wide_columns(columns, Quantity.named(what), Quantity.named(axis).of)
    if not found:
        return columns
    if columns.has(what) or columns.has(axis):
        raise UsageError(
            f"{columns.where}: has {what} or {axis} and wide columns such as {found[0].column.heading.text}: must be "
            "one form"
        )
    names: dict[float, str] = {}
    for wide in found:
        name = wide.column.heading.text
        if names.setdefault(wide.at, name) != name:
            raise UsageError(f"{columns.where}: columns {names[wide.at]} and {name} are both {what}: must be one")
    of = Quantity.named(what).of
    parts: list[Part] = [
        {axis: np.array(wide.at), what: columns.check(wide.column, wide.unit, of, low=low, negative=negative)}
        for wide in found
    ]
    return columns.stacked(parts, [wide.column for wide in found])


def _wide_columns(columns: Columns, what: Quantity, axis: str) -> list[_Wide]:
    kinds = {what.stem: what.of} | ({"r": "ohm"} if what.stem == "g" else {})
    pattern = re.compile(rf"({'|'.join(kinds)}|{'|'.join(kinds).upper()})_{_NUMBER}([a-zA-Z]+)_([a-zA-Z]+)")
    found = []
    for column in columns:
        if match := pattern.fullmatch(column.heading.plain):
            name = f"{columns.where}: column {column.heading.text}"
            at = known_unit(match[3], axis, name).convert(np.array(float(match[2].replace(",", ".")))).item()
            if not is_possible(at, axis):
                raise UsageError(f"{name}: {match[2]} {match[3]} is beyond what any device can have")
            found.append(_Wide(column, known_unit(match[4], kinds[match[1].lower()], name), at))
    return found
