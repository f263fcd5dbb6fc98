"""Weights that are computed from other parameters at each forward: weight_norm, spectral_norm, pruning, weight drop."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

COMPUTED = "parametrised weight"
"""Why such a matrix stays digital: its values are no parameter that could be written to devices once."""


def is_computed(layer: nn.Module, attribute: str) -> bool:
    """Whether a weight of a layer is no parameter of it, but computed from others."""
    return attribute not in layer._parameters


def sources_of(layer: nn.Module, weights: Iterable[str]) -> list[str]:
    """Parameters from which hooks compute `weights`: `weight_g` and `weight_v`, `weight_orig`, `weight_hh_l0_raw`."""
    prefixes = tuple(f"{name}_" for name in weights if is_computed(layer, name))
    return [name for name in layer._parameters if name.startswith(prefixes)]
