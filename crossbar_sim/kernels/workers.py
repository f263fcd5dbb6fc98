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
from typing import Any

from threadpoolctl import ThreadpoolController


class _Job:
    """One kernel and its tasks, which any number of threads may work on."""

    def __init__(self, kernel: Callable[..., int], n_tasks: int, n_chunks: int, arguments: tuple[Any, ...]):
        self._kernel, self._arguments = kernel, arguments
        self._ranges = iter([(i * n_tasks // n_chunks, (i + 1) * n_tasks // n_chunks) for i in range(n_chunks)])
        self.done: SimpleQueue[int | BaseException] = SimpleQueue()

    def work(self, thread: int) -> None:
        """Do what is left, and put the sum of what the kernel returned into `done`, or its error."""
        total = 0
        try:
            for first, last in self._ranges:
                total += self._kernel(thread, first, last, *self._arguments)
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
    if threads == 1 or n_tasks == 1:
        return kernel(0, 0, n_tasks, *arguments)
    n_chunks = min(n_tasks, chunks * threads)
    job = _Job(kernel, n_tasks, n_chunks, arguments)
    total = 0
    for _ in range(_workers().run(job, min(threads, n_chunks))):
        found = job.done.get()
        if isinstance(found, BaseException):
            raise found
        total += found
    return total
