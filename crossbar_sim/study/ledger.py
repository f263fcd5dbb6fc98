"""The table of a sweep on disk: written row by row, whole at any moment, continued after an interruption."""

from __future__ import annotations

import csv
import errno
import hashlib
import io
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from device_models.errors import StoreError

_TABLE, _MANIFEST = "results.csv", "sweep.json"
_FORMAT = 2  # 1, without a number, did not know the configuration of the model and how text becomes tokens


class Row(NamedTuple):
    """One measured number; `digital` is the same metric of the digital model, `device` numbers those of a Scenario."""

    chip: str
    device: int
    seed: int
    time_s: float
    metric: str
    value: float
    digital: float


class Ledger:
    """Rows in `folder`/results.csv, and in sweep.json what they are rows of.

    A folder that holds another sweep is refused, with the name of what differs. Nothing is written before the first
    rows are known, so that a sweep that is refused leaves no folder behind.
    """

    def __init__(self, folder: str | Path, manifest: dict[str, Any]):
        self.folder = Path(folder)
        self.table = self.folder / _TABLE
        self._manifest = manifest
        self._begun = False
        try:
            self._check_place()
            self._digests = self._matched_digests()
            self.rows = self._read()
        except StoreError:
            raise
        except OSError as error:
            raise _unwritable(self.folder, error) from None

    def append(self, rows: Iterable[Row]) -> None:
        """Add rows, all of them or, where the disk refuses, none."""
        rows = list(rows)
        try:
            if not self._begun:
                self._begin()
            self._append_text("".join(_line(row) for row in rows))
        except OSError as error:
            raise _unwritable(self.table, error) from None
        self.rows += rows

    def _check_place(self) -> None:
        """OSError where no folder can be made, ahead of the work."""
        place = next(path for path in (self.folder, *self.folder.absolute().parents) if path.exists())
        if not place.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        if not os.access(place, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    def _begin(self) -> None:
        """The folder, what it holds rows of, and the head of the table."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / _MANIFEST
        temporary = path.with_suffix(".partial")
        content = {"format": _FORMAT, "digests": self._digests, "what": self._manifest}
        temporary.write_text(json.dumps(content, indent=1), encoding="utf-8")
        os.replace(temporary, path)
        if not self.table.exists() or not self.table.stat().st_size:
            self._append_text(_line(Row._fields))
        self._begun = True

    def _append_text(self, text: str) -> None:
        with self.table.open("ab", buffering=0) as file:  # no buffer, which would be written once more on closing
            before = file.tell()
            try:
                data = text.encode()
                while data:
                    data = data[file.write(data) :]
                os.fsync(file.fileno())
            except OSError:
                os.truncate(self.table, before)
                raise

    def _matched_digests(self) -> dict[str, str]:
        """Those of the manifest and of all that the folder holds already; StoreError where it holds another sweep."""
        path = self.folder / _MANIFEST
        digests = {name: _digest(part) for name, part in self._manifest.items()}
        if path.exists():
            try:
                content = json.loads(path.read_text(encoding="utf-8"))
                known = dict(content["digests"].items())
            except (ValueError, KeyError, TypeError, AttributeError):
                raise StoreError(f"{path}: is damaged; remove the folder or choose another `out`") from None
            if content.get("format") != _FORMAT:
                raise StoreError(
                    f"{self.folder}: holds a sweep of another version, which recorded other things that its numbers "
                    "depend on, so that nobody can tell whether it is this sweep; choose another `out`"
                )
            for name, digest in digests.items():
                if known.get(name, digest) != digest:
                    raise StoreError(f"{self.folder}: holds a sweep with another {name}; choose another `out`")
            return {**known, **digests}
        if self.table.exists():
            raise StoreError(f"{self.table}: exists without {_MANIFEST}; choose another `out`")
        return digests

    def _read(self) -> list[Row]:
        if not self.table.exists():
            return []
        data = self.table.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) < len(data):  # the process was killed while it wrote the last line
            os.truncate(self.table, len(whole))
        rows: list[Row] = []
        known: dict[tuple[Any, ...], str] = {}
        text = whole.decode("utf-8", errors="replace")  # a damaged byte then is no row
        for number, fields in enumerate(csv.reader(io.StringIO(text)), start=1):
            try:
                if number > 1:
                    chip, device, seed, time_s, metric, value, digital = fields
                    row = Row(chip, int(device), int(seed), float(time_s), metric, float(value), float(digital))
                    rows.append(row)
                    if known.setdefault(row[:5], str(row[5:])) != str(row[5:]):  # as texts: NaN is like NaN
                        raise StoreError(f"{self.table}, line {number}: gives another value of a row above: {fields}")
                elif tuple(fields) != Row._fields:
                    raise ValueError
            except ValueError:
                raise StoreError(f"{self.table}, line {number}: is not a row of a sweep: {fields}") from None
        return rows


def _line(fields: Iterable[Any]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow([repr(f) if isinstance(f, float) else f for f in fields])
    return buffer.getvalue()


def _digest(part: Any) -> str:
    return hashlib.blake2b(json.dumps(part, sort_keys=True).encode(), digest_size=16).hexdigest()


def _unwritable(path: Path, error: OSError) -> StoreError:
    return StoreError(f"{path}: cannot be written: {error.strerror or error}; what was computed before is kept")
