"""Forward, decoding and memory of a mapped SmolLM2-135M-Instruct against the model in plain torch, in one process."""

from __future__ import annotations

import ctypes
import gc
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import torch
from layers import TOKENS, tokens_for
from paired import RUNS, Work, machine, paired, peak_bytes, publish, resident_bytes, table

import crossbar_sim as cs

CONTEXT = 256
PCM = cs.ChipSpec.preset("pcm_1m")


def chips() -> Iterator[tuple[str, cs.ChipSpec]]:
    """The chips of the table."""
    small = {"rows": 256, "cols": 256}
    for noise, spec in (("frozen noise", PCM.evolve(read_noise="frozen")), ("exact per-read noise", PCM)):
        yield noise, spec
        yield f"{noise}, bfloat16 weights", spec.evolve(weight_dtype="bfloat16")
        yield f"{noise}, tiles of 256 x 256", spec.evolve(tile=small)
    yield "hermes_2d", cs.ChipSpec.preset("hermes_2d")


def forward(model: torch.nn.Module, tokens: torch.Tensor) -> Work:
    return lambda: model(tokens, use_cache=False)


def decode(model: torch.nn.Module, tokens: torch.Tensor) -> Work:
    """One token at context 256, again and again."""
    cache = model(tokens[:, :CONTEXT], use_cache=True).past_key_values

    def step() -> None:
        model(tokens[:, :1], past_key_values=cache, use_cache=True)
        cache.crop(-1)

    return step


@torch.no_grad()
def memory(name: str) -> tuple[float, float]:
    """Peaks of memory: of mapping and ageing relative to float32 weights on the chip, of a forward in MB beyond that of
    the digital one with the state in memory."""
    digital: Any
    digital, _ = cs.load_model()
    tokens, spec = tokens_for(digital), dict(chips())[name]
    warm = cs.map_model(torch.nn.Linear(600, 300), spec)  # loads the kernels
    warm.chip.set_time("30d")
    warm(torch.zeros(TOKENS, 600))
    digital(tokens, use_cache=False)
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    before, found = resident_bytes(), []

    def program() -> None:
        found.append(cs.map_model(digital, spec))
        found[0].chip.set_time("30d")

    mapping = peak_bytes(program) - before
    of_digital = peak_bytes(forward(digital, tokens))
    return mapping / (4 * cs.plan_model(digital, spec).n_weights), (
        peak_bytes(forward(found[0], tokens)) - of_digital
    ) / 1e6


def measured_memory(name: str) -> tuple[str, str]:
    """`memory` in a process of its own, which gives back at once what it frees."""
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    done = subprocess.run(
        [sys.executable, __file__, name], stdout=subprocess.PIPE, text=True, check=True, env=environment
    )
    mapping, passing = json.loads(done.stdout.splitlines()[-1])
    return f"{mapping:.2f}", f"{max(0.0, passing):.0f} MB"


@torch.no_grad()
def main() -> None:
    digital: Any
    digital, _ = cs.load_model()
    tokens = tokens_for(digital)
    rows = []
    for name, spec in chips():
        mapped = cs.map_model(digital, spec)
        mapped.chip.set_time("30d")
        ratio = paired(forward(mapped, tokens), forward(digital, tokens))
        one = paired(decode(mapped, tokens), decode(digital, tokens), 3 * RUNS)
        rows.append([name, str(ratio), str(one), *measured_memory(name)])
        print(*rows[-1], flush=True)
        del mapped
    head = (
        "`pcm_1m`, or another preset where named", f"forward of 1 x {TOKENS} tokens", "decode of one token",
        "peak of mapping, of the float32 weights", "peak of a forward above the digital one",
    )  # fmt: skip
    publish(
        "forward",
        f"{machine()}; {RUNS} paired runs, {3 * RUNS} for decoding at context {CONTEXT}.\n\n{table(head, rows)}",
    )


if __name__ == "__main__":
    print(json.dumps(memory(sys.argv[1]))) if len(sys.argv) == 2 else main()
