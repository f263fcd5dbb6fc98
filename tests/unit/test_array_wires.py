"""Wire resistance on a chip: tiles as whole circuits, reads through them, and the limits of the closed form."""

import numpy as np
import pytest
import torch

from crossbar_sim.array.programmed import ProgrammedMatrix
from crossbar_sim.circuit.nodal import solve_array
from crossbar_sim.spec import ChipSpec, WiresSpec
from device_models.errors import SpecError

N_IN, N_OUT = 50, 70
SHAPES = {"tile": {"rows": 32, "cols": 40}, "encoding": {"scale": "tile"}}
BARE = ChipSpec.preset("ideal").evolve(**SHAPES)
PCM = ChipSpec.preset("pcm_1m").evolve(**SHAPES)


def _weight(dtype=torch.float64):
    return torch.randn(N_OUT, N_IN, generator=torch.Generator().manual_seed(0)).to(dtype)


def _programmed(spec, dtype=torch.float64, t_s=None):
    programmed = ProgrammedMatrix(_weight(dtype), spec, 3, "fc")
    if t_s is not None:
        programmed.set_time(t_s)
    return programmed


def _wired(spec, **wires):
    return spec.evolve(wires=WiresSpec(**wires))


@pytest.mark.parametrize("encoding", [{}, {"devices": 2, "fill": "equal"}, {"kind": "offset"}, {"kind": "bit_slice"}])
def test_reads_are_the_nodal_solution_of_every_tile(encoding):
    """All devices of an output side by side on bit lines of their own; the ADC-free read adds their currents."""
    spec = _wired(BARE.evolve(encoding=encoding), r_wl_ohm=3.0, r_bl_ohm=5.0, r_driver_ohm=20.0, model="exact")
    programmed = _programmed(spec)
    matrix = programmed.matrix
    x = torch.randn(3, N_IN, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected = torch.zeros(3, N_OUT, dtype=torch.float64)
    span = spec.device.g_max_uS - spec.device.g_min_uS
    for r, (r0, r1) in enumerate(matrix.plan.rows):
        for c, (c0, c1) in enumerate(matrix.plan.cols):
            devices = iter(matrix.conductances(programmed.weight, (r, c)))
            for p, plane in enumerate(matrix.layout.planes):
                own = [next(devices) for _ in plane.devices]
                array = np.stack(own, axis=2).reshape(r1 - r0, -1)
                currents = solve_array(array, x[:, r0:r1].numpy(), spec.wires).currents_A * 1e6
                weights = np.tile([device.weight for device in plane.devices], c1 - c0)
                column = (currents * weights).reshape(3, c1 - c0, -1).sum(axis=2) / span
                k = r * len(matrix.layout.planes) + p
                expected[:, c0:c1] += torch.from_numpy(column) * matrix.full_scale[k, c0:c1]
            if matrix.zero:
                lost = x[:, r0:r1].sum(dim=1, keepdim=True) * matrix.zero * matrix.full_scale[r, c0:c1]
                expected[:, c0:c1] -= lost
    for backend in ("numba", "torch"):
        torch.testing.assert_close(programmed.read(x, backend=backend), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("model", ["ratio", "first_order", "exact"])
def test_ideal_wires_are_the_limit_of_small_resistance(model):
    exact = _programmed(PCM, t_s=86400.0)
    errors = []
    for ohm in (1e-6, 1e-3, 1.0):
        wired = _programmed(_wired(PCM, r_wl_ohm=ohm, r_bl_ohm=ohm, model=model), t_s=86400.0)
        parts = zip(wired.matrix.effective, exact.matrix.effective, strict=True)
        errors.append(max(float((a - b).abs().max()) for a, b in parts))
    assert errors[0] < 1e-8
    assert errors[0] < errors[1] < errors[2]


def test_the_closed_form_is_near_the_exact_solution_and_says_how_large_the_loss_is():
    spec = PCM.evolve(read_noise="frozen")
    ideal = _programmed(spec)
    solved = _programmed(_wired(spec, r_wl_ohm=5.0, r_bl_ohm=5.0, model="exact"))
    closed = _programmed(_wired(spec, r_wl_ohm=5.0, r_bl_ohm=5.0))
    x = torch.randn(20, N_IN, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def products(programmed):
        return torch.cat(programmed.matrix.effective, dim=1) @ x.t()

    loss = (products(solved) - products(ideal)).norm() / products(ideal).norm()
    error = (products(closed) - products(solved)).norm() / products(solved).norm()
    assert error < loss / 20
    assert 0.02 < loss < 0.3
    assert all(folded.exact for folded in solved.matrix.wire_losses)
    assert len(closed.matrix.wire_losses) == 4
    assert not any(folded.exact for folded in closed.matrix.wire_losses)
    assert all(0.01 < folded.max_c < 0.3 for folded in closed.matrix.wire_losses)


def test_a_tile_beyond_max_c_is_solved_exactly():
    wires = {"r_wl_ohm": 20.0, "r_bl_ohm": 20.0}
    switched = _programmed(_wired(PCM, **wires, max_c=0.05))
    solved = _programmed(_wired(PCM, **wires, model="exact"))
    assert all(folded.exact for folded in switched.matrix.wire_losses)
    for a, b in zip(switched.matrix.effective, solved.matrix.effective, strict=True):
        assert torch.equal(a, b)


def test_read_noise_is_attenuated_with_its_device():
    spec = PCM.evolve(read_noise="per_read")
    plain, wired = _programmed(spec), _programmed(_wired(spec, r_wl_ohm=5.0, r_bl_ohm=5.0))
    before = torch.cat(plain.matrix.variance, 1)
    ratio = (torch.cat(wired.matrix.variance, 1) / before)[before > 0]
    assert (ratio < 1).all()
    assert 0.7 < float(ratio.mean()) < 0.99


def test_float32_tiles_with_bfloat16_variances_follow_the_float64_ones():
    spec = _wired(PCM, r_wl_ohm=5.0, r_bl_ohm=5.0)
    single, double = _programmed(spec, torch.float32), _programmed(spec)
    torch.testing.assert_close(
        torch.cat(single.matrix.effective, 1).double(), torch.cat(double.matrix.effective, 1), rtol=0, atol=2e-6
    )
    variances = [torch.cat(programmed.matrix.variance, 1).double() for programmed in (single, double)]
    torch.testing.assert_close(*variances, rtol=0.01, atol=1e-12)


def test_time_goes_there_and_back_through_wires():
    programmed = _programmed(_wired(PCM, r_wl_ohm=5.0, r_bl_ohm=5.0), t_s=3600.0)
    before = programmed.matrix.effective_flat.clone()
    programmed.set_time(1e6)
    assert not torch.equal(programmed.matrix.effective_flat, before)
    programmed.set_time(3600.0)
    assert torch.equal(programmed.matrix.effective_flat, before)


@pytest.mark.parametrize("wires", [{"idle_rows": "floating"}, {"topology": "separate_source", "r_wl_ohm": None}])
def test_arrays_that_are_no_linear_map_are_refused_for_a_chip(wires):
    with pytest.raises(SpecError, match="make currents depend on the whole input pattern"):
        PCM.evolve(wires=WiresSpec(model="exact", **wires))
