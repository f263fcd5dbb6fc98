"""The arrays of a fit's picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike

from calibration.storage import Array
from device_models.errors import UsageError

MOST_POINTS = 3000
"""A picture keeps at most so many measurements, evenly over their abscissa; more cannot be told apart."""


@dataclass(frozen=True, eq=False)
class FitPicture:
    """Measurements, the fitted band and the residuals.

    x, y, residuals            measurements, one value each; residuals are standard normal under the law
    band_x, centre, low, high  the law: its centre and the 90 % band of what is drawn in y
    x_label, y_label           with units
    log_x                      logarithmic abscissa
    """

    x: Array
    y: Array
    residuals: Array
    band_x: Array
    centre: Array
    low: Array
    high: Array
    x_label: str
    y_label: str
    log_x: bool = False

    @classmethod
    def of(
        cls,
        data: tuple[ArrayLike, ArrayLike, ArrayLike],
        band: tuple[ArrayLike, ArrayLike, ArrayLike, ArrayLike],
        x_label: str,
        y_label: str,
        *,
        log_x: bool = False,
    ) -> Self:
        """From data = (x, y, residuals) and band = (band_x, centre, low, high); many measurements are thinned."""
        x, y, residuals = (np.asarray(values, float).ravel() for values in data)
        band_x, centre, low, high = (np.asarray(values, float).ravel() for values in band)
        lines = (band_x, centre, low, high)
        if not len(x) == len(y) == len(residuals) or len({len(line) for line in lines}) != 1:
            sizes = [len(x), len(y), len(residuals), *map(len, lines)]
            raise UsageError(f"picture: arrays of {sizes} values: data and band must each have one length")
        order = np.argsort(x, kind="stable")
        keep = order[np.unique(np.linspace(0, len(x) - 1, min(len(x), MOST_POINTS)).astype(int))]
        return cls(x[keep], y[keep], residuals[keep], band_x, centre, low, high, x_label, y_label, log_x)
