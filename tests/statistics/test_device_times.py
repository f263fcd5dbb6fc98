"""Published devices through a tile: mean and s.d. at several targets and times against closed forms.

All limits are four standard errors of the mean or of the s.d. of DRAWS devices or reads.
"""

from itertools import pairwise

import numpy as np
import pytest
from scipy.stats import norm

from crossbar_sim import ChipSpec, Tile
from crossbar_sim.spec import FrozenReadNoise, PairEncoding, PerReadNoise, TileSpec
from device_models.laws import drift_log_time
from device_models.pcm_joshi import PcmJoshi
from device_models.pcm_state_independent import PcmStateIndependent
from device_models.reram_cmo import ReramCmo
from device_models.reram_wan import ReramWan
from device_models.rram_milo import RramMilo
from device_models.sonos import Sonos
from device_models.tabulated import Tabulated

HOUR, DAY, YEAR = 3600.0, 86400.0, 31536000.0
DRAWS = 200_000


def _tile(device, targets_uS, n_each, read_noise):
    """Weights whose positive devices have these targets, one row of n_each devices for each, and one row at g_max."""
    span = device.g_max_uS - device.g_min_uS
    weights = np.append((np.array(targets_uS) - device.g_min_uS) / span, 1.0)
    spec = ChipSpec(
        device=device,
        tile=TileSpec(rows=None, cols=None),
        encoding=PairEncoding(scale="tensor"),
        dac=None,
        adc=None,
        read_noise=read_noise,
        compensation=None,
    )
    return Tile(spec, seed=0).program(np.repeat(weights[:, None], n_each, axis=1))


def _devices_at(tile, t_s):
    """Conductances (targets, devices) [uS] of the positive devices at this time."""
    positive = tile.conductances()[0]
    tile.mvm(np.zeros(positive.shape[0]), t=t_s)
    return tile.conductances()[0].T[:-1]


def _agree(sample, mean, sd):
    n = len(sample)
    centred = sample - sample.mean()
    kurtosis = (centred**4).mean() / sample.var() ** 2
    assert abs(sample.mean() - mean) < 4 * sd / n**0.5
    assert abs(sample.std() - sd) < 4 * sd * ((kurtosis - 1) / (4 * n)) ** 0.5


def _limited(mean, sd, low, high):
    """Mean and s.d. of a normal deviate that is held within limits."""
    a, b = (low - mean) / sd, (high - mean) / sd
    below, within, above = norm.cdf(a), norm.cdf(b) - norm.cdf(a), norm.sf(b)
    first = low * below + high * above + mean * within + sd * (norm.pdf(a) - norm.pdf(b))
    second = (
        low**2 * below
        + high**2 * above
        + (mean**2 + sd**2) * within
        + 2 * mean * sd * (norm.pdf(a) - norm.pdf(b))
        + sd**2 * (a * norm.pdf(a) - b * norm.pdf(b))
    )
    return first, (second - first**2) ** 0.5


def _wan(device, g_uS, t_s):
    return g_uS, float(device.sigma_program_uS(g_uS, t_s))


def _cmo(device, g_uS, t_s):
    programming, relaxation = float(device.sigma_program_uS(g_uS)), device.sigma_relaxation_uS(t_s)
    return g_uS + device.shift_uS(t_s), (programming**2 + relaxation**2) ** 0.5


def _sonos(device, g_uS, t_s):
    i_nA = 100 * g_uS
    return float(device.mean_nA(i_nA, t_s)) / 100, float(device.sigma_program_nA(i_nA, t_s)) / 100


def _static(device, g_uS, t_s):
    return g_uS, float(device.sigma_program_uS(g_uS))


def _table(device, g_uS, t_s):
    """Two times, 1 and 1e4 s; bias falls and spread rises with both the conductance and ln t."""
    share = np.log10(max(t_s, 1.0)) / 4
    return g_uS - share * 0.1 * g_uS, 0.2 + 0.02 * g_uS + share * 0.5


TABLE = Tabulated(
    g_uS=(5.0, 20.0),
    g_min_uS=5.0,
    g_max_uS=20.0,
    programming={"t_s": (1.0, 1e4), "bias_uS": ((0.0, 0.0), (-0.5, -2.0)), "sigma_uS": ((0.3, 0.6), (0.8, 1.1))},
    drift=None,
    read=None,
)
CASES = {
    "reram_wan": (ReramWan(), _wan, (0.0, 5.0, 20.0, 40.0), (0.0, 1.0, HOUR, DAY, 2 * DAY)),
    "reram_wan at 25 uS": (ReramWan(g_max_uS=25.0), _wan, (5.0, 12.5, 25.0), (1.0, DAY)),
    "reram_wan, 1 s": (ReramWan(fit="one_second", g_max_uS=39.26), _wan, (5.0, 20.0, 39.26), (0.0, 1.0)),
    "reram_cmo": (ReramCmo(), _cmo, (9.0, 25.0, 50.0, 88.2), (0.0, 1.0, HOUR, YEAR)),
    "reram_cmo, 2 %": (ReramCmo(acceptance="2%"), _cmo, (9.0, 50.0, 88.2), (0.0, 10.0, DAY)),
    "rram_milo": (RramMilo(), _static, (50.0, 110.0, 225.0), (0.0, YEAR)),
    "sonos": (Sonos(), _sonos, (0.1, 1.0, 4.0, 8.0, 16.0), (0.0, DAY, 2.5 * DAY, 5 * DAY)),
    "pcm_joshi": (PcmJoshi(), _static, (0.25, 5.0, 12.5, 25.0), (0.0, YEAR)),
    "tabulated": (TABLE, _table, (5.0, 12.5, 20.0), (0.0, 1.0, 10.0, 1e3, 1e4)),
}


@pytest.mark.parametrize("name", CASES)
def test_states_have_the_mean_and_spread_of_their_time(name):
    device, law, targets_uS, times_s = CASES[name]
    tile = _tile(device, targets_uS, DRAWS, None)
    for t_s in times_s:
        for g_uS, sample in zip(targets_uS, _devices_at(tile, t_s), strict=True):
            limits = (9.0, 88.2) if device.kind == "reram_cmo" and t_s > 0 else (0.0, 1e6)
            _agree(sample, *_limited(*law(device, g_uS, t_s), *limits))


@pytest.mark.parametrize("name", ["reram_wan", "reram_cmo", "sonos", "tabulated"])
def test_a_device_keeps_its_rank_through_time(name):
    device, law, targets_uS, times_s = CASES[name]
    target_uS = targets_uS[-2]  # far from all limits
    tile = _tile(device, [target_uS], 1000, None)
    ranks = []
    for t_s in times_s:
        mean, sd = law(device, target_uS, t_s)
        ranks.append((_devices_at(tile, t_s)[0] - mean) / sd)
    for now, then in pairwise(ranks):
        np.testing.assert_allclose(now, then, atol=1e-4)


def test_state_independent_pcm_drifts_with_a_folded_gaussian_exponent():
    device, targets_uS = PcmStateIndependent(), (2.0, 12.5, 25.0)
    tile = _tile(device, targets_uS, DRAWS, None)
    z = np.linspace(-9, 9, 200_001)
    share = norm.pdf(z) * (z[1] - z[0])
    for t_s in (0.0, HOUR, DAY):
        factor = np.exp(-abs(0.1 + 0.05 * z) * drift_log_time(t_s, 20.0))
        first, second = share @ factor, share @ factor**2
        for g_uS, sample in zip(targets_uS, _devices_at(tile, t_s), strict=True):
            _agree(sample, g_uS * first, ((g_uS**2 + 0.2**2) * second - (g_uS * first) ** 2) ** 0.5)


def test_state_independent_read_noise_follows_the_drifted_conductance():
    device = PcmStateIndependent(program_error_uS=0.0, drift_exponent_spread=0.0, read_error_uS=0.1)
    tile = _tile(device, (12.5, 25.0), DRAWS, FrozenReadNoise())
    for g_uS, sample in zip((12.5, 25.0), _devices_at(tile, DAY), strict=True):
        held_uS = g_uS * 4321**-0.1
        _agree(sample, held_uS, 0.1 * held_uS / 25 * 5.086810)


NOISY = {
    "reram_wan": (ReramWan(), lambda g_uS: np.full_like(g_uS, 0.4), HOUR),
    "reram_cmo": (ReramCmo(), lambda g_uS: np.vectorize(lambda g: ReramCmo().sigma_read_uS(g, HOUR))(g_uS), HOUR),
    "sonos": (Sonos(), lambda g_uS: Sonos().sigma_read_nA(100 * g_uS) / 100, DAY),
}
"""Device, s.d. of one read over the conductance that a device holds, and time."""


@pytest.mark.parametrize("name", NOISY)
def test_reads_of_one_device_scatter_around_its_state(name):
    device, sigma_uS, t_s = NOISY[name]
    span = device.g_max_uS - device.g_min_uS
    shares = np.linspace(0.1, 0.8, 24)
    tile = _tile(device, [device.g_min_uS + share * span for share in shares], 1, PerReadNoise())
    reads = tile.mvm(np.ones((DRAWS, 1)), t=t_s)
    plus, minus = (g[0] for g in tile.conductances())
    inside = plus > 0 if device.kind != "reram_cmo" else minus > device.g_min_uS  # noise of what would lie outside
    assert inside.sum() >= 3
    for k in np.flatnonzero(inside):
        pair_uS = np.hypot(*sigma_uS(np.array([plus[k], minus[k]])))
        _agree(reads[:, k], (plus[k] - minus[k]) / span, pair_uS / span)


@pytest.mark.parametrize("name", NOISY)
def test_frozen_noise_adds_its_variance_to_that_of_the_state(name):
    device, sigma_uS, t_s = NOISY[name]
    law, g_uS = CASES[name][1], 0.6 * device.g_max_uS
    mean, sd = law(device, g_uS, t_s)
    (sample,) = _devices_at(_tile(device, (g_uS,), DRAWS, FrozenReadNoise()), t_s)
    _agree(sample, mean, np.hypot(sd, sigma_uS(np.array([mean]))[0]))


def test_cmo_reram_stays_within_its_window():
    """The source limits the relaxed conductance: what would lie outside lies at the end."""
    tile = _tile(ReramCmo(), [9.5, 88.2], DRAWS // 2, None)
    low, high = _devices_at(tile, HOUR)
    for g, target, end in ((low, 9.5, 9.0), (high, 88.2, 88.2)):
        mean, sd = target - 0.728810, np.hypot(0.755851, 0.00106879 * target + 0.00081107)
        beyond = norm.cdf((end - mean) / sd if end == 9.0 else (mean - end) / sd)
        assert 9.0 <= g.min() <= g.max() <= 88.2
        assert abs((g == end).mean() - beyond) < 4 * np.sqrt(beyond * (1 - beyond) / g.size)
