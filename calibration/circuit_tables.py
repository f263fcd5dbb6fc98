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
from calibration.measurements import Columns, Floats, Negative, SourceFile, conversion, read_npz, source_file
from device_models.errors import UsageError

_DIRECTIONS = {
    **dict.fromkeys(("up", "increasing", "set", "potentiation", "1"), "up"),
    **dict.fromkeys(("down", "decreasing", "reset", "depression", "-1"), "down"),
}


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
        if not (np.isfinite(self.fs_Hz) and self.fs_Hz > 0):
            raise UsageError(f"ReadTrace: fs_Hz = {self.fs_Hz:g}: must be a finite number above 0 Hz")
        bad = ~(np.isfinite(self.g_uS) & (self.g_uS >= 0))
        if bad.any():
            cell, sample = np.argwhere(bad)[0]
            raise UsageError(
                f"ReadTrace: g_uS[{cell}, {sample}] = {self.g_uS[cell, sample]:g}: must be finite and at least 0 uS "
                f"({int(bad.sum())} of {bad.size} samples)"
            )

    @classmethod
    def from_npz(
        cls, path: str | Path, columns: Mapping[str, str] | None = None, *, negative: Negative = "refuse"
    ) -> Self:
        arrays = read_npz(path)
        source = (source_file(path),)
        renamed = {theirs: own for own, theirs in (columns or {}).items()}
        arrays = {renamed.get(name, name): array for name, array in arrays.items()}
        if "g_uS" not in arrays:
            scalars = {name: a for name, a in arrays.items() if name == "fs_Hz" and a.size == 1}
            traces = {name: a for name, a in arrays.items() if name not in scalars}
            lengths = {name: a.shape for name, a in traces.items()}
            if len(set(lengths.values())) != 1 or any(a.ndim != 1 for a in traces.values()):
                raise UsageError(f"{path}: arrays of shapes {lengths}: must be traces of one length")
            once = {name: np.full(len(next(iter(traces.values()))), a.item()) for name, a in scalars.items()}
            return cls._take(Columns(pd.DataFrame({**traces, **once}), str(path)), source, negative)
        if "fs_Hz" not in arrays or arrays["fs_Hz"].size != 1:
            raise UsageError(f"{path}: array fs_Hz with one value is missing; has {', '.join(arrays)}")
        g = np.atleast_2d(_float_array(arrays["g_uS"], f"{path}: g_uS"))
        level = arrays.get("level", np.arange(len(g)))
        return cls(g_uS=g, fs_Hz=float(arrays["fs_Hz"].item()), level=np.atleast_1d(level), source=source)

    @classmethod
    def _take(cls, columns: Columns, source: tuple[SourceFile, ...], negative: Negative) -> Self:
        pattern = re.compile(r"g_(.+)_([munp]?S)$")
        found = {name: m for name in map(str, columns.frame.columns) if (m := pattern.match(name))}
        if not found and columns.has("g_uS"):
            rows, labels = [columns.numbers("g_uS")], ["0"]
        elif found:
            rows = [columns.numbers(n) * conversion(m[2], "uS", f"{columns.where}: {n}") for n, m in found.items()]
            labels = [m[1] for m in found.values()]
        else:
            raise UsageError(f"{columns.where}: no column g_uS or g_<label>_uS; has {', '.join(columns.frame.columns)}")
        return cls(g_uS=np.stack(rows), fs_Hz=_rate(columns), level=np.array(labels), source=source)


def _rate(columns: Columns) -> float:
    if columns.has("fs_Hz"):
        rates = np.unique(columns.numbers("fs_Hz"))
        rates = rates[np.isfinite(rates)]
        if len(rates) != 1:
            raise UsageError(f"{columns.where}: fs_Hz has {len(rates)} values: must have one")
        return float(rates[0])
    t = columns.numbers("t_s")
    steps = np.diff(t)
    if len(steps) == 0 or not np.all(steps > 0) or np.ptp(steps) > 0.01 * steps.mean():
        raise UsageError(f"{columns.where}: t_s: must ascend in even steps, or give fs_Hz")
    return float(len(steps) / (t[-1] - t[0]))


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
    def _take(cls, columns: Columns, source: tuple[SourceFile, ...], negative: Negative) -> Self:
        words = np.char.lower(columns.words("direction").astype(str))
        for word in np.unique(words):
            if word not in _DIRECTIONS:
                raise UsageError(f"{columns.where}: direction = {str(word)!r}: must be one of {', '.join(_DIRECTIONS)}")
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
    if values.dtype.kind not in "iu":
        raise UsageError(f"{columns.where}: {name} = {values[0]}: must be whole numbers")
    return values.astype(np.int64)


@dataclass(frozen=True, eq=False, kw_only=True)
class ConverterTable(AbstractTable):
    """Codes of a converter over a static input: input, code. The input may be a ramp, up or down, in any unit."""

    input: Floats
    code: NDArray[np.int64]

    @classmethod
    def _take(cls, columns: Columns, source: tuple[SourceFile, ...], negative: Negative) -> Self:
        inputs, codes = columns.numbers("input"), columns.numbers("code")
        left_out, keep = columns.counts(), columns.keep
        _refuse_fractions(columns.where, "code", codes[keep])
        return cls(input=inputs[keep], code=codes[keep].astype(np.int64), source=source, left_out=left_out)


@dataclass(frozen=True, eq=False, kw_only=True)
class ConverterHistogram(AbstractTable):
    """How often a converter gave each code for an input that passes its range evenly: code, count; sorted by code."""

    code: NDArray[np.int64]
    count: NDArray[np.int64]

    @classmethod
    def _take(cls, columns: Columns, source: tuple[SourceFile, ...], negative: Negative) -> Self:
        codes, counts = columns.numbers("code"), columns.numbers("count", low=0.0)
        left_out, keep = columns.counts(), columns.keep
        _refuse_fractions(columns.where, "code", codes[keep])
        _refuse_fractions(columns.where, "count", counts[keep])
        columns.unique({"code": codes})
        order = np.argsort(codes[keep])
        return cls(
            code=codes[keep][order].astype(np.int64),
            count=counts[keep][order].astype(np.int64),
            source=source,
            left_out=left_out,
        )


def _refuse_fractions(where: str, name: str, values: Floats) -> None:
    broken = values != np.round(values)
    if broken.any():
        raise UsageError(f"{where}: {name} = {values[broken][0]:g}: must be a whole number")


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
        whole = np.all([np.isfinite(array).all(axis=1) for array in arrays.values()], axis=0)
        if not whole.any():
            raise UsageError(f"MVMTable: no vector is left of {len(whole)}: all have a gap")
        left_out = (("vector with a gap", int(np.sum(~whole))),) if not whole.all() else ()
        return cls(**{name: array[whole] for name, array in arrays.items()}, source=source, left_out=left_out)

    @classmethod
    def from_npz(
        cls, path: str | Path, columns: Mapping[str, str] | None = None, *, negative: Negative = "refuse"
    ) -> Self:
        arrays: dict[str, NDArray[Any]] = read_npz(path)
        names = {name: (columns or {}).get(name, name) for name in ("x", "y", "y_ideal")}
        for name in ("x", "y"):
            if names[name] not in arrays:
                raise UsageError(f"{path}: array {names[name]} is missing; has {', '.join(arrays)}")
        return cls.of(arrays[names["x"]], arrays[names["y"]], arrays.get(names["y_ideal"]), source=(source_file(path),))

    @classmethod
    def _take(cls, columns: Columns, source: tuple[SourceFile, ...], negative: Negative) -> Self:
        frame = columns.frame

        def block(stem: str) -> Floats | None:
            found = {int(m[1]): n for n in map(str, frame.columns) if (m := re.match(rf"{stem}_(\d+)$", n))}
            if sorted(found) != list(range(len(found))):
                raise UsageError(f"{columns.where}: columns {stem}_<k>: must number from 0 without a gap")
            return frame[[found[k] for k in sorted(found)]].to_numpy(float) if found else None

        x, y = block("x"), block("y")
        if x is None or y is None:
            raise UsageError(
                f"{columns.where}: columns x_0, ... and y_0, ... are needed; has {', '.join(frame.columns)}"
            )
        return cls.of(x, y, block("y_ideal"), source=source)


def _float_array(values: Any, what: str) -> Floats:
    try:
        return np.asarray(values, dtype=float)
    except (TypeError, ValueError):
        raise UsageError(f"{what}: must be an array of numbers") from None
