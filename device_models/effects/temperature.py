"""Temperature: conductance that is thermally activated, and drift at another temperature than that of the read.

Sources
    I. Boybat et al., "Temperature sensitivity of analog in-memory computing using phase-change memory", IEDM 2021,
    paper 28.3 (activated conductance); the activation energy over the state as fitted in the non-idealities notebook
    of aihwkit;
    D. Ielmini et al., IEEE Trans. Electron Devices (2009) and M. Le Gallo et al., Adv. Electron. Mater. 4, 1700627
    (2018) (structural relaxation).
"""

from __future__ import annotations

from typing import Annotated, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field, model_validator

from device_models.effects.checks import checked
from device_models.laws import clipped_log
from device_models.strict import NonNegative, Number, Positive, StrictModel, Text

BOLTZMANN_EV_PER_K = 8.617333262e-5

Kelvin = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=200, le=500)]
"""Bounds that a temperature in degrees Celsius does not meet."""


def activation_factor(e_a_eV: ArrayLike, t_K: float, t_ref_K: float = 300.0) -> NDArray[np.float64]:
    """Conductance at one temperature relative to another.

    Equation   g(T) / g(T_ref) = exp(-(E_a / k_B) (1 / T - 1 / T_ref)); it rises with temperature
    Arguments  e_a_eV activation energy [eV]; t_K temperature of the read [K]; t_ref_K that of the laws [K]
    Valid      temperatures above 0 K
    Source     Boybat 2021
    Test       tests/oracles/test_effects_oracles.py::test_activated_conductance
    """
    t_K, t_ref_K = _kelvin("t_K", t_K), _kelvin("t_ref_K", t_ref_K)
    return np.exp(-checked("e_a_eV", e_a_eV) / BOLTZMANN_EV_PER_K * (1 / t_K - 1 / t_ref_K))


def annealed_exponent(nu: ArrayLike, t_anneal_K: float, t_read_K: float) -> NDArray[np.float64]:
    """Drift exponent seen at a read temperature of a device that relaxes at another.

    Equation   nu T_anneal / T_read; at a constant temperature nu does not depend on it
    Arguments  nu drift exponent [1]; t_anneal_K between reads, t_read_K at the read [K]
    Valid      temperatures above 0 K
    Source     Ielmini 2009, Le Gallo 2018
    Test       tests/oracles/test_effects_oracles.py::test_drift_of_an_annealed_device
    """
    return checked("nu", nu) * (_kelvin("t_anneal_K", t_anneal_K) / _kelvin("t_read_K", t_read_K))


def equivalent_time_s(t_s: ArrayLike, t_before_K: float, t_after_K: float, tau_0_s: float) -> NDArray[np.float64]:
    """Age at the new temperature of a device that relaxed for t_s at the old: there the drift clock goes on.

    Equation   t_eq = tau_0 (t / tau_0)^(T_before / T_after)
    Arguments  t_s time at the old temperature [s]; t_before_K, t_after_K [K]; tau_0_s attempt time, about 1e-13 [s]
    Valid      t_s >= tau_0_s > 0, temperatures above 0 K
    Source     Ielmini 2009, Le Gallo 2018
    Test       tests/oracles/test_effects_oracles.py::test_equivalent_time
    """
    ratio = _kelvin("t_before_K", t_before_K) / _kelvin("t_after_K", t_after_K)
    tau_0_s = float(checked("tau_0_s", tau_0_s, 0.0, above_low=True))
    return tau_0_s * (checked("t_s", t_s, tau_0_s) / tau_0_s) ** ratio


def _kelvin(name: str, value: float) -> float:
    return float(checked(name, value, 0.0, above_low=True))


class Temperature(StrictModel):
    """Conductance at a read temperature other than that of the device's laws, and drift at an ambient temperature.

    Equation   g(T) = g(T_ref) exp(-(E_a / k_B) (1 / T - 1 / T_ref)), E_a = clip(slope ln r + offset, low, high) + s z
               with r = g_target / g_max and z a standard normal of the device; nu -> nu T_anneal / T_read
    Valid      doped Ge-Sb-Te mushroom cells, about 300 to 360 K
    """

    source: Text = "Boybat 2021 (IEDM 28.3); activation energies as fitted in the non-idealities notebook of aihwkit"
    t_read_K: Kelvin = Field(description="Temperature at the read")
    t_ref_K: Kelvin = Field(300.0, description="Temperature for which the laws of the device hold")
    t_anneal_K: Kelvin | None = Field(None, description="Temperature between the reads; none: that of the read")
    activation_law_eV: tuple[Number, Number, NonNegative, NonNegative] = Field(
        (-0.045, 0.0844, 0.10, 0.23), description="Activation energy: slope and offset in ln(g/g_max), low, high"
    )
    activation_sigma_eV: Positive | None = Field(
        None, description="Spread of the activation energy, per device; none: all devices of a state have the same"
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        low, high = self.activation_law_eV[2:]
        if low > high:
            raise ValueError(f"activation_law_eV: low = {low:g} must not be above high = {high:g}")
        return self

    @property
    def is_ideal(self) -> bool:
        return self.t_read_K == self.t_ref_K and self.drift_scale == 1

    @property
    def drift_scale(self) -> float:
        """Factor on every drift exponent: T_anneal / T_read [1]."""
        return 1.0 if self.t_anneal_K is None else float(annealed_exponent(1.0, self.t_anneal_K, self.t_read_K))

    @property
    def log_slope_per_eV(self) -> float:
        """d ln g / d E_a = -(1 / T - 1 / T_ref) / k_B [1/eV]."""
        return -(1 / self.t_read_K - 1 / self.t_ref_K) / BOLTZMANN_EV_PER_K

    @property
    def log_sigma(self) -> float:
        """Factor of the device's standard normal in ln g: its spread of E_a times `log_slope_per_eV` [1]."""
        return (self.activation_sigma_eV or 0.0) * self.log_slope_per_eV

    def activation_eV(self, r: ArrayLike) -> NDArray[np.float64]:
        """Mean activation energy over the relative conductance r = g / g_max [eV]."""
        return clipped_log(checked("r", r, 0.0), *self.activation_law_eV)

    def factor(self, r: ArrayLike) -> NDArray[np.float64]:
        """g(T_read) / g(T_ref) at the mean activation energy of the relative conductance r."""
        return activation_factor(self.activation_eV(r), self.t_read_K, self.t_ref_K)
