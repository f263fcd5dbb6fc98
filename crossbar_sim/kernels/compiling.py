"""How kernels are compiled, and for how long what is kept of them holds."""

from __future__ import annotations

import gc
import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from numba import config, njit
from numba.core import caching
from numba.core import event as events

inner = njit(no_cpython_wrapper=True, no_cfunc_wrapper=True)  # type: ignore[call-overload]
"""For functions that only kernels call: they have no entry for Python, whose call would end the process."""

_ROOMS = [Path(__file__).parents[1] / room for room in ("kernels", "devices", "converters", "circuit")]


@cache
def _digest() -> str:
    """Of all files that kernels are compiled from."""
    found = hashlib.blake2b(digest_size=16)
    for room in _ROOMS:
        for path in sorted(room.glob("*.py")):
            found.update(path.name.encode() + b"\0" + path.read_bytes())
    return found.hexdigest()


class _OfAllFiles:
    """Numba keeps a kernel while the kernel's own file stays as it was; but parts of it stand in other files."""

    def get_source_stamp(self) -> str:
        return _digest()

    @classmethod
    def from_function(cls, function: Callable[..., Any], file: str) -> Any:
        return super().from_function(function, file) if Path(file).parent in _ROOMS else None  # type: ignore[misc]


class UserProvided(_OfAllFiles, caching.UserProvidedCacheLocator):
    """In the folder that NUMBA_CACHE_DIR names."""


class InTree(_OfAllFiles, caching.InTreeCacheLocator):
    """Beside the file."""


class UserWide(_OfAllFiles, caching.UserWideCacheLocator):
    """In the user's cache folder."""


def _places() -> str:
    own = [f"{__name__}.{place.__name__}" for place in (UserProvided, InTree, UserWide)]
    return ",".join(own + [each.__name__ for each in caching.CacheImpl._locator_classes])


if not getattr(config, "CACHE_LOCATOR_CLASSES", "set by nobody, as this Numba does not ask"):
    config.CACHE_LOCATOR_CLASSES = _places()  # type: ignore[attr-defined]


class _NoCollection(events.Listener):
    """Compiling makes millions of objects that stay; going through them for garbage took an eighth of its time."""

    def __init__(self) -> None:
        self._depth, self._collects = 0, False

    def on_start(self, event: events.Event) -> None:
        if self._depth == 0:
            self._collects = gc.isenabled()
            gc.disable()
        self._depth += 1

    def on_end(self, event: events.Event) -> None:
        self._depth -= 1
        if self._depth == 0 and self._collects:
            gc.enable()


events.register("numba:compile", _NoCollection())  # under the lock of the compiler: one thread at a time
