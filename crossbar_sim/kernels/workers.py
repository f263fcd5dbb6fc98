"""Threads for kernels that let go of Python's lock.

A kernel that is compiled for one thread and given a range of its tasks compiles in half the time of one that spreads
its own loop, and threads that wait here sleep: they take nothing from PyTorch's, or from another process.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any


class _Job:
    """One kernel and its tasks, which any number of threads may work on."""

    def __init__(self, kernel: Callable[..., int], n_tasks: int, n_chunks: int, arguments: tuple[Any, ...]):
        self._kernel, self._arguments = kernel, arguments
        self._ranges = iter([(i * n_tasks // n_chunks, (i + 1) * n_tasks // n_chunks) for i in range(n_chunks)])
        self.done: SimpleQueue[int | BaseException] = SimpleQueue()

    def work(self, thread: int) -> int:
        """Do what is left; the sum of what the kernel returned."""
        total = 0
        for first, last in self._ranges:
            total += self._kernel(thread, first, last, *self._arguments)
        return total

    def report(self, thread: int) -> None:
        try:
            self.done.put(self.work(thread))
        except BaseException as error:
            self.done.put(error)


class _Workers:
    """Sleeping threads, as many as were ever asked for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._queues: list[SimpleQueue[_Job]] = []
        os.register_at_fork(after_in_child=self._queues.clear)  # threads do not follow into a child process

    def take(self, count: int) -> list[SimpleQueue[_Job]]:
        with self._lock:
            for number in range(len(self._queues), count):
                queue: SimpleQueue[_Job] = SimpleQueue()
                threading.Thread(target=self._run, args=(queue, number + 1), daemon=True).start()
                self._queues.append(queue)
        return self._queues[:count]

    @staticmethod
    def _run(queue: SimpleQueue[_Job], thread: int) -> None:
        while True:
            queue.get().report(thread)


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
    others = _workers.take(min(threads, n_chunks) - 1)
    for queue in others:
        queue.put(job)
    job.report(0)
    found = [job.done.get() for _ in range(len(others) + 1)]
    for each in found:
        if isinstance(each, BaseException):
            raise each
    return sum(each for each in found if not isinstance(each, BaseException))
