"""Stuck devices and yield: which cells do not respond to programming, and how many."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from calibration.fit import Fit, Goodness, Provenance
from calibration.intervals import clopper_pearson, parameters
from calibration.picture import FitPicture
from calibration.tables import ProgrammingTable, RetentionTable
from device_models.effects import StuckFaults
from device_models.errors import UsageError

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

FAR = 5.0
"""A conductance this many robust s.d. off what its target usually gives is not a programming error; a normal one is
as far off in 6 of ten million writes."""
_LEAST_SHARE = 0.02
"""Nor is anything an outlier that is off by less than this part of the window."""
_ROWS_OF_A_BIN = 20
_MOST_BINS = 16
_MARGIN = 0.1
_DRAWS = 200


@dataclass(frozen=True, eq=False, kw_only=True)
class StuckFit(Fit):
    """Rates of devices stuck at the bottom, at the top and anywhere in the window, as of StuckFaults.

    Equation   a rate is a binomial share of the cells whose target would show such a fault, corrected for faults
               "anywhere" that lie in the bottom or top tenth of the window
               yield: one minus their sum, faults that do not show included
    Intervals  Clopper-Pearson; at least 90 % whatever the rate. Of the yield: the distances of the rates' ends from the
               rates, added in squares (G. Y. Zou, A. Donner, Stat. Med. 27, 1693 (2008), DOI 10.1002/sim.3095)

    low_cells, high_cells, other_cells   names of the cells that do not respond, by where they stick
    """

    low_cells: tuple[str, ...]
    high_cells: tuple[str, ...]
    other_cells: tuple[str, ...]

    def device_parts(self, g_uS: Floats, values: Floats | None = None) -> dict[str, Any]:
        p_reset, p_set, p_random, _ = (self.values if values is None else values).tolist()
        return {"faults": StuckFaults(p_reset=p_reset, p_set=p_set, p_random=p_random, source="fitted")}


def fit_stuck(
    table: ProgrammingTable | RetentionTable,
    *,
    seed: int = 0,
    g_min_uS: float | None = None,
    g_max_uS: float | None = None,
) -> StuckFit:
    """Find cells that do not respond, and their rates.

    A cell responds unless one of its conductances is an outlier among those of its target (`FAR`) and all of them are
    one conductance, the same for all its targets. Of a RetentionTable the first read of each cell is taken.

    Arguments  g_min_uS, g_max_uS: the window, at whose ends devices stick; none: lowest and highest target
    Errors     UsageError: no targets, fewer than 20 writes, one target only and no window
    """
    rows = _writes(table)
    low = float(rows.target.min()) if g_min_uS is None else g_min_uS
    high = float(rows.target.max()) if g_max_uS is None else g_max_uS
    if not 0 <= low < high:
        raise UsageError(
            f"window = {low:g} to {high:g} uS: must rise from at least 0 uS; give g_min_uS and g_max_uS where all "
            "cells have one target"
        )
    expected, sigma = _usual(rows.target.to_numpy(), rows.g.to_numpy())
    reach = np.maximum(FAR * sigma, _LEAST_SHARE * (high - low))
    rows = rows.assign(expected=expected, reach=reach, z=(rows.g - expected) / sigma)
    cells = _by_cell(rows)
    bottom, top = low + _MARGIN * (high - low), high - _MARGIN * (high - low)
    stuck, at = cells.stuck.to_numpy(), cells.level.to_numpy()
    fallen, risen = stuck & (at <= bottom), stuck & (at >= top)
    middle = stuck & ~fallen & ~risen
    # a fault shows only where the cell's targets lie off the place at which it would stick
    shows_low, shows_high = cells.hidden_from.to_numpy() > bottom, cells.hidden_to.to_numpy() < top
    visible = _visible(cells, bottom, top) / (high - low)

    counts = [int(np.sum(fallen & shows_low)), int(np.sum(risen & shows_high)), int(np.sum(middle))]
    trials = [int(np.sum(shows_low)), int(np.sum(shows_high)), len(cells)]
    for name, n in zip(("bottom", "top"), trials, strict=False):
        if n == 0:
            raise UsageError(f"g_target_uS: no cell has a target from which one stuck at the {name} could be told")
    seen = float(visible.mean())
    if seen <= 0:
        raise UsageError("g_uS: the spread at each target fills the window; stuck cells cannot be told")
    rates = np.array(counts) / np.array(trials)
    rows_of = np.array([rates, *clopper_pearson(counts, trials)])
    values, lows, highs = (_corrected(row, rates[2], seen) for row in rows_of)
    good = 1 - float(values.sum())
    yield_low, yield_high = good - np.linalg.norm(highs - values), good + np.linalg.norm(values - lows)
    names = cells.index.astype(str).to_numpy()
    return StuckFit(
        quantity="stuck devices",
        model="stuck at bottom, top or anywhere",
        parameters=parameters(
            ("p_reset", "p_set", "p_random", "yield"),
            [*values, good], [*lows, max(yield_low, 0.0)], [*highs, min(yield_high, 1.0)], ("1",) * 4,
        ),
        intervals="Clopper-Pearson",
        goodness=_tests(cells, middle, bottom, top),
        warnings=_warnings(cells, trials, seen),
        provenance=Provenance.of(table.source, len(rows), table.left_out),
        draws=_draws(counts, trials, seen, seed),
        picture=_picture(rows),
        window_uS=(low, high),
        low_cells=tuple(names[fallen].tolist()),
        high_cells=tuple(names[risen].tolist()),
        other_cells=tuple(names[middle].tolist()),
    )  # fmt: skip


def _writes(table: ProgrammingTable | RetentionTable) -> pd.DataFrame:
    if table.g_target_uS is None:
        raise UsageError("g_target_uS is missing: without targets a stuck cell looks like any other")
    frame = pd.DataFrame({"cell": table.cell, "target": table.g_target_uS, "g": table.g_uS})
    if isinstance(table, RetentionTable):
        frame = frame.assign(t=table.t_s).sort_values("t", kind="stable").drop_duplicates(["cell", "target"])
    if len(frame) < _ROWS_OF_A_BIN:
        raise UsageError(f"g_uS: {len(frame)} writes: must be at least {_ROWS_OF_A_BIN}")
    return frame.reset_index(drop=True)


def _usual(target: Floats, g: Floats) -> tuple[Floats, Floats]:
    """Median and robust s.d. of the conductance that each target gives.

    The wider of the distances from the median to the quantiles that are one s.d. off in a normal law, so that errors
    held at zero on one side do not look small. In bins of equal numbers, or one for each target; the median follows
    the target within a bin.
    """
    levels = np.unique(target)
    few = len(levels) <= max(_MOST_BINS, len(target) // _ROWS_OF_A_BIN)
    edges = levels if few else np.quantile(target, np.linspace(0, 1, _MOST_BINS + 1)[:-1])
    group = np.searchsorted(edges, target, side="right") - 1
    off = g - target
    low, median, high = np.array(
        [np.quantile(off[group == k], stats.norm.cdf([-1, 0, 1])) for k in range(len(edges))]
    ).T[:, group]
    sigma = np.maximum(high - median, median - low)
    return target + median, np.maximum(sigma, 1e-9 * np.ptp(levels) + 1e-12 * levels.max())


def _by_cell(rows: pd.DataFrame) -> pd.DataFrame:
    """Each cell: whether it is stuck, where, and the conductances (if any) at which that would stay hidden.

    Those are within reach of all of its targets: from hidden_from to hidden_to.
    """
    level = rows.groupby("cell").g.transform("median")
    rows = rows.assign(
        off=(rows.g - rows.expected).abs() > rows.reach,
        still=(rows.g - level).abs() <= rows.reach,
        below=rows.expected - rows.reach,
        above=rows.expected + rows.reach,
    )
    by_cell = rows.groupby("cell")
    cells = by_cell.agg(level=("g", "median"), off=("off", "any"), still=("still", "all"), writes=("g", "size"))
    cells = cells.assign(hidden_from=by_cell.below.max(), hidden_to=by_cell.above.min())
    return cells.assign(stuck=cells.off & cells.still)


def _visible(cells: pd.DataFrame, bottom: float, top: float) -> Floats:
    """Length of the conductances between bottom and top at which each cell would be seen to be stuck [uS]."""
    hidden = np.minimum(cells.hidden_to, top) - np.maximum(cells.hidden_from, bottom)
    return np.asarray((top - bottom) - np.maximum(hidden, 0.0), float)


def _corrected(observed: Floats, p_middle: float, seen: float) -> Floats:
    """(p_reset, p_set, p_random) from observed shares at the bottom, at the top and between."""
    anywhere = observed[2] / seen
    ends = np.maximum(observed[:2] - _MARGIN * p_middle / seen, 0.0)
    return np.array([*ends, min(anywhere, 1.0)])


def _draws(counts: list[int], trials: list[int], seen: float, seed: int) -> Floats:
    """From the binomials' posterior under Jeffreys' prior."""
    rng = np.random.default_rng(seed)
    shares = np.stack([rng.beta(k + 0.5, n - k + 0.5, _DRAWS) for k, n in zip(counts, trials, strict=True)], axis=1)
    rates = np.stack([_corrected(row, row[2], seen) for row in shares])
    rates /= np.maximum(rates.sum(axis=1, keepdims=True), 1.0)
    return np.column_stack([rates, 1 - rates.sum(axis=1)])


def _tests(cells: pd.DataFrame, middle: Flags, bottom: float, top: float) -> tuple[Goodness, ...]:
    """Whether cells that stick between the ends do so anywhere, which is the law of StuckFaults."""
    lost = cells[middle & (cells.writes == 1).to_numpy()]
    if len(lost) < 5:
        return ()
    level, first, last = (lost[name].to_numpy() for name in ("level", "hidden_from", "hidden_to"))
    # errors with heavy tails pile up next to the target; of a stuck cell any distance is as likely
    distance = np.where(level < first, (first - level) / (first - bottom), (level - last) / (top - last))
    result = stats.kstest(distance, "uniform")
    return (
        Goodness(
            test="Kolmogorov-Smirnov of how far from their target cells stick",
            statistic=float(result.statistic),
            p_value=float(result.pvalue),
        ),
    )


def _warnings(cells: pd.DataFrame, trials: list[int], seen: float) -> tuple[str, ...]:
    notes = []
    n = len(cells)
    for name, count in zip(("p_reset", "p_set"), trials, strict=False):
        if count < 0.5 * n:
            notes.append(f"{name}: rests on {count} of {n} cells; the targets of the others would not show it")
    if seen < 0.3:
        notes.append(f"p_random: only {seen:.0%} of the window between the ends would show a stuck cell")
    several = cells[cells.writes > 1]
    failed = int(np.sum(several.off & ~several.still))
    if failed:
        notes.append(f"{failed} cells missed a target by far but followed another: failed writes, not stuck")
    if len(several) == 0:
        notes.append("every cell has one target: a write that failed once cannot be told from a stuck cell")
    return tuple(notes)


def _picture(rows: pd.DataFrame) -> FitPicture:
    order = np.argsort(rows.target.to_numpy(), kind="stable")
    lines = [rows.target, rows.expected, rows.expected - rows.reach, rows.expected + rows.reach]
    band = tuple(np.asarray(line)[order] for line in lines)
    data = (rows.target, rows.g, rows.z.clip(-10, 10))
    return FitPicture.of(data, (band[0], band[1], band[2], band[3]), "target [uS]", "conductance [uS]")
