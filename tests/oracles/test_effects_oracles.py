"""Published and computed numbers of the laws of temperature, polarity and current over voltage."""

import numpy as np
import pytest

from device_models.effects import (
    CubicIV,
    LinearIV,
    MiloIV,
    SinhIV,
    StateAsymmetry,
    Temperature,
    activation_factor,
    annealed_exponent,
    equivalent_time_s,
)


@pytest.mark.parametrize(
    ("r", "t_read_K", "t_ref_K", "factor"),
    [(1.0, 330.0, 300.0, 1.421414), (1.0, 350.0, 300.0, 1.737758), (1.0, 323.15, 298.15, 1.351361),
     (0.5, 350.0, 300.0, 1.894121), (0.1, 350.0, 300.0, 2.826307), (0.01, 350.0, 300.0, 3.564312),
     (0.01, 330.0, 300.0, 2.245212)],
)  # fmt: skip
def test_activated_conductance(r, t_read_K, t_ref_K, factor):
    assert Temperature(t_read_K=t_read_K, t_ref_K=t_ref_K).factor(r) == pytest.approx(factor, abs=6e-7)


@pytest.mark.parametrize(("r", "e_a_eV"), [(1.0, 0.10), (0.5, 0.115592), (0.1, 0.188016), (0.01, 0.23), (0.0, 0.23)])
def test_activation_energy(r, e_a_eV):
    assert Temperature(t_read_K=330.0).activation_eV(r) == pytest.approx(e_a_eV, abs=6e-7)


def test_a_spread_of_activation_energies_leaves_its_residual_error():
    temperature = Temperature(t_read_K=330.0, activation_sigma_eV=0.03)
    assert temperature.log_sigma == pytest.approx(0.1055, abs=5e-4)  # 10.6 % for 0.03 eV and 30 K
    moved = activation_factor(0.10 + 0.03 * 1.7, 330.0)
    assert temperature.factor(1.0) * np.exp(temperature.log_sigma * 1.7) == pytest.approx(moved, rel=1e-12)


def test_drift_of_an_annealed_device():
    assert annealed_exponent(0.05, 330.0, 300.0) == pytest.approx(0.05 * 1.1, rel=1e-14)
    assert Temperature(t_read_K=300.0, t_anneal_K=330.0).drift_scale == pytest.approx(1.1, rel=1e-14)
    assert annealed_exponent(0.07, 400.0, 400.0) == 0.07


def test_equivalent_time():
    assert equivalent_time_s(3600.0, 300.0, 330.0, 1e-13) == pytest.approx(112.508, abs=6e-4)
    assert equivalent_time_s(3600.0, 300.0, 300.0, 1e-13) == pytest.approx(3600.0, rel=1e-12)
    there = equivalent_time_s(3600.0, 300.0, 330.0, 1e-13)
    assert equivalent_time_s(there, 330.0, 300.0, 1e-13) == pytest.approx(3600.0, rel=1e-12)


@pytest.mark.parametrize(
    ("g_uS", "ratio"),
    [(0.3, 0.948035), (0.9, 0.753275), (1.5, 0.750253), (5.0, 0.728945), (10.0, 0.738860), (15.0, 0.781915)],
)
def test_state_dependent_polarity(g_uS, ratio):
    assert StateAsymmetry().negative_factor(g_uS, 0.0) == pytest.approx(ratio, abs=6e-7)


@pytest.mark.parametrize(
    ("g_uS", "v_V", "current_A", "of_linear"),
    [(62.5, 0.5, 2.645523e-05, 0.84657), (62.5, -0.5, -3.837470e-05, 1.22799), (110.0, 0.5, 5.315514e-05, 0.96646),
     (110.0, -0.5, -5.641734e-05, 1.02577)],
)  # fmt: skip
def test_measured_iv_curve(g_uS, v_V, current_A, of_linear):
    current_uA = MiloIV().current_uA(g_uS, v_V)
    assert current_uA * 1e-6 == pytest.approx(current_A, abs=6e-12)
    assert current_uA / (g_uS * v_V) == pytest.approx(of_linear, abs=6e-6)


def test_coefficients_of_the_measured_iv_curve():
    _, n2, n3 = MiloIV().polynomial(62.5)
    assert n2 * 1e-6 == pytest.approx(-2.3839e-05, abs=6e-10)
    assert n3 * 1e-6 == pytest.approx(9.3197e-06, abs=6e-11)


def test_analytic_iv_curves():
    assert LinearIV().current_uA(20.0, -0.3) == pytest.approx(-6.0, rel=1e-14)
    assert CubicIV(k3_per_V2=0.25).current_uA(10.0, 0.4) == pytest.approx(10 * (0.4 - 0.25 * 0.064), rel=1e-14)
    assert SinhIV(v0_V=0.3).current_uA(10.0, 0.3) == pytest.approx(10 * 0.3 * 1.1752011936438014, rel=1e-14)
