"""Programming against the closed forms of its linear theory."""

import numpy as np
import pytest

from crossbar_sim.devices.gradient_descent import gradient_descent_program
from crossbar_sim.kernels.programming import VerifyTable, program_verify_matrix, write_keys
from crossbar_sim.kernels.random import random_key
from crossbar_sim.spec.programming import GradientDescentProgramming

N = 500


def _errors(alpha, max_pulses, start_uS=40.0, sigma_write_uS=0.2, sigma_read_uS=0.3):
    """Errors of devices that never stop: no measured error is below zero."""
    target = np.full((N, N), 50.0)
    g, pulses = np.empty_like(target), np.empty(target.shape, np.uint16)
    converged = np.empty(target.shape, np.bool_)
    table = VerifyTable(start_uS, alpha, -1.0, max_pulses, sigma_write_uS, 0.0, sigma_read_uS)
    program_verify_matrix(0, 0, N, target, write_keys(0, "layer")[0], 0, 0, table, g, pulses, converged)
    assert (pulses == max_pulses).all()
    assert not converged.any()
    return g - target


@pytest.mark.parametrize(("alpha", "sigma"), [(1.0, 0.3605551), (0.5, 0.2886751), (0.25, 0.3229330)])
def test_floor_of_programming_with_verification(alpha, sigma):
    assert np.sqrt((alpha**2 * 0.09 + 0.04) / (1 - (1 - alpha) ** 2)) == pytest.approx(sigma, abs=6e-8)
    error = _errors(alpha, 60)
    assert abs(error.std() - sigma) < 4 * sigma / (2 * error.size) ** 0.5
    assert abs(error.mean()) < 4 * sigma / N


@pytest.mark.parametrize("pulses", [1, 2, 5])
def test_mean_error_contracts_with_every_pulse(pulses):
    error = _errors(0.25, pulses)
    assert abs(error.mean() + 10 * 0.75**pulses) < 4 * error.std() / N


def test_averaged_reads_lower_the_floor_as_single_reads_of_less_noise():
    error = _errors(0.5, 60, sigma_read_uS=0.3 / 9**0.5)
    sigma = np.sqrt((0.25 * 0.01 + 0.04) / 0.75)
    assert abs(error.std() - sigma) < 4 * sigma / (2 * error.size) ** 0.5


DESCENT_INPUTS, DESCENT_BATCH, DESCENT_STEPS = 64, 256, 40


def _descend(eta, seed):
    """Variances of weight and of product errors before each step; errors start at 1 and reads have one of 0.5."""
    n, unit = DESCENT_INPUTS, 0.02  # the theory is linear, and errors of 1 would leave the window
    rng = np.random.default_rng(seed)
    weights = unit * rng.normal(size=(n, n))
    variances = []

    def read(g_plus, g_minus, x, step):
        difference = (g_plus - g_minus) / 100.0
        variances.append(((difference - weights) ** 2).mean() / unit**2)
        return x @ difference.T + 0.5 * unit * rng.normal(size=(DESCENT_BATCH, n))

    spec = GradientDescentProgramming(eta=eta, batch=DESCENT_BATCH, steps=DESCENT_STEPS)
    start = (np.full((n, n), 50.0), np.full((n, n), 50.0) - 100 * (weights + unit * rng.normal(size=(n, n))))
    result = gradient_descent_program(weights, read, spec, start, (0.0, 100.0), random_key(seed, "layer", "descent"))
    assert result.limited == 0
    return variances, (result.error_rms / unit) ** 2


@pytest.mark.parametrize(
    ("eta", "rms", "floor"),
    [(0.8, {1: 0.450, 2: 0.2025, 6: 0.029}, 0.02800), (0.4, {1: 0.633, 2: 0.401, 6: 0.066}, 0.01615)],
)
def test_gradient_descent_follows_the_linear_theory(eta, rms, floor):
    rho = 1 - 2 * eta + eta**2 * (1 + (DESCENT_INPUTS + 1) / DESCENT_BATCH)
    theory = np.empty(DESCENT_STEPS + 1)
    theory[0] = 1.0
    for step in range(DESCENT_STEPS):
        theory[step + 1] = rho * theory[step] + eta**2 * 0.25 / DESCENT_BATCH
    assert np.sqrt(theory[-1]) == pytest.approx(floor, abs=6e-6)
    for step, value in rms.items():  # the tabulated values leave the noise of the reads out of the first steps
        assert np.sqrt(theory[step]) == pytest.approx(value, rel=0.01)
    weight, product = np.mean([_descend(eta, seed) for seed in range(8)], axis=0)
    np.testing.assert_allclose(np.sqrt(weight), np.sqrt(theory), rtol=0.03)
    np.testing.assert_allclose(np.sqrt(product), np.sqrt(DESCENT_INPUTS * theory + 0.25), rtol=0.03)
