"""Columns of one table of measurements: found by name and unit, checked as they are taken, left out with a count."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from calibration.measurements import Sheet
from device_models.errors import UsageError, nearest
from device_models.table_names import UNITS, Heading, Quantity, Unit, find, refuse_other_unit
from device_models.table_numbers import DecimalMarks, faults, numbers

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
Choice = Literal["refuse", "leave_out"]
"""What to do with rows that hold a negative conductance, or the overflow of an instrument."""

MOST_EXACT = 2.0**53
"""Whole numbers below are told apart as floats."""


class Column(NamedTuple):
    """A column under the name by which it is looked for."""

    heading: Heading
    cells: NDArray[Any]


class Checked(NamedTuple):
    """Numbers in the package's unit, NaN where rows are left out, and these rows by reason."""

    values: Floats
    left_out: dict[str, Mask]


Part = dict[str, Checked | Floats]
"""Columns of a part of a table that become one: as checked, or as they are."""


def checked_names(renamed: Mapping[str, str] | None) -> dict[str, str]:
    """Names in the table by the names of this package; UsageError where they are anything else."""
    if renamed is None:
        return {}
    if not isinstance(renamed, Mapping) or not all(isinstance(name, str) for pair in renamed.items() for name in pair):
        raise UsageError(f'columns = {renamed!r}: must be names by names, such as {{"g_uS": "G"}}')
    return dict(renamed)


class Columns:
    """Columns of one table, checked as they are taken, and the rows that are left out.

    renamed    names in the table by the names of this package; these are taken, whatever else the table has
    overflow   whether rows with the overflow of an instrument are refused or left out
    """

    def __init__(self, sheet: Sheet, renamed: Mapping[str, str] | None = None, overflow: Choice = "refuse"):
        self.where, self.overflow = sheet.where, overflow
        self.is_text, self.separator = sheet.lines is not None, sheet.separator
        self.renamed = checked_names(renamed)
        columns = dict(zip(sheet.names, sheet.columns, strict=True))
        theirs = {own: self._named(own, name, sheet.names) for own, name in self.renamed.items()}
        self.given = [Column(Heading.of(own), columns[name]) for own, name in theirs.items()]
        self.others = [
            Column(Heading.of(name), cells) for name, cells in columns.items() if name not in theirs.values()
        ]
        n_rows = len(sheet.columns[0]) if sheet.columns else 0
        if n_rows == 0:
            raise UsageError(f"{self.where}: has no rows")
        self.rows, self.lines = np.arange(n_rows), sheet.lines
        self.keep = np.ones(n_rows, bool)
        self.left_out: dict[str, int] = {}
        self.marks = DecimalMarks(self.where)
        self.asked: set[str] = set()
        self.taken: set[str] = set()

    def _named(self, own: str, theirs: str, names: Sequence[str]) -> str:
        what = f"{self.where}: columns[{own!r}] = {theirs!r}"
        with_unit = [name for name in names if name == theirs or name.startswith(f"{theirs} [")]  # from a line of units
        if not with_unit:
            raise UsageError(f"{what}: no such column; has {', '.join(names)}{nearest(theirs, names)}")
        twice = [other for other, name in self.renamed.items() if name == theirs and other != own]
        if twice:
            raise UsageError(f"{what}: is {twice[0]} as well: must be one of them")
        name = theirs if theirs in with_unit else with_unit[0]
        refuse_other_unit(own, name, what)
        return name

    def __iter__(self) -> Iterator[Column]:
        yield from self.given
        yield from self.others

    @property
    def names(self) -> list[str]:
        return [column.heading.text for column in self]

    def has(self, name: str) -> bool:
        return self.find(name) is not None

    def numbers(self, name: str, *, low: float = -np.inf, negative: Choice | None = None) -> Floats:
        """A column of numbers in the unit of `name` (``g_uS``); ``G (nS)`` and ``r_kohm`` are found and converted.

        Gaps are left out of the table and counted. Text, overflows of instruments, values below `low` and what no
        device can have are refused with their row. negative="leave_out" leaves out and counts negative values instead;
        none: there is no such choice.
        """
        found = self.find(name)
        if found is None:
            raise UsageError(f"{self.where}: column {name} is missing; has {', '.join(self.names)}{self._hint(name)}")
        return self.take(*found, Quantity.named(name).of, low=low, negative=negative)

    def take(
        self, column: Column, unit: Unit, of: str, *, low: float = -np.inf, negative: Choice | None = None
    ) -> Floats:
        """The numbers of one column, as of `numbers`; of: the package's unit, empty for a pure number."""
        checked = self.check(column, unit, of, low=low, negative=negative)
        for reason, rows in checked.left_out.items():
            self.leave_out(rows, reason)
        return checked.values

    def check(self, column: Column, unit: Unit, of: str, *, low: float, negative: Choice | None) -> Checked:
        """As of `take`, with the rows that are to be left out, which the table still has."""
        name, texts = column.heading.text, column.cells
        self.taken.add(name)
        if texts.dtype.kind not in "fiubO":
            self._refuse(column, np.ones(len(texts), bool), "must be a number")
        if of and texts.dtype.kind in "bO":  # a flag is a number only where it is pure
            self._refuse(column, np.array([isinstance(cell, bool | np.bool_) for cell in texts]), "must be a number")
        cells = numbers(texts, self.separator)
        if cells.mark:
            self.marks.add(cells.mark, self._place(column, cells.marked))
        values = unit.convert(cells.values)
        left_out, gone = {f"no {name}": cells.gap}, cells.gap.copy()
        choices: dict[str, Choice | None] = {"overflow": self.overflow, "negative": negative}
        for fault in faults(cells, values, unit, of, low):
            rows = fault.rows & ~gone
            if choices.get(fault.kind) == "leave_out":
                gone |= rows
                reason = f"{fault.kind} {name}"
                left_out[reason] = left_out.get(reason, rows) | rows
            elif rows.any():
                has_choice = choices.get(fault.kind) is not None
                hint = f'; {fault.kind}="leave_out" leaves such rows out' if has_choice else ""
                self._refuse(column, rows, fault.rule, hint)
        values[gone] = np.nan
        return Checked(values, left_out)

    def words(self, name: str) -> NDArray[Any]:
        """A column of labels: whole numbers or texts; a gap is refused."""
        found = self.find(name)
        if found is None:
            raise UsageError(f"{self.where}: column {name} is missing; has {', '.join(self.names)}{self._hint(name)}")
        column = found[0]
        self.taken.add(column.heading.text)
        labels = column.cells
        if labels.dtype.kind == "O":
            many = [isinstance(label, list | tuple | dict | set | np.ndarray) for label in labels]
            self._refuse(column, np.array(many), "must be a number or a text")
        if self.is_text and labels.dtype.kind == "O":
            labels = np.array([text.strip() for text in labels], object)
            if (whole := _whole(labels)) is not None and _tells_apart(labels, whole):
                return whole
        cells = numbers(labels, self.separator)
        self._refuse(column, cells.gap, "must be given in every row")
        if self.is_text and np.all(np.abs(cells.values) < MOST_EXACT) and _tells_apart(labels, cells.values):
            labels = cells.values
        elif labels.dtype.kind == "O" and not _tells_apart(labels, labels.astype(str)):
            self._refuse(column, _of_other_type(labels), f"must be of one type, as {labels[0]!r} in row 1 is")
        if labels.dtype.kind == "f" and np.all((labels == np.floor(labels)) & (np.abs(labels) < MOST_EXACT)):
            return labels.astype(np.int64)
        return labels.astype(str) if labels.dtype.kind == "O" else labels

    def flags(self, name: str) -> Floats:
        """As `numbers`, of 0 and 1, which a file may call false and true."""
        found = self.find(name)
        if found is None or found[0].cells.dtype.kind != "O":
            return self.numbers(name)
        column, unit = found
        words = {"true": 1.0, "false": 0.0}
        cells = [words.get(str(cell).strip().casefold(), cell) for cell in column.cells]
        return self.take(column._replace(cells=np.array(cells, object)), unit, "")

    def unique(self, keys: Mapping[str, NDArray[Any]]) -> None:
        """UsageError where two rows that are kept have the same keys."""
        frame = pd.DataFrame({name: np.asarray(values)[self.keep] for name, values in keys.items()})
        twice = frame.duplicated()
        if twice.any():
            first = ", ".join(f"{name} = {frame[name][twice].iloc[0]}" for name in frame)
            raise UsageError(f"{self.where}: {first} appears more than once ({int(twice.sum())} rows too many)")

    def counts(self) -> tuple[tuple[str, int], ...]:
        """What was left out, after a check that something is left."""
        if not self.keep.any():
            reasons = ", ".join(f"{count} with {reason}" for reason, count in self.left_out.items())
            raise UsageError(f"{self.where}: no row is left of {len(self.keep)}: {reasons}")
        return tuple(self.left_out.items())

    def leave_out(self, which: Mask, reason: str) -> None:
        """Take rows out of the table and count those that were still in it."""
        new = which & self.keep
        if new.any():
            self.left_out[reason] = int(new.sum())
            self.keep &= ~which

    def place(self, row: int) -> str:
        """Where a row stands: its number in the table, and its line in the file."""
        own = int(self.rows[row])
        return f"row {own + 1}" if self.lines is None else f"row {own + 1} (line {self.lines[own]})"

    def refuse_unused_names(self, kind: str) -> None:
        """UsageError for a renamed column that the table did not take."""
        for column in self.given:
            own = column.heading.text
            if own not in self.taken:
                raise UsageError(
                    f"{self.where}: columns[{own!r}] = {self.renamed[own]!r}: cannot act; {kind} asks for "
                    f"{', '.join(sorted(self.asked))}{nearest(own, self.asked)}"
                )

    def stacked(self, parts: Sequence[Part], used: Iterable[Column]) -> Columns:
        """A table with a row for each part and row: columns of each part, and beside them those that are not `used`."""
        new = copy(self)
        n_parts, n_rows = len(parts), len(self.rows)
        gone = [column.heading.text for column in used]

        def repeated(columns: list[Column]) -> list[Column]:
            return [c._replace(cells=np.tile(c.cells, n_parts)) for c in columns if c.heading.text not in gone]

        new.given, new.others = repeated(self.given), repeated(self.others)
        new.rows = np.tile(self.rows, n_parts)
        new.keep, new.left_out = np.ones(n_parts * n_rows, bool), {}
        for name in parts[0]:
            values = [part[name] for part in parts]
            cells = np.concatenate([np.broadcast_to(v.values if isinstance(v, Checked) else v, n_rows) for v in values])
            new.others.append(Column(Heading.of(name), cells))
            reasons: dict[str, Mask] = {}
            for number, v in enumerate(values):
                for reason, rows in (v.left_out if isinstance(v, Checked) else {}).items():
                    word = f"{reason.partition(' ')[0]} {name}"
                    reasons.setdefault(word, np.zeros(n_parts * n_rows, bool))[number * n_rows :][:n_rows] |= rows
            for reason, rows in reasons.items():
                new.leave_out(rows, reason)
        return new

    def find(self, name: str) -> tuple[Column, Unit] | None:
        """The column that holds a quantity, and its unit; none: there is no such column."""
        self.asked.add(name)
        quantity = Quantity.named(name)
        for columns in (self.given, self.others):
            found = find(quantity, [column.heading for column in columns], self.where)
            if found is not None:
                return columns[found[0]], found[1]
        return None

    def _hint(self, name: str) -> str:
        stem, _, own = name.rpartition("_")
        same = [other for other in self.names if other.rpartition("_")[0] == stem]
        if own in UNITS and same:
            return f"; {same[0]} has a unit that is unknown; accepted: {', '.join(UNITS[own])}"
        return nearest(name, self.names) + '; columns={"own": "theirs"} names them'

    def _place(self, column: Column, row: int) -> str:
        value = column.cells[row]
        text = repr(value) if isinstance(value, str) and not value.strip() else str(value).strip()
        return f"{column.heading.text} = {text} in {self.place(row)}"

    def _refuse(self, column: Column, bad: Mask, rule: str, hint: str = "") -> None:
        if bad.any():
            raise UsageError(
                f"{self.where}: {self._place(column, int(np.argmax(bad)))}: {rule} "
                f"({int(bad.sum())} of {len(bad)} rows){hint}"
            )


def _tells_apart(labels: NDArray[Any], read: NDArray[Any]) -> bool:
    """Whether labels that differ still do as they are read: cells 1.1 and 1.10 are one number."""
    return len(set(labels.tolist())) == len(set(read.tolist()))


def _of_other_type(labels: NDArray[Any]) -> Mask:
    return np.array([type(label) is not type(labels[0]) for label in labels])


def _whole(texts: NDArray[Any]) -> NDArray[np.int64] | None:
    """Texts as whole numbers; none where one of them is not."""
    try:
        whole = np.fromiter(map(int, texts), np.int64, len(texts))
    except (ValueError, OverflowError):
        return None
    return None if any("_" in text for text in texts) else whole  # int reads 1_000
