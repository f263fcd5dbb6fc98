"""Fits of cells against measurements that others published: I-V curves, writes with verification, pulses."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from calibration.iv import fit_iv
from calibration.iv_cells import cell_curves
from calibration.pulses import fit_pulses
from calibration.tables import IVTable, PulseTable
from calibration.write_table import WriteVerifyTable
from calibration.write_verify import fit_write_verify

DATA = Path(__file__).parents[2] / ".." / "shared" / "data" / "devices"
IV_FILE = DATA / "rram_ni_iv_sweep" / "rram_iv_sweep_1024cells.csv"
WRITES = DATA / "rram_ni_write_verify" / "rram_write_verify_outcomes.csv"
RAMPS = DATA / "reram_sandia_pulse_ramps" / "reram_pulse_ramps.csv"
SERIES = DATA / "reram_gong2018_pulse_response" / "reram_gong2018_pulse_response.csv"

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="measured devices are not beside the repository")


def test_nonlinearity_of_cells_left_out_lies_in_the_predicted_band():
    table = IVTable.from_csv(IV_FILE)
    cells = np.unique(table.cell)
    inside = []
    for seed in range(4):
        train = np.isin(table.cell, np.random.default_rng(seed).permutation(cells)[:717])
        parts = [IVTable(cell=table.cell[rows], v_V=table.v_V[rows], i_uA=table.i_uA[rows]) for rows in (train, ~train)]
        fit = fit_iv(parts[0], model="quadratic, degree 2, heavy tails")
        z = fit.scores(parts[1])
        # 307 cells: 0.9 +- 0.017 for each part
        assert np.all(np.abs(np.mean(np.abs(z) < 1.645, axis=1) - 0.9) < 0.045)
        slopes = parts[1].matrix()
        g = np.polyfit(slopes[1], slopes[2].T, 1)[0]
        inside.append(np.stack([g, np.abs(z[0]) < 1.645]))
    g, hit = np.concatenate(inside, axis=1)
    for group in np.array_split(np.argsort(g), 4):  # and over the conductance: about 307 cells in each
        assert hit[group].mean() == pytest.approx(0.9, abs=0.07)


def test_devices_of_a_fit_differ_as_cells_left_out_do():
    """Curvature and cubic term of each cell among those of 400 devices with its best line, the noise of its currents
    added, whose tails are those of the fit as well."""
    table = IVTable.from_csv(IV_FILE)
    cells = np.unique(table.cell)
    inside = []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        train = np.isin(table.cell, rng.permutation(cells)[:717])
        fit = fit_iv(IVTable(cell=table.cell[train], v_V=table.v_V[train], i_uA=table.i_uA[train]))
        iv = fit.to_device().iv
        others = cell_curves(table.cell[~train], table.v_V[~train], table.i_uA[~train])
        others = others.only((others.g_uS > fit.window_uS[0]) & (others.g_uS < fit.window_uS[1]))
        g0 = np.tile(fit.coefficients(others.g_uS)[0], (400, 1))
        _, a2, a3 = iv.polynomial(g0, rng.standard_normal((2, *g0.shape)))
        r = others.triangle
        drawn = np.stack([r[:, 2, 2] * a2 + r[:, 2, 3] * a3, r[:, 3, 3] * a3])
        drawn += others.noise_uA * rng.standard_t(iv.tail_nu, drawn.shape)
        rank = np.mean(drawn < others.parts[:, 2:].T[:, None], axis=1)
        inside.append(np.mean((rank > 0.05) & (rank < 0.95), axis=1))
    assert np.mean(inside, axis=0) == pytest.approx([0.9, 0.9], abs=0.03)  # 1200 cells: 3.5 standard errors


def test_instrument_of_the_iv_sweep():
    fit = fit_iv(IVTable.from_csv(IV_FILE), rank=False)
    assert 0.5 < fit.value("i0_mean") < 0.8  # "an offset of up to about 1 uA"
    assert 0.3 < fit.value("noise") < 0.4  # "noise of some tenths of uA"
    # cells of low conductance are less ohmic
    low, high = fit.nonlinearity_band(np.array([15.0, 110.0]))
    assert low[0, 0] + high[0, 0] > 4 * (low[0, 1] + high[0, 1]) > 0


def test_success_of_writes_over_attempts():
    table = WriteVerifyTable.from_csv(WRITES)
    fit = fit_write_verify(table, model="geometric, degree 2, mixed")
    half, middle = (table.g_high_uS - table.g_low_uS) / 2, (table.g_high_uS + table.g_low_uS) / 2
    for attempts, share in ((10, 0.73), (25, 0.89), (50, 0.95), (100, 0.98)):
        own = table.max_attempts == attempts
        assert table.accepted[own].mean() == pytest.approx(share, abs=0.006)  # the published shares are of this file
        assert fit.success(middle[own], half[own], attempts).mean() == pytest.approx(share, abs=0.025)
    # a window twice as wide takes about half as many attempts
    assert 0.8 < fit.value("window_exponent") < 1.05
    # a conductance that is accepted may lie anywhere in its window
    assert fit.value("residual_sigma") == pytest.approx(1 / np.sqrt(3), rel=0.02)


def test_success_is_predicted_for_cells_left_out():
    table = WriteVerifyTable.from_csv(WRITES)
    cells = np.unique(table.cell)
    left = np.isin(table.cell, np.random.default_rng(0).permutation(cells)[:10])
    names = ("g_low_uS", "g_high_uS", "max_attempts", "accepted", "cell")
    train, test = (WriteVerifyTable(**{name: getattr(table, name)[rows] for name in names}) for rows in (~left, left))
    fit = fit_write_verify(train, model="geometric, degree 2, mixed")
    middle, half = (test.g_high_uS + test.g_low_uS) / 2, (test.g_high_uS - test.g_low_uS) / 2
    chance = fit.success(middle, half, test.max_attempts)
    for group in np.array_split(np.argsort(chance), 5):
        assert test.accepted[group].mean() == pytest.approx(chance[group].mean(), abs=0.06)


def test_steps_of_ramps_left_out():
    table = PulseTable.from_csv(RAMPS)
    even = table.ramp % 2 == 0
    parts = [
        PulseTable(direction=table.direction[k], ramp=table.ramp[k], pulse=table.pulse[k], g_uS=table.g_uS[k])
        for k in (even, ~even)
    ]
    fit = fit_pulses(parts[0], model="tabulated, constant spread")
    low, high = fit.window_uS
    for direction in ("up", "down"):
        rows = parts[1].direction == direction
        ramp, g = parts[1].ramp[rows], parts[1].g_uS[rows]
        same = (np.diff(ramp) == 0) & (g[:-1] > low) & (g[:-1] < high)
        state, step = g[:-1][same], np.diff(g)[same]
        for group in np.array_split(np.argsort(state), 6):
            mean = fit.step(direction, state[group]).mean()
            assert mean == pytest.approx(step[group].mean(), abs=0.5)  # of 5 uS
        spread = np.hypot(fit.spread(direction, state), np.sqrt(2) * fit.value(f"{direction}_read_noise"))
        inside = np.abs(step - fit.step(direction, state)) < 1.645 * spread
        assert 0.85 < inside.mean() < 0.97


def test_ramps_differ_by_a_few_percent():
    """The search once stopped at a spread of nought among ramps, where the likelihood is flat, 58 nats below."""
    fit = fit_pulses(PulseTable.from_csv(RAMPS), model="tabulated, constant spread")
    up, down = (next(p for p in fit.parameters if p.name == f"{d}_cycle_sigma") for d in ("up", "down"))
    assert 0.01 < up.low < up.value < up.high < 0.04
    assert 0.002 < down.low < down.value < down.high < 0.02


def test_read_noise_of_a_single_series_is_not_taken_for_steps():
    frame = pd.read_csv(SERIES)
    # normalised units around zero; the origin does not matter to steps over state
    long = pd.concat(
        pd.DataFrame({"direction": d, "ramp": 0, "pulse": frame["pulse"], "g_uS": 2 + frame[f"g_after_{d}_pulse_au"]})
        for d in ("up", "down")
    )
    fit = fit_pulses(PulseTable.from_frame(long), model="soft bounds, constant spread")
    assert not fit.goodness[0].rejected
    assert not fit.goodness[2].rejected
    for direction in ("up", "down"):
        y = frame[f"g_after_{direction}_pulse_au"].to_numpy()
        noise, spread = fit.value(f"{direction}_read_noise"), fit.value(f"{direction}_spread")
        steps = np.diff(y)
        # variance of a step is spread^2 + 2 noise^2, covariance of neighbours is - noise^2
        assert noise**2 == pytest.approx(-np.mean((steps[1:] - steps.mean()) * (steps[:-1] - steps.mean())), rel=0.25)
        assert spread**2 + 2 * noise**2 == pytest.approx(np.var(steps), rel=0.1)
        # two hundred pulses of the mean law lead from one end of the series towards the other
        walk = float(fit.step(direction, 2 + np.median(y)))
        assert walk == pytest.approx(np.polyfit(np.arange(len(y)), y, 1)[0], abs=0.002)
