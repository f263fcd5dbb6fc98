"""Mapping, ageing and programming every device of SmolLM2-135M-Instruct, in digital forwards of 1 x 512 tokens.

Also how programming gains from a second thread, and what a standard normal of the generator takes on one core.
"""

from __future__ import annotations

import statistics

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
    publish(
        "state",
        f"{machine()}; {RUNS} paired runs; in digital forwards of 1 x {TOKENS} tokens; drift compensation included.\n\n"
        f"{table(head, rows)}\n\nProgramming on one thread takes {scaling} times as long as on two. A standard normal "
        f"takes {ns_per_normal():.2f} ns on one core.",
    )


if __name__ == "__main__":
    main()
