"""What share of a model's matrices is on a chip, and what of them stays digital, by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

BY_RULE = "rule"


class DigitalMatrix(NamedTuple):
    """A matrix that stays digital: its weights, how often a token meets it, and why it is not on a chip."""

    name: str
    n_weights: int
    per_token: float
    reason: str


@dataclass(frozen=True)
class Coverage:
    """The account of all matrix weights of a model.

    Matrix weights are those of layers that multiply, and parameters of several dimensions that no kind of layer knows;
    tables whose rows are looked up, such as embeddings, multiply nothing and are counted apart. Multiply-accumulates
    are those of one token, or one position of a convolution, with each matrix: an expert counts by the share of tokens
    that are sent to it. Products of activations with each other, as in attention, are on no chip and not counted.
    """

    n_on_chip: int
    macs_on_chip: float
    digital: tuple[DigitalMatrix, ...] = ()
    tables: Mapping[str, int] | None = None

    @property
    def n_weights(self) -> int:
        """Matrix weights of the model."""
        return self.n_on_chip + sum(each.n_weights for each in self.digital)

    @property
    def share_of_weights(self) -> float:
        """Share of the matrix weights that is on a chip."""
        return self.n_on_chip / self.n_weights

    @property
    def share_of_macs(self) -> float:
        """Share of the multiply-accumulates of one token that a chip computes."""
        digital = sum(each.n_weights * each.per_token for each in self.digital)
        return self.macs_on_chip / (self.macs_on_chip + digital)

    def groups(self) -> list[tuple[str, int, float, str]]:
        """Digital matrices whose names differ in numbers only: (pattern, count, share of all weights, reason)."""
        grouped: dict[tuple[str, str], list[int]] = {}
        for each in self.digital:
            grouped.setdefault((pattern_of(each.name), each.reason), []).append(each.n_weights)
        return [(name, len(own), sum(own) / self.n_weights, why) for (name, why), own in grouped.items()]

    def __str__(self) -> str:
        lines = [
            f"on the chip: {_percent(self.share_of_weights)} of {self.n_weights:,} matrix weights, "
            f"{_percent(self.share_of_macs)} of the multiply-accumulates of a token"
        ]
        for name, count, share, reason in self.groups():
            times = f" ({count} times)" if count > 1 else ""
            lines.append(f"digital: {name}{times}, {_percent(share)} of the weights: {reason}")
        if self.tables:
            names = dict.fromkeys(map(pattern_of, self.tables))
            lines.append(f"tables that are looked up, not counted: {', '.join(names)}")
        return "\n".join(lines)


def pattern_of(name: str) -> str:
    """A name with a star in place of each number."""
    return ".".join("*" if part.isdigit() else part for part in name.split("."))


def _percent(share: float) -> str:
    """Never 100 % for less than all, never 0 % for more than nothing."""
    text = f"{100 * share:.3g}"
    if share < 1 and float(text) >= 100:
        text = "99.9"
    return f"{text} %"
