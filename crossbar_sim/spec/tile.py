"""Size of one physical array, and its broken lines."""

from __future__ import annotations

from pydantic import Field

from device_models.effects.faults import Probability
from device_models.strict import Count, StrictModel


class LineFaults(StrictModel):
    """Lines that are open between their driver or sense node and the array: none of their devices carries a current.

    Equation   P(word line broken) = p_word_line, P(bit line broken) = p_bit_line, independent; g = 0 and no noise on
               all devices of a broken line, whatever the time
    Scope      each line of each tile for ever, as the seed decides; where pairs are interleaved, g+ and g- share a bit
               line and have word lines of their own, else the other way round
    """

    p_word_line: Probability = Field(0.0, description="Chance that a word line is broken, per line of a tile")
    p_bit_line: Probability = Field(0.0, description="Chance that a bit line is broken, per line of a tile")

    @property
    def is_ideal(self) -> bool:
        return self.p_word_line == self.p_bit_line == 0


class TileSpec(StrictModel):
    """One tile. A larger matrix is split evenly: 576 rows on tiles of at most 512 become 288 + 288."""

    rows: Count | None = Field(512, description="Largest number of word lines (inputs) of a tile; none is unlimited")
    cols: Count | None = Field(
        512, description="Largest number of bit-line pairs (outputs) of a tile; none is unlimited"
    )
    faults: LineFaults | None = Field(None, description="Broken word and bit lines")
