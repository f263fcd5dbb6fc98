"""A device made from a table of measured curves, given in the specification or as a CSV file."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import ArrayLike
from pydantic import Field, model_validator

from device_models.base import SHIFT_Z, AbstractDevice, Curve, DeviceCurves, ReferencePoint
from device_models.errors import UsageError
from device_models.laws import drift_log_time, one_over_f_variance
from device_models.registry import register_device
from device_models.relaxation import RelaxationTable
from device_models.strict import KindOf, NonNegative, Number, Positive, StrictModel
from device_models.tabulated_csv import read_parts
from device_models.units import seconds

SHIFT_CONDUCTANCES, SHIFT_SCORES = 65, 81
"""Nodes of the table in which a kernel looks up the relaxation shift."""


class ProgrammingTable(StrictModel):
    """Bias and spread around the target: one row per time, one value per conductance of the device's table."""

    t_s: tuple[Positive, ...] | None = Field(
        None, description="Times of the rows since programming, ascending; none: one row, which holds at any time"
    )
    bias_uS: tuple[tuple[Number, ...], ...] = Field(description="Mean minus target, a row for each time")
    sigma_uS: tuple[tuple[NonNegative, ...], ...] = Field(description="Standard deviation, a row for each time")

    @model_validator(mode="after")
    def _rows(self) -> Self:
        if self.t_s == ():
            raise ValueError("t_s is empty: give times, or none")
        if self.t_s is not None and not _ascends(self.t_s):
            raise ValueError(f"t_s = {self.t_s} must ascend")
        n_rows = 1 if self.t_s is None else len(self.t_s)
        for name, rows in (("bias_uS", self.bias_uS), ("sigma_uS", self.sigma_uS)):
            if len(rows) != n_rows:
                raise ValueError(f"{name} has {len(rows)} rows: must have {n_rows}, one for each time of t_s")
        return self

    def at_time(self, t_s: float) -> tuple[Curve, Curve]:
        """Bias and s.d. over the conductances of the table [uS], linear in ln t between the measured times.

        Time 0, at which every matrix starts, stands for the first measurement. Other times outside are refused.
        """
        if self.t_s is None:
            return np.array(self.bias_uS[0]), np.array(self.sigma_uS[0])
        t_s = seconds(t_s, "device (tabulated): t_s")
        first, last = self.t_s[0], self.t_s[-1]
        if t_s != 0.0 and not first <= t_s <= last:
            raise UsageError(
                f"device (tabulated): t_s = {t_s:g}: must be from {first:g} to {last:g} s, as measured; "
                f"0 stands for {first:g} s"
            )
        log_t, log_times = np.log(t_s or first), np.log(self.t_s)
        return _between(log_t, log_times, self.bias_uS), _between(log_t, log_times, self.sigma_uS)


class DriftTable(StrictModel):
    """Power-law drift ((t + t0) / t0)^-|nu|: one value per conductance of the device's table."""

    t0_s: Positive = Field(description="Time of the first verified read; the drift clock starts there")
    nu_mean: tuple[Number, ...] = Field(description="Mean drift exponent, before folding")
    nu_sigma: tuple[NonNegative, ...] = Field(description="Its device-to-device standard deviation")


class WhiteNoiseTable(StrictModel):
    """Read noise without memory: independent at each read."""

    kind: Literal["white"] = "white"
    relative: tuple[NonNegative, ...] = Field(description="Standard deviation relative to the conductance")

    @property
    def rows(self) -> dict[str, tuple[float, ...]]:
        """Fields with a value for each conductance of the device's table."""
        return {"relative": self.relative}

    def sigma(self, g_uS: Curve, table_uS: tuple[float, ...], t_s: float, t_obs_s: float) -> tuple[Curve, Curve]:
        """Frozen and per-read s.d. relative to the conductances g; white noise has no slow share, unless everything is
        asked to be frozen."""
        noise = np.interp(g_uS, table_uS, self.relative)
        return (noise, 0.0 * noise) if t_obs_s == 0.0 else (0.0 * noise, noise)


class OneOverFNoiseTable(StrictModel):
    """1/f read noise of variance q_s^2 g^2 ln((t + t0 + t_read) / (2 t_read)), alone or with white noise."""

    kind: Literal["one_over_f"] = "one_over_f"
    q_s: tuple[NonNegative, ...] = Field(description="Square root of the noise magnitude, relative to the conductance")
    t0_s: Positive = Field(description="Age of a device when its time starts to count")
    t_read_s: Positive = Field(description="Integration time of one read pulse")
    white: tuple[NonNegative, ...] | None = Field(
        None, description="Standard deviation of white noise besides, relative to the conductance; none is without"
    )

    @property
    def rows(self) -> dict[str, tuple[float, ...]]:
        """Fields with a value for each conductance of the device's table."""
        return {"q_s": self.q_s} if self.white is None else {"q_s": self.q_s, "white": self.white}

    def sigma(self, g_uS: Curve, table_uS: tuple[float, ...], t_s: float, t_obs_s: float) -> tuple[Curve, Curve]:
        """Frozen and per-read s.d. relative to the conductances g (device_models.laws.one_over_f_variance)."""
        noise = np.interp(g_uS, table_uS, self.q_s)
        frozen, per_read = (np.sqrt(v) * noise for v in one_over_f_variance(t_s, self.t0_s, self.t_read_s, t_obs_s))
        if self.white is None:
            return frozen, per_read
        white = WhiteNoiseTable(relative=self.white).sigma(g_uS, table_uS, t_s, t_obs_s)
        return np.hypot(frozen, white[0]), np.hypot(per_read, white[1])


def _noise_kinds() -> Mapping[str, type[StrictModel]]:
    return {"white": WhiteNoiseTable, "one_over_f": OneOverFNoiseTable}


@register_device
class Tabulated(AbstractDevice):
    """Measured curves, linear between conductances; nothing is extrapolated. Kinks are rounded over g_max / 2048.

    The default table is an example: the programming error of device_models.pcm_1m at six conductances.
    """

    kind: Literal["tabulated"] = "tabulated"
    g_max_uS: Positive = Field(25.0, description="Top of the programmable window, within the table")
    g_uS: tuple[NonNegative, ...] = Field(
        (0.0, 2.5, 6.25, 12.5, 18.75, 25.0), description="Conductances of the table, ascending", min_length=2
    )
    programming: ProgrammingTable = Field(
        ProgrammingTable(
            bias_uS=((0.0, 0.0, 0.0, 0.0, 0.0, 0.0),),
            sigma_uS=((0.26348, 0.448249, 0.681411, 0.952705, 1.077361, 1.055380),),
        ),
        description="Bias and spread around the target, per device",
    )
    drift: DriftTable | None = Field(
        None, description="Power-law drift, per device; none where the times of programming hold it"
    )
    relaxation: RelaxationTable | None = Field(
        None, description="Shift after programming that is no power law, per device; excludes drift"
    )
    read: Annotated[WhiteNoiseTable | OneOverFNoiseTable, KindOf(_noise_kinds)] | None = Field(
        None, description="Read noise: white, 1/f, or both; none is without"
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if len({"g_uS", "programming"} & self.model_fields_set) == 1:
            raise ValueError("g_uS and programming form one table: both or neither must be given")
        if not _ascends(self.g_uS):
            raise ValueError(f"g_uS = {self.g_uS} must ascend")
        if self.g_min_uS < self.g_uS[0] or self.g_max_uS > self.g_uS[-1]:
            raise ValueError(
                f"the window {self.g_min_uS:g} to {self.g_max_uS:g} uS must lie within the table, "
                f"{self.g_uS[0]:g} to {self.g_uS[-1]:g} uS"
            )
        if self.drift is not None and self.programming.t_s is not None:
            raise ValueError("drift and programming.t_s exclude each other: drift would count twice")
        if self.relaxation is not None:
            self._check_relaxation(self.relaxation)
        curves = {"programming.bias_uS": self.programming.bias_uS, "programming.sigma_uS": self.programming.sigma_uS}
        if self.drift is not None:
            curves |= {"drift.nu_mean": (self.drift.nu_mean,), "drift.nu_sigma": (self.drift.nu_sigma,)}
        if self.read is not None:
            curves |= {f"read.{name}": (row,) for name, row in self.read.rows.items()}
        for name, rows in curves.items():
            for row in rows:
                if len(row) != len(self.g_uS):
                    raise ValueError(f"{name} has {len(row)} values: must have {len(self.g_uS)}, one for each g_uS")
        return self

    def _check_relaxation(self, relaxation: RelaxationTable) -> None:
        other = "drift" if self.drift is not None else "programming.t_s" if self.programming.t_s is not None else None
        if other:
            raise ValueError(f"relaxation and {other} exclude each other: the shift would count twice")
        first, last = relaxation.g_uS[0], relaxation.g_uS[-1]
        if first < last and (self.g_min_uS < first or self.g_max_uS > last):  # one conductance stands for all
            raise ValueError(
                f"the window {self.g_min_uS:g} to {self.g_max_uS:g} uS must lie within relaxation.g_uS, {first:g} to "
                f"{last:g} uS"
            )

    @classmethod
    def from_csv(cls, path: str | Path, *, t0_s: float | None = None, t_read_s: float | None = None) -> Self:
        """A device from a text file with a header, one row per conductance, or per time and conductance.

        Columns    g_uS, program_bias_uS, program_sigma_uS; optional: t_s; nu_mean with nu_sigma; relative (white read
                   noise) and q_s (1/f read noise), alone or together; other units, as in ``g_nS`` or ``R (kΩ)``, are
                   converted
        Arguments  t0_s first verified read [s], needed for nu_mean and q_s; t_read_s one read pulse [s], for q_s
        Returns    a device whose window is that of the table
        Errors     StoreError: file cannot be read; UsageError: column or value, with its line; SpecError: as in a spec
        """
        return cls(**read_parts(path, t0_s, t_read_s))

    def bias_program_uS(self, g_uS: ArrayLike, t_s: float) -> Curve:
        """Mean minus target [uS]; refused outside the measured conductances and times."""
        return np.interp(self._measured(g_uS), self.g_uS, self.programming.at_time(t_s)[0])

    def sigma_program_uS(self, g_uS: ArrayLike, t_s: float) -> Curve:
        """Standard deviation around the target [uS]; refused outside the measured conductances and times."""
        return np.interp(self._measured(g_uS), self.g_uS, self.programming.at_time(t_s)[1])

    def sigma_read_uS(self, g_uS: ArrayLike, t_s: float) -> Curve:
        """Whole read noise of a device that holds its target [uS]; refused outside the measured conductances."""
        g = self._measured(g_uS)
        if self.read is None:
            return np.zeros_like(g)
        return g * np.hypot(*self.read.sigma(g, self.g_uS, t_s, 0.0))

    def _measured(self, g_uS: ArrayLike) -> Curve:
        g = np.asarray(g_uS, float)
        if not np.all((g >= self.g_uS[0]) & (g <= self.g_uS[-1])):
            raise UsageError(
                f"g_uS: runs from {np.min(g):g} to {np.max(g):g}: was measured from {self.g_uS[0]:g} to "
                f"{self.g_uS[-1]:g} uS"
            )
        return g

    def curves(self, t_s: float, t_obs_s: float) -> DeviceCurves:
        g = self.nodes_uS()  # those below g_min hold the first value of the table; no target lies there
        zero = np.zeros_like(g)
        bias, sigma = self.programming.at_time(t_s)
        shift, path = None, None
        if self.relaxation is not None:
            even_g, even_z = np.linspace(0.0, self.g_max_uS, SHIFT_CONDUCTANCES), np.linspace(-1, 1, SHIFT_SCORES)
            shift, path = self.relaxation.shift_uS(even_g, SHIFT_Z * even_z, t_s), self.relaxation.rank_path(t_s)
        frozen, per_read = (zero, zero) if self.read is None else self.read.sigma(g, self.g_uS, t_s, t_obs_s)
        return DeviceCurves(
            nodes_uS=g,
            program_bias_uS=np.interp(g, self.g_uS, bias),
            program_sigma_uS=np.interp(g, self.g_uS, sigma),
            nu_mean=np.interp(g, self.g_uS, self.drift.nu_mean) if self.drift else zero,
            nu_sigma=np.interp(g, self.g_uS, self.drift.nu_sigma) if self.drift else zero,
            frozen_abs_uS=zero,
            frozen_rel=frozen,
            read_abs_uS=zero,
            read_rel=per_read,
            log_time=drift_log_time(t_s, self.drift.t0_s) if self.drift else 0.0,
            noise_at_programmed=False,
            floor_uS=0.0,
            dead_uS=0.0,
            shift_uS=shift,
            shift_path=path,
        )

    def reference_points(self) -> list[ReferencePoint]:
        example = "interpolation by hand of the default table"
        sigma = {0.0: 0.26348, 1.25: 0.3558645, 2.5: 0.448249, 9.375: 0.817058, 25.0: 1.055380}
        return [
            *(
                ReferencePoint("sigma_program_uS", {"g_uS": g, "t_s": t}, value, 1e-12, example)
                for g, value in sigma.items()
                for t in (0.0, 3600.0)
            ),
            *(ReferencePoint("bias_program_uS", {"g_uS": g, "t_s": 0.0}, 0.0, 0.0, example) for g in (0.0, 25.0)),
            ReferencePoint("sigma_read_uS", {"g_uS": 12.5, "t_s": 0.0}, 0.0, 0.0, example),
        ]


def _ascends(values: tuple[float, ...]) -> bool:
    return all(a < b for a, b in pairwise(values))


def _between(log_t: float, log_times: Curve, rows: tuple[tuple[float, ...], ...]) -> Curve:
    return np.array([np.interp(log_t, log_times, column) for column in zip(*rows, strict=True)])
