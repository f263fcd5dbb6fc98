"""Threads that share the tasks of a kernel."""

import os
import signal
import threading
import time

import pytest
import torch  # noqa: F401 - the threads are those of its OpenMP

from crossbar_sim.kernels import workers
from crossbar_sim.kernels.workers import Work, share, share_all

HAS_OPENMP = isinstance(workers._workers(), workers._OpenMP)


@pytest.fixture(
    params=[
        pytest.param("openmp", marks=pytest.mark.skipif(not HAS_OPENMP, reason="torch has no GNU OpenMP here")),
        "own threads",
    ],
    autouse=True,
)
def threads_of(request, monkeypatch):
    """Every test runs on the threads of OpenMP and on those that take their place where it is missing."""
    if request.param == "own threads":
        monkeypatch.setattr(workers._workers, "_kept", workers._OwnThreads())
    return request.param


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("n_tasks", [1, 3, 100])
@pytest.mark.parametrize("chunks", [1, 4])
def test_every_task_is_done_once_and_results_are_added(threads, n_tasks, chunks):
    done, seen = [0] * n_tasks, set()

    def kernel(thread, first, last, add):
        seen.add(thread)
        for task in range(first, last):
            done[task] += 1
        return add * (last - first)

    assert share(kernel, (3,), n_tasks, threads, chunks) == 3 * n_tasks
    assert done == [1] * n_tasks
    assert seen <= set(range(threads))


def test_threads_work_at_the_same_time():
    meeting = threading.Barrier(3, timeout=20)

    def kernel(thread, first, last):
        meeting.wait()
        return 0

    assert share(kernel, (), 3, 3, chunks=1) == 0


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_the_error_of_any_thread_is_raised_and_threads_live_on(failing):
    meeting = threading.Barrier(3, timeout=20)

    def kernel(thread, first, last):
        meeting.wait()
        if thread == failing:
            raise ValueError(f"of thread {thread}")
        return 1

    for _ in range(2):
        with pytest.raises(ValueError, match=f"of thread {failing}"):
            share(kernel, (), 3, 3, chunks=1)
    assert share(lambda thread, first, last: last - first, (), 10, 3) == 10


def test_readers_in_several_threads_share_the_workers():
    def kernel(thread, first, last):
        return sum(range(first, last))

    found = []
    readers = [threading.Thread(target=lambda: found.append(share(kernel, (), 1000, 3))) for _ in range(8)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join(20)
    assert found == [sum(range(1000))] * 8


def test_a_child_process_has_threads_of_its_own():
    def kernel(thread, first, last):
        return last - first

    share(kernel, (), 10, 3)
    child = os.fork()
    if child == 0:
        os._exit(0 if share(kernel, (), 10, 3) == 10 else 1)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("sizes", [(), (1,), (3, 1), (100, 0, 7, 2)])
def test_works_are_done_side_by_side(sizes, threads):
    done = [[0] * size for size in sizes]

    def kernel(thread, first, last, own, add):
        for task in range(first, last):
            own[task] += 1
        return add * (last - first)

    works = [Work(kernel, (own, number), len(own)) for number, own in enumerate(done)]
    assert share_all(works, threads) == sum(number * size for number, size in enumerate(sizes))
    assert done == [[1] * size for size in sizes]


def test_threads_take_different_works_at_the_same_time():
    meeting = threading.Barrier(3, timeout=20)

    def kernel(thread, first, last):
        meeting.wait()
        return 1

    assert share_all([Work(kernel, (), 1)] * 3, 3) == 3


def nested(levels, threads, done, fail_at=None):
    """A kernel of ranges of 4 tasks that shares `levels` times within itself; every innermost task adds to `done`.

    fail_at: the level of which the task 2 is an error; the outermost is level 0.
    """

    def kernel(thread, first, last, level, path):
        assert 0 <= thread < threads
        total = 0
        for task in range(first, last):
            if level == fail_at and task == 2:
                raise ValueError(f"at level {level}")
            if level == levels:
                done.append((*path, task))
                total += 1
            else:
                total += share(kernel, (level + 1, (*path, task)), 4, threads)
        return total

    return kernel


@pytest.mark.parametrize("threads", [2, 3, 4, 8])
@pytest.mark.parametrize("levels", [1, 2])
def test_a_kernel_may_share_work_itself(threads, levels):
    done = []
    for _ in range(3):
        assert share(nested(levels, threads, done), (0, ()), 4, threads) == 4 ** (levels + 1)
    assert len(done) == 3 * 4 ** (levels + 1)
    assert len(set(done)) == 4 ** (levels + 1)


def test_inner_work_is_done_on_the_thread_that_calls_for_it():
    def outer(thread, first, last):
        seen = set()

        def inner(number, first, last):
            seen.add((number, threading.get_ident()))
            return last - first

        assert share(inner, (), 10, 4) == 10
        assert seen == {(0, threading.get_ident())}
        return 1

    assert share(outer, (), 8, 4) == 4 * 2
    assert not workers._inside.now


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_a_kernel_that_runs_alone_shares_with_all_threads(threads):
    meeting = threading.Barrier(3, timeout=20)

    def inner(thread, first, last):
        meeting.wait()
        return 1

    assert share(lambda *_: share(inner, (), 3, 3, chunks=1), (), 1, threads) == 3


@pytest.mark.parametrize("threads", [2, 4, 8])
@pytest.mark.parametrize("fail_at", [0, 1, 2])
def test_an_error_at_any_level_is_raised_and_threads_live_on(threads, fail_at):
    with pytest.raises(ValueError, match=f"at level {fail_at}"):
        share(nested(2, threads, [], fail_at), (0, ()), 4, threads)
    done = []
    assert share(nested(2, threads, done), (0, ()), 4, threads) == len(set(done)) == 64


@pytest.mark.parametrize("error", [ValueError, MemoryError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("failing", [0, 1, 2])
def test_an_error_is_raised_when_nobody_writes_any_more(error, failing):
    meeting, written = threading.Barrier(3, timeout=20), []

    def kernel(thread, first, last):
        meeting.wait()
        if thread == failing:
            raise error
        time.sleep(0.1)
        written.append(thread)
        return 1

    with pytest.raises(error):
        share(kernel, (), 3, 3, chunks=1)
    assert sorted(written) == sorted({0, 1, 2} - {failing})


def test_of_several_errors_the_first_in_time_is_raised():
    meeting = threading.Barrier(4, timeout=20)

    def kernel(thread, first, last):
        meeting.wait()
        time.sleep([0.2, 0.1, 0.0, 0.1][thread])
        raise ValueError(f"of thread {thread}")

    with pytest.raises(ValueError, match="of thread 2"):
        share(kernel, (), 4, 4, chunks=1)


def test_other_tasks_are_done_after_an_error_but_not_after_an_interrupt():
    def done_with(error):
        done = []

        def kernel(thread, first, last):
            if first == 0:
                raise error
            time.sleep(0.02)
            done.append(first)
            return 1

        with pytest.raises(error):
            share(kernel, (), 40, 2, chunks=20)
        return done

    assert sorted(done_with(ValueError)) == list(range(1, 40))
    assert len(done_with(KeyboardInterrupt)) < 5


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # that ctypes drops
@pytest.mark.parametrize("of_main", [True, False])
def test_an_interrupt_of_the_user_is_raised_when_nobody_writes_any_more(of_main):
    written, sent = [], threading.Event()

    def kernel(thread, first, last):
        if not sent.is_set() and (thread == 0) == of_main:
            sent.set()
            signal.raise_signal(signal.SIGINT)  # Python handles it on the main thread, whichever sends it
        time.sleep(0.01)
        written.append(first)
        return 1

    for _ in range(3):
        written.clear()
        sent.clear()
        with pytest.raises(KeyboardInterrupt):
            share(kernel, (), 90, 3, chunks=30)
        n_written = len(written)
        time.sleep(0.05)
        assert len(written) == n_written
        if of_main:
            assert n_written < 10
    assert share(lambda thread, first, last: last - first, (), 10, 3) == 10


def test_an_interrupt_that_ctypes_forgets_is_raised(threads_of, monkeypatch):
    if threads_of == "openmp":
        openmp = workers._workers()
        monkeypatch.setattr(openmp, "_parallel", lambda entry, name, threads, flags: openmp._jobs[name].work(1))
        with pytest.raises(KeyboardInterrupt):
            share(lambda thread, first, last: last - first, (), 10, 3)


def test_readers_in_several_threads_may_nest_as_well():
    found = []

    def read():
        found.append(share(nested(2, 3, []), (0, ()), 4, 3))

    readers = [threading.Thread(target=read, daemon=True) for _ in range(6)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join(20)
    assert found == [64] * 6


def test_a_child_process_that_is_forked_while_others_share_has_threads_of_its_own():
    stop = threading.Event()

    def keep_sharing():
        while not stop.is_set():
            share(lambda thread, first, last: last - first, (), 10, 3)

    others = [threading.Thread(target=keep_sharing) for _ in range(3)]
    for other in others:
        other.start()
    try:
        for _ in range(20):
            child = os.fork()
            if child == 0:
                signal.alarm(20)  # ends a child that hangs
                os._exit(0 if share(nested(1, 3, []), (0, ()), 4, 3) == 16 else 1)
            assert os.waitpid(child, 0)[1] == 0
    finally:
        stop.set()
        for other in others:
            other.join()
