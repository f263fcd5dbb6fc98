"""Pulses: recovery through the noise of the reads, coverage, rejection."""

import numpy as np
import pytest
from scipy import stats

from calibration.pulse_laws import Series, StepLaw
from calibration.pulses import PulseFit, fit_pulses
from calibration.tables import PulseTable
from device_models.errors import UsageError

UP, DOWN = (1.5, 0.3), (-0.4, -1.6)  # mean steps at 0 and 100 uS
SPREAD, READ = 0.3, 0.5


def ramps(seed, n_ramps=20, n_pulses=100, cycle=0.0, bend=0.0, up=UP, down=DOWN):
    """Soft bounds: steps linear in g between 0 and 100 uS; reads with noise."""
    rng = np.random.default_rng(seed)
    rows = []
    for direction, (first, last), start in (("up", up, 10.0), ("down", down, 90.0)):
        factor = 1 + cycle * rng.standard_normal(n_ramps)
        g = start + rng.standard_normal(n_ramps)
        for pulse in range(n_pulses):
            rows += [(direction, k, pulse, g[k] + READ * rng.standard_normal()) for k in range(n_ramps)]
            step = first + (last - first) * g / 100 + bend * np.sin(np.pi * g / 50)
            g = g + factor * step + SPREAD * rng.standard_normal(n_ramps)
    direction, ramp, pulse, y = (np.array(column) for column in zip(*rows, strict=True))
    return PulseTable(direction=direction, ramp=ramp, pulse=pulse, g_uS=y)


def truth(fit):
    low, high = fit.window_uS
    at = np.array([low, high]) / 100
    values = {"spread": SPREAD, "read_noise": READ, "cycle_sigma": 0.0}
    out = []
    for p in fit.parameters:
        (first, last), name = (UP if p.name.startswith("up") else DOWN), p.name.split("_", 1)[1]
        end = {"step_at_0": at[0], "step_at_1": at[1]}.get(name)
        out.append(values[name] if end is None else first + (last - first) * end)
    return np.array(out)


def test_intervals_cover_and_are_centred():
    covered, offset = [], []
    for seed in range(20):
        fit = fit_pulses(ramps(seed), model="soft bounds, constant spread")
        use = [k for k, p in enumerate(fit.parameters) if "cycle" not in p.name]
        for k in use:
            p, true = fit.parameters[k], truth(fit)[k]
            covered.append(p.low <= true <= p.high)
            offset.append((p.value - true) / (p.high - p.low))
    assert 0.83 <= np.mean(covered) <= 0.97  # 160 intervals: 0.9 +- 0.024
    assert np.abs(np.mean(np.reshape(offset, (20, -1)), axis=0)).max() < 0.25


def test_noise_of_reads_does_not_pass_for_a_step():
    """Steps against the measured conductance would fall by READ^2 / var per unit: a spurious soft bound."""
    fit = fit_pulses(ramps(1, n_ramps=2, n_pulses=1000, up=(0.05, 0.05), down=(-0.05, -0.05)))
    for direction, step in (("up", 0.05), ("down", -0.05)):
        assert dict(fit.models)[direction] == "constant, constant spread"
        p = next(p for p in fit.parameters if p.name == f"{direction}_step")
        assert p.low <= step <= p.high
        assert fit.value(f"{direction}_read_noise") == pytest.approx(READ, rel=0.05)
    assert "up_cycle_sigma: not identified by 2 ramps" in fit.warnings


def test_right_law_is_kept_and_wrong_laws_are_rejected():
    right, constant, line = 0, 0, 0
    for seed in range(8):
        data = ramps(seed)
        right += any(t.rejected for t in fit_pulses(data, model="soft bounds, constant spread").goodness)
        constant += any(t.rejected for t in fit_pulses(data, model="constant, constant spread").goodness)
        bent = ramps(seed, bend=0.15)
        line += any(t.rejected for t in fit_pulses(bent, model="soft bounds, constant spread").goodness)
    assert right <= 2  # 5 % of 8 expected
    assert constant >= 7
    assert line >= 7


def test_ranking_and_symmetry_point():
    fit = fit_pulses(ramps(2))
    assert dict(fit.models)["up"] == "soft bounds, constant spread"
    # 1.5 - 1.2 x = 0.4 + 1.2 x
    assert fit.symmetry_point_uS() == pytest.approx(100 * 1.1 / 2.4, abs=2.0)
    assert fit.step("up", 50.0) == pytest.approx(0.9, abs=0.03)
    assert fit.spread("down", 50.0) == pytest.approx(SPREAD, abs=0.05)  # 4 standard errors


def test_likelihood_of_equal_steps_is_that_of_their_joint_normal_law():
    """Of a ramp that jumps: both pieces share its factor."""
    rng, (a, s, r, c) = np.random.default_rng(0), (0.02, 0.01, 0.015, 0.3)
    pulse = [np.array([0, 1, 2, 4, 5]), np.array([7, 8, 10])]
    after = np.concatenate([p[1:] - p[0] for p in pulse])
    piece = np.repeat([0, 1], [4, 2])
    same = piece[:, None] == piece
    covariance = (c * a) ** 2 * np.outer(after, after) + r**2 * np.eye(6)
    covariance += same * (s**2 * np.minimum.outer(after, after) + r**2)
    y = rng.multivariate_normal(a * after, covariance)
    first = [0.1, 0.6]
    values = np.concatenate([[first[0]], first[0] + y[:4], [first[1]], first[1] + y[4:]])
    number = np.repeat([0, 1], [5, 3])
    series = Series.of(values, np.concatenate(pulse), np.zeros(8, int), number)
    law = StepLaw("constant", relative=False, ramps=5)
    theta = law.theta(np.array([a, s, r, c]), 1.0, 1.0)
    assert law.natural(theta, 1.0, 1.0) == pytest.approx([a, s, r, c])
    own = theta[-1] / (c / 0.1)  # theta is of the likelihood's own factor, which is the smaller one
    assert own == pytest.approx(np.sqrt(4 / 5))
    theta[-1] = c / 0.1
    found = law.filtered(theta, series, 1.0).likelihood.sum()
    assert found == pytest.approx(stats.multivariate_normal(a * after, covariance).logpdf(y), rel=1e-10)


def test_cycles_that_differ_are_told_from_noise():
    values, spreads, covered = [], [], []
    for seed in range(6):
        fit = fit_pulses(ramps(seed, n_ramps=30, cycle=0.2), model="soft bounds, constant spread")
        for own in (p for p in fit.parameters if p.name.endswith("cycle_sigma")):
            values.append(own.value)
            covered.append(own.low <= 0.2 <= own.high)
        spreads += [fit.value("up_spread"), fit.value("down_spread")]
        assert fit.intervals.endswith("robust to ramps that differ")
    assert np.mean(values) == pytest.approx(0.2, abs=4 * 0.2 / np.sqrt(2 * 29 * 12))  # 4 standard errors
    assert np.mean(spreads) == pytest.approx(SPREAD, rel=0.03)  # 0.37 if ramps counted as alike
    assert sum(covered) >= 9  # of 12; 90 % +- 9 %
    none = fit_pulses(ramps(0, n_ramps=30), model="soft bounds, constant spread")
    assert none.value("up_cycle_sigma") < 0.05


def test_jumps_are_cut_out_and_counted():
    data = ramps(3, n_ramps=12)
    g = data.g_uS.copy()
    after = (data.direction == "up") & (data.ramp == 4) & (data.pulse >= 50)
    g[after] += 60.0
    fit = fit_pulses(
        PulseTable(direction=data.direction, ramp=data.ramp, pulse=data.pulse, g_uS=g),
        model="soft bounds, constant spread",
    )
    assert [(item.reason, item.count) for item in fit.provenance.left_out] == [("jumps up", 1)]
    assert fit.value("up_spread") < 1.5 * SPREAD


def test_missing_pulses_count_as_several_steps():
    data = ramps(4)
    keep = np.random.default_rng(0).random(len(data.g_uS)) < 0.7
    thin = PulseTable(
        direction=data.direction[keep], ramp=data.ramp[keep], pulse=data.pulse[keep], g_uS=data.g_uS[keep]
    )
    fit = fit_pulses(thin, model="soft bounds, constant spread")
    assert fit.step("up", 50.0) == pytest.approx(0.9, abs=0.03)
    assert fit.value("up_spread") == pytest.approx(SPREAD, abs=0.04)


def test_yaml_gives_the_same_fit(tmp_path):
    fit = fit_pulses(ramps(5, n_ramps=5), model="quadratic, constant spread")
    fit.to_yaml(tmp_path / "p.yaml")
    again = PulseFit.from_yaml(tmp_path / "p.yaml")
    assert np.array_equal(again.draws, fit.draws)
    assert again.step("up", 40.0) == fit.step("up", 40.0)


def test_refusals():
    data = ramps(6, n_ramps=2, n_pulses=30)
    with pytest.raises(UsageError, match="pulses that change nothing"):
        fit_pulses(PulseTable(direction=data.direction, ramp=data.ramp, pulse=data.pulse, g_uS=0 * data.g_uS + 5))
    few = data.pulse < 5
    with pytest.raises(UsageError, match="8 steps up: must be at least 20"):
        fit_pulses(
            PulseTable(direction=data.direction[few], ramp=data.ramp[few], pulse=data.pulse[few], g_uS=data.g_uS[few])
        )
    with pytest.raises(UsageError, match=r'nearest: "soft bounds, constant spread"'):
        fit_pulses(data, model="soft bounds constant spread")
    fit = fit_pulses(data, model="constant, constant spread")
    with pytest.raises(UsageError, match="direction = 'set': must be one of up, down"):
        fit.step("set", 50.0)
    with pytest.raises(UsageError, match="where pulses were measured"):
        fit.step("up", 500.0)
