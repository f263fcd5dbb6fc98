"""What all tables of measurements share: how they are read, and what of them was left out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, get_args

import pandas as pd
from numpy.typing import NDArray

from calibration.columns import Choice, Columns
from calibration.measurements import Sheet, checked_path, read_csv, read_npz, read_parquet, source_file
from device_models.errors import UsageError
from device_models.fit_record import SourceFile

Labels = NDArray[Any]
"""Whole numbers or texts that tell cells apart."""


@dataclass(frozen=True, eq=False, kw_only=True)
class AbstractTable(ABC):
    """Columns of one kind of measurement.

    Every reader takes columns={"g_uS": "G"}, names in the file by those of this package; a column in another unit of
    the same quantity, such as ``t_h`` or ``Time (h)`` for ``t_s``, is found and converted, and so are resistances,
    ``r_kohm`` or ``R (kΩ)`` for ``g_uS``. Gaps are left out and counted in `left_out`; text, negative conductances,
    overflows of instruments (9.91e37, OVLD, infinity) and what no device can have are refused with their row.
    negative="leave_out" and overflow="leave_out" leave such rows out and count them.

    source     file names with SHA-256; empty for measurements from memory
    left_out   (reason, rows) of what was not taken
    """

    source: tuple[SourceFile, ...] = ()
    left_out: tuple[tuple[str, int], ...] = ()

    @classmethod
    def from_file(
        cls,
        path: str | Path,
        columns: Mapping[str, str] | None = None,
        *,
        negative: Choice = "refuse",
        overflow: Choice = "refuse",
    ) -> Self:
        """From a text (.csv, .tsv, .txt, .dat), .parquet or .npz file."""
        text = dict.fromkeys((".tsv", ".txt", ".dat"), cls.from_csv)
        readers = {".csv": cls.from_csv, ".parquet": cls.from_parquet, ".npz": cls.from_npz, **text}
        suffix = checked_path(path).suffix.lower()
        if suffix not in readers:
            raise UsageError(f"{path}: must end with one of {', '.join(readers)}")
        return readers[suffix](path, columns, negative=negative, overflow=overflow)

    @classmethod
    def from_csv(
        cls,
        path: str | Path,
        columns: Mapping[str, str] | None = None,
        *,
        negative: Choice = "refuse",
        overflow: Choice = "refuse",
    ) -> Self:
        """From a text file with a header.

        Commas, semicolons, tabs, pipes or white space stand between cells; beside all but commas, numbers may have
        decimal commas. Lines that begin with #, % or // are comments. A row that does not fit the header is refused.
        """
        source = (source_file(path),)
        return cls._from_sheet(read_csv(path), source, columns, negative, overflow)

    @classmethod
    def from_parquet(
        cls,
        path: str | Path,
        columns: Mapping[str, str] | None = None,
        *,
        negative: Choice = "refuse",
        overflow: Choice = "refuse",
    ) -> Self:
        """From a Parquet file, where pyarrow is installed."""
        source = (source_file(path),)
        return cls._from_sheet(read_parquet(path), source, columns, negative, overflow)

    @classmethod
    def from_npz(
        cls,
        path: str | Path,
        columns: Mapping[str, str] | None = None,
        *,
        negative: Choice = "refuse",
        overflow: Choice = "refuse",
    ) -> Self:
        """From an npz file with one array of equal length for each column; pickled objects are refused."""
        source = (source_file(path),)
        arrays = read_npz(path)
        if not arrays or {a.ndim for a in arrays.values()} != {1} or len({len(a) for a in arrays.values()}) != 1:
            shapes = ", ".join(f"{name} {a.shape}" for name, a in arrays.items())
            raise UsageError(f"{path}: arrays {shapes}: must be columns of one length")
        sheet = Sheet.of_frame(pd.DataFrame(arrays), str(path))
        return cls._from_sheet(sheet, source, columns, negative, overflow)

    @classmethod
    def from_frame(
        cls,
        frame: pd.DataFrame,
        columns: Mapping[str, str] | None = None,
        *,
        negative: Choice = "refuse",
        overflow: Choice = "refuse",
    ) -> Self:
        """From a pandas frame, or anything that pandas makes one of."""
        try:
            made = pd.DataFrame(frame)
        except (TypeError, ValueError) as error:
            raise UsageError(f"{cls.__name__}: cannot be made a pandas frame: {' '.join(str(error).split())}") from None
        return cls._from_sheet(Sheet.of_frame(made, cls.__name__), (), columns, negative, overflow)

    @classmethod
    def _from_sheet(
        cls,
        sheet: Sheet,
        source: tuple[SourceFile, ...],
        renamed: Mapping[str, str] | None,
        negative: Choice,
        overflow: Choice,
    ) -> Self:
        for name, choice in (("negative", negative), ("overflow", overflow)):
            if choice not in get_args(Choice):
                raise UsageError(f"{name} = {choice!r}: must be one of {', '.join(get_args(Choice))}")
        columns = Columns(sheet, renamed, overflow)
        table = cls._take(cls._reshaped(columns, negative), source, negative)
        columns.refuse_unused_names(cls.__name__)
        return table

    @classmethod
    def _reshaped(cls, columns: Columns, negative: Choice) -> Columns:
        """The long form of a table."""
        return columns

    @classmethod
    @abstractmethod
    def _take(cls, columns: Columns, source: tuple[SourceFile, ...], negative: Choice) -> Self:
        """The table of checked columns."""
