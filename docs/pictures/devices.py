"""One picture for each device: spread over the target, and three states over time."""

from __future__ import annotations

from functools import partial

import numpy as np
from matplotlib.figure import Figure

from device_models import AbstractDevice, devices
from device_models.tabulated import Tabulated
from docs.pictures.base import DAY_S, YEAR_S, devices_at, label, panels, picture

COPIES = 1500
LAST_S = {"sonos": 5 * DAY_S, "reram_wan": 2 * DAY_S, "tabulated": DAY_S}
"""The last time that a device is characterised for; a year for the others."""
TABULATED = Tabulated(
    g_min_uS=2.0,
    g_max_uS=20.0,
    g_uS=(2.0, 10.0, 20.0),
    programming={
        "t_s": (1.0, 86400.0),
        "bias_uS": ((0.0, 0.0, 0.0), (-0.2, -1.0, -2.0)),
        "sigma_uS": ((0.1, 0.5, 1.0), (0.3, 0.8, 1.2)),
    },
    read={"kind": "white", "relative": (0.1, 0.05, 0.05)},
)
"""The example of the entry."""


def draw_device(figure: Figure, device: AbstractDevice) -> None:
    last_s = LAST_S.get(device.kind, YEAR_S)
    low, span = device.g_min_uS, device.g_max_uS - device.g_min_uS
    spread, states = panels(figure, f"{device.kind}: all errors of a device", "three states: mean, mean ± s.d.")
    targets = np.linspace(low, device.g_max_uS, 24)
    for t_s, name in ((0.0, "after programming"), (min(DAY_S, last_s), "after a day")):
        (g,) = devices_at(device, targets, [t_s], COPIES)
        spread.plot(targets, g.std(axis=1), label=name)
    label(spread, "target [uS]", "s.d. [uS]", legend=True)
    spread.set_ylim(0, max(spread.get_ylim()[1], 1e-3 * device.g_max_uS))
    times = np.geomspace(1.0, last_s, 13)
    g = devices_at(device, low + span * np.array([0.25, 0.5, 0.9]), times, COPIES)
    mean, sd = g.mean(axis=2), g.std(axis=2)
    for k in range(3):
        (line,) = states.semilogx(times, mean[:, k])
        states.fill_between(
            times, mean[:, k] - sd[:, k], mean[:, k] + sd[:, k], color=line.get_color(), alpha=0.25, lw=0
        )
    label(states, "time after programming [s]", "conductance [uS]")


for _kind, _cls in devices().items():
    _device = TABULATED if _cls is Tabulated else _cls()
    picture(f"device_{_kind}")(partial(draw_device, device=_device))
