"""Pictures of sweeps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from crossbar_sim.view.missing import count_missing, mark_missing
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
    lowest to the highest device (uncertainty of the fit), each a mean over seeds. A line is broken where a value is not
    finite; marks at the edge say what it is. Its finite values are drawn as points, and the bands are those of them.
    The time axis spans all times.
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
    place = {t: t or first_positive / 10 for t in times}  # zero has no place on a log axis: one decade earlier
    finite = rows.assign(value=rows["value"].where(np.isfinite(rows["value"])))
    for number, (chip, own) in enumerate(finite.groupby("chip", sort=False)):
        seeds, devices = (_means(own, ["time_s", by]).unstack() for by in ("seed", "device"))
        at = [place[t] for t in seeds.index]
        (line,) = axes.plot(at, _means(own, ["time_s"]), marker="o", markersize=4, label=str(chip))
        color = line.get_color()
        means = _means(own, ["time_s"])
        alone = own[own["time_s"].isin(means.index[means.isna()]) & own["value"].notna()]
        if not alone.empty:
            places = [place[t] for t in alone["time_s"]]
            axes.scatter(places, alone["value"], s=9, color=line.get_color(), label="_alone")
        by_time = rows[rows["chip"] == chip].groupby("time_s")["value"]
        mark_missing(axes, {place[t]: values.to_numpy() for t, values in by_time}, color, number)
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
    shown = digital if np.isfinite(digital) else np.nan
    axes.axhline(shown, color="black", linestyle="--", linewidth=1, label="digital")
    mark_missing(axes, {place[times[0]]: [digital]}, "black", rows["chip"].nunique())
    axes.set_xscale("log")
    first, last = place[times[0]], place[times[-1]]
    margin = (last / first) ** 0.05 if last > first else 2.0
    axes.set_xlim(first / margin, last * margin)
    axes.xaxis.set_major_locator(FixedLocator(list(place.values())))
    names = {place[t]: readable_time(t) for t in times}
    axes.xaxis.set_major_formatter(FuncFormatter(lambda t, _: names.get(t, readable_time(t))))
    axes.xaxis.set_minor_locator(NullLocator())
    count_missing(axes, rows["value"])
    values = [value for value in (*rows["value"], digital) if np.isfinite(value)]
    if values and min(values) > 0 and max(values) > _LOGARITHMIC_ABOVE * max(1.0, min(values)):
        axes.set_yscale("log")
    axes.set_xlabel("time after programming")
    axes.grid(alpha=0.3)


def _means(rows: pd.DataFrame, by: list[str]) -> pd.Series:
    """Mean values of groups; NaN where a value is missing."""
    return rows.groupby(by)["value"].agg(lambda values: values.mean(skipna=False))
