"""A chip from its products: gains, weights and noise, recovered from the package's own tiles."""

import numpy as np
import pytest

import crossbar_sim as cs
from calibration.mvm import MVMFit, fit_mvm
from calibration.tables import MVMTable
from crossbar_sim.converters.static_errors import static_errors
from device_models.errors import UsageError

ROWS, COLUMNS = 24, 20


def chip(seed, n=400, gain_sd=0.05, offset_sd=0.1, noise=(0.2, 0.0, 0.0), weight_error=0.02, gain_mean=1.0):
    """y = gain y_ideal + x e + offset + noise of variance a^2 + b^2 mean x^2 + c^2 y^2."""
    rng = np.random.default_rng(seed)
    w = rng.uniform(-1, 1, (ROWS, COLUMNS))
    x = rng.standard_normal((n, ROWS)) * rng.uniform(0.2, 2.0, (n, 1))
    gain, offset = gain_mean + gain_sd * rng.standard_normal(COLUMNS), offset_sd * rng.standard_normal(COLUMNS)
    clean = x @ (gain * w + weight_error * rng.standard_normal(w.shape))
    variance = noise[0] ** 2 + noise[1] ** 2 * np.mean(x**2, axis=1, keepdims=True) + noise[2] ** 2 * clean**2
    y = clean + offset + np.sqrt(variance) * rng.standard_normal(clean.shape)
    return MVMTable.of(x, y, x @ w), gain, offset


def test_noise_and_gains_of_a_tile_are_those_of_its_spec():
    adc = {"bits": 16, "bound": 100.0, "output_noise": 0.15, "gain_sd": 0.03}
    spec = cs.ChipSpec.preset("ideal").evolve(
        adc=adc, dac={"bits": 16, "range": {"kind": "static", "value": 3.0}}, tile={"rows": 64, "cols": 256}
    )
    rng = np.random.default_rng(0)
    w = rng.uniform(-1, 1, (200, 32))
    w[:, 0] = 1.0  # one device at g_max in every column: the output counts fully driven devices
    x = rng.uniform(-3, 3, (500, 32))
    fit = fit_mvm(MVMTable.of(x, cs.Tile(spec, seed=1).program(w).mvm(x), x @ w.T))
    assert fit.model == "noise: constant"
    noise = next(p for p in fit.parameters if p.name == "noise_abs")
    assert noise.value == pytest.approx(0.15 * 3.0, rel=0.01)  # in units of the input range; 100,000 samples
    assert fit.value("gain_sd") == pytest.approx(0.03, rel=4 / np.sqrt(2 * 199))
    true = static_errors(spec.adc, 1, "tile", 0, 200, np.float64)
    assert np.std((fit.gain - true.gain) / fit.gain_se) == pytest.approx(1.0, abs=4 / np.sqrt(2 * 199))


def test_intervals_cover_and_are_centred():
    truth = {"gain_mean": 1.0, "gain_sd": 0.05, "offset_mean": 0.0, "offset_sd": 0.1, "weight_error": 0.02}
    truth |= {"noise_abs": 0.2, "noise_input": 0.15}
    covered, offset = [], []
    for seed in range(30):
        table, _, _ = chip(seed, noise=(0.2, 0.15, 0.0))
        fit = fit_mvm(table, model="input and constant")
        by_name = {p.name: p for p in fit.parameters}
        covered += [by_name[name].low <= true <= by_name[name].high for name, true in truth.items()]
        offset.append([(by_name[n].value - true) / (by_name[n].high - by_name[n].low) for n, true in truth.items()])
    assert 0.84 <= np.mean(covered) <= 0.96  # 210 intervals: 0.9 +- 0.02
    assert np.abs(np.mean(offset, axis=0)).max() < 0.25


def test_columns_are_told_one_by_one():
    table, gain, offset = chip(1, n=2000, weight_error=0.0)
    fit = fit_mvm(table, model="constant")
    for found, se, true in ((fit.gain, fit.gain_se, gain), (fit.offset, fit.offset_se, offset)):
        z = (found - true) / se
        assert np.sqrt(np.mean(z**2)) == pytest.approx(1.0, abs=4 / np.sqrt(2 * COLUMNS))
    assert fit.weights.shape == (ROWS, COLUMNS)
    assert fit.value("weight_error") < 0.003


@pytest.mark.parametrize(
    ("noise", "model"),
    [
        ((0.3, 0, 0), "constant"),
        ((0, 0.3, 0), "input"),
        ((0.1, 0, 0.1), "output and constant"),
        ((0.2, 0.2, 0), "input and constant"),
    ],
)
def test_ranking_finds_the_noise(noise, model):
    assert fit_mvm(chip(2, n=600, noise=noise)[0]).model == f"noise: {model}"


def test_right_noise_is_kept_and_wrong_noise_is_rejected():
    right, wrong = 0, 0
    for seed in range(12):
        right += any(t.rejected for t in fit_mvm(chip(seed, noise=(0, 0.3, 0))[0], model="input").goodness)
        wrong += any(t.rejected for t in fit_mvm(chip(seed, noise=(0, 0.3, 0))[0], model="constant").goodness)
    assert right <= 3
    assert wrong >= 10


def test_few_vectors_take_errors_of_weights_for_noise_and_say_so():
    table, gain, _ = chip(3, n=40, weight_error=0.1, noise=(0.1, 0, 0))
    fit = fit_mvm(table, rank=False)
    assert not fit.weights_told
    assert fit.warnings[0] == "40 vectors on 24 rows: errors of the weights count as noise"
    assert np.corrcoef(fit.gain, gain)[0, 1] > 0.3
    assert fit.value("noise_input") == pytest.approx(0.1 * np.sqrt(ROWS), rel=0.2)


def test_inputs_that_do_not_excite_are_reported():
    table, _, _ = chip(4, n=300)
    x = table.x.copy()
    x[:, 5] = x[:, 6]
    fit = fit_mvm(MVMTable.of(x, table.y, table.y_ideal), rank=False)
    assert fit.warnings[0].startswith("inputs excite 23 of 24 directions")


def test_without_ideal_outputs_weights_and_noise_are_left():
    table, _, _ = chip(5, n=300, gain_sd=0.0, weight_error=0.0)
    fit = fit_mvm(MVMTable.of(table.x, table.y), model="constant")
    assert {p.name for p in fit.parameters} == {"offset_mean", "offset_sd", "noise_abs"}
    true = np.linalg.lstsq(table.x, table.y_ideal, rcond=None)[0]
    error = np.sqrt(np.mean((fit.weights - true) ** 2))
    assert error == pytest.approx(0.2 / np.sqrt(300 * np.mean(table.x**2)), rel=0.15)


def test_yaml_gives_the_same_fit(tmp_path):
    fit = fit_mvm(chip(6)[0], model="constant")
    fit.to_yaml(tmp_path / "m.yaml")
    again = MVMFit.from_yaml(tmp_path / "m.yaml")
    assert np.array_equal(again.weights, fit.weights)
    assert np.array_equal(again.draws, fit.draws)


def test_refusals():
    table, _, _ = chip(7, n=30)
    with pytest.raises(UsageError, match="30 vectors that excite all of 24 rows do not tell the weights"):
        fit_mvm(MVMTable.of(table.x, table.y))
    with pytest.raises(UsageError, match="5 vectors: must be at least 20"):
        fit_mvm(MVMTable.of(table.x[:5], table.y[:5], table.y_ideal[:5]))
    with pytest.raises(UsageError, match="all vectors are the same"):
        fit_mvm(MVMTable.of(np.ones_like(table.x), table.y, table.y_ideal))
    with pytest.raises(UsageError, match=r'nearest: "constant"'):
        fit_mvm(table, model="constnt")
    with pytest.raises(UsageError, match="without any noise"):
        fit_mvm(MVMTable.of(table.x, np.zeros_like(table.y), table.y_ideal))
