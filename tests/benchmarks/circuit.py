"""Speed of the wire solvers: ratios to badcrossbar 1.1.0 in one process, and time per weight of the closed form.

    make bench, or python tests/benchmarks/circuit.py        needs the extra `bench`

A ratio is the median over runs that alternate between the two, so that a machine that slows down slows both.
"""

from __future__ import annotations

import logging
import statistics

import badcrossbar
import numpy as np
import torch
from paired import seconds

from crossbar_sim.circuit.effective import effective_conductance, fold_wires
from crossbar_sim.circuit.nodal import solve_array
from crossbar_sim.kernels.workers import share
from crossbar_sim.spec.wires import WiresSpec

R_OHM = 0.35
WIRES = WiresSpec(r_wl_ohm=R_OHM, r_bl_ohm=R_OHM)


def against_badcrossbar(n: int, n_vectors: int, runs: int) -> None:
    rng = np.random.default_rng(0)
    g, v = 25 * rng.uniform(0.05, 1, (n, n)) ** 2, 0.2 * rng.normal(size=(n_vectors, n))

    def theirs() -> np.ndarray:
        return badcrossbar.compute(v.T, 1e6 / g, r_i=R_OHM, node_voltages=False, all_currents=False).currents.output

    def ours() -> np.ndarray:
        return solve_array(g, v, WIRES).currents_A

    error = abs(ours() - theirs()).max() / abs(ours()).max()
    pairs = [(seconds(theirs), seconds(ours)) for _ in range(runs)]
    ratio = statistics.median(a / b for a, b in pairs)
    a, b = (statistics.median(column) for column in zip(*pairs, strict=True))
    print(f"{n} x {n}, {n_vectors:3} vectors: {a:7.2f} s / {1e3 * b:7.1f} ms = {ratio:6.1f}   apart by {error:.1e}")


def effective_matrix(n: int, runs: int) -> None:
    g = 25 * np.random.default_rng(0).uniform(size=(n, n)) ** 2
    took = statistics.median(seconds(lambda: effective_conductance(g, WIRES)) for _ in range(runs))
    print(f"effective matrix of {n} x {n}: {took:.2f} s")


def closed_form(n: int, tiles: int, dtype: type, with_variance: bool) -> None:
    rng = np.random.default_rng(0)
    g = (5 * rng.uniform(size=(tiles, 2, n, n)) ** 2).astype(dtype)
    variance = g.copy()
    wires = WiresSpec(r_wl_ohm=0.15, r_bl_ohm=0.15)

    def fold(thread: int, first: int, last: int) -> int:
        for k in range(first, last):
            fold_wires(g[k], variance[k] if with_variance else None, wires)
        return 0

    def work() -> None:
        share(fold, (), tiles, torch.get_num_threads())

    work()
    took = statistics.median(seconds(work) for _ in range(5))
    what = f"{np.dtype(dtype).name}{', with variance' if with_variance else ''}"
    print(f"closed form, tiles of {n} x {n} pairs, {what}: {1e9 * took / (tiles * n * n):.1f} ns per weight")


if __name__ == "__main__":
    logging.getLogger("badcrossbar").setLevel(logging.WARNING)
    for size in (256, 512):
        for dtype in (np.float32, np.float64):
            for with_variance in (False, True):
                closed_form(size, 16, dtype, with_variance)
    effective_matrix(256, 3)
    effective_matrix(512, 3)
    against_badcrossbar(256, 1, 3)
    against_badcrossbar(256, 64, 3)
    against_badcrossbar(512, 1, 3)
    against_badcrossbar(512, 64, 3)
