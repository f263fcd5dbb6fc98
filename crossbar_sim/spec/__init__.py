"""What a chip is: frozen, strict Pydantic specifications, without any numerics."""

from crossbar_sim.spec.chip import ChipSpec
from crossbar_sim.spec.compensation import GlobalDriftCompensation
from crossbar_sim.spec.converters import AdcSpec, CalibratedRange, DacSpec, DynamicRange, StaticRange
from crossbar_sim.spec.encoding import PairEncoding, SigmaClip
from crossbar_sim.spec.read_noise import FrozenReadNoise, PerReadNoise, SplitReadNoise
from crossbar_sim.spec.tile import TileSpec

__all__ = [
    "AdcSpec",
    "CalibratedRange",
    "ChipSpec",
    "DacSpec",
    "DynamicRange",
    "FrozenReadNoise",
    "GlobalDriftCompensation",
    "PairEncoding",
    "PerReadNoise",
    "SigmaClip",
    "SplitReadNoise",
    "StaticRange",
    "TileSpec",
]
