"""What a chip is: frozen, strict Pydantic specifications, without any numerics."""

from crossbar_sim.spec.chip import ChipSpec
from crossbar_sim.spec.compensation import GlobalDriftCompensation
from crossbar_sim.spec.converters import AdcSpec, CalibratedRange, DacSpec, DynamicRange, StaticRange
from crossbar_sim.spec.encoding import BitSliceEncoding, Encoding, OffsetEncoding, PairEncoding, SigmaClip
from crossbar_sim.spec.programming import (
    GradientDescentProgramming,
    LawProgramming,
    Programming,
    ProgramVerify,
    SingleShot,
)
from crossbar_sim.spec.read_noise import FrozenReadNoise, PerReadNoise, ReadNoise, SplitReadNoise
from crossbar_sim.spec.tile import TileSpec

__all__ = [
    "AdcSpec",
    "BitSliceEncoding",
    "CalibratedRange",
    "ChipSpec",
    "DacSpec",
    "DynamicRange",
    "Encoding",
    "FrozenReadNoise",
    "GlobalDriftCompensation",
    "GradientDescentProgramming",
    "LawProgramming",
    "OffsetEncoding",
    "PairEncoding",
    "PerReadNoise",
    "ProgramVerify",
    "Programming",
    "ReadNoise",
    "SigmaClip",
    "SingleShot",
    "SplitReadNoise",
    "StaticRange",
    "TileSpec",
]
