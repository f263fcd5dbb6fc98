"""The exception family of the whole distribution: one line each, with path, value, what is accepted, nearest name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

Path = tuple[str | int, ...]


class CrossbarError(Exception):
    """Base of every error this package raises on purpose."""


class UsageError(CrossbarError, ValueError):
    """An argument cannot be used as it is; the message says which, its value and what is accepted."""


class StateError(CrossbarError, RuntimeError):
    """The object is not in a state in which the call makes sense (for example weights changed after programming)."""


class StoreError(CrossbarError, OSError):
    """A file on disk is missing, damaged or belongs to something else."""


class SpecError(UsageError):
    """A specification was refused.

    `problems` holds (path, message) pairs with paths relative to `root`, so that a specification inside another one
    reports the whole path, e.g. ``chip.device.g_max_uS = -3: must be above 0 uS``.
    """

    def __init__(self, root: str, problems: list[tuple[Path, str]]):
        self.root = root
        self.problems = problems
        super().__init__("; ".join(_join(root, path) + message for path, message in problems))


def _join(root: str, path: Path) -> str:
    text = root
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text


def nearest(name: str, accepted: Iterable[str]) -> str:
    """The hint ``; nearest: "x"`` for a mistyped name, or an empty string where nothing is close."""
    close = difflib.get_close_matches(name, list(accepted), n=1, cutoff=0.5)
    return f'; nearest: "{close[0]}"' if close else ""


class InertOptionWarning(UserWarning):
    """Something was asked for that cannot change anything here."""


class UnmappedWarning(UserWarning):
    """A matrix of a model stays digital, although no rule says so."""


class UnreadLayerWarning(UserWarning):
    """A layer is on a chip, and a forward did not read it."""


class ExtrapolationWarning(UserWarning):
    """A law is used beyond its measurements, where its last value is held."""
