"""WiresSpec: combinations that cannot act are refused, and how its fields become segments."""

import pytest

from crossbar_sim.circuit.lines import lines_of
from crossbar_sim.spec.wires import WiresSpec
from device_models.errors import SpecError

NONE = {"r_wl_ohm": None, "r_bl_ohm": None}
SOURCE = {"r_wl_ohm": None, "r_source_ohm": 3.0, "topology": "separate_source", "model": "exact"}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (NONE, "no resistance is given"),
        ({**NONE, "r_sense_ohm": 5.0, "two_sided": True}, "two_sided cannot act"),
        ({"r_bl_ohm": None, "idle_rows": "floating", "model": "exact"}, "idle_rows floating cannot act"),
        ({"idle_rows": "floating"}, "model ratio needs idle_rows clamped"),
        ({**SOURCE, "model": "first_order"}, "model first_order needs"),
        ({**SOURCE, "r_wl_ohm": 1.0}, "r_wl_ohm cannot act with topology separate_source"),
        ({**SOURCE, "two_sided": True}, "two_sided cannot act with topology separate_source"),
        ({**SOURCE, "interleaved": True}, "interleaved cannot act with topology separate_source"),
        ({**SOURCE, "idle_rows": "floating"}, "idle_rows floating cannot act with topology separate_source"),
        ({"r_source_ohm": 1.0}, "r_source_ohm acts only with topology separate_source"),
        ({"model": "first_order", "max_c": 1.5}, "max_c"),
        ({"model": "first_order", "max_c": None}, "max_c"),
        ({"r_wl_ohm": -1.0}, "wires.r_wl_ohm = -1.0: must be above 0 ohm"),
        ({"r_wl_ohm": "1"}, "wires.r_wl_ohm = '1': must be a number"),
        ({"max_c": 0.0}, "wires.max_c = 0.0: must be above 0"),
        ({"two_sided": 1}, "wires.two_sided = 1"),
        ({"r_word": 1.0}, "wires.r_word: unknown field"),
        ({"model": "exakt"}, 'nearest: "exact"'),
    ],
)
def test_what_cannot_act_is_refused_in_one_line(fields, message):
    with pytest.raises(SpecError, match=message) as caught:
        WiresSpec(**fields)
    assert "\n" not in str(caught.value)


def test_every_field_is_described():
    assert all(field.description for field in WiresSpec.model_fields.values())


def test_terminals_lie_in_the_outer_segments_only():
    lines = lines_of(WiresSpec(r_wl_ohm=1.0, r_bl_ohm=2.0, r_driver_ohm=10.0, r_sense_ohm=20.0, two_sided=True), 3, 4)
    assert lines.wl_ohm.tolist() == [11, 1, 1, 1]
    assert lines.bl_ohm.tolist() == [2, 2, 22]
    assert lines.wl_far_S == 1 / 11
