"""What all tables of measurements share: how they are read, and what of them was left out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pandas as pd
from numpy.typing import NDArray

from calibration.measurements import (
    Columns,
    Negative,
    SourceFile,
    read_csv,
    read_npz,
    read_parquet,
    source_file,
)
from device_models.errors import UsageError

Labels = NDArray[Any]
"""Whole numbers or texts that tell cells apart."""


@dataclass(frozen=True, eq=False, kw_only=True)
class AbstractTable(ABC):
    """Columns of one kind of measurement.

    Every reader takes columns={"g_uS": "G"}, names in the file by those of this package; a column in another unit of
    the same quantity, such as ``t_h`` for ``t_s``, is found and converted. Gaps are left out and counted in `left_out`;
    text, infinity and negative conductances are refused with their row (negative="leave_out" counts them instead).

    source     file names with SHA-256; empty for measurements from memory
    left_out   (reason, rows) of what was not taken
    """

    source: tuple[SourceFile, ...] = ()
    left_out: tuple[tuple[str, int], ...] = ()

    @classmethod
    def from_file(
        cls, path: str | Path, columns: Mapping[str, str] | None = None, *, negative: Negative = "refuse"
    ) -> Self:
        """From a .csv, .parquet or .npz file."""
        readers = {".csv": cls.from_csv, ".parquet": cls.from_parquet, ".npz": cls.from_npz}
        suffix = Path(path).suffix.lower()
        if suffix not in readers:
            raise UsageError(f"{path}: must end with one of {', '.join(readers)}")
        return readers[suffix](path, columns, negative=negative)

    @classmethod
    def from_csv(
        cls, path: str | Path, columns: Mapping[str, str] | None = None, *, negative: Negative = "refuse"
    ) -> Self:
        """From a CSV file with a header."""
        source = (source_file(path),)
        return cls._take(Columns(cls._reshaped(read_csv(path), str(path)), str(path), columns), source, negative)

    @classmethod
    def from_parquet(
        cls, path: str | Path, columns: Mapping[str, str] | None = None, *, negative: Negative = "refuse"
    ) -> Self:
        """From a Parquet file, where pyarrow is installed."""
        source = (source_file(path),)
        return cls._take(Columns(cls._reshaped(read_parquet(path), str(path)), str(path), columns), source, negative)

    @classmethod
    def from_npz(
        cls, path: str | Path, columns: Mapping[str, str] | None = None, *, negative: Negative = "refuse"
    ) -> Self:
        """From an npz file with one array of equal length for each column; pickled objects are refused."""
        source = (source_file(path),)
        arrays = read_npz(path)
        if not arrays or {a.ndim for a in arrays.values()} != {1} or len({len(a) for a in arrays.values()}) != 1:
            shapes = ", ".join(f"{name} {a.shape}" for name, a in arrays.items())
            raise UsageError(f"{path}: arrays {shapes}: must be columns of one length")
        frame = cls._reshaped(pd.DataFrame(arrays), str(path))
        return cls._take(Columns(frame, str(path), columns), source, negative)

    @classmethod
    def from_frame(
        cls, frame: pd.DataFrame, columns: Mapping[str, str] | None = None, *, negative: Negative = "refuse"
    ) -> Self:
        """From a pandas frame, or anything that pandas makes one of."""
        where = cls.__name__
        return cls._take(Columns(cls._reshaped(pd.DataFrame(frame), where), where, columns), (), negative)

    @classmethod
    def _reshaped(cls, frame: pd.DataFrame, where: str) -> pd.DataFrame:
        """The long form of a frame."""
        return frame

    @classmethod
    @abstractmethod
    def _take(cls, columns: Columns, source: tuple[SourceFile, ...], negative: Negative) -> Self:
        """The table of checked columns."""
