"""Pictures of sweeps."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from device_models.errors import UsageError
from device_models.units import readable_time

_LABELS = {
    "perplexity": "perplexity",
    "next_token_accuracy": "next-token accuracy",
    "kl_to_digital": "KL divergence from digital [nat]",
}
_LOGARITHMIC_ABOVE = 8.0  # times the smallest value, for values that leave [0, 1]: shares stay linear


def plot_sweep(frame: pd.DataFrame, path: str | Path) -> Path:
    """Every metric of a sweep table against time after programming (log axis).

    Lines are means over seeds, bands reach from the lowest to the highest seed, the dashed line is the digital model.
    """
    if frame.empty:
        raise UsageError("plot: the table has no rows")
    metrics = list(dict.fromkeys(frame["metric"]))
    figure = Figure(figsize=(5.2 * len(metrics), 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    for index, metric in enumerate(metrics):
        axes = figure.add_subplot(1, len(metrics), index + 1)
        _plot_metric(axes, frame[frame["metric"] == metric])
        axes.set_ylabel(_LABELS.get(metric, metric.replace("_", " ")))
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(4, len(labels)), frameon=False)
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, dpi=150)
    return target


def _plot_metric(axes: Axes, rows: pd.DataFrame) -> None:
    times = sorted(set(rows["time_s"]))
    first_positive = min((t for t in times if t > 0), default=1.0)
    for chip, own in rows.groupby("chip", sort=False):
        stats = own.groupby("time_s")["value"].agg(["mean", "min", "max"])
        at = [t or first_positive / 10 for t in stats.index]  # zero has no place on a log axis: one decade earlier
        (line,) = axes.plot(at, stats["mean"], marker="o", markersize=4, label=str(chip))
        axes.fill_between(at, stats["min"], stats["max"], color=line.get_color(), alpha=0.2, linewidth=0)
    digital = float(rows["digital"].iloc[0])
    axes.axhline(digital, color="black", linestyle="--", linewidth=1, label="digital")
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator([t or first_positive / 10 for t in times]))
    names = {t or first_positive / 10: readable_time(t) for t in times}
    axes.xaxis.set_major_formatter(FuncFormatter(lambda t, _: names.get(t, readable_time(t))))
    axes.xaxis.set_minor_locator(NullLocator())
    values = [*rows["value"], digital]
    if min(values) > 0 and max(values) > _LOGARITHMIC_ABOVE * max(1.0, min(values)):
        axes.set_yscale("log")
    axes.set_xlabel("time after programming")
    axes.grid(alpha=0.3)
