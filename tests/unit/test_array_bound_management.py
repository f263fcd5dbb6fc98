"""Bound management: vectors that saturate are read again with half their inputs."""

import numpy as np
import pytest
import torch
from torch import nn

import crossbar_sim as cs
from crossbar_sim.array.programmed import ProgrammedMatrix
from crossbar_sim.kernels import reference
from crossbar_sim.kernels.mvm import read_keys
from crossbar_sim.kernels.tries import REPEAT
from crossbar_sim.spec import ChipSpec
from device_models.errors import SpecError

IDEAL, PCM = ChipSpec.preset("ideal"), ChipSpec.preset("pcm_1m")
MANAGED = {"kind": "iterative"}
N_OUT, N_IN = 290, 96
BACKENDS = pytest.mark.parametrize("backend", ["numba", "torch"])


def _weight():
    return torch.randn(N_OUT, N_IN, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def _inputs(n=9):
    """Vectors whose numbers of large inputs differ, so that some saturate and some do not; the third is zero."""
    x = torch.randn(n, N_IN, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x *= torch.linspace(0.3, 3, n).double()[:, None].exp() ** 0.5
    x[::2, 1:] *= 0.2
    x[2:3] = 0
    return x


def _programmed(spec, **changes):
    given = {name: changes.pop(name) for name in ("adc", "dac") if name in changes}
    spec = spec.evolve(**{"tile.rows": 40, "tile.cols": 128}, **given).evolve(**changes)
    programmed = ProgrammedMatrix(_weight(), spec, 3, "fc")
    if spec.device.kind != "ideal":
        programmed.set_time(86400.0)
    return programmed


def _counts(programmed):
    matrix = programmed.matrix
    return matrix.n_inputs, matrix.n_outputs, matrix.n_saturated, matrix.n_read_again, matrix.n_repeats


class TestByHand:
    """Twelve devices at g_max, fully driven, against a bound of 4: 3 times the bound."""

    SPEC = IDEAL.evolve(dac={"bits": 8}, adc={"bits": 8, "bound": 4.0, "bound_management": MANAGED})

    def _read(self, x, backend="numba", weight=None, **changes):
        weight = torch.ones((1, 12), dtype=torch.float64) if weight is None else weight
        programmed = ProgrammedMatrix(weight, self.SPEC.evolve(**changes), 0, "fc")
        return programmed.read(x, backend=backend), programmed

    @BACKENDS
    @pytest.mark.parametrize("n", [1, 6])
    def test_three_times_the_bound_takes_two_halvings(self, backend, n):
        """Codes 127, 64 (63.5, half to even) and 32 (31.75): 12 x 32 / 127 is exactly 96 steps of 4 / 127."""
        y, programmed = self._read(torch.ones((n, 12), dtype=torch.float64), backend)
        torch.testing.assert_close(y, torch.full((n, 1), 4 * 96 * 4 / 127, dtype=torch.float64), rtol=1e-15, atol=0)
        assert _counts(programmed) == (12 * n, n, 0, n, 2 * n)

    @BACKENDS
    @pytest.mark.parametrize("n", [3, 7])
    def test_only_vectors_that_saturate_are_read_again(self, backend, n):
        x = torch.zeros((n, 12), dtype=torch.float64)
        x[:, 0] = 1.0
        x[1] = 0.5  # dynamic range: 12 fully driven devices once more
        x[2, :6] = -1.0
        y, programmed = self._read(x, backend)
        # one device is 31.75 steps; twelve and six need 4 and 2 times the range, and are 96 steps there
        expected = np.array([32, 0.5 * 4 * 96, -2 * 96, *[32] * (n - 3)]) * 4 / 127
        np.testing.assert_allclose(y[:, 0].numpy(), expected, rtol=1e-14)
        assert _counts(programmed) == (12 * n, n, 0, 2, 3)

    @BACKENDS
    def test_a_vector_that_is_no_number_is_read_once(self, backend):
        x = torch.ones((2, 12), dtype=torch.float64)
        x[1, 3] = torch.nan
        y, programmed = self._read(x, backend)
        assert y[1].isnan().all()
        assert _counts(programmed) == (24, 2, 0, 1, 2)

    @BACKENDS
    def test_at_the_limit_an_output_stays_saturated_and_is_counted(self, backend):
        x = torch.ones((5, 12), dtype=torch.float64)
        x[4, 1:] = 0
        y, programmed = self._read(x, backend, **{"adc.bound_management.max_halvings": 1})
        np.testing.assert_allclose(y[:, 0].numpy(), [*[2 * 4.0] * 4, 32 * 4 / 127], rtol=1e-14)
        assert _counts(programmed) == (60, 5, 4, 4, 4)
        programmed.matrix.reset_counts()
        assert _counts(programmed) == (0, 0, 0, 0, 0)

    @BACKENDS
    def test_a_static_range_widens_and_clips_less(self, backend):
        """Inputs of 2 at a range of 1: clipped at first, no more at a range of 4; the other vector stays clipped."""
        x = torch.zeros((5, 12), dtype=torch.float64)
        x[0], x[1, 0] = 2.0, 2.0
        y, programmed = self._read(x, backend, **{"dac.range": {"kind": "static", "value": 1.0}})
        # 12 x 2 needs a range of 8: codes rint(31.75) = 32, as above
        np.testing.assert_allclose(y[:, 0].numpy(), [8 * 96 * 4 / 127, 32 * 4 / 127, 0, 0, 0], rtol=1e-14)
        assert programmed.matrix.n_clipped == 1
        assert _counts(programmed)[2:] == (0, 1, 3)

    @BACKENDS
    def test_rows_of_tiles_have_repeats_of_their_own(self, backend):
        weight = torch.ones((1, 12), dtype=torch.float64)
        weight[0, 6:] = 0.25
        y, programmed = self._read(torch.ones((2, 12), dtype=torch.float64), backend, weight, **{"tile.rows": 6})
        # first row: 6, halved once, 6 x 64 / 127 = 96 steps; second: 1.5 is 47.625 steps
        np.testing.assert_allclose(y[:, 0].numpy(), (2 * 96 + 48) * 4 / 127, rtol=1e-14)
        assert _counts(programmed) == (24, 4, 0, 2, 2)

    @BACKENDS
    def test_all_columns_of_a_row_of_tiles_are_read_again(self, backend):
        """The second column alone would not saturate; behind the same DAC it gets the codes of half inputs, too."""
        weight = torch.ones((2, 12), dtype=torch.float64)
        weight[1, 1:] = 0
        x = torch.full((2, 12), 0.4, dtype=torch.float64)
        x[:, 0] = 1.0
        y, programmed = self._read(x, backend, weight, **{"tile.cols": 1, "encoding.scale": "tensor"})
        # codes 127 and 51: 688 / 127 is beyond 4; codes 64 and 25: 339 / 127, which are 84.75 steps, and 64 / 127: 16
        np.testing.assert_allclose(y[0].numpy(), np.array([85, 16]) * 2 * 4 / 127, rtol=1e-14)
        assert _counts(programmed) == (24, 4, 0, 2, 2)


CHIPS = {
    "pcm_1m": {},
    "output noise alone": {"read_noise": None, "adc.output_noise": 0.05},
    "static range": {"dac.range": {"kind": "static", "value": 1.5}},
    "offsets of the compensation": {"compensation": "affine"},
    "digital offset": {"encoding": "offset"},
    "reference column": {"encoding": {"kind": "offset", "correction": "column"}},
    "bit slices": {"encoding": {"kind": "bit_slice", "slices": (3, 2, 2)}},
}


class SlowReader:
    """Reads one vector on one row of tiles at a time, again and again, as the law says."""

    def __init__(self, programmed):
        self.matrix = programmed.matrix
        self.keys = read_keys(self.matrix.read_key, 0, len(self.matrix.parts))
        self.n_repeats = 0

    def read(self, x):
        y = np.zeros((len(x), N_OUT))
        for t, vector in enumerate(x.numpy()):
            for tile, (start, stop) in enumerate(self.matrix.plan.rows):
                y[t] += self.managed(t, tile, vector[start:stop])
        return y

    def managed(self, t, tile, inputs):
        ranges = self.matrix.input_range
        full_scale = abs(inputs).max() if ranges is None else float(ranges[tile])
        for repeat in range(1 + self.matrix.max_halvings):
            y, saturated = self._once(t + repeat * REPEAT, tile, inputs, full_scale * 2**repeat)
            if not saturated:
                break
        self.n_repeats += repeat
        return y

    def _once(self, number, tile, inputs, full_scale):
        matrix, y, saturated = self.matrix, np.zeros(N_OUT), False
        codes = reference.quantise(inputs, full_scale, 127) / 127
        for k, part in enumerate(matrix.parts):
            if part.row_tile == tile:
                converted, beyond = self._columns(matrix, k, codes, number, self.keys[k])
                gain, full = matrix.gain[k].numpy(), matrix.full_scale[k].numpy()
                y += full_scale * gain * converted
                if matrix.drift_offset is not None:
                    y += full_scale * full * matrix.drift_offset[k].numpy()
                y -= full_scale * full * matrix.zero * codes.sum()
                saturated |= beyond
                if matrix.reference_columns is not None:
                    own = matrix.reference_columns
                    shown, beyond = self._columns(own, k, codes, number, read_keys(own.read_key, 0, k + 1)[k])
                    widths = [stop - start for start, stop in matrix.plan.cols]
                    y -= full_scale * gain * np.repeat(shown, widths)
                    saturated |= beyond
        return y, saturated

    @staticmethod
    def _columns(matrix, k, codes, number, key):
        adc, noise = matrix.readouts[k].adc, matrix.output_noise**2
        numbers = np.array([number], np.uint32)
        z = reference.read_normals(tuple(int(word) for word in key), numbers, matrix.plan.n_out)[0]
        spread = 0.0 if matrix.variance is None else matrix.variance[k].numpy() @ codes**2
        v = matrix.effective[k].numpy() @ codes + np.sqrt(spread + noise) * z
        code = np.rint(v / adc.step)
        return np.clip(code, -adc.levels, adc.levels) * adc.step, bool((abs(code) > adc.levels).any())


@BACKENDS
@pytest.mark.parametrize("changes", CHIPS.values(), ids=CHIPS.keys())
def test_reads_are_those_of_the_law(changes, backend):
    programmed = _programmed(PCM, adc={"bound": 0.8, "bound_management": MANAGED}, **changes)
    slow = SlowReader(programmed)
    y = programmed.read(_inputs(), backend=backend).numpy()
    np.testing.assert_allclose(y, slow.read(_inputs()), rtol=0, atol=2e-5)
    n_read_again, n_repeats = _counts(programmed)[3:]
    assert n_repeats == slow.n_repeats
    assert 3 < n_read_again < n_repeats


@BACKENDS
@pytest.mark.parametrize("n", [3, 9])
@pytest.mark.parametrize("spec", [IDEAL, PCM.evolve(**{"adc.output_noise": 0.1})], ids=["ideal", "pcm_1m"])
def test_where_nothing_saturates_nothing_changes(spec, n, backend):
    converters = {"dac": {"bits": 8}, "adc": {"bound": 60.0, "output_noise": 0.1}}
    plain = _programmed(spec, **converters)
    managed = _programmed(spec.evolve(**converters), **{"adc.bound_management": MANAGED})
    for _ in range(2):
        assert torch.equal(plain.read(_inputs(n), backend=backend), managed.read(_inputs(n), backend=backend))
    assert _counts(plain) == _counts(managed)
    assert _counts(plain)[2:] == (0, 0, 0)


@BACKENDS
@pytest.mark.parametrize("n", [4, 9])
def test_vectors_that_do_not_saturate_are_what_they_were(n, backend):
    plain, managed = (_programmed(PCM, adc={"bound": 1.5, "bound_management": own}) for own in (None, MANAGED))
    x = _inputs(n)
    before, after = plain.read(x, backend=backend), managed.read(x, backend=backend)
    same = (before == after).all(dim=1)
    assert 0 < int(same.sum()) < n
    assert plain.matrix.n_saturated > 0 == managed.matrix.n_saturated
    assert same.tolist() == [count == 0 for count in np.diff([0, *_saturated_of_the_first(plain, x)])]


def _saturated_of_the_first(programmed, x):
    """Saturated outputs of the first 1, 2, ... vectors of read 0; their noise does not depend on those that follow."""
    found = []
    for n in range(1, len(x) + 1):
        programmed.matrix.reset_counts()
        programmed.matrix.reads = 0
        programmed.read(x[:n])
        found.append(programmed.matrix.n_saturated)
    return found


def test_one_and_two_threads_read_the_same():
    outputs, counts, before = [], [], torch.get_num_threads()
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            programmed = _programmed(PCM, adc={"bound": 1.5, "bound_management": MANAGED})
            outputs.append(programmed.read(_inputs(64)))
            counts.append(_counts(programmed))
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(*outputs, rtol=0, atol=1e-12)  # the sums are those of a library
    assert counts[0] == counts[1]
    assert counts[0][4] > 30


def test_every_repeat_meets_noise_of_its_own():
    """Three halvings of silent inputs: what is left is output noise, of another draw for each number of halvings."""
    outputs = []
    for halvings in (1, 2, 3):
        adc = {"bits": 16, "bound": 1.0, "output_noise": 0.01, "bound_management": {"max_halvings": halvings}}
        weight = torch.zeros((200, 24), dtype=torch.float64)
        weight[0] = 1.0  # saturates up to the fourth halving
        programmed = ProgrammedMatrix(weight, IDEAL.evolve(dac={}, adc=adc, **{"encoding.scale": "tensor"}), 0, "fc")
        y = programmed.read(torch.ones((50, 24), dtype=torch.float64))[:, 1:] / 2**halvings
        assert float(y.std()) == pytest.approx(0.01, rel=4 / (2 * y.numel()) ** 0.5)
        outputs.append(y.flatten())
    assert (torch.corrcoef(torch.stack(outputs)) - torch.eye(3)).abs().max() < 4.5 / 9950**0.5


PLAYED = {
    "stochastic rounding": {"dac.stochastic_rounding": True},
    "two phases": {"dac.phases": 2},
    "four phases": {"dac.phases": 4},
    "bits at once": {"dac.encoding": {"kind": "bit_serial", "digitised": "once"}},
    "voltages": {"dac.encoding": "amplitude", "dac.bits": None},
    "polarity": {"device.polarity": {"kind": "device", "sigma": 0.05}},
    "oscillators": {"adc.kind": "cco", "adc.correction": "random_phase"},
    "errors of the converters": {"adc.kind": "sar", "adc.sigma_cmp": 0.01, "adc.gain_sd": 0.01},
    "output stage": {"output_stage": {"s_shape": {"compression": 0.1}}},
}


@pytest.mark.parametrize("changes", PLAYED.values(), ids=PLAYED.keys())
def test_products_err_less_whatever_stands_around_the_adc(changes):
    rest = dict(changes)
    adc = {"bound": 0.6, **{name.removeprefix("adc."): rest.pop(name) for name in changes if name.startswith("adc.")}}
    x = _inputs()
    exact, errors, saturated = x @ _weight().t(), [], []
    for management in (None, MANAGED):
        programmed = _programmed(PCM, adc={**adc, "bound_management": management}, **rest)
        errors.append(float((programmed.read(x) - exact).norm() / exact.norm()))
        saturated.append(programmed.matrix.n_saturated)
    assert saturated[0] > 100
    assert saturated[1] == 0
    assert errors[1] < 0.8 * errors[0]


def test_gradients_are_those_of_the_last_try():
    spec = IDEAL.evolve(dac={}, adc={"bits": 12, "bound": 3.0, "bound_management": MANAGED})
    x, weight = _inputs().requires_grad_(), _weight().requires_grad_()
    programmed = ProgrammedMatrix(weight, spec, 0, "fc")
    programmed.read(x).sum().backward()
    assert _counts(programmed)[2] == 0 < _counts(programmed)[4]
    silent = (x == 0).all(dim=1, keepdim=True)
    torch.testing.assert_close(x.grad, torch.where(silent, 0.0, _weight().sum(dim=0)), rtol=0, atol=1e-9)
    read, slow = np.zeros(x.shape), SlowReader(programmed)
    for t, vector in enumerate(x.detach().numpy()):
        before = slow.n_repeats
        slow.managed(t, 0, vector)
        full_scale = abs(vector).max() * 2 ** (slow.n_repeats - before)
        read[t] = reference.quantise(vector, full_scale, 127) * full_scale / 127
    expected = torch.from_numpy(read.sum(axis=0)).expand_as(weight)
    torch.testing.assert_close(weight.grad, expected, rtol=0, atol=1e-9)


class TestModel:
    """Through map_model: what a user sees."""

    CHIP = PCM.evolve(**{"adc.bound": 1.5, "adc.bound_management": MANAGED})

    @staticmethod
    def _model():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 5)).eval()

    @staticmethod
    @torch.no_grad()
    def _run(mapped):
        return mapped(torch.randn((32, 64), generator=torch.Generator().manual_seed(2)))

    def test_the_summary_says_how_many_vectors_were_read_again(self):
        mapped = cs.map_model(self._model(), self.CHIP)
        assert "read again" not in str(mapped.chip.summary())
        self._run(mapped)
        summary = mapped.chip.summary()
        matrices = [programmed.matrix for programmed in mapped.chip.matrices.values()]
        assert summary.n_vectors == 2 * 32
        assert summary.n_read_again == sum(matrix.n_read_again for matrix in matrices) > 10
        assert summary.n_repeats == sum(matrix.n_repeats for matrix in matrices)
        assert summary.n_saturated == 0
        share = f"{summary.n_read_again / 64:.2g}), {1 + summary.n_repeats / 64:.2f} reads per vector"
        assert f"vectors read again by bound management: {summary.n_read_again} of 64 ({share}" in str(summary)
        plain = cs.map_model(self._model(), self.CHIP.evolve(**{"adc.bound_management": None}))
        self._run(plain)
        assert "read again" not in str(plain.chip.summary())
        assert plain.chip.summary().n_saturated > 100

    def test_it_errs_less_than_saturation(self):
        exact, errors = self._run(self._model()), []
        for management in (None, MANAGED):
            mapped = cs.map_model(self._model(), self.CHIP.evolve(**{"adc.bound_management": management}))
            errors.append(float((self._run(mapped) - exact).norm()))
        assert errors[1] < 0.7 * errors[0]

    @pytest.mark.parametrize("state", ["kept", "regenerated"])
    def test_it_comes_back_from_disk_and_reads_the_same(self, tmp_path, state):
        mapped = cs.map_model(self._model(), self.CHIP, state=state)
        loaded = cs.load_chip(mapped.chip.save(tmp_path / "chip"), self._model())
        assert loaded.chip.spec == mapped.chip.spec == self.CHIP
        assert torch.equal(self._run(loaded), self._run(mapped))

    def test_a_bound_is_found_as_if_there_were_none(self):
        data = [torch.randn((32, 64), generator=torch.Generator().manual_seed(2))]
        bounds = [
            cs.calibrate_adc_bound(cs.map_model(self._model(), chip), data, 0.01).adc.bound
            for chip in (self.CHIP, self.CHIP.evolve(**{"adc.bound_management": None}))
        ]
        assert bounds[0] == bounds[1]
        mapped = cs.map_model(self._model(), self.CHIP)
        cs.calibrate_adc_bound(mapped, data)
        assert mapped.chip.summary().n_repeats == 0


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"adc.bound_management": "shift"}, "chip.adc.bound_management.kind = 'shift': must be one of iterative"),
        ({"adc.bound_management": {"max_halvings": 0}}, "bound_management.max_halvings = 0: must be at least 1"),
        ({"adc.bound_management": {"max_halvings": 16}}, "bound_management.max_halvings = 16: must be at most 15"),
        ({"adc.bound_management": {"max_factor": 9}}, "chip.adc.bound_management.max_factor: unknown field"),
        (
            {"adc.bound_management": {}, "dac.bits": 5},
            "chip: adc.bound_management.max_halvings = 5: rounds inputs of dac.bits = 5 to zero",
        ),
        (
            {"adc.bound_management": {}, "dac.encoding": "bit_serial"},
            "chip: adc.bound_management: dac.encoding bit_serial is converted part by part",
        ),
        (
            {"adc.bound_management": {}, "dac.encoding": "split_pwm"},
            "accepted: pwm, amplitude, or bit_serial with digitised: once",
        ),
        (
            {"adc": {"kind": "asymmetric", "lower": 0.0, "bound_management": {}}},
            "chip.adc: lower = 0: outputs below it stay there",
        ),
    ],
)
def test_what_could_not_act_is_refused(changes, text):
    with pytest.raises(SpecError) as caught:
        PCM.evolve(**changes)
    assert text in str(caught.value)


def test_it_is_told_by_its_fields():
    assert PCM.evolve(**{"adc.bound_management": "iterative", "dac.bits": 6}).adc.bound_management.max_halvings == 5
    text = PCM.evolve(**{"adc.bound_management": {"max_halvings": 3}}).explain()
    assert "adc.bound_management.max_halvings" in text
