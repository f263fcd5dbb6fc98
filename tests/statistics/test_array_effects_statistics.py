"""Moments of effects and of programming through a matrix on tiles. Limits are four standard errors."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import norm

from crossbar_sim.array.matrix import AnalogMatrix
from crossbar_sim.array.programmed import ProgrammedMatrix
from crossbar_sim.spec import ChipSpec, TileSpec
from device_models.effects import TelegraphNoise, Temperature

DAY = 86400.0
N_OUT, N_IN, G_MAX = 300, 700, 25.0
N = N_OUT * N_IN - 1
TARGETS = np.array([[20.0], [5.0]])
"""Of the positive and of the negative device."""


def _chip(**changes):
    """Ideal devices behind exact converters; w = 1 is g_max."""
    spec = ChipSpec.preset("ideal").evolve(tile=TileSpec(rows=256, cols=128), read_noise="frozen")
    return spec.evolve(**{"encoding.scale": "tensor", "encoding.pair": "two_sided", **changes})


def _devices(t_s=0.0, **changes):
    """(2, N) conductances of pairs that all have the same targets."""
    weight = torch.full((N_OUT, N_IN), 0.6, dtype=torch.float64)
    weight[-1, -1] = 1.0  # sets the scale
    matrix = AnalogMatrix(weight, _chip(**changes), 5, "m")
    matrix.age(weight, t_s)
    whole = np.empty((2, N_IN, N_OUT))
    for r, rows in enumerate(matrix.plan.rows):
        for c, cols in enumerate(matrix.plan.cols):
            whole[:, slice(*rows), slice(*cols)] = matrix.conductances(weight, (r, c))
    return whole.reshape(2, -1)[:, :-1]


def _assert_rate(events, p):
    assert abs(events.mean() - p) < 4 * (p * (1 - p) / events.size) ** 0.5


def _assert_moments(values, mean, sd):
    kurtosis = ((values - values.mean()) ** 4).mean() / values.var() ** 2
    assert abs(values.mean() - mean) < 4 * sd / values.size**0.5
    assert abs(values.std() - sd) < 4 * sd * ((kurtosis - 1) / (4 * values.size)) ** 0.5


def _traps(**changes):
    noise = {"amplitude": {"kind": "absolute", "amplitude_uS": 0.5}, "tau_min_s": 1e-3, "tau_max_s": 1e5, **changes}
    return {"device.telegraph": noise}


@pytest.mark.parametrize("p", [1e-3, 0.05, 0.2])
def test_devices_are_stuck_at_the_asked_rates(p):
    faults = {"p_reset": p, "p_set": p / 2, "p_random": 2 * p}
    for side, g in enumerate(_devices(**{"device.faults": faults})):
        low, high, healthy = g == 0, g == G_MAX, abs(g - TARGETS[side]) < 1e-9
        anywhere = g[~(low | high | healthy)]
        _assert_rate(low, p)
        _assert_rate(high, p / 2)
        _assert_rate(~healthy, 3.5 * p)
        _assert_moments(anywhere, G_MAX / 2, G_MAX / 12**0.5)


def test_the_two_devices_of_a_pair_are_stuck_independently():
    g_plus, g_minus = _devices(**{"device.faults": {"p_set": 0.05}})
    _assert_rate((g_plus == G_MAX) & (g_minus == G_MAX), 0.05**2)


@pytest.mark.parametrize("t_read_K", [270.0, 330.0])
def test_spread_of_the_activation_energy_makes_conductances_log_normal(t_read_K):
    heat = Temperature(t_read_K=t_read_K, activation_sigma_eV=0.05)
    mean = TARGETS * heat.factor(TARGETS / G_MAX)
    sd = 0.05 / 8.617333262e-5 * abs(1 / t_read_K - 1 / 300)
    for ratio in _devices(**{"device.temperature": heat}) / mean:
        _assert_moments(np.log(ratio), 0.0, sd)
        _assert_moments(ratio, math.exp(sd**2 / 2), math.exp(sd**2 / 2) * math.expm1(sd**2) ** 0.5)


@pytest.mark.parametrize("sigma_write", [0.02, 0.2, 1.0])
def test_one_pulse_has_the_asked_relative_spread(sigma_write):
    a = sigma_write  # max(0, 1 + a z)
    mean = norm.cdf(1 / a) + a * norm.pdf(1 / a)
    square = (1 + a**2) * norm.cdf(1 / a) + a * norm.pdf(1 / a)
    for ratio in _devices(programming={"kind": "single_shot", "sigma_write": sigma_write}) / TARGETS:
        _assert_moments(ratio, mean, (square - mean**2) ** 0.5)


def test_a_single_averaged_verification_leaves_the_spread_of_pulse_and_read():
    """From a RESET, one pulse of the whole measured step: g - t = write noise - error of the averaged read."""
    pulses = {
        "kind": "program_verify", "alpha": 1.0, "tolerance_uS": 1e-6, "max_pulses": 1,
        "sigma_write_uS": 0.4, "sigma_read_uS": 0.6, "reads_averaged": 4,
    }  # fmt: skip
    for residual in _devices(programming=pulses) - TARGETS:
        _assert_moments(residual, 0.0, (0.4**2 + 0.3**2) ** 0.5)


@pytest.mark.parametrize("t_s", [0.0, 3.0, DAY])
@pytest.mark.parametrize("occupation", [0.5, 0.2])
def test_slow_traps_spread_the_devices(t_s, occupation):
    traps = _traps(occupation=occupation, traps_per_device=4, p_trap=0.6)
    sd = 0.5 * (4 * 0.6 * occupation * (1 - occupation)) ** 0.5
    for shift in _devices(t_s, **traps) - TARGETS:
        _assert_moments(shift, 0.0, sd)


@pytest.mark.parametrize("lag_s", [0.1, 1.0, 5.0])
def test_slow_traps_forget_their_state_exponentially(lag_s):
    traps = _traps(tau_min_s=2.0, tau_max_s=2.0)
    before, after = (_devices(t_s, **traps)[0] - 20.0 for t_s in (DAY, DAY + lag_s))
    product = before * after
    assert abs(product.mean() - 0.25 * 0.25 * math.exp(-lag_s / 2.0)) < 4 * product.std() / N**0.5


@pytest.mark.parametrize("t_obs_s", [1e-2, 10.0, 1e9])
def test_spread_and_read_variance_of_traps_share_the_whole_by_the_observation_window(t_obs_s):
    traps = _traps(traps_per_device=3, occupation=0.3)
    noise, whole = TelegraphNoise(**traps["device.telegraph"]), 3 * 0.25 * 0.21
    fast = noise.fast_share(t_obs_s)
    changes = {**traps, "read_noise": {"kind": "split", "t_obs_s": t_obs_s}}
    shift = _devices(DAY, **changes)[0] - 20.0
    assert abs(shift.var() - whole * (1 - fast)) <= 4 * (shift**2).std() / N**0.5
    matrix = AnalogMatrix(torch.full((N_OUT, N_IN), 0.6, dtype=torch.float64), _chip(**changes), 5, "m")
    variance = torch.cat(matrix.variance, dim=1).numpy() * G_MAX**2
    assert abs(variance.mean() / (2 * whole) - fast) <= 4 * variance.std() / (2 * whole) / N**0.5 + 1e-12


@pytest.mark.parametrize("backend", ["numba", "torch"])
@pytest.mark.parametrize("encoding", [{}, {"kind": "offset"}, {"devices": 2, "fill": "equal"}], ids=str)
def test_reads_show_the_variance_of_fast_traps(encoding, backend):
    """Each device adds (weight of its current)^2 Delta^2 p (1 - p) for each of its traps and for x^2 of its row."""
    n_reads = 8_000
    rng = np.random.default_rng(0)
    weight, x = torch.from_numpy(rng.uniform(-1, 1, (8, 64))), torch.from_numpy(rng.uniform(-1, 1, 64))
    spec = ChipSpec.preset("ideal").evolve(encoding=encoding, tile=TileSpec(rows=40, cols=128), read_noise="per_read")
    spec = spec.evolve(**{"encoding.scale": "tensor", **_traps(traps_per_device=2, occupation=0.3)})
    programmed = ProgrammedMatrix(weight, spec, 0, "m")
    y = programmed.read(x.expand(n_reads, -1).contiguous(), backend=backend).numpy()
    weights = [device.weight for plane in programmed.matrix.layout.planes for device in plane.devices]
    per_device = 2 * 0.25 * 0.21 * sum(w**2 for w in weights) / G_MAX**2
    scale = programmed.matrix.full_scale[0].numpy()
    expected = scale * float((x**2).sum() * per_device) ** 0.5
    exact = (weight @ x).numpy()
    assert (abs(y.mean(axis=0) - exact) < 4 * expected / n_reads**0.5).all()
    assert (abs(y.std(axis=0) / expected - 1) < 4 * (1 / (2 * n_reads)) ** 0.5).all()


ALONE = {
    "programming": {"programming": {"kind": "single_shot", "sigma_write": 0.05}},
    "heat": {"device.temperature": {"t_read_K": 330.0, "activation_sigma_eV": 0.05}},
    "traps": _traps(traps_per_device=3),
    "stuck devices": {"device.faults": {"p_random": 0.5}},
}


def test_effects_of_a_device_are_independent_of_each_other():
    alone = [_devices(DAY, **changes)[0] for changes in ALONE.values()]
    assert abs(np.corrcoef(alone)[np.triu_indices(len(alone), 1)]).max() < 4 / N**0.5
