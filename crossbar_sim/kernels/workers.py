"""Threads for kernels that let go of Python's lock.

A kernel that is compiled for one thread and given a range of its tasks compiles in half the time of one that spreads
its own loop. The threads are those that PyTorch keeps for its operations, where its OpenMP is GNU's: they may still
spin after the last one, and other threads would have to wait for their cores.

A kernel may itself call `share`: that inner work is done by the thread that calls it, on all platforms alike. A thread
that waited for others here could wait for ever, because they may be waiting for it.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from threadpoolctl import ThreadpoolController


class Work(NamedTuple):
    """kernel(thread, first, last, *arguments) on all of its tasks; returns a number."""

    kernel: Callable[..., int]
    arguments: tuple[Any, ...]
    n_tasks: int


class _Inside(threading.local):
    """Whether this thread is at work on a job."""

    now = False


_inside = _Inside()


class _Job:
    """Works in ranges of tasks, which any number of threads may take."""

    def __init__(self, ranges: list[tuple[Work, int, int]]):
        self._left = iter(ranges)
        self._busy: dict[int, threading.Lock] = {}  # held by each thread from its begin to its end
        self._results: list[int] = []
        self._errors: list[BaseException] = []

    def work(self, thread: int) -> None:
        """Do ranges until none is left. Errors are kept for `total`, because they would be lost in other threads.

        An error of one range leaves the others as they are; an interrupt ends the job, because the user wants it to.
        """
        busy = threading.Lock()
        busy.acquire()
        self._busy[thread] = busy
        _inside.now = True
        try:
            for work, first, last in self._left:
                try:
                    self._results.append(work.kernel(thread, first, last, *work.arguments))
                except Exception as error:
                    self._errors.append(error)
        except BaseException as error:
            self.interrupt(error)
        finally:
            _inside.now = False
            busy.release()

    def interrupt(self, error: BaseException) -> None:
        """Let no thread begin another range."""
        self._errors.append(error)
        for _ in self._left:
            pass

    def wait(self) -> None:
        """Wait, when no range is left, for all threads but 0, which waits.

        An interrupt does not end it: who goes on may use the buffers that threads still write to. Threads that have
        not begun will find no range.
        """
        while True:
            try:
                for busy in [busy for thread, busy in list(self._busy.items()) if thread != 0]:
                    with busy:
                        pass
                return
            except KeyboardInterrupt as error:
                self.interrupt(error)

    def total(self) -> int:
        """The sum of all results, once no thread is at work any more; raises the first error in time."""
        if self._errors:
            raise self._errors[0]
        if 0 not in self._busy:  # it was interrupted on its way to `work`, in ctypes, which drops exceptions
            raise KeyboardInterrupt
        return sum(self._results)


class _OpenMP:
    """The threads of a GNU OpenMP."""

    def __init__(self, path: str):
        library = ctypes.CDLL(path)
        kind = ctypes.CFUNCTYPE(None, ctypes.c_size_t)
        self._parallel, self._number = library.GOMP_parallel, library.omp_get_thread_num
        self._parallel.argtypes = (kind, ctypes.c_size_t, ctypes.c_uint, ctypes.c_uint)
        self._parallel.restype = None
        self._jobs: dict[int, _Job] = {}
        self._names = itertools.count()
        self._entry = kind(lambda name: self._jobs[name].work(self._number()))

    def run(self, job: _Job, threads: int) -> None:
        """Let at most `threads` threads, this one among them, do the job; returns when none works on it any more."""
        name = next(self._names)
        self._jobs[name] = job
        try:
            self._parallel(self._entry, name, threads, 0)
        finally:
            del self._jobs[name]


class _OwnThreads:
    """Sleeping threads: another one is started where all are at work, so that no job waits for the end of another."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(sys.maxsize, "crossbar-sim")

    def run(self, job: _Job, threads: int) -> None:
        """Let at most `threads` threads, this one among them, do the job; returns when none works on it any more."""
        try:
            for number in range(1, threads):
                self._executor.submit(job.work, number)
        except RuntimeError:  # the interpreter is ending or there is no memory for a thread: fewer do the job
            pass
        except KeyboardInterrupt as error:
            job.interrupt(error)
        job.work(0)
        job.wait()


class _Workers:
    """The threads of this process."""

    def __init__(self) -> None:
        self._kept: _OpenMP | _OwnThreads | None = None
        os.register_at_fork(after_in_child=self._start_anew)

    def _start_anew(self) -> None:
        """Threads do not follow into a child process, and OpenMP does not start others there."""
        self._kept = _OwnThreads()

    def __call__(self) -> _OpenMP | _OwnThreads:
        if self._kept is None:
            libraries = [each for each in ThreadpoolController().lib_controllers if each.prefix == "libgomp"]
            of_torch = [each.filepath for each in libraries if f"{os.sep}torch{os.sep}" in each.filepath]
            self._kept = _OpenMP(of_torch[0]) if of_torch else _OwnThreads()
        return self._kept


_workers = _Workers()


def share(kernel: Callable[..., int], arguments: tuple[Any, ...], n_tasks: int, threads: int, chunks: int = 4) -> int:
    """kernel(thread, first, last, *arguments) on ranges of n_tasks tasks, on this thread (0) and threads - 1 others.

    There are `chunks` ranges for each thread: one that is held up leaves some of its share to the others. The kernel
    is compiled with `nogil=True`. Returns the sum of what it returns. Its first error is raised here when no thread is
    at work any more, so that buffers among the arguments may be used again. Called within a kernel, all of it is done
    on the calling thread, which then is thread 0.
    """
    return share_all([Work(kernel, arguments, n_tasks)], threads, chunks)


def share_all(works: list[Work], threads: int, chunks: int = 4) -> int:
    """`share` of several works that may be done side by side: threads are woken once for all of them."""
    each = 1 if threads == 1 else -(-chunks * threads // max(1, len(works)))
    ranges = []
    for work in works:
        n = min(work.n_tasks, each)
        ranges += [(work, i * work.n_tasks // n, (i + 1) * work.n_tasks // n) for i in range(n)]
    if threads == 1 or len(ranges) == 1 or _inside.now:
        return sum(work.kernel(0, first, last, *work.arguments) for work, first, last in ranges)
    job = _Job(ranges)
    _workers().run(job, min(threads, len(ranges)))
    return job.total()


def share_in_turn(works: list[Work], threads: int) -> int:
    """`share` of several works one after the other, because they add to the same numbers."""
    return sum(share(*work, threads) for work in works)
