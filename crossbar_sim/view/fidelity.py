"""Pictures of fidelity reports."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from crossbar_sim.view.missing import count_missing, mark_missing
from device_models.errors import UsageError


def plot_fidelity(frame: pd.DataFrame, path: str | Path) -> Path:
    """Error of every column (mean as a point, s.d. as a bar): against the digital product, against the tier below.

    What is not finite is marked at the edge; the axis spans all columns.
    """
    if frame.empty:
        raise UsageError("plot: the table has no rows")
    against_digital = frame["versus"] == "digital"
    tiers = list(dict.fromkeys(frame["tier"]))
    figure = Figure(figsize=(10.4, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    panels = {"error against the digital product": against_digital, "error against the tier below": ~against_digital}
    for number, (label, chosen) in enumerate(panels.items(), start=1):
        axes = figure.add_subplot(1, 2, number)
        for k, tier in enumerate(tiers):
            rows = frame[chosen & (frame["tier"] == tier)]
            if rows.empty:
                continue
            aside = 0.2 * (k - (len(tiers) - 1) / 2)  # so that bars of one column lie side by side
            text = tier if number == 1 else f"{tier} - {rows['versus'].iloc[0]}"
            at, mean, sd = (rows[name].to_numpy(float) for name in ("column", "mean", "sd"))
            finite = np.isfinite(mean)
            bar = np.where(np.isfinite(sd), sd, np.nan)
            axes.errorbar(
                at[finite] + aside, mean[finite], bar[finite],
                fmt="o", color=f"C{k}", markersize=3, linewidth=1, label=text,
            )  # fmt: skip
            worst = {c + aside: [m if not np.isfinite(m) else s] for c, m, s in zip(at, mean, sd, strict=True)}
            mark_missing(axes, worst, f"C{k}", k)
        count_missing(axes, frame.loc[chosen, ["mean", "sd"]].to_numpy(float).ravel())
        axes.set_xlim(frame["column"].min() - 0.5, frame["column"].max() + 0.5)
        axes.axhline(0.0, color="black", linestyle="--", linewidth=1)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("column")
        axes.set_ylabel(label)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(tiers))
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, dpi=150)
    return target
