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

    Lines are means over seeds and devices, the dashed line is the digital model. Filled bands reach from the lowest to
    the highest seed (chip to chip), each a mean over devices; hatched ones, where a chip has several devices, from the
    lowest to the highest device (uncertainty of the fit), each a mean over seeds.
    """
    if frame.empty:
        raise UsageError("plot: the table has no rows")
    if "device" not in frame:
        frame = frame.assign(device=0)
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
        seeds, devices = (own.groupby(["time_s", by])["value"].mean().unstack() for by in ("seed", "device"))
        at = [t or first_positive / 10 for t in seeds.index]  # zero has no place on a log axis: one decade earlier
        (line,) = axes.plot(at, own.groupby("time_s")["value"].mean(), marker="o", markersize=4, label=str(chip))
        color = line.get_color()
        axes.fill_between(at, seeds.min(axis=1), seeds.max(axis=1), color=color, alpha=0.2, linewidth=0)
        if devices.shape[1] > 1:
            axes.fill_between(
                at,
                devices.min(axis=1),
                devices.max(axis=1),
                facecolor="none",
                edgecolor=color,
                hatch="///",
                linewidth=0.5,
                label=f"{chip}: uncertainty of the fit",
            )
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
