"""Threads for kernels that let go of Python's lock.

A kernel that is compiled for one thread and given a range of its tasks compiles in half the time of one that spreads
its own loop. The threads are those that PyTorch keeps for its operations, where its OpenMP is GNU's: they may still
spin after the last one, and other threads would have to wait for their cores.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, NamedTuple

from threadpoolctl import ThreadpoolController


class Work(NamedTuple):
    """kernel(thread, first, last, *arguments) on all of its tasks; returns a number."""

    kernel: Callable[..., int]
    arguments: tuple[Any, ...]
    n_tasks: int


class _Job:
    """Works in ranges of tasks, which any number of threads may take."""

    def __init__(self, ranges: list[tuple[Work, int, int]]):
        self._ranges = iter(ranges)
        self.done: SimpleQueue[int | BaseException] = SimpleQueue()

    def work(self, thread: int) -> None:
        """Do what is left, and put the sum of what the kernel returned into `done`, or its error."""
        total = 0
        try:
            for work, first, last in self._ranges:
                total += work.kernel(thread, first, last, *work.arguments)
            self.done.put(total)
        except BaseException as error:
            self.done.put(error)


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

    def run(self, job: _Job, threads: int) -> int:
        """Let `threads` threads, this one among them, do the job; how many did."""
        name = next(self._names)
        self._jobs[name] = job
        try:
            self._parallel(self._entry, name, threads, 0)
        finally:
            del self._jobs[name]
        return job.done.qsize()


class _OwnThreads:
    """Sleeping threads, as many as were ever asked for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._queues: list[SimpleQueue[_Job]] = []

    def run(self, job: _Job, threads: int) -> int:
        """Let `threads` threads, this one among them, do the job; how many did."""
        with self._lock:
            for number in range(len(self._queues) + 1, threads):
                queue: SimpleQueue[_Job] = SimpleQueue()
                threading.Thread(target=self._wait, args=(queue, number), daemon=True).start()
                self._queues.append(queue)
        for queue in self._queues[: threads - 1]:
            queue.put(job)
        job.work(0)
        return threads

    @staticmethod
    def _wait(queue: SimpleQueue[_Job], thread: int) -> None:
        while True:
            queue.get().work(thread)


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
    is compiled with `nogil=True`. Returns the sum of what it returns; its first error is raised here.
    """
    return share_all([Work(kernel, arguments, n_tasks)], threads, chunks)


def share_all(works: list[Work], threads: int, chunks: int = 4) -> int:
    """`share` of several works that may be done side by side: threads are woken once for all of them."""
    each = 1 if threads == 1 else -(-chunks * threads // max(1, len(works)))
    ranges = []
    for work in works:
        n = min(work.n_tasks, each)
        ranges += [(work, i * work.n_tasks // n, (i + 1) * work.n_tasks // n) for i in range(n)]
    if threads == 1 or len(ranges) == 1:
        return sum(work.kernel(0, first, last, *work.arguments) for work, first, last in ranges)
    job = _Job(ranges)
    total = 0
    for _ in range(_workers().run(job, min(threads, len(ranges)))):
        found = job.done.get()
        if isinstance(found, BaseException):
            raise found
        total += found
    return total


def share_in_turn(works: list[Work], threads: int) -> int:
    """`share` of several works one after the other, because they add to the same numbers."""
    return sum(share(*work, threads) for work in works)
