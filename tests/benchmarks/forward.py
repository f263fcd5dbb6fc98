"""Forward and decoding of a mapped SmolLM2-135M-Instruct as ratios to the same model in plain torch, in one process."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from layers import TOKENS, tokens_for
from paired import RUNS, Work, machine, paired, publish, table

import crossbar_sim as cs

CONTEXT = 256
PCM = cs.ChipSpec.preset("pcm_1m")


def chips() -> Iterator[tuple[str, cs.ChipSpec]]:
    """The chips of the table."""
    small = {"rows": 256, "cols": 256}
    for noise, spec in (("frozen noise", PCM.evolve(read_noise="frozen")), ("exact per-read noise", PCM)):
        yield noise, spec
        if "weight_dtype" in cs.ChipSpec.model_fields:
            yield f"{noise}, bfloat16 weights", spec.evolve(weight_dtype="bf16")
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
        rows.append([name, str(ratio), str(one)])
        print(*rows[-1], flush=True)
        del mapped
    head = ("`pcm_1m`, or another preset where named", f"forward of 1 x {TOKENS} tokens", "decode of one token")
    publish(
        "forward",
        f"{machine()}; {RUNS} paired runs, {3 * RUNS} for decoding at context {CONTEXT}.\n\n{table(head, rows)}",
    )


if __name__ == "__main__":
    main()
