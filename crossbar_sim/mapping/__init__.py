"""From a weight matrix to tiles, scales and target conductances, and back. Pure: shapes and numbers in and out."""

from crossbar_sim.mapping.coverage import BY_RULE, Coverage, DigitalMatrix, pattern_of
from crossbar_sim.mapping.layout import Layout, Plane, WeightDevice, layout_of
from crossbar_sim.mapping.plan import ModelPlan, TilePlan, split_evenly
from crossbar_sim.mapping.scale import full_scale_weights

__all__ = [
    "BY_RULE",
    "Coverage",
    "DigitalMatrix",
    "Layout",
    "ModelPlan",
    "Plane",
    "TilePlan",
    "WeightDevice",
    "full_scale_weights",
    "layout_of",
    "pattern_of",
    "split_evenly",
]
