"""Text files of measurements as named columns of cells, with any of the separators, encodings and line ends in use."""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from os import PathLike
from pathlib import Path
from typing import NoReturn

import numpy as np

from device_models.errors import StoreError, UsageError
from device_models.table_names import is_unit
from device_models.table_numbers import GAPS, is_number

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "pipes"}
COMMENTS = ("#", "%", "//")
SPACE = " "
SAMPLE = 20
"""Rows that are looked at where the header has several of the separators."""

_ENCODINGS = (  # a UTF-32 mark begins as one of UTF-16 does
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


@dataclass(frozen=True)
class TextTable:
    """Cells as they are written, by column.

    names       of the columns; a unit from a line of units under the header is appended in brackets
    columns     the cells of each column; empty texts are gaps
    lines       line of each row in the file
    separator   what stands between cells; a space stands for any white space
    n_lines     of header and rows
    """

    names: tuple[str, ...]
    columns: tuple[Sequence[str], ...]
    lines: Sequence[int]
    separator: str
    n_lines: int


def read_table(path: str | Path) -> TextTable:
    """A text file with a header; a file without any line has no names.

    Lines that are blank or begin with #, % or // are passed over. Where names stand only in a comment, in the line
    above the first row, they are taken from there.

    Errors   StoreError: the file cannot be read as text; UsageError: a row that does not fit the header, with its line
    """
    text = _text(path)
    every = text.split("\n")
    declared = re.fullmatch("sep=(.)", every[0])  # as spreadsheets write it
    top = next((n for n in range(1 if declared else 0, len(every)) if _is_row(every[n])), None)
    if top is None:
        return TextTable((), (), (), ",", 0)
    header, below = every[top], top + 1
    if _holds_numbers(header):
        header, below = _commented_header(path, every, top), top
    separator = declared[1] if declared else _separator(path, top + 1, header, every[below:])
    names = _names(header, separator)
    body = text[sum(len(line) + 1 for line in every[:below]) :]
    columns = _cells_at_once(body, separator, names)
    if columns is not None:
        return _table(path, names, columns, range(below + 1, below + 1 + len(columns[0])), separator)
    return _table(path, names, *_cells_by_line(path, every, below, separator, names), separator)


def _is_row(line: str) -> bool:
    return bool(line) and not line.isspace() and not line.lstrip().startswith(COMMENTS)


def _text(path: str | Path) -> str:
    if not isinstance(path, str | PathLike):
        raise UsageError(f"path = {path!r}: must be the path of a file")
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise StoreError(f"{path}: cannot be read as a table: {error.strerror or error}") from None
    encoding = next((name for mark, name in _ENCODINGS if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise StoreError(f"{path}: cannot be read as a table: is no text in UTF-8, or in UTF-16 with its mark")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _holds_numbers(line: str) -> bool:
    """Whether every cell of a line is a number or a gap, whatever the separator."""
    cells = [cell for cell in re.split(r"[\s,;|]+", line.strip()) if cell not in GAPS]
    return bool(cells) and all(map(is_number, cells))


def _commented_header(path: str | Path, every: Sequence[str], top: int) -> str:
    """The comment above the first row, as numpy.savetxt writes names; UsageError where there is none."""
    above = every[top - 1].strip() if top else ""
    names = above.lstrip("#%/").strip()
    if not above.startswith(COMMENTS) or not names:
        raise UsageError(f"{path}: line {top + 1} holds numbers: must be a header, such as cell,t_s,g_uS")
    return names


def _separator(path: str | Path, number: int, header: str, below: Sequence[str]) -> str:
    """The separator of the header; where it has several, the one by which the rows below have as many cells."""
    without_decimals = re.sub(r"(?<=[0-9]),(?=[0-9])", "", header)  # as in g_0,1s_uS
    in_header = [mark for mark in SEPARATORS if len(_cells(without_decimals, mark)) > 1]
    if not in_header:
        return SPACE if len(_names(header, SPACE)) > 1 else ","
    if len(in_header) == 1:
        return in_header[0]
    sample = list(islice(filter(_is_row, below), SAMPLE))
    found = [mark for mark in in_header if all(_fits(_cells(line, mark), len(_names(header, mark))) for line in sample)]
    if len(found) != 1:
        marks = " and ".join(SEPARATORS[mark] for mark in in_header)
        raise UsageError(f"{path}: line {number} has {marks}: one of them must separate the names")
    return found[0]


def _cells(line: str, separator: str) -> list[str]:
    """The cells of one line; a line with an open quote is one cell."""
    try:
        return next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])
    except csv.Error:
        return [line]


def _names(header: str, separator: str) -> list[str]:
    """Names of a header without empty ones at its end; of names between spaces a bracket belongs to the one ahead."""
    if separator != SPACE or '"' in header:
        names = _cells(header if separator != SPACE else SPACE.join(header.split()), separator)
    else:
        names = re.split(r"\s+(?![(\[{])", header.strip())
    names = [name.strip() for name in names]
    while names and not names[-1]:
        names.pop()
    return names


def _fits(cells: Sequence[str], n_names: int) -> bool:
    """Whether there is a cell for each name, and beyond these none but empty ones."""
    return len(cells) >= n_names and not any(cell.strip() for cell in cells[n_names:])


def _cells_at_once(body: str, separator: str, names: Sequence[str]) -> list[list[str]] | None:
    """As `_cells_by_line`, ten times faster, where every line below the header is plainly a row; otherwise none."""
    if any(mark in body for mark in ('"', *COMMENTS)) or len(names) < 2 or not separator.isascii():
        return None
    if body.startswith("\n"):  # lines would count from another one
        return None
    if separator == SPACE:
        body = re.sub(r"[^\S\n]+", SPACE, body).replace("\n ", "\n").replace(" \n", "\n")
    body = body.strip("\n" + SPACE)
    every = np.frombuffer(f"{body}\n".encode(), np.uint8)
    separators = np.flatnonzero(every == ord(separator))
    before = np.searchsorted(separators, np.flatnonzero(every == ord("\n")))
    if np.any(np.diff(before, prepend=0) != len(names) - 1):
        return None
    cells = body.replace("\n", separator).split(separator)
    columns = [cells[k :: len(names)] for k in range(len(names))]
    return columns if names[0] not in columns[0] and all(map(str.strip, columns[0])) else None


def _cells_by_line(
    path: str | Path, every: Sequence[str], below: int, separator: str, names: Sequence[str]
) -> tuple[list[Sequence[str]], list[int]]:
    """Cells of each column and the line of each row, from line `below` (from 0) on."""
    kept = [number for number in range(below, len(every)) if _is_row(every[number])]
    body = (SPACE.join(every[n].split()) if separator == SPACE else every[n] for n in kept)
    reader = csv.reader(body, delimiter=separator, skipinitialspace=True, strict=True)
    rows, lines = [], []
    try:
        for row in reader:
            line = kept[reader.line_num - 1] + 1
            if not _fits(row, len(names)):
                _refuse_misfit(path, line, row, len(names), separator)
            row = row[: len(names)]
            if row[0].strip() == names[0] and [cell.strip() for cell in row] == names:
                raise UsageError(f"{path}: line {line} repeats the header: must be one table")
            if any(row):  # spreadsheets end a table with rows of separators alone
                rows.append(row)
                lines.append(line)
    except csv.Error as error:
        raise StoreError(f"{path}: cannot be read as a table: {error}") from None
    return list(zip(*rows, strict=True)) or [()] * len(names), lines


def _table(
    path: str | Path, names: Sequence[str], columns: Sequence[Sequence[str]], lines: Sequence[int], separator: str
) -> TextTable:
    """With the units of a line of units in the names, and without empty columns under no name."""
    if lines and _is_line_of_units([cells[0] for cells in columns]):
        units = [cells[0].strip().strip("()[]{}") for cells in columns]
        names = [f"{name} [{unit}]" if unit else name for name, unit in zip(names, units, strict=True)]
        columns, lines = [cells[1:] for cells in columns], lines[1:]
    kept = [k for k, name in enumerate(names) if name or any(map(str.strip, columns[k]))]
    for k in kept:
        if k > 0 and not names[k]:  # the first may be the numbers of the rows
            first = next(n for n, cell in enumerate(columns[k]) if cell.strip())
            raise UsageError(f"{path}: line {lines[first]}: {columns[k][first]!r} stands under no name")
    return TextTable(tuple(names[k] for k in kept), tuple(columns[k] for k in kept), lines, separator, 1 + len(lines))


def _refuse_misfit(path: str | Path, number: int, row: Sequence[str], n_names: int, separator: str) -> NoReturn:
    hint = ""
    if separator == "," and len(row) > n_names:
        hint = "; decimal commas need semicolons or tabs between the cells"
    elif any(mark in cell for cell in row for mark in SEPARATORS if mark != separator):
        hint = f"; {SEPARATORS.get(separator, 'spaces')} separate the names"
    raise UsageError(f"{path}: line {number} has {len(row)} cells: must have {n_names}{hint}")


def _is_line_of_units(cells: Sequence[str]) -> bool:
    """Whether every cell is empty, a dash, a one or a unit, and at least one is a unit."""
    texts = [cell.strip().strip("()[]{}") for cell in cells]
    return all(text in ("", "-", "1") or is_unit(text) for text in texts) and any(map(is_unit, texts))
