"""The fidelity report: the circuit tier against fast reads, its numbers against ones computed by hand."""

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

import crossbar_sim as cs
from crossbar_sim.array.programmed import ProgrammedMatrix
from crossbar_sim.circuit.effective import effective_conductance
from crossbar_sim.spec import ChipSpec, WiresSpec
from crossbar_sim.study.circuit_read import CircuitRead
from device_models.effects import CubicIV, DeviceAsymmetry, GlobalAsymmetry, ScatteredIV, SinhIV
from device_models.errors import UsageError

N_OUT, N_IN, T, READS = 7, 20, 6, 3
RNG = np.random.default_rng(0)
WEIGHTS, X = RNG.standard_normal((N_OUT, N_IN)), RNG.standard_normal((T, N_IN))
X[2] = 0.0
PCM = ChipSpec.preset("pcm_1m").evolve(tile={"rows": 12, "cols": 4})
PLAIN = PCM.evolve(dac=None, adc=None, read_noise="frozen", compensation=None)
WIRES = {"r_wl_ohm": 30.0, "r_bl_ohm": 50.0, "r_driver_ohm": 200.0}
EXACT = WiresSpec(model="exact", **WIRES)
OFFSET = {"kind": "offset", "correction": "column"}


def _rows(report, tier, versus):
    return report.frame[(report.frame["tier"] == tier) & (report.frame["versus"] == versus)]


SCATTERED = ScatteredIV(
    n2_coefficients=(1e-6,), n3_coefficients=(-1e-6,), k2_log_sigma=(-1.0,), k3_log_sigma=(-1.0,), lean12_V=0.1,
    lean13_V2=0.02, lean23_V=0.3, tail_nu=5.0, g_low_uS=1.0,
)  # fmt: skip
CHIPS = {
    "exact inputs and outputs": PLAIN,
    "bare preset": PCM,
    "wires": PCM.evolve(wires=EXACT),
    "transistors, both ends": PCM.evolve(wires=EXACT.evolve(r_transistor_ohm=2000.0, two_sided=True)),
    "interleaved": PCM.evolve(wires=EXACT.evolve(interleaved=True)),
    "interleaved, significance": PCM.evolve(
        wires=EXACT.evolve(interleaved=True),
        encoding={"devices": 2, "fill": "significance", "significance": (1.0, 4.0)},
    ),
    "offset": PCM.evolve(wires=EXACT, encoding="offset"),
    "reference column": PCM.evolve(wires=EXACT, encoding=OFFSET),
    "bit slices": PCM.evolve(wires=EXACT, encoding="bit_slice"),
    "two phases": PCM.evolve(wires=EXACT, **{"dac.phases": 2}),
    "four phases, split pulses": PCM.evolve(wires=EXACT, **{"dac.phases": 4, "dac.encoding": "split_pwm"}),
    "bits one by one": PCM.evolve(wires=EXACT, **{"dac.encoding": "bit_serial"}),
    "bits at once": PCM.evolve(wires=EXACT, **{"dac.encoding": {"kind": "bit_serial", "digitised": "once"}}),
    "random rounding": PCM.evolve(wires=EXACT, **{"dac.stochastic_rounding": True}),
    "static range": PCM.evolve(**{"dac.range": {"kind": "static", "value": 1.5}}),
    "offsets of the compensation": PCM.evolve(wires=EXACT, compensation={"kind": "affine"}),
    "bound management": PCM.evolve(wires=EXACT, adc={"bound": 1.0, "bound_management": {}}),
    "bound management, reference column": PCM.evolve(encoding=OFFSET, adc={"bound": 2.0, "bound_management": {}}),
    "ramps": PCM.evolve(adc={"kind": "ramp", "bits": 6, "bound": 8.0, "sigma_cap": 0.05, "output_noise": 0.02}),
    "polarity": PCM.evolve(**{"device.polarity": DeviceAsymmetry(sigma=0.1)}),
    "cubic": PCM.evolve(**{"dac.encoding": "amplitude"}).evolve(**{"device.iv": CubicIV(k3_per_V2=2.0)}),
    "sinh": PCM.evolve(**{"dac.encoding": "amplitude"}).evolve(**{"device.iv": SinhIV(v0_V=0.2)}),
    "currents that differ": PCM.evolve(**{"dac.encoding": "amplitude"}).evolve(
        **{"device.iv": SCATTERED, "device.g_min_uS": 1.0}
    ),
}


@pytest.mark.parametrize("spec", CHIPS.values(), ids=CHIPS.keys())
def test_a_chip_read_as_circuits_is_the_fast_read_where_wires_are_exact(spec):
    weight = torch.from_numpy(WEIGHTS)
    programmed = ProgrammedMatrix(weight, spec, 3, "fc")
    programmed.set_time(3600.0)
    circuits = CircuitRead(programmed.matrix, weight)
    for number in range(2):
        fast = programmed.read(torch.from_numpy(X)).numpy()
        np.testing.assert_allclose(circuits.read(X, number), fast, rtol=0, atol=1e-9)
        assert np.abs(fast).max() > 1
    assert np.array_equal(circuits.read(X, 1), circuits.read(X, 1))


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_inputs_of_one_sign_meet_one_polarity_in_resistive_wires(sign):
    """Then the array is linear and its effective matrix exact, if no bit line rises above a weak input."""
    spec = PLAIN.evolve(wires=EXACT, **{"device.polarity": GlobalAsymmetry(a_in=0.3)})
    weight, x = torch.from_numpy(WEIGHTS), sign * (1 + np.abs(X))
    programmed = ProgrammedMatrix(weight, spec, 3, "fc")
    found = CircuitRead(programmed.matrix, weight).read(x, 0)
    np.testing.assert_allclose(found, programmed.read(torch.from_numpy(x)).numpy(), rtol=0, atol=1e-9)
    plain = ProgrammedMatrix(weight, PLAIN.evolve(wires=EXACT), 3, "fc").read(torch.from_numpy(x)).numpy()
    assert (np.abs(found - plain).max() < 1e-9) == (sign > 0)


@pytest.mark.parametrize("spec", [PLAIN, PLAIN.evolve(wires=EXACT)], ids=["ideal wires", "exact model"])
def test_tile_is_nodal_where_nothing_is_approximated(spec):
    report = cs.fidelity_report(spec, WEIGHTS, X, t="1h", reads=2)
    same = _rows(report, "tile", "nodal")
    assert list(same["column"]) == list(range(N_OUT))
    assert same[["mean", "sd", "sd_inputs", "sd_reads", "relative"]].abs().max().max() < 1e-9
    assert (_rows(report, "nodal", "digital")["relative"] > 0.01).all()


def test_the_error_of_the_closed_form_is_the_one_by_hand():
    """One tile: C from its sum over the array, the exact currents from the nodal effective matrix."""
    wires = {"r_wl_ohm": 30.0, "r_bl_ohm": 50.0}
    spec = PLAIN.evolve(tile={"rows": None, "cols": None}, wires=WiresSpec(model="ratio", **wires))
    report = cs.fidelity_report(spec, WEIGHTS, X, seed=5, t="1h", reads=2)
    tile = cs.Tile(spec, seed=5).program(WEIGHTS)
    tile.mvm(X, t="1h")
    g = np.stack(tile.conductances(), axis=2).reshape(N_IN, 2 * N_OUT)
    to_end, from_start = np.arange(N_IN, 0, -1), np.arange(1, 2 * N_OUT + 1)
    loss = 50e-6 * np.minimum.outer(to_end, to_end) @ g + 30e-6 * g @ np.minimum.outer(from_start, from_start)
    assert loss.max() < spec.wires.max_c
    currents = X @ (g / (1 + loss) - effective_conductance(g, spec.wires))
    error = (currents[:, ::2] - currents[:, 1::2]) / spec.device.g_max_uS * np.abs(WEIGHTS).max(axis=1)
    rms = np.sqrt(np.mean((X @ WEIGHTS.T) ** 2))
    found = _rows(report, "tile", "nodal")
    np.testing.assert_allclose(found["mean"], error.mean(axis=0), rtol=0, atol=1e-10)
    np.testing.assert_allclose(found["sd"], error.std(axis=0), rtol=0, atol=1e-10)
    np.testing.assert_allclose(found["sd_inputs"], error.std(axis=0), rtol=0, atol=1e-10)
    np.testing.assert_allclose(found["relative"], np.sqrt((error**2).mean(axis=0)) / rms, rtol=0, atol=1e-10)
    assert (found["sd"] > 1e-5).all()
    assert found["sd_reads"].max() < 1e-12
    overall = report.overall.set_index(["tier", "versus"]).loc[("tile", "nodal")]
    assert overall["mean"] == pytest.approx(error.mean(), abs=1e-10)
    assert overall["sd"] == pytest.approx(error.std(), abs=1e-10)
    against = _rows(report, "tile", "digital")["mean"].to_numpy()
    np.testing.assert_allclose(against, (tile.mvm(X) - X @ WEIGHTS.T).mean(axis=0), rtol=0, atol=1e-12)


def test_noise_is_told_from_what_differs_between_inputs():
    """sd_reads is the s.d. sum_i x_i^2 sigma_ij^2 of the column, sd_inputs what a chip without noise shows."""
    spec = PLAIN.evolve(read_noise="per_read")
    n = 400
    report = cs.fidelity_report(spec, WEIGHTS, X, t="1d", reads=n)
    quiet = cs.fidelity_report(spec.evolve(read_noise=None), WEIGHTS, X, t="1d", reads=2)
    programmed = ProgrammedMatrix(torch.from_numpy(WEIGHTS), spec, 0, "tile")
    programmed.set_time(86400.0)
    matrix = programmed.matrix
    variance = sum(
        X[:, slice(*part.rows)] ** 2 @ (v.numpy() * matrix.gain[k].numpy()[:, None] ** 2).T
        for k, (part, v) in enumerate(zip(matrix.parts, matrix.variance, strict=True))
    ).mean(axis=0)
    frame, still = _rows(report, "tile", "digital"), _rows(quiet, "tile", "digital")
    spread = 4 / np.sqrt(2 * T * n)  # of an s.d. from T n draws, a little more because inputs weigh differently
    np.testing.assert_allclose(frame["sd_reads"], np.sqrt(variance), rtol=2 * spread)
    np.testing.assert_allclose(frame["mean_se"], frame["sd_reads"] / np.sqrt(T * n), rtol=1e-12)
    assert (np.abs(frame["mean"] - still["mean"]) < 4 * frame["mean_se"]).all()
    np.testing.assert_allclose(frame["sd_inputs"], still["sd"], rtol=0, atol=4 * np.sqrt(variance.max() / n))
    assert _rows(report, "tile", "nodal")["sd"].max() < 1e-9  # both draw the same noise


def test_nodal_and_tile_draw_the_same_noise_where_their_wires_differ():
    """The closed form leaves a difference between inputs, but none between reads."""
    spec = PLAIN.evolve(read_noise="per_read", encoding=OFFSET, wires=WIRES)
    between = _rows(cs.fidelity_report(spec, WEIGHTS, X, t="1d", reads=3), "tile", "nodal")
    assert between["sd_reads"].max() < 1e-12
    assert (between["sd_inputs"] > 1e-6).all()


def test_the_statistical_tier_has_the_mean_and_sd_of_the_tile_tier():
    x = np.random.default_rng(1).standard_normal((60, N_IN))
    report = cs.fidelity_report(PCM, WEIGHTS, x, t="30d", reads=20)
    n = 60 * 20
    tile, cheap = _rows(report, "tile", "digital"), _rows(report, "statistical", "digital")
    sd = tile["sd"].to_numpy()
    assert (np.abs(cheap["mean"].to_numpy() - tile["mean"].to_numpy()) < 4 * sd / np.sqrt(n)).all()
    np.testing.assert_allclose(cheap["sd"], sd, rtol=4 / np.sqrt(2 * n))
    between = _rows(report, "statistical", "tile")
    np.testing.assert_allclose(between["sd"], np.sqrt(2) * sd, rtol=8 / np.sqrt(2 * n))  # errors of their own


def test_same_arguments_same_report_other_seed_other_devices():
    first, again, other = (cs.fidelity_report(PCM, WEIGHTS, X, seed=seed, reads=2) for seed in (1, 1, 2))
    assert first.frame.equals(again.frame)
    assert not first.frame["mean"].equals(other.frame["mean"])
    assert str(first) == str(again)


@pytest.fixture(scope="module")
def report():
    return cs.fidelity_report(PCM.evolve(wires=WIRES), WEIGHTS, X, t="1d", reads=READS)


def test_the_table_has_a_line_for_every_column_and_the_errors_in_percent(report):
    lines = str(report).splitlines()
    assert lines[0] == "pcm_1m: 20 inputs x 7 columns, 6 vectors, 3 reads, seed 0, t = 1d"
    assert f"{report.digital_rms:.4g}" in lines[1]
    assert [line.split()[0] for line in lines[3:]] == [*map(str, range(N_OUT)), "all"]
    assert len({len(line) for line in lines[2:]}) == 1
    percent = 100 / report.digital_rms
    for line, mean, sd in zip(lines[3:], *_rows(report, "nodal", "digital")[["mean", "sd"]].to_numpy().T, strict=False):
        assert line.split()[1:4] == [f"{percent * mean:+.3g}", "±", f"{percent * sd:.3g}"]
    whole = report.overall.set_index(["tier", "versus"]).loc[("statistical", "tile")]
    assert lines[-1].split()[-3:] == [f"{percent * whole['mean']:+.3g}", "±", f"{percent * whole['sd']:.3g}"]


def test_the_picture_shows_mean_and_sd_of_every_column(report, monkeypatch, tmp_path):
    drawn = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *args, **kw: (drawn.append(self), save(self, *args, **kw)))
    path = report.plot(tmp_path / "folder" / "fidelity.png")
    assert path.read_bytes().startswith(b"\x89PNG\r\n")
    left, right = drawn[0].axes
    names = [[bars.get_label() for bars in axes.containers] for axes in (left, right)]
    assert names == [["nodal", "tile", "statistical"], ["tile - nodal", "statistical - tile"]]
    for axes, tier, versus, k in [(left, "nodal", "digital", 0), (right, "statistical", "tile", 1)]:
        points, _, (bars,) = axes.containers[k].lines
        rows = _rows(report, tier, versus)
        np.testing.assert_allclose(points.get_ydata().astype(float), rows["mean"])
        assert np.abs(points.get_xdata() - np.arange(N_OUT)).max() < 0.5
        ends = np.array([segment[:, 1] for segment in bars.get_segments()])
        np.testing.assert_allclose(ends, np.stack([rows["mean"] - rows["sd"], rows["mean"] + rows["sd"]], axis=1))
    with pytest.raises(UsageError, match="plot: the table has no rows"):
        type(report)(report.frame.iloc[:0], report.overall, 1.0, "").plot(tmp_path / "empty.png")


def _with(values, where, value):
    changed = values.copy()
    changed[where] = value
    return changed


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": _with(WEIGHTS, (2, 3), np.nan)}, r"weights\[2, 3\] = nan: must be finite"),
        ({"x": _with(X, (1, 4), np.inf)}, r"x\[1, 4\] = inf: must be finite"),
        ({"weights": WEIGHTS[0]}, r"weights: shape \(20,\); must be \(n_out, n_in\)"),
        ({"weights": np.empty((0, 20))}, r"weights: shape \(0, 20\)"),
        ({"weights": WEIGHTS * 1j}, "weights: must be real numbers, are complex128"),
        ({"weights": [[1.0, 2.0], [3.0]]}, "weights: .* rows differ in length"),
        ({"x": X[0]}, r"x: shape \(20,\); must be \(vectors, n_in\)"),
        ({"x": np.empty((0, 20))}, r"x: shape \(0, 20\)"),
        ({"x": X[:1]}, r"x: shape \(1, 20\); must be \(vectors, 20\) with at least 2 vectors"),
        ({"x": X[:, :5]}, r"x: shape \(6, 5\); must be \(vectors, 20\)"),
        ({"x": 0 * X}, "weights, x: the digital output is 0 everywhere"),
        ({"seed": -1}, "seed = -1: must be a whole number"),
        ({"t": "soon"}, "t = 'soon': must be"),
        ({"t": -1.0}, "t = -1.0: must be >= 0 s"),
        ({"reads": 1}, "reads = 1: must be a whole number of at least 2"),
        ({"reads": 2.0}, "reads = 2.0: must be a whole number"),
        ({"spec": "pcm_1m"}, "spec = 'pcm_1m': must be a ChipSpec"),
        ({"spec": PCM.evolve(**{"dac.range": "calibrated"})}, r'chip.dac.range.kind = "calibrated": no calibration'),
    ],
)
def test_what_cannot_be_compared_is_refused(changes, message):
    arguments = {"spec": PCM, "weights": WEIGHTS, "x": X} | changes
    with pytest.raises(UsageError, match=message):
        cs.fidelity_report(**arguments)
