"""Every effect has an entry with a picture, and the pictures can be drawn from the package as it is."""

import re
from pathlib import Path

import pytest
from PIL import Image

import device_models.effects
from crossbar_sim.spec import adc, dac, programming
from device_models import devices

ROOT = Path(__file__).parents[2]
ENTRIES = ROOT / "docs" / "physics"
WITHOUT_PICTURES = {"presets.md"}
"""A table of chips made of the effects of the other entries."""


@pytest.fixture
def drawn(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    import docs.pictures

    return docs.pictures


def test_every_picture_is_kept_small_and_stands_in_one_entry(drawn):
    shown = [
        name for entry in ENTRIES.glob("*.md") for name in re.findall(r"\]\(pictures/(\w+)\.png\)", entry.read_text())
    ]
    files = {path.stem: path.stat().st_size for path in (ENTRIES / "pictures").iterdir()}
    assert sorted(shown) == sorted(drawn.pictures) == sorted(files)
    assert max(files.values()) < 40_000
    assert sum(files.values()) < 1_500_000


def test_every_entry_and_every_effect_has_a_picture(drawn):
    entries = {entry.name: entry.read_text() for entry in ENTRIES.glob("*.md")}
    assert [name for name, text in entries.items() if "](pictures/" not in text] == sorted(WITHOUT_PICTURES)
    effects = {path.stem for path in Path(device_models.effects.__file__).parent.glob("*.py")} - {"__init__", "checks"}
    wanted = {f"effect_{name}" for name in effects} | {f"device_{kind}" for kind in devices()}
    wanted |= {"effect_lines", "programming_retarget"}
    wanted |= {f"programming_{kind}" for kind in programming._kinds() if kind != "law"}  # the pictures of the devices
    assert wanted - set(drawn.pictures) == set()


def test_every_converter_and_input_encoding_is_described():
    text = (ENTRIES / "converters.md").read_text()
    kinds = [*adc._kinds(), *dac._encodings()]
    assert [kind for kind in kinds if f"`{kind}`" not in text and f"`kind: {kind}`" not in text] == []


@pytest.mark.parametrize("name", ["effect_polarity", "encoding_pairs", "converter_quantisers", "device_pcm_1m"])
def test_pictures_are_drawn_from_the_package(name, drawn, tmp_path):
    path = drawn.save(name, tmp_path)
    found, kept = Image.open(path), Image.open(ENTRIES / "pictures" / f"{name}.png")
    assert found.size == kept.size
    assert len(found.convert("L").getcolors()) > 20  # more than an empty figure
