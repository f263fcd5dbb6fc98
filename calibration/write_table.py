"""Table of writes with verification: into which window, with how many attempts, and whether they succeeded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from calibration.abstract_table import AbstractTable
from calibration.columns import MOST_EXACT, Choice, Columns, Floats
from device_models.errors import UsageError
from device_models.fit_record import SourceFile


@dataclass(frozen=True, eq=False, kw_only=True)
class WriteVerifyTable(AbstractTable):
    """One row for each write: g_low_uS, g_high_uS, max_attempts, accepted, [attempts], [g_after_uS], [cell].

    g_low_uS, g_high_uS   the window that is accepted; r_high_ohm and r_low_ohm, or target_r_hi_ohm and
                          target_r_lo_ohm, are converted
    max_attempts          attempts after which the write is given up
    accepted              1 where a read found the conductance in the window, else 0
    attempts              attempts that were used, up to max_attempts; without it only success counts
    g_after_uS            conductance at the last verifying read
    cell                  without cells every write is a cell of its own
    """

    g_low_uS: Floats
    g_high_uS: Floats
    max_attempts: NDArray[np.int64]
    accepted: NDArray[np.bool_]
    cell: NDArray
    attempts: NDArray[np.int64] | None = None
    g_after_uS: Floats | None = None

    @classmethod
    def _take(cls, columns: Columns, source: tuple[SourceFile, ...], negative: Choice) -> Self:
        low, high = columns.numbers("g_low_uS", low=0.0), columns.numbers("g_high_uS", low=0.0)
        limit, accepted = columns.numbers("max_attempts"), columns.flags("accepted")
        used = columns.numbers("attempts", low=1.0) if columns.has("attempts") else None
        after = columns.numbers("g_after_uS", low=0.0, negative=negative) if columns.has("g_after_uS") else None
        cell = columns.words("cell") if columns.has("cell") else np.arange(len(low))
        left_out, keep = columns.counts(), columns.keep
        checks: list[tuple[str, Floats, Callable[[Floats], NDArray[np.bool_]], str]] = [
            ("max_attempts", limit, _is_count, "must be a whole number from 1, below 2^53"),
            ("accepted", accepted, lambda v: (v == 0) | (v == 1), "must be 0 or 1"),
            ("g_high_uS - g_low_uS", high - low, lambda v: v > 0, "must be above 0 uS"),
        ]
        if used is not None:
            checks.append(("max_attempts - attempts", limit - used, lambda v: v >= 0, "must be at least 0"))
        for name, values, rule, text in checks:
            bad = np.flatnonzero(keep)[~rule(values[keep])]
            if len(bad):
                raise UsageError(
                    f"{columns.where}: {name} = {values[bad[0]]:g}: {text} ({len(bad)} of {keep.sum()} rows), in "
                    f"{columns.place(bad[0])}"
                )
        return cls(
            g_low_uS=low[keep],
            g_high_uS=high[keep],
            max_attempts=limit[keep].astype(np.int64),
            accepted=accepted[keep] == 1,
            cell=cell[keep],
            attempts=None if used is None else used[keep].astype(np.int64),
            g_after_uS=None if after is None else after[keep],
            source=source,
            left_out=left_out,
        )


def _is_count(values: Floats) -> NDArray[np.bool_]:
    return (values >= 1) & (values == np.round(values)) & (values < MOST_EXACT)
