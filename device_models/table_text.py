"""Text files of measurements as named columns of cells, with any of the separators, encodings and line ends in use."""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

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

Line = tuple[int, str]
"""A line with its number in the file, from 1."""


@dataclass(frozen=True)
class TextTable:
    """Cells as they are written, by column.

    names       of the columns; a unit from a line of units under the header is appended in brackets
    columns     the cells of each column; empty texts are gaps
    lines       line of each row in the file
    separator   what stands between cells; a space stands for any white space
    n_lines     lines of the file that are neither blank nor comments
    """

    names: tuple[str, ...]
    columns: tuple[tuple[str, ...], ...]
    lines: tuple[int, ...]
    separator: str
    n_lines: int

    @property
    def has_decimal_commas(self) -> bool:
        """Whether a comma in a number can be a decimal comma."""
        return self.separator != ","


def read_table(path: str | Path) -> TextTable:
    """A text file with a header; a file without any line has no names.

    Lines that are blank or begin with #, % or // are passed over. Where names stand only in a comment, in the line
    above the first row, they are taken from there.

    Errors   StoreError: the file cannot be read as text; UsageError: a row that does not fit the header, with its line
    """
    text = _text(path)
    declared = re.match(r"sep=(.)(?=\n)", text)  # as spreadsheets write it
    every = list(enumerate(text.split("\n"), start=1))[1 if declared else 0 :]
    lines = [(n, line) for n, line in every if line and not line.isspace() and not line.lstrip().startswith(COMMENTS)]
    if not lines:
        return TextTable((), (), (), ",", 0)
    n_lines = len(lines)
    if _holds_numbers(lines[0][1]):
        lines = [_commented_header(path, every, lines[0]), *lines]
    separator = declared[1] if declared else _separator(path, lines)
    try:
        return _table(path, lines, separator, n_lines)
    except csv.Error as error:
        raise StoreError(f"{path}: cannot be read as a table: {error}") from None


def _text(path: str | Path) -> str:
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


def _commented_header(path: str | Path, every: Sequence[Line], first: Line) -> Line:
    """The comment above the first row, as numpy.savetxt writes names; UsageError where there is none."""
    above = every[first[0] - every[0][0] - 1] if first[0] > every[0][0] else (0, "")
    names = above[1].strip().lstrip("#%/").strip()
    if not above[1].lstrip().startswith(COMMENTS) or not names:
        raise UsageError(f"{path}: line {first[0]} holds numbers: must be a header, such as cell,t_s,g_uS")
    return above[0], names


def _separator(path: str | Path, lines: Sequence[Line]) -> str:
    """The separator of the header; where it has several, the one by which the rows below have as many cells."""
    in_header = [mark for mark in SEPARATORS if len(_cells(lines[0][1], mark)) > 1]
    if not in_header:
        return SPACE if len(_spaced_names(lines[0][1])) > 1 else ","
    if len(in_header) == 1:
        return in_header[0]
    found = []
    for mark in in_header:
        n_names = len(_without_empty_end(_cells(lines[0][1], mark)))
        if all(_fits(_cells(line, mark), n_names) for _, line in lines[1 : SAMPLE + 1]):
            found.append(mark)
    if len(found) != 1:
        marks = " and ".join(SEPARATORS[mark] for mark in in_header)
        raise UsageError(f"{path}: line {lines[0][0]} has {marks}: one of them must separate the names")
    return found[0]


def _cells(line: str, separator: str) -> list[str]:
    """The cells of one line; a line with an open quote is one cell."""
    try:
        return next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])
    except csv.Error:
        return [line]


def _spaced_names(line: str) -> list[str]:
    """Names between white space; a bracket belongs to the name ahead of it."""
    if '"' in line:
        return _cells(SPACE.join(line.split()), SPACE)
    return re.split(r"\s+(?![(\[{])", line.strip())


def _without_empty_end(cells: list[str]) -> list[str]:
    while cells and not cells[-1].strip():
        cells = cells[:-1]
    return cells


def _fits(cells: Sequence[str], n_names: int) -> bool:
    """Whether there is a cell for each name, and beyond these none but empty ones."""
    return len(cells) >= n_names and not any(cell.strip() for cell in cells[n_names:])


def _table(path: str | Path, lines: Sequence[Line], separator: str, n_lines: int) -> TextTable:
    body: Iterator[str] = (line for _, line in lines[1:])
    if separator == SPACE:
        header = _spaced_names(lines[0][1])
        body = (SPACE.join(line.split()) for line in body)
    else:
        header, body = [], (line for _, line in lines)
    reader = csv.reader(body, delimiter=separator, skipinitialspace=True, strict=True)
    offset = 0 if separator == SPACE else -1
    header = _without_empty_end([name.strip() for name in header or next(reader)])
    rows, numbers = [], []
    for row in reader:
        number = lines[reader.line_num + offset][0]
        if len(row) != len(header):
            _refuse_misfit(path, number, row, len(header), separator)
            row = row[: len(header)]
        if row[0] == header[0] and [cell.strip() for cell in row] == header:
            raise UsageError(f"{path}: line {number} repeats the header: must be one table")
        if any(row):  # spreadsheets end a table with rows of separators alone
            rows.append(row)
            numbers.append(number)
    if rows and _is_line_of_units(rows[0]):
        units = [cell.strip().strip("()[]{}") for cell in rows[0]]
        header = [f"{name} [{unit}]" if unit else name for name, unit in zip(header, units, strict=True)]
        rows, numbers = rows[1:], numbers[1:]
    columns = list(zip(*rows, strict=True)) or [()] * len(header)
    kept = [k for k, name in enumerate(header) if name or any(columns[k])]
    for k in kept:
        if k > 0 and not header[k]:  # the first may be the numbers of the rows
            row = next(n for n, cell in enumerate(columns[k]) if cell)
            raise UsageError(f"{path}: line {numbers[row]}: {columns[k][row]!r} stands under no name")
    return TextTable(
        tuple(header[k] for k in kept), tuple(columns[k] for k in kept), tuple(numbers), separator, n_lines
    )


def _refuse_misfit(path: str | Path, number: int, row: Sequence[str], n_names: int, separator: str) -> None:
    if _fits(row, n_names):
        return
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
