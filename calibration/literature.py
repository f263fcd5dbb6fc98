"""Parts of a device that were not measured, from a published one."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from device_models.base import AbstractDevice, AbstractPowerLawDevice

Floats = NDArray[np.float64]


class Part(NamedTuple):
    """A field of device_models.tabulated.Tabulated, and where it comes from."""

    value: dict[str, Any]
    source: str


def published_parts(device: AbstractDevice, g_uS: Floats) -> dict[str, Part]:
    """Laws of a published device over another window: the same share of g_max, errors scaled with it.

    Any device gives its programming error at time 0; one with power-law drift also drift and 1/f read noise.
    """
    own, top = np.asarray(g_uS, float), float(g_uS[-1])
    scale = top / device.g_max_uS
    curves = device.curves(0.0, 0.0)

    def over(nodes_uS: Floats, factor: float = 1.0) -> tuple[float, ...]:
        return tuple(map(float, factor * np.interp(own / scale, curves.nodes_uS, nodes_uS)))

    source = device.source or device.kind
    programming = {
        "bias_uS": (over(curves.program_bias_uS, scale),),
        "sigma_uS": (over(curves.program_sigma_uS, scale),),
    }
    parts = {"programming": Part(programming, source)}
    if isinstance(device, AbstractPowerLawDevice):
        drift = {"t0_s": device.t0_s, "nu_mean": over(curves.nu_mean), "nu_sigma": over(curves.nu_sigma)}
        noise = device.read_scale * device.q_s(curves.nodes_uS)
        clock = {"t0_s": device.t0_s, "t_read_s": device.t_read_s}
        parts["drift"] = Part(drift, source)
        parts["read"] = Part({"kind": "one_over_f", "q_s": over(noise), **clock}, source)
    return parts
