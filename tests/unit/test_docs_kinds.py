"""Pages name every kind that there is, and their counts are right."""

import re
from pathlib import Path

import pytest

from crossbar_sim.spec import AdcKind, Compensation, Encoding, InputRange, Programming, ReadNoise
from crossbar_sim.spec.dac import InputEncoding
from device_models import AbstractDevice, Device
from device_models.effects import IVCurve, PolarityAsymmetry, TrapAmplitude

ROOT = Path(__file__).parents[2]
KINDS = {
    "converters": [AdcKind, InputEncoding],
    "effects": [IVCurve, PolarityAsymmetry, TrapAmplitude],
    "programming": [Programming],
    "encodings": [Encoding],
    "compensation": [Compensation, InputRange],
    "devices": [Device, ReadNoise],
}
NUMBERS = ["two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen"]
COUNTED = {"kinds of ADC": AdcKind, "input encodings": InputEncoding, "published devices": Device}


def _kinds(union):
    return set(union.__metadata__[0].family())


@pytest.mark.parametrize("page", KINDS)
def test_a_page_names_every_kind(page):
    text = (ROOT / f"docs/physics/{page}.md").read_text(encoding="utf-8")
    kinds = set().union(*map(_kinds, KINDS[page]))
    assert {kind for kind in kinds if not re.search(rf"`(?:{{?[\w.]+: )?{kind}[`:,]", text)} == set()


def test_the_effects_of_a_device_are_on_their_page():
    text = (ROOT / "docs/physics/effects.md").read_text(encoding="utf-8")
    fields = AbstractDevice.model_fields.items()
    effects = {name for name, field in fields if "device_models.effects" in str(field.annotation)}
    assert {"faults", "telegraph", "temperature", "polarity", "iv"} == effects
    assert {name for name in effects if f"`device.{name}`" not in text} == set()


def test_counts_of_kinds_are_right():
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    for page in pages:
        text = page.read_text(encoding="utf-8")
        for what, union in COUNTED.items():
            for number in re.findall(rf"\b({'|'.join(NUMBERS)}) {what}\b", text):
                assert NUMBERS.index(number) + 2 == len(_kinds(union)), f"{page.name}: {number} {what}"
