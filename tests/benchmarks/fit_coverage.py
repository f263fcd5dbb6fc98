"""Do intervals cover, are estimates centred, are wrong laws rejected and right ones kept? For every fitter, many times.

    python tests/benchmarks/fit_coverage.py [CASE ...] [--repeats 200] [--parameters]

Each repeat simulates a table with known parameters and fits it (tests/unit/repeated_fits.py) with the law it was drawn
from, the first fifty also with one that is wrong for them. A 90 % interval should cover in 85 to 95 % of repeats (200
of them have a standard error of 2.1 %), bias be below a quarter of its width, a wrong law rejected in 80 %, the right
one in 10 %. A case of 200 repeats or more takes the place of its row in docs/calibration.md.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.progress import Progress

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))

from repeated_fits import CASES, Case, Repeat

PAGE = Path(__file__).parents[2] / "docs" / "calibration.md"
START, STOP = "<!-- coverage -->", "<!-- end of coverage -->"
HEADS = (
    "fitter",
    "law",
    "one table",
    "coverage: mean (lowest to highest parameter)",
    "bias / width",
    "right law rejected",
    "wrong law rejected",
)
ENOUGH, OF_WRONG_LAWS = 200, 50
"""Repeats for the page, and those of wrong laws at most: a share of 80 % has a standard error of 6 % then."""


class Study(NamedTuple):
    """Coverage and bias over interval width by parameter, and shares of repeats that reject the right and wrong law."""

    parameters: dict[str, tuple[float, float]]
    right: float | None
    wrong: float | None

    @classmethod
    def of(cls, found: list[Repeat], wrong: list[bool]) -> Study:
        by_name = {}
        for k, parameter in enumerate(found[0].truth):  # names may hold conductances, which differ from table to table
            pairs = [(one.parameters, list(one.truth.items())[k]) for one in found]
            rows = [(p, true) for own, (name, true) in pairs for p in own if p.name == name]
            covered = np.sum([p.low <= true <= p.high for p, true in rows]) / len(found)  # a missing parameter misses
            width = np.mean([p.high - p.low for p, _ in rows])
            by_name[parameter] = (float(covered), float(np.mean([p.value - true for p, true in rows]) / width))
        tested = [one.rejected for one in found if one.rejected is not None]
        return cls(by_name, *(float(np.mean(flags)) if flags else None for flags in (tested, wrong)))

    def row(self, case: Case) -> str:
        """Of the table in Markdown."""
        covered, bias = np.array(list(self.parameters.values())).T
        share = f"{100 * covered.mean():.1f} % ({100 * covered.min():.1f} to {100 * covered.max():.1f})"
        right = "-" if self.right is None else f"{100 * self.right:.1f} %"
        wrong = "-" if self.wrong is None else f"{100 * self.wrong:.1f} % ({case.wrong_law})"
        cells = (f"`{case.fitter}`", case.law, case.size, share, f"{np.abs(bias).max():.2f}", right, wrong)
        return f"| {' | '.join(cells)} |"


def study(case: Case, repeats: int, progress: Progress) -> Study:
    task = progress.add_task(f"{case.fitter}, {case.law}", total=repeats)
    found, wrong = [], []
    for seed in range(repeats):
        found.append(case.right(seed))
        wrong += [case.wrong(seed)] if case.wrong and seed < OF_WRONG_LAWS else []
        progress.advance(task)
    return Study.of(found, wrong)


def publish(rows: dict[str, str]) -> None:
    """Put rows, by name of their case, into the table of the page; those of other cases stay as they are."""
    before, rest = PAGE.read_text(encoding="utf-8").split(START)
    table, after = rest.split(STOP)
    lines = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in table.splitlines() if "|" in line]
    known = {(cells[0], cells[1]): f"| {' | '.join(cells)} |" for cells in lines[2:]}
    keys = {name: (f"`{case.fitter}`", case.law) for name, case in CASES.items()}
    merged = known | {keys[name]: row for name, row in rows.items()}
    text = "\n".join([*head(), *(merged[key] for key in keys.values() if key in merged)])
    PAGE.write_text(f"{before}{START}\n\n{text}\n\n{STOP}{after}", encoding="utf-8")


def head() -> tuple[str, str]:
    return f"| {' | '.join(HEADS)} |", f"| {' | '.join(['---'] * len(HEADS))} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("case", nargs="*", help=f"of {'; '.join(CASES)}; none: all")
    parser.add_argument("--repeats", type=int, default=ENOUGH)
    parser.add_argument("--parameters", action="store_true", help="a line for each parameter")
    chosen = parser.parse_args()
    unknown = set(chosen.case) - set(CASES)
    if unknown:
        parser.error(f"{'; '.join(unknown)}: must be of {'; '.join(CASES)}")
    print("\n".join(head()), flush=True)
    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as progress:
        for name in chosen.case or CASES:
            found = study(CASES[name], chosen.repeats, progress)
            print(found.row(CASES[name]), flush=True)
            for parameter, (covered, bias) in found.parameters.items() if chosen.parameters else ():
                print(f"    {parameter}: {100 * covered:.1f} %, {bias:+.2f}")
            if chosen.repeats >= ENOUGH:
                publish({name: found.row(CASES[name])})
    return 0


if __name__ == "__main__":
    sys.exit(main())
