"""Files of measurements as columns of numbers in this package's units, with what was left out counted."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from device_models.errors import StoreError, UsageError, nearest
from device_models.fit_record import SourceFile
from device_models.units import SECONDS

Floats = NDArray[np.float64]
Negative = Literal["refuse", "leave_out"]

_PREFIXES = {"": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9, "p": 1e-12}
_IN = {  # what one of a unit is in the unit that the package uses
    "uS": {f"{prefix}S": factor / 1e-6 for prefix, factor in _PREFIXES.items()},
    "s": SECONDS,
    "V": {f"{prefix}V": factor for prefix, factor in _PREFIXES.items()},
    "uA": {f"{prefix}A": factor / 1e-6 for prefix, factor in _PREFIXES.items()},
    "Hz": {"Hz": 1.0, "kHz": 1e3, "MHz": 1e6},
    "C": {"C": 1.0},
}


def conversion(unit: str, to: str, what: str) -> float:
    """Factor from a unit to that of the package (uS, s, V, uA, Hz, C); UsageError for a unit it does not know."""
    known = _IN[to]
    if unit not in known:
        raise UsageError(f"{what}: unit {unit!r} is unknown; accepted: {', '.join(known)}{nearest(unit, known)}")
    return known[unit]


def source_file(path: str | Path) -> SourceFile:
    """Name and SHA-256 of a file; StoreError where it cannot be read."""
    try:
        with Path(path).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256")
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror or error}") from None
    return SourceFile(name=Path(path).name, sha256=digest.hexdigest())


def read_csv(path: str | Path) -> pd.DataFrame:
    """A CSV file with a header; empty cells are gaps, and so are nan and NA."""
    try:
        frame = pd.read_csv(path, skipinitialspace=True, encoding="utf-8-sig")
    except (OSError, ValueError, pd.errors.ParserError) as error:  # ValueError: no columns, not UTF-8
        raise StoreError(f"{path}: cannot be read as a table: {error}") from None
    return frame.rename(columns=lambda name: str(name).strip())


def read_parquet(path: str | Path) -> pd.DataFrame:
    """A Parquet file; UsageError where pyarrow is not installed."""
    try:
        return pd.read_parquet(path, engine="pyarrow")
    except ImportError:
        raise UsageError(f"{path}: reading Parquet needs pyarrow: pip install pyarrow, or give CSV or npz") from None
    except (OSError, ValueError) as error:
        raise StoreError(f"{path}: cannot be read as a table: {error}") from None


def read_npz(path: str | Path) -> dict[str, NDArray[Any]]:
    """The arrays of an npz file; pickled objects are refused."""
    try:
        with np.load(path, allow_pickle=False) as data:
            if not isinstance(data, np.lib.npyio.NpzFile):
                raise ValueError("holds a single array; must be an npz file with named arrays")
            return {name: data[name] for name in data.files}
    except (OSError, ValueError, EOFError, AttributeError) as error:
        raise StoreError(f"{path}: cannot be read as npz: {error}") from None


class Columns:
    """Columns of one table, checked as they are taken, and the rows that are left out.

    where     what error messages begin with, e.g. the file name
    renamed   names in the table by the names of this package
    """

    def __init__(self, frame: pd.DataFrame, where: str, renamed: Mapping[str, str] | None = None):
        for own, theirs in (renamed or {}).items():
            if theirs not in frame.columns:
                raise UsageError(
                    f"{where}: columns[{own!r}] = {theirs!r}: no such column; has {_names(frame)}"
                    f"{nearest(theirs, map(str, frame.columns))}"
                )
        if len(frame) == 0:
            raise UsageError(f"{where}: has no rows")
        self.frame = frame.rename(columns={theirs: own for own, theirs in (renamed or {}).items()})
        twice = self.frame.columns[self.frame.columns.duplicated()]
        if len(twice):
            raise UsageError(f"{where}: column {twice[0]!r} appears more than once")
        self.where = where
        self.keep = np.ones(len(frame), bool)
        self.left_out: dict[str, int] = {}

    def has(self, name: str) -> bool:
        return self._find(name) is not None

    def numbers(self, name: str, *, low: float = -np.inf, negative: Negative = "refuse") -> Floats:
        """A column of numbers in the unit of `name` (``g_uS``); ``g_nS`` is found and converted as well.

        Gaps are left out of the table and counted. Text, infinity and values below `low` are refused with their row;
        negative="leave_out" leaves out and counts values below 0 instead.
        """
        found = self._find(name)
        if found is None:
            raise UsageError(f"{self.where}: column {name} is missing; has {_names(self.frame)}{self._hint(name)}")
        column, factor = found
        values = pd.to_numeric(self.frame[column], errors="coerce").to_numpy(float, na_value=np.nan)
        gap = self.frame[column].isna().to_numpy()
        self._refuse(column, np.isnan(values) & ~gap | np.isinf(values), "must be a finite number")
        self.leave_out(gap, f"no {column}")
        if negative == "leave_out" and low == 0.0:
            self.leave_out(values < 0, f"negative {column}")
        else:
            rule = f"must be at least {low:g}"
            hint = '; negative="leave_out" leaves such rows out' if low == 0.0 and name.endswith("uS") else ""
            self._refuse(column, values < low, rule + hint)
        return values * factor

    def words(self, name: str) -> NDArray[Any]:
        """A column of labels: whole numbers or texts; a gap is refused."""
        if name not in self.frame.columns:
            raise UsageError(f"{self.where}: column {name} is missing; has {_names(self.frame)}")
        column = self.frame[name]
        self._refuse(name, column.isna().to_numpy(), "must be given in every row")
        labels = column.to_numpy()
        if labels.dtype.kind == "f" and np.all(labels == np.floor(labels)):
            return labels.astype(np.int64)
        return labels.astype(str) if labels.dtype.kind == "O" else labels

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

    def _find(self, name: str) -> tuple[str, float] | None:
        if name in self.frame.columns:
            return name, 1.0
        stem, _, own = name.rpartition("_")
        for unit, factor in _IN.get(own, {}).items():
            if f"{stem}_{unit}" in self.frame.columns:
                return f"{stem}_{unit}", factor
        return None

    def _hint(self, name: str) -> str:
        stem, _, own = name.rpartition("_")
        same = [str(c) for c in self.frame.columns if str(c).rpartition("_")[0] == stem]
        if own in _IN and same:
            return f"; {same[0]} has a unit that is unknown; accepted: {', '.join(_IN[own])}"
        return nearest(name, map(str, self.frame.columns)) + '; columns={"own": "theirs"} names them'

    def _refuse(self, column: str, bad: NDArray[np.bool_], rule: str) -> None:
        if bad.any():
            row = int(np.argmax(bad))
            value = self.frame[column].iloc[row]
            raise UsageError(
                f"{self.where}: {column} = {value} in row {row + 1}: {rule} ({int(bad.sum())} of {len(bad)} rows)"
            )

    def leave_out(self, which: NDArray[np.bool_], reason: str) -> None:
        """Take rows out of the table and count those that were still in it."""
        new = which & self.keep
        if new.any():
            self.left_out[reason] = int(new.sum())
            self.keep &= ~which


def long_form(frame: pd.DataFrame, what: str, axis: str, where: str) -> pd.DataFrame:
    """A wide table as a long one: columns ``<what>_<number><unit of axis>_<unit of what>`` become rows.

    what = "g_uS", axis = "t_s": ``g_0.1s_uS`` becomes g_uS at t_s = 0.1. A table without such columns is returned as
    it is; one that has both forms is refused.
    """
    stem, _, unit = what.rpartition("_")
    axis_unit = axis.rpartition("_")[2]
    pattern = re.compile(rf"{stem}_([-+]?[0-9.]+(?:[eE][-+]?[0-9]+)?)([a-zA-Z]+)_([a-zA-Z]+)$")
    found = {str(name): match for name in frame.columns if (match := pattern.match(str(name)))}
    if not found:
        return frame
    if what in frame.columns or axis in frame.columns:
        raise UsageError(
            f"{where}: has {what} or {axis} and wide columns such as {next(iter(found))}: must be one form"
        )
    others = [name for name in frame.columns if name not in found]
    parts = []
    for name, match in found.items():
        at = float(match[1]) * conversion(match[2], axis_unit, f"{where}: column {name}")
        factor = conversion(match[3], unit, f"{where}: column {name}")
        numbers = pd.to_numeric(frame[name], errors="coerce")
        bad = numbers.isna() & frame[name].notna()
        if bad.any():
            raise UsageError(f"{where}: {name} = {frame[name][bad].iloc[0]!r}: must be a number")
        part = frame[others].copy()
        part[axis], part[what] = at, numbers * factor
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def _names(frame: pd.DataFrame) -> str:
    names: Iterable[str] = map(str, frame.columns)
    return ", ".join(names)
