"""How time and memory grow with weights and with vectors: a picture, and the exponents of fitted power laws.

    python tests/benchmarks/growth.py                     all
    python tests/benchmarks/growth.py BLOCKS VECTORS      what one process measures, as JSON

The linear layers of the first blocks of SmolLM2-135M-Instruct, 3.5 million weights a block, on a chip with exact read
noise of every device. Every point is of a process of its own, which loads the kernels first.
"""

from __future__ import annotations

import ctypes
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable

import matplotlib
import numpy as np
import torch
from layers import TOKENS, Layers, smollm2_layers
from paired import PAGE, machine, peak_bytes, publish, resident_bytes, seconds

import crossbar_sim as cs

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.ticker import NullLocator

RUNS = 3
BLOCKS = (4, 8, 16, 30)
VECTORS = (512, 1024, 2048, 4096)
PCM = cs.ChipSpec.preset("pcm_1m")
Point = dict[str, float]


def median_s(work: Callable[[], object]) -> float:
    work()
    return statistics.median(seconds(work) for _ in range(RUNS))


@torch.no_grad()
def measure(blocks: int, vectors: int) -> Point:
    """Weights, vectors, seconds of each work, and MiB beyond the digital layers, measured and expected."""
    digital = smollm2_layers(blocks)
    for name, x in digital.inputs.items():
        digital.inputs[name] = x.repeat(vectors // TOKENS, 1)
    small = Layers({"small": torch.nn.Linear(600, 300)}, {"small": torch.zeros(vectors, 600)})
    warm = cs.map_model(small, PCM)
    warm.chip.set_time("1d")
    warm(), digital()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    rest, base = resident_bytes(), peak_bytes(digital)
    found: list[Layers] = []

    def put_on_chip() -> None:
        found.append(cs.map_model(digital, PCM))
        found[0].chip.set_time("30d")

    mapping = peak_bytes(put_on_chip) - rest
    mapped = found[0]
    forward = peak_bytes(mapped) - base
    plan = cs.plan_model(digital, PCM, vectors=vectors)

    def program(threads: int) -> None:
        torch.set_num_threads(threads)
        mapped.chip.reprogram()

    return {
        "weights": plan.n_weights,
        "vectors": vectors,
        "programming, 1 thread": median_s(lambda: program(1)),
        "programming, 2 threads": median_s(lambda: program(2)),
        "ageing": median_s(lambda: mapped.chip.set_time("30d")),
        "forward": median_s(mapped),
        "mapping": mapping / 2**20,
        "mapping, expected": plan.expected.mapping_bytes / 2**20,
        "read": (forward - plan.expected.kept_bytes) / 2**20,
        "read, expected": (plan.expected.forward_bytes - plan.expected.kept_bytes) / 2**20,
    }


def measured(blocks: int, vectors: int) -> Point:
    """`measure` in a process of its own."""
    command = [sys.executable, __file__, str(blocks), str(vectors)]
    returning = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}  # what is freed goes back at once
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=returning)
    print(found := done.stdout.strip(), flush=True)
    point: Point = json.loads(found)
    return point


def exponent(points: list[Point], x: str, y: str) -> float:
    """p of the power law y = c x^p by least squares of the logarithms."""
    return float(np.polyfit(np.log([point[x] for point in points]), np.log([point[y] for point in points]), 1)[0])


def main() -> None:
    by_weights = [measured(blocks, TOKENS) for blocks in BLOCKS]
    by_vectors = [by_weights[0], *(measured(BLOCKS[0], vectors) for vectors in VECTORS[1:])]
    times = ("programming, 1 thread", "programming, 2 threads", "ageing", "forward")
    panels = (
        (by_weights, "weights", times, f"seconds, {TOKENS} vectors"),
        (by_weights, "weights", ("mapping", "mapping, expected"), "MiB beyond the digital layers"),
        (by_vectors, "vectors", ("forward",), f"seconds, {by_vectors[0]['weights'] / 1e6:.0f} million weights"),
        (by_vectors, "vectors", ("read", "read, expected"), "MiB beyond the state"),
    )
    figure, axes = plt.subplots(2, 2, figsize=(8, 6), layout="constrained")
    said = []
    for axis, (points, x, names, label) in zip(axes.flat, panels, strict=True):
        for name in names:
            power, line = exponent(points, x, name), "--" if "expected" in name else "o-"
            axis.loglog([p[x] for p in points], [p[name] for p in points], line, label=f"{name}: {power:.2f}")
            if "expected" not in name:
                said.append(f"{label.partition(',')[0]} of {name} over {x} {power:.2f}")
        unit, suffix = (1e6, " [million]") if x == "weights" else (1, "")
        axis.set(xlabel=x + suffix, ylabel=label)
        axis.set_xticks([p[x] for p in points], [f"{p[x] / unit:.0f}" for p in points])
        axis.xaxis.set_minor_locator(NullLocator())
        axis.legend(title="exponent", fontsize="small")
    figure.savefig(PAGE.parent / "performance_growth.png", dpi=80)
    last = by_weights[-1]
    text = (
        f"{machine()}; medians of {RUNS} runs. Exponents of fitted power laws, 1 being linear: {'; '.join(said)}. "
        f"Programming {last['weights'] / 1e6:.0f} million weights on one thread takes "
        f"{last['programming, 1 thread'] / last['programming, 2 threads']:.2f} times as long as on two."
    )
    publish("growth", f"![Time and memory over weights and vectors](performance_growth.png)\n\n{text}")


if __name__ == "__main__":
    print(json.dumps(measure(*map(int, sys.argv[1:])))) if len(sys.argv) == 3 else main()
