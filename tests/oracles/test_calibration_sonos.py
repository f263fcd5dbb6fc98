"""Retention of measured SONOS cells at 150 C: threshold voltages of times left out, losses and spreads of the reads."""

from pathlib import Path

import numpy as np
import pytest

from calibration import ThresholdTable, fit_threshold

FILE = Path(__file__).parents[2] / ".." / "shared" / "data" / "devices" / "sonos_skywater_s8"
FILE /= "sonos_s8_retention_150C_100kcycles_digitised.csv"
pytestmark = pytest.mark.skipif(not FILE.exists(), reason="the shared measurements are not here")


@pytest.fixture(scope="module")
def table():
    return ThresholdTable.from_csv(FILE, {"t_s": "time_s"})  # samples are in no order, so not cells


@pytest.mark.parametrize(("state", "loss_V"), [("programmed", -0.863), ("erased", 0.078)])
def test_loss_and_spread_are_those_of_the_reads(table, state, loss_V):
    own = table.state == state
    t, vt = table.t_s[own], table.vt_V[own]
    measured = vt[t == t.max()].mean() - vt[t == t.min()].mean()
    assert measured == pytest.approx(loss_V, abs=0.001)
    fit = fit_threshold(table, state=state)
    assert fit.loss_V(t.max())[0] == pytest.approx(measured, abs=0.06)  # two standard errors of twelve reads
    _, spread = fit.moments_V(np.unique(t))
    each = np.array([vt[t == time].std(ddof=1) for time in np.unique(t)])
    assert np.sqrt(np.mean(spread**2)) == pytest.approx(np.sqrt(np.mean(each**2)), rel=0.2)
    low, high = fit.quantiles_V(t, [0.05, 0.95]).T
    assert np.mean((low <= vt) & (vt <= high)) >= 0.8  # of 54 reads, 9 times of six: 0.9 with s.e. 0.04
    assert not any(test.rejected for test in fit.goodness)


def test_erased_cells_need_more_than_a_line(table):
    """Their voltage falls in the first half an hour and rises for six weeks."""
    fit = fit_threshold(table, state="erased")
    assert fit.model == "quadratic in ln t"
    bend = fit.parameters[2]
    assert 0 < bend.low < bend.high
    scores = {c.model: c for c in fit.candidates}
    assert scores["linear in ln t"].score + scores["linear in ln t"].score_se < scores["quadratic in ln t"].score


def test_six_weeks_are_predicted_from_two_days(table):
    """Programmed cells, reads up to 161,000 s: means of later times within 0.05 V, of 0.7 V."""
    early = table.t_s < 2e5
    part = ThresholdTable(t_s=table.t_s[early], vt_V=table.vt_V[early], state=table.state[early])
    fit = fit_threshold(part, state="programmed", model="linear in ln t", extrapolate_to_s=4e6)
    for time in np.unique(table.t_s[~early]):
        seen = table.vt_V[(table.t_s == time) & (table.state == "programmed")].mean()
        assert fit.moments_V(time)[0][0] == pytest.approx(seen, abs=0.05)
