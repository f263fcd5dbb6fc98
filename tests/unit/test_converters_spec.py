"""The family of ADC specifications."""

import pytest
from pydantic import Field

from crossbar_sim.spec.adc import (
    AdcKind,
    AsymmetricAdcSpec,
    CcoAdcSpec,
    CyclicAdcSpec,
    RampAdcSpec,
    SarAdcSpec,
    UniformAdcSpec,
)
from device_models.errors import SpecError
from device_models.strict import StrictModel


class Tile(StrictModel):
    adc: AdcKind | None = Field(None, description="Converter")


def test_a_description_without_kind_is_uniform_and_keeps_its_fields():
    found = Tile(adc={"bits": 6, "bound": 12.0, "output_noise": 0.04}).adc
    assert found == UniformAdcSpec(bits=6, bound=12.0, output_noise=0.04)


@pytest.mark.parametrize(
    "spec",
    [
        UniformAdcSpec(dnl_lsb=0.1),
        AsymmetricAdcSpec(lower=-2.0),
        CcoAdcSpec(correction="random_phase"),
        RampAdcSpec(sigma_cap=0.15, gain_db=60.0),
        SarAdcSpec(split_cdac=True, group_size=16),
        CyclicAdcSpec(sigma_cmp=0.1),
    ],
)
def test_every_kind_comes_back_from_its_dump(spec):
    assert Tile(adc=spec.model_dump()).adc == spec
    assert Tile(adc=spec).adc is spec


def test_kinds_by_name_and_none():
    assert Tile(adc="sar").adc == SarAdcSpec()
    assert Tile().adc is None
    assert Tile(adc=None).adc is None


@pytest.mark.parametrize(
    ("adc", "message"),
    [
        ({"kind": "sarr"}, 'nearest: "sar"'),
        ({"bits": 1}, "tile.adc.bits = 1: must be at least 2"),
        ({"gain_db": 60.0}, "tile.adc.gain_db: unknown field"),
        ({"kind": "sar", "sigma_cap": 0.3}, "tile.adc.sigma_cap = 0.3: must be at most 0.2"),
        ({"kind": "pipeline", "sigma_cap": 0.2}, "tile.adc.sigma_cap = 0.2: must be at most 0.1"),
        ({"kind": "asymmetric", "lower": 10.0}, "tile.adc: lower = 10 must be below bound = 10"),
        ({"dnl_lsb": 0.5}, "tile.adc.dnl_lsb = 0.5: must be at most 0.25"),
        ({"gain_sd": 0.0}, "tile.adc.gain_sd = 0.0: must be above 0"),
        ({"bound": float("nan")}, "tile.adc.bound = nan: must be a finite number"),
        ({"kind": "cco", "correction": "half"}, "tile.adc.correction = 'half': must be one of"),
        (3, "must be a mapping with a kind"),
    ],
)
def test_refusals_name_the_path_and_what_is_accepted(adc, message):
    with pytest.raises(SpecError) as caught:
        Tile(adc=adc)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "spec", [UniformAdcSpec, AsymmetricAdcSpec, CcoAdcSpec, RampAdcSpec, SarAdcSpec, CyclicAdcSpec]
)
def test_every_field_is_described(spec):
    assert all(field.description for name, field in spec.model_fields.items() if name not in ("kind", "source"))
