"""Files of measurements as columns of cells; nothing of them is converted or checked here."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from device_models.errors import StoreError, UsageError
from device_models.fit_record import SourceFile
from device_models.table_text import read_table


class Sheet(NamedTuple):
    """A table of one name for each column.

    where       what error messages begin with, e.g. the file name
    lines       line of each row in a text file; none: the table is no text
    separator   of the cells in a text file
    """

    where: str
    names: tuple[str, ...]
    columns: tuple[NDArray[Any], ...]
    lines: Sequence[int] | None = None
    separator: str = ","

    @classmethod
    def of(cls, where: str, names: Sequence[str], columns: Sequence[NDArray[Any]], **text: Any) -> Sheet:
        """UsageError where a name appears twice."""
        twice = [name for number, name in enumerate(names) if name in names[:number]]
        if twice:
            raise UsageError(f"{where}: column {twice[0]!r} appears more than once")
        return cls(where, tuple(names), tuple(columns), **text)

    @classmethod
    def of_frame(cls, frame: pd.DataFrame, where: str) -> Sheet:
        columns = [_plain(frame.iloc[:, k]) for k in range(frame.shape[1])]
        return cls.of(where, [str(name).strip() for name in frame.columns], columns)


def _plain(series: pd.Series) -> NDArray[Any]:
    """Numbers where the type of a column is one of numbers, and otherwise the values as they are, None for gaps."""
    if isinstance(series.dtype, pd.CategoricalDtype):
        dtype = series.cat.categories.dtype
        series = series.astype(object if dtype.kind in "iub" and series.isna().any() else dtype)
    if pd.api.types.is_numeric_dtype(series.dtype) and series.dtype.kind != "c":
        return series.to_numpy(float, na_value=np.nan) if series.isna().any() else series.to_numpy()
    if series.dtype.kind in "Mmc":
        return series.to_numpy()
    values = series.to_numpy(object, copy=True)
    values[series.isna().to_numpy()] = None
    return values


def checked_path(path: str | Path) -> Path:
    """UsageError where an argument is no path."""
    if not isinstance(path, str | PathLike):
        raise UsageError(f"path = {path!r}: must be the path of a file")
    return Path(path)


def source_file(path: str | Path) -> SourceFile:
    """Name and SHA-256 of a file; StoreError where it cannot be read."""
    path = checked_path(path)
    try:
        with Path(path).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256")
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror or error}") from None
    return SourceFile(name=Path(path).name, sha256=digest.hexdigest())


def read_csv(path: str | Path) -> Sheet:
    """A text file with a header, with any separator; empty cells are gaps, and so are nan and NA."""
    table = read_table(path)
    if not table.n_lines:
        raise StoreError(f"{path}: cannot be read as a table: is empty")
    names = [name or "Unnamed: 0" for name in table.names]  # as pandas calls the numbers of rows that it wrote
    columns = [np.array(cells, object) for cells in table.columns]
    return Sheet.of(str(path), names, columns, lines=table.lines, separator=table.separator)


def read_parquet(path: str | Path) -> Sheet:
    """A Parquet file; UsageError where pyarrow is not installed."""
    try:
        frame = pd.read_parquet(path, engine="pyarrow")
    except ImportError:
        raise UsageError(f"{path}: reading Parquet needs pyarrow: pip install pyarrow, or give CSV or npz") from None
    except (OSError, ValueError) as error:
        raise StoreError(f"{path}: cannot be read as a table: {error}") from None
    return Sheet.of_frame(frame, str(path))


def read_npz(path: str | Path) -> dict[str, NDArray[Any]]:
    """The arrays of an npz file; pickled objects are refused."""
    path = checked_path(path)
    try:
        with np.load(path, allow_pickle=False) as data:
            if not isinstance(data, np.lib.npyio.NpzFile):
                raise ValueError("holds a single array; must be an npz file with named arrays")
            return {name: data[name] for name in data.files}
    except Exception as error:  # zipfile, zlib and numpy raise many kinds for damaged bytes
        raise StoreError(f"{path}: cannot be read as npz: {' '.join(str(error).split())}") from None
