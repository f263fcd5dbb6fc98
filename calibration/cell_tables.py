"""Tables of programming, retention and current over voltage, cell by cell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from calibration.abstract_table import AbstractTable, Labels
from calibration.columns import Choice, Columns, Floats, Part
from calibration.wide import long_form
from device_models.errors import UsageError
from device_models.fit_record import SourceFile


@dataclass(frozen=True, eq=False, kw_only=True)
class ProgrammingTable(AbstractTable):
    """Conductances after programming, one row for each write: g_target_uS, g_uS, [cell], [cycle].

    A cell written several times to one target needs a column cycle. Without cells every row is a cell of its own.
    """

    g_target_uS: Floats
    g_uS: Floats
    cell: Labels

    @classmethod
    def _take(cls, columns: Columns, source: tuple[SourceFile, ...], negative: Choice) -> Self:
        if columns.has("sigma_uS") and not columns.has("g_uS"):
            raise UsageError(f"{columns.where}: has sigma_uS and no g_uS: is a ProgrammingStatistics")
        target = columns.numbers("g_target_uS", low=0.0)
        g = columns.numbers("g_uS", low=0.0, negative=negative)
        cell = columns.words("cell") if columns.has("cell") else np.arange(len(g))
        if columns.has("cell"):
            cycle = {"cycle": columns.words("cycle")} if columns.has("cycle") else {}
            columns.unique({"cell": cell, "g_target_uS": target, **cycle})
        left_out, keep = columns.counts(), columns.keep
        return cls(g_target_uS=target[keep], g_uS=g[keep], cell=cell[keep], source=source, left_out=left_out)


@dataclass(frozen=True, eq=False, kw_only=True)
class RetentionTable(AbstractTable):
    """Conductances of cells over time: cell, t_s, g_uS, [g_target_uS], [temperature_C]; sorted by cell and time.

    Wide form: a row for each cell with columns such as ``g_0.1s_uS``. Pair form, of bakes: g_before_uS at time 0 and
    g_after_uS at t_s. A cell has one value at one time and temperature.
    """

    cell: Labels
    t_s: Floats
    g_uS: Floats
    g_target_uS: Floats | None = None
    temperature_C: Floats | None = None

    @classmethod
    def _reshaped(cls, columns: Columns, negative: Choice) -> Columns:
        pair = [columns.find(f"g_{when}_uS") for when in ("before", "after")]
        if None in pair:
            return long_form(columns, "g_uS", "t_s", low=0.0, negative=negative)
        times = [found for name in ("t_s", "dt_s") if (found := columns.find(name)) is not None]
        if len(times) != 1:
            raise UsageError(f"{columns.where}: has g_before_uS and g_after_uS: must have t_s, the time between them")
        time, unit = times[0]
        t = columns.take(time, unit, "s", low=0.0)
        parts: list[Part] = [
            {"t_s": at, "g_uS": columns.check(column, unit, "uS", low=0.0, negative=negative)}
            for at, (column, unit) in zip((np.zeros(()), t), filter(None, pair), strict=True)
        ]
        return columns.stacked(parts, [time, *(column for column, _ in filter(None, pair))])

    @classmethod
    def _take(cls, columns: Columns, source: tuple[SourceFile, ...], negative: Choice) -> Self:
        cell = columns.words("cell")
        t = columns.numbers("t_s", low=0.0)
        g = columns.numbers("g_uS", low=0.0, negative=negative)
        target = columns.numbers("g_target_uS", low=0.0) if columns.has("g_target_uS") else None
        temperature = columns.numbers("temperature_C", low=-273.15) if columns.has("temperature_C") else None
        left_out, keep = columns.counts(), columns.keep
        keys = {"cell": cell, "t_s": t} | ({} if temperature is None else {"temperature_C": temperature})
        columns.unique(keys)
        order = np.lexsort(tuple(keys[name][keep] for name in ("t_s", "cell", "temperature_C") if name in keys))
        return cls(
            cell=cell[keep][order],
            t_s=t[keep][order],
            g_uS=g[keep][order],
            g_target_uS=None if target is None else target[keep][order],
            temperature_C=None if temperature is None else temperature[keep][order],
            source=source,
            left_out=left_out,
        )

    def matrix(self) -> tuple[Labels, Floats, Floats]:
        """Cells (n,), times (m,) and conductances (n, m); NaN where a cell has no value at a time.

        UsageError for cells at several temperatures.
        """
        if self.temperature_C is not None and len(np.unique(self.temperature_C)) > 1:
            raise UsageError("RetentionTable: has several temperatures: take one before asking for a matrix")
        return _matrix(self.cell, self.t_s, self.g_uS)


@dataclass(frozen=True, eq=False, kw_only=True)
class IVTable(AbstractTable):
    """Static current over voltage of cells: cell, v_V, i_uA; sorted by cell and voltage.

    Wide form: a row for each cell with columns such as ``i_0.05V_uA``.
    """

    cell: Labels
    v_V: Floats
    i_uA: Floats

    @classmethod
    def _reshaped(cls, columns: Columns, negative: Choice) -> Columns:
        return long_form(columns, "i_uA", "v_V", low=-np.inf, negative=None)

    @classmethod
    def _take(cls, columns: Columns, source: tuple[SourceFile, ...], negative: Choice) -> Self:
        cell, v, i = columns.words("cell"), columns.numbers("v_V"), columns.numbers("i_uA")
        left_out, keep = columns.counts(), columns.keep
        columns.unique({"cell": cell, "v_V": v})
        order = np.lexsort((v[keep], cell[keep]))
        return cls(cell=cell[keep][order], v_V=v[keep][order], i_uA=i[keep][order], source=source, left_out=left_out)

    def matrix(self) -> tuple[Labels, Floats, Floats]:
        """Cells (n,), voltages (m,) and currents (n, m); NaN where a cell has no value at a voltage."""
        return _matrix(self.cell, self.v_V, self.i_uA)


def _matrix(cell: Labels, at: Floats, values: Floats) -> tuple[Labels, Floats, Floats]:
    cells, row = np.unique(cell, return_inverse=True)
    places, column = np.unique(at, return_inverse=True)
    matrix = np.full((len(cells), len(places)), np.nan)
    matrix[row, column] = values
    return cells, places, matrix
