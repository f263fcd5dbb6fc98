"""Table of threshold voltages of charge-trap cells over time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from calibration.abstract_table import AbstractTable, Labels
from calibration.columns import Choice, Columns, Floats
from device_models.fit_record import SourceFile


@dataclass(frozen=True, eq=False, kw_only=True)
class ThresholdTable(AbstractTable):
    """One row for each read: t_s, vt_V, state, [cell].

    t_s     since programming; reads at 0 s are left out and counted, as the laws are over ln t
    state   to which a cell was written, such as programmed and erased
    cell    which reads are of one cell; none: not known, as where points were read off a figure
    """

    t_s: Floats
    vt_V: Floats
    state: Labels
    cell: Labels | None = None

    @classmethod
    def _take(cls, columns: Columns, source: tuple[SourceFile, ...], negative: Choice) -> Self:
        t, vt, state = columns.numbers("t_s", low=0.0), columns.numbers("vt_V"), columns.words("state")
        cell = columns.words("cell") if columns.has("cell") else None
        columns.leave_out(t == 0, "t_s of 0, which has no logarithm")
        left_out, keep = columns.counts(), columns.keep
        if cell is not None:
            columns.unique({"state": state, "cell": cell, "t_s": t})
        return cls(
            t_s=t[keep],
            vt_V=vt[keep],
            state=state[keep],
            cell=None if cell is None else cell[keep],
            source=source,
            left_out=left_out,
        )
