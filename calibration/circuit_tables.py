"""Tables of traces, pulses, converters and whole products."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from calibration.abstract_table import AbstractTable, Labels
from calibration.columns import MOST_EXACT, Choice, Column, Columns, Floats, checked_names
from calibration.measurements import Sheet, read_npz, source_file
from device_models.errors import UsageError, nearest
from device_models.fit_record import SourceFile
from device_models.table_names import BOUNDS, Heading, Quantity, Unit, find, refuse_other_unit, unit_of
from device_models.table_numbers import OVERFLOW

_DIRECTIONS = {
    **dict.fromkeys(("up", "increasing", "set", "potentiation", "1"), "up"),
    **dict.fromkeys(("down", "decreasing", "reset", "depression", "-1"), "down"),
}


_NO_TRACES = ("sigma", "std", "target", "target_sigma")
"""What a name says of conductances beside their traces, where the label of a cell would stand."""


@dataclass(frozen=True, eq=False, kw_only=True)
class ReadTrace(AbstractTable):
    """Conductance of cells read again and again at an even rate: g_uS (n_cells, n_samples), fs_Hz, level (n_cells,).

    Files have a column or array for each cell, ``g_<label>_uS``, or in npz one array g_uS of all; fs_Hz is a column or
    array that holds one value, or follows from t_s, which must be even. A gap is refused: it would shift the spectrum.
    """

    g_uS: Floats
    fs_Hz: float
    level: Labels

    def __post_init__(self) -> None:
        if self.g_uS.ndim != 2 or self.g_uS.shape[1] < 2 or self.level.shape != self.g_uS.shape[:1]:
            raise UsageError(
                f"ReadTrace: g_uS has shape {self.g_uS.shape} and level {self.level.shape}: must be (n_cells, "
                "n_samples) with at least two samples, and (n_cells,)"
            )
        if self.g_uS.dtype.kind not in "fiu":
            raise UsageError(f"ReadTrace: g_uS has type {self.g_uS.dtype}: must be real numbers")
        if not (np.isfinite(self.fs_Hz) and self.fs_Hz > 0):
            raise UsageError(f"ReadTrace: fs_Hz = {self.fs_Hz:g}: must be a finite number above 0 Hz")
        bad = ~(np.isfinite(self.g_uS) & (self.g_uS >= 0) & (self.g_uS <= BOUNDS["uS"][1]))
        if bad.any():
            cell, sample = np.argwhere(bad)[0]
            raise UsageError(
                f"ReadTrace: g_uS[{cell}, {sample}] = {self.g_uS[cell, sample]:g}: must be finite and at least 0 uS "
                f"({int(bad.sum())} of {bad.size} samples), and at most {BOUNDS['uS'][1]:g} uS"
            )

    @classmethod
    def from_npz(
        cls,
        path: str | Path,
        columns: Mapping[str, str] | None = None,
        *,
        negative: Choice = "refuse",
        overflow: Choice = "refuse",
    ) -> Self:
        arrays, source = _read_arrays(path, columns), (source_file(path),)
        headings = [Heading.of(name) for name in arrays]
        found, rate = (find(Quantity.named(name), headings, str(path)) for name in ("g_uS", "fs_Hz"))
        if found is None:
            fs = None if rate is None else headings[rate[0]].text
            traces = {name: a for name, a in arrays.items() if name != fs or a.size > 1}
            lengths = {name: a.shape for name, a in traces.items()}
            if len(set(lengths.values())) != 1 or any(a.ndim != 1 for a in traces.values()):
                raise UsageError(f"{path}: arrays of shapes {lengths}: must be traces of one length")
            n_samples = len(next(iter(traces.values())))
            once = {name: np.full(n_samples, a.item()) for name, a in arrays.items() if name not in traces}
            sheet = Sheet.of_frame(pd.DataFrame({**traces, **once}), str(path))
            return cls._from_sheet(sheet, source, None, negative, overflow)
        values = list(arrays.values())
        if rate is None or values[rate[0]].size != 1:
            raise UsageError(f"{path}: array fs_Hz with one value is missing; has {', '.join(arrays)}")
        g, fs_Hz = (
            _checked_array(str(path), headings[k].text, values[k], unit, of, overflow)
            for (k, unit), of in ((found, "uS"), (rate, "Hz"))
        )
        if (times := find(Quantity.named("t_s"), headings, str(path))) is not None:
            k, unit = times
            t = _checked_array(str(path), headings[k].text, values[k], unit, "s", overflow).ravel()
            _refuse_other_rate(str(path), float(fs_Hz.item()), _rate_of_times(t))
        level = arrays.get("level", np.arange(len(g)))
        return cls(g_uS=g, fs_Hz=float(fs_Hz.item()), level=np.atleast_1d(level), source=source)

    @classmethod
    def _take(cls, columns: Columns, source: tuple[SourceFile, ...], negative: Choice) -> Self:
        traces = [
            (match[2], column, unit)
            for column in columns
            for letter, of in (("g", "uS"), ("r", "ohm"))
            if (match := re.fullmatch(r"([gGrR])_(.+)", column.heading.stem)) and match[1].lower() == letter
            if (unit := unit_of(column.heading.unit, of)) is not None
        ]
        one = columns.find("g_uS")
        if one is not None and traces:
            raise UsageError(
                f"{columns.where}: has {one[0].heading.text} and traces such as {traces[0][1].heading.text}: must be "
                "one form"
            )
        if one is not None:
            traces = [("0", *one)]
        texts: dict[str, str] = {}
        for label, column, _ in traces:
            text = column.heading.text
            if label.casefold() in _NO_TRACES:
                raise UsageError(f"{columns.where}: column {text} is no trace: must be left out of the file")
            if (other := texts.setdefault(label, text)) != text:
                raise UsageError(f"{columns.where}: columns {other} and {text} are both trace {label}: must be one")
        if not traces:
            raise UsageError(f"{columns.where}: no column g_uS or g_<label>_uS; has {', '.join(columns.names)}")
        g = np.stack([columns.take(column, unit, "uS") for _, column, unit in traces])
        _refuse_gaps(columns)
        fs_Hz = _rate(columns)
        return cls(g_uS=g, fs_Hz=fs_Hz, level=np.array([label for label, _, _ in traces]), source=source)


def _read_arrays(path: str | Path, renamed: Mapping[str, str] | None) -> dict[str, NDArray[Any]]:
    """The arrays of an npz file, those that are `renamed` under the names of this package."""
    arrays, renamed = read_npz(path), checked_names(renamed)
    names = {theirs: own for own, theirs in renamed.items()}
    for own, theirs in renamed.items():
        what = f"{path}: columns[{own!r}] = {theirs!r}"
        if theirs not in arrays:
            raise UsageError(f"{what}: no such array; has {', '.join(arrays)}{nearest(theirs, arrays)}")
        if names[theirs] != own:
            raise UsageError(f"{what}: is {names[theirs]} as well: must be one of them")
        refuse_other_unit(own, theirs, what)
    return {names.get(name, name): array for name, array in arrays.items() if name in names or name not in renamed}


def _refuse_gaps(columns: Columns) -> None:
    if not columns.keep.all():
        reasons = ", ".join(f"{count} with {reason}" for reason, count in columns.left_out.items())
        raise UsageError(
            f"{columns.where}: {columns.place(int(np.argmin(columns.keep)))}: must have a value, because a gap would "
            f"shift the spectrum ({reasons})"
        )


def _rate(columns: Columns) -> float:
    if (rate := columns.find("fs_Hz")) is not None:
        checked = columns.check(*rate, "Hz", low=-np.inf, negative=None)
        for reason, rows in checked.left_out.items():
            if not reason.startswith("no "):  # the rate may stand in some rows only
                columns.leave_out(rows, reason)
        _refuse_gaps(columns)
        rates = np.unique(checked.values[np.isfinite(checked.values)])
        if len(rates) != 1:
            raise UsageError(f"{columns.where}: fs_Hz has {len(rates)} values: must have one")
        if columns.has("t_s"):
            t = columns.numbers("t_s")
            _refuse_gaps(columns)
            _refuse_other_rate(columns.where, float(rates[0]), _rate_of_times(t))
        return float(rates[0])
    t = columns.numbers("t_s")
    _refuse_gaps(columns)
    fs_Hz = _rate_of_times(t)
    if fs_Hz is None:
        raise UsageError(f"{columns.where}: t_s: must ascend in even steps, or give fs_Hz")
    return fs_Hz


def _rate_of_times(t: Floats) -> float | None:
    """The rate of times in even steps; none where they are uneven."""
    steps = np.diff(t)
    if len(steps) == 0 or not np.all(steps > 0) or np.ptp(steps) > 0.01 * steps.mean():
        return None
    return float(len(steps) / (t[-1] - t[0]))


def _refuse_other_rate(where: str, fs_Hz: float, of_times: float | None) -> None:
    """UsageError where times in even steps say another rate; jittered time stamps say none."""
    if of_times is not None and abs(of_times - fs_Hz) > 0.01 * fs_Hz:
        raise UsageError(f"{where}: fs_Hz = {fs_Hz:g}, but t_s has {of_times:g} samples per second: must be the same")


def _checked_array(where: str, name: str, values: NDArray[Any], unit: Unit, of: str, overflow: Choice) -> Floats:
    """Numbers (n, n_samples) in the unit `of` of this package, checked as columns of a table are; gaps are NaN."""
    if values.dtype.kind == "b" or values.ndim > 2:
        raise UsageError(
            f"{where}: {name} has type {values.dtype}, shape {values.shape}: must be (n, n_samples) numbers"
        )
    rows = np.atleast_2d(_float_array(values, f"{where}: {name}"))
    columns = Columns(Sheet.of(where, [f"{name}[{k}]" for k in range(len(rows))], list(rows)), None, overflow)
    return np.stack([columns.take(column, unit, of) for column in columns])


@dataclass(frozen=True, eq=False, kw_only=True)
class PulseTable(AbstractTable):
    """Conductance after each of a series of equal pulses: direction, ramp, pulse, g_uS; sorted by ramp and pulse.

    direction   "up" or "down"; also increasing, set, potentiation, and decreasing, reset, depression
    ramp        number of the series; pulse: number within it, ascending from 0 or 1
    """

    direction: Labels
    ramp: NDArray[np.int64]
    pulse: NDArray[np.int64]
    g_uS: Floats

    @classmethod
    def _take(cls, columns: Columns, source: tuple[SourceFile, ...], negative: Choice) -> Self:
        words = np.char.lower(columns.words("direction").astype(str))
        bad = ~np.isin(words, list(_DIRECTIONS))
        if bad.any():
            row = int(np.argmax(bad))
            raise UsageError(
                f"{columns.where}: direction = {str(words[row])!r}: must be one of {', '.join(_DIRECTIONS)}, in "
                f"{columns.place(row)}"
            )
        direction = np.array([_DIRECTIONS[word] for word in words])
        ramp, pulse = (_whole(columns, name) for name in ("ramp", "pulse"))
        g = columns.numbers("g_uS", low=0.0, negative=negative)
        left_out, keep = columns.counts(), columns.keep
        columns.unique({"direction": direction, "ramp": ramp, "pulse": pulse})
        order = np.lexsort((pulse[keep], direction[keep] == "down", ramp[keep]))
        return cls(
            direction=direction[keep][order],
            ramp=ramp[keep][order],
            pulse=pulse[keep][order],
            g_uS=g[keep][order],
            source=source,
            left_out=left_out,
        )


def _whole(columns: Columns, name: str) -> NDArray[np.int64]:
    values = columns.words(name)
    if values.dtype.kind == "i":
        return values.astype(np.int64)
    broken = [row for row, value in enumerate(values) if not _is_whole(value)]
    if broken:
        raise UsageError(
            f"{columns.where}: {name} = {values[broken[0]]}: must be whole numbers, in {columns.place(broken[0])}"
        )
    return values.astype(float).astype(np.int64)


def _is_whole(value: Any) -> bool:
    try:
        return float(value).is_integer() and abs(float(value)) < MOST_EXACT
    except ValueError:
        return False


@dataclass(frozen=True, eq=False, kw_only=True)
class ConverterTable(AbstractTable):
    """Codes of a converter over a static input: input, code. The input may be a ramp, up or down, in any unit."""

    input: Floats
    code: NDArray[np.int64]

    @classmethod
    def _take(cls, columns: Columns, source: tuple[SourceFile, ...], negative: Choice) -> Self:
        inputs, codes = columns.numbers("input"), columns.numbers("code")
        left_out, keep = columns.counts(), columns.keep
        _refuse_fractions(columns, "code", codes)
        return cls(input=inputs[keep], code=codes[keep].astype(np.int64), source=source, left_out=left_out)


@dataclass(frozen=True, eq=False, kw_only=True)
class ConverterHistogram(AbstractTable):
    """How often a converter gave each code for an input that passes its range evenly: code, count; sorted by code."""

    code: NDArray[np.int64]
    count: NDArray[np.int64]

    @classmethod
    def _take(cls, columns: Columns, source: tuple[SourceFile, ...], negative: Choice) -> Self:
        codes, counts = columns.numbers("code"), columns.numbers("count", low=0.0)
        left_out, keep = columns.counts(), columns.keep
        _refuse_fractions(columns, "code", codes)
        _refuse_fractions(columns, "count", counts)
        columns.unique({"code": codes})
        order = np.argsort(codes[keep])
        return cls(
            code=codes[keep][order].astype(np.int64),
            count=counts[keep][order].astype(np.int64),
            source=source,
            left_out=left_out,
        )


def _refuse_fractions(columns: Columns, name: str, values: Floats) -> None:
    broken = columns.keep & ((values != np.round(values)) | (np.abs(values) >= MOST_EXACT))
    if broken.any():
        row = int(np.argmax(broken))
        raise UsageError(
            f"{columns.where}: {name} = {values[row]:g}: must be a whole number below 2^53, in {columns.place(row)}"
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class MVMTable(AbstractTable):
    """Measured matrix-vector products: x (n, rows), y (n, columns), y_ideal (n, columns) or none.

    In npz arrays x, y, [y_ideal]; in a table columns x_0, x_1, ..., y_0, ..., [y_ideal_0, ...]. Vectors with a gap are
    left out and counted.
    """

    x: Floats
    y: Floats
    y_ideal: Floats | None = None

    @classmethod
    def of(
        cls, x: ArrayLike, y: ArrayLike, y_ideal: ArrayLike | None = None, *, source: tuple[SourceFile, ...] = ()
    ) -> Self:
        """From arrays; UsageError where the shapes do not belong together, or a value is infinite."""
        given = {"x": x, "y": y} | ({} if y_ideal is None else {"y_ideal": y_ideal})
        arrays = {name: _float_array(values, f"MVMTable: {name}") for name, values in given.items()}
        shapes = {name: a.shape for name, a in arrays.items()}
        ideal_fits = y_ideal is None or shapes["y_ideal"] == shapes["y"]
        if any(len(shape) != 2 for shape in shapes.values()) or shapes["x"][0] != shapes["y"][0] or not ideal_fits:
            raise UsageError(f"MVMTable: shapes {shapes}: must be x (n, rows), y and y_ideal (n, columns)")
        for name, array in arrays.items():
            if np.isinf(array).any():
                raise UsageError(f"MVMTable: {name} has {int(np.isinf(array).sum())} infinite values: must be finite")
            over = np.abs(array) >= OVERFLOW
            if over.any():
                row, column = np.argwhere(over)[0]
                raise UsageError(
                    f"MVMTable: {name}[{row}, {column}] = {array[row, column]:g}: is an overflow of the instrument: "
                    f"must be a measurement ({int(over.sum())} of {over.size} values)"
                )
        whole = np.all([np.isfinite(array).all(axis=1) for array in arrays.values()], axis=0)
        if not whole.any():
            raise UsageError(f"MVMTable: no vector is left of {len(whole)}: all have a gap")
        left_out = (("vector with a gap", int(np.sum(~whole))),) if not whole.all() else ()
        return cls(**{name: array[whole] for name, array in arrays.items()}, source=source, left_out=left_out)

    @classmethod
    def from_npz(
        cls,
        path: str | Path,
        columns: Mapping[str, str] | None = None,
        *,
        negative: Choice = "refuse",
        overflow: Choice = "refuse",
    ) -> Self:
        arrays, names = _read_arrays(path, columns), ("x", "y", "y_ideal")
        for own in columns or {}:
            if own not in names:
                raise UsageError(f"{path}: columns[{own!r}]: cannot act; must be one of {', '.join(names)}")
        for name in ("x", "y"):
            if name not in arrays:
                raise UsageError(f"{path}: array {name} is missing; has {', '.join(arrays)}")
        given = [_float_array(arrays[name], f"{path}: {name}") for name in names if name in arrays]
        if overflow == "leave_out":
            given = [np.where(np.abs(array) >= OVERFLOW, np.nan, array) for array in given]
        return cls.of(*given, source=(source_file(path),))

    @classmethod
    def _take(cls, columns: Columns, source: tuple[SourceFile, ...], negative: Choice) -> Self:
        def block(stem: str) -> Floats | None:
            found: dict[int, Column] = {}
            for column in columns:  # first those that columns= names
                if match := re.fullmatch(rf"(?i:{stem})_([0-9]+)", column.heading.plain):
                    other = found.setdefault(int(match[1]), column).heading.text
                    if other != column.heading.text and other not in columns.renamed:
                        raise UsageError(
                            f"{columns.where}: columns {other} and {column.heading.text} are both {stem}_{match[1]}: "
                            "must be one"
                        )
            if sorted(found) != list(range(len(found))):
                raise UsageError(f"{columns.where}: columns {stem}_<k>: must number from 0 without a gap")
            taken = [columns.take(found[k], Unit("", 1.0), "") for k in sorted(found)]
            return np.stack(taken, axis=1) if taken else None

        x, y = block("x"), block("y")
        if x is None or y is None:
            raise UsageError(
                f"{columns.where}: columns x_0, ... and y_0, ... are needed; has {', '.join(columns.names)}"
            )
        return cls.of(x, y, block("y_ideal"), source=source)


def _float_array(values: Any, what: str) -> Floats:
    if np.iscomplexobj(values):
        raise UsageError(f"{what}: has complex numbers: must be real")
    try:
        return np.asarray(values, dtype=float)
    except (TypeError, ValueError):
        raise UsageError(f"{what}: must be an array of numbers") from None
