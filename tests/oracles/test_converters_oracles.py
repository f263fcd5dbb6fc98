"""Published and hand-computed numbers of converters and output stage, by law and by kernel."""

import numpy as np
import pytest

from crossbar_sim.converters import laws
from crossbar_sim.converters.adc import convert
from crossbar_sim.converters.cdac import ramp_levels, sar_thresholds, split_sar_thresholds
from crossbar_sim.converters.dac import Pass, input_passes, latency_ticks, split_codes
from crossbar_sim.converters.output_stage import OutputStage, compress, shape_rows, slope_factor
from crossbar_sim.converters.states import adc_state
from crossbar_sim.spec.adc import (
    AsymmetricAdcSpec,
    CcoAdcSpec,
    CyclicAdcSpec,
    MidriseAdcSpec,
    PipelineAdcSpec,
    RampAdcSpec,
    SarAdcSpec,
    UniformAdcSpec,
)
from crossbar_sim.spec.dac import AmplitudeEncoding, BitSerialEncoding, DacSpec, PwmEncoding, SplitPwmEncoding


def _by_kernel(spec, x):
    v = np.array([x], float)
    convert(adc_state(spec, 0, "layer", 0, len(x), np.float64), v)
    return v[0]


SYMMETRIC = {
    1.0: ([0.1, 0.3, 0.5, -0.7, 1.2, 0.5 / 127, 1.5 / 127],
          [0.10236220, 0.29921260, 0.50393701, -0.70078740, 1, 0, 0.01574803]),
    10.0: ([0.1, 3.3, 11], [0.07874016, 3.30708661, 10]),
}  # fmt: skip
X4 = [-1, -0.7, -0.1, 0, 0.1, 0.49, 1.2]
SYMMETRIC_4 = [-1, -0.714286, -0.142857, 0, 0.142857, 0.428571, 1]
ASYMMETRIC_4 = [-1, -0.733333, -0.066667, 0.066667, 0.066667, 0.466667, 1]
MIDRISE_4 = [-0.9375, -0.6875, -0.0625, -0.0625, 0.0625, 0.4375, 0.9375]
MIDRISE_4_UP = [-0.9375, -0.6875, -0.0625, 0.0625, 0.0625, 0.4375, 0.9375]


@pytest.mark.parametrize("full_scale", [1.0, 10.0])
def test_symmetric_quantiser_at_8_bit(full_scale):
    x, y = SYMMETRIC[full_scale]
    np.testing.assert_allclose(laws.quantise_symmetric(x, full_scale, 8), y, atol=5e-9)
    np.testing.assert_allclose(_by_kernel(UniformAdcSpec(bound=full_scale), x), y, atol=5e-9)


def test_asymmetric_quantiser_at_8_bit_has_no_level_at_zero():
    x, y = [0, 0.1, 0.5, -0.7], [0.00392157, 0.09803922, 0.49803922, -0.70196078]
    np.testing.assert_allclose(laws.quantise_asymmetric(x, -1, 1, 8), y, atol=5e-9)
    np.testing.assert_allclose(_by_kernel(AsymmetricAdcSpec(bound=1.0), x), y, atol=5e-9)


IDEAL = {"sigma_cap": None, "sigma_cmp": None, "gain_db": None}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (UniformAdcSpec, SYMMETRIC_4),
        (AsymmetricAdcSpec, ASYMMETRIC_4),
        (MidriseAdcSpec, MIDRISE_4_UP),
        (RampAdcSpec, MIDRISE_4),
        (PipelineAdcSpec, MIDRISE_4),
        (CyclicAdcSpec, MIDRISE_4),
        (SarAdcSpec, MIDRISE_4_UP),
    ],
)
def test_every_kind_at_4_bit(spec, expected):
    np.testing.assert_allclose(_by_kernel(spec(bits=4, bound=1.0), X4), expected, atol=5e-7)
    if "gain_db" in spec.model_fields:  # the published 100 dB changes none of these, as an infinite gain shows
        np.testing.assert_array_equal(_by_kernel(spec(bits=4, bound=1.0, **IDEAL), X4), expected)


def test_laws_at_4_bit():
    np.testing.assert_allclose(laws.quantise_symmetric(X4, 1.0, 4), SYMMETRIC_4, atol=5e-7)
    np.testing.assert_allclose(laws.quantise_asymmetric(X4, -1, 1, 4), ASYMMETRIC_4, atol=5e-7)
    np.testing.assert_array_equal(laws.quantise_midrise(X4, 1.0, 4), MIDRISE_4_UP)
    z = np.zeros((1, 5))
    np.testing.assert_array_equal(laws.nearest_level(X4, 1.0, ramp_levels(4, 0.0, z)[0]), MIDRISE_4)
    for law in (sar_thresholds, split_sar_thresholds):
        np.testing.assert_array_equal(laws.successive_approximation(X4, 1.0, law(4, 0.0, z)[0]), MIDRISE_4_UP)
    upper, slope, jump = (np.full((3, 7), value) for value in (0.25, 2.0, 1.0))
    np.testing.assert_array_equal(laws.staged(X4, 1.0, upper, -upper, slope, jump, np.zeros(7)), MIDRISE_4)


def test_oscillator_truncates_toward_zero():
    lsb = 100 / 6.24
    x, y = [10, 100, 123.4, -123.4, 15.9, -16.1], [0, 96.153846, 112.179487, -112.179487, 0, -16.025641]
    np.testing.assert_allclose(laws.count_periods(x, 127 * lsb, 8), y, atol=5e-7)
    np.testing.assert_allclose(_by_kernel(CcoAdcSpec(bound=127 * lsb), x), y, atol=5e-7)


def test_half_a_step_added_to_counts_but_zero():
    x, y = [0.9, 1.1, -3.5, 200.0], [0, 1.5, -3.5, 127.5]
    np.testing.assert_array_equal(laws.count_periods(x, 127.0, 8, half_lsb=True), y)
    np.testing.assert_array_equal(_by_kernel(CcoAdcSpec(bound=127.0, correction="half_lsb"), x), y)


def test_error_of_a_uniform_quantiser_is_its_step_over_root_12():
    x = np.linspace(-1, 1, 254 * 4000 + 1)[:-1]
    error = laws.quantise_symmetric(x, 1.0, 8) - x
    assert np.sqrt((error**2).mean()) == pytest.approx(0.00227303, rel=1e-5)


def test_a_full_scale_sine_has_the_textbook_signal_to_noise_ratio():
    x = np.sin(2 * np.pi * np.arange(1_000_003) * 0.1234567891)
    noise = laws.quantise_midrise(x, 1.0, 14) - x  # at few bits the long stay at the crests takes away 0.2 dB
    assert 10 * np.log10((x**2).mean() / (noise**2).mean()) == pytest.approx(6.02 * 14 + 1.76, abs=0.05)


@pytest.mark.parametrize(
    ("encoding", "phases", "ticks"),
    [
        (PwmEncoding(), 1, 127),  # 127 ns at 1 GHz
        (PwmEncoding(), 4, 508),
        (SplitPwmEncoding(low_bits=3), 1, 24),
        (BitSerialEncoding(), 1, 7),
        (BitSerialEncoding(digitised="once"), 2, 14),
        (AmplitudeEncoding(), 2, 2),
    ],
)
def test_ticks_of_an_8_bit_input(encoding, phases, ticks):
    assert latency_ticks(DacSpec(encoding=encoding, phases=phases)) == ticks


def test_split_pwm_of_code_100():
    low, high = input_passes(DacSpec(encoding=SplitPwmEncoding(low_bits=3)))
    assert (low.weight, high.weight) == (1, 8)
    parts = []
    for each in (low, high):
        out = np.empty((1, 1))
        split_codes(0, 0, 1, np.array([[100.0]]), each, out)
        parts.append(out[0, 0])
    assert parts == [4, 12]


def test_bit_serial_passes_multiply_output_noise_variance():
    passes = input_passes(DacSpec(encoding=BitSerialEncoding()))
    assert sum(each.weight**2 for each in passes) == (4**7 - 1) // 3
    assert passes[2] == Pass(4, True, True, True, True, 2, 1, 2)


def test_four_phases_take_each_sign_and_device_by_itself():
    phases = input_passes(DacSpec(phases=4))
    assert [tuple(each[1:5]) for each in phases] == [
        (True, False, True, False),
        (True, False, False, True),
        (False, True, True, False),
        (False, True, False, True),
    ]


def test_stochastic_rounding_of_0_3_steps():
    u = (np.arange(1_000_000) + 0.5) / 1_000_000
    y = laws.quantise_symmetric(np.full(u.shape, 0.3), 127.0, 8, u)
    assert y.mean() == pytest.approx(0.3, abs=1e-6)
    assert y.var() == pytest.approx(0.21, abs=1e-6)


def _shaped(stage, y, reference=0.0):
    v = np.array([y], float)
    shape_rows(stage, v, np.array([reference]))
    return v[0]


def test_s_shape():
    y, expected = [10.0, 5.0, -5.0, 0.0], [9.09090909, 4.76190476, -4.76190476, 0.0]
    np.testing.assert_allclose(compress(y, 1.0, 0.01), expected, atol=5e-9)
    np.testing.assert_allclose(_shaped(OutputStage(0.0, np.zeros(4), 1.0, np.full(4, 0.01)), y), expected, atol=5e-9)
    assert slope_factor(0.01, 5.0) == pytest.approx(1.1025, abs=1e-12)


def test_slope_calibration_makes_the_slope_one_where_it_is_asked():
    f = slope_factor(0.01, 5.0)
    low, high = compress([5 - 1e-6, 5 + 1e-6], f, 0.01)
    assert (high - low) / 2e-6 == pytest.approx(1, abs=1e-7)


def test_sense_node():
    # coding branch 0.98 * 5 / 1.5, reference branch 1.02 * 3 / 1.3
    found = _shaped(OutputStage(0.1, np.full(1, 0.02), 1.0, np.zeros(1)), [2.0], reference=3.0)
    assert found[0] == pytest.approx(0.98 * 5 / 1.5 - 1.02 * 3 / 1.3, abs=1e-12)
    assert _shaped(OutputStage(0.1, np.zeros(1), 1.0, np.zeros(1)), [-4.0])[0] == pytest.approx(-4 / 1.4, abs=1e-12)
    assert _shaped(OutputStage(0.0, np.full(1, 0.05), 1.0, np.zeros(1)), [4.0])[0] == pytest.approx(3.8, abs=1e-12)


def test_levels_of_a_cdac_with_one_wrong_capacitor():
    z = np.array([[0, 1.0, 0, 0]])  # 3 bit: C_1 = 2 + 0.1 sqrt(2), reference 4
    wrong = 2 + 0.1 * np.sqrt(2)
    np.testing.assert_allclose(
        sar_thresholds(3, 0.1, z)[0, 1:], [-(1 + wrong) / 4, -wrong / 4, -0.25, 0, 0.25, wrong / 4, (1 + wrong) / 4]
    )
    assert ramp_levels(3, 0.1, z)[0, 6] == pytest.approx(wrong / 4 + 1 / 8)
    z = np.array([[0, 0, 0, 1.0]])  # the reference: a gain error of all levels
    np.testing.assert_allclose(sar_thresholds(3, 0.1, z)[0, 1:], np.arange(-3, 4) / (4 + 0.1 * 2))


def test_an_amplifier_of_finite_gain_makes_levels_smaller():
    # code of 2 of 4 units selected: beta = 4 / (4 + 2), factor 1 / (1 + 1.5 / A)
    assert sar_thresholds(3, 0.0, np.zeros((1, 4)), gain=10.0)[0, 6] == pytest.approx(0.5 / 1.15)
    assert ramp_levels(3, 0.0, np.zeros((1, 4)), gain=10.0)[0, 6] == pytest.approx(0.625 / 1.15)
    np.testing.assert_allclose(
        split_sar_thresholds(3, 0.0, np.zeros((1, 4)), gain=10.0)[0, 1:], np.arange(-3, 4) / 4 / 1.1
    )


@pytest.mark.parametrize("bits", [2, 3, 4, 7, 8, 12])
def test_matched_capacitors_give_ideal_levels(bits):
    z, code = np.zeros((1, bits + 1)), np.arange(2**bits)
    np.testing.assert_array_equal(ramp_levels(bits, 0.0, z)[0], (2 * code - (2**bits - 1)) / 2**bits)
    for law in (sar_thresholds, split_sar_thresholds):
        ideal = (code[1:] - 2 ** (bits - 1)) / 2 ** (bits - 1)
        np.testing.assert_allclose(law(bits, 0.0, z)[0, 1:], ideal, rtol=0, atol=1e-15)


def test_bridge_capacitor_error_bends_the_low_half():
    z = np.array([[0, 0, 0, 0, 1.0]])  # 4 bit: low 1, 2; high 1; rest 1; bridge 4/3 + 0.1 sqrt(4/3)
    bridge = 4 / 3 + 0.1 * np.sqrt(4 / 3)
    denominator = (4 + bridge) * (1 + bridge) - bridge**2
    found = split_sar_thresholds(4, 0.1, z)[0]
    assert found[8 + 1] == pytest.approx(bridge / denominator)
    assert found[8 + 4] == pytest.approx((4 + bridge) / denominator)


def test_stage_of_finite_gain():
    # A = 10, C_par = 0.5: beta = 1 / 2.5, factor 0.8
    state = adc_state(PipelineAdcSpec(bits=3, bound=5.0, gain_db=20.0, parasitic_cap=0.5), 0, "layer", 0, 9, np.float64)
    np.testing.assert_allclose(state.slope, np.full((2, 9), 1.6))
    np.testing.assert_allclose(state.jump, np.full((2, 9), 4.0))
