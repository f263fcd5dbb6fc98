"""Current over voltage: recovery, coverage, rejection and the device of a fit."""

import numpy as np
import pytest

from calibration.iv import IVFit, fit_iv
from calibration.iv_cells import shrunk_variances
from calibration.tables import IVTable
from device_models.effects import LinearIV, SinhIV
from device_models.errors import UsageError

V = np.linspace(0.0, 0.4, 20)


def table(g, a2, a3, seed, noise=0.1, v=V, offset=(0.5, 0.05), odd=None):
    rng = np.random.default_rng(seed)
    i0 = rng.normal(*offset, len(g))
    i = i0[:, None] + g[:, None] * v + a2[:, None] * v**2 + a3[:, None] * v**3
    if odd is not None:
        i = i0[:, None] + odd
    i = i + noise * rng.standard_normal(i.shape)
    return IVTable(cell=np.repeat(np.arange(len(g)), len(v)), v_V=np.tile(v, len(g)), i_uA=i.ravel())


def parabolas(seed, n=512, sigma=0.1, student=None):
    """g falls on 10 to 100 uS; k2 of the best parabola falls from 0.8 to 0.2 per volt."""
    rng = np.random.default_rng(1000 + seed)
    slope = rng.uniform(10, 100, n)
    z = rng.standard_normal(n) if student is None else rng.standard_t(student, n)
    k2 = 0.8 - 0.6 * (slope - 10) / 90 + sigma * z
    a2 = k2 * slope
    return slope - a2 * np.polyfit(V, V**2, 1)[0], a2, np.zeros(n), slope  # g at zero so that the best line has `slope`


CUBIC = {"k2": (0.8, 0.4, 0.2), "k2_sigma": 0.15, "k3_mean": 0.5, "k3_sigma": 0.8}


def cubics(seed, tail_nu=None, n=512):
    """Cells whose best lines have slopes of 10 to 100 uS: k2 a parabola in it, k3 with a mean and a spread of its own;
    normal, or Student's t with tail_nu degrees of freedom."""
    rng = np.random.default_rng(seed)
    slope = rng.uniform(10, 100, n)
    z = rng.standard_normal((2, n)) if tail_nu is None else rng.standard_t(tail_nu, (2, n))
    k2 = cubic_mean(slope) + CUBIC["k2_sigma"] * z[0]
    k3 = CUBIC["k3_mean"] + CUBIC["k3_sigma"] * z[1]
    r = np.linalg.qr(V[:, None] ** np.arange(4))[1]
    a2, a3 = slope * (k2 - r[2, 3] / r[2, 2] * k3), slope * k3
    return table(slope - (r[1, 2] * a2 + r[1, 3] * a3) / r[1, 1], a2, a3, seed, noise=0.02)


def cubic_mean(slope_uS):
    """Mean k2 of `cubics` [1/V]."""
    return np.polynomial.Polynomial.fit([10, 55, 100], CUBIC["k2"], 2)(np.asarray(slope_uS))


def test_intervals_cover_and_are_centred():
    covered, offset = [], []
    for seed in range(30):
        g, a2, a3, _ = parabolas(seed)
        fit = fit_iv(table(g, a2, a3, seed), model="quadratic, degree 1")
        nodes = fit.nodes_uS
        truth = [*(0.8 - 0.6 * (nodes - 10) / 90), 0.1, 0.1, 0.5, 0.05, 0.1]
        for p, true in zip(fit.parameters, truth, strict=True):
            covered.append(p.low <= true <= p.high)
            offset.append((p.value - true) / (p.high - p.low))
    share = np.mean(covered)  # 210 intervals: 0.9 +- 0.021
    assert 0.84 <= share <= 0.96
    assert np.abs(np.mean(np.reshape(offset, (30, 7)), axis=0)).max() < 0.25


def test_right_law_is_kept_and_wrong_laws_are_rejected():
    right, linear, constant = 0, 0, 0
    for seed in range(12):
        g, a2, a3, _ = parabolas(seed)
        data = table(g, a2, a3, seed)
        right += any(t.rejected for t in fit_iv(data, model="quadratic, degree 1").goodness)
        linear += any(t.rejected for t in fit_iv(data, model="linear").goodness)
        constant += any(t.rejected for t in fit_iv(data, model="quadratic, degree 0").goodness)
    assert right <= 3  # at most 10 % expected; 4 of 12 have a chance of 3 %
    assert linear >= 10
    assert constant >= 10


def test_ranking_takes_the_plainest_of_the_right_laws():
    g, a2, a3, _ = parabolas(3, n=150)
    fit = fit_iv(table(g, a2, a3, 3))
    assert fit.model == "quadratic, degree 1"
    assert next(c for c in fit.candidates if c.chosen).model == fit.model


def test_heavy_tails_are_found():
    g, a2, a3, _ = parabolas(4, n=1000, student=3)
    data = table(g, a2, a3, 4, noise=0.01)
    heavy, normal = fit_iv(data, model="quadratic, degree 1, heavy tails"), fit_iv(data, model="quadratic, degree 1")
    tail = next(p for p in heavy.parameters if p.name == "tail_nu")
    assert tail.low < 6  # k2 has 3 degrees of freedom, the cubic term is normal: one number for both lies between
    assert normal.goodness[0].rejected
    assert heavy.goodness[0].statistic < normal.goodness[0].statistic


def test_hyperbolic_sine_gives_its_voltage():
    g = np.random.default_rng(0).uniform(20, 60, 200)
    # exact: `g` is the slope of the best straight line of the curve that is drawn
    v0 = 0.25
    curve = v0 * np.sinh(V / v0)
    zero = np.zeros(len(g))
    data = table(g, zero, zero, 0, noise=0.02, odd=(g / np.polyfit(V, curve, 1)[0])[:, None] * curve)
    fit = fit_iv(data, model="sinh")
    assert fit.value("v0") == pytest.approx(v0, rel=0.002)
    assert not any(test.rejected for test in fit.goodness)  # terms of V^4 and V^5 are part of the law
    part = fit.device_parts(np.array([20.0, 60.0]))["iv"]
    assert part == SinhIV(v0_V=fit.value("v0"), source="fitted")


def test_linear_cells_make_an_ohmic_device():
    g = np.random.default_rng(0).uniform(20, 60, 100)
    fit = fit_iv(table(g, 0 * g, 0 * g, 1))
    assert fit.model == "linear"
    assert isinstance(fit.to_device().iv, LinearIV)


@pytest.mark.parametrize("tail_nu", [None, 4.0])
def test_devices_differ_as_the_cells_do(tail_nu):
    """Curvature and cubic term of devices about the best line through their currents, against the band of the fit."""
    tails = ", heavy tails" if tail_nu else ""
    fit = fit_iv(cubics(0, tail_nu), model=f"cubic, degree 2{tails}")
    iv = fit.to_device().iv
    z = np.random.default_rng(1).standard_normal((2, 20_000))
    r = fit.triangle
    for slope in (20.0, 50.0, 90.0):
        g, a2, a3 = iv.polynomial(np.full(20_000, fit.coefficients(np.array([slope]))[0]), z)
        np.testing.assert_allclose(g + (r[1, 2] * a2 + r[1, 3] * a3) / r[1, 1], slope, rtol=2e-3)
        found = np.stack([a2 + r[2, 3] / r[2, 2] * a3, a3]) / slope
        low, high = fit.nonlinearity_band(np.array([slope]))
        inside = np.mean((found > low) & (found < high), axis=1)
        assert inside == pytest.approx([0.9, 0.9], abs=0.01)  # 5 standard errors


def test_device_carries_the_mean_current():
    g, a2, a3, _ = parabolas(5)
    fit = fit_iv(table(g, a2, a3, 5), model="cubic, degree 2")
    at = np.array([15.0, 50.0, 95.0])
    g0, n2, n3 = fit.coefficients(at)
    device = fit.to_device()
    current = device.iv.current_uA(g0, 0.4)
    assert current == pytest.approx(0.4 * g0 + 0.16 * n2 + 0.064 * n3, rel=3e-3)
    assert device.iv.current_uA(g0, 0.4, np.zeros((2, 3))) == pytest.approx(current, rel=1e-12)
    true = at * (0.8 - 0.6 * (at - 10) / 90)
    assert n2 + fit.triangle[2, 3] / fit.triangle[2, 2] * n3 == pytest.approx(true, rel=0.06)
    assert len({d.iv.n2_coefficients for d in fit.sample_devices(5)}) == 5


def test_band_is_that_of_the_cells():
    g, a2, a3, slope = parabolas(6, n=2000)
    fit = fit_iv(table(g, a2, a3, 6), model="quadratic, degree 1")
    low, high = fit.nonlinearity_band(slope)
    inside = np.mean((a2 / slope >= low[0]) & (a2 / slope <= high[0]))
    assert inside == pytest.approx(0.9, abs=0.025)


def test_cells_with_other_voltages_and_gaps_take_part():
    g, a2, a3, _ = parabolas(7, n=100)
    data = table(g, a2, a3, 7)
    keep = ~((data.cell % 2 == 0) & (np.arange(len(data.cell)) % 3 == 0)) & ~((data.cell == 5) & (data.v_V > 0.06))
    thin = IVTable(cell=data.cell[keep], v_V=data.v_V[keep], i_uA=data.i_uA[keep])
    fit = fit_iv(thin, model="quadratic, degree 1")
    assert fit.provenance.n_used == 99
    assert [(item.reason, item.count) for item in fit.provenance.left_out] == [
        ("cells with fewer than 5 different voltages", 1)
    ]
    assert fit.parameters[0].value == pytest.approx(0.8 - 0.6 * (fit.nodes_uS[0] - 10) / 90, abs=0.1)


def test_yaml_gives_the_same_fit(tmp_path):
    g, a2, a3, _ = parabolas(8, n=60)
    fit = fit_iv(table(g, a2, a3, 8), model="quadratic, degree 0")
    fit.to_yaml(tmp_path / "iv.yaml")
    again = IVFit.from_yaml(tmp_path / "iv.yaml")
    assert np.array_equal(again.draws, fit.draws)
    assert again.to_device() == fit.to_device()


def test_variances_that_scatter_by_chance_only_become_one():
    rng = np.random.default_rng(0)
    chance = rng.chisquare(8, 4000) / 8
    assert np.std(shrunk_variances(chance, np.full(4000, 8.0))) < 0.15 * np.std(chance)
    true = np.where(rng.random(4000) < 0.5, 1.0, 9.0)
    shrunk = shrunk_variances(true * rng.chisquare(8, 4000) / 8, np.full(4000, 8.0))
    assert np.mean((np.log(shrunk) - np.log(true)) ** 2) < np.mean(np.log(rng.chisquare(8, 4000) / 8) ** 2)


def test_refusals():
    g, a2, a3, _ = parabolas(9, n=30)
    data = table(g, a2, a3, 9)
    with pytest.raises(UsageError, match=r'nearest: "quadratic, degree 1"'):
        fit_iv(data, model="quadratic degree 1")
    with pytest.raises(UsageError, match="no cell has 5 different voltages; most has 3"):
        fit_iv(IVTable(cell=data.cell[:3], v_V=data.v_V[:3], i_uA=data.i_uA[:3]))
    few = data.cell < 10
    with pytest.raises(UsageError, match="10 cells with enough voltages: must be at least 20"):
        fit_iv(IVTable(cell=data.cell[few], v_V=data.v_V[few], i_uA=data.i_uA[few]))
    with pytest.raises(UsageError, match="no cell has a positive conductance"):
        fit_iv(IVTable(cell=data.cell, v_V=data.v_V, i_uA=-data.i_uA))
    with pytest.raises(UsageError, match="noise of the currents cannot be told"):
        fit_iv(IVTable(cell=data.cell, v_V=data.v_V, i_uA=0 * data.i_uA))
