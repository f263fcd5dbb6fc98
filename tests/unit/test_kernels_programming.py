"""Programming of devices: kernels against NumPy, identity over tiles, reports, and specifications."""

import numpy as np
import pytest

from crossbar_sim.devices.effect_tables import verify_table
from crossbar_sim.kernels import reference
from crossbar_sim.kernels.programming import (
    program_verify_matrix,
    programming_report,
    single_shot_matrix,
    write_keys,
)
from crossbar_sim.kernels.workers import share
from crossbar_sim.spec.programming import (
    GradientDescentProgramming,
    LawProgramming,
    Programming,
    ProgramVerify,
    SingleShot,
)
from device_models.errors import SpecError, UsageError
from device_models.strict import StrictModel

KEY = write_keys(0, "layer")[0]
VERIFY = ProgramVerify(
    alpha=0.5, tolerance_uS=0.4, max_pulses=12, sigma_write_uS=0.2, sigma_write_relative=0.1, sigma_read_uS=0.3,
    reads_averaged=4,
)  # fmt: skip
START_UNDER = 0.5


def _targets(n_out=11, n=1100, dtype=np.float64):
    return np.random.default_rng(0).uniform(0, 25, (n_out, n)).astype(dtype)


def _program(target, spec=VERIFY, row=0, first_col=0, key=KEY, threads=2):
    g, pulses = np.empty_like(target), np.empty(target.shape, np.uint16)
    converged = np.empty(target.shape, np.bool_)
    arguments = target, key, row, first_col, verify_table(spec, START_UNDER), g, pulses, converged
    share(program_verify_matrix, arguments, len(target), threads)
    return g, pulses, converged


def _normals(key, shape):
    counter0, counter1 = np.meshgrid(np.arange(shape[1], dtype=np.uint32), np.arange(shape[0], dtype=np.uint32))
    return reference.normals(key, counter0, counter1)


def _reference(target, spec):
    """All devices at once: those that have not converged take another pulse, until none is left or pulses are."""
    key = tuple(int(word) for word in KEY)
    g = np.full(target.shape, START_UNDER)
    pulses, converged = np.zeros(target.shape, int), np.zeros(target.shape, bool)
    for k in range(spec.max_pulses + 1):
        words = reference.threefry(key, np.array([k], np.uint32), np.array([0], np.uint32))
        z_read, z_write = _normals(tuple(int(word[0]) for word in words), target.shape)
        error = g + spec.sigma_read_uS / np.sqrt(spec.reads_averaged) * z_read - target
        converged |= abs(error) <= spec.tolerance_uS
        if k < spec.max_pulses:
            step = spec.alpha * error
            written = g - step + (spec.sigma_write_uS + spec.sigma_write_relative * abs(step)) * z_write
            g = np.where(converged, g, np.maximum(written, 0))
            pulses += ~converged
    return g, pulses, converged


@pytest.mark.parametrize("changes", [{}, {"alpha": 1.0}, {"tolerance_uS": 1e-3}, {"max_pulses": 1}])
def test_programming_with_verification_equals_the_reference(changes):
    spec = VERIFY.evolve(**changes)
    target = _targets()
    g, pulses, converged = _program(target, spec)
    expected, expected_pulses, expected_converged = _reference(target, spec)
    # float32 normals may decide a read at the very edge of the tolerance the other way
    same = (pulses == expected_pulses) & (converged == expected_converged)
    assert (~same).sum() <= 2
    np.testing.assert_allclose(g[same], expected[same], atol=1e-5)
    assert (converged[pulses < spec.max_pulses]).all()


def test_single_shot_equals_the_reference():
    target = _targets()
    g = np.empty_like(target)
    single_shot_matrix(0, 0, len(target), target, KEY, 0, 0, 0.6, g)
    z, _ = _normals(tuple(int(word) for word in KEY), target.shape)
    np.testing.assert_allclose(g, np.maximum(target * (1 + 0.6 * z), 0), atol=1e-4)
    assert (g == 0).mean() == pytest.approx(0.0478, abs=4 * (0.0478 / target.size) ** 0.5)  # 1 + 0.6 z < 0
    quiet = np.empty_like(target)
    single_shot_matrix(0, 0, len(target), target, KEY, 0, 0, 0.0, quiet)
    np.testing.assert_array_equal(quiet, target)


def test_a_device_is_programmed_alike_in_any_tile_and_on_any_number_of_threads():
    target = _targets()
    whole = _program(target)
    part = _program(np.ascontiguousarray(target[3:7, 600:903]), row=600, first_col=3)
    alone = _program(target, threads=1)
    for w, p, a in zip(whole, part, alone, strict=True):
        np.testing.assert_array_equal(p, w[3:7, 600:903])
        np.testing.assert_array_equal(a, w)


def test_float32_devices_are_programmed_as_float64_ones():
    single, double = _program(_targets(dtype=np.float32)), _program(_targets())
    same = single[1] == double[1]
    assert same.mean() > 0.999
    np.testing.assert_allclose(single[0][same], double[0][same], atol=2e-5)


def test_more_pulses_go_on_where_fewer_stopped():
    target = _targets()
    few, few_pulses, few_converged = _program(target, VERIFY.evolve(max_pulses=4))
    more, more_pulses, _ = _program(target)
    np.testing.assert_array_equal(more[few_converged], few[few_converged])
    assert (few_pulses[~few_converged] == 4).all()
    assert (more_pulses[~few_converged] > 4).all()


def test_a_device_at_its_target_takes_no_pulse_and_an_exact_writer_takes_one():
    exact = ProgramVerify(alpha=1.0, tolerance_uS=1e-9, max_pulses=5)
    target = np.array([[START_UNDER, 3.0, 25.0]])
    g, pulses, converged = _program(target, exact)
    np.testing.assert_allclose(g, target, rtol=1e-12)
    assert pulses.tolist() == [[0, 1, 1]]
    assert converged.all()


def test_a_device_that_never_converges_is_counted():
    hopeless = ProgramVerify(alpha=0.01, tolerance_uS=0.1, max_pulses=3)
    target = np.stack([np.full((2, 5), 20.0), np.full((2, 5), START_UNDER)])
    sides = [_program(side, hopeless) for side in target]
    g, pulses, converged = (np.stack(part) for part in zip(*sides, strict=True))
    report = programming_report(target, g, pulses, converged, 20.0)
    assert report.devices == 20
    assert report.unconverged == 10
    assert report.converged_share == 0.5
    assert report.analog_yield == 0.0
    assert report.pulses_counts.tolist() == [10, 0, 0, 10]
    assert report.residual_counts.sum() == 20
    error = 19.5 * 0.99**3
    assert report.residual_edges_uS[[0, -1]] == pytest.approx([-error, 0.0])
    assert report.residual_rms_uS == pytest.approx(error / 2**0.5)


def test_analog_yield_is_of_weights_and_not_of_devices():
    target = np.zeros((2, 1, 4))
    g = target + np.array([[[1.9, 2.1, 3.0, -1.5]], [[0.0, 0.0, 3.0, 1.5]]])
    report = programming_report(target, g, np.zeros(g.shape, int), np.ones(g.shape, bool), 10.0)
    assert report.analog_yield == 0.5  # errors of the weights 1.9, 2.1, 0 and -3 uS of 2 uS
    assert report.unconverged == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"target": np.zeros((1, 3))}, "target has shape (1, 3): must be (2, n_out, n)"),
        ({"target": np.zeros((2, 0, 3))}, "target has shape (2, 0, 3)"),
        ({"pulses": np.zeros((2, 1, 2), int)}, "pulses has shape (2, 1, 2): must be that of target, (2, 1, 3)"),
        ({"span_uS": 0.0}, "span_uS = 0: must be above 0 uS"),
        ({"programmed": np.full((2, 1, 3), np.nan)}, "must be finite"),
    ],
)
def test_a_report_refuses_what_does_not_fit(arguments, message):
    shape = (2, 1, 3)
    fitting = {
        "target": np.zeros(shape), "programmed": np.zeros(shape), "pulses": np.zeros(shape, int),
        "converged": np.ones(shape, bool), "span_uS": 1.0,
    }  # fmt: skip
    with pytest.raises(UsageError) as caught:
        programming_report(**{**fitting, **arguments})
    assert message in str(caught.value)


GD = GradientDescentProgramming(eta=0.5, batch=64, steps=20)


class _Holder(StrictModel):
    programming: Programming


@pytest.mark.parametrize("spec", [LawProgramming(), SingleShot(sigma_write=0.1), VERIFY, GD], ids=lambda s: s.kind)
def test_programming_specs_come_back_from_their_data(spec):
    assert _Holder(programming=spec.model_dump()).programming == spec
    assert all(field.description for name, field in type(spec).model_fields.items() if name != "kind")
    assert not spec.is_ideal
    assert SingleShot(sigma_write=0.0).is_ideal


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"kind": "program_verfy"}, 'nearest: "program_verify"'),
        ({"kind": "single_shot"}, "holder.programming.sigma_write: required, but not given"),
        ({"kind": "single_shot", "sigma_write": -0.1}, "holder.programming.sigma_write = -0.1: must be at least 0"),
        ({**VERIFY.model_dump(), "alpha": 1.5}, "alpha = 1.5: must be at most 1"),
        ({**VERIFY.model_dump(), "tolerance_uS": 0.0}, "tolerance_uS = 0.0: must be above 0 uS"),
        ({**VERIFY.model_dump(), "max_pulses": 0}, "max_pulses = 0: must be at least 1"),
        ({**GD.model_dump(), "batch": 2.5}, "batch = 2.5: must be a whole number"),
    ],
)
def test_a_wrong_programming_spec_is_refused(data, message):
    with pytest.raises(SpecError) as caught:
        _Holder(programming=data)
    assert message in str(caught.value)
