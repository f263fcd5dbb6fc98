"""Digital correction of drift."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from device_models.strict import Count, StrictModel


class GlobalDriftCompensation(StrictModel):
    """One digital factor per tile from a reference read after programming and the same read later.

    Both reads drive random +-1 vectors through the same DAC, devices and ADC; the factor is the least-squares scale.
    """

    kind: Literal["global"] = "global"
    probe_vectors: Count = Field(64, description="Random +-1 vectors of a reference read")
