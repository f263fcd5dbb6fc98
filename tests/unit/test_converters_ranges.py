"""Full scales from samples."""

import numpy as np
import pytest
from scipy import integrate, optimize, stats

from crossbar_sim.converters import laws
from crossbar_sim.converters.ranges import (
    largest_range,
    minimum_error_range,
    quantile_range,
    saturation_bound,
    sigma_range,
)
from device_models.errors import UsageError

X = np.array([[3.0, -1.0], [0.0, 0.0], [0.5, -4.0]])


def test_small_samples_by_hand():
    assert largest_range(X) == 4
    assert quantile_range(X, 1.0) == 4
    assert quantile_range(X, 0.5) == 2  # between 1 and 3: the vector of zeros is not there, and signs do not count
    assert sigma_range(X, 2.0) == pytest.approx(2 * np.std([3, -1, 0.5, -4]))
    assert saturation_bound(X, 0.0) == 4
    assert saturation_bound(X, 0.25) == 3


def test_negative_tails_count_as_positive_ones_do():
    x = np.random.default_rng(0).exponential(size=(100, 50))
    for law in (largest_range, lambda s: quantile_range(s, 0.999), lambda s: minimum_error_range(s, 6)):
        assert law(x) == pytest.approx(law(-x), rel=1e-12)


@pytest.mark.parametrize("budget", [0.0, 1e-4, 0.01, 0.5])
def test_the_bound_keeps_the_saturation_budget_and_is_the_smallest_that_does(budget):
    y = np.random.default_rng(0).normal(size=(200, 100))
    bound = saturation_bound(y, budget)
    assert (abs(y) > bound).mean() <= budget
    assert (abs(y) > np.nextafter(bound, 0)).mean() > budget


def _expected_error(full_scale, bits):
    """Mean squared error of the quantiser for a standard normal: rounding inside, clipping outside."""
    levels = 2 ** (bits - 1) - 1
    step = full_scale / levels
    cells = [(k * step, (k + 0.5) * step if k < levels else 12.0, max(k - 0.5, 0) * step) for k in range(levels + 1)]
    return 2 * sum(
        integrate.quad(lambda x, at=at: (x - at) ** 2 * stats.norm.pdf(x), low, high)[0] for at, high, low in cells
    )


@pytest.mark.parametrize("bits", [3, 4, 6])
def test_smallest_error_of_a_normal_is_where_the_integral_says(bits):
    best = optimize.minimize_scalar(lambda r: _expected_error(r, bits), bounds=(0.5, 6), method="bounded")
    x = stats.norm.ppf((np.arange(200_000) + 0.5) / 200_000).reshape(400, 500)
    found = minimum_error_range(x, bits)
    assert _expected_error(found, bits) == pytest.approx(best.fun, rel=1e-3)
    error = laws.quantise_symmetric(x, found, bits) - x
    assert (error**2).mean() == pytest.approx(best.fun, rel=5e-3)  # the samples end at 4.6 s.d.


def test_no_other_range_has_a_smaller_error():
    x = np.random.default_rng(1).standard_t(3, size=(50, 40)) ** 3
    found = minimum_error_range(x, 5)

    def error(full_scale):
        return ((laws.quantise_symmetric(x, full_scale, 5) - x) ** 2).mean()

    others = abs(x).max() * np.arange(1, 65) / 64
    assert error(found) <= min(error(full_scale) for full_scale in others)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: largest_range(np.zeros((3, 2))), "samples: none of the 3 vectors has anything but zeros"),
        (lambda: largest_range(np.zeros((0, 2))), "samples: none of the 0 vectors has anything but zeros"),
        (lambda: largest_range(np.array([[np.nan, np.inf]])), "samples: 2 of 2 values are not finite"),
        (lambda: largest_range(np.zeros(3)), "samples: are float64 of shape (3,); must be floats, vectors x values"),
        (lambda: largest_range(np.ones((1, 2), int)), "must be floats, vectors x values"),
        (lambda: quantile_range(X, 0.0), "quantile = 0.0: must be above 0 and at most 1"),
        (lambda: quantile_range(X, np.nan), "quantile = nan: must be above 0 and at most 1"),
        (lambda: quantile_range(np.eye(4), 0.5), "quantile = 0.5: gives a full scale of 0 on these samples"),
        (lambda: sigma_range(X, -1.0), "n_sigma = -1.0: must be a finite number above 0"),
        (lambda: sigma_range(np.ones((2, 2)), 3.0), "n_sigma = 3.0: gives a full scale of 0 on these samples"),
        (lambda: saturation_bound(X, 1.0), "budget = 1.0: must be at least 0 and below 1"),
        (lambda: minimum_error_range(X, 17), "bits = 17: must be 2 to 16"),
    ],
)
def test_what_gives_no_range_is_refused(call, message):
    with pytest.raises(UsageError) as caught:
        call()
    assert message in str(caught.value)
