"""When a chip in use is compensated and written anew."""

from __future__ import annotations

import math
from typing import NamedTuple, Self

from device_models.errors import UsageError
from device_models.units import seconds


class Moment(NamedTuple):
    """The state of a chip at one time: which writing of its devices, how long ago, and of when its compensation is."""

    write: int
    age_s: float
    compensated_s: float | None
    """Since the same writing; None: renewed now."""


class Schedule(NamedTuple):
    """Periods on the time axis, counted from the first programming; refreshes are counted from the last writing."""

    refresh_s: float | None
    reprogram_s: float | None

    @classmethod
    def of(cls, refresh: float | str | None, reprogram: float | str | None, path: str = "") -> Self:
        """From seconds or texts such as "1d"; UsageError for what is no time above 0."""
        return cls(_period(refresh, f"{path}refresh"), _period(reprogram, f"{path}reprogram"))

    def at(self, t_s: float) -> Moment:
        """The moment `t_s` seconds after the first programming.

        Equation   write = floor(t / T_reprogram), age = t - write T_reprogram,
                   compensated = floor(age / T_refresh) T_refresh; at a multiple of a period it has just happened
        """
        write = 0 if self.reprogram_s is None else _whole(t_s, self.reprogram_s)
        age_s = t_s if self.reprogram_s is None else max(t_s - write * self.reprogram_s, 0.0)
        if self.refresh_s is None:
            return Moment(write, age_s, None)
        return Moment(write, age_s, min(_whole(age_s, self.refresh_s) * self.refresh_s, age_s))


def _period(value: float | str | None, name: str) -> float | None:
    if value is None:
        return None
    period_s = seconds(value, name)
    if period_s == 0:
        raise UsageError(f"{name} = {value!r}: must be above 0 s, or None")
    return period_s


def _whole(t_s: float, period_s: float) -> int:
    """Whole periods in a time, where rounding must not take the last one away: 0.3 s are 3 times 0.1 s."""
    return math.floor(t_s / period_s * (1 + 1e-12))
