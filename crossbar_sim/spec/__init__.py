"""What a chip is: frozen, strict Pydantic specifications, without any numerics."""

from crossbar_sim.spec.adc import AdcKind, TabulatedAdcSpec, UniformAdcSpec
from crossbar_sim.spec.chip import ChipSpec
from crossbar_sim.spec.compensation import (
    AffineCompensation,
    ColumnDriftCompensation,
    Compensation,
    GlobalDriftCompensation,
    compensation_kinds,
)
from crossbar_sim.spec.dac import DacSpec
from crossbar_sim.spec.encoding import BitSliceEncoding, Encoding, OffsetEncoding, PairEncoding, SigmaClip
from crossbar_sim.spec.input_range import (
    CalibratedRange,
    DynamicRange,
    FoundRange,
    InputRange,
    MinimumErrorRange,
    SigmaRange,
    StaticRange,
)
from crossbar_sim.spec.output_stage import OutputStageSpec
from crossbar_sim.spec.programming import (
    AbstractTargetProgramming,
    GradientDescentProgramming,
    LawProgramming,
    Programming,
    ProgramVerify,
    SingleShot,
)
from crossbar_sim.spec.read_noise import FrozenReadNoise, PerReadNoise, ReadNoise, SplitReadNoise
from crossbar_sim.spec.tile import LineFaults, TileSpec
from crossbar_sim.spec.wires import WiresSpec

__all__ = [
    "AbstractTargetProgramming",
    "AdcKind",
    "AffineCompensation",
    "BitSliceEncoding",
    "CalibratedRange",
    "ChipSpec",
    "ColumnDriftCompensation",
    "Compensation",
    "DacSpec",
    "DynamicRange",
    "Encoding",
    "FoundRange",
    "FrozenReadNoise",
    "GlobalDriftCompensation",
    "GradientDescentProgramming",
    "InputRange",
    "LawProgramming",
    "LineFaults",
    "MinimumErrorRange",
    "OffsetEncoding",
    "OutputStageSpec",
    "PairEncoding",
    "PerReadNoise",
    "ProgramVerify",
    "Programming",
    "ReadNoise",
    "SigmaClip",
    "SigmaRange",
    "SingleShot",
    "SplitReadNoise",
    "StaticRange",
    "TabulatedAdcSpec",
    "TileSpec",
    "UniformAdcSpec",
    "WiresSpec",
    "compensation_kinds",
]
