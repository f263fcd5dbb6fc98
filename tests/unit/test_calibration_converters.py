"""Static errors of converters, recovered from conversions by the package's own ADCs."""

import numpy as np
import pytest

from calibration.adc_table import measured_adc
from calibration.converters import ConverterFit, adc_spread, fit_converter
from calibration.tables import ConverterHistogram, ConverterTable
from calibration.transitions import from_ramp
from crossbar_sim.converters.adc import convert
from crossbar_sim.converters.states import adc_state
from crossbar_sim.converters.static_errors import static_errors
from crossbar_sim.spec.adc import UniformAdcSpec
from device_models.errors import UsageError

BOUND, LEVELS = 10.0, 63  # 7 bits
LSB = BOUND / LEVELS


def codes(x, seed=0, noise=0.0, column=0, **errors):
    """Codes of the package's uniform ADC of 7 bits with static errors."""
    spec = UniformAdcSpec(bits=7, bound=BOUND, **errors)
    v = np.repeat((x + noise * np.random.default_rng(seed).standard_normal(len(x)))[:, None], column + 1, axis=1)
    v = np.ascontiguousarray(v, np.float64)
    found = static_errors(spec, seed, "layer", 0, column + 1, np.float64)
    convert(adc_state(spec, seed, "layer", 0, column + 1, np.float64), v, errors=found)
    return np.rint(v[:, column] / LSB).astype(np.int64), found


def ramp(seed=0, n=20_000, noise=0.0, column=0, **errors):
    x = np.linspace(-1.2 * BOUND, 1.2 * BOUND, n)
    code, found = codes(x, seed, noise, column, **errors)
    return ConverterTable(input=x, code=code), found


def test_errors_of_the_packages_adc_are_recovered():
    table, errors = ramp(3, gain_sd=0.02, offset_sd_lsb=1.5, inl_cubic=0.01)
    fit = fit_converter(table, lsb=LSB, bound=BOUND)
    assert fit.model == "cubic"
    assert fit.value("gain") == pytest.approx(errors.gain[0], abs=1e-4)
    assert fit.value("offset_lsb") == pytest.approx(errors.offset[0] / LSB, abs=1e-2)
    assert fit.value("inl_cubic") == pytest.approx(0.01, abs=1e-4)
    assert fit.value("noise_lsb") < 0.01


def test_level_jitter_and_dnl_are_those_of_the_adc():
    table, _ = ramp(1, n=60_000, dnl_lsb=0.1)
    fit = fit_converter(table, lsb=LSB, bound=BOUND)
    assert fit.model == "straight"
    assert fit.value("dnl_lsb") == pytest.approx(0.1, abs=4 * 0.1 / np.sqrt(2 * 126))  # 4 standard errors
    levels = from_ramp(table).level
    assert fit.inl_lsb[40] - fit.inl_lsb[39] == pytest.approx(fit.dnl_lsb[39], abs=1e-9)
    assert np.std(fit.dnl_lsb) == pytest.approx(0.1 * np.sqrt(2), rel=0.25)
    assert fit.dnl_lsb[39] == pytest.approx(np.diff(levels)[39] / LSB - 1, abs=2e-3)


def test_transitions_follow_the_noise_free_ones_under_noise():
    quiet, _ = ramp(2, dnl_lsb=0.1)
    noisy, _ = ramp(2, dnl_lsb=0.1, noise=0.3 * LSB)
    found, true = from_ramp(noisy), from_ramp(quiet).level
    assert found.noise == pytest.approx(0.3 * LSB, rel=0.05)
    z = (found.level - true) / np.sqrt(np.diag(found.covariance))
    assert np.sqrt(np.mean(z**2)) == pytest.approx(1.0, abs=0.3)  # neighbours are alike: about 60 independent


def test_intervals_cover_and_are_centred():
    covered, offset = [], []
    for seed in range(50):
        table, errors = ramp(
            seed, n=3000, noise=0.2 * LSB, gain_sd=0.02, offset_sd_lsb=1.0, inl_cubic=0.02, dnl_lsb=0.1
        )
        fit = fit_converter(table, lsb=LSB, bound=BOUND)
        truth = {"gain": errors.gain[0], "offset_lsb": errors.offset[0] / LSB, "inl_cubic": 0.02, "dnl_lsb": 0.1}
        row = []
        for name, true in truth.items():
            p = next((p for p in fit.parameters if p.name == name), None)
            covered.append(p is not None and p.low <= true <= p.high)
            row.append(0.0 if p is None else (p.value - true) / (p.high - p.low))
        offset.append(row)
    assert 0.84 <= np.mean(covered) <= 0.96  # 200 intervals: 0.9 +- 0.021
    assert np.abs(np.mean(offset, axis=0)).max() < 0.25


def test_right_law_is_kept_and_a_kink_is_rejected():
    right, wrong = 0, 0
    x = np.linspace(-1.2 * BOUND, 1.2 * BOUND, 8000)
    for seed in range(20):
        code, _ = codes(x, seed, dnl_lsb=0.1)
        right += any(t.rejected for t in fit_converter(ConverterTable(input=x, code=code), lsb=LSB).goodness)
        code, _ = codes(np.where(x > 5, 5 + 0.9 * (x - 5), x), seed, dnl_lsb=0.1)  # the slope changes at half scale
        wrong += any(t.rejected for t in fit_converter(ConverterTable(input=x, code=code), lsb=LSB).goodness)
    assert right <= 4
    assert wrong >= 16


def test_sine_and_ramp_histograms_agree_with_the_static_ramp():
    rng = np.random.default_rng(0)
    exact = fit_converter(ramp(4, dnl_lsb=0.15)[0], lsb=LSB, bound=BOUND)
    n = 400_000
    stimuli = {
        "ramp": rng.uniform(-1.1 * BOUND, 1.1 * BOUND, n),
        "sine": 1.1 * BOUND * np.cos(2 * np.pi * rng.random(n)),
    }
    for stimulus, x in stimuli.items():
        code, _ = codes(x, 4, dnl_lsb=0.15)
        values, counts = np.unique(code, return_counts=True)
        table = ConverterHistogram(code=values, count=counts)
        fit = fit_converter(table, lsb=LSB, bound=BOUND, stimulus=stimulus, low=-1.1 * BOUND, high=1.1 * BOUND)
        error = np.std(fit.dnl_lsb - exact.dnl_lsb)
        counted = 1 / np.sqrt(n / (2.2 * LEVELS))  # of one code's width, in LSB
        assert error < 3 * counted
        assert fit.value("dnl_lsb") == pytest.approx(exact.value("dnl_lsb"), rel=0.15)
        gain = next(p for p in fit.parameters if p.name == "gain")
        assert gain.value == pytest.approx(exact.value("gain"), abs=4 * (gain.high - gain.low) / 3.29)
        blind = fit_converter(table, stimulus=stimulus)
        assert np.std(blind.dnl_lsb - exact.dnl_lsb) < 3 * counted
        assert any("not identified" in text for text in blind.warnings)
        assert "gain" not in {p.name for p in blind.parameters}


def test_spread_of_many_converters_is_that_of_the_spec():
    fits = [
        fit_converter(ramp(7, n=4000, column=k, gain_sd=0.03, offset_sd_lsb=0.8)[0], lsb=LSB, bound=BOUND, rank=False)
        for k in range(60)
    ]
    spread = adc_spread(fits)
    assert spread["gain_sd"] == pytest.approx(0.03, rel=4 / np.sqrt(120))
    assert spread["offset_sd_lsb"] == pytest.approx(0.8, rel=4 / np.sqrt(120))
    assert "inl_cubic" not in spread
    UniformAdcSpec(bits=7, bound=BOUND).evolve(**{k: v for k, v in spread.items() if k != "dnl_lsb"})


def test_line_through_end_points_meets_them():
    fit = fit_converter(ramp(5, inl_cubic=0.02)[0], lsb=LSB, bound=BOUND, line="end_points")
    assert fit.inl_lsb[[0, -1]] == pytest.approx(0.0, abs=1e-9)
    # c (u^3 - u u_end^2) R / LSB is largest at u_end / sqrt(3); u_end solves u + c u^3 = 62.5 / 63
    end = 0.97354
    assert fit.value("inl_max_lsb") == pytest.approx(0.02 * 63 * end**3 * 2 / 3**1.5, abs=0.01)


def test_missing_codes_are_counted():
    table, _ = ramp(6)
    code = np.where(table.code == 5, 4, table.code)
    fit = fit_converter(ConverterTable(input=table.input, code=code), lsb=LSB)
    assert fit.warnings[-1] == "1 codes never came"
    assert fit.dnl_lsb[np.flatnonzero(fit.code == 5)[0]] == pytest.approx(-1.0, abs=1e-9)


def test_yaml_gives_the_same_fit(tmp_path):
    fit = fit_converter(ramp(8)[0], lsb=LSB)
    fit.to_yaml(tmp_path / "c.yaml")
    again = ConverterFit.from_yaml(tmp_path / "c.yaml")
    assert np.array_equal(again.inl_lsb, fit.inl_lsb)
    assert np.array_equal(again.draws, fit.draws)


def test_refusals():
    table, _ = ramp(9)
    with pytest.raises(UsageError, match="falls as the input rises"):
        fit_converter(ConverterTable(input=-table.input, code=table.code))
    with pytest.raises(UsageError, match="must pass at least 6 transitions"):
        fit_converter(ConverterTable(input=table.input, code=np.clip(table.code, 0, 3)))
    with pytest.raises(UsageError, match="lsb = 0: must be above 0"):
        fit_converter(table, lsb=0.0)
    with pytest.raises(UsageError, match="must both be given"):
        fit_converter(ConverterHistogram(code=np.arange(9), count=np.full(9, 5)), low=0.0)
    with pytest.raises(UsageError, match="count: is 0 for all codes"):
        fit_converter(ConverterHistogram(code=np.arange(9), count=np.zeros(9, int)))


def test_the_chips_adc_takes_over_every_error_of_a_measured_converter():
    """Conversions of a made-up converter, measured by a fine ramp, and of the ADC made of it."""
    errors = {"gain_sd": 0.02, "offset_sd_lsb": 1.5, "inl_cubic": 0.02, "dnl_lsb": 0.15}
    measured = [ramp(seed, n=400_000, **errors)[0] for seed in (1, 2)]
    spec = measured_adc(measured, lsb=LSB, bits=7, bound=BOUND)
    x = np.random.default_rng(0).uniform(-9, 9, 4000)
    for table, seed in enumerate((1, 2)):
        v = np.ascontiguousarray(np.repeat(x[:, None], 2, axis=1))
        convert(adc_state(spec, 0, "layer", 0, 2, np.float64), v)
        expected, _ = codes(x, seed, **errors)
        # transitions are known to the distance of two inputs of the ramp, a thousandth of a step
        assert (np.rint(v[:, table] / LSB) == expected).mean() > 0.997
        assert (np.rint(x / LSB) == expected).mean() < 0.7


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ramps": []}, "ramps: give at least one"),
        ({"lsb": 0.0}, "lsb = 0.0: must be a finite number above 0"),
        ({"bits": 8}, "ramps[0]: reaches codes -62 to 63: must reach -126 to 127 for 8 bits"),
    ],
)
def test_a_chips_adc_needs_the_whole_range(change, message):
    given = {"ramps": [ramp()[0]], "lsb": LSB, "bits": 7, "bound": BOUND, **change}
    with pytest.raises(UsageError) as error:
        measured_adc(given.pop("ramps"), **given)
    assert str(error.value) == message
