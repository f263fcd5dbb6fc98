"""From a weight matrix to tiles, scales and target conductances, and back. Pure: shapes and numbers in and out."""

from crossbar_sim.mapping.encode import decode_pair, encode_pair
from crossbar_sim.mapping.plan import ModelPlan, TilePlan, split_evenly
from crossbar_sim.mapping.scale import full_scale_weights

__all__ = ["ModelPlan", "TilePlan", "decode_pair", "encode_pair", "full_scale_weights", "split_evenly"]
