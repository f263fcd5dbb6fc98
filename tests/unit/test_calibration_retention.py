"""Bakes: activation energies of simulated cells, and refusals."""

import numpy as np
import pandas as pd
import pytest

from calibration.retention import activation, fit_retention
from calibration.tables import RetentionTable
from device_models.effects.temperature import BOLTZMANN_EV_PER_K
from device_models.errors import UsageError


def _bakes(energy_eV, temperatures_C, n_cells, seed):
    """Cells whose shift is normal with s.d. proportional to exp(-E / k_B T), 4 uS at 150 C."""
    rng = np.random.default_rng(seed)
    frames = []
    for t in temperatures_C:
        g = rng.uniform(60.0, 140.0, n_cells)
        sd = 4.0 * np.exp(-energy_eV / BOLTZMANN_EV_PER_K * (1 / (t + 273.15) - 1 / 423.15))
        after = g + sd * rng.standard_normal(n_cells)
        frames.append(pd.DataFrame({"cell": np.arange(n_cells), "temperature_C": t, "dt_s": 3600.0,
                                    "g_before_uS": g, "g_after_uS": after}))  # fmt: skip
    return RetentionTable.from_frame(pd.concat(frames))


def test_the_activation_of_one_electronvolt():
    """exp(1 eV / k_B (1 / 298.15 K - 1 / 373.15 K)) by hand: the exponent is 7.8228."""
    assert activation(25.0) == pytest.approx(1.0)
    assert np.log(activation(100.0)) == pytest.approx(7.8228, abs=2e-4)


def test_the_energy_is_covered_and_arrhenius_is_enough():
    covered, values = [], []
    for seed in range(20):
        fit = fit_retention(_bakes(0.2, (100.0, 150.0, 200.0), 300, seed), model="Arrhenius")
        energy = fit.activation_eV[0]
        covered.append(energy.low <= 0.2 <= energy.high)
        values.append(energy.value)
    assert np.mean(covered) >= 0.9 - 2 * (0.09 / 20) ** 0.5
    assert np.mean(values) == pytest.approx(0.2, abs=3 * np.std(values, ddof=1) / 20**0.5)


def test_the_spread_is_predicted_between_temperatures_and_refused_beyond():
    fit = fit_retention(_bakes(0.2, (100.0, 150.0, 200.0), 400, 1))
    assert fit.model == "Arrhenius"
    assert not any("not one energy" in text for text in fit.warnings)
    assert any("one at each temperature" in text for text in fit.warnings)
    mean, spread = fit.moments_uS([80.0, 120.0], 175.0)
    expected = 4.0 * np.exp(-0.2 / BOLTZMANN_EV_PER_K * (1 / 448.15 - 1 / 423.15))
    assert spread == pytest.approx([expected] * 2, rel=0.15)  # about twice the standard error
    assert np.abs(mean).max() < 1.0
    with pytest.raises(UsageError, match="temperature_C = 220: must be from 100 to 200, as measured"):
        fit.moments_uS(80.0, 220.0)


def test_two_regimes_are_told_from_one_energy():
    slow, fast = _bakes(0.05, (100.0, 150.0), 500, 2), _bakes(0.4, (200.0, 220.0), 500, 3)
    columns = {
        name: np.concatenate([getattr(t, name) for t in (slow, fast)])
        for name in ("cell", "t_s", "g_uS", "temperature_C")
    }
    table = RetentionTable.from_frame(pd.DataFrame(columns))
    assert any(test.rejected for test in fit_retention(table, model="Arrhenius").goodness)
    fit = fit_retention(table)
    assert fit.model == "each temperature"
    assert not any(test.rejected for test in fit.goodness)
    assert any("not one energy" in text for text in fit.warnings)


def test_a_search_that_gives_up_says_so(monkeypatch):
    table = _bakes(0.2, (100.0, 200.0), 200, 6)
    assert not any("still rises" in text for text in fit_retention(table, model="Arrhenius").warnings)
    monkeypatch.setattr("calibration.quantile_search.MOST_ROUNDS", 1)
    assert any("still rises" in text for text in fit_retention(table, model="Arrhenius").warnings)


def test_the_device_has_the_shift_of_its_temperature():
    fit = fit_retention(_bakes(0.2, (100.0, 200.0), 300, 4), model="Arrhenius", device_temperature_C=200.0)
    device = fit.to_device()
    shifts = device.relaxation.shift_uS(100.0, [-1.0, 1.0], 3600.0)[0]
    _, spread = fit.moments_uS(100.0, 200.0)
    assert np.diff(shifts)[0] / 2 == pytest.approx(spread[0], rel=0.2)
    assert len({d.relaxation.slope_uS for d in fit.sample_devices(3)}) == 3


def test_what_cannot_be_fitted_is_refused_in_words():
    table = _bakes(0.2, (100.0, 200.0), 120, 5)
    with pytest.raises(UsageError, match="at least two temperatures"):
        fit_retention(_bakes(0.2, (100.0,), 120, 5))
    with pytest.raises(UsageError, match="99 cells have two reads at a temperature: needs 100"):
        fit_retention(_bakes(0.2, (100.0, 200.0), 99, 5))
    with pytest.raises(UsageError, match="device_temperature_C = 250: must be from 100 to 200"):
        fit_retention(table, device_temperature_C=250.0)
    with pytest.raises(UsageError, match='must be one of Arrhenius; nearest: "Arrhenius"'):
        fit_retention(table, model="Arhenius")
