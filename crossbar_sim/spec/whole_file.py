"""Files that are written whole or not at all."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from pathlib import Path

from device_models.errors import StoreError


def write_whole(path: str | Path, content: str | bytes) -> None:
    """Write a file, text in UTF-8; StoreError where it cannot be written.

    The content is written and flushed under another name in the same folder and then moved into place: whatever ends
    the writing early, the file that was there before stays whole. It keeps its permissions, and a link stays a link.
    """
    try:
        _write(Path(path), content)
    except OSError as error:
        raise StoreError(f"{path}: cannot be written: {error.strerror or error}") from None


def _write(path: Path, content: str | bytes) -> None:
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        mode = None
    if mode is not None and not stat.S_ISREG(mode):  # a pipe or a terminal, say, whose place no file can take
        _put(path, content)
        return
    if mode is not None and not os.access(path, os.W_OK):  # moving a file over it would need no permission of its own
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".{secrets.token_hex(8)}.partial")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        try:
            _put(temporary, content)
            os.fsync(handle)
        finally:
            os.close(handle)
        if mode is not None:
            temporary.chmod(stat.S_IMODE(mode))
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _put(path: Path, content: str | bytes) -> None:
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content, encoding="utf-8")
