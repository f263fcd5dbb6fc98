"""What a device is to the rest of the package: one-dimensional curves over conductance at a given time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field, model_validator

from device_models.effects import IVCurve, PolarityAsymmetry, StuckFaults, TelegraphNoise, Temperature
from device_models.fit_record import FitRecord
from device_models.laws import drift_log_time, one_over_f_variance
from device_models.strict import NonNegative, Positive, StrictModel

CURVE_NODES = 2049
"""Nodes of a tabulated curve; linear interpolation then errs by less than 1e-4 of g_max (tested), except within one
node of a jump in a published law."""

SHIFT_Z = 5.0
"""Standard normals at which the table of a relaxation shift ends."""

Curve = NDArray[np.float64]


class DeviceCurves(NamedTuple):
    """All that a kernel needs of a device at one time. Curves are sampled at `nodes_uS`, evenly from 0 to g_max.

    With z1, z2, z3 standard normals of one device and g_t its target:

        g_p = g_t + program_bias + program_sigma z1             (at least 0, unless `floor_uS` is None)
        nu  = |nu_mean + nu_sigma z2|
        g_d = g_p exp(-nu log_time)
        g   = g_d + (frozen_abs + frozen_rel g_d) z3            (within floor_uS and ceiling_uS)
        per-read variance = (read_abs + read_rel g_d)^2

    Programming and drift curves are looked up at the target; the noise curves at the target, or at g_p if
    `noise_at_programmed`. Targets below `dead_uS` are programmed to exactly zero, without any noise. A limit of None is
    no limit.

    A device that relaxes instead of drifting gives shift_uS and shift_path together (both or neither):

        z   = sum_k shift_path[k] z_k,  with K <= 8 standard normals z_k of the device, the same at all times
        g_d = max(0, g_p + shift_uS(g_t, z))

    shift_uS (n_g, n_z) holds the shift at even nodes of the target from 0 to g_max and of z from -SHIFT_Z to +SHIFT_Z;
    bilinear between them, clamped at the ends. shift_path (K,) has unit norm, so that z is standard normal, and says
    how the rank of a device at this time is correlated with its ranks at others.
    """

    nodes_uS: Curve
    program_bias_uS: Curve
    program_sigma_uS: Curve
    nu_mean: Curve
    nu_sigma: Curve
    frozen_abs_uS: Curve
    frozen_rel: Curve
    read_abs_uS: Curve
    read_rel: Curve
    log_time: float
    noise_at_programmed: bool
    floor_uS: float | None
    dead_uS: float
    shift_uS: Curve | None = None
    shift_path: Curve | None = None
    ceiling_uS: float | None = None


class ReferencePoint(NamedTuple):
    """A published number: `getattr(device, law)(**at)` must equal `expected` within `atol`."""

    law: str
    at: dict[str, Any]
    expected: float
    atol: float
    source: str


class AbstractDevice(StrictModel, ABC):
    """One published or fitted device. Found by `kind`; knows nothing of tiles, chips or torch."""

    kind: str
    g_max_uS: Positive = Field(description="Top of the programmable conductance window")
    g_min_uS: NonNegative = Field(0.0, description="Bottom of the programmable window; 0 is an ideal RESET")

    temperature: Temperature | None = Field(None, description="Another temperature than that of the laws")
    telegraph: TelegraphNoise | None = Field(None, description="Traps that switch the conductance")
    faults: StuckFaults | None = Field(None, description="Devices that are stuck for ever")
    polarity: PolarityAsymmetry | None = Field(None, description="Dependence on the sign of the input")
    iv: IVCurve | None = Field(None, description="Current over voltage; none is linear")
    fit_record: FitRecord | None = Field(None, description="The fit that made the device; its laws do not depend on it")

    @classmethod
    def path_root(cls) -> str:
        return "device"

    @model_validator(mode="after")
    def _window(self) -> Self:
        if self.g_min_uS >= self.g_max_uS:
            raise ValueError(f"g_min_uS = {self.g_min_uS:g} must be below g_max_uS = {self.g_max_uS:g}")
        if self.polarity is not None:
            self.polarity.check_window(self.g_max_uS)
        if self.iv is not None:
            self.iv.check_window(self.g_min_uS, self.g_max_uS)
        return self

    def nodes_uS(self) -> Curve:
        """The conductances at which this device tabulates its curves [uS]."""
        return np.linspace(0.0, self.g_max_uS, CURVE_NODES)

    def curves_with(self, **given: Any) -> DeviceCurves:
        """Curves that are zero but for those given: no drift, noise looked up at the target, no conductance below zero.

        Names and units as in DeviceCurves, values at `nodes_uS`.
        """
        nodes = self.nodes_uS()
        absent = dict.fromkeys(DeviceCurves._fields[1:9], np.zeros_like(nodes))
        plain = {"log_time": 0.0, "noise_at_programmed": False, "floor_uS": 0.0, "dead_uS": 0.0}
        return DeviceCurves(**{"nodes_uS": nodes, **absent, **plain, **given})

    @abstractmethod
    def curves(self, t_s: float, t_obs_s: float) -> DeviceCurves:
        """The device t_s seconds after programming.

        t_obs_s is the observation window that splits slow noise into a frozen and a per-read share
        (device_models.laws.one_over_f_variance): 0 freezes all of it, infinity redraws all of it at each read.
        """

    @abstractmethod
    def reference_points(self) -> list[ReferencePoint]:
        """Published numbers of the device with its default parameters; the tests evaluate them."""


class AbstractPowerLawDevice(AbstractDevice):
    """A device that drifts as ((t + t0) / t0)^-nu and has 1/f read noise: phase-change memory.

    A subclass gives the four laws over the target conductance and nothing else.
    """

    program_scale: NonNegative = Field(1.0, description="Factor on the programming-noise law, per device")
    drift_scale: NonNegative = Field(1.0, description="Factor on the drift exponent, per device")
    read_scale: NonNegative = Field(1.0, description="Factor on the read-noise law, per read and frozen")
    t0_s: Positive = Field(description="Time of the first verified read; the drift clock starts there")
    t_read_s: Positive = Field(description="Integration time of one read pulse")
    noise_at: Literal["target", "programmed"] = Field(
        "target", description="Conductance at which the read-noise law is evaluated"
    )

    @abstractmethod
    def sigma_program_uS(self, g_uS: ArrayLike) -> Curve:
        """Standard deviation of the programming error over the target [uS]."""

    @abstractmethod
    def nu_mean(self, g_uS: ArrayLike) -> Curve:
        """Mean of the drift exponent over the target, before folding [1]."""

    @abstractmethod
    def nu_sigma(self, g_uS: ArrayLike) -> Curve:
        """Device-to-device standard deviation of the drift exponent over the target, before folding [1]."""

    @abstractmethod
    def q_s(self, g_uS: ArrayLike) -> Curve:
        """Square root of the 1/f noise magnitude Q, relative to the conductance [1]."""

    def drift_factor(self, g_uS: float, t_s: float) -> float:
        """Equation: ((t + t0) / t0)^-nu at the mean exponent; t_s since programming [s]."""
        return float(np.exp(-self.drift_scale * self.nu_mean(g_uS) * drift_log_time(t_s, self.t0_s)))

    def bandwidth_factor(self, t_s: float) -> float:
        """Equation: sqrt(ln((t + t0 + t_read) / (2 t_read))), the time dependence of the whole read noise [1]."""
        return float(np.sqrt(sum(one_over_f_variance(t_s, self.t0_s, self.t_read_s, 0.0))))

    def sigma_read_uS(self, g_uS: float, t_s: float) -> float:
        """Whole read noise of a device that holds its target and drifts with the mean exponent [uS]."""
        drifted = g_uS * self.drift_factor(g_uS, t_s)
        return float(self.read_scale * drifted * self.q_s(g_uS) * self.bandwidth_factor(t_s))

    def curves(self, t_s: float, t_obs_s: float) -> DeviceCurves:
        g = self.nodes_uS()
        zero = np.zeros_like(g)
        frozen, per_read = one_over_f_variance(t_s, self.t0_s, self.t_read_s, t_obs_s)
        noise = self.read_scale * self.q_s(g)
        return DeviceCurves(
            nodes_uS=g,
            program_bias_uS=zero,
            program_sigma_uS=self.program_scale * self.sigma_program_uS(g),
            nu_mean=self.drift_scale * self.nu_mean(g),
            nu_sigma=self.drift_scale * self.nu_sigma(g),
            frozen_abs_uS=zero,
            frozen_rel=np.sqrt(frozen) * noise,
            read_abs_uS=zero,
            read_rel=np.sqrt(per_read) * noise,
            log_time=drift_log_time(t_s, self.t0_s),
            noise_at_programmed=self.noise_at == "programmed",
            floor_uS=0.0,
            dead_uS=0.0,
        )
