"""The only unit conversions of the distribution, and the unit that a field name carries."""

from __future__ import annotations

import contextlib
import math
import re
from numbers import Real
from typing import Any

from device_models.errors import UsageError

SECONDS = {
    "ns": 1e-9,
    "us": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "min": 60.0,
    "h": 3600.0,
    "d": 86400.0,
    "w": 604800.0,
    "y": 31536000.0,
}
"""Seconds per unit; a year has 365 days."""

_UNIT_SUFFIXES = {
    "_uS": "uS",
    "_S": "S",
    "_ohm": "ohm",
    "_V": "V",
    "_A": "A",
    "_s": "s",
    "_K": "K",
    "_J": "J",
    "_m2": "m2",
    "bits": "bit",
}


def seconds(value: float | str, name: str = "time") -> float:
    """Seconds since programming ended, from a number or a text such as ``"1h"``, ``"30d"``, ``"1y"``.

    Raises UsageError for a negative, infinite or unreadable time. A year has 365 days (31 536 000 s).
    """
    accepted = 'a number of seconds >= 0 or a text such as "20s", "1h", "30d", "1y"'
    if isinstance(value, bool) or not isinstance(value, Real | str):  # Real: numbers of NumPy as well
        raise UsageError(f"{name} = {value!r}: must be {accepted}")
    number: Real | float = math.nan
    if not isinstance(value, str):
        number = value
    elif (
        not (match := re.fullmatch(r"\s*([0-9.]+(?:[eE][+-]?[0-9]+)?)\s*([a-z]+)\s*", value)) or match[2] not in SECONDS
    ):
        raise UsageError(f"{name} = {value!r}: must be {accepted}; units are {', '.join(SECONDS)}")
    else:
        with contextlib.suppress(ValueError):  # two points, say
            number = float(match[1]) * SECONDS[match[2]]
    try:
        t_s = float(number)
    except OverflowError:
        t_s = math.inf
    if not math.isfinite(t_s):
        raise UsageError(f"{name} = {value!r}: must be {accepted}")
    if t_s < 0:
        raise UsageError(f"{name} = {value!r}: must be >= 0 s, because time counts from the end of programming")
    return t_s


def readable_time(t_s: float) -> str:
    """A short text for a time: the largest unit in which the number is at least one (``3600.0`` -> ``"1h"``)."""
    if t_s == 0:
        return "0s"
    for unit in ("y", "d", "h", "min", "s", "ms", "us"):
        if t_s >= SECONDS[unit]:
            return f"{t_s / SECONDS[unit]:.4g}{unit}"
    return f"{t_s / SECONDS['ns']:.4g}ns"


def unit_of(field_name: str, value: Any = 0.0) -> str:
    """The unit that a field name carries (``g_max_uS`` -> ``uS``); ``1`` for a pure number, ``-`` for a word."""
    for suffix, unit in _UNIT_SUFFIXES.items():
        if field_name.endswith(suffix):
            return unit
    numeric = isinstance(value, int | float | tuple) and not isinstance(value, bool)
    return "1" if numeric else "-"
