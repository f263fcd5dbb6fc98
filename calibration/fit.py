"""What every fitter returns: parameters with intervals, how good the fit is, and the device it makes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from importlib.metadata import version as package_version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from calibration.picture import FitPicture
from calibration.storage import Array, load_fit, save_fit
from device_models.base import AbstractDevice
from device_models.errors import UsageError, nearest
from device_models.fit_record import FitRecord, FittedLaw, Parameter, SourceFile
from device_models.strict import Count, Number, StrictModel, Text
from device_models.tabulated import Tabulated

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Candidate", "Fit", "Goodness", "LeftOut", "Parameter", "Provenance", "SourceFile"]

TABLE_POINTS = 65
"""Conductances of a fitted device's table, closer together at small ones, where the laws bend."""


class Candidate(StrictModel):
    """One law that was tried, ranked by held-out log likelihood."""

    model: Text = Field(description="Name of the law")
    n_parameters: int = Field(description="Free parameters", ge=0)
    score: Number = Field(description="Held-out log likelihood per observation [nat]")
    score_se: Number = Field(description="Standard error of the difference to the best score [nat]")
    chosen: bool = Field(description="Whether this is the law of the fit")


class Goodness(StrictModel):
    """A test of the null hypothesis that the measurements come from the fitted law."""

    test: Text = Field(description="Name of the test")
    statistic: Number = Field(description="Its statistic")
    p_value: float = Field(description="Chance of a statistic at least as large under the fitted law", ge=0, le=1)
    level: float = Field(0.05, description="The law is rejected where the p-value is below", gt=0, lt=1)

    @property
    def rejected(self) -> bool:
        return self.p_value < self.level


class LeftOut(StrictModel):
    """Measurements that were not used."""

    reason: Text = Field(description="Why")
    count: Count = Field(description="How many")


class Provenance(StrictModel):
    """Which measurements a fit rests on."""

    files: tuple[SourceFile, ...] = Field((), description="Measurements; none where they came from memory")
    date: Text = Field(default_factory=lambda: date.today().isoformat(), description="Day of the fit, ISO 8601")
    version: Text = Field(
        default_factory=lambda: package_version("crossbar-sim"), description="Version of crossbar-sim that fitted"
    )
    n_used: Count = Field(description="Observations that were used")
    left_out: tuple[LeftOut, ...] = Field((), description="Observations that were not, and why")

    @classmethod
    def of(cls, files: tuple[SourceFile, ...], n_used: int, left_out: Iterable[tuple[str, int]]) -> Self:
        """From the source of a table, the observations used, and (reason, count) of those left out."""
        return cls(files=files, n_used=n_used, left_out=tuple(LeftOut(reason=r, count=c) for r, c in left_out))


@dataclass(frozen=True, eq=False, kw_only=True)
class Fit(ABC):
    """A law fitted to measurements; a subclass says what it means for a device.

    quantity      what was measured, e.g. "programming error"
    model         name of the chosen law
    parameters    point estimates with 90 % intervals
    intervals     how they were found, e.g. "bootstrap over cells (200)"
    goodness      tests of the law on the residuals
    candidates    laws that were tried, best first; empty where ranking was not asked for
    warnings      what the measurements do not tell, e.g. "nu_sigma: not identified by one time"
    draws         (n, n_parameters): draws of the parameters from their uncertainty
    picture       arrays for `plot`
    window_uS     lowest and highest conductance that the law was fitted to; none where the law has no conductance
    """

    quantity: str
    model: str
    parameters: tuple[Parameter, ...]
    intervals: str
    provenance: Provenance
    draws: Array
    picture: FitPicture | None = None
    goodness: tuple[Goodness, ...] = ()
    candidates: tuple[Candidate, ...] = ()
    warnings: tuple[str, ...] = ()
    window_uS: tuple[float, float] | None = field(default=None)

    def __post_init__(self) -> None:
        if self.draws.ndim != 2 or self.draws.shape[1] != len(self.parameters):
            raise UsageError(
                f"{self.quantity}: draws have shape {self.draws.shape}: must be (n, {len(self.parameters)})"
            )

    @abstractmethod
    def device_parts(self, g_uS: NDArray[np.float64], values: NDArray[np.float64] | None = None) -> dict[str, Any]:
        """Fields of device_models.tabulated.Tabulated that this fit determines, over the table's conductances [uS].

        values: the parameters in their order; none: the point estimates.
        """

    def value(self, name: str) -> float:
        """The point estimate of a parameter."""
        return self._by_name(name).value

    def _by_name(self, name: str) -> Parameter:
        known = {parameter.name: parameter for parameter in self.parameters}
        if name not in known:
            raise UsageError(f"{self.quantity}: no parameter {name!r}; has {', '.join(known)}{nearest(name, known)}")
        return known[name]

    @cached_property
    def values(self) -> NDArray[np.float64]:
        """Point estimates in the order of `parameters`."""
        return np.array([parameter.value for parameter in self.parameters], float)

    def record(self, values: NDArray[np.float64] | None = None) -> FittedLaw:
        """What the device keeps of this fit; `values` of one draw stand in place of the estimates."""
        at = self.values if values is None else values
        return FittedLaw(
            quantity=self.quantity,
            model=self.model,
            intervals=self.intervals,
            parameters=tuple(p.evolve(value=float(v)) for p, v in zip(self.parameters, at, strict=True)),
            files=self.provenance.files,
            n_used=self.provenance.n_used,
        )

    def to_device(self, g_max_uS: float | None = None) -> AbstractDevice:
        """A device with the parts of this fit only; everything else is off.

        g_max_uS: top of its window; none: that of the measurements. Needed where the law has no conductance.
        """
        return build_device([self], g_max_uS=g_max_uS)

    def sample_devices(self, n: int, seed: int = 0, g_max_uS: float | None = None) -> list[AbstractDevice]:
        """`n` devices, each with other parameters drawn from their uncertainty."""
        return [
            build_device([self], [row], g_max_uS=g_max_uS)
            for row in self.draws[chosen_draws(self.draws.shape[0], n, seed)]
        ]

    def plot(self, path: str | Path | None = None) -> Figure:
        """Measurements with the fitted 90 % band, residuals, and their quantiles against those of the law."""
        from calibration.plots import plot_fit  # matplotlib is loaded only where something is drawn

        return plot_fit(self, path)

    def summary(self) -> str:
        """Parameters with units and intervals, tests, candidates and warnings as text."""
        from calibration.texts import summary_text

        return summary_text(self)

    def to_yaml(self, path: str | Path | None = None) -> str:
        """The whole fit as YAML, written to `path` where given; `from_yaml` gives it back bit for bit."""
        return save_fit(self, path)

    @classmethod
    def from_yaml(cls, path: str | Path) -> Self:
        """A fit from the file that `to_yaml` wrote; StoreError where the file holds something else."""
        return load_fit(cls, Fit, path)


def shared_grid(fits: Sequence[Fit], g_max_uS: float | None) -> NDArray[np.float64]:
    """Conductances of a device's table: the window that all fits share, closer together at small conductances.

    Raises UsageError where there is none, or g_max_uS is not within it.
    """
    windows = [fit.window_uS for fit in fits if fit.window_uS is not None]
    low = max((w[0] for w in windows), default=0.0)
    top = min((w[1] for w in windows), default=g_max_uS)
    if top is None:
        raise UsageError(f"g_max_uS: {fits[0].quantity} has no conductances, so the top of the window must be given")
    high = top if g_max_uS is None else g_max_uS
    if not low < high:
        raise UsageError(f"g_max_uS = {high:g}: must be above {low:g} uS, the lowest conductance that all fits share")
    if high > top * (1 + 1e-9):
        raise UsageError(f"g_max_uS = {high:g}: must be at most {top:g} uS, as measured; no law is extrapolated")
    g = low + (high - low) * np.linspace(0.0, 1.0, TABLE_POINTS) ** 2
    g[-1] = high
    return g


def build_device(
    fits: Sequence[Fit],
    values: Sequence[NDArray[np.float64]] | None = None,
    *,
    g_max_uS: float | None = None,
    others: Mapping[str, Any] | None = None,
) -> Tabulated:
    """One device from the parts of several fits and, where these say nothing, `others`, over the grid they share.

    values: parameters of each fit; none: the estimates. Raises UsageError where two fits determine the same part.
    """
    g = shared_grid(fits, g_max_uS)
    at = [None] * len(fits) if values is None else values
    parts: dict[str, Any] = {}
    for fit, row in zip(fits, at, strict=True):
        for name, part in fit.device_parts(g, row).items():
            if name in parts:
                raise UsageError(f"{fit.quantity}: device part {name!r} is already determined by another fit")
            parts[name] = part
    none = ((0.0,) * len(g),)
    plain = {"programming": {"bias_uS": none, "sigma_uS": none}}
    made = fits[0].provenance
    record = FitRecord(
        laws=tuple(fit.record(row) for fit, row in zip(fits, at, strict=True)), date=made.date, version=made.version
    )
    window = {"g_uS": tuple(map(float, g)), "g_min_uS": float(g[0]), "g_max_uS": float(g[-1])}
    return Tabulated(**{**plain, **(others or {}), **parts}, **window, fit_record=record)


def chosen_draws(n_draws: int, n: int, seed: int | Sequence[int]) -> NDArray[np.int64]:
    """`n` different rows of `n_draws`; UsageError where there are not as many."""
    if not 1 <= n <= n_draws:
        raise UsageError(f"n = {n}: must be from 1 to {n_draws}, the draws of the fit")
    return np.random.default_rng(seed).choice(n_draws, n, replace=False)
