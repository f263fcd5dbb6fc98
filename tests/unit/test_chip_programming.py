"""What a chip tells about its programming."""

import numpy as np
import pytest
import torch
from torch import nn

import crossbar_sim as cs
from device_models.errors import UsageError

PULSES = {
    "kind": "program_verify", "alpha": 0.7, "tolerance_uS": 0.3, "max_pulses": 4, "sigma_write_uS": 0.3,
    "sigma_read_uS": 0.1,
}  # fmt: skip


def _chip(seed=0, **changes):
    torch.manual_seed(0)
    spec = cs.ChipSpec.preset("pcm_1m").evolve(**{"tile.rows": 30, "encoding": {"scale": "tile_column"}, **changes})
    return cs.map_model(nn.Sequential(nn.Linear(70, 50)), spec, seed).chip


def _targets(chip):
    matrix = chip.matrices["0"].matrix
    sizes = [stop - start for start, stop in matrix.plan.rows]
    u = chip.matrices["0"].weight.detach() / matrix.w_max.t().repeat_interleave(torch.tensor(sizes), dim=1)
    return np.stack(matrix.layout.targets(u.numpy(), 0.0, 25.0))


def test_verified_pulses_are_counted_with_what_did_not_converge():
    chip = _chip(programming=PULSES, read_noise=None)
    report = chip.programming_report("0")
    assert report.devices == 2 * 70 * 50
    assert report.unconverged == round((1 - report.converged_share) * report.devices) > 100
    assert report.pulses_counts.sum() == report.residual_counts.sum() == report.devices
    assert len(report.pulses_counts) == 5
    held = np.stack([np.concatenate([chip.conductances("0", (k, 0))[d] for k in range(3)]).T for d in range(2)])
    residual = held - _targets(chip)
    assert report.residual_rms_uS == pytest.approx(np.sqrt((residual**2).mean()), rel=1e-5)
    assert report.unconverged >= (abs(residual) > 0.3 + 5 * 0.1).sum()


def test_a_law_reports_its_error_before_anything_else_acts_on_the_devices():
    chip = _chip(**{"device.faults": {"p_set": 0.3}, "device.temperature": {"t_read_K": 340.0}})
    chip.set_time("1y")
    report = chip.programming_report("0")
    device = chip.spec.device
    targets = _targets(chip)
    expected = np.sqrt((device.sigma_program_uS(targets[targets > 5]) ** 2).mean())
    assert report.converged_share == 1.0
    assert report.pulses_counts.tolist() == [0, report.devices]
    assert 0.2 * expected < report.residual_rms_uS < expected  # devices at RESET err less
    assert 0.9 < report.analog_yield <= 1.0


def test_another_writing_of_the_devices_has_a_report_of_its_own():
    chip = _chip(programming=PULSES)
    first = chip.programming_report("0").residual_rms_uS
    chip.reprogram(seed=1)
    second = chip.programming_report("0").residual_rms_uS
    assert first != second
    assert first == pytest.approx(second, rel=0.1)


def test_a_report_needs_differential_pairs_and_a_layer_of_the_chip():
    with pytest.raises(UsageError, match="encoding offset has 1 devices for a weight"):
        _chip(encoding={"kind": "offset"}).programming_report("0")
    with pytest.raises(UsageError, match="layer = '1': is not on the chip"):
        _chip().programming_report("1")
