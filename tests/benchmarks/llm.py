"""Speed and memory of a mapped SmolLM2-135M-Instruct as ratios to the same model in plain torch, in one process.

    make bench

Every ratio is the median over alternating runs of (mapped / digital), so that a machine that slows down slows both.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

import crossbar_sim as cs

RUNS = 9
TOKENS = 512
CONTEXT = 256


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def paired(mapped: Callable[[], object], digital: Callable[[], object], runs: int = RUNS) -> tuple[float, float, float]:
    """Median ratio, lowest and highest ratio of alternating runs after a warm-up of each."""
    digital(), mapped()
    ratios = []
    for _ in range(runs):
        base = seconds(digital)
        ratios.append(seconds(mapped) / base)
    return statistics.median(ratios), min(ratios), max(ratios)


def peak_bytes(work: Callable[[], object]) -> int:
    """Largest resident memory of this process while `work` runs (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")
    work()
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["VmHWM"].split()[0]) * 1024


def row(work: str, ratio: tuple[float, float, float], limit: str) -> None:
    print(f"{work:62} {ratio[0]:6.2f}  ({ratio[1]:.2f} to {ratio[2]:.2f})   {limit}", flush=True)


@torch.no_grad()
def main() -> None:
    digital, _ = cs.load_model()
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, digital.config.vocab_size, (1, TOKENS), generator=generator)
    weights = sum(plan.n_in * plan.n_out for _, _, plan in cs.plan_model(digital, cs.ChipSpec.preset("ideal")))

    def forward(model: torch.nn.Module) -> Callable[[], object]:
        return lambda: model(tokens, use_cache=False)

    def decode(model: torch.nn.Module) -> Callable[[], object]:
        cache = model(tokens[:, :CONTEXT], use_cache=True).past_key_values

        def step() -> None:
            model(tokens[:, :1], past_key_values=cache, use_cache=True)
            cache.crop(-1)

        return step

    base = statistics.median(seconds(forward(digital)) for _ in range(5))
    print(
        f"digital forward of 1 x {TOKENS} tokens: {base:.3f} s on {torch.get_num_threads()} threads, {RUNS} paired runs"
    )
    print(f"{'work, all linear layers with the head on the chip':62} {'ratio to digital':24}   limit")
    frozen = cs.ChipSpec.preset("pcm_1m").evolve(read_noise="frozen")
    exact = cs.ChipSpec.preset("pcm_1m")
    cases = [("frozen noise", frozen, "1.7"), ("exact per-read noise", exact, "2.6")]
    cases += [("exact per-read noise, hermes_2d on 256 x 256", cs.ChipSpec.preset("hermes_2d"), "-")]
    for name, spec, limit in cases:
        mapped, extra = map_and_measure(digital, spec, tokens)
        row(f"forward, 8-bit DAC and ADC, {name}", paired(forward(mapped), forward(digital)), limit)
        row(f"decode of one token at context {CONTEXT}, {name}", paired(decode(mapped), decode(digital), 3 * RUNS), "3")
        row(f"ageing every device, {name}", paired(lambda m=mapped: m.chip.set_time("30d"), forward(digital)), "15")
        row(f"programming every device, {name}", paired(lambda m=mapped: m.chip.reprogram(), forward(digital)), "15")
        ratio = extra / (4 * weights)
        print(f"{'peak memory above digital / mapped weights in fp32':62} {ratio:6.2f} {'':18} 1.2 with frozen noise")
        del mapped
    compare_wires(digital, exact, tokens)


@torch.no_grad()
def compare_wires(digital: torch.nn.Module, spec: cs.ChipSpec, tokens: torch.Tensor) -> None:
    """What wires in closed form add to programming and to a forward, against the same chip without."""
    plain = cs.map_model(digital, spec)
    wired = cs.map_model(digital, spec.evolve(wires={"max_c": None}))
    ratio = paired(lambda: wired.chip.reprogram(), lambda: plain.chip.reprogram(), 5)
    row("programming with wires (closed form) / without", ratio, "2")
    ratio = paired(lambda: wired(tokens, use_cache=False), lambda: plain(tokens, use_cache=False))
    row("forward with wires / without", ratio, "1.05")


def map_and_measure(digital: torch.nn.Module, spec: cs.ChipSpec, tokens: torch.Tensor) -> tuple[torch.nn.Module, int]:
    """A mapped model after a day and a forward, and the memory at its peak beyond the digital forward's."""
    small = cs.map_model(torch.nn.Linear(600, 300), spec)  # loads the kernels, whose code is not the model's memory
    small.chip.set_time("1d")
    small(torch.zeros(TOKENS, 600))
    before = peak_bytes(lambda: digital(tokens, use_cache=False))
    found: list[torch.nn.Module] = []

    def work() -> None:
        found.append(cs.map_model(digital, spec))
        found[0].chip.set_time("1d")
        found[0](tokens, use_cache=False)

    peak = peak_bytes(work)
    return found[0], peak - before


if __name__ == "__main__":
    main()
