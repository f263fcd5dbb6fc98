"""Progress: bars with the time left on terminals, a line now and then in logs."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sized
from types import TracebackType
from typing import Protocol, Self, TypeVar

T = TypeVar("T", covariant=True)

_LOG_EVERY_S = 20.0


class SizedIterable(Sized, Protocol[T]):
    """What `track` takes: it can be counted and gone through."""

    def __iter__(self) -> Iterator[T]: ...


class Reporter:
    """Progress of `total` steps on standard error: a bar with the time left, or lines where that is no terminal."""

    def __init__(self, what: str, total: int):
        self.what, self.total, self.done = what, total, 0
        self._started = self._last_line = time.monotonic()
        self._bar = None
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
            self._task = self._bar.add_task(what, total=total)

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def note(self, text: str) -> None:
        """Say what is being done now."""
        now = time.monotonic()
        if self._bar is not None:
            self._bar.update(self._task, description=text)
        elif now - self._last_line > _LOG_EVERY_S:
            self._last_line = now
            left = (now - self._started) / self.done * (self.total - self.done) if self.done else float("nan")
            print(
                f"{self.what}: {self.done}/{self.total}, about {left:.0f} s left ({text})", file=sys.stderr, flush=True
            )

    def advance(self) -> None:
        """One step is done."""
        self.done += 1
        if self._bar is not None:
            self._bar.advance(self._task)


def track(items: SizedIterable[T], what: str) -> Iterator[T]:
    """Go through items with progress."""
    with Reporter(what, len(items)) as reporter:
        for item in items:
            reporter.note(what)
            yield item
            reporter.advance()
