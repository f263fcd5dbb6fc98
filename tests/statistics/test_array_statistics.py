"""Sampled devices and reads against closed forms. All limits are four standard errors unless they say otherwise."""

import numpy as np
import pytest
import torch
from scipy.stats import norm

from crossbar_sim.array.matrix import AnalogMatrix
from crossbar_sim.array.programmed import ProgrammedMatrix
from crossbar_sim.spec import ChipSpec, FrozenReadNoise, PairEncoding, PerReadNoise, SplitReadNoise, TileSpec
from device_models.generic import GaussianError, Generic
from device_models.laws import drift_log_time, one_over_f_variance
from device_models.pcm_1m import Pcm1M

HOUR, DAY, YEAR = 3600.0, 86400.0, 31536000.0
TIMES = (0.0, 1.0, 60.0, HOUR, DAY, YEAR)
DRAWS = 200_000
G_MAX = 25.0


def _chip(device, read_noise):
    """One tile that is as large as the matrix, exact converters, no compensation; w = 1 is g_max."""
    return ChipSpec(
        device=device,
        tile=TileSpec(rows=None, cols=None),
        encoding=PairEncoding(scale="tensor"),
        dac=None,
        adc=None,
        read_noise=read_noise,
        compensation=None,
    )


def _devices_at(targets_uS, device, read_noise, name):
    """A function of time: conductances (len(targets), DRAWS) of the positive devices of a matrix of these targets."""
    weight = torch.tensor(targets_uS)[:, None].expand(-1, DRAWS) / G_MAX
    weight = torch.cat([weight, torch.full((1, DRAWS), 1.0)]).to(torch.float32)  # the last output sets the scale
    matrix = AnalogMatrix(weight, _chip(device, read_noise), 0, name)

    def at(t_s):
        matrix.age(weight, t_s)
        return matrix.conductances(weight, (0, 0))[0].T[:-1].astype(float)

    return at


def _agree(sample, mean, sd):
    """Mean and s.d. of a sample lie within four standard errors of what they should be."""
    n = len(sample)
    kurtosis = ((sample - sample.mean()) ** 4).mean() / sample.var() ** 2
    assert abs(sample.mean() - mean) < 4 * sd / n**0.5
    assert abs(sample.std() - sd) < 4 * sd * ((kurtosis - 1) / (4 * n)) ** 0.5


def _mean_factor(mu, sigma, log_time):
    """E[exp(-|nu| L)] for nu ~ N(mu, sigma): the moment generating function of a folded Gaussian."""
    if log_time == 0:
        return 1.0
    up, down = mu - sigma**2 * log_time, mu + sigma**2 * log_time
    half = 0.5 * (sigma * log_time) ** 2
    return np.exp(half - mu * log_time) * norm.cdf(up / sigma) + np.exp(half + mu * log_time) * norm.cdf(-down / sigma)


TARGETS = (2.0, 2.5, 5.0, 7.5, 10.0, 12.5, 15.0, 20.0, 25.0)
"""Conductances that lie at least 4.8 standard deviations above zero, so that the floor at zero does not show."""


@pytest.mark.parametrize("t_s", TIMES)
def test_programmed_drifted_and_noisy_conductances_have_their_closed_form_moments(all_effects, t_s):
    device, log_time = Pcm1M(), drift_log_time(t_s, 20.0)
    for g_uS, sample in zip(TARGETS, all_effects(t_s), strict=True):
        mu, sigma = float(device.nu_mean(g_uS)), float(device.nu_sigma(g_uS))
        first, second = _mean_factor(mu, sigma, log_time), _mean_factor(mu, sigma, 2 * log_time)
        noise = float(device.q_s(g_uS)) * device.bandwidth_factor(t_s)
        programmed_square = g_uS**2 + float(device.sigma_program_uS(g_uS)) ** 2
        mean = g_uS * first
        _agree(sample, mean, (programmed_square * second * (1 + noise**2) - mean**2) ** 0.5)


@pytest.fixture(scope="module")
def all_effects():
    return _devices_at(TARGETS, Pcm1M(), FrozenReadNoise(), "all effects")


def test_programming_errors_have_their_tabulated_spread():
    sigma = dict(zip(TARGETS, Pcm1M().sigma_program_uS(TARGETS), strict=True))
    assert sigma[2.5] == pytest.approx(0.448249, abs=6e-7)
    assert sigma[25.0] == pytest.approx(1.055380, abs=6e-7)
    for sample, (g_uS, sd) in zip(_devices_at(TARGETS, Pcm1M(), None, "program")(0.0), sigma.items(), strict=True):
        _agree(sample, g_uS, sd)


def test_a_reset_device_is_half_normal():
    (sample,) = _devices_at((0.0,), Pcm1M(), None, "reset")(0.0)
    _agree(sample, 0.105113, 0.153825)
    assert abs((sample == 0).mean() - 0.5) < 4 * 0.5 / DRAWS**0.5


def test_a_reset_device_has_the_capped_read_noise_of_its_target():
    (sample,) = _devices_at((0.0,), Pcm1M(), FrozenReadNoise(), "reset")(0.0)
    a = 0.2 * 4.183825  # g = max(0, g_p (1 + a z)), and g_p is half-normal
    mean = norm.cdf(1 / a) + a * norm.pdf(1 / a)
    square = (1 + a**2) * norm.cdf(1 / a) + a * norm.pdf(1 / a)
    _agree(sample, 0.105113 * mean, ((0.105113**2 + 0.153825**2) * square - (0.105113 * mean) ** 2) ** 0.5)


DRIFT_TABLE = [
    (0.1, HOUR, 0.736579, 0.086990), (0.1, DAY, 0.615375, 0.117346), (0.1, YEAR, 0.446549, 0.146631),
    (0.5, HOUR, 0.775799, 0.032278), (0.5, DAY, 0.665013, 0.044586), (0.5, YEAR, 0.500195, 0.057292),
    (1.0, HOUR, 0.775799, 0.032278), (1.0, DAY, 0.665013, 0.044586), (1.0, YEAR, 0.500195, 0.057292),
]  # fmt: skip
"""Relative target, time, mean and s.d. of the drift factor over devices."""


@pytest.mark.parametrize(("r", "t_s", "mean", "sd"), DRIFT_TABLE)
def test_drift_factors_spread_as_a_folded_gaussian_exponent_says(drift_only, r, t_s, mean, sd):
    device, log_time = Pcm1M(), drift_log_time(t_s, 20.0)
    mu, sigma = float(device.nu_mean(G_MAX * r)), float(device.nu_sigma(G_MAX * r))
    exact = _mean_factor(mu, sigma, log_time)
    assert exact == pytest.approx(mean, abs=6e-7)
    assert (_mean_factor(mu, sigma, 2 * log_time) - exact**2) ** 0.5 == pytest.approx(sd, abs=6e-7)
    _agree(drift_only(t_s)[(0.1, 0.5, 1.0).index(r)] / (G_MAX * r), mean, sd)


@pytest.fixture(scope="module")
def drift_only():
    return _devices_at(
        tuple(G_MAX * r for r in (0.1, 0.5, 1.0)), Pcm1M(program_scale=0.0, read_scale=0.0), FrozenReadNoise(), "drift"
    )


def test_a_device_keeps_its_own_exponent_through_time(drift_only):
    nu = [-np.log(drift_only(t_s)[0] / (0.1 * G_MAX)) / drift_log_time(t_s, 20.0) for t_s in (HOUR, YEAR)]
    np.testing.assert_allclose(nu[0], nu[1], atol=2e-6)


def test_programming_error_drift_and_frozen_noise_of_a_device_are_independent():
    scale = {"program_scale": 0.0, "drift_scale": 0.0, "read_scale": 0.0}
    parts = [_devices_at((10.0,), Pcm1M(**{**scale, name: 1.0}), FrozenReadNoise(), "same")(DAY)[0] for name in scale]
    rho = np.corrcoef(parts)[np.triu_indices(3, 1)]
    assert abs(rho).max() < 4 / DRAWS**0.5


def test_the_two_devices_of_a_pair_are_independent():
    weight = torch.cat([torch.zeros(1, DRAWS), torch.ones(1, DRAWS)])
    chip = _chip(Pcm1M(), FrozenReadNoise()).evolve(**{"encoding.pair": "two_sided"})
    matrix = AnalogMatrix(weight, chip, 0, "pair")
    matrix.age(weight, DAY)
    pair = [g[:, 0] for g in matrix.conductances(weight, (0, 0))]
    assert abs(np.corrcoef(pair)[0, 1]) < 4 / DRAWS**0.5


@pytest.mark.parametrize("t_obs_s", [1e-3, 1.0, 60.0])
def test_frozen_and_per_read_noise_share_the_whole_by_the_observation_window(t_obs_s):
    device = Pcm1M(program_scale=0.0, drift_scale=0.0)
    frozen, per_read = one_over_f_variance(HOUR, 20.0, 250e-9, t_obs_s)
    g_uS, q = 10.0, float(device.q_s(10.0))
    (sample,) = _devices_at((g_uS,), device, SplitReadNoise(t_obs_s=t_obs_s), "split")(HOUR)
    _agree(sample, g_uS, g_uS * q * frozen**0.5)
    weight = torch.tensor([[g_uS / G_MAX, 1.0]], dtype=torch.float64)
    matrix = AnalogMatrix(weight, _chip(device, SplitReadNoise(t_obs_s=t_obs_s)), 0, "split")
    matrix.age(weight, HOUR)
    assert matrix.variance[0][0, 0].item() ** 0.5 == pytest.approx(g_uS / G_MAX * q * per_read**0.5, rel=1e-5)


N_READS = 20_000


def _reads(weight, chip, x, t_s, n_reads, *, name="m"):
    """Outputs (n_reads, n_out) of one read of n_reads equal vectors."""
    programmed = ProgrammedMatrix(weight, chip, 0, name)
    programmed.set_time(t_s)
    return programmed.read(torch.from_numpy(x).to(programmed.matrix.dtype).expand(n_reads, -1).contiguous()).numpy()


def test_read_noise_of_a_column_has_the_summed_variance_of_its_devices():
    device = Generic(g_max_uS=1.0, program=None, read=GaussianError(law="proportional", magnitude=1.0))
    weight = torch.tensor([[0.5, 0.3, 0.2]], dtype=torch.float64)
    y = _reads(weight, _chip(device, PerReadNoise()), np.array([0.2, -0.1, 0.05]), 0.0, DRAWS)[:, 0]
    _agree(y, 0.08, 0.10488088)
    assert abs(((y - 0.08) ** 4).mean() / 0.011**2 - 3) < 4 * (96 / DRAWS) ** 0.5


@pytest.fixture(scope="module")
def column_and_device_noise():
    """Reads of 64 x 8 weights: sampled per column by the package, and per device here."""
    rng = np.random.default_rng(0)
    weight, x = torch.from_numpy(rng.uniform(-1, 1, (8, 64))), rng.uniform(-1, 1, 64)
    weight[0, 0] = 1.0
    device = Pcm1M()
    chip = _chip(device, PerReadNoise())
    fast = _reads(weight, chip, x, HOUR, N_READS)

    matrix = AnalogMatrix(weight, chip, 0, "m")
    matrix.age(weight, HOUR)
    pair = matrix.conductances(weight, (0, 0))
    targets = [G_MAX * np.maximum(sign * weight.numpy().T, 0) for sign in (1, -1)]
    slow = np.zeros((N_READS, 8))
    for sign, g, target in zip((1, -1), pair, targets, strict=True):
        sigma = g * device.q_s(target) * device.bandwidth_factor(HOUR)
        for block in np.split(np.arange(N_READS), 20):
            resampled = g + sigma * rng.standard_normal((len(block), 64, 8))
            slow[block] += sign * np.einsum("i,rij->rj", x, resampled) / G_MAX
    return fast, slow


def test_column_noise_equals_that_of_resampling_every_device(column_and_device_noise):
    fast, slow = column_and_device_noise
    error = slow.std(axis=0) / N_READS**0.5
    assert (abs(fast.mean(axis=0) - slow.mean(axis=0)) < 4 * 2**0.5 * error).all()
    ratio = fast.std(axis=0) / slow.std(axis=0)
    assert (abs(ratio - 1) < 4 * (1 / N_READS) ** 0.5).all()  # s.e. of a ratio of two s.d.: sqrt(2 / (2 n))
    kurtosis = ((fast - fast.mean(axis=0)) ** 4).mean(axis=0) / fast.var(axis=0) ** 2
    assert (abs(kurtosis - 3) < 4 * (24 / N_READS) ** 0.5).all()


def test_column_noise_is_independent_over_columns_vectors_and_reads(column_and_device_noise):
    fast, _ = column_and_device_noise
    rho = np.corrcoef(fast.T)[np.triu_indices(8, 1)]
    assert abs(rho).max() < 4 / N_READS**0.5
    z = (fast - fast.mean(axis=0)) / fast.std(axis=0)
    for lag in (1, 2):
        assert abs((z[lag:] * z[:-lag]).mean()) < 4 / (8 * N_READS) ** 0.5


@pytest.mark.parametrize("backend", ["numba", "torch"])
def test_two_reads_differ_by_independent_noise_of_the_right_size(backend):
    rng = np.random.default_rng(0)
    weight, x = torch.from_numpy(rng.uniform(-1, 1, (400, 32))), torch.from_numpy(rng.uniform(-1, 1, (200, 32)))
    programmed = ProgrammedMatrix(weight, _chip(Pcm1M(), PerReadNoise()), 0, "m")
    matrix = programmed.matrix
    exact = x @ matrix.effective[0].t() * matrix.gain[0]
    sd = (x.square() @ matrix.variance[0].t()).sqrt() * matrix.gain[0]
    first, second = (((programmed.read(x, backend=backend) - exact) / sd).numpy() for _ in range(2))
    n = first.size
    for z in (first, second):
        assert abs(z.mean()) < 4 / n**0.5
        assert abs(z.std() - 1) < 4 / (2 * n) ** 0.5
    assert abs((first * second).mean()) < 4 / n**0.5


def test_row_tiles_read_with_noise_of_their_own():
    weight = torch.ones((300, 64), dtype=torch.float64)
    device = Generic(g_max_uS=1.0, program=None, read=GaussianError(law="independent", magnitude=0.1))
    chip = _chip(device, PerReadNoise()).evolve(**{"tile.rows": 32})
    x = torch.ones((200, 64), dtype=torch.float64)
    noise = ProgrammedMatrix(weight, chip, 0, "m").read(x).numpy() - 64
    assert abs(noise.std() / (0.1 * 128**0.5) - 1) < 4 / (2 * noise.size) ** 0.5  # two devices for each of 64 weights


@pytest.mark.parametrize(("rows", "n_tiles"), [(64, 1), (32, 2)])
def test_output_noise_is_in_units_of_the_bound_and_comes_once_per_tile(rows, n_tiles):
    adc = {"bits": 16, "bound": 100.0, "output_noise": 0.04}  # a step of 0.003 hides below the noise
    chip = _chip("ideal", None).evolve(dac={"bits": None}, adc=adc, tile={"rows": rows})
    weight, x = torch.full((300, 64), 3.0, dtype=torch.float64), torch.full((200, 64), 0.5, dtype=torch.float64)
    noise = ProgrammedMatrix(weight, chip, 0, "m").read(x).numpy() - 64 * 3 * 0.5
    expected = 0.04 * 0.5 * 3 * n_tiles**0.5
    assert abs(noise.std() / expected - 1) < 4 / (2 * noise.size) ** 0.5
    assert abs(noise.mean()) < 4 * expected / noise.size**0.5
