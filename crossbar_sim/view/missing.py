"""What a picture shows of values that have no place on an axis: infinite ones and NaN."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.typing import ColorType
from numpy.typing import ArrayLike

_LINE = 0.06  # height of a line of text, as a share of the axes


def mark_missing(axes: Axes, values: Mapping[float, ArrayLike], color: ColorType, line: int) -> None:
    """Marks at the edge of `axes` for values, by their place on its x axis, that are not finite.

    Each has a triangle and says what it is and, where others at its place are finite, how many are not. They stand at
    the upper edge, those that are -inf at the lower one, on the given line of text so that several colours have room.
    """
    for at, own in values.items():
        numbers = np.asarray(own, np.float64)
        for name, found in (("inf", np.isposinf(numbers)), ("nan", np.isnan(numbers)), ("-inf", np.isneginf(numbers))):
            if not found.any():
                continue
            count = "" if found.all() else f" {found.sum()} of {len(found)}"
            height = _LINE * (line + 0.5)
            y, marker = (height, "v") if name == "-inf" else (1 - height, "^")
            where = axes.get_xaxis_transform()
            axes.plot([at], [y], marker=marker, color=color, markersize=5, transform=where, label="_missing")
            axes.annotate(
                f"{name}{count}", (at, y), xycoords=where, xytext=(4, 0), textcoords="offset points", color=color,
                fontsize="x-small", verticalalignment="center",
            )  # fmt: skip


def count_missing(axes: Axes, values: Iterable[float]) -> None:
    """Say above `axes` how many values are not finite, where there are any."""
    finite = np.isfinite(list(values))
    if not finite.all():
        axes.set_title(f"not finite: {(~finite).sum()} of {len(finite)} values", fontsize="small", color="C3")
