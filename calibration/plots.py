"""Pictures of fits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy.stats import norm

from device_models.errors import StoreError, UsageError

if TYPE_CHECKING:
    from calibration.fit import Fit
    from calibration.picture import FitPicture


def plot_fit(fit: Fit, path: str | Path | None = None) -> Figure:
    """Measurements with the fitted 90 % band; residuals; quantiles of residuals against the standard normal.

    Written to `path` where given. UsageError for a fit without a picture.
    """
    return plot_fits([fit], path)


def plot_fits(fits: Sequence[Fit], path: str | Path | None = None) -> Figure:
    """The pictures of several fits, a row for each."""
    if not fits:
        raise UsageError("plot: none of these fits has a picture")
    figure = Figure(figsize=(13, 4 * len(fits)), layout="constrained")
    FigureCanvasAgg(figure)
    for fit, (data, residuals, quantiles) in zip(fits, figure.subplots(len(fits), 3, squeeze=False), strict=True):
        if fit.picture is None:
            raise UsageError(f"{fit.quantity}: this fit has nothing to draw")
        _plot_data(data, fit.picture)
        data.set_title(f"{fit.quantity}: {fit.model}", fontsize=10)
        _plot_residuals(residuals, fit.picture)
        _plot_quantiles(quantiles, fit.picture)
    if path is not None:
        try:
            figure.savefig(Path(path), dpi=150)
        except (OSError, ValueError) as error:  # ValueError: a format that matplotlib cannot write
            raise StoreError(f"{path}: cannot be written: {error}") from None
    return figure


def _plot_data(axes: Axes, picture: FitPicture) -> None:
    size = 16.0 if len(picture.x) < 200 else 3.0
    axes.scatter(picture.x, picture.y, s=size, color="C0", alpha=0.6, label="measured", rasterized=True)
    axes.plot(picture.band_x, picture.centre, color="C1", label="fit")
    axes.fill_between(picture.band_x, picture.low, picture.high, color="C1", alpha=0.25, linewidth=0, label="90 % band")
    axes.set_ylabel(picture.y_label)
    axes.legend(frameon=False)
    _abscissa(axes, picture)


def _plot_residuals(axes: Axes, picture: FitPicture) -> None:
    axes.scatter(picture.x, picture.residuals, s=4, color="C0", alpha=0.6, rasterized=True)
    for level in (-norm.ppf(0.95), 0.0, norm.ppf(0.95)):
        axes.axhline(level, color="black", linewidth=0.8, linestyle="-" if level == 0 else "--")
    axes.set_ylabel("standardised residual")
    _abscissa(axes, picture)


def _plot_quantiles(axes: Axes, picture: FitPicture) -> None:
    ordered = np.sort(picture.residuals)
    expected = norm.ppf((np.arange(len(ordered)) + 0.5) / len(ordered))
    axes.scatter(expected, ordered, s=4, color="C0", rasterized=True)
    ends = [expected[0], expected[-1]] if len(ordered) else [-1.0, 1.0]
    axes.plot(ends, ends, color="black", linewidth=0.8)
    axes.set_xlabel("quantile of the law (standard normal)")
    axes.set_ylabel("quantile of the residuals")
    axes.grid(alpha=0.3)


def _abscissa(axes: Axes, picture: FitPicture) -> None:
    axes.set_xlabel(picture.x_label)
    if picture.log_x:
        axes.set_xscale("log")
    axes.grid(alpha=0.3)
