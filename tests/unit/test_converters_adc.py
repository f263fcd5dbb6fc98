"""ADC kernels against the readable laws, and what must hold of every kind."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit, prange

from crossbar_sim.converters import laws, reference
from crossbar_sim.converters.adc import convert, convert_columns
from crossbar_sim.converters.cdac import ramp_levels
from crossbar_sim.converters.draws import normals
from crossbar_sim.converters.states import adc_state, uses_dither
from crossbar_sim.converters.static_errors import distort_columns, static_errors, transition_levels
from crossbar_sim.kernels.random import fill_uniforms, random_key
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
from device_models.errors import UsageError

IDEAL = {
    "uniform": UniformAdcSpec(),
    "asymmetric": AsymmetricAdcSpec(),
    "midrise": MidriseAdcSpec(),
    "cco": CcoAdcSpec(),
    "cco_half_lsb": CcoAdcSpec(correction="half_lsb"),
    "ramp": RampAdcSpec(gain_db=None),
    "sar": SarAdcSpec(gain_db=None),
    "split_sar": SarAdcSpec(gain_db=None, split_cdac=True),
    "pipeline": PipelineAdcSpec(gain_db=None),
    "cyclic": CyclicAdcSpec(gain_db=None),
}
DITHERED = {
    "stochastic": UniformAdcSpec(stochastic_rounding=True),
    "dithered_cco": CcoAdcSpec(correction="random_phase"),
}
CIRCUIT = {"sigma_cap": 0.05, "sigma_cmp": 0.02, "gain_db": 40.0}
WRONG = {
    "ramp": RampAdcSpec(**CIRCUIT, cdac_columns=100),
    "sar": SarAdcSpec(**CIRCUIT),
    "split_sar": SarAdcSpec(**CIRCUIT, split_cdac=True),
    "pipeline": PipelineAdcSpec(**CIRCUIT, parasitic_cap=0.1),
    "cyclic": CyclicAdcSpec(**CIRCUIT),
}
ALL = {**IDEAL, **DITHERED, **{f"wrong_{name}": spec for name, spec in WRONG.items()}}
STATIC = {"gain_sd": 0.02, "offset_sd_lsb": 0.7, "inl_cubic": -0.03, "dnl_lsb": 0.2}
N = 203
FIRST = 19


def _outputs(dtype, n=N, n_vectors=60):
    return np.random.default_rng(0).normal(0, 4.5, (n_vectors, n)).astype(dtype)


def _uniforms(v, dtype=np.float32):
    return np.random.default_rng(1).uniform(0, 1, v.shape).astype(dtype)


def _run(spec, v, *, errors=False, first_col=0, n_cols=None, seed=3):
    """Converted v, and the number of saturated outputs."""
    n_cols = n_cols or first_col + v.shape[1]
    out = v.copy()
    state = adc_state(spec, seed, "layer", 1, n_cols, v.dtype)
    distortion = static_errors(spec, seed, "layer", 1, n_cols, v.dtype) if errors else None
    return out, convert(state, out, _uniforms(v) if uses_dither(state) else None, first_col, distortion)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ALL)
def test_every_kernel_equals_its_law(name, dtype):
    spec, v = ALL[name], _outputs(dtype)
    state = adc_state(spec, 3, "layer", 1, FIRST + N, dtype)
    found, _ = _run(spec, v, first_col=FIRST)
    for t in range(len(v)):
        dither = _uniforms(v)[t] if uses_dither(state) else None
        expected = reference.convert(state, v[t], dither, FIRST)
        # a fused multiply-add may round a residue of the stages to the other side of a threshold
        same = np.isclose(found[t], expected, rtol=3e-7, atol=1e-6)
        assert same.mean() >= (0.99 if "Staged" in type(state).__name__ and dtype == np.float32 else 1.0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", IDEAL)
def test_static_errors_of_every_kind_equal_the_law(name, dtype):
    spec = IDEAL[name].evolve(**STATIC, group_size=3)
    v = _outputs(dtype)
    found, _ = _run(spec, v, errors=True, first_col=FIRST)
    state = adc_state(spec, 3, "layer", 1, FIRST + N, dtype)
    errors = static_errors(spec, 3, "layer", 1, FIRST + N, dtype)
    expected = np.array([reference.convert(state, reference.distort(errors, row, FIRST), None, FIRST) for row in v])
    step, _ = transition_levels(spec)
    assert np.isclose(found, expected, rtol=1e-6, atol=1e-6).mean() > 0.998  # a normal differs in its last bits
    np.testing.assert_allclose(found, expected, rtol=0, atol=1.001 * step)


def test_uniform_kind_is_the_plain_formula_bit_for_bit():
    v = np.concatenate([_outputs(np.float32).ravel(), np.float32(10 / 127) * (np.arange(-300, 300) / 2)])[None]
    v = v.astype(np.float32)
    step = np.float32(10 / 127)
    np.testing.assert_array_equal(_run(UniformAdcSpec(), v)[0], np.clip(np.rint(v / step), -127, 127) * step)


@pytest.mark.parametrize("name", ["ramp", "sar", "split_sar", "pipeline", "cyclic"])
def test_circuits_without_errors_are_the_ideal_midrise_converter(name):
    v = _outputs(np.float64)
    midrise = _run(MidriseAdcSpec(), v)[0]
    np.testing.assert_array_equal(_run(IDEAL[name], v)[0], midrise)
    off = IDEAL[name].evolve(group_size=5)
    np.testing.assert_array_equal(_run(off, v)[0], midrise)
    assert (_run(WRONG[name if name != "split_sar" else "sar"], v)[0] != midrise).any()


def test_without_static_errors_there_is_no_state_of_them():
    assert all(static_errors(spec, 0, "layer", 0, 5) is None for spec in ALL.values())


@pytest.mark.parametrize(
    ("spec", "inputs", "expected"),
    [
        (UniformAdcSpec(bits=3, bound=3.0), [3.49, 3.51, -3.51, 2.9, 3.5], 3),  # 3.5 rounds to 4, half to even
        (AsymmetricAdcSpec(bits=2, bound=3.0, lower=0.0), [-0.49, -0.51, 3.49, 3.51, 1.0], 2),
        (MidriseAdcSpec(bits=3, bound=4.0), [4.0, 4.01, -4.01, 3.9, -4.0], 2),
        (CcoAdcSpec(bits=3, bound=3.0), [3.99, 4.0, -4.5, 3.0, -3.99], 2),
        (RampAdcSpec(bits=3, bound=4.0), [4.0, 4.01, -4.01, 3.9, -4.0], 2),
        (SarAdcSpec(bits=3, bound=4.0), [4.0, 4.01, -4.01, 3.9, -4.0], 2),
        (PipelineAdcSpec(bits=3, bound=4.0), [4.0, 4.01, -4.01, 3.9, -4.0], 2),
    ],
)
def test_saturated_outputs_are_counted(spec, inputs, expected):
    assert _run(spec, np.array([inputs, inputs]))[1] == 2 * expected


@pytest.mark.parametrize("name", ALL)
def test_far_outputs_give_the_outermost_levels_and_nan_stays(name):
    v = np.array([[1e30, -1e30, np.inf, -np.inf, np.nan, 0.5]], np.float32)
    found, saturated = _run(ALL[name], v)
    assert saturated == 4
    assert np.isnan(found[0]).tolist() == [False, False, False, False, True, False]
    step, _ = transition_levels(ALL[name])
    np.testing.assert_allclose(
        abs(found[0, :4]), 10, atol=2.0 if name in ("wrong_pipeline", "wrong_cyclic") else 0.51 * step
    )
    assert (np.sign(found[0, :4]) == [1, -1, 1, -1]).all()


def test_nan_stays_behind_static_errors():
    v = np.array([[np.nan, np.inf, -np.inf, 1e30]], np.float32)
    found, _ = _run(UniformAdcSpec(**STATIC), v, errors=True)
    np.testing.assert_array_equal(found, [[np.nan, 10, -10, 10]])


RAMP_OF_VALUES = np.linspace(-11, 11, 20_011)


@pytest.mark.parametrize("name", IDEAL)
def test_ideal_kinds_rise_and_stay_within_a_step(name):
    found = _run(IDEAL[name], RAMP_OF_VALUES[None])[0][0]
    step, _ = transition_levels(IDEAL[name])
    assert (np.diff(found) >= 0).all()
    inside = abs(RAMP_OF_VALUES) < 10
    assert abs(found - RAMP_OF_VALUES)[inside].max() <= step * (1.0 if name.startswith("cco") else 0.5) * (1 + 1e-9)
    assert len(np.unique(found)) == 256 - (name in ("uniform", "cco", "cco_half_lsb"))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", [name for name in IDEAL if name != "cco"])  # a count of whole periods may fall short
def test_converting_twice_changes_nothing(name, dtype):
    once = _run(IDEAL[name], _outputs(dtype))[0]
    np.testing.assert_array_equal(_run(IDEAL[name], once)[0], once)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(sorted(IDEAL)),
    st.integers(2, 16),
    st.floats(1e-3, 1e3),
    st.lists(st.floats(-2, 2), min_size=2, max_size=20),
)
def test_any_resolution_and_bound_gives_rising_codes_within_the_bound(name, bits, bound, values):
    v = bound * np.sort(np.array([values]))
    found = _run(IDEAL[name].evolve(bits=bits, bound=bound), v)[0][0]
    step, _ = transition_levels(IDEAL[name].evolve(bits=bits, bound=bound))
    assert (np.diff(found) >= 0).all()
    assert abs(found).max() <= bound * (1 + 1e-12) + (0.5 * step if name == "cco_half_lsb" else 0)


@settings(max_examples=30, deadline=None)
@given(st.floats(-9.5, 9.5))
def test_dithered_kinds_are_unbiased(value):
    u = ((np.arange(4096) + 0.5) / 4096)[None]  # every 4096th of the range once: exact up to one part
    for spec in DITHERED.values():
        out = np.full(u.shape, value)
        convert(adc_state(spec, 0, "layer", 0, 4096, np.float64), out, u)
        step, _ = transition_levels(spec)
        fraction = abs(value) / step % 1
        assert out.mean() == pytest.approx(value, abs=step / 4096)
        assert out.var() == pytest.approx(fraction * (1 - fraction) * step**2, abs=2 * step**2 / 4096)


def test_random_dither_is_unbiased_within_its_standard_error():
    n, value = 400_000, 0.3 * 10 / 127
    key = random_key(0, "dither")
    u = np.empty((2, n // 2), np.float32)
    fill_uniforms(key[0], key[1], np.uint32(0), np.uint32(0), u[0], u[1])
    assert u.min() >= 0
    assert u.max() < 1
    assert abs(u.mean() - 0.5) < 4 / np.sqrt(12 * n)
    out = np.full((1, n), value, np.float32)
    convert(adc_state(DITHERED["stochastic"], 0, "layer", 0, n), out, u.reshape(1, -1))
    step = 10 / 127
    assert abs(out.mean(dtype=float) - value) < 4 * step * np.sqrt(0.21 / n)
    assert out.var(dtype=float) / step**2 == pytest.approx(0.21, abs=4 * 0.4 * np.sqrt(0.21 / n))


@pytest.mark.parametrize("name", [*WRONG, "static"])
def test_a_column_keeps_its_converter_whatever_else_there_is(name):
    spec = WRONG[name] if name in WRONG else UniformAdcSpec(**STATIC, group_size=2)
    v = _outputs(np.float32, n=96)
    whole, _ = _run(spec, v, errors=True, n_cols=400)
    part, _ = _run(spec, v[:, 33:50].copy(), errors=True, first_col=33, n_cols=96)
    np.testing.assert_array_equal(part, whole[:, 33:50])
    assert (_run(spec, v, errors=True, n_cols=400, seed=4)[0] != whole).any()


@pytest.mark.parametrize("name", ["sar", "pipeline"])
def test_columns_of_a_group_share_their_errors(name):
    v = np.tile(np.linspace(-9, 9, 4000)[:, None], (1, 24))
    found = _run(WRONG[name], v)[0]
    groups = found.reshape(len(v), 3, 8)
    assert (groups == groups[:, :, :1]).all()
    assert (groups[:, 0] != groups[:, 1]).any()


def test_cyclic_stages_are_one_stage_and_pipeline_stages_are_not():
    cyclic, pipeline = (adc_state(WRONG[name], 0, "layer", 0, 16) for name in ("cyclic", "pipeline"))
    for table in ("upper", "lower", "slope", "jump"):
        assert (getattr(cyclic, table) == getattr(cyclic, table)[0]).all()
        assert (getattr(pipeline, table)[1] != getattr(pipeline, table)[0]).any()


def test_a_ramp_with_wrong_capacitors_gives_the_nearest_level():
    spec = RampAdcSpec(bits=12, sigma_cap=0.2, sigma_cmp=0.05, gain_db=30.0)
    n = 300
    v = np.random.default_rng(2).uniform(-11, 11, (40, n))
    levels = 10 * ramp_levels(12, 0.2, normals(3, "layer", "adc_cap", 1, 13, 1).T.astype(float), 10**1.5)[0]
    assert (np.diff(levels) < 0).any()  # not even in order
    offset = 0.05 * 10 * normals(3, "layer", "adc_cmp", 1, 1, n)[0].astype(float)
    expected = np.array([laws.nearest_level(row, 10.0, levels, offset) for row in v])
    np.testing.assert_array_equal(_run(spec, v)[0], expected)


def test_comparator_offsets_have_the_given_spread():
    state = adc_state(RampAdcSpec(sigma_cmp=0.1, bound=5.0), 0, "layer", 0, 40_000)
    assert state.offset.std(dtype=float) == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(80_000))
    assert abs(state.offset.mean(dtype=float)) < 4 * 0.5 / 200


def test_gain_and_offset_have_the_given_spread():
    errors = static_errors(UniformAdcSpec(gain_sd=0.02, offset_sd_lsb=0.5), 0, "layer", 0, 40_000)
    for values, sd in ((errors.gain - 1, 0.02), (errors.offset, 0.5 * 10 / 127)):
        assert values.std(dtype=float) == pytest.approx(sd, abs=4 * sd / np.sqrt(80_000))
        assert abs(values.mean(dtype=float)) < 4 * sd / 200
    assert abs(np.corrcoef(errors.gain, errors.offset)[0, 1]) < 4 / 200


def test_cubic_bends_to_the_given_error_at_the_bound_and_no_further():
    spec = UniformAdcSpec(bits=16, inl_cubic=0.02)
    found = _run(spec, np.array([[-9.0, -5.0, 0.0, 5.0, 9.8]]), errors=True)[0][0]
    x = np.array([-0.9, -0.5, 0, 0.5, 0.98])
    np.testing.assert_allclose(found, 10 * np.clip(x + 0.02 * x**3, -1, 1), atol=2e-4)


@pytest.mark.parametrize(
    "spec", [UniformAdcSpec(bits=5), MidriseAdcSpec(bits=5), CcoAdcSpec(bits=5), AsymmetricAdcSpec(bits=5, lower=-4.0)]
)
def test_transition_levels_are_displaced_with_the_given_spread(spec):
    spec, n = spec.evolve(dnl_lsb=0.1), 2000
    step, origin = transition_levels(spec)
    v = np.tile((origin + step * np.arange(-0.5, 4.5, 0.002))[:, None], (1, n)).astype(np.float32)
    found = _run(spec, v, errors=True)[0]
    assert (np.diff(found, axis=0) >= 0).all()
    # the number of samples below the next level tells where the transition lies
    levels = np.unique(found)[1:5]
    place = np.stack([(found < level - step / 4).sum(axis=0) * 0.002 for level in levels]) - 0.5
    first = 1 if isinstance(spec, CcoAdcSpec) else 0  # the oscillator has no transition at zero
    shift = place - np.arange(first, first + len(levels))[:, None]
    s_e = 0.1 / np.sqrt(n)
    assert abs(shift.mean(axis=1)).max() < 4 * s_e + 0.002
    assert abs(shift.std(axis=1) - 0.1).max() < 4 * s_e / np.sqrt(2) + 0.001
    assert abs(np.corrcoef(shift) - np.eye(len(shift))).max() < 4 / np.sqrt(n)


def test_kernels_can_be_called_inside_parallel_loops():
    @njit(parallel=True)
    def read(adc, errors, v):
        saturated = 0
        for t in prange(v.shape[0]):
            distort_columns(errors, v[t], 0)
            saturated += convert_columns(adc, v[t], v[t, :0], 0)
        return saturated

    spec = SarAdcSpec(**CIRCUIT, **STATIC)
    v = _outputs(np.float32)
    expected, n = _run(spec, v, errors=True)
    state, errors = (make(spec, 3, "layer", 1, N) for make in (adc_state, static_errors))
    assert read(state, errors, v) == n
    np.testing.assert_array_equal(v, expected)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: adc_state(UniformAdcSpec(), 0, "a", 0, 0), "n_cols = 0: must be at least 1"),
        (lambda: adc_state(UniformAdcSpec(), 0, "a", 0, 1, np.float16), "dtype = float16: must be float32 or float64"),
        (
            lambda: convert(adc_state(DITHERED["stochastic"], 0, "a", 0, 2), np.zeros((1, 2))),
            "dither: StochasticAdc needs uniforms of shape (1, 2)",
        ),
        (
            lambda: convert(adc_state(SarAdcSpec(), 0, "a", 0, 2), np.zeros((1, 2))),
            "v: is float64; the ADC was made for float32",
        ),
        (lambda: laws.quantise_symmetric([np.nan, 1.0], 1.0, 8), "x: has 1 NaN of 2 values; must be numbers"),
        (lambda: laws.quantise_symmetric([1.0], 0.0, 8), "full scale = 0.0: must be a finite number above 0"),
        (lambda: laws.quantise_symmetric([1.0], 1.0, 1), "bits = 1: must be 2 to 16"),
        (lambda: laws.quantise_asymmetric([1.0], 2.0, 1.0, 8), "lower = 2.0: must be below upper = 1.0"),
    ],
)
def test_what_cannot_be_converted_is_refused(call, message):
    with pytest.raises(UsageError) as caught:
        call()
    assert str(caught.value) == message
