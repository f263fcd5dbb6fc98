"""Published ReRAM, SONOS and PCM devices: variants beyond the defaults, limits of validity, and how noise is split.

The numbers of the default devices are their reference points (tests/unit/test_devices.py).
"""

import math

import numpy as np
import pytest

from crossbar_sim.spec import ChipSpec
from device_models import devices
from device_models.errors import ExtrapolationWarning, SpecError, UsageError
from device_models.pcm_joshi import PcmJoshi
from device_models.pcm_state_independent import PcmStateIndependent
from device_models.reram_cmo import ReramCmo
from device_models.reram_wan import ReramWan
from device_models.rram_milo import RramMilo
from device_models.sonos import Sonos

HOUR, DAY, YEAR = 3600.0, 86400.0, 31536000.0


@pytest.mark.parametrize(
    "device", [ReramWan(fit="one_second", g_max_uS=39.26), ReramCmo(acceptance="2%")], ids=["wan 1 s", "cmo 2 %"]
)
def test_reference_points_of_the_other_variant(device):
    for point in device.reference_points():
        assert float(getattr(device, point.law)(**point.at)) == pytest.approx(point.expected, abs=point.atol), point


def test_a_variant_has_points_of_its_own():
    for plain, other in (
        (ReramWan(), ReramWan(fit="one_second", g_max_uS=39.0)),
        (ReramCmo(), ReramCmo(acceptance="2%")),
    ):
        assert plain.reference_points() != other.reference_points()


@pytest.mark.parametrize(
    ("t_s", "peak_uS", "at_uS"), [(1.0, 2.3002, 12.27), (DAY, 4.0050, 15.73), (2 * DAY, 3.9979, 16.40)]
)
def test_wan_spread_has_its_maximum_where_the_fit_has_it(t_s, peak_uS, at_uS):
    g = np.linspace(0, 40, 40_001)
    sigma = ReramWan().sigma_program_uS(g, t_s)
    assert sigma.max() == pytest.approx(peak_uS, abs=6e-5)
    assert g[sigma.argmax()] == pytest.approx(at_uS, abs=6e-3)


def test_wan_spread_scales_with_the_window_and_the_one_second_fit_does_not():
    assert ReramWan(g_max_uS=20.0).sigma_program_uS(5.0, DAY) == pytest.approx(3.72076 / 2, abs=3e-6)
    assert ReramWan(fit="one_second", g_max_uS=20.0).sigma_program_uS(10.0, 1.0) == pytest.approx(2.4136, abs=6e-6)


def test_wan_spread_is_linear_in_the_logarithm_of_time():
    device = ReramWan()
    at = {t: float(device.sigma_program_uS(20.0, t)) for t in (0.0, 0.3, 1.0, DAY**0.5, DAY, 2**0.5 * DAY, 2 * DAY)}
    assert at[0.0] == at[0.3] == at[1.0]
    assert at[DAY**0.5] == pytest.approx((2.02294 + 3.909) / 2, abs=6e-6)
    assert at[2**0.5 * DAY] == pytest.approx((3.909 + 3.92913) / 2, abs=6e-6)


def test_wan_holds_its_spread_beyond_two_days_and_says_so():
    with pytest.warns(ExtrapolationWarning) as warned:
        held = ReramWan().sigma_program_uS(40.0, YEAR)
    assert held == pytest.approx(2.677, abs=6e-6)
    assert str(warned[0].message) == (
        "device (reram_wan): t_s = 3.1536e+07: relaxation was measured up to 172800 s (2d); its spread of that time is "
        "held"
    )


@pytest.mark.parametrize(("read_noise", "expected_uS"), [(0.01, 0.4), (None, 0.0)])
def test_wan_read_noise_is_a_share_of_full_scale_everywhere(read_noise, expected_uS):
    device = ReramWan(read_noise=read_noise)
    fresh, frozen = device.curves(0.0, math.inf), device.curves(0.0, 0.0)
    assert (fresh.read_abs_uS == expected_uS).all()
    assert (frozen.frozen_abs_uS == expected_uS).all()
    assert not fresh.frozen_abs_uS.any()
    assert not frozen.read_abs_uS.any()


def test_cmo_relaxes_from_one_second_on():
    device = ReramCmo()
    verified, second = device.curves(0.0, 1.0), device.curves(1.0, 1.0)
    assert not verified.program_bias_uS.any()
    assert not verified.read_abs_uS.any()
    np.testing.assert_allclose(verified.program_sigma_uS, device.sigma_program_uS(verified.nodes_uS), rtol=1e-15)
    assert not second.program_bias_uS.any()  # ln 1 = 0
    assert np.interp(50.0, second.nodes_uS, second.program_sigma_uS) == pytest.approx(
        math.hypot(0.054251, 0.411833), abs=6e-7
    )


@pytest.mark.parametrize("t_obs_s", [0.0, 1e-3, 1.0, math.inf])
def test_cmo_read_noise_is_split_at_the_window_and_its_sum_is_the_published_one(t_obs_s):
    curves = ReramCmo().curves(DAY, t_obs_s)
    frozen, per_read = (np.interp(50.0, curves.nodes_uS, c) for c in (curves.frozen_abs_uS, curves.read_abs_uS))
    assert math.hypot(frozen, per_read) == pytest.approx(0.233157, abs=1e-6)
    window_s = min(max(t_obs_s, 2e-6), DAY + 1e-6)
    share = math.log((DAY + 1e-6) / window_s) / math.log((DAY + 1e-6) / 2e-6)
    assert frozen**2 / (frozen**2 + per_read**2) == pytest.approx(share, abs=1e-9)


def test_milo_current_is_linear_for_small_voltages_and_asymmetric_for_large_ones():
    device = RramMilo()
    g, v = np.array([[62.5], [110.0]]), np.array([1e-6, -1e-6])
    np.testing.assert_allclose(device.current_A(g, v), g * 1e-6 * v, rtol=1e-6)
    ratio = device.current_A(g, np.array([0.5, -0.5])) / (g * 1e-6 * np.array([0.5, -0.5]))
    np.testing.assert_allclose(ratio, [[0.84657, 1.22799], [0.96646, 1.02577]], atol=6e-6)


@pytest.mark.parametrize(
    ("at", "text"),
    [
        ({"g_uS": 100.0, "v_V": [0.1, -0.6]}, "v_V: |v_V| reaches 0.6: must be at most 0.5 V, as fitted"),
        ({"g_uS": 100.0, "v_V": math.nan}, "v_V: |v_V| reaches nan: must be at most 0.5 V, as fitted"),
        ({"g_uS": [60.0, 240.0], "v_V": 0.1},
         "g_uS: runs from 60 to 240: the current law was fitted from 50 to 225 uS"),
        ({"g_uS": math.nan, "v_V": 0.1}, "g_uS: runs from nan to nan: the current law was fitted from 50 to 225 uS"),
    ],
)  # fmt: skip
def test_milo_current_is_refused_where_it_was_not_fitted(at, text):
    with pytest.raises(UsageError) as caught:
        RramMilo().current_A(**at)
    assert str(caught.value) == text


def test_sonos_coefficients_are_linear_between_days():
    i = np.array([100.0, 800.0])
    expected = 29.885355 * (1 - np.exp(-i / 196.235830))
    np.testing.assert_allclose(Sonos().sigma_program_nA(i, 2.5 * DAY), expected, rtol=1e-7)
    day = [Sonos().mean_nA(i, n * DAY) for n in (2, 2.25, 3)]
    np.testing.assert_allclose(day[1], 0.75 * day[0] + 0.25 * day[2], rtol=1e-14)
    np.testing.assert_array_equal(Sonos().mean_nA(i, 0.0), i)


def test_sonos_depends_on_currents_alone():
    low, high = Sonos().curves(DAY, 1.0), Sonos(v_read_V=0.4, g_max_uS=4.0, g_min_uS=0.0).curves(DAY, 1.0)
    for name in ("nodes_uS", "program_bias_uS", "program_sigma_uS", "read_abs_uS"):
        np.testing.assert_allclose(getattr(low, name), 4 * getattr(high, name), rtol=1e-12, atol=1e-15)


def test_sonos_may_be_programmed_to_3200_nA_but_not_kept():
    device = Sonos(g_max_uS=32.0)
    assert device.curves(0.0, 1.0).program_sigma_uS[-1] == pytest.approx(19.88665e-2, rel=1e-6)
    with pytest.raises(UsageError) as caught:
        device.curves(DAY, 1.0)
    assert str(caught.value) == (
        "device (sonos): t_s = 86400: must be 0 with g_max_uS = 32, because retention was measured up to 1800 nA "
        "(18 uS)"
    )
    Sonos(g_max_uS=18.0).curves(DAY, 1.0)


@pytest.mark.parametrize("device", [Sonos(), PcmStateIndependent(), ReramCmo()], ids=lambda d: d.kind)
def test_all_noise_is_frozen_or_fresh_on_request(device):
    frozen, fresh = device.curves(HOUR, 0.0), device.curves(HOUR, math.inf)
    for a, b in (("frozen_abs_uS", "read_abs_uS"), ("frozen_rel", "read_rel")):
        np.testing.assert_allclose(getattr(frozen, a), getattr(fresh, b), rtol=1e-12)
        assert not getattr(frozen, b).any()
        assert not getattr(fresh, a).any()
    assert (frozen.frozen_abs_uS + frozen.frozen_rel)[-1] > 0


@pytest.mark.parametrize("kind", ["pcm_joshi", "rram_milo"])
def test_devices_without_a_law_of_time_stay_as_programmed(kind):
    device = devices()[kind]()
    for now, then in zip(device.curves(0.0, 1.0), device.curves(YEAR, 0.0), strict=True):
        np.testing.assert_array_equal(now, then)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: ReramWan(fit="one_second"),
         "device: g_max_uS = 40: must be at most 39.26 uS with fit = one_second, the largest conductance that was "
         "fitted"),
        (lambda: ReramWan(fit="crosssim"),
         "device.fit = 'crosssim': must be one of 'time_resolved' or 'one_second'"),
        (lambda: ReramWan(read_noise=0.0), "device.read_noise = 0.0: must be above 0"),
        (lambda: ReramCmo(acceptance=0.02), "device.acceptance = 0.02: must be one of '0.2%' or '2%'"),
        (lambda: ReramCmo(g_min_uS=8.0),
         "device: the window 8 to 88.2 uS must lie within the characterised one, 9 to 88.2 uS"),
        (lambda: ReramCmo(g_max_uS=90.0),
         "device: the window 9 to 90 uS must lie within the characterised one, 9 to 88.2 uS"),
        (lambda: RramMilo(g_min_uS=0.0),
         "device: the window 0 to 225 uS must lie within the characterised one, 50 to 225 uS"),
        (lambda: RramMilo(g_max_uS=226.0),
         "device: the window 50 to 226 uS must lie within the characterised one, 50 to 225 uS"),
        (lambda: PcmJoshi(g_max_uS=25.1),
         "device: g_max_uS = 25.1: must be at most 25 uS, the largest conductance that was fitted"),
        (lambda: Sonos(g_max_uS=33.0),
         "device: g_max_uS = 33: must be at most 32 uS with v_read_V = 0.1, because currents were measured up to "
         "3200 nA"),
        (lambda: PcmStateIndependent(noise_at="programmed"),
         "device.noise_at = 'programmed': must be one of 'target'"),
    ],
)  # fmt: skip
def test_devices_outside_of_what_was_measured_are_refused_in_words(make, text):
    with pytest.raises(SpecError) as caught:
        make()
    assert str(caught.value).startswith(text)


@pytest.mark.parametrize(
    ("device", "t_s", "text"),
    [
        (ReramCmo(), 0.5,
         "device (reram_cmo): t_s = 0.5: must be 0 (as verified) or at least 1 s, the first measurement of relaxation"),
        (Sonos(), 5.001 * DAY,
         "device (sonos): t_s = 432086: must be at most 432000 s (5d), the last measurement of retention"),
        (ReramWan(fit="one_second", g_max_uS=30.0), 2.0,
         "device (reram_wan): t_s = 2: must be at most 1 s with fit = one_second; fit = time_resolved knows later "
         "times"),
    ],
)  # fmt: skip
def test_times_that_were_not_measured_are_refused_in_words(device, t_s, text):
    with pytest.raises(UsageError) as caught:
        device.curves(t_s, 1.0)
    assert str(caught.value) == text


@pytest.mark.parametrize("kind", ["reram_wan", "reram_cmo", "sonos"])
@pytest.mark.parametrize("t_s", [math.nan, math.inf, -1.0])
def test_impossible_times_are_refused(kind, t_s):
    with pytest.raises(UsageError, match=rf"^device \({kind}\): t_s = "):
        devices()[kind]().curves(t_s, 1.0)


@pytest.mark.parametrize(
    "device",
    [ReramWan(fit="one_second", g_max_uS=30.0, read_noise=None), ReramCmo(acceptance="2%"), RramMilo(g_max_uS=110.0),
     Sonos(v_read_V=0.2, g_max_uS=8.0), PcmJoshi(g_min_uS=0.0), PcmStateIndependent(read_error_uS=0.1)],
    ids=lambda d: d.kind,
)  # fmt: skip
def test_a_changed_device_comes_back_from_yaml(device, tmp_path):
    spec = ChipSpec(device=device)
    spec.to_yaml(tmp_path / "chip.yaml")
    assert ChipSpec.from_yaml(tmp_path / "chip.yaml") == spec
