"""The check of numbers that enter a law."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from device_models.errors import UsageError


def checked(
    name: str, values: ArrayLike, low: float = -math.inf, high: float = math.inf, *, above_low: bool = False
) -> NDArray[np.float64]:
    """`values` as float64; UsageError where one is not finite or lies outside [low, high] ((low, high] if `above_low`).

    The message has the first refused value.
    """
    array = np.asarray(values, float)
    if array.size == 0:
        return array
    lowest, highest = array.min(), array.max()  # NaN where one is; arrays of truths would take longer than a law
    above = lowest > low if above_low else lowest >= low
    if not (above and highest <= high and math.isfinite(lowest) and math.isfinite(highest)):
        inside = np.isfinite(array) & ((array > low) if above_low else (array >= low)) & (array <= high)
        rule = "finite"
        if low > -math.inf:
            rule += f" and {'above' if above_low else 'at least'} {low:g}"
        if high < math.inf:
            rule += f" and at most {high:g}"
        raise UsageError(f"{name} = {array[~inside].flat[0]:g}: must be {rule}")
    return array
