"""A device without any error: what is programmed is what is read, for ever."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from device_models.base import AbstractDevice, DeviceCurves, ReferencePoint
from device_models.registry import register_device
from device_models.strict import Positive


@register_device
class Ideal(AbstractDevice):
    """No programming error, no drift, no noise."""

    kind: Literal["ideal"] = "ideal"
    source: str = "definition"
    g_max_uS: Positive = Field(25.0, description="Top of the programmable conductance window")

    def drift_factor(self, g_uS: float, t_s: float) -> float:
        """Equation: 1 at any time."""
        return 1.0

    def curves(self, t_s: float, t_obs_s: float) -> DeviceCurves:
        return self.curves_with()

    def reference_points(self) -> list[ReferencePoint]:
        return [ReferencePoint("drift_factor", {"g_uS": 12.5, "t_s": 1e9}, 1.0, 0.0, "definition")]
