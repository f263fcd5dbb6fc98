"""Chips whose tiles are programmed by gradient descent through their own reads."""

import numpy as np
import pytest
import torch
from torch import nn

import crossbar_sim as cs
from crossbar_sim.array.matrix import AnalogMatrix
from crossbar_sim.array.programmed import ProgrammedMatrix
from crossbar_sim.spec import ChipSpec, GradientDescentProgramming
from device_models.errors import SpecError, UsageError

N_IN, N_OUT = 50, 30
DESCENT = GradientDescentProgramming(eta=0.5, batch=128, steps=25)
EXACT = ChipSpec.preset("ideal").evolve(tile={"rows": 32, "cols": 20}, programming=DESCENT)


def _weight(dtype=torch.float64):
    return torch.randn(N_OUT, N_IN, generator=torch.Generator().manual_seed(0), dtype=dtype)


def _inputs(n=200):
    return torch.randn(n, N_IN, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def _error(spec, weight=None):
    weight = _weight() if weight is None else weight
    x = _inputs().to(weight.dtype)
    exact = x @ weight.t()
    return float((ProgrammedMatrix(weight, spec, 0, "fc").read(x) - exact).norm() / exact.norm())


def test_without_noise_every_tile_comes_to_its_weights():
    assert _error(EXACT) < 2e-6  # conductances are kept in float32


def test_the_floor_is_that_of_the_linear_theory():
    """One tile, exact devices, an ADC with noise: Var = eta^2 sigma_y^2 / (B s_x^2 (1 - rho)) for each weight."""
    noise = {"bits": 16, "bound": 100.0, "output_noise": 0.05}
    spec = EXACT.evolve(tile={}, dac={"bits": None}, adc=noise)
    programmed = ProgrammedMatrix(_weight(), spec, 0, "fc")
    u = programmed.matrix.relative_weights(_weight())
    error = programmed.matrix.effective[0].numpy() - u
    rho = 1 - 2 * 0.5 + 0.5**2 * (1 + (N_IN + 1) / 128)
    expected = 0.5 * 0.05 / np.sqrt(128 * (1 - rho)) / 0.25
    held = abs(u) < 0.95  # the others are limited by the window
    # 1500 weights, correlated within an output: 30 outputs of 50 degrees of freedom each
    assert error[held].std() == pytest.approx(expected, rel=0.1)


def test_what_the_read_loses_is_programmed_away():
    lossy = {
        "wires": {"r_wl_ohm": 20.0, "r_bl_ohm": 20.0},
        "adc": {"bits": 12, "bound": 30.0, "gain_sd": 0.1},
        "dac": {},
    }
    law = EXACT.evolve(programming="law", **lossy, compensation=None)
    assert _error(law) > 0.08
    assert _error(law.evolve(programming=DESCENT)) < 0.55 * _error(law)  # the largest weights have no room


def test_a_partner_takes_over_from_a_stuck_device():
    stuck = EXACT.evolve(programming="law", **{"device.faults": {"p_reset": 0.05, "p_set": 0.02}})
    descended = _error(stuck.evolve(programming=DESCENT))
    assert descended < 0.75 * _error(stuck)
    assert descended == pytest.approx(_error(stuck.evolve(**{"programming.retarget_stuck": True})), rel=0.1)


def test_devices_drift_and_sound_as_what_they_were_written_to():
    """Conductances that were given behave as those that were asked for, whatever the weights ask of a device."""
    law = ChipSpec.preset("pcm_1m").evolve(**{"device.program_scale": 0.0, "device.read_scale": 1.0})
    asked, other = _weight(torch.float32), torch.randn(N_OUT, N_IN, generator=torch.Generator().manual_seed(9))
    by_law = AnalogMatrix(asked, law, 0, "fc")
    given = AnalogMatrix(other, law.evolve(programming=DESCENT), 0, "fc")
    device = law.device
    given.written[:] = by_law.layout.targets(by_law.relative_weights(asked), device.g_min_uS, device.g_max_uS)
    for t_s in (0.0, 1e7):
        by_law.age(asked, t_s)
        given.age(other, t_s)
        for one, two in ((by_law.effective, given.effective), (by_law.variance, given.variance)):
            torch.testing.assert_close(two[0].float(), one[0].float(), rtol=1e-2, atol=1e-6)


def test_noisy_devices_come_as_far_as_with_known_stuck_ones():
    """As far as re-targeting their partners does, which has to know them."""
    stuck = ChipSpec.preset("pcm_1m").evolve(
        tile={"rows": 32, "cols": 20}, **{"device.faults": {"p_reset": 0.02, "p_set": 0.02}}
    )
    known = _error(stuck.evolve(**{"programming.retarget_stuck": True}), _weight(torch.float32))
    assert (
        _error(stuck.evolve(programming=DESCENT), _weight(torch.float32))
        < 1.05 * known
        < 0.6 * _error(stuck, _weight(torch.float32))
    )


def test_the_state_is_a_function_of_weights_spec_seed_and_writing():
    spec = ChipSpec.preset("pcm_1m").evolve(tile={"rows": 32, "cols": 20}, programming=DESCENT)
    one, two = (ProgrammedMatrix(_weight(torch.float32), spec, 0, "fc") for _ in range(2))
    two.read(_inputs(3).float())
    two.set_time(1e6)
    two.program(5)
    other = two.matrix.effective_flat.clone()
    two.program(0)
    assert torch.equal(one.matrix.effective_flat, two.matrix.effective_flat)
    assert not torch.equal(one.matrix.effective_flat, other)
    two.program(0, write=1)
    assert not torch.equal(one.matrix.effective_flat, two.matrix.effective_flat)
    assert one.matrix.n_bytes >= one.matrix.written.nbytes == 2 * 4 * N_IN * N_OUT
    drifted = one.matrix.conductances(one.weight, (0, 0))[0].sum()
    one.set_time(1e6)
    assert one.matrix.conductances(one.weight, (0, 0))[0].sum() < 0.8 * drifted


def _model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(N_IN, N_OUT), nn.Tanh(), nn.Linear(N_OUT, 8)).eval()


def test_a_saved_chip_comes_back_and_says_what_it_cost(tmp_path):
    spec = ChipSpec.preset("pcm_1m").evolve(tile={"rows": 32, "cols": 20}, programming=DESCENT)
    mapped = cs.map_model(_model(), spec)
    mapped.chip.set_time("1d")
    mapped.chip.save(tmp_path / "chip")
    again = cs.load_chip(tmp_path / "chip", _model())
    with torch.no_grad():
        assert torch.equal(mapped(_inputs(4).float()), again(_inputs(4).float()))
    text = str(mapped.chip.summary())
    assert "programming gradient_descent, 25 steps of 128 vectors on each tile, 8 bytes of state per weight" in text


def test_the_report_has_pulses_limits_and_errors_of_products():
    stuck = {"p_set": 0.2}
    spec = EXACT.evolve(**{"device.faults": stuck, "programming.sigma_write_uS": 0.01})
    report = cs.map_model(_model(), spec).chip.programming_report("0")
    assert report.devices == 2 * N_IN * N_OUT
    assert report.converged_share == 1.0
    assert report.pulses_counts.sum() == report.devices
    assert report.stuck == pytest.approx(0.2 * report.devices, abs=4 * np.sqrt(0.16 * report.devices))


@pytest.mark.parametrize(
    "changes",
    [
        {"encoding": {"kind": "offset"}},
        {"encoding": {"kind": "bit_slice"}},
        {"encoding": {"devices": 2, "fill": "equal"}},
        {"dac": {"phases": 4}},
    ],
)
def test_only_pairs_that_are_read_together_are_programmed_so(changes):
    with pytest.raises(SpecError, match=r"'gradient_descent' changes .* of a pair; give encoding.kind: pair"):
        EXACT.evolve(**changes)


def test_a_step_too_large_for_the_tile_is_refused():
    with pytest.raises(UsageError, match=r"eta = 1.8: must be below 1\.\d+ with 25 inputs and a batch of 128"):
        ProgrammedMatrix(_weight(), EXACT.evolve(**{"programming.eta": 1.8}), 0, "fc")
