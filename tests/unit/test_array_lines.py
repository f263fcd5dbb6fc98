"""Broken lines of tiles, and partners that take over from devices that do not work."""

import numpy as np
import pytest
import torch
from torch import nn

import crossbar_sim as cs
from crossbar_sim.array.programmed import ProgrammedMatrix
from crossbar_sim.devices.broken_lines import broken_lines
from crossbar_sim.mapping import TilePlan
from crossbar_sim.spec import ChipSpec, TileSpec
from crossbar_sim.spec.tile import LineFaults
from crossbar_sim.study.fidelity import fidelity_report
from device_models.effects import MiloIV
from device_models.errors import SpecError

N_IN, N_OUT = 50, 70
LINES = LineFaults(p_word_line=0.15, p_bit_line=0.1)
TILE = TileSpec(rows=32, cols=40, faults=LINES)
EXACT = ChipSpec.preset("ideal").evolve(tile=TILE, **{"encoding.scale": "tile", "device.g_min_uS": 1.0})


def _weight():
    return torch.from_numpy(np.random.default_rng(0).uniform(-1, 1, (N_OUT, N_IN)))


def _inputs(n=5):
    return torch.from_numpy(np.random.default_rng(1).normal(size=(n, N_IN)))


def _programmed(spec, seed=3):
    return ProgrammedMatrix(_weight(), spec, seed, "fc")


def _whole(programmed):
    """Conductances (devices, n_in, n_out) of all tiles."""
    plan = programmed.matrix.plan
    tiles = [
        [np.stack(programmed.matrix.conductances(programmed.weight, (r, c))) for c in range(len(plan.cols))]
        for r in range(len(plan.rows))
    ]
    return np.concatenate([np.concatenate(row, axis=2) for row in tiles], axis=1)


def _dead(matrix):
    """(devices, n_in, n_out): devices on broken lines, line by line."""
    dead = np.zeros((matrix.layout.n_devices, N_IN, N_OUT), bool)
    for r, (r0, r1) in enumerate(matrix.plan.rows):
        for c, (c0, c1) in enumerate(matrix.plan.cols):
            for d in range(len(dead)):
                dead[d, r0:r1, c0:c1] |= matrix.lines.word[c, d, r0:r1, None]
                dead[d, r0:r1, c0:c1] |= matrix.lines.bit[r, d, None, c0:c1]
    return dead


def test_observed_rates_are_the_asked_ones():
    plan = TilePlan.of(4000, 3000, TileSpec(rows=100, cols=100))
    for p in (0.002, 0.3):
        lines = broken_lines(LineFaults(p_word_line=p, p_bit_line=2 * p), 0, "fc", plan, interleaved=False)
        word, words, bit, bits = lines.counts
        assert (words, bits) == (30 * 4000, 40 * 2 * 3000)
        assert abs(word - p * words) < 4 * np.sqrt(words * p * (1 - p))
        assert abs(bit - 2 * p * bits) < 4 * np.sqrt(bits * 2 * p * (1 - 2 * p))
        assert (lines.word[:, 0] == lines.word[:, 1]).all()
        both = (lines.bit[:, 0] & lines.bit[:, 1]).sum()  # lines of their own
        assert abs(both - (2 * p) ** 2 * bits / 2) < 4 * np.sqrt(bits / 2) * 2 * p


def test_interleaved_pairs_share_bit_lines_and_have_two_word_lines():
    plan = TilePlan.of(400, 300, TileSpec(rows=100, cols=100))
    lines = broken_lines(LINES, 0, "fc", plan, interleaved=True)
    assert (lines.bit[:, 0] == lines.bit[:, 1]).all()
    assert (lines.word[:, 0] != lines.word[:, 1]).mean() == pytest.approx(2 * 0.15 * 0.85, abs=0.05)
    assert lines.counts == (lines.word.sum(), 2 * 3 * 400, lines.bit[:, 0].sum(), 4 * 300)


@pytest.mark.parametrize("encoding", ["pair", {"kind": "bit_slice"}, {"devices": 3, "fill": "msf"}, {"kind": "offset"}])
def test_devices_of_a_broken_line_carry_no_current_and_the_others_are_as_they_were(encoding):
    changes = {"encoding": encoding, "device": "pcm_1m", "compensation": None}
    whole = _programmed(EXACT.evolve(**changes, **{"tile.faults": None}))
    broken = _programmed(EXACT.evolve(**changes))
    dead = _dead(broken.matrix)
    assert 0.15 < dead.mean() < 0.35
    for t_s in (0.0, 1e5):
        whole.set_time(t_s)
        broken.set_time(t_s)
        np.testing.assert_array_equal(_whole(broken), np.where(dead, 0.0, _whole(whole)))


def test_reads_are_those_of_the_devices_that_are_left():
    programmed = _programmed(EXACT)
    g, matrix, x = _whole(programmed), programmed.matrix, _inputs()
    expected = np.zeros((len(x), N_OUT))
    for r, (r0, r1) in enumerate(matrix.plan.rows):
        expected += x[:, r0:r1].numpy() @ (g[0] - g[1])[r0:r1] / 24.0 * matrix.w_max[r].numpy()
    np.testing.assert_allclose(programmed.read(x).numpy(), expected, rtol=0, atol=1e-12)


def test_lines_belong_to_the_seed_and_the_tile():
    one, two, other = (
        _programmed(EXACT).matrix.lines,
        _programmed(EXACT).matrix.lines,
        _programmed(EXACT, 4).matrix.lines,
    )
    more = _programmed(EXACT.evolve(**{"tile.faults.p_word_line": 0.3})).matrix.lines
    assert (one.word == two.word).all()
    assert (one.word != other.word).any()
    assert (one.word[0] != one.word[1]).any()
    assert (more.word | ~one.word).all()
    assert (more.bit == one.bit).all()


def test_a_reference_column_lies_on_the_word_lines_of_its_tile():
    encoding = {"kind": "offset", "correction": "column"}
    spec = EXACT.evolve(encoding=encoding, **{"tile.faults": {"p_word_line": 0.3}})
    weighted = _programmed(spec)
    assert weighted.matrix.lines.word.mean() > 0.2
    pairs = _programmed(EXACT.evolve(**{"tile.faults": {"p_word_line": 0.3}}, encoding={"scale": "column"}))
    torch.testing.assert_close(weighted.read(_inputs()), pairs.read(_inputs()), rtol=0, atol=1e-12)


def test_currents_behind_resistive_wires_and_curves_stay_finite():
    wires = {"r_wl_ohm": 5.0, "r_bl_ohm": 5.0}
    for model in ("ratio", "exact"):
        programmed = _programmed(EXACT.evolve(wires={**wires, "model": model}))
        y = programmed.read(_inputs())
        ideal = _programmed(EXACT).read(_inputs())
        assert 0 < float((y - ideal).norm() / ideal.norm()) < 0.1
    bent = {
        "dac": {"encoding": {"kind": "amplitude", "v_read_V": 0.4}},
        "device.g_min_uS": 50.0,
        "device.g_max_uS": 225.0,
    }
    spec = EXACT.evolve(**bent).evolve(**{"device.iv": MiloIV()})
    assert _programmed(spec).read(_inputs()).isfinite().all()
    report = fidelity_report(spec, _weight().numpy()[:8, :12], _inputs().numpy()[:, :12], reads=2)
    tile = report.overall[(report.overall["tier"] == "tile") & (report.overall["versus"] == "nodal")]
    assert float(tile["relative"].iloc[0]) < 1e-6


def _aims(g_stuck, unusable, targets, low, high):
    """New targets of pairs (2, ...) by hand."""
    found = targets.copy()
    for d in (0, 1):
        rest = g_stuck[1 - d] + targets[d] - targets[1 - d]
        found[d] = np.where(unusable[1 - d], np.clip(rest, low, high), targets[d])
    return found


@pytest.mark.parametrize(
    "encoding", ["pair", {"pair": "two_sided"}, {"kind": "bit_slice"}, {"devices": 3, "fill": "msf"}]
)
@pytest.mark.parametrize("lines", [None, LINES], ids=["stuck devices", "and broken lines"])
def test_partners_take_over_what_their_window_holds(encoding, lines):
    """Stuck anywhere, so that no stuck device holds its target by chance."""
    spec = EXACT.evolve(encoding=encoding, **{"device.faults": {"p_random": 0.15}, "tile.faults": lines})
    healthy = _whole(_programmed(spec.evolve(**{"device.faults": None, "tile.faults": None})))
    stuck = _whole(_programmed(spec))
    found = _whole(_programmed(spec.evolve(**{"programming.retarget_stuck": True})))
    unusable = stuck != healthy
    assert 0.1 < unusable.mean() < 0.45
    for pair in range(0, len(found), 2):
        at = slice(pair, pair + 2)
        expected = _aims(stuck[at], unusable[at], healthy[at], 1.0, 25.0)
        np.testing.assert_allclose(found[at], np.where(unusable[at], stuck[at], expected), rtol=0, atol=1e-12)


def test_the_report_says_who_took_over_and_what_is_missing():
    spec = EXACT.evolve(**{"device.faults": {"p_random": 0.15}})
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(N_IN, N_OUT, bias=False)).double()
    plain, chip = (
        cs.map_model(model, spec.evolve(**{"programming.retarget_stuck": retargets}), seed=3).chip
        for retargets in (False, True)
    )
    matrix, report = chip.matrices["0"].matrix, chip.programming_report("0")
    u = matrix.relative_weights(chip.matrices["0"].weight)
    asked = np.stack(matrix.layout.targets(u, 1.0, 25.0)).transpose(0, 2, 1)
    unusable = abs(_whole(plain.matrices["0"]) - asked) > 1e-9
    g, alone = _whole(chip.matrices["0"]), unusable[0] != unusable[1]
    missing = (asked[0] - asked[1] - g[0] + g[1])[alone]
    short = missing[abs(missing) > 1e-4]
    assert report.without_current == _dead(matrix).sum()
    n, p = asked.size, 0.15
    assert abs(report.stuck - n * p) < 4 * np.sqrt(n * p * (1 - p))
    assert report.retargeted == alone.sum()
    assert report.unreached == short.size > 100
    assert report.unreached_rms_uS == pytest.approx(np.sqrt((short**2).mean()), rel=1e-6)
    assert report.residual_rms_uS < 1e-9  # those that work hold their targets
    assert plain.programming_report("0").retargeted == 0
    text = str(chip.summary())
    word, words, bit, bits = matrix.lines.counts
    assert f"broken lines: {word:,} of {words:,}" in text
    assert f"{bit:,} of {bits:,}" in text
    assert "stuck devices 0.15; partners of stuck devices retargeted" in text


def test_taking_over_lowers_the_error_of_products():
    spec = ChipSpec.preset("pcm_1m").evolve(tile={"rows": 32, "cols": 40}, **{"device.faults": {"p_set": 0.03}})
    exact = _inputs(200) @ _weight().t()
    plain, better = (
        float((_programmed(each).read(_inputs(200)) - exact).norm() / exact.norm())
        for each in (spec, spec.evolve(**{"programming.retarget_stuck": True}))
    )
    assert better < 0.6 * plain


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tile.faults": None}, "chip: programming.retarget_stuck cannot act: device.faults and tile.faults are off"),
        (
            {"encoding": {"kind": "offset"}},
            "chip: programming.retarget_stuck needs devices whose currents are subtracted",
        ),
        ({"dac": {"phases": 4}}, "chip: programming.retarget_stuck needs devices whose currents are subtracted"),
        ({"tile.faults": {"p_word_line": 1.5}}, "chip.tile.faults.p_word_line = 1.5: must be at most 1"),
    ],
)
def test_what_cannot_act_is_refused(changes, message):
    with pytest.raises(SpecError) as caught:
        EXACT.evolve(**{"programming.retarget_stuck": True, **changes})
    assert message in str(caught.value)
