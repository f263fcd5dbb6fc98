"""From weights to conductances."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from crossbar_sim.mapping import layout_of
from crossbar_sim.spec import BitSliceEncoding, Encoding, OffsetEncoding, PairEncoding
from docs.pictures.base import label, panels, picture


def _draw(figure: Figure, **encodings: Encoding) -> None:
    u = np.linspace(-1, 1, 801)
    titles = [name.replace("_", " ") for name in encodings]
    for axes, encoding in zip(panels(figure, *titles), encodings.values(), strict=True):
        layout = layout_of(encoding)
        signs = [device.weight for plane in layout.planes for device in plane.devices]
        seen = {1: 0, -1: 0}
        for g, weight in zip(layout.targets(u, 2.0, 25.0), signs, strict=True):
            sign = 1 if weight > 0 else -1
            axes.plot(u, g, ls="-" if sign > 0 else "--", color=f"C{seen[sign]}")
            seen[sign] += 1
        label(axes, "relative weight", "target [uS]")


@picture("encoding_pairs")
def pairs(figure: Figure) -> None:
    _draw(
        figure,
        one_sided_pair=PairEncoding(),
        two_sided_pair=PairEncoding(pair="two_sided"),
        offset=OffsetEncoding(),
    )


@picture("encoding_many")
def many(figure: Figure) -> None:
    _draw(
        figure,
        three_devices_msf=PairEncoding(devices=3, fill="msf"),
        significance_1_and_3=PairEncoding(devices=2, fill="significance", significance=(1.0, 3.0)),
        bit_slices_of_2_and_3=BitSliceEncoding(bits=6, slices=(2, 3)),
    )
