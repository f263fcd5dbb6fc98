"""Threads that share the tasks of a kernel, in processes that are forked, lack GNU OpenMP, or are about to end."""

import os
import subprocess
import sys
import textwrap

import pytest


def run_python(script, **environment):
    """The words that a script prints in a process of its own; one that hangs fails."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


EXACT_WIRES = """
import hashlib
import multiprocessing
import os
from types import SimpleNamespace

import numpy as np
import torch

import crossbar_sim as cs
from crossbar_sim.kernels import workers

torch.set_num_threads(4)


def bits():
    tile = {"rows": 64, "cols": 64}
    spec = cs.ChipSpec(device={"kind": "ideal"}, tile=tile, wires={"model": "exact", "max_c": None})
    weights = np.linspace(-1, 1, 128 * 64).reshape(128, 64)
    return hashlib.blake2b(cs.Tile(spec).program(weights).mvm(np.eye(64))).hexdigest()
"""
FORKS = """
print(bits(), flush=True)
child = os.fork()
if child == 0:
    print(bits(), flush=True)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
with multiprocessing.get_context("fork").Pool(1) as pool:
    print(pool.apply(bits))
"""
NO_OPENMP = """
workers.ThreadpoolController = lambda: SimpleNamespace(lib_controllers=[])
assert isinstance(workers._workers(), workers._OwnThreads)
"""


def test_wires_are_solved_to_the_same_bits_in_forked_children_and_without_openmp():
    found = run_python(EXACT_WIRES + FORKS) + run_python(EXACT_WIRES + NO_OPENMP + FORKS)
    assert len(found) == 6
    assert len(set(found)) == 1


SHARE = """
    from crossbar_sim.kernels import workers

    def work():
        print(workers.share(lambda thread, first, last: last - first, (), 100, 4))
"""


@pytest.mark.parametrize("load", ["", "    import torch\n"])
def test_a_job_that_openmp_gives_one_thread_only_is_done_by_it(load):
    assert run_python(load + SHARE + "    work()", OMP_THREAD_LIMIT="1") == ["100"]


def test_a_thread_that_shares_when_the_interpreter_ends_works_alone():
    at_the_end = """
    import threading, time

    workers._workers._kept = workers._OwnThreads()

    def late():
        threading.main_thread().join()
        time.sleep(0.1)
        work()

    threading.Thread(target=late).start()
    """
    assert run_python(SHARE + at_the_end) == ["100"]
