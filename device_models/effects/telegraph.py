"""Random telegraph noise: traps that switch the conductance of a device between two values.

Source of the process: S. Machlup, "Noise in semiconductors: spectrum of a two-parameter random signal", J. Appl. Phys.
25, 341 (1954), DOI 10.1063/1.1721637. Magnitudes are the user's.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field, model_validator

from device_models.effects.checks import checked
from device_models.laws import LOWEST_RATIO
from device_models.strict import Count, Fraction, KindOf, NonNegative, Positive, StrictModel


class AbstractTrapAmplitude(StrictModel, ABC):
    """Difference between the two conductances that a trap switches between."""

    @abstractmethod
    def delta_uS(self, g_uS: ArrayLike, g_max_uS: float) -> NDArray[np.float64]:
        """Amplitude of each trap of devices with conductance g [uS]."""


class AbsoluteAmplitude(AbstractTrapAmplitude):
    """The same amplitude for every conductance."""

    kind: Literal["absolute"] = "absolute"
    amplitude_uS: Positive = Field(description="Difference of the two conductances, per trap")

    def delta_uS(self, g_uS: ArrayLike, g_max_uS: float) -> NDArray[np.float64]:
        return np.full_like(checked("g_uS", g_uS, 0.0), self.amplitude_uS)


class RelativeAmplitude(AbstractTrapAmplitude):
    """An amplitude relative to the conductance: delta = g min(a (g / g_max)^-exponent, cap)."""

    kind: Literal["relative"] = "relative"
    at_g_max: Fraction = Field(description="a: amplitude at g_max relative to the conductance, per trap")
    exponent: NonNegative = Field(0.0, description="The relative amplitude grows as (g/g_max)^-exponent")
    cap: Fraction = Field(1.0, description="Upper limit of the relative amplitude")

    def delta_uS(self, g_uS: ArrayLike, g_max_uS: float) -> NDArray[np.float64]:
        g = checked("g_uS", g_uS, 0.0)
        r = np.maximum(g / float(checked("g_max_uS", g_max_uS, 0.0, above_low=True)), LOWEST_RATIO)
        return g * np.minimum(self.at_g_max * r**-self.exponent, self.cap)


def _kinds() -> Mapping[str, type[StrictModel]]:
    return {"absolute": AbsoluteAmplitude, "relative": RelativeAmplitude}


TrapAmplitude = Annotated[AbsoluteAmplitude | RelativeAmplitude, KindOf(_kinds)]


class TelegraphNoise(StrictModel):
    """Independent two-state traps, stationary from the end of programming on.

    Equation   g(t) = g + sum over traps of delta (s(t) - p), s = 1 with probability p and else 0;
               cov(s(t), s(t + T)) = p (1 - p) exp(-T / tau), tau log-uniform in [tau_min, tau_max] over the traps.
               A trap stays in state 1 for tau / (1 - p) and in state 0 for tau / p on average, and its power spectrum
               is a Lorentzian; many log-uniform traps make 1/f noise
    Split      traps with tau below the observation window vary from read to read, with variance delta^2 p (1 - p);
               the others keep their state at t throughout
    Source     Machlup 1954
    """

    amplitude: TrapAmplitude = Field(description="Difference of the two conductances, per trap")
    occupation: Annotated[float, Field(strict=True, allow_inf_nan=False, gt=0, lt=1)] = Field(
        0.5, description="p: share of time that a trap spends in the state of higher conductance"
    )
    tau_min_s: Positive = Field(description="Shortest correlation time of a trap")
    tau_max_s: Positive = Field(description="Longest correlation time of a trap")
    traps_per_device: Count = Field(1, description="Most traps that a device has")
    p_trap: Fraction = Field(1.0, description="Chance that each of these traps is there")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.tau_min_s > self.tau_max_s:
            raise ValueError(f"tau_min_s = {self.tau_min_s:g} must not be above tau_max_s = {self.tau_max_s:g}")
        return self

    @property
    def is_ideal(self) -> bool:
        return False

    def fast_share(self, t_obs_s: float) -> float:
        """Share of traps faster than the observation window, tau < t_obs_s; 0 and infinity are windows, too [1]."""
        if math.isnan(t_obs_s) or t_obs_s < 0:
            checked("t_obs_s", t_obs_s, 0.0)
        if t_obs_s <= self.tau_min_s:
            return 0.0
        if t_obs_s > self.tau_max_s:
            return 1.0
        return math.log(t_obs_s / self.tau_min_s) / math.log(self.tau_max_s / self.tau_min_s)

    def variance(self) -> float:
        """Variance of a device over traps and time, both shares together, in units of delta^2 [1]."""
        return self.traps_per_device * self.p_trap * self.occupation * (1 - self.occupation)
