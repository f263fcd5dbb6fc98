"""Chips of any wires, converters and currents together: what holds whatever is switched on."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import crossbar_sim as cs
from crossbar_sim.array.programmed import ProgrammedMatrix

N_OUT, N_IN = 24, 40
PCM = cs.ChipSpec.preset("pcm_1m")
any_chip = settings(max_examples=40, deadline=None, derandomize=True)


def _weight():
    return torch.from_numpy(np.random.default_rng(0).uniform(-1, 1, (N_OUT, N_IN)))


def _vectors():
    return torch.from_numpy(np.random.default_rng(1).normal(size=(7, N_IN)))


def _read(spec, weight=None, x=None, t_s=86400.0):
    programmed = ProgrammedMatrix(_weight() if weight is None else weight, spec, 0, "m")
    programmed.set_time(t_s)
    return programmed.read(_vectors() if x is None else x)


CURVES = [{"kind": "sinh", "v0_V": 0.2}, {"kind": "cubic", "k3_per_V2": 1.0}]
small = st.floats(0.001, 0.1)
maybe = st.none() | small


@st.composite
def drawn_adcs(draw):
    kind = draw(st.sampled_from(["uniform", "cco", "sar", "pipeline"]))  # every kind takes seconds to compile
    found = {"kind": kind, "bits": draw(st.integers(4, 9)), "bound": draw(st.floats(2.0, 20.0))}
    found.update(gain_sd=draw(maybe), offset_sd_lsb=draw(maybe), inl_cubic=draw(maybe), dnl_lsb=draw(maybe))
    found.update(output_noise=draw(maybe), group_size=draw(st.integers(1, 9)))
    if kind in ("sar", "pipeline"):
        found.update(sigma_cap=draw(maybe), sigma_cmp=draw(maybe), gain_db=draw(st.sampled_from([None, 60.0])))
    return found


@st.composite
def drawn_chips(draw):
    """Chips of any wires, polarity or I-V curve, input encoding, output stage and ADC."""
    encoding = draw(st.sampled_from([{}, {"pair": "two_sided"}, {"devices": 2, "fill": "msf"}, {"kind": "bit_slice"}]))
    played = draw(st.sampled_from(["pwm", "bit_serial", {"kind": "split_pwm", "low_bits": 2}, "amplitude"]))
    dac = {"bits": draw(st.integers(5, 8)), "encoding": played, "phases": draw(st.sampled_from([1, 2, 4]))}
    wires = currents = None
    if draw(st.booleans()):
        ohm = st.floats(0.1, 20.0)
        wires = {"r_wl_ohm": draw(ohm), "r_bl_ohm": draw(ohm), "r_driver_ohm": draw(st.none() | ohm)}
        wires["model"] = draw(st.sampled_from(["ratio", "exact"]))
    if draw(st.booleans()):
        currents = {"device.polarity": {"kind": "device", "sigma": draw(small)}}
    elif played == "amplitude" and wires is None:
        currents = {
            "device.iv": draw(st.sampled_from([{"kind": "sinh", "v0_V": 0.2}, {"kind": "cubic", "k3_per_V2": 1.0}]))
        }
    stage = {"s_shape": {"compression": draw(small), "spread": draw(maybe)}, "sense": {"load": draw(small)}}
    adc = draw(drawn_adcs())
    return PCM.evolve(
        tile={"rows": draw(st.sampled_from([None, 16])), "cols": draw(st.sampled_from([None, 10]))},
        encoding=encoding,
        dac=dac,
        adc=adc,
        output_stage=stage if adc["kind"] == "uniform" and draw(st.booleans()) else None,
        wires=wires,
        read_noise=draw(st.sampled_from(["frozen", "split", None])),
        compensation=draw(st.sampled_from([None, "global", "column"])),
    ).evolve(**(currents or {}))


@any_chip
@given(spec=drawn_chips())
def test_any_chip_gives_finite_outputs_that_scale_with_the_weights(spec):
    y = _read(spec)
    assert y.isfinite().all()
    assert torch.equal(_read(spec, 2 * _weight()), 2 * y)


@any_chip
@given(spec=drawn_chips())
def test_any_chip_is_the_same_chip_every_time(spec):
    programmed = ProgrammedMatrix(_weight(), spec, 0, "m")
    for t_s in (3600.0, 1e6, 86400.0):
        programmed.set_time(t_s)
    assert torch.equal(programmed.read(_vectors()), _read(spec))


FAINT, MIDRISE = {"sigma_cap": 1e-12, "gain_db": None}, {"adc": {"kind": "midrise"}}
ZERO = {
    "wires": ({"wires": {"r_wl_ohm": 1e-9, "r_bl_ohm": 1e-9}}, {}),
    "exact wires": ({"wires": {"r_wl_ohm": 1e-9, "r_bl_ohm": 1e-9, "model": "exact"}}, {}),
    "polarity": ({"device.polarity": {"kind": "device", "sigma": 1e-12}}, {}),
    "cubic current": ({"device.iv": {"kind": "cubic", "k3_per_V2": 1e-12}}, {"dac.encoding": "amplitude"}),
    "sinh current": ({"device.iv": {"kind": "sinh", "v0_V": 1e5}}, {"dac.encoding": "amplitude"}),
    "S-shape": ({"output_stage": {"s_shape": {"compression": 1e-12}}}, {}),
    "sense node": ({"output_stage": {"sense": {"load": 1e-12}}}, {}),
    "gain error": ({"adc.gain_sd": 1e-12}, {}),
    "offset error": ({"adc.offset_sd_lsb": 1e-12}, {}),
    "non-linearity": ({"adc.inl_cubic": 1e-12}, {}),
    "SAR": (
        {"adc": {"kind": "sar", "sigma_cap": 1e-12, "sigma_cmp": 1e-12, "gain_db": None}},
        {"adc": {"kind": "midrise"}},
    ),
    "ramp": ({"adc": {"kind": "ramp", "sigma_cap": 1e-12, "gain_db": None}}, {"adc": {"kind": "midrise"}}),
    "pipeline": ({"adc": {"kind": "pipeline", "sigma_cap": 1e-12, "gain_db": None}}, {"adc": {"kind": "midrise"}}),
}


@pytest.mark.parametrize(("faint", "off"), ZERO.values(), ids=ZERO.keys())
def test_an_effect_that_fades_away_is_an_effect_that_is_off(faint, off):
    """Up to the rare output that lies on a transition of the ADC."""
    without = PCM.evolve(tile={"rows": 16, "cols": 10}, read_noise="frozen", compensation=None).evolve(**off)
    same = torch.isclose(_read(without.evolve(**faint)), _read(without), rtol=0, atol=1e-6)
    assert same.float().mean() > 0.97


def test_the_error_grows_with_wire_resistance():
    exact = _vectors() @ _weight().t()
    quiet = cs.ChipSpec.preset("ideal").evolve(tile={"rows": 40, "cols": 24})
    errors = [
        float((_read(quiet.evolve(wires={"r_wl_ohm": ohm, "r_bl_ohm": ohm})) - exact).norm())
        for ohm in (0.01, 0.1, 1.0, 5.0, 20.0)
    ]
    assert all(low < high for low, high in pairwise(errors))


@pytest.mark.parametrize("phases", [1, 2, 4])
def test_rows_and_columns_may_be_permuted_where_wires_are_ideal(phases):
    spec = cs.ChipSpec.preset("ideal").evolve(
        dac={"bits": 8, "phases": phases, "encoding": "bit_serial"}, adc={"bits": 10, "bound": 20.0}
    )
    rows, cols = (torch.randperm(n, generator=torch.Generator().manual_seed(n)) for n in (N_IN, N_OUT))
    moved = _read(spec, _weight()[cols][:, rows], _vectors()[:, rows])
    torch.testing.assert_close(moved, _read(spec)[:, cols], rtol=0, atol=1e-9)
