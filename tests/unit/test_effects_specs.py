"""Effects as values: what they refuse, when they are off, and relations between their laws."""

import numpy as np
import pytest

from device_models.effects import (
    AbsoluteAmplitude,
    CubicIV,
    DeviceAsymmetry,
    GlobalAsymmetry,
    IVCurve,
    LinearIV,
    MiloIV,
    PolarityAsymmetry,
    RelativeAmplitude,
    SinhIV,
    StateAsymmetry,
    StuckFaults,
    TelegraphNoise,
    Temperature,
    TrapAmplitude,
    activation_factor,
    equivalent_time_s,
)
from device_models.errors import SpecError, UsageError
from device_models.strict import StrictModel

CURVES = [LinearIV(), CubicIV(k3_per_V2=0.25), SinhIV(v0_V=0.3), MiloIV()]
TRAPS = {"amplitude": {"kind": "absolute", "amplitude_uS": 0.5}, "tau_min_s": 1e-3, "tau_max_s": 1e3}
EFFECTS = [
    StuckFaults(p_set=0.1),
    Temperature(t_read_K=330.0),
    TelegraphNoise(**TRAPS),
    DeviceAsymmetry(sigma=0.1),
    StateAsymmetry(),
    GlobalAsymmetry(a_in=0.1),
    *CURVES,
]


class _Holder(StrictModel):
    iv: IVCurve = LinearIV()
    polarity: PolarityAsymmetry = GlobalAsymmetry()
    amplitude: TrapAmplitude = AbsoluteAmplitude(amplitude_uS=1.0)


@pytest.mark.parametrize("effect", EFFECTS, ids=lambda effect: type(effect).__name__)
def test_every_field_is_described_and_every_effect_comes_back_from_its_data(effect):
    assert all(field.description for name, field in type(effect).model_fields.items() if name not in ("kind", "source"))
    assert type(effect)(**effect.model_dump()) == effect


@pytest.mark.parametrize(
    ("effect", "ideal"),
    [(StuckFaults(), True), (StuckFaults(p_random=1e-9), False), (Temperature(t_read_K=300.0), True),
     (Temperature(t_read_K=301.0), False), (Temperature(t_read_K=300.0, t_anneal_K=310.0), False),
     (Temperature(t_read_K=300.0, t_anneal_K=300.0), True), (TelegraphNoise(**TRAPS), False),
     (DeviceAsymmetry(sigma=0.1), False), (StateAsymmetry(), False),
     (StateAsymmetry(below_uS=(1.0,), above_uS=(1.0,)), True), (GlobalAsymmetry(), True),
     (GlobalAsymmetry(a_out=0.1), False), (LinearIV(), True), (MiloIV(), False)],
)  # fmt: skip
def test_an_effect_knows_whether_it_acts(effect, ideal):
    assert effect.is_ideal == ideal


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: StuckFaults(p_reset=0.7, p_set=0.5), "stuckfaults: p_reset + p_set + p_random = 1.2: must be at most"),
        (lambda: StuckFaults(p_reset=-0.1), "stuckfaults.p_reset = -0.1: must be at least 0"),
        (lambda: StuckFaults(p_rest=0.1), 'nearest: "p_reset"'),
        (lambda: Temperature(t_read_K=25.0), "temperature.t_read_K = 25.0: must be at least 200 K"),
        (lambda: Temperature(t_read_K=float("nan")), "temperature.t_read_K = nan: must be"),
        (lambda: Temperature(t_read_K=300.0, activation_law_eV=(0.0, 0.1, 0.2, 0.1)), "low = 0.2 must not be above"),
        (lambda: TelegraphNoise(**{**TRAPS, "tau_max_s": 1e-4}), "tau_min_s = 0.001 must not be above tau_max_s"),
        (lambda: TelegraphNoise(**TRAPS, occupation=1.0), "noise.occupation = 1.0: input should be less than 1"),
        (lambda: RelativeAmplitude(at_g_max=0.0), "relativeamplitude.at_g_max = 0.0: must be above 0"),
        (lambda: StateAsymmetry(below_uS=()), "at least one coefficient"),
        (lambda: GlobalAsymmetry(a_in=1.0), "globalasymmetry.a_in = 1.0: input should be less than 1"),
        (lambda: CubicIV(k3_per_V2=0.0), "cubiciv.k3_per_V2 = 0.0: must be above 0"),
        (lambda: _Holder(iv={"kind": "sihn"}), 'must be one of linear, cubic, sinh, milo, scattered; nearest: "sinh"'),
        (lambda: _Holder(polarity="globl"), 'nearest: "global"'),
    ],
)  # fmt: skip
def test_a_wrong_value_is_refused_with_path_value_and_rule(make, message):
    with pytest.raises(SpecError) as caught:
        make()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: activation_factor(np.nan, 300.0), "e_a_eV = nan: must be finite"),
        (lambda: activation_factor(0.1, 0.0), "t_K = 0: must be finite and above 0"),
        (lambda: equivalent_time_s(1e-14, 300.0, 330.0, 1e-13), "t_s = 1e-14: must be finite and at least 1e-13"),
        (lambda: Temperature(t_read_K=330.0).factor([0.5, -0.1]), "r = -0.1: must be finite and at least 0"),
        (lambda: AbsoluteAmplitude(amplitude_uS=1.0).delta_uS(-1.0, 25.0), "g_uS = -1: must be"),
        (lambda: RelativeAmplitude(at_g_max=0.1).delta_uS(1.0, 0.0), "g_max_uS = 0: must be finite and above 0"),
        (lambda: TelegraphNoise(**TRAPS).fast_share(-1.0), "t_obs_s = -1: must be finite and at least 0"),
        (lambda: TelegraphNoise(**TRAPS).fast_share(np.nan), "t_obs_s = nan: must be"),
        (lambda: StateAsymmetry().negative_factor(np.inf, 0.0), "g_uS = inf: must be finite"),
        (lambda: StateAsymmetry().check_window(25.0), "g_max_uS = 25: must be at most 15 uS"),
        (lambda: MiloIV().check_window(40.0, 110.0), "window = 40 to 110 uS: must lie within 50 to 225 uS"),
        (lambda: MiloIV().current_uA(100.0, 0.6), "v_V = 0.6: must be finite and at least -0.5 and at most 0.5"),
        (lambda: MiloIV().current_uA(0.0, 0.1), "g_uS = 0: must be finite and above 0"),
        (lambda: CubicIV(k3_per_V2=0.25).slope_uS(1.0, 1.2), "v_V = 1.2: must be finite and at least -1.1547"),
        (lambda: LinearIV().current_uA(np.nan, 0.1), "g_uS = nan: must be finite and at least 0"),
    ],
)  # fmt: skip
def test_a_law_refuses_what_it_does_not_hold_for(call, message):
    with pytest.raises(UsageError) as caught:
        call()
    assert message in str(caught.value)


def test_windows_that_a_law_holds_for_are_taken():
    MiloIV().check_window(50.0, 225.0)
    LinearIV().check_window(0.0, 1e3)
    StateAsymmetry().check_window(15.0)
    DeviceAsymmetry(sigma=0.1).check_window(100.0)


def test_three_decimal_fractions_may_make_one():
    assert StuckFaults(p_reset=0.7, p_set=0.2, p_random=0.1).p_stuck == pytest.approx(1.0)


@pytest.mark.parametrize("curve", CURVES, ids=lambda curve: curve.kind)
def test_slope_is_the_derivative_of_the_current(curve):
    g, v = np.linspace(50.0, 225.0, 8)[:, None], np.linspace(-0.45, 0.45, 10)
    h = 1e-5
    difference = (curve.current_uA(g, v + h) - curve.current_uA(g, v - h)) / (2 * h)
    np.testing.assert_allclose(curve.slope_uS(g, v), difference, rtol=1e-7, atol=1e-7)
    np.testing.assert_allclose(curve.slope_uS(g, 0 * v), np.broadcast_to(g, (8, 10)), rtol=1e-15)
    np.testing.assert_array_equal(curve.current_uA(g, 0.0), 0 * g)


@pytest.mark.parametrize("curve", CURVES, ids=lambda curve: curve.kind)
def test_an_exact_polynomial_gives_an_array_by_products_of_powers(curve):
    rng = np.random.default_rng(0)
    g, v = rng.uniform(50, 225, (20, 6)), rng.uniform(-0.5, 0.5, (3, 20))
    sums = curve.current_uA(g[None], v[:, :, None]).sum(axis=1)
    parts = curve.polynomial(g)
    if curve.kind == "sinh":
        assert parts is None
    else:
        np.testing.assert_allclose(sum(v**power @ part for power, part in enumerate(parts, 1)), sums, rtol=1e-12)


def test_polarity_factors_have_one_form():
    g, z = np.array([1.0, 5.0]), np.array([-1.0, 2.0])
    np.testing.assert_allclose(DeviceAsymmetry(sigma=0.1).negative_factor(g, z), [1.1, 0.8])
    np.testing.assert_allclose(GlobalAsymmetry(a_in=0.2).negative_factor(g, z), [0.8, 0.8])
    assert GlobalAsymmetry(a_out=0.3).output_factor == 0.7
    assert StateAsymmetry().output_factor == 1.0
    np.testing.assert_array_equal(StateAsymmetry().negative_factor(g, z), StateAsymmetry().negative_factor(g, 0 * z))


def test_amplitudes_of_traps():
    np.testing.assert_array_equal(AbsoluteAmplitude(amplitude_uS=0.5).delta_uS([0.0, 20.0], 25.0), [0.5, 0.5])
    relative = RelativeAmplitude(at_g_max=0.01, exponent=0.5, cap=0.05)
    np.testing.assert_allclose(relative.delta_uS([25.0, 6.25, 0.25, 0.0], 25.0), [0.25, 0.125, 0.0125, 0.0])


@pytest.mark.parametrize(
    ("t_obs_s", "share"), [(0.0, 0.0), (1e-4, 0.0), (1e-3, 0.0), (1.0, 0.5), (1e2, 5 / 6), (1e4, 1.0), (np.inf, 1.0)]
)
def test_share_of_traps_faster_than_the_window(t_obs_s, share):
    assert TelegraphNoise(**TRAPS).fast_share(t_obs_s) == pytest.approx(share, abs=1e-12)


@pytest.mark.parametrize(("t_obs_s", "share"), [(0.5, 0.0), (1.0, 0.0), (1.1, 1.0)])
def test_traps_of_one_speed_are_all_fast_or_all_slow(t_obs_s, share):
    one_speed = TelegraphNoise(**{**TRAPS, "tau_min_s": 1.0, "tau_max_s": 1.0})
    assert one_speed.fast_share(t_obs_s) == share
