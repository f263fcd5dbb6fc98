"""ChipSpec: everything that a chip is, as one frozen, validated value."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import Field, model_validator

from crossbar_sim.spec.adc import AdcKind, UniformAdcSpec
from crossbar_sim.spec.compensation import Compensation, GlobalDriftCompensation
from crossbar_sim.spec.dac import AmplitudeEncoding, BitSerialEncoding, DacSpec, SplitPwmEncoding
from crossbar_sim.spec.encoding import Encoding, OffsetEncoding, PairEncoding
from crossbar_sim.spec.explain import explain_rows, format_rows
from crossbar_sim.spec.output_stage import OutputStageSpec
from crossbar_sim.spec.programming import GradientDescentProgramming, LawProgramming, Programming
from crossbar_sim.spec.read_noise import ReadNoise, SplitReadNoise
from crossbar_sim.spec.tile import TileSpec
from crossbar_sim.spec.wires import WiresSpec
from crossbar_sim.spec.yaml_text import parse_yaml, read_yaml, write_text
from device_models import Device
from device_models.errors import SpecError, UsageError, nearest
from device_models.strict import StrictModel, Text


class ChipSpec(StrictModel):
    """A chip: its devices, tiles, encoding, converters, read noise and drift compensation.

    Immutable; `evolve` gives a changed copy, e.g. ``spec.evolve(**{"dac.bits": 6})``. Off is `None`.
    """

    schema_version: Literal[1] = Field(1, description="Version of this layout")
    name: Text = Field("custom", description="Name in tables and plots")
    device: Device = Field(description="The memory device")
    tile: TileSpec = Field(TileSpec(), description="Size of an array")
    encoding: Encoding = Field(PairEncoding(), description="From weights to conductances")
    wires: WiresSpec | None = Field(None, description="Resistance of word and bit lines; none: ideal wires")
    programming: Programming = Field(LawProgramming(), description="How the devices are written")
    dac: DacSpec | None = Field(DacSpec(), description="Input converter; none drives the array with exact inputs")
    output_stage: OutputStageSpec | None = Field(
        None, description="Analog stage between columns and ADC; none is ideal"
    )
    adc: AdcKind | None = Field(UniformAdcSpec(), description="Output converter; none reads exact column sums")
    read_noise: ReadNoise | None = Field(SplitReadNoise(), description="How read noise of the devices is seen")
    compensation: Compensation | None = Field(
        GlobalDriftCompensation(), description="Digital drift compensation, renewed whenever the time is set"
    )
    weight_dtype: Literal["bfloat16"] | None = Field(
        None,
        description="Float type that effective weights are held in, rounded by up to 0.4 %; none: that of the sums",
    )

    @classmethod
    def path_root(cls) -> str:
        return "chip"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.adc is not None and self.dac is None:
            raise ValueError("adc needs dac: its bound counts in input ranges (dac.bits: null gives an exact input)")
        if self.output_stage is not None and self.adc is None:
            raise ValueError("output_stage needs adc: its compression counts in the bound of the ADC")
        if self.dac is not None and self.dac.phases == 4 and isinstance(self.encoding, OffsetEncoding):
            raise ValueError("dac.phases = 4 reads g+ and g- apart, but an offset encoding has one device for a weight")
        if self.wires is not None and not self.wires.is_linear:
            raise ValueError(
                "wires.idle_rows = 'floating' and wires.topology = 'separate_source' make currents depend on the whole "
                "input pattern; crossbar_sim.circuit solves single vectors of such arrays, a chip cannot have them"
            )
        if self.wires is not None and self.wires.interleaved and isinstance(self.encoding, OffsetEncoding):
            raise ValueError("wires.interleaved needs pairs of devices, but an offset encoding has one for a weight")
        self._check_currents()
        if self.device.telegraph is not None and self.read_noise is None:
            raise ValueError("device.telegraph is noise of the reads, but read_noise is off")
        self._check_programming()
        self._check_bound_management()
        return self

    def _check_bound_management(self) -> None:
        """Refuse bound management where halved inputs would not lower the outputs, or vanish."""
        if self.dac is None or self.adc is None or self.adc.bound_management is None:
            return
        encoding = self.dac.encoding
        bit_by_bit = isinstance(encoding, BitSerialEncoding) and encoding.digitised == "each_pass"
        if bit_by_bit or isinstance(encoding, SplitPwmEncoding):
            raise ValueError(
                f"adc.bound_management: dac.encoding {encoding.kind} is converted part by part, and parts do not get "
                "smaller with the input; accepted: pwm, amplitude, or bit_serial with digitised: once"
            )
        halvings = self.adc.bound_management.max_halvings
        if self.dac.bits is not None and 2**halvings >= 2**self.dac.bits - 2:
            raise ValueError(
                f"adc.bound_management.max_halvings = {halvings}: rounds inputs of dac.bits = {self.dac.bits} to zero; "
                "give fewer halvings or more bits"
            )

    def _check_programming(self) -> None:
        """Refuse programming that this chip has no pairs or no faults for."""
        programming = self.programming
        apart = isinstance(self.encoding, OffsetEncoding) or (self.dac is not None and self.dac.phases == 4)
        if isinstance(programming, GradientDescentProgramming):
            if apart or not isinstance(self.encoding, PairEncoding) or self.encoding.devices > 1:
                raise ValueError(
                    "programming.kind = 'gradient_descent' changes g+ - g- of a pair; give encoding.kind: pair with "
                    "devices: 1, and dac.phases 1 or 2"
                )
        elif programming.retarget_stuck:
            if apart:
                raise ValueError(
                    "programming.retarget_stuck needs devices whose currents are subtracted ahead of the ADC; an "
                    "offset encoding has one for a weight, and dac.phases = 4 reads g+ and g- apart"
                )
            stuck, lines = self.device.faults, self.tile.faults
            if (stuck is None or stuck.is_ideal) and (lines is None or lines.is_ideal):
                raise ValueError("programming.retarget_stuck cannot act: device.faults and tile.faults are off")

    def _check_currents(self) -> None:
        """Refuse currents that this chip would not show, or that no tile of it can have."""
        iv, polarity = self.device.iv, self.device.polarity
        encoding = self.dac.encoding if self.dac is not None else None
        if iv is None:
            return
        if not isinstance(encoding, AmplitudeEncoding):
            raise ValueError(
                "device.iv bends inputs that are voltages; give dac.encoding: amplitude, or leave iv out: with inputs "
                "coded in time it is a gain of the device that its programming takes up"
            )
        if encoding.v_read_V > iv.v_limit_V:
            raise ValueError(
                f"dac.encoding.v_read_V = {encoding.v_read_V:g} V: device.iv holds up to {iv.v_limit_V:g} V"
            )
        if polarity is not None or self.wires is not None:
            other = "polarity" if polarity is not None else "wires"
            raise ValueError(f"device.iv cannot be combined with {other} on a chip; crossbar_sim.circuit solves it")

    @classmethod
    def presets(cls) -> list[str]:
        """Names accepted by `preset`."""
        return sorted(_preset_texts())

    @classmethod
    def preset(cls, name: str) -> Self:
        """A published chip by name; its values and their sources: ``print(ChipSpec.preset(name).explain())``."""
        texts = _preset_texts()
        if name not in texts:
            raise UsageError(f"preset = {name!r}: must be one of {', '.join(sorted(texts))}{nearest(str(name), texts)}")
        return cls._parse(parse_yaml(texts[name]), f"preset {name}")

    @classmethod
    def from_yaml(cls, path: str | Path) -> Self:
        """Read a specification from a YAML or JSON file. Only data are read, never code."""
        return cls._parse(read_yaml(path, "a chip specification"), str(path))

    @classmethod
    def _parse(cls, data: Any, origin: str) -> Self:
        if not isinstance(data, dict):
            raise UsageError(f"{origin}: must hold a mapping of chip fields, holds {type(data).__name__}")
        try:
            return cls(**data)
        except SpecError as error:
            raise SpecError(f"{origin}: {error.root}", error.problems) from None

    def to_dict(self) -> dict[str, Any]:
        """Plain data; `ChipSpec(**spec.to_dict())` equals the original."""
        data: dict[str, Any] = json.loads(self.model_dump_json())
        return data

    def to_yaml(self, path: str | Path | None = None) -> str:
        """The specification as YAML text, also written to `path` where given."""
        text = yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True, width=120)
        if path is not None:
            write_text(path, text)
        return text

    def key_but_bound(self) -> str:
        """A text that chips share which differ only in the full scale of their ADC, as layers of one chip may."""
        data = self.to_dict()
        del data["source"]
        if data["adc"] is not None:
            del data["adc"]["source"], data["adc"]["bound"]
        return json.dumps(data, sort_keys=True)

    def explain(self) -> str:
        """Every field with its value, unit, meaning and source, as a table."""
        return format_rows(explain_rows(self))


@cache
def _preset_texts() -> dict[str, str]:
    folder = files("crossbar_sim.spec") / "presets"
    return {
        entry.name.removesuffix(".yaml"): entry.read_text(encoding="utf-8")
        for entry in folder.iterdir()
        if entry.name.endswith(".yaml")
    }
