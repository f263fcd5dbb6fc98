"""Forward, decoding and memory of a mapped SmolLM2-135M-Instruct against the model in plain torch, in one process."""

from __future__ import annotations

import ctypes
import gc
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


def on_chip(digital: Any, spec: cs.ChipSpec, tokens: torch.Tensor) -> tuple[Any, str, str]:
    """The mapped model a month later, and its peaks of memory: of mapping relative to float32 weights on the chip, of a
    forward in MB beyond that of the digital one with the state in memory."""
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
    digital_forward = peak_bytes(forward(digital, tokens))
    passing = peak_bytes(forward(found[0], tokens)) - digital_forward
    n_weights = cs.plan_model(digital, spec).n_weights
    return found[0], f"{mapping / (4 * n_weights):.2f}", f"{max(0, passing) / 1e6:.0f} MB"


@torch.no_grad()
def main() -> None:
    digital: Any
    digital, _ = cs.load_model()
    tokens = tokens_for(digital)
    rows = []
    for name, spec in chips():
        mapped, kept, passing = on_chip(digital, spec, tokens)
        ratio = paired(forward(mapped, tokens), forward(digital, tokens))
        one = paired(decode(mapped, tokens), decode(digital, tokens), 3 * RUNS)
        rows.append([name, str(ratio), str(one), kept, passing])
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
    main()
