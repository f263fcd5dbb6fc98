"""Mapping, ageing and programming every device of SmolLM2-135M-Instruct, in digital forwards of 1 x 512 tokens.

Also how programming gains from a second thread, what a standard normal of the generator takes on one core, and by how
much the first `map_model` of a process takes longer than the next: with nothing compiled yet, and with what was kept.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile

import numpy as np
import torch
from layers import TOKENS, tokens_for
from paired import RUNS, machine, paired, publish, seconds, table

import crossbar_sim as cs
from crossbar_sim.kernels.random import fill_normals, random_key

PCM = cs.ChipSpec.preset("pcm_1m")
CHIPS = {
    "frozen noise": PCM.evolve(read_noise="frozen"),
    "exact per-read noise": PCM,
    "hermes_2d": cs.ChipSpec.preset("hermes_2d"),
}


def ns_per_normal() -> float:
    """On one core, as every device of a row of tiles draws them."""
    first, second, key = np.empty(1 << 16, np.float32), np.empty(1 << 16, np.float32), random_key(0, "bench")

    def work() -> None:
        for column in range(32):
            fill_normals(*key, np.uint32(0), np.uint32(column), first, second)

    work()
    return 1e9 * statistics.median(seconds(work) for _ in range(RUNS)) / (32 * 2 * first.size)


def thread_scaling(mapped: torch.nn.Module) -> str:
    """Programming on one thread relative to two."""
    threads = torch.get_num_threads()

    def on(count: int) -> None:
        torch.set_num_threads(count)
        mapped.chip.reprogram()

    ratio = paired(lambda: on(1), lambda: on(2), 3)
    torch.set_num_threads(threads)
    return str(ratio)


@torch.no_grad()
def first_use() -> float:
    """Digital forwards that the first `map_model` of this process takes longer than the second."""
    digital, _ = cs.load_model()
    tokens = tokens_for(digital)
    digital(tokens, use_cache=False)
    base = statistics.median(seconds(lambda: digital(tokens, use_cache=False)) for _ in range(3))
    first, second = (seconds(lambda: cs.map_model(digital, PCM)) for _ in range(2))
    return (first - second) / base


def first_uses() -> tuple[float, float]:
    """`first_use` of a process without compiled kernels and of one that follows it: medians of three."""
    found: tuple[list[float], list[float]] = [], []
    for _ in range(3):
        with tempfile.TemporaryDirectory() as folder:
            environment = {**os.environ, "NUMBA_CACHE_DIR": folder}
            for own in found:
                command = [sys.executable, __file__, "first use"]
                done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
                own.append(float(done.stdout))
    return statistics.median(found[0]), statistics.median(found[1])


@torch.no_grad()
def main() -> None:
    digital, _ = cs.load_model()
    tokens = tokens_for(digital)

    def base() -> None:
        digital(tokens, use_cache=False)

    rows = []
    for name, spec in CHIPS.items():
        mapping = paired(lambda spec=spec: cs.map_model(digital, spec), base)
        mapped = cs.map_model(digital, spec)
        ageing = paired(lambda m=mapped: m.chip.set_time("30d"), base)
        programming = paired(lambda m=mapped: m.chip.reprogram(), base)
        rows.append([name, str(mapping), str(ageing), str(programming)])
        print(*rows[-1], flush=True)
        if name == "frozen noise":
            scaling = thread_scaling(mapped)
        del mapped
    head = ("`pcm_1m`, or another preset where named", "`map_model`", '`set_time("30d")`', "`reprogram`")
    cold, kept = first_uses()
    publish(
        "state",
        f"{machine()}; {RUNS} paired runs; in digital forwards of 1 x {TOKENS} tokens; drift compensation included.\n\n"
        f"{table(head, rows)}\n\nProgramming on one thread takes {scaling} times as long as on two. A standard normal "
        f"takes {ns_per_normal():.2f} ns on one core.\n\nThe first `map_model` of a process takes {cold:.1f} digital "
        f"forwards longer than the second where no kernel is compiled yet, {kept:.1f} where those of an earlier "
        "process are kept: Numba is imported and they are loaded.",
    )


if __name__ == "__main__":
    print(first_use()) if len(sys.argv) == 2 else main()
