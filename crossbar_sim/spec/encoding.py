"""How a weight becomes conductances."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from device_models.strict import Positive, StrictModel


class SigmaClip(StrictModel):
    """Weights are limited to +-alpha times their root mean square before they are mapped."""

    alpha: Positive = Field(2.5, description="Limit in root-mean-square weights")
    per: Literal["tensor", "column"] = Field("tensor", description="Over what the root mean square is taken")


class PairEncoding(StrictModel):
    """A differential pair of devices for each weight: w ~ (g+ - g-).

    one_sided   g+ = g_min + s max(w, 0), g- = g_min + s max(-w, 0), s = (g_max - g_min) / w_max
    two_sided   g+- = g_min + (g_max - g_min)(1 +- w / w_max) / 2
    """

    pair: Literal["one_sided", "two_sided"] = Field("one_sided", description="How the pair shares a weight")
    scale: Literal["tensor", "tile", "column", "tile_column"] = Field(
        "column",
        description="Over what w_max is taken: the matrix, each tile, each output, or each output of each tile",
    )
    clip: SigmaClip | None = Field(None, description="Limit of the weights before mapping; none keeps all")
