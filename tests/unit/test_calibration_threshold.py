"""Threshold-voltage fits: known laws come back, intervals cover them, the right law is found, refusals."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import multivariate_normal

from calibration import ThresholdFit, ThresholdTable, fit_threshold
from calibration.threshold_laws import LAWS, ThresholdReads
from device_models.errors import UsageError

T_S = np.geomspace(1.0, 1e6, 9)  # 1000 s in the middle
X = np.linspace(-3.0, 3.0, 9)
SIGMA_V, GROWTH, WITHIN = 0.05, -0.03, 0.8
MEANS = {
    "linear in ln t": (1.1, -0.12),
    "quadratic in ln t": (1.1, -0.05, 0.012),
    "power law": (1.1, -0.12, -0.08),
}


def reads(seed, law, n_cells=40, within=WITHIN):
    """Voltages (cells, times) of one state, in a frame."""
    rng = np.random.default_rng(seed)
    mean, spread = LAWS[law].moments(X, np.array([*MEANS[law], SIGMA_V, GROWTH]))
    own, each = rng.standard_normal((n_cells, 1)), rng.standard_normal((n_cells, len(X)))
    vt = mean + spread * (np.sqrt(within) * own + np.sqrt(1 - within) * each)
    columns = {"cell": np.repeat(np.arange(n_cells), len(X)), "t_s": np.tile(T_S, n_cells), "vt_V": vt.ravel()}
    return pd.DataFrame({**columns, "state": "programmed"})


def table(frame):
    return ThresholdTable.from_frame(frame)


def test_the_likelihood_is_that_of_a_joint_normal():
    """Three cells with 3, 1 and 2 reads against scipy's density with the whole covariance; whitened residuals too."""
    rng = np.random.default_rng(0)
    cell, t, vt = np.array([0, 0, 0, 1, 2, 2]), rng.uniform(1, 1e4, 6), rng.normal(1, 0.1, 6)
    some, law = ThresholdReads.of(t, vt, cell), LAWS["power law"]
    theta = np.array([1.0, -0.05, -0.1, np.log(0.07), 0.05, 0.6])
    mean, spread = law.moments(some.x, law.natural(theta))
    c = 1 / (1 + np.exp(-0.6))
    whole = 0.0
    for k in range(3):
        own = cell == k
        covariance = np.outer(spread[own], spread[own]) * np.where(np.eye(own.sum()), 1.0, c)
        density = multivariate_normal(mean[own], covariance).logpdf(vt[own])
        assert some.per_unit(law, theta)[k] == pytest.approx(density, rel=1e-10)
        whitened = np.linalg.inv(covariance)
        off = vt[own] - mean[own]
        assert np.sum(some.residuals(law, theta)[own] ** 2) == pytest.approx(off @ whitened @ off, rel=1e-10)
        whole += density
    assert some.per_unit(law, theta).sum() == pytest.approx(whole)


@pytest.mark.parametrize("law", ["linear in ln t", "power law"])
def test_intervals_cover_and_the_true_law_is_not_rejected(law):
    """40 repeats of 40 cells and 5 or 6 parameters: mean coverage 0.9 with s.e. of about 0.025; small bias."""
    truth = np.array([*MEANS[law], SIGMA_V, GROWTH, WITHIN])
    fits = [fit_threshold(table(reads(seed, law)), model=law) for seed in range(40)]
    low, high = np.array([[(p.low, p.high) for p in fit.parameters] for fit in fits]).transpose(2, 0, 1)
    assert 0.83 <= np.mean((low <= truth) & (truth <= high)) <= 0.96
    bias = np.mean([fit.values for fit in fits], axis=0) - truth
    error = np.std([fit.values for fit in fits], axis=0, ddof=1) / np.sqrt(40)
    assert np.all(np.abs(bias) < 0.25 * np.mean(high - low, axis=0) + 2 * error)
    # draws scatter as the estimates do, whose s.d. 40 repeats know to 11 %
    assert np.mean([fit.draws.std(axis=0) for fit in fits], axis=0) == pytest.approx(error * np.sqrt(40), rel=0.4)
    assert np.mean([any(test.rejected for test in fit.goodness) for fit in fits]) <= 0.08 + 0.09  # two s.e.


@pytest.mark.parametrize("law", list(MEANS))
def test_ranking_finds_the_law_and_a_wrong_one_is_rejected(law):
    fit = fit_threshold(table(reads(1, law)))
    assert fit.model == law
    assert fit.candidates[0].score >= max(c.score for c in fit.candidates)
    if law != "linear in ln t":
        assert any(test.rejected for test in fit_threshold(table(reads(1, law)), model="linear in ln t").goodness)


def test_without_cells_reads_are_independent_and_that_is_said():
    frame = reads(2, "linear in ln t", within=0.0)
    alone = fit_threshold(table(frame.drop(columns="cell")), model="linear in ln t")
    assert "within_cell" not in [p.name for p in alone.parameters]
    assert any("reads count as independent" in text for text in alone.warnings)
    # 360 independent reads: standard error of the middle, by hand, for spreads that hardly change
    p = alone.parameters[0]
    assert (p.high - p.low) / 2 == pytest.approx(1.645 * SIGMA_V / np.sqrt(360), rel=0.1)
    known = fit_threshold(table(frame), model="linear in ln t")
    assert known.value("within_cell") < 0.1
    assert known.value("loss") == pytest.approx(alone.value("loss"), abs=1e-3)


def test_moments_quantiles_and_how_far_they_hold(tmp_path):
    fit = fit_threshold(table(reads(3, "linear in ln t", 400)), model="linear in ln t", extrapolate_to_s=3e8)
    mean, spread = fit.moments_V([1e3, 1e8])
    assert mean == pytest.approx([1.1, 1.1 - 5 * 0.12], abs=0.02)
    assert spread == pytest.approx(SIGMA_V * 10 ** (GROWTH * np.array([0.0, 5.0])), rel=0.12)
    assert fit.loss_V(1e6) == pytest.approx([-0.72], abs=0.01)
    assert fit.quantiles_V(1e3, [0.05, 0.95])[0] == pytest.approx(mean[0] + 1.644854 * spread[0] * np.array([-1, 1]))
    with pytest.raises(UsageError, match=r"t_s: runs from 1 to 1e\+09: the law holds from 1 to 3e\+08 s"):
        fit.moments_V([1.0, 1e9])
    with pytest.raises(UsageError, match="is no conductance"):
        fit.to_device(g_max_uS=1.0)
    fit.to_yaml(tmp_path / "fit.yaml")
    again = ThresholdFit.from_yaml(tmp_path / "fit.yaml")
    assert np.array_equal(again.draws, fit.draws)
    assert again.quantiles_V(50.0, 0.1) == fit.quantiles_V(50.0, 0.1)
    assert len(fit.plot(tmp_path / "fit.png").axes) == 3


def test_what_cannot_be_fitted_is_refused():
    frame = reads(4, "linear in ln t", 4)
    both = table(pd.concat([frame, frame.assign(state="erased")]))
    for arguments, text in [
        ((both, {}), "state = None: the table has erased, programmed: give one"),
        ((both, {"state": "erasd"}), 'must be one of erased, programmed; nearest: "erased"'),
        ((table(frame), {"model": "linear"}), "model = 'linear': must be one of linear in ln t, quadratic in ln t"),
        ((table(frame), {"extrapolate_to_s": 1e6}), "must be above the last time, 1e+06 s"),
        ((table(frame[frame.t_s < 100]), {}), "12 reads at 3 times: must be at least 12 at 4"),
        ((table(pd.concat([frame[frame.cell == 0]] * 2).assign(t_s=np.arange(1.0, 19))), {}), "1 cell: the spread"),
        ((table(frame.assign(vt_V=1.0)), {}), "all reads are 1 V"),
    ]:
        with pytest.raises(UsageError) as caught:
            fit_threshold(arguments[0], **arguments[1])
        assert text in str(caught.value)
    start = pd.concat([frame, frame[:4].assign(t_s=0.0, cell=range(4))])
    assert table(start).left_out == (("t_s of 0, which has no logarithm", 4),)
    with pytest.raises(UsageError, match="appears more than once"):
        table(pd.concat([frame, frame[:1]]))
