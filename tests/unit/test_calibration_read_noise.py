"""Read-noise fits: spectra with known parameters come back, intervals cover them, wrong laws are rejected."""

import numpy as np
import pytest

from calibration.allan import allan_deviation, allan_from_density
from calibration.circuit_tables import ReadTrace
from calibration.read_noise import ReadNoiseFit, fit_read_noise
from calibration.spectrum import quantisation_step, settled_from
from device_models.errors import UsageError

FS_HZ = 400.0


def synthetic(density, cells, samples, seed, g_uS=50.0):
    """Gaussian traces with a one-sided relative density [1/Hz], cut from series four times as long."""
    rng = np.random.default_rng(seed)
    f = np.fft.rfftfreq(4 * samples, 1 / FS_HZ)
    power = np.concatenate([[0.0], density(f[1:])])
    normal = rng.standard_normal((2, cells, len(f)))
    series = np.fft.irfft(np.sqrt(power * FS_HZ * samples) * (normal[0] + 1j * normal[1]), 4 * samples)
    return g_uS * (1 + series[:, :samples])


def trace(g, level=None):
    return ReadTrace(g_uS=g, fs_Hz=FS_HZ, level=np.zeros(len(g), int) if level is None else level)


def flicker(f):
    return 1e-5 / f + 2e-7


def test_intervals_cover_and_the_true_law_is_not_rejected():
    """200 repeats of 8 cells: coverage 0.85 to 0.95 (s.e. 0.021), small bias, rejection below 0.1."""
    fits = [
        fit_read_noise(trace(synthetic(flicker, 8, 4096, seed)), model="1/f^a + white", seed=seed)
        for seed in range(200)
    ]
    for i, true in enumerate((1e-5, 1.0, 2e-7)):
        low, high = np.array([(fit.parameters[i].low, fit.parameters[i].high) for fit in fits]).T
        assert 0.85 <= np.mean((low <= true) & (true <= high)) <= 0.95, fits[0].parameters[i].name
        bias = np.mean([fit.parameters[i].value for fit in fits]) - true
        assert abs(bias) < 0.25 * np.mean(high - low), fits[0].parameters[i].name
    assert np.mean([any(test.rejected for test in fit.goodness) for fit in fits]) <= 0.1


def test_robust_intervals_where_cells_differ():
    """A hundred cells with amplitudes that scatter by half: the interval of the mean density covers as it should."""
    covered = []
    for seed in range(40):
        amplitude = np.exp(np.random.default_rng(seed).normal(-0.125, 0.5, 100))  # mean 1 of its square root's square
        g = synthetic(lambda f: 1e-5 / f, 100, 1024, seed)
        g = 50.0 + (g - 50.0) * np.sqrt(amplitude)[:, None]
        fit = fit_read_noise(trace(g), model="1/f")
        covered.append(fit.parameters[0].low <= 1e-5 <= fit.parameters[0].high)
    assert 0.8 <= np.mean(covered) <= 0.98  # 0.9 with s.e. 0.047


def test_ranking_finds_the_law():
    g = np.concatenate([synthetic(flicker, 2, 8192, 1, g_uS=20.0), synthetic(flicker, 2, 8192, 2, g_uS=80.0)])
    fit = fit_read_noise(trace(g, np.array([0, 0, 1, 1])))
    assert fit.model == "1/f + white"
    assert fit.levels_uS == pytest.approx((20.0, 80.0), rel=0.05)
    white = fit_read_noise(trace(synthetic(lambda f: 0 * f + 1e-6, 2, 8192, 3)))
    assert white.model == "white"


def test_a_wrong_law_is_rejected():
    rejected = [
        any(t.rejected for t in fit_read_noise(trace(synthetic(flicker, 8, 4096, seed)), model="white").goodness)
        for seed in range(10)
    ]
    assert all(rejected)


def test_white_noise_gives_its_standard_deviation_and_the_floor_is_taken_off():
    """Relative s.d. 0.01 at 50 uS, read in steps of 1 uS, whose variance 1/12 uS^2 belongs to the reader."""
    g = 50 * (1 + 0.01 * np.random.default_rng(0).standard_normal((4, 16384)))
    fit = fit_read_noise(trace(np.round(g)), model="white")
    assert any("steps of the reader of 1 uS" in text for text in fit.warnings)
    assert fit.floor_uS2_per_Hz == pytest.approx(1 / (6 * FS_HZ))
    assert fit.variance(1e-3, FS_HZ / 2) == pytest.approx(0.25, rel=0.04)  # s.e. sqrt(2 / 65536), 0.0073 with the floor
    part = fit.device_parts(np.array([10.0, 50.0]))["read"]
    assert part["kind"] == "white"
    np.testing.assert_allclose(part["relative"], 0.01, rtol=0.02)


def test_device_has_the_variance_of_the_measured_band(tmp_path):
    g = np.concatenate([synthetic(flicker, 2, 4096, 1, g_uS=20.0), synthetic(flicker, 2, 4096, 2, g_uS=80.0)])
    fit = fit_read_noise(trace(g, np.array([0, 0, 1, 1])), model="1/f + white")
    device = fit.to_device()
    band = np.sqrt(fit.variance(1 / fit.duration_s, FS_HZ / 2, 1))
    read = device.read
    q_s, white = read.q_s[-1] * device.g_uS[-1], read.white[-1] * device.g_uS[-1]
    low, high = 1 / fit.duration_s, FS_HZ / 2
    assert np.hypot(q_s * np.sqrt(np.log(high / low)), white) == pytest.approx(band, rel=1e-6)
    assert device.sigma_read_uS(device.g_uS[-1], 0.0) == pytest.approx(band, rel=0.02)
    # 1e-5 / f and 2e-7 up to 200 Hz, relative to the conductance
    assert read.q_s == pytest.approx(np.full(len(read.q_s), np.sqrt(1e-5)), rel=0.15)
    assert read.white == pytest.approx(np.full(len(read.white), np.sqrt(4e-5)), rel=0.15)
    at_top = [device.curves(0.0, t_obs_s).read_rel[-1] for t_obs_s in (2 / FS_HZ, 1e9)]
    assert at_top == pytest.approx([white / 80, band / 80], rel=0.05)  # one read sees the white noise only
    fit.to_yaml(tmp_path / "read.yaml")
    again = ReadNoiseFit.from_yaml(tmp_path / "read.yaml")
    assert again.to_device() == device
    np.testing.assert_array_equal(again.density([1.0, 10.0]), fit.density([1.0, 10.0]))


def test_allan_deviation_of_known_noise():
    n = np.array([1, 4, 32])
    white = allan_from_density(lambda f: 0 * f + 2 / FS_HZ, n, FS_HZ, 1e-3)  # variance 1
    np.testing.assert_allclose(white, n**-0.5, rtol=0.02)
    pink = allan_from_density(lambda f: 1e-2 / f, np.array([64]), FS_HZ, 1e-5)
    np.testing.assert_allclose(pink, np.sqrt(2 * np.log(2) * 1e-2), rtol=0.01)
    samples = np.random.default_rng(0).standard_normal(200_000)
    np.testing.assert_allclose(allan_deviation(samples, n), n**-0.5, rtol=0.03)
    with pytest.raises(UsageError, match="half the samples"):
        allan_deviation(samples[:10], 6)


def test_steps_and_settling_are_found():
    g = np.random.default_rng(0).normal(100, 0.3, 5000)
    assert quantisation_step(np.round(g / 0.0177) * 0.0177) == pytest.approx(0.0177, rel=1e-6)
    assert quantisation_step((np.round(g / 0.0177) * 0.0177).astype(np.float32)) == pytest.approx(0.0177, rel=1e-4)
    assert quantisation_step(g) is None
    g[:100] -= np.linspace(10, 1.5, 100)
    assert 90 <= settled_from(g) <= 110


def test_what_cannot_be_fitted_is_refused():
    good = synthetic(flicker, 1, 1024, 0)
    with pytest.raises(UsageError, match='nearest: "white"'):
        fit_read_noise(trace(good), model="whit")
    with pytest.raises(UsageError, match="must be at least 256"):
        fit_read_noise(trace(good[:, :100]))
    with pytest.raises(UsageError, match="never changes"):
        fit_read_noise(trace(np.full((1, 1024), 5.0)))
    with pytest.raises(UsageError, match="t_read_s = 0"):
        fit_read_noise(trace(good), t_read_s=0.0)
