"""Gradient-descent programming: what it reaches, what its pulses are, and what is refused."""

import numpy as np
import pytest

from crossbar_sim.devices.gradient_descent import gradient_descent_program
from crossbar_sim.kernels.random import random_key
from crossbar_sim.spec.programming import GradientDescentProgramming
from device_models.errors import UsageError

GD = GradientDescentProgramming(eta=0.5, batch=64, steps=20)
WINDOW = (1.0, 21.0)


def _exact_read(g_plus, g_minus, x, step):
    return x @ ((g_plus - g_minus) / (WINDOW[1] - WINDOW[0])).T


def _weights():
    return np.random.default_rng(1).uniform(-0.8, 0.8, (6, 24))


def _descend(spec=GD, read=_exact_read, weights=None, start=None, **other):
    weights = _weights() if weights is None else weights
    start = (np.full(weights.shape, WINDOW[0]),) * 2 if start is None else start
    arguments = {"window_uS": WINDOW, "key": random_key(0, "descent"), **other}
    return gradient_descent_program(weights, read, spec, start, **arguments)


def test_gradient_descent_reaches_the_weights_through_a_read_without_errors():
    result = _descend()
    np.testing.assert_allclose((result.g_plus_uS - result.g_minus_uS) / 20.0, _weights(), atol=1e-3)
    assert result.error_rms.shape == (21,)
    assert result.error_rms[-1] < 1e-3 * result.error_rms[0]
    assert result.limited == 0
    assert (result.pulses == 20).all()
    for g in (result.g_plus_uS, result.g_minus_uS):
        assert g.min() >= WINDOW[0]
        assert g.max() <= WINDOW[1]


def test_the_order_in_memory_of_where_devices_start_changes_nothing():
    start = tuple(np.full((24, 6), WINDOW[0]).T for _ in range(2))
    assert start[0].shape == _weights().shape
    np.testing.assert_array_equal(_descend(start=start).g_plus_uS, _descend().g_plus_uS)


def test_gradient_descent_absorbs_the_gain_of_each_column():
    gain = np.random.default_rng(2).uniform(0.85, 1.15, 6)
    result = _descend(read=lambda *read: _exact_read(*read) * gain)
    np.testing.assert_allclose((result.g_plus_uS - result.g_minus_uS) / 20.0, _weights() / gain[:, None], atol=2e-3)


def test_gradient_descent_does_not_depend_on_the_scale_of_its_inputs():
    small = _descend(input_sigma=0.01)
    np.testing.assert_allclose(small.g_plus_uS, _descend().g_plus_uS, rtol=1e-9)


def test_gradient_descent_is_the_same_for_the_same_key_and_leaves_the_start_alone():
    noisy = GD.evolve(sigma_write_uS=0.1, sigma_write_relative=0.2)
    start = (np.full((6, 24), 2.0), np.full((6, 24), 3.0))
    first, again, other = (_descend(noisy, start=start, key=random_key(seed, "descent")) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.g_plus_uS, again.g_plus_uS)
    np.testing.assert_array_equal(first.error_rms, again.error_rms)
    assert (first.g_plus_uS != other.g_plus_uS).any()
    assert (start[0] == 2.0).all()
    assert (start[1] == 3.0).all()


def test_a_weight_below_the_threshold_gets_no_pulse():
    result = _descend(GD.evolve(threshold=10.0, sigma_write_uS=1.0))
    assert result.pulses.sum() == 0
    assert (result.g_plus_uS == WINDOW[0]).all()


def test_pulses_come_in_units():
    result = _descend(GD.evolve(pulse_uS=0.25))
    for g in (result.g_plus_uS, result.g_minus_uS):
        np.testing.assert_allclose((g - WINDOW[0]) / 0.25, np.rint((g - WINDOW[0]) / 0.25), atol=1e-9)


def test_the_partner_takes_what_the_window_does_not_hold_and_what_neither_holds_is_counted():
    weights = np.array([[1.0, -1.0]])
    start = (np.array([[21.0, 21.0]]), np.array([[2.0, 1.0]]))
    result = _descend(GD.evolve(steps=40), weights=weights, start=start)
    np.testing.assert_allclose(result.g_plus_uS, [[21.0, 1.0]], atol=1e-3)
    np.testing.assert_allclose(result.g_minus_uS, [[1.0, 21.0]], atol=1e-3)
    beyond = _descend(weights=weights, start=start, read=lambda *read: 0.5 * _exact_read(*read))
    assert beyond.limited > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weights": np.zeros(3)}, "weights have shape (3,): must be (n_out, n_in)"),
        ({"weights": np.full((6, 24), 1.5)}, "weights: must be finite and within -1 to 1"),
        ({"weights": np.full((6, 24), np.nan)}, "weights: must be finite"),
        ({"window_uS": (3.0, 2.0)}, "window_uS = (3, 2): must be 0 <= g_min < g_max"),
        ({"start": (np.zeros((6, 24)), np.ones((6, 24)))}, "start_uS[0]: must be finite and within the window, 1 to"),
        ({"start": (np.ones((6, 24)), np.ones((6, 23)))}, "start_uS[1] has shape (6, 23): must be that of weights"),
        ({"input_sigma": 0.0}, "input_sigma = 0: must be above 0"),
        ({"spec": GD.evolve(eta=1.5)}, "eta = 1.5: must be below 1.438 with 24 inputs and a batch of 64"),
        ({"read": lambda *read: np.zeros((64, 5))}, "read gave (64, 5) values: must be finite, of shape (64, 6)"),
        ({"read": lambda *read: np.full((64, 6), np.nan)}, "read gave (64, 6) values: must be finite"),
    ],
)
def test_gradient_descent_refuses_what_cannot_work(arguments, message):
    with pytest.raises(UsageError) as caught:
        _descend(**arguments)
    assert message in str(caught.value)
