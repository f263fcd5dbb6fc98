"""What all benchmarks share: paired timings, peaks of memory, the machine in words, and generated sections of the page.

A ratio is the median over runs that alternate between the two, so that a machine that slows down slows both.
"""

from __future__ import annotations

import os
import re
import statistics
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import torch

RUNS = int(os.environ.get("BENCH_RUNS", "9"))
"""Alternating runs of a ratio."""
PAGE = Path(__file__).parents[2] / "docs" / "performance.md"
Work = Callable[[], object]


class Ratio(NamedTuple):
    """Of two times: median, lowest, highest."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f})"


def seconds(work: Work) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def paired(work: Work, base: Work, runs: int = RUNS) -> Ratio:
    """How many times longer `work` takes than `base`, after a warm-up of each."""
    base(), work()
    ratios = []
    for _ in range(runs):
        denominator = seconds(base)
        ratios.append(seconds(work) / denominator)
    return Ratio(statistics.median(ratios), min(ratios), max(ratios))


def resident_bytes(field: str = "VmRSS") -> int:
    """Memory of this process now (VmRSS) or at its peak (VmHWM) (Linux)."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    return int(fields[field].split()[0]) * 1024


def peak_bytes(work: Work) -> int:
    """Largest resident memory of this process while `work` runs (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")
    work()
    return resident_bytes("VmHWM")


def machine() -> str:
    """The processor by what it can do, and the libraries."""
    flags = set(re.findall(r"^flags\s*:\s*(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)[0].split())
    known = {"avx2": "AVX2", "fma": "FMA", "avx512f": "AVX-512", "avx512_bf16": "bfloat16 products", "amx_bf16": "AMX"}
    has = [name for flag, name in known.items() if flag in flags]
    lacks = [name for flag, name in known.items() if flag not in flags]
    cache = Path("/sys/devices/system/cpu/cpu0/cache/index2/size")
    second = f", {cache.read_text().strip()[:-1]} KB of second-level cache a core" if cache.exists() else ""
    without = f", without {', '.join(lacks)}" if lacks else ""
    libraries = ", ".join(f"{name} {version(name).split('+')[0]}" for name in ("torch", "numba"))
    return f"{torch.get_num_threads()} threads, {', '.join(has)}{without}{second}; {libraries}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows))


def publish(section: str, text: str) -> None:
    """Print `text` and put it between the markers of its section of docs/performance.md."""
    print(text, flush=True)
    start, stop = f"<!-- {section} -->", f"<!-- end of {section} -->"
    page = PAGE.read_text(encoding="utf-8")
    if page.count(start) != 1 or page.count(stop) != 1:
        raise SystemExit(f"{PAGE.name}: has no section {start} ... {stop}")
    before, rest = page.split(start)
    PAGE.write_text(f"{before}{start}\n\n{text.strip()}\n\n{stop}{rest.split(stop)[1]}", encoding="utf-8")
