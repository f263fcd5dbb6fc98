"""Fits of the programming error: recovery, coverage, rejection, published statistics, refusals."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from calibration import ProgrammingStatistics, ProgrammingTable, fit_programming
from calibration.fit import Fit
from crossbar_sim.spec import ChipSpec
from device_models.errors import UsageError
from device_models.pcm_1m import Pcm1M

DIGITISED = Path(__file__).parents[2] / ".." / "shared" / "data" / "devices" / "pcm_reram_ibm_digitised"
LEVELS_uS = np.linspace(0.0, 25.0, 16)
BIAS_uS = np.array([0.1, -0.25])
SIGMA_uS = np.array([0.26348, 1.9650, -1.1731])
TRUE_uS = np.array([*BIAS_uS, 0.0, 0.0, *SIGMA_uS])


def published_uS(g_uS):
    return Pcm1M().sigma_program_uS(g_uS)


def measured(seed, n=4096, levels_uS=LEVELS_uS, sigma=published_uS, tails=None):
    rng = np.random.default_rng(seed)
    target = np.resize(levels_uS, n)
    z = rng.standard_normal(n) if tails is None else rng.standard_t(tails, n) * np.sqrt((tails - 2) / tails)
    g = target + BIAS_uS[0] + BIAS_uS[1] * target / 25 + sigma(target) * z
    return ProgrammingTable(g_target_uS=target, g_uS=g, cell=np.arange(n))


def rejected(fit):
    return any(test.rejected for test in fit.goodness)


@pytest.fixture(scope="module")
def repeats():
    return [fit_programming(measured(seed), sigma="quadratic") for seed in range(200)]


def test_intervals_cover_the_truth_and_the_estimate_is_unbiased(repeats):
    low, high = (np.array([[getattr(p, end) for p in fit.parameters] for fit in repeats]) for end in ("low", "high"))
    covered = np.mean((low <= TRUE_uS) & (TRUE_uS <= high), axis=0)
    assert np.all((covered >= 0.84) & (covered <= 0.96))  # 0.90 +- 3 standard errors of 0.021
    bias = np.mean([fit.values for fit in repeats], axis=0) - TRUE_uS
    assert np.all(np.abs(bias) < np.mean(high - low, axis=0) / 4)


def test_draws_spread_as_the_estimates_do(repeats):
    of_draws = np.mean([fit.draws.std(axis=0) for fit in repeats[:50]], axis=0)
    of_estimates = np.std([fit.values for fit in repeats], axis=0, ddof=1)
    assert of_draws == pytest.approx(of_estimates, rel=0.15)  # 3 standard errors of an s.d. of 200 repeats


def test_the_right_law_is_kept_and_wrong_ones_are_rejected(repeats):
    assert np.mean([rejected(fit) for fit in repeats]) <= 0.1
    assert np.mean([rejected(fit_programming(measured(seed), sigma="linear")) for seed in range(20)]) >= 0.8
    heavy = [fit_programming(measured(seed, 10240, tails=4), sigma="quadratic") for seed in range(20)]
    assert np.mean([rejected(fit) for fit in heavy]) >= 0.8


def test_cells_written_again_and_again_widen_the_intervals():
    rng = np.random.default_rng(3)
    own = rng.standard_normal(64)  # every cell has one error, at all targets
    target, cell = np.tile(LEVELS_uS, 64), np.repeat(np.arange(64), 16)
    g = target + 5 + published_uS(target) * own[cell]
    spreads = []
    for cells in (cell, np.arange(len(g))):
        fit = fit_programming(ProgrammingTable(g_target_uS=target, g_uS=g, cell=cells), sigma="quadratic")
        spreads.append(np.std([fit.sigma_uS(np.array([12.5]), row) for row in fit.draws]))
    assert spreads[0] == pytest.approx(published_uS(12.5) / np.sqrt(2 * 64), rel=0.4)
    assert spreads[0] > 2 * spreads[1]  # 16 rows of a cell know as much as one


@pytest.mark.parametrize(
    ("sigma", "name"),
    [
        (published_uS, "sigma quadratic"),
        (lambda g: 0.5 + 0 * g, "sigma constant"),
        (lambda g: 0.2 + 0.03 * g, "linear"),
    ],
)
def test_ranking_finds_the_law(sigma, name):
    fit = fit_programming(measured(1, 10240, sigma=sigma))
    assert name in fit.model
    assert "bias linear" in fit.model
    assert {c.model for c in fit.candidates if c.chosen} == set(fit.model.split(", "))
    assert not rejected(fit)


def test_a_law_beyond_polynomials_is_tabulated_per_level():
    def saw(g_uS):
        return np.where(np.round(g_uS / 25 * 15) % 2 == 0, 0.3, 0.9)

    fit = fit_programming(measured(0, 16000, sigma=saw))
    assert "tabulated" in fit.model
    assert fit.sigma_uS(LEVELS_uS) == pytest.approx(saw(LEVELS_uS), rel=0.12)  # 5 standard errors of 1000 devices


def test_digitised_pcm_gives_the_published_law():
    if not DIGITISED.exists():
        pytest.skip("the shared measurements are not here")
    path = DIGITISED / "pcm_programming_error_vs_conductance.csv"
    table = ProgrammingStatistics.from_csv(path, {"g_target_uS": "g_uS", "sigma_uS": "programming_error_std_uS"})
    fit = fit_programming(table, reading_error_uS=0.01, window_uS=(0.0, 25.0))
    assert fit.model == "bias zero, sigma quadratic"
    assert fit.values == pytest.approx(SIGMA_uS, abs=0.05)
    spreads = np.array([fit.sigma_uS(table.g_target_uS, row) for row in fit.draws])
    low, high = np.quantile(spreads, [0.05, 0.95], axis=0)
    published = published_uS(table.g_target_uS)
    assert np.all((low <= published) & (published <= high))
    own, theirs = (
        np.sqrt(np.mean((table.sigma_uS - law) ** 2)) for law in (fit.sigma_uS(table.g_target_uS), published)
    )
    assert own <= theirs
    device = fit.to_device()
    assert device.sigma_program_uS(table.g_target_uS, 0.0) == pytest.approx(published, abs=0.02)
    assert any("bias: not measured" in text for text in fit.warnings)


def test_statistics_of_counted_devices_cover_the_truth():
    rng = np.random.default_rng(0)
    n = 400
    covered = []
    for _ in range(100):
        scatter = np.sqrt(rng.chisquare(n - 1, 16) / (n - 1))
        table = ProgrammingStatistics(
            g_target_uS=LEVELS_uS, sigma_uS=published_uS(LEVELS_uS) * scatter, n_cells=np.full(16, float(n))
        )
        fit = fit_programming(table, sigma="quadratic")
        covered.append([p.low <= true <= p.high for p, true in zip(fit.parameters, SIGMA_uS, strict=True)])
    assert np.all(np.abs(np.mean(covered, axis=0) - 0.9) < 0.09)  # 3 standard errors


def test_a_fitted_device_keeps_its_record_and_its_bits_in_a_chip(tmp_path):
    fit = fit_programming(measured(0))
    device = fit.to_device()
    spec = ChipSpec(device=device)
    spec.to_yaml(tmp_path / "chip.yaml")
    again = ChipSpec.from_yaml(tmp_path / "chip.yaml").device
    assert again == device
    assert again.fit_record.laws[0].parameters == fit.parameters
    ours, theirs = device.curves(0.0, 1.0), again.curves(0.0, 1.0)
    assert np.array_equal(ours.program_sigma_uS, theirs.program_sigma_uS)
    fit.to_yaml(tmp_path / "fit.yaml")
    loaded = Fit.from_yaml(tmp_path / "fit.yaml")
    assert loaded.to_yaml() == fit.to_yaml()
    assert loaded.to_device() == device


def test_sampled_devices_differ_as_the_draws_do():
    fit = fit_programming(measured(0, 512), sigma="linear")
    devices = fit.sample_devices(50, seed=1)
    at_top = np.array([device.sigma_program_uS(25.0, 0.0) for device in devices])
    expected = fit.sigma_uS(np.array([25.0]), fit.values)[0]
    assert at_top.mean() == pytest.approx(expected, abs=3 * at_top.std() / np.sqrt(50))
    assert len({device.fit_record.laws[0].parameters[0].value for device in devices}) == 50
    assert fit.sample_devices(3, seed=1) == fit.sample_devices(3, seed=1)


def table_of(**columns):
    return ProgrammingTable.from_frame(pd.DataFrame(columns))


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (
            lambda: fit_programming(table_of(g_target_uS=[5, 5, 5], g_uS=[5, 6, 5])),
            "needs at least 3 rows and two targets",
        ),
        (lambda: fit_programming(table_of(g_target_uS=[1, 2, 3], g_uS=[1, 2, 3])), "all errors are equal"),
        (lambda: fit_programming(table_of(g_target_uS=[1, 2], g_uS=[1, 2], cell=[7, 7])), "needs at least 3 rows"),
        (
            lambda: fit_programming(table_of(g_target_uS=[1, 2, 3], g_uS=[1, 2, 2], cell=[7, 7, 7])),
            "1 cell: how cells differ needs at least 2",
        ),
        (lambda: fit_programming(measured(0), sigma="qudratic"), "sigma = 'qudratic': must be one of constant, linear"),
        (lambda: fit_programming(measured(0), window_uS=(1.0, 25.0)), "must contain the targets, 0 to 25 uS"),
        (lambda: fit_programming(measured(0), reading_error_uS=0.1), "reading_error_uS = 0.1: cannot act"),
    ],
)
def test_what_cannot_be_fitted_is_refused(call, text):
    with pytest.raises(UsageError) as caught:
        call()
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)
