"""Input encodings: every code is the weighted sum of its passes, for each device of the pair."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossbar_sim.converters.dac import conversions, input_passes, latency_ticks, split_codes
from crossbar_sim.spec import MinimumErrorRange, SigmaRange
from crossbar_sim.spec.dac import (
    AmplitudeEncoding,
    BitSerialEncoding,
    DacSpec,
    PwmEncoding,
    SplitPwmEncoding,
)
from device_models.errors import SpecError, UsageError

ENCODINGS = [
    PwmEncoding(),
    AmplitudeEncoding(),
    BitSerialEncoding(),
    BitSerialEncoding(digitised="once"),
    SplitPwmEncoding(low_bits=1),
    SplitPwmEncoding(low_bits=3),
]


def _part(codes, each):
    out = np.full_like(codes, np.nan)
    split_codes(0, 0, len(codes), codes, each, out)
    return out


def _sum(codes, passes):
    return sum(each.weight * _part(codes, each) for each in passes)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(ENCODINGS), st.sampled_from([1, 2, 4]), st.integers(5, 16), st.data())
def test_weighted_parts_add_up_to_the_code_on_each_device(encoding, phases, bits, data):
    levels = 2 ** (bits - 1) - 1
    codes = np.array([data.draw(st.lists(st.integers(-levels, levels), min_size=1, max_size=9))], np.float32)
    passes = input_passes(DacSpec(bits=bits, encoding=encoding, phases=phases))
    for device in ("g_plus", "g_minus"):
        np.testing.assert_array_equal(_sum(codes, [each for each in passes if getattr(each, device)]), codes)


@pytest.mark.parametrize(("encoding", "phases"), list(itertools.product(ENCODINGS, (1, 2, 4))))
def test_parts_have_the_sign_and_size_of_their_pass(encoding, phases):
    codes = np.arange(-127.0, 128.0)[None]
    for each in input_passes(DacSpec(encoding=encoding, phases=phases)):
        part = _part(codes, each)
        assert (part == np.rint(part)).all()
        assert abs(part).max() == 2**each.n_bits - 1
        assert (part[codes > 0] >= 0).all()
        assert (part[codes < 0] <= 0).all()
        assert each.positive_inputs == (part[codes > 0] != 0).any()
        assert each.negative_inputs == (part[codes < 0] != 0).any()


@pytest.mark.parametrize(
    ("encoding", "phases", "expected"),
    [
        (PwmEncoding(), 1, 1),
        (PwmEncoding(), 4, 4),
        (BitSerialEncoding(), 1, 7),
        (BitSerialEncoding(), 2, 14),
        (BitSerialEncoding(digitised="once"), 1, 1),
        (BitSerialEncoding(digitised="once"), 4, 4),
        (SplitPwmEncoding(), 2, 4),
    ],
)
def test_conversions_of_a_vector(encoding, phases, expected):
    assert conversions(DacSpec(encoding=encoding, phases=phases)) == expected


def test_inputs_without_steps_are_played_out_whole():
    x = np.array([[0.3, -0.7, 0.0]])
    plus, minus = input_passes(DacSpec(bits=None, phases=2))
    np.testing.assert_array_equal(_part(x, plus), [[0.3, 0, 0]])
    np.testing.assert_array_equal(_part(x, minus), [[0, -0.7, 0]])
    assert latency_ticks(DacSpec(bits=None, encoding=AmplitudeEncoding())) == 1
    with pytest.raises(UsageError, match=r"dac.bits = None: .* give bits, 2 to 16"):
        latency_ticks(DacSpec(bits=None))


def test_nan_is_in_every_pass():
    codes = np.array([[np.nan, 5.0]])
    for encoding in ENCODINGS:
        for each in input_passes(DacSpec(encoding=encoding, phases=2)):
            assert np.isnan(_part(codes, each)).tolist() == [[True, False]]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"bits": None, "encoding": "bit_serial"}, "dac: encoding bit_serial plays out bits and needs bits, 2 to 16"),
        ({"bits": None, "encoding": "split_pwm"}, "dac: encoding split_pwm plays out bits and needs bits, 2 to 16"),
        ({"bits": None, "stochastic_rounding": True}, "dac: stochastic_rounding needs bits, 2 to 16"),
        ({"bits": None, "range": "minimum_mse"}, "dac: range minimum_mse needs bits, 2 to 16"),
        (
            {"bits": 4, "encoding": "split_pwm"},
            "dac: encoding.low_bits = 3 must leave one of the 3 magnitude bits of bits = 4 to the second pulse",
        ),
        ({"phases": 3}, "dac.phases = 3: must be one of 1, 2 or 4"),
        (
            {"encoding": "pwn"},
            "dac.encoding.kind = 'pwn': must be one of pwm, bit_serial, split_pwm, amplitude; nearest: \"pwm\"",
        ),
    ],
)
def test_encodings_that_cannot_be_are_refused(fields, message):
    with pytest.raises(SpecError) as caught:
        DacSpec(**fields)
    assert str(caught.value) == message


def test_specification_comes_back_from_its_dump():
    spec = DacSpec(range=SigmaRange(n_sigma=2.5), encoding=SplitPwmEncoding(low_bits=2), phases=4)
    assert DacSpec(**spec.model_dump()) == spec
    assert DacSpec(range="minimum_mse").range == MinimumErrorRange()
