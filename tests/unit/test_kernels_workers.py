"""Threads that share the tasks of a kernel."""

import os
import threading

import pytest

from crossbar_sim.kernels.workers import Work, share, share_all


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
