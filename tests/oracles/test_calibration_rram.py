"""Measured relaxation and bakes of resistive memory: cells and temperatures left out are predicted."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from calibration.relaxation import fit_relaxation
from calibration.retention import fit_retention
from calibration.tables import RetentionTable

DATA = Path(__file__).parents[2] / ".." / "shared" / "data" / "devices" / "rram_levy_relaxation"
pytestmark = pytest.mark.skipif(not DATA.exists(), reason="the shared measurements are not here")
GROUPS = ((0, 8), (8, 16), (16, 24), (24, 32))


@pytest.fixture(scope="module")
def halves():
    frame = pd.read_csv(DATA / "rram_techB_relaxation_roomtemp.csv")
    held_out = np.random.default_rng(1).permutation(len(frame)) < 0.3 * len(frame)
    return frame[~held_out].reset_index(drop=True), frame[held_out].reset_index(drop=True)


def _groups(fit, frame, times=None):
    """Time, level group, share inside the 90 % band and its standard error."""
    shifts, z = fit.scores(RetentionTable.from_frame(frame.drop(columns="level")))
    level = np.floor(shifts.g_uS / 128 * 32)
    for t in np.unique(shifts.t_s) if times is None else times:
        for low, high in GROUPS:
            own = z[(shifts.t_s == t) & (level >= low) & (level < high)]
            share = np.mean(np.abs(own) < 1.6449)
            yield t, low, share, (0.09 / len(own)) ** 0.5


def test_cells_left_out_lie_in_the_predicted_band_at_every_time_and_level(halves):
    train, test = halves
    fit = fit_relaxation(RetentionTable.from_frame(train.drop(columns="level")), model="13 slopes, each time")
    rows = list(_groups(fit, test))
    assert len(rows) == 24
    assert not any(goodness.rejected for goodness in fit.goodness)
    assert all(0.87 <= share <= 0.93 for *_, share, _ in rows), rows
    # quantiles of each group: no further from those measured than the quantiles of the cells that were fitted are
    z = np.linspace(-4, 4, 161)
    weight = np.exp(-0.5 * z**2) / np.exp(-0.5 * z**2).sum()
    p = [0.01, 0.1, 0.5, 0.9, 0.99]
    ours, theirs = [], []
    for column in [name for name in test if name.startswith("g_") and name != "g_0s_uS"]:
        t = float(column[2:-4])
        for low, high in GROUPS:
            seen, known = (f[f.level.between(low, high - 1) & f[column].notna()] for f in halves[::-1])
            g = seen.g_0s_uS.to_numpy()
            shifts = fit.law().shift_uS(g, z, t).ravel()
            order = np.argsort(shifts)
            share = np.cumsum(np.tile(weight, len(g))[order]) / len(g)
            measured = np.quantile(seen[column] - g, p)
            spread = measured[-1] - measured[0]
            ours.append((shifts[order][np.searchsorted(share, p)] - measured) / spread)
            theirs.append((np.quantile(known[column] - known.g_0s_uS, p) - measured) / spread)
    ours, theirs = np.array(ours), np.array(theirs)
    assert np.abs(ours[:, 2:4]).max() < 0.05
    assert np.mean(np.abs(ours[:, 1:4]) < 0.05) >= 0.95
    assert np.sqrt(np.mean(ours**2)) < 1.1 * np.sqrt(np.mean(theirs**2))


def test_the_band_holds_two_decades_beyond_the_last_time(halves):
    train, test = halves
    early = train.drop(columns=["level", "g_1000s_uS", "g_10000s_uS"])
    table = RetentionTable.from_frame(early)
    fit = fit_relaxation(table, model="9 slopes, power of log time", extrapolate_to_s=1e4)
    shares = [share for _, _, share, _ in _groups(fit, test, times=[1000.0, 10000.0])]
    assert all(0.80 <= share <= 0.97 for share in shares), shares
    power = fit_relaxation(table, model="9 slopes, power of time", extrapolate_to_s=1e4)
    wide = [share for _, _, share, _ in _groups(power, test, times=[1000.0, 10000.0])]
    assert np.mean(shares) < np.mean(wide)  # spreads that saturate


def test_power_law_drift_loses_on_these_cells(halves):
    fit = fit_relaxation(RetentionTable.from_frame(halves[0][::6].drop(columns="level")), folds=2)
    assert "slopes" in fit.model
    score = {c.model: c for c in fit.candidates}
    rival = score["power-law drift"]
    assert score[fit.model].score - rival.score > 10 * rival.score_se
    assert not any("fit_drift" in text for text in fit.warnings)


@pytest.mark.parametrize(("left_out_C", "within", "off_band"), [(140, 0.1, 0.03), (180, 0.25, 0.03), (220, 0.25, 0.12)])
def test_the_spread_at_a_temperature_left_out(left_out_C, within, off_band):
    frame = pd.read_csv(DATA / "rram_techA_bake.csv").rename(columns={"bake_C": "temperature_C"})
    some = frame[frame.cell % 4 == 0]
    fit = fit_retention(RetentionTable.from_frame(some[some.temperature_C != left_out_C]), model="each temperature")
    assert any("not one energy" in text for text in fit.warnings)
    energy = fit.activation_eV[0]
    assert 0.1 < energy.low < energy.value < energy.high < 0.3
    seen = frame[frame.temperature_C == left_out_C]
    shift, errors, shares = seen.g_after_uS - seen.g_before_uS, [], []
    for low in range(0, 240, 30):
        own = seen.g_before_uS.between(low, low + 30)
        mean, spread = fit.moments_uS(seen.g_before_uS[own].to_numpy(), left_out_C)
        predicted = np.sqrt(np.mean(spread**2) + np.var(mean))
        errors.append(predicted / shift[own].std() - 1)
        band = fit.quantiles_uS(seen.g_before_uS[own].to_numpy(), [0.05, 0.95], left_out_C)
        shares.append(np.mean((shift[own] > band[:, 0]) & (shift[own] < band[:, 1])))
    assert np.sqrt(np.mean(np.square(errors))) < within, errors
    assert np.sqrt(np.mean(np.square(np.array(shares) - 0.9))) < off_band, shares
