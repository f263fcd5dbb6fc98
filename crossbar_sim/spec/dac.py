"""The DAC at the rows of a tile: resolution, range, and how a code is played out in time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from crossbar_sim.spec.input_range import DynamicRange, InputRange, MinimumErrorRange
from device_models.strict import Bits, Count, KindOf, Positive, StrictModel


class PwmEncoding(StrictModel):
    """The code is the duration of one pulse."""

    kind: Literal["pwm"] = "pwm"


class BitSerialEncoding(StrictModel):
    """One pass of equal pulses per magnitude bit."""

    kind: Literal["bit_serial"] = "bit_serial"
    digitised: Literal["each_pass", "once"] = Field(
        "each_pass", description="Convert and add digitally after each pass, or add weighted charges and convert once"
    )


class SplitPwmEncoding(StrictModel):
    """Low and high bits are the durations of two pulses, each converted, and added digitally."""

    kind: Literal["split_pwm"] = "split_pwm"
    low_bits: Count = Field(3, description="Magnitude bits of the first of the two pulses")


class AmplitudeEncoding(StrictModel):
    """The code is the voltage of one pulse."""

    kind: Literal["amplitude"] = "amplitude"
    v_read_V: Positive = Field(0.2, description="Voltage of an input at full scale")


def _encodings() -> Mapping[str, type[StrictModel]]:
    return {
        "pwm": PwmEncoding,
        "bit_serial": BitSerialEncoding,
        "split_pwm": SplitPwmEncoding,
        "amplitude": AmplitudeEncoding,
    }


InputEncoding = Annotated[PwmEncoding | BitSerialEncoding | SplitPwmEncoding | AmplitudeEncoding, KindOf(_encodings)]


class DacSpec(StrictModel):
    """Uniform symmetric quantiser of the inputs: L = 2^(bits-1) - 1 steps on each side of zero, half to even."""

    bits: Bits | None = Field(8, description="Resolution including sign; none keeps the range without rounding")
    range: InputRange = Field(DynamicRange(), description="Full scale of the input")
    encoding: InputEncoding = Field(PwmEncoding(), description="How a code is played out on the word line")
    phases: Literal[1, 2, 4] = Field(
        1,
        description="1: all inputs on all devices at once; 2: positive inputs, then negative ones; "
        "4: each sign of input on each device of the pair by itself",
    )
    stochastic_rounding: bool = Field(False, strict=True, description="Round up with the probability of the fraction")

    @model_validator(mode="after")
    def _resolution(self) -> Self:
        encoding = self.encoding
        if self.bits is None:
            if isinstance(encoding, BitSerialEncoding | SplitPwmEncoding):
                raise ValueError(f"encoding {encoding.kind} plays out bits and needs bits, 2 to 16")
            if self.stochastic_rounding:
                raise ValueError("stochastic_rounding needs bits, 2 to 16")
            if isinstance(self.range, MinimumErrorRange):
                raise ValueError("range minimum_mse needs bits, 2 to 16")
        elif isinstance(encoding, SplitPwmEncoding) and encoding.low_bits > self.bits - 2:
            raise ValueError(
                f"encoding.low_bits = {encoding.low_bits} must leave one of the {self.bits - 1} magnitude bits of "
                f"bits = {self.bits} to the second pulse"
            )
        return self
