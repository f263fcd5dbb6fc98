"""Currents that are not conductance times input: polarity and I-V curves, against sums over single devices."""

import numpy as np
import pytest
import torch

from crossbar_sim.array.features import PolynomialFeatures
from crossbar_sim.array.programmed import ProgrammedMatrix
from crossbar_sim.kernels.conductance import device_keys, device_normals
from crossbar_sim.spec import ChipSpec
from device_models.effects import CubicIV, DeviceAsymmetry, GlobalAsymmetry, MiloIV, ScatteredIV, SinhIV, StateAsymmetry
from device_models.errors import SpecError, UsageError

N_IN, N_OUT = 50, 70
SHAPES = {"tile": {"rows": 32, "cols": 40}, "encoding": {"scale": "tile"}}
BARE = ChipSpec.preset("ideal").evolve(**SHAPES, **{"device.g_max_uS": 15.0})
AMPLITUDE = {"kind": "amplitude", "v_read_V": 0.4}


def _programmed(spec):
    weight = torch.randn(N_OUT, N_IN, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return ProgrammedMatrix(weight, spec, 3, "fc")


def _inputs(n=6):
    return torch.randn(n, N_IN, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def _by_device(programmed, current):
    """Sum over all devices of current(device, g (rows, cols), x (T, rows, 1), corner of the tile), as weights."""
    matrix, x = programmed.matrix, _inputs().numpy()
    span = matrix.spec.device.g_max_uS - matrix.spec.device.g_min_uS
    y = np.zeros((len(x), N_OUT))
    for r, (r0, r1) in enumerate(matrix.plan.rows):
        for c, (c0, c1) in enumerate(matrix.plan.cols):
            for d, g in enumerate(matrix.conductances(programmed.weight, (r, c))):
                total = current(d, g, x[:, r0:r1, None], (r0, c0)).sum(axis=1)
                sign = matrix.layout.planes[0].devices[d].weight
                y[:, c0:c1] += sign * total / span * matrix.gain[r, c0:c1].numpy()
    return y


def _check(programmed, expected):
    found = programmed.read(_inputs()).numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)
    alone = torch.cat([programmed.read(x) for x in _inputs().split(1)]).numpy()
    np.testing.assert_allclose(alone, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    "polarity", [DeviceAsymmetry(sigma=0.2), StateAsymmetry(), GlobalAsymmetry(a_in=0.1)], ids=lambda p: p.kind
)
def test_negative_inputs_meet_the_conductances_of_their_polarity(polarity):
    programmed = _programmed(BARE.evolve(**{"device.polarity": polarity}))
    keys = device_keys(3, "fc", programmed.matrix.layout)[0].polarity

    def current(d, g, x, corner):
        z = np.empty(g.T.shape, np.float32)
        device_normals(keys[d], *corner, z)
        return np.where(x < 0, x * g * polarity.negative_factor(g, z.T), x * g)

    _check(programmed, _by_device(programmed, current))


@pytest.mark.parametrize("iv", [CubicIV(k3_per_V2=0.25), SinhIV(v0_V=0.3), MiloIV()], ids=lambda iv: iv.kind)
def test_amplitudes_are_bent_by_the_current_of_every_device(iv):
    window = {"device.g_min_uS": 50.0, "device.g_max_uS": 225.0} if iv.kind == "milo" else {}
    held = {"range": {"kind": "static", "value": 4.0}, "bits": None, "encoding": AMPLITUDE}
    programmed = _programmed(BARE.evolve(**window, dac=held).evolve(**{"device.iv": iv}))

    def current(d, g, x, corner):
        return iv.current_uA(g, x / 4.0 * 0.4) / 0.4 * 4.0

    _check(programmed, _by_device(programmed, current))


@pytest.mark.parametrize("tail_nu", [None, 4.0])
def test_devices_have_currents_of_their_own(tail_nu):
    iv = ScatteredIV(
        k2_log_sigma=(-1.0, 0.2), k3_log_sigma=(-0.5,), lean12_V=0.1, lean13_V2=0.2, lean23_V=0.3, tail_nu=tail_nu
    )
    held = {"range": {"kind": "static", "value": 4.0}, "bits": None, "encoding": AMPLITUDE}
    window = {"device.g_min_uS": 50.0, "device.g_max_uS": 225.0}
    programmed = _programmed(BARE.evolve(**window, dac=held).evolve(**{"device.iv": iv}))
    keys = device_keys(3, "fc", programmed.matrix.layout)[0]

    def current(d, g, x, corner):
        z = np.empty((2, *g.T.shape), np.float32)
        device_normals(keys.curvature[d], *corner, z[0])
        device_normals(keys.cubic[d], *corner, z[1])
        return iv.current_uA(g, x / 4.0 * 0.4, z.transpose(0, 2, 1)) / 0.4 * 4.0

    expected = _by_device(programmed, current)
    assert not np.allclose(
        expected, _by_device(programmed, lambda d, g, x, _: iv.current_uA(g, x / 10) * 10), rtol=1e-2
    )
    _check(programmed, expected)


def test_with_exact_inputs_a_polarity_leaves_positive_ones_alone():
    spec = BARE.evolve(**{"device.polarity": DeviceAsymmetry(sigma=0.2)})
    x = _inputs().abs()
    torch.testing.assert_close(_programmed(spec).read(x), _programmed(BARE).read(x), rtol=0, atol=1e-12)
    wires = {"r_wl_ohm": 5.0, "r_bl_ohm": 5.0}
    torch.testing.assert_close(
        _programmed(spec.evolve(wires=wires)).read(x), _programmed(BARE.evolve(wires=wires)).read(x), rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("a_in", [0.0, 0.2])
def test_negative_column_sums_count_less_tile_by_tile(a_in):
    law = GlobalAsymmetry(a_in=a_in, a_out=0.3)
    programmed = _programmed(BARE.evolve(dac={"bits": None}, **{"device.polarity": law}))
    matrix, x = programmed.matrix, _inputs().numpy()
    expected = np.zeros((len(x), N_OUT))
    for (_, _, (a, b)), effective, gain in zip(matrix.parts, matrix.effective, matrix.gain, strict=True):
        drive = np.where(x[:, a:b] < 0, (1 - a_in) * x[:, a:b], x[:, a:b])
        sums = drive @ effective.numpy().T
        expected += np.where(sums < 0, 0.7 * sums, sums) * gain.numpy()
    assert (matrix.features is None) == (a_in == 0)
    _check(programmed, expected)


def test_noise_of_devices_is_part_of_a_negative_sum():
    spec = ChipSpec.preset("pcm_1m").evolve(tile={"rows": 64}, dac=None, adc=None, read_noise="per_read")
    plain = _programmed(spec).read(_inputs(40))
    halved = _programmed(spec.evolve(**{"device.polarity": GlobalAsymmetry(a_out=0.5)})).read(_inputs(40))
    torch.testing.assert_close(halved, torch.where(plain < 0, plain / 2, plain), rtol=1e-12, atol=0)


def test_output_noise_comes_behind_a_negative_sum():
    noisy = {"bits": 16, "bound": 1000.0, "output_noise": 0.05}
    held = {"bits": None, "range": {"kind": "static", "value": 4.0}}
    spec = BARE.evolve(tile={"rows": 64}, dac=held, adc=noisy)
    x = _inputs(1).repeat(4000, 1)
    plain, halved = (
        _programmed(spec.evolve(**{"device.polarity": GlobalAsymmetry(a_out=a_out)})).read(x) for a_out in (0.0, 0.5)
    )
    ratio = (halved.std(dim=0) / plain.std(dim=0)).numpy()
    assert abs(ratio - 1).max() < 5 / np.sqrt(4000)
    clear = plain.mean(dim=0) < -1.0
    assert clear.sum() > 10
    np.testing.assert_allclose((halved.mean(dim=0) / plain.mean(dim=0))[clear], 0.5, atol=0.02)


def test_read_noise_of_negative_inputs_is_that_of_their_conductances():
    polarity = GlobalAsymmetry(a_in=0.5)
    spec = ChipSpec.preset("pcm_1m").evolve(**SHAPES, dac=None, adc=None, read_noise="per_read")
    plain, skewed = _programmed(spec), _programmed(spec.evolve(**{"device.polarity": polarity}))
    x = _inputs(1)
    y = skewed.read(x.repeat(4000, 1))
    half = torch.where(x < 0, x / 2, x)
    variance = sum(
        half[:, a:b].square() @ spread.t() * gain**2
        for (_, _, (a, b)), spread, gain in zip(
            plain.matrix.parts, plain.matrix.variance, plain.matrix.gain, strict=True
        )
    )
    assert abs((y.std(dim=0) / variance[0].sqrt()).numpy() - 1).max() < 5 / np.sqrt(2 * 4000)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"device.iv": SinhIV(v0_V=0.3)},
         "chip: device.iv bends inputs that are voltages; give dac.encoding: amplitude, or leave iv out: with inputs "
         "coded in time it is a gain of the device that its programming takes up"),
        ({"device.iv": CubicIV(k3_per_V2=4.0), "dac": {"encoding": AMPLITUDE}},
         "chip: dac.encoding.v_read_V = 0.4 V: device.iv holds up to 0.288675 V"),
        ({"device.iv": SinhIV(v0_V=0.3), "dac": {"encoding": AMPLITUDE}, "wires": {}},
         "chip: device.iv cannot be combined with wires on a chip; crossbar_sim.circuit solves it"),
    ],
)  # fmt: skip
def test_currents_that_a_chip_cannot_have_are_refused(changes, message):
    with pytest.raises(SpecError) as caught:
        BARE.evolve(**changes)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("polarity", "what"),
    [
        (DeviceAsymmetry(sigma=0.2), "devices whose current is not conductance times input"),
        (GlobalAsymmetry(a_out=0.2), "a polarity of column sums"),
    ],
)
def test_torch_does_not_read_them(polarity, what):
    with pytest.raises(UsageError, match=what):
        _programmed(BARE.evolve(**{"device.polarity": polarity})).read(_inputs(), backend="torch")


def test_a_proportional_curve_has_one_factor_unless_devices_are_below_zero():
    features = PolynomialFeatures(CubicIV(k3_per_V2=1.0), 0.2)

    def factor(g_uS):
        (only,) = (f for f in features.factors(np.array([g_uS]), lambda: pytest.fail("draws")) if f is not None)
        return only

    shared = factor([0.5, 0.0, 2.0])
    assert shared.size == 1
    np.testing.assert_array_equal(factor([0.5, -0.1, 2.0]), np.where([[True, False, True]], shared, 0.0))
