"""A training step of SmolLM2-135M-Instruct on a chip (torch backend) as a ratio to the digital one, in one process.

A step is a forward of 1 x 512 tokens, its cross-entropy, and the gradients of all parameters.
"""

from __future__ import annotations

import torch
from layers import TOKENS, tokens_for
from paired import RUNS, Work, machine, paired, publish, table

import crossbar_sim as cs

PCM = cs.ChipSpec.preset("pcm_1m")
CHIPS = {"frozen noise": PCM.evolve(read_noise="frozen"), "exact per-read noise": PCM}
"""Noise of the devices a day after programming, ranges per vector, 8-bit DAC and ADC, tiles of at most 512 rows."""


def step(model: torch.nn.Module, tokens: torch.Tensor) -> Work:
    def work() -> None:
        model.zero_grad(set_to_none=True)
        model(tokens, labels=tokens, use_cache=False).loss.backward()

    return work


def main() -> None:
    digital, _ = cs.load_model()
    tokens = tokens_for(digital)
    rows = []
    for name, spec in CHIPS.items():
        mapped = cs.map_model(digital, spec, backend="torch")
        mapped.chip.set_time("1d")
        rows.append([f"`pcm_1m`, {name}", str(paired(step(mapped, tokens), step(digital, tokens)))])
        print(*rows[-1], flush=True)
        del mapped
    head = ("chip", f"forward and backward of 1 x {TOKENS} tokens")
    publish("training", f"{machine()}; {RUNS} paired runs.\n\n{table(head, rows)}")


if __name__ == "__main__":
    main()
