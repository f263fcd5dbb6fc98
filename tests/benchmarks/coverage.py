"""Do intervals cover, are estimates centred, are wrong laws rejected and right ones kept? For every fitter, many times.

    python -P tests/benchmarks/coverage.py [FITTER ...] [--repeats 200] [--parameters]

Each repeat simulates a table with known parameters and fits it twice (tests/unit/repeated_fits.py): with the law it was
drawn from, and with one that is wrong for it. A 90 % interval should cover in 85 to 95 % of repeats (200 of them have a
standard error of 2.1 %), bias be below a quarter of its width, a wrong law rejected in 80 %, the right one in 10 %.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from rich.box import MARKDOWN
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))

from repeated_fits import CASES


def study(name: str, repeats: int, progress: Progress) -> tuple[dict[str, tuple[float, float]], float, float]:
    """Coverage and bias over interval width by parameter, and shares of repeats that reject the wrong and right law."""
    case, task = CASES[name], progress.add_task(name, total=repeats)
    found, wrong = [], []
    for seed in range(repeats):
        found.append(case.right(seed))
        wrong.append(case.wrong(seed))
        progress.advance(task)
    by_name = {}
    for k, parameter in enumerate(found[0].truth):  # names may hold conductances, which differ from table to table
        pairs = [(one.parameters, list(one.truth.items())[k]) for one in found]
        rows = [(p, true) for own, (name_k, true) in pairs for p in own if p.name == name_k]
        covered = np.sum([p.low <= true <= p.high for p, true in rows]) / repeats  # a parameter that is missing misses
        width = np.mean([p.high - p.low for p, _ in rows])
        by_name[parameter] = (float(covered), float(np.mean([p.value - true for p, true in rows]) / width))
    return by_name, float(np.mean(wrong)), float(np.mean([one.rejected for one in found]))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("fitter", nargs="*", help=f"of {', '.join(CASES)}; none: all")
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--parameters", action="store_true", help="a line for each parameter")
    chosen = parser.parse_args()
    unknown = set(chosen.fitter) - set(CASES)
    if unknown:
        parser.error(f"{', '.join(unknown)}: must be of {', '.join(CASES)}")
    console = Console(width=None if sys.stdout.isatty() else 160)
    heads = ("fitter", "one table", "parameters", "coverage %", "|bias| / width", "right rejected", "wrong rejected")
    table = Table(*heads, "wrong law", title=f"{chosen.repeats} repeats", box=MARKDOWN)
    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as progress:
        for name in chosen.fitter or CASES:
            by_name, wrong, right = study(name, chosen.repeats, progress)
            covered, bias = 100 * np.array(list(by_name.values())).T[0], np.abs([b for _, b in by_name.values()])
            share = f"{covered.mean():.1f} ({covered.min():.1f} to {covered.max():.1f})"
            rates = (f"{100 * right:.1f} %", f"{100 * wrong:.1f} %")
            table.add_row(
                name, CASES[name].size, str(len(by_name)), share, f"{bias.max():.2f}", *rates, CASES[name].wrong_law
            )
            for parameter, (own, offset) in by_name.items() if chosen.parameters else ():
                table.add_row("", "", parameter, f"{100 * own:.1f}", f"{offset:+.2f}", "", "", "")
    console.print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
