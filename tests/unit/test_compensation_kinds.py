"""Kinds of digital compensation: their fits, what they undo exactly, and what is left of real chips."""

import functools

import numpy as np
import pytest
import torch

from crossbar_sim.array.compensation import _probe_codes, fit
from crossbar_sim.array.programmed import ProgrammedMatrix
from crossbar_sim.spec import ChipSpec, GlobalDriftCompensation, TileSpec, compensation_kinds
from device_models.errors import SpecError
from device_models.pcm_1m import Pcm1M
from device_models.pcm_custom_drift import PcmCustomDrift

HOUR, DAY, YEAR = 3600.0, 86400.0, 31536000.0
KINDS = tuple(compensation_kinds())
N_IN, N_OUT = 96, 50


def _weight(dtype=torch.float64, n_out=N_OUT, n_in=N_IN):
    return torch.from_numpy(np.random.default_rng(0).normal(size=(n_out, n_in))).to(dtype)


def _vectors(n=64, n_in=N_IN):
    return torch.from_numpy(np.random.default_rng(1).normal(size=(n, n_in)))


def _programmed(weight=None, seed=0, **changes):
    spec = ChipSpec.preset("pcm_1m").evolve(tile=TileSpec(rows=48, cols=20), **changes)
    return ProgrammedMatrix(_weight() if weight is None else weight, spec, seed, "m")


def _error(programmed, x):
    exact = x @ programmed.weight.t()
    y = programmed.read(x)
    return float(((y - exact).norm(dim=1) / exact.norm(dim=1)).mean())


class TestFit:
    rng = np.random.default_rng(2)
    now = rng.normal(size=(128, 7)) * rng.uniform(0.5, 2, 7) + rng.normal(size=7)
    reference = 1.3 * now + 0.2 + 0.1 * rng.normal(size=(128, 7))

    def fitted(self, kind, n=128):
        p, q = fit(kind, torch.from_numpy(self.reference[:n]), torch.from_numpy(self.now[:n]))
        return np.broadcast_to(p.numpy(), 7), np.broadcast_to(q.numpy(), 7)

    def test_global_is_least_squares_of_all(self):
        p, q = self.fitted("global")
        expected = np.linalg.lstsq(self.now.reshape(-1, 1), self.reference.ravel(), rcond=None)[0]
        np.testing.assert_allclose(p, expected[0], rtol=1e-12)
        assert (q == 0).all()

    def test_column_is_least_squares_of_each(self):
        p, q = self.fitted("column")
        for j in range(7):
            expected = np.linalg.lstsq(self.now[:, [j]], self.reference[:, j], rcond=None)[0]
            assert p[j] == pytest.approx(expected[0], rel=1e-12)
        assert (q == 0).all()

    @pytest.mark.parametrize("n", [100, 128])
    def test_affine_is_the_regression_line_of_each(self, n):
        p, q = self.fitted("affine", n)
        for j in range(7):
            line = np.polyfit(self.now[:n, j], self.reference[:n, j], 1)
            assert (p[j], q[j]) == pytest.approx(tuple(line), rel=1e-10)

    @pytest.mark.parametrize("n", [1, 2, 10, 50])
    def test_few_vectors_shrink_the_slopes_towards_the_factor_of_the_tile(self, n):
        p, q = self.fitted("affine", n)
        whole = self.fitted("global", n)[0][0]
        for j in range(7):
            own = np.polyfit(self.now[:n, j], self.reference[:n, j], 1)[0] if n > 1 else whole
            assert p[j] == pytest.approx(whole + n / 100 * (own - whole), rel=1e-10)
        np.testing.assert_allclose(q, self.reference[:n].mean(0) - p * self.now[:n].mean(0), rtol=0, atol=1e-12)

    @pytest.mark.parametrize("kind", KINDS)
    def test_silent_outputs(self, kind):
        zero = torch.zeros((128, 3), dtype=torch.float64)
        p, q = fit(kind, zero, zero)
        assert (p == 1).all()
        assert (q == 0).all()

    def test_column_that_never_varies(self):
        now, reference = torch.from_numpy(self.now.copy()), torch.from_numpy(self.reference)
        now[:, 2] = 0.5
        p, q = fit("affine", reference, now)
        whole = fit("global", reference, now)[0]
        assert float(p[2]) == float(whole)
        assert float(q[2]) == pytest.approx(float(reference[:, 2].mean() - whole * 0.5), rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("reference", ["measured", "exact"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_common_drift_is_undone_exactly(kind, reference, dtype):
    """All exponents 0.05 for a day: ((86400 + 20) / 20)^0.05 for every output."""
    device = PcmCustomDrift(nu_mean_at=(0.05, 0.05, 0.05), program_scale=0.0, read_scale=0.0)
    programmed = _programmed(
        _weight(dtype), device=device, dac=None, adc=None, compensation={"kind": kind, "reference": reference}
    )
    programmed.set_time(DAY)
    matrix = programmed.matrix
    np.testing.assert_allclose(matrix.drift_factor.double(), 1.519774710, rtol=1e-6)
    assert (matrix.drift_offset is not None) == (kind == "affine")
    if matrix.drift_offset is not None:
        assert float(matrix.drift_offset.abs().max()) < 1e-6
    x = _vectors()
    exact = x @ _weight(dtype).double().t()
    torch.testing.assert_close(
        programmed.read(x.to(dtype)).double(), exact, rtol=0, atol=1e-5 * float(exact.abs().max())
    )


@functools.cache
def _residual(kind, t_s, probe_vectors, chips=range(8)):
    """Mean error over chips as in tests/oracles/test_array_mvm_oracles.py, against the exact product."""
    errors = []
    for seed in chips:
        rng = np.random.default_rng(seed)
        weights, x = rng.uniform(-1, 1, (256, 256)), rng.uniform(-1, 1, (200, 256))
        weights[rng.random(weights.shape) < 0.3] = 0
        x[rng.random(x.shape) < 0.5] = 0
        spec = ChipSpec(
            device=Pcm1M(noise_at="programmed"),
            tile=TileSpec(rows=None, cols=None),
            encoding={"scale": "tensor"},
            dac=None,
            adc=None,
            read_noise="frozen",
            compensation={"kind": kind, "reference": "exact", "probe_vectors": probe_vectors},
        )
        programmed = ProgrammedMatrix(torch.from_numpy(weights), spec, seed, "m")
        programmed.set_time(t_s)
        errors.append(_error(programmed, torch.from_numpy(x)))
    return float(np.mean(errors))


@pytest.mark.parametrize(("t_s", "error"), [(HOUR, 0.0947), (DAY, 0.1107), (YEAR, 0.1482)])
def test_what_least_squares_leaves_of_drift(t_s, error):
    """Its uncertainty is quoted as 0.0006, which also covers the 0.0001 of the mean over eight chips."""
    assert _residual("global", t_s, 1024) == pytest.approx(error, abs=6e-4)


@pytest.mark.parametrize("t_s", [HOUR, DAY, YEAR])
def test_one_factor_needs_few_vectors(t_s):
    """A factor that is off by a part e of 0.3 % makes an error r of 0.1 into sqrt(r^2 + e^2), which is r + 5e-5."""
    few = GlobalDriftCompensation().probe_vectors
    assert _residual("global", t_s, few) == pytest.approx(_residual("global", t_s, 1024), abs=2e-4)


@pytest.mark.parametrize("kind", ["column", "affine"])
def test_columns_of_their_own_leave_less_where_enough_vectors_tell(kind):
    # over 4096 vectors a factor is known to 0.15 / 64 = 0.2 %, which adds 2e-5 to an error of 0.15
    assert _residual(kind, YEAR, 4096, range(3)) < _residual("global", YEAR, 4096, range(3))


class TestErrorsOfTheAdc:
    """Gain and offset of each converter are no drift: only a reference without errors shows them."""

    ADC = {"kind": "uniform", "bits": 10, "bound": 10.0}  # noqa: RUF012
    WRONG = ADC | {"gain_sd": 0.05, "offset_sd_lsb": 6.0}

    def error(self, adc, compensation, **changes):
        programmed = _programmed(
            device={"kind": "pcm_1m", "read_scale": 0.0}, adc=adc, compensation=compensation, **changes
        )
        return _error(programmed, _vectors())

    def test_affine_leaves_what_a_chip_without_them_leaves(self):
        with_errors = self.error(self.WRONG, None)
        exact = {"reference": "exact", "probe_vectors": 1024}
        left = {kind: self.error(self.WRONG, {"kind": kind, **exact}) for kind in KINDS}
        without = self.error(self.ADC, {"kind": "affine", **exact})
        assert left["global"] > left["column"] > 1.3 * left["affine"]
        assert with_errors > 1.5 * without
        assert left["affine"] == pytest.approx(without, rel=0.01)

    def test_a_measured_reference_has_them_as_well(self):
        programmed = _programmed(adc=self.WRONG, compensation={"kind": "affine"})
        programmed.set_time(0.0)
        np.testing.assert_allclose(programmed.matrix.drift_factor, 1, rtol=0, atol=1e-12)
        assert float(programmed.matrix.drift_offset.abs().max()) < 1e-12

    @pytest.mark.parametrize("phases", [1, 2, 4])
    @pytest.mark.parametrize("encoding", ["pwm", "bit_serial", "split_pwm"])
    def test_every_conversion_of_an_input_is_corrected(self, encoding, phases):
        """Ideal devices behind the converters of `WRONG`; what is left is their rounding."""
        dac = {"bits": 8, "encoding": encoding, "phases": phases}
        exact = {"kind": "affine", "reference": "exact", "probe_vectors": 1024}
        x = _vectors()
        chips = [
            _programmed(device="ideal", dac=dac, adc=adc, compensation=chosen)
            for adc, chosen in ((self.WRONG, None), (self.WRONG, exact), (self.ADC, None))
        ]
        as_it_is, corrected, without = (_error(chip, x) for chip in chips)
        assert corrected < 1.15 * without
        assert as_it_is > 3 * corrected

    @pytest.mark.parametrize("n_vectors", [2, 16])
    def test_offsets_follow_the_full_scale_of_each_vector(self, n_vectors):
        programmed = _programmed(device="ideal", adc=self.WRONG, compensation={"kind": "affine", "reference": "exact"})
        assert float(programmed.matrix.drift_offset.abs().max()) > 0.02
        x = _vectors(n_vectors)
        scale = torch.logspace(-3, 3, n_vectors, 2, dtype=torch.float64)[:, None]
        torch.testing.assert_close(programmed.read(x * scale), programmed.read(x) * scale, rtol=1e-12, atol=1e-12)
        assert (programmed.read(torch.zeros_like(x)) == 0).all()


@pytest.mark.parametrize("n_vectors", [3, 40])
def test_both_backends_add_the_same_offsets(n_vectors):
    programmed = _programmed(read_noise="frozen", compensation={"kind": "affine", "reference": "exact"})
    programmed.set_time(YEAR)
    assert float(programmed.matrix.drift_offset.abs().max()) > 1e-3
    x, bias = _vectors(n_vectors), torch.linspace(-1, 1, N_OUT, dtype=torch.float64)
    torch.testing.assert_close(
        programmed.read(x, bias, "torch"), programmed.read(x, bias, "numba"), rtol=1e-10, atol=1e-10
    )


@pytest.mark.parametrize("encoding", [{"kind": "offset"}, {"kind": "bit_slice", "bits": 5, "slices": (2, 2)}])
@pytest.mark.parametrize("kind", KINDS)
def test_an_exact_reference_knows_the_encoding(kind, encoding):
    """Ideal devices and converters answer as it says: nothing is corrected."""
    programmed = _programmed(
        device="ideal", encoding=encoding, adc=None, compensation={"kind": kind, "reference": "exact"}
    )
    np.testing.assert_allclose(programmed.matrix.drift_factor, 1, rtol=0, atol=1e-12)


class TestProbeAmplitude:
    """Normal weights on 512 rows: full inputs of random signs would saturate 15 % of the outputs at a bound of 10."""

    @staticmethod
    def factors(amplitude, t_s, reference="measured", **changes):
        """The factor found, and that of least squares over all devices."""
        compensation = {"probe_amplitude": amplitude, "reference": reference}
        spec = ChipSpec.preset("pcm_1m").evolve(read_noise="frozen", compensation=compensation, **changes)
        weight = _weight(torch.float32, 96, 512)
        programmed = ProgrammedMatrix(weight, spec, 0, "m")
        matrix = programmed.matrix
        before = (
            matrix.effective[0].double() if reference == "measured" else (weight / matrix.w_max[0][:, None]).double()
        )
        before = before.clone()
        programmed.set_time(t_s)
        now = matrix.effective[0].double()
        return float(matrix.drift_factor[0, 0]), float((before * now).sum() / now.square().sum())

    def test_saturated_outputs_hide_the_drift(self):
        found, true = self.factors(1.0, YEAR)
        assert found < 0.9 * true

    def test_half_of_the_range_shows_it(self):
        found, true = self.factors(0.5, YEAR)
        assert found == pytest.approx(true, rel=0.015)

    def test_against_an_exact_reference_saturation_passes_for_a_loss(self):
        (full, true), (half, _) = (self.factors(a, 0.0, "exact") for a in (1.0, 0.5))
        assert full > 1.05 * true
        assert half == pytest.approx(true, rel=0.015)

    @pytest.mark.parametrize(("bits", "amplitude", "code"), [(8, 0.5, 64), (8, 1.0, 127), (8, 1e-9, 1), (2, 0.5, 1)])
    def test_it_is_played_as_a_code_of_the_dac_that_is_not_zero(self, bits, amplitude, code):
        options = {"kind": "global", "probe_amplitude": amplitude, "probe_vectors": 3}
        programmed = _programmed(adc=None, dac={"bits": bits}, compensation=options)
        codes = _probe_codes(programmed.matrix, programmed.compensation)
        assert codes.shape == (3, N_IN)
        np.testing.assert_allclose(codes.abs().numpy(), code, rtol=1e-15)
        assert 0.3 < float((codes > 0).double().mean()) < 0.7

    def test_an_input_without_steps_takes_it_as_it_is(self):
        programmed = _programmed(dac=None, adc=None, compensation={"probe_amplitude": 0.3})
        assert set(_probe_codes(programmed.matrix, programmed.compensation).unique().tolist()) == {-0.3, 0.3}


def test_numbers_of_vectors():
    kinds = compensation_kinds()
    assert {kind: kinds[kind]().probe_vectors for kind in kinds} == {"global": 32, "column": 64, "affine": 256}


@pytest.mark.parametrize(
    ("compensation", "text"),
    [
        ({"kind": "local"}, "chip.compensation.kind = 'local': must be one of global, column, affine"),
        ({"kind": "column", "reference": "ideal"}, "chip.compensation.reference = 'ideal': must be"),
        ({"kind": "affine", "probe_vectors": 0}, "chip.compensation.probe_vectors = 0: must be at least 1"),
        ({"probe_amplitude": 0.0}, "chip.compensation.probe_amplitude = 0.0: must be above 0"),
        ({"probe_amplitude": 1.5}, "chip.compensation.probe_amplitude = 1.5: must be at most 1"),
    ],
)
def test_refused(compensation, text):
    with pytest.raises(SpecError) as error:
        ChipSpec.preset("pcm_1m").evolve(compensation=compensation)
    assert str(error.value).startswith(text)
