"""Converters, output stages and input passes at the columns of a matrix: reads against the laws of each part."""

import numpy as np
import pytest
import torch

from crossbar_sim.array.programmed import ProgrammedMatrix
from crossbar_sim.converters import reference
from crossbar_sim.converters.output_stage import compress, sense_node
from crossbar_sim.spec import ChipSpec
from device_models.errors import SpecError, UsageError

N_IN, N_OUT = 90, 300
IDEAL = ChipSpec.preset("ideal").evolve(
    tile={"rows": 40, "cols": 128}, encoding={"scale": "tile"}, dac={"range": {"kind": "static", "value": 2.5}}
)


def _weight():
    return torch.randn(N_OUT, N_IN, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def _inputs(n=7):
    return torch.randn(n, N_IN, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def _programmed(spec):
    return ProgrammedMatrix(_weight(), spec, 3, "fc")


def _exact_columns(programmed):
    """Relative column outputs of every part for the DAC's codes."""
    matrix = programmed.matrix
    codes = torch.round(_inputs().clamp(-2.5, 2.5) / 2.5 * 127)
    return [(codes[:, a:b] / 127 @ matrix.effective[k].t()).numpy() for k, (_, _, (a, b)) in enumerate(matrix.parts)]


ADCS = [
    {"kind": "uniform", "gain_sd": 0.02, "offset_sd_lsb": 0.7, "inl_cubic": 0.01, "dnl_lsb": 0.2},
    {"kind": "uniform", "bits": 5, "group_size": 4, "gain_sd": 0.05},
    {"kind": "asymmetric", "lower": -2.0},
    {"kind": "midrise"},
    {"kind": "cco"},
    {"kind": "cco", "correction": "half_lsb"},
    {"kind": "ramp", "sigma_cap": 0.1, "sigma_cmp": 0.02, "cdac_columns": 128},
    {"kind": "sar", "sigma_cap": 0.1, "sigma_cmp": 0.02, "gain_db": 60.0},
    {"kind": "sar", "split_cdac": True, "offset_sd_lsb": 0.3},
    {"kind": "pipeline", "sigma_cap": 0.01, "sigma_cmp": 0.01},
    {"kind": "cyclic", "sigma_cap": 0.01},
]


@pytest.mark.parametrize("adc", ADCS, ids=lambda adc: ", ".join(map(str, adc.values())))
def test_every_kind_of_adc_digitises_every_part_by_its_law(adc):
    programmed = _programmed(IDEAL.evolve(adc={"bound": 6.0, **adc}))
    matrix = programmed.matrix
    expected = np.zeros((7, N_OUT))
    for k, columns in enumerate(_exact_columns(programmed)):
        state, errors, _ = matrix.readouts[k]
        for t, v in enumerate(columns):
            v = v if errors is None else reference.distort(errors, v)
            expected[t] += reference.convert(state, v) * 2.5 * matrix.gain[k].numpy()
    found = programmed.read(_inputs()).numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)
    alone = torch.cat([programmed.read(x) for x in _inputs().split(1)]).numpy()  # few vectors take another path
    np.testing.assert_allclose(alone, expected, rtol=0, atol=1e-9)


def test_converters_of_a_chip_are_its_own_and_stay_what_they_are():
    spec = IDEAL.evolve(adc={"kind": "sar", "sigma_cmp": 0.05, "gain_sd": 0.05})
    first, again = _programmed(spec), _programmed(spec)
    other = ProgrammedMatrix(_weight(), spec, 4, "fc")
    assert torch.equal(first.read(_inputs()), again.read(_inputs()))
    assert (first.read(_inputs()) != other.read(_inputs())).float().mean() > 0.5


def test_an_output_stage_bends_every_part_by_its_law():
    stage = {"sense": {"load": 0.02, "offset_sd": 0.05}, "s_shape": {"compression": 0.1, "spread": 0.2}}
    programmed = _programmed(IDEAL.evolve(adc={"bits": 16, "bound": 12.0}, output_stage=stage))
    matrix = programmed.matrix
    expected = np.zeros((7, N_OUT))
    for k, columns in enumerate(_exact_columns(programmed)):
        state = matrix.readouts[k].stage
        for t, v in enumerate(columns):
            bent = compress(sense_node(v, 0.0, state.load, state.offset), state.factor, state.compression)
            expected[t] += reference.convert(matrix.readouts[k].adc, bent) * 2.5 * matrix.gain[k].numpy()
    np.testing.assert_allclose(programmed.read(_inputs()).numpy(), expected, rtol=0, atol=1e-9)


def test_noise_behind_an_output_stage_is_not_compressed():
    stage = {"s_shape": {"compression": 0.5}}
    spec = IDEAL.evolve(adc={"bits": 16, "bound": 1000.0, "output_noise": 0.3}, output_stage=stage)
    programmed = _programmed(spec)
    x = _inputs(1).repeat(4000, 1)
    y = programmed.read(x)
    gain = programmed.matrix.gain * 2.5
    sd = 0.3 * (gain**2).sum(dim=0).sqrt()
    ratio = (y.std(dim=0) / sd).numpy()
    assert abs(ratio - 1).max() < 5 / np.sqrt(2 * 4000)  # the largest of 300


PASSES = [
    {"encoding": "bit_serial"},
    {"encoding": {"kind": "bit_serial", "digitised": "once"}},
    {"encoding": {"kind": "split_pwm", "low_bits": 3}},
    {"phases": 2},
    {"phases": 4},
    {"encoding": "bit_serial", "phases": 4},
    {"encoding": "amplitude"},
]


@pytest.mark.parametrize("dac", PASSES, ids=str)
@pytest.mark.parametrize(
    "encoding",
    [{}, {"pair": "two_sided"}, {"devices": 2, "fill": "msf"}, {"kind": "bit_slice"}, {"kind": "offset"},
     {"kind": "offset", "correction": "column"}],
    ids=str,
)  # fmt: skip
def test_passes_of_exact_arrays_add_up_to_the_whole_read(dac, encoding):
    if dac.get("phases") == 4 and encoding.get("kind") == "offset":
        with pytest.raises(SpecError, match="an offset encoding has one device for a weight"):
            IDEAL.evolve(encoding=encoding, **{f"dac.{name}": value for name, value in dac.items()})
        return
    whole = IDEAL.evolve(encoding=encoding, **{"device.g_min_uS": 1.0})
    played = whole.evolve(**{f"dac.{name}": value for name, value in dac.items()})
    y = _programmed(whole).read(_inputs())
    torch.testing.assert_close(_programmed(played).read(_inputs()), y, rtol=0, atol=1e-10)
    one = torch.cat([_programmed(played).read(x) for x in _inputs().split(1)])
    torch.testing.assert_close(one, y, rtol=0, atol=1e-10)


def test_bits_that_are_digitised_one_by_one_amplify_output_noise():
    """Variance (4^(b-1) - 1) / 3 of the noise of one pass, in units of its step; physics of bit-serial inputs."""
    spec = IDEAL.evolve(
        tile={"rows": None, "cols": None}, adc={"bits": 16, "bound": 1000.0, "output_noise": 0.2},
        **{"dac.encoding": "bit_serial"},
    )  # fmt: skip
    programmed = _programmed(spec)
    y = programmed.read(_inputs(1).repeat(4000, 1))
    sd = 0.2 * 2.5 / 127 * programmed.matrix.gain[0] * ((4**7 - 1) / 3) ** 0.5
    ratio = (y.std(dim=0) / sd).numpy()
    assert abs(ratio - 1).max() < 5 / np.sqrt(2 * 4000)


def test_read_noise_of_charges_added_ahead_of_the_adc_is_that_of_the_passes():
    spec = ChipSpec.preset("pcm_1m").evolve(
        adc=None, read_noise="per_read", **{"dac.encoding": {"kind": "bit_serial", "digitised": "once"}}
    )
    programmed = ProgrammedMatrix(_weight(), spec, 0, "fc")
    matrix = programmed.matrix
    x = _inputs(1)
    y = programmed.read(x.repeat(4000, 1))
    full = x.abs().max()
    codes = torch.round(x / full * 127).abs()[0].int()
    bits = sum(4**b * ((codes >> b) & 1) for b in range(7)).double() / 127**2
    sd = (matrix.variance[0] @ bits).sqrt() * matrix.gain[0] * full
    ratio = (y.std(dim=0) / sd).numpy()
    assert abs(ratio - 1).max() < 5 / np.sqrt(2 * 4000)


def test_inputs_rounded_at_random_are_right_on_average():
    spec = IDEAL.evolve(**{"dac.bits": 3, "dac.stochastic_rounding": True})
    programmed = _programmed(spec)
    x = _inputs(1).clamp(-2.4, 2.4)
    y = programmed.read(x.repeat(20000, 1))
    step = 2.5 / 3
    share = x / step - torch.floor(x / step)
    sd = ((share * (1 - share) * step**2) @ _weight().square().t()).sqrt()[0]
    error = (y.mean(dim=0) - (x @ _weight().t())[0]) / (sd / 20000**0.5)
    assert error.abs().max() < 4.5  # the largest of 300
    assert abs((y.std(dim=0) / sd).numpy() - 1).max() < 5 / np.sqrt(2 * 20000)
    assert not torch.equal(programmed.read(x), programmed.read(x))


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"adc": {"kind": "cco"}}, "an ADC other than an exact uniform one"),
        ({"adc": {"gain_sd": 0.1}}, "an ADC other than an exact uniform one"),
        (
            {"adc": {}, "output_stage": {"s_shape": {"compression": 0.1}}},
            "an output stage or a polarity of column sums",
        ),
        ({"dac.phases": 2}, "inputs that are played out in several passes or rounded at random"),
        ({"dac.stochastic_rounding": True}, "inputs that are played out in several passes or rounded at random"),
    ],
)
def test_what_torch_cannot_read_is_refused(changes, part):
    programmed = _programmed(IDEAL.evolve(**changes))
    with pytest.raises(UsageError) as caught:
        programmed.read(_inputs(), backend="torch")
    assert str(caught.value) == (
        f"fc: the chip has {part}, which only the numba backend reads: on the CPU and without gradients"
    )
