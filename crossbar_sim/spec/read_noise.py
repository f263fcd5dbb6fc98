"""How the devices' read noise is seen: frozen, redrawn at each read, or split at an observation window."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from device_models.strict import KindOf, Positive, StrictModel


class SplitReadNoise(StrictModel):
    """1/f noise slower than the observation is a frozen offset of each device, the rest is fresh at each read."""

    kind: Literal["split"] = "split"
    t_obs_s: Positive = Field(1.0, description="Observation window: slower fluctuations are frozen during it")

    @property
    def window_s(self) -> float:
        return self.t_obs_s


class FrozenReadNoise(StrictModel):
    """The whole read noise is one draw per device, kept until the time is set anew."""

    kind: Literal["frozen"] = "frozen"

    @property
    def window_s(self) -> float:
        return 0.0


class PerReadNoise(StrictModel):
    """The whole read noise is fresh for each device at each read."""

    kind: Literal["per_read"] = "per_read"

    @property
    def window_s(self) -> float:
        return math.inf


def _kinds() -> Mapping[str, type[StrictModel]]:
    return {"split": SplitReadNoise, "frozen": FrozenReadNoise, "per_read": PerReadNoise}


ReadNoise = Annotated[SplitReadNoise | FrozenReadNoise | PerReadNoise, KindOf(_kinds)]
