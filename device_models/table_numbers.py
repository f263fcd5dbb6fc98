"""Cells of measured tables as numbers, and which of them cannot be measurements."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from device_models.errors import UsageError
from device_models.table_names import BOUNDS, Unit

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

OVERFLOW = 1e30
"""Instruments write 9.9e37, 9.91e37 or 1e38 where a value is beyond their range, and some tables scale these."""

_GAPS = """#N/A #NA -1.#IND -1.#QNAN -NaN -nan 1.#IND 1.#QNAN <NA> N/A NA NULL NaN None n/a nan null"""
GAPS = frozenset(["", "#N/A N/A", *_GAPS.split()])
"""Texts that stand for no value; as pandas reads them."""

_OVERFLOWS = """inf infinity 1.#inf ovfl ovf ovld ovrflw overflow overload overrange over ol o.l o.l."""
_POINT = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_COMMA = re.compile(r"[+-]?[0-9]*,[0-9]+(?:[eE][+-]?[0-9]+)?")
_COMMA_HINT = "; a comma is a decimal mark beside semicolons, tabs, pipes or spaces, and thousands have no mark"
_THOUSANDS = re.compile(r"[+-]?[1-9][0-9]{0,2}(?:,[0-9]{3})+")


class Cells(NamedTuple):
    """Numbers of one column: NaN where a cell is a gap or is unreadable, infinite where it says overflow in words.

    mark     the decimal mark, "." or ","; empty where all numbers are whole
    marked   the first row that has it
    hint     what else may be said of cells that are unreadable
    """

    values: Floats
    gap: Mask
    mark: str = ""
    marked: int = -1
    hint: str = ""


def is_number(text: str) -> bool:
    """Whether a cell is a number, with a decimal point or a decimal comma."""
    return bool(_POINT.fullmatch(text.strip()) or _COMMA.fullmatch(text.strip()))


def numbers(cells: Sequence[Any] | NDArray[Any], separator: str = ",") -> Cells:
    """The numbers of one column, of texts or of values.

    separator   of the cells in their file: a comma in a number is a decimal comma where it does not separate cells,
                but beside tabs, spaces and pipes not where every comma could divide thousands
    """
    if isinstance(cells, np.ndarray) and cells.dtype.kind in "fiub":
        values = cells.astype(float)
        return Cells(values, np.isnan(values))
    texts = cells.tolist() if isinstance(cells, np.ndarray) else list(cells)
    mark = _decimal_mark(texts, separator)
    found = _all_numbers(texts, mark)
    if found is None:
        found = Cells(np.full(len(texts), math.nan), np.zeros(len(texts), bool))
        for row, cell in enumerate(texts):
            try:
                found.values[row] = float(_with_point(cell, mark) if isinstance(cell, str) else cell)
                found.gap[row] = found.values[row] != found.values[row]
            except (TypeError, ValueError):
                found.values[row] = _overflow(cell)
                found.gap[row] = cell is None or (isinstance(cell, str) and cell.strip() in GAPS)
    marked = next((row for row, text in enumerate(texts) if isinstance(text, str) and mark in text), -1)
    unreadable = np.flatnonzero(np.isnan(found.values) & ~found.gap)
    hint = _COMMA_HINT if any("," in str(texts[row]) for row in unreadable[:1]) else ""
    return found._replace(mark=mark if marked >= 0 else "", marked=marked, hint=hint)


def _decimal_mark(texts: Sequence[Any], separator: str) -> str:
    """A comma where cells have one and it can be nothing else, or else a point."""
    if separator == ",":
        return "."
    commas = (text.strip() for text in texts if isinstance(text, str) and "," in text)
    decimals = (text for text in commas if _COMMA.fullmatch(text))
    if separator == ";":
        return "." if next(decimals, None) is None else ","
    return "." if all(map(_THOUSANDS.fullmatch, decimals)) else ","


def _all_numbers(texts: Sequence[Any], mark: str) -> Cells | None:
    """The numbers of texts that are numbers or nan without exception, ten times faster; otherwise none."""
    try:
        joined = "\n".join(texts)
        if "_" in joined or (mark == "," and "." in joined):  # float reads 1_000; a point beside decimal commas
            return None
        points = texts if mark == "." else joined.replace(",", ".").split("\n")
        values = np.fromiter(map(float, points), float, len(points))
    except (TypeError, ValueError):
        return None
    return Cells(values, np.isnan(values)) if len(values) == len(texts) else None


def _with_point(text: str, mark: str) -> str:
    """A number as Python writes it; what is no number does not become one."""
    text = text.replace("_", "?").replace("\u2212", "-")  # float reads 1_000; a true minus is one
    return text.replace(".", "?").replace(",", ".") if mark == "," else text  # a point beside decimal commas


def _overflow(cell: Any) -> float:
    """Infinite where a cell says in words that an instrument was beyond its range."""
    word = str(cell).strip().casefold()
    if word.lstrip("+-") in _OVERFLOWS.split():
        return -math.inf if word.startswith("-") else math.inf
    return math.nan


class DecimalMarks:
    """The decimal mark of a file, which is one: 1.234 beside 15,5 may be 1234."""

    def __init__(self, where: str):
        self.where = where
        self.seen: dict[str, str] = {}

    def add(self, mark: str, cell: str) -> None:
        """UsageError where another column has the other mark; `cell` names a cell with this one."""
        self.seen.setdefault(mark, cell)
        if len(self.seen) > 1:
            raise UsageError(f"{self.where}: {' and '.join(self.seen.values())}: must have one decimal mark")


class Fault(NamedTuple):
    """Rows that cannot be measurements, and what is accepted instead."""

    kind: Literal["wrong", "overflow", "negative"]
    rows: Mask
    rule: str


def faults(cells: Cells, values: Floats, unit: Unit, of: str, low: float = -math.inf) -> Iterator[Fault]:
    """What is wrong with a column, the gravest first; gaps are not.

    values   in the unit `of` of this package, `unit` being that of the cells; low: the least that is accepted
    """
    raw = cells.values
    yield Fault("wrong", np.isnan(raw) & ~cells.gap, f"must be a finite number{cells.hint}")
    yield Fault("overflow", np.isinf(raw), "must be a finite number")
    yield Fault("overflow", np.abs(raw) >= OVERFLOW, "is an overflow of the instrument: must be a measurement")
    if unit.inverse:
        yield Fault("wrong", raw == 0, f"must be above 0 {unit.name}")
        yield Fault("negative", raw < 0, f"must be above 0 {unit.name}")
    suffix = f" {of}" if of else ""
    lowest, highest = BOUNDS.get(of, (-math.inf, math.inf))
    yield Fault("negative" if low == 0 else "wrong", values < low, f"must be at least {low:g}{suffix}")
    yield Fault("wrong", values < lowest, f"must be at least {lowest:g}{suffix}, which no device is below")
    yield Fault("wrong", values > highest, f"must be at most {highest:g}{suffix}, which no device is above")
