"""Pictures of fidelity reports."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from device_models.errors import UsageError


def plot_fidelity(frame: pd.DataFrame, path: str | Path) -> Path:
    """Error of every column (mean as a point, s.d. as a bar): against the digital product, against the tier below."""
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
            axes.errorbar(at + aside, mean, sd, fmt="o", color=f"C{k}", markersize=3, linewidth=1, label=text)
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
