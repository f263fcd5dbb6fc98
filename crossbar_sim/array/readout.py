"""What stands behind the columns of one part of a matrix, between the array and the digital side."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from crossbar_sim.converters.output_stage import OutputStage, output_stage
from crossbar_sim.converters.states import AdcState, ExactReadout, UniformAdc, adc_state, uses_dither
from crossbar_sim.converters.static_errors import StaticErrors, static_errors
from crossbar_sim.kernels.mvm import Draws
from crossbar_sim.spec import ChipSpec


class Readout(NamedTuple):
    """States of crossbar_sim.converters, None where there is nothing."""

    adc: AdcState
    errors: StaticErrors | None
    stage: OutputStage | None

    @classmethod
    def of(cls, spec: ChipSpec, seed: int, name: str, k: int, n_out: int, dtype: np.dtype) -> Readout:
        """The converters of part k of a matrix, which belong to the seed and stay what they are."""
        place = (seed, name, k, n_out, dtype)
        negative = spec.device.polarity.output_factor if spec.device.polarity is not None else 1.0
        if spec.adc is None:
            return cls(ExactReadout(), None, output_stage(None, 1.0, *place, negative))
        return cls(
            adc_state(spec.adc, *place),
            static_errors(spec.adc, *place),
            output_stage(spec.output_stage, spec.adc.bound, *place, negative),
        )

    @property
    def is_shared(self) -> bool:
        """Whether it is the same for all columns of all parts."""
        arrays = [value for value in self.adc if isinstance(value, np.ndarray)]
        return not arrays and self.errors is None and self.stage is None

    @property
    def needs_kernels(self) -> str | None:
        """What of it only the Numba kernels can do; None where torch operations can, too."""
        if not isinstance(self.adc, UniformAdc | ExactReadout) or self.errors is not None:
            return "an ADC other than an exact uniform one"
        return None if self.stage is None else "an output stage or a polarity of column sums"

    def draws(self, devices: bool, output: bool) -> Draws:
        """Which random numbers a read takes, with noise of the devices and of the output or without."""
        behind = output and self.stage is not None
        return Draws(noise=devices or (output and not behind), behind_stage=behind, dither=uses_dither(self.adc))
