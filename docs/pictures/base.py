"""What all pictures share: their register, their look, and chips of a few devices to draw from."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from crossbar_sim.array.matrix import AnalogMatrix
from crossbar_sim.array.programmed import ProgrammedMatrix
from crossbar_sim.spec import ChipSpec
from device_models import AbstractDevice

FOLDER = Path(__file__).parents[1] / "physics" / "pictures"
STYLE = {"font.size": 7, "axes.linewidth": 0.6, "lines.linewidth": 1.2, "legend.frameon": False, "legend.fontsize": 6}
DAY_S, YEAR_S = 86400.0, 31536000.0

Floats = NDArray[np.floating]
Draw = Callable[[Figure], None]

pictures: dict[str, Draw] = {}
"""Every picture by the name of its file."""


def picture(name: str) -> Callable[[Draw], Draw]:
    """Enter a function that draws on an empty figure under the name of its file."""

    def enter(draw: Draw) -> Draw:
        if name in pictures:
            raise ValueError(f"picture {name!r}: there are two of this name")
        pictures[name] = draw
        return draw

    return enter


def save(name: str, folder: Path = FOLDER) -> Path:
    """Draw one picture into `folder`."""
    with rc_context(STYLE):
        figure = Figure(figsize=(5.4, 2.1), dpi=110, layout="constrained")
        FigureCanvasAgg(figure)
        pictures[name](figure)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{name}.png"
        drawn = BytesIO()
        figure.savefig(drawn)
        Image.open(drawn).convert("RGB").quantize(64).save(path, optimize=True)  # a third of the size
    return path


def panels(figure: Figure, *titles: str) -> list[Axes]:
    """Panels side by side."""
    found = []
    for number, title in enumerate(titles):
        axes = figure.add_subplot(1, len(titles), number + 1)
        axes.set_title(title, fontsize=7)
        found.append(axes)
    return found


def label(axes: Axes, x: str, y: str, legend: bool = False) -> None:
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    if legend:
        axes.legend()


def devices_at(
    device: AbstractDevice, targets_uS: ArrayLike, times_s: ArrayLike, copies: int, **chip: object
) -> Floats:
    """Conductances [uS] of `copies` devices of each target at each time, (times, targets, copies).

    Devices of offset cells with all noise frozen, as their chip has them.
    """
    targets = np.asarray(targets_uS, float)
    spec = ChipSpec(
        device=device, dac=None, adc=None, compensation=None, read_noise="frozen", tile={"rows": None, "cols": None},
        encoding={"kind": "offset", "scale": "tensor"}, **chip,
    )  # fmt: skip
    u = 2 * (targets - device.g_min_uS) / (device.g_max_uS - device.g_min_uS) - 1
    weight = np.repeat(u[:, None], copies + 1, axis=1)
    weight[:, copies] = 1.0  # fills the window
    matrix = AnalogMatrix(torch.from_numpy(weight), spec, 0, "picture")
    found = []
    for t_s in np.asarray(times_s, float):
        matrix.age(torch.from_numpy(weight), t_s)
        found.append(matrix.conductances(torch.from_numpy(weight), (0, 0))[0][:copies].T)
    return np.stack(found)


def relative_error(spec: ChipSpec, weight: torch.Tensor, x: torch.Tensor) -> float:
    """rms error of products on a chip just after programming, relative to the rms of the products."""
    exact = x @ weight.t()
    return float((ProgrammedMatrix(weight, spec, 0, "picture").read(x) - exact).norm() / exact.norm())
