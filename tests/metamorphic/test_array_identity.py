"""A device keeps its identity: threads, tiles, batches, processes and the order of times change nothing."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest
import torch

from crossbar_sim.array.matrix import AnalogMatrix
from crossbar_sim.array.programmed import ProgrammedMatrix
from crossbar_sim.spec import ChipSpec, TileSpec
from device_models.pcm_custom_drift import PcmCustomDrift

HOUR, DAY = 3600.0, 86400.0
N_OUT, N_IN = 70, 600


def _weight(dtype=torch.float32, n_out=N_OUT, n_in=N_IN):
    return torch.from_numpy(np.random.default_rng(0).uniform(-1, 1, (n_out, n_in))).to(dtype)


def _vectors(n=6, dtype=torch.float32, n_in=N_IN):
    return torch.from_numpy(np.random.default_rng(1).normal(size=(n, n_in))).to(dtype)


def _chip(**changes):
    return ChipSpec.preset("pcm_1m").evolve(
        **{"encoding.scale": "tensor", "tile": TileSpec(rows=256, cols=64), **changes}
    )


def _state(matrix):
    """Effective weights and per-read variances of the whole matrix, and its compensation, as they are in memory."""
    variance = matrix.variance or []
    return torch.cat(matrix.effective, dim=1), torch.cat([v.float() for v in variance], dim=1), matrix.drift_factor


def _same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.fixture
def threads():
    """torch.set_num_threads, undone after the test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_thread_count_changes_no_bit_of_the_devices(threads, dtype):
    states = []
    for count in (1, 2):
        threads(count)
        matrix = AnalogMatrix(_weight(dtype), _chip(), 0, "m")
        matrix.age(_weight(dtype), HOUR)
        states.append((*matrix.effective, *matrix.variance))
    assert _same(*states)


@pytest.mark.parametrize(("rows", "cols"), [(7, None), (100, 33), (None, 1), (None, None)])
@pytest.mark.parametrize("pair", ["one_sided", "two_sided"])
def test_tile_size_changes_no_bit_of_the_devices(rows, cols, pair):
    states = []
    for tile in (TileSpec(), TileSpec(rows=rows, cols=cols)):
        matrix = AnalogMatrix(_weight(n_in=300), _chip(tile=tile, **{"encoding.pair": pair}), 0, "m")
        matrix.age(_weight(n_in=300), HOUR)
        states.append(_state(matrix)[:2])
    assert _same(*states)


@pytest.mark.parametrize("tile", [TileSpec(rows=100, cols=33), TileSpec(rows=None, cols=None)])
def test_tiles_without_converters_only_reorder_the_sum(tile):
    exact = _chip(dac=None, adc=None, compensation=None, read_noise="frozen")
    outputs = []
    for spec in (exact, exact.evolve(tile=tile)):
        programmed = ProgrammedMatrix(_weight(torch.float64), spec, 0, "m")
        programmed.set_time(HOUR)
        outputs.append(programmed.read(_vectors(dtype=torch.float64)))
    torch.testing.assert_close(*outputs, rtol=0, atol=1e-12)


def _programmed(seed=0, dtype=torch.float32, name="m", **changes):
    return ProgrammedMatrix(_weight(dtype), _chip(**changes), seed, name)


def test_time_forth_and_back_gives_the_same_state_and_compensation():
    forth, direct = _programmed(), _programmed()
    start = [part.clone() for part in _state(forth.matrix)]
    for t_s in (HOUR, 30 * DAY, 1.0, DAY):
        forth.set_time(t_s)
    direct.set_time(DAY)
    assert _same(_state(forth.matrix), _state(direct.matrix))
    assert not torch.equal(forth.matrix.drift_factor, start[2])
    forth.set_time(0.0)
    forth.matrix.drift_factor.fill_(1.0)  # as it was before the first reference read
    assert _same(_state(forth.matrix), start)


def test_reads_in_between_do_not_touch_the_state():
    read, quiet = _programmed(), _programmed()
    read.set_time(HOUR)
    for _ in range(3):
        read.read(_vectors())
    for programmed in (read, quiet):
        programmed.set_time(DAY)
    assert _same(_state(read.matrix), _state(quiet.matrix))


HASH = """
import hashlib, numpy as np, torch
from crossbar_sim.array.programmed import ProgrammedMatrix
from crossbar_sim.spec import ChipSpec, TileSpec
weight = torch.from_numpy(np.random.default_rng(0).uniform(-1, 1, (70, 600))).to(torch.float32)
spec = ChipSpec.preset("pcm_1m").evolve(**{"encoding.scale": "tensor", "tile": TileSpec(rows=256, cols=64)})
programmed = ProgrammedMatrix(weight, spec, 0, "m")
programmed.set_time(3600.0)
print(hashlib.sha256(b"".join(part.numpy().tobytes() for part in programmed.matrix.effective)).hexdigest())
"""


def test_another_process_makes_the_same_devices():
    programmed = _programmed()
    programmed.set_time(HOUR)
    here = hashlib.sha256(b"".join(part.numpy().tobytes() for part in programmed.matrix.effective)).hexdigest()
    there = subprocess.run([sys.executable, "-c", HASH], capture_output=True, text=True, check=True).stdout.strip()
    assert here == there


@pytest.mark.parametrize("other", [{"seed": 1}, {"name": "n"}])
def test_another_seed_or_layer_differs_in_every_device(other):
    weight = _weight(torch.float64)
    weight = weight.sign() * (0.2 + 0.8 * weight.abs())  # two RESET devices may both rest at exactly zero
    pairs = []
    for key in ({}, other):
        matrix = AnalogMatrix(weight, _chip(), **{"seed": 0, "name": "m", **key})
        matrix.age(weight, HOUR)
        pairs.append(_state(matrix)[:2])
    for mine, theirs in zip(*pairs, strict=True):
        assert (mine != theirs).all()


def test_programming_again_with_the_same_seed_changes_nothing():
    programmed = _programmed()
    programmed.set_time(HOUR)
    before = [part.clone() for part in _state(programmed.matrix)]
    first = programmed.read(_vectors())
    programmed.program(0)
    programmed.set_time(HOUR)
    assert _same(_state(programmed.matrix), before)
    assert torch.equal(programmed.read(_vectors()), first)


@pytest.mark.parametrize("backend", ["numba", "torch"])
def test_a_read_number_names_a_read_bit_for_bit(backend):
    first, second = _programmed(), _programmed()
    outputs = [first.read(_vectors(), backend=backend) for _ in range(3)]
    assert first.matrix.reads == 3
    assert not torch.equal(outputs[0], outputs[1])
    second.matrix.reads = 2
    assert torch.equal(second.read(_vectors(), backend=backend), outputs[2])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n_vectors", [3, 64, 600])
def test_thread_count_changes_no_bit_of_a_read(threads, dtype, n_vectors):
    outputs = []
    for count in (1, 2, 3):
        threads(count)
        programmed = _programmed(dtype=dtype, adc=None, dac={"bits": 8})
        outputs.append(programmed.read(_vectors(n_vectors, dtype)))
    assert torch.equal(outputs[0], outputs[1])
    assert torch.equal(outputs[0], outputs[2])


@pytest.mark.parametrize("splits", [[1, 5], [3, 3], [1, 1, 1, 1, 1, 1], [5, 1]])
@pytest.mark.parametrize("converters", [{}, {"dac": None, "adc": None}])
def test_a_batch_may_be_split_where_reads_draw_no_noise(splits, converters):
    x = _vectors(dtype=torch.float64)
    whole = _programmed(dtype=torch.float64, read_noise="frozen", **converters)
    parts = _programmed(dtype=torch.float64, read_noise="frozen", **converters)
    y = torch.cat([parts.read(part) for part in x.split(splits)])
    torch.testing.assert_close(y, whole.read(x), rtol=0, atol=1e-12)
    assert _same((*whole.matrix.effective,), (*parts.matrix.effective,))
    counts = [(p.matrix.n_inputs, p.matrix.n_outputs, p.matrix.n_saturated) for p in (whole, parts)]
    assert counts[0] == counts[1]


@pytest.mark.parametrize("n", [1, 5])
def test_the_first_vectors_of_a_read_do_not_depend_on_how_many_follow(n):
    x = _vectors(dtype=torch.float64)
    torch.testing.assert_close(
        _programmed(dtype=torch.float64).read(x[:n]), _programmed(dtype=torch.float64).read(x)[:n], rtol=0, atol=1e-12
    )


def test_scaling_all_weights_scales_the_outputs():
    x, quiet = _vectors(dtype=torch.float64), []
    for factor in (1.0, 4.0):  # a power of two, so that the relative weights are the same numbers
        programmed = ProgrammedMatrix(factor * _weight(torch.float64), _chip(), 0, "m")
        programmed.set_time(DAY)
        quiet.append(programmed.read(x) / factor)
    assert torch.equal(*quiet)


def test_permuting_inputs_of_an_ideal_chip_changes_nothing():
    order = torch.from_numpy(np.random.default_rng(2).permutation(N_IN))
    x, weight, ideal = _vectors(dtype=torch.float64), _weight(torch.float64), ChipSpec.preset("ideal")
    y = ProgrammedMatrix(weight, ideal, 0, "m").read(x)
    permuted = ProgrammedMatrix(weight[:, order].contiguous(), ideal, 0, "m").read(x[:, order].contiguous())
    torch.testing.assert_close(permuted, y, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("probe_vectors", [1, 64])
def test_global_compensation_undoes_a_common_drift_exactly(dtype, probe_vectors):
    device = PcmCustomDrift(nu_mean_at=(0.05, 0.05, 0.05), program_scale=0.0, read_scale=0.0)
    spec = _chip(device=device, dac=None, adc=None, compensation={"probe_vectors": probe_vectors})
    programmed = ProgrammedMatrix(_weight(dtype), spec, 0, "m")
    programmed.set_time(DAY)
    alpha = programmed.matrix.drift_factor.double().numpy()
    np.testing.assert_allclose(alpha, 1.519774710, rtol=1e-6)
    assert alpha.shape == (3, N_OUT)
    exact = _vectors(dtype=torch.float64) @ _weight(dtype).double().t()
    y = programmed.read(_vectors(dtype=torch.float64).to(dtype)).double()
    torch.testing.assert_close(y, exact, rtol=0, atol=1e-5 * float(exact.abs().max()))


def test_global_compensation_is_one_least_squares_factor_per_tile():
    spec = _chip(dac=None, adc=None, read_noise="frozen")
    programmed = ProgrammedMatrix(_weight(torch.float64), spec, 0, "m")
    new = [part.clone() for part in programmed.matrix.effective]
    programmed.set_time(DAY)
    factor = programmed.matrix.drift_factor
    for k, (before, now) in enumerate(zip(new, programmed.matrix.effective, strict=True)):
        for start, stop in programmed.matrix.plan.cols:
            b, n = before[start:stop], now[start:stop]
            # for random signs E[x x^T] ~ 1, so sums over probes tend to sums over devices; 64 probes leave 1 %
            assert factor[k, start:stop].unique().numel() == 1
            assert factor[k, start].item() == pytest.approx(float((b * n).sum() / (n * n).sum()), rel=0.01)


def test_a_tile_that_answers_nothing_has_factor_one():
    weight = _weight()
    weight[:35] = 0
    device = PcmCustomDrift(nu_mean_at=(0.05, 0.05, 0.05), program_scale=0.0, read_scale=0.0)
    programmed = ProgrammedMatrix(weight, _chip(device=device, adc=None, tile={"rows": None, "cols": 35}), 0, "m")
    programmed.set_time(DAY)
    alpha = programmed.matrix.drift_factor[0]
    assert (alpha[:35] == 1).all()
    assert (alpha[35:] > 1.4).all()
