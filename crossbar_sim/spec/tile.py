"""Size of one physical array."""

from __future__ import annotations

from pydantic import Field

from device_models.strict import Count, StrictModel


class TileSpec(StrictModel):
    """One tile. A larger matrix is split evenly: 576 rows on tiles of at most 512 become 288 + 288."""

    rows: Count | None = Field(512, description="Largest number of word lines (inputs) of a tile; none is unlimited")
    cols: Count | None = Field(
        512, description="Largest number of bit-line pairs (outputs) of a tile; none is unlimited"
    )
