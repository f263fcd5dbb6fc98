"""Errors of whole matrix-vector products against numbers from independent simulations of the same published laws.

Set-up: weights 256 x 256 uniform in (-1, 1) with 30 % exact zeros, largest weight of the matrix at g_max, single pair,
200 vectors uniform in (-1, 1) with 50 % zeros, exact converters, the whole read noise frozen. The error is the mean
over vectors of ||y - y*|| / ||y*||. Each number is a mean over eight chips; its limit is the uncertainty that is quoted
with the reference, and the spread over chips (0.0002 to 0.0006) gives it a standard error of 0.0001 to 0.0002.
"""

import functools

import numpy as np
import pytest
import torch

from crossbar_sim.array.matrix import AnalogMatrix
from crossbar_sim.spec import ChipSpec, FrozenReadNoise, PairEncoding, TileSpec
from device_models import AbstractDevice
from device_models.pcm_1m import Pcm1M
from device_models.pcm_afm import PcmAfm
from device_models.pcm_hermes import PcmHermes

HOUR, DAY, YEAR = 3600.0, 86400.0, 31536000.0
CHIPS = range(8)


def _error(effective, weights, x):
    exact = x @ weights.T
    return (np.linalg.norm(x @ effective.T - exact, axis=1) / np.linalg.norm(exact, axis=1)).mean()


def _uniform(seed):
    rng = np.random.default_rng(seed)
    weights, x = rng.uniform(-1, 1, (256, 256)), rng.uniform(-1, 1, (200, 256))
    weights[rng.random(weights.shape) < 0.3] = 0
    x[rng.random(x.shape) < 0.5] = 0
    return weights, x


def _effective(device, weights, t_s, seed, *, scale="tensor", noisy=True):
    """Effective weights of a matrix that lies on one tile."""
    spec = ChipSpec(
        device=device,
        tile=TileSpec(rows=None, cols=None),
        encoding=PairEncoding(scale=scale),
        dac=None,
        adc=None,
        read_noise=FrozenReadNoise() if noisy else None,
        compensation=None,
    )
    target = torch.from_numpy(weights)
    matrix = AnalogMatrix(target, spec, seed, "m")
    matrix.age(target, t_s)
    return (matrix.effective[0] * matrix.w_max[0][:, None]).numpy()


@functools.cache
def _mean_errors(device: AbstractDevice, t_s: float, noisy: bool = True) -> tuple[float, float]:
    """Mean error over chips, as it is and after one factor mean |W*| / mean |W| for the whole matrix."""
    errors = []
    for seed in CHIPS:
        weights, x = _uniform(seed)
        effective = _effective(device, weights, t_s, seed, noisy=noisy)
        rescaled = effective * abs(weights).mean() / abs(effective).mean()
        errors.append((_error(effective, weights, x), _error(rescaled, weights, x)))
    as_is, with_factor = np.mean(errors, axis=0)
    return as_is, with_factor


def test_programming_noise_alone():
    assert _mean_errors(Pcm1M(), 0.0, noisy=False)[0] == pytest.approx(0.0637, abs=3e-4)
    weights, _ = _uniform(0)
    reset = 0.153825**2  # a RESET device after the floor at zero, whose bias this closed form leaves out
    variances = np.where(weights == 0, reset, Pcm1M().sigma_program_uS(25 * abs(weights)) ** 2) + reset
    assert (variances.mean() / (25 * weights).var()) ** 0.5 == pytest.approx(0.0633, abs=3e-4)


REFERENCE = Pcm1M(noise_at="programmed")
"""The reference numbers take read noise at the programmed conductance; at the target it is larger for RESET devices."""


@pytest.mark.parametrize(
    ("t_s", "as_is", "with_factor", "limit"),
    [
        (0.0, 0.0811, 0.0811, 5e-4),
        (HOUR, 0.2394, 0.0950, 6e-4),
        (DAY, 0.3458, 0.1113, 6e-4),
        (YEAR, 0.5072, 0.1499, 6e-4),
    ],
)
def test_pcm_1m_over_time_with_and_without_a_global_factor(t_s, as_is, with_factor, limit):
    found = _mean_errors(REFERENCE, t_s)
    assert found[0] == pytest.approx(as_is, abs=limit)
    assert found[1] == pytest.approx(with_factor, abs=limit)


@pytest.mark.parametrize(("t_s", "more"), [(0.0, 0.0007), (DAY, 0.0004)])
def test_read_noise_at_the_target_adds_a_known_difference_to_the_reference(t_s, more):
    # the same chips in both cases, so that the difference is known to 0.0001
    difference = _mean_errors(Pcm1M(), t_s)[1] - _mean_errors(REFERENCE, t_s)[1]
    assert difference == pytest.approx(more, abs=2e-4)


@pytest.mark.parametrize(
    ("n_devices", "t_s", "error"),
    [(1, 0.0, 0.1613), (1, DAY, 0.1997), (1, YEAR, 0.2765), (2, 0.0, 0.1009), (2, DAY, 0.1429), (2, YEAR, 0.2258)],
)
def test_hermes_over_time_with_a_global_factor(n_devices, t_s, error):
    assert _mean_errors(PcmHermes(n_devices=n_devices), t_s)[1] == pytest.approx(error, abs=1e-3)


@pytest.mark.parametrize(("draw", "error", "limit"), [("uniform", 0.09336, 2e-4), ("normal", 0.12975, 3e-4)])
def test_weight_noise_of_analog_foundation_models(draw, error, limit):
    # 512 x 512, scaled per output, vectors ~ N(0, 1); the spread over chips of 0.0003 adds 0.0001 of standard error
    found = []
    for seed in CHIPS:
        rng = np.random.default_rng(seed)
        weights = rng.uniform(-1, 1, (512, 512)) if draw == "uniform" else rng.normal(size=(512, 512))
        found.append(
            _error(_effective(PcmAfm(), weights, 0.0, seed, scale="column"), weights, rng.normal(size=(200, 512)))
        )
    assert np.mean(found) == pytest.approx(error, abs=limit)
