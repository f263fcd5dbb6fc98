"""Which part of a weight matrix lies on which tile. Shapes only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from crossbar_sim.mapping.coverage import Coverage, pattern_of
from crossbar_sim.spec import ChipSpec, TileSpec
from device_models.errors import UsageError

Span = tuple[int, int]


def split_evenly(size: int, largest: int | None) -> tuple[Span, ...]:
    """(start, stop) of the fewest parts of at most `largest`; sizes differ by at most one, larger ones first.

    Example: ``split_evenly(576, 512) == ((0, 288), (288, 576))``.
    """
    if size < 1:
        raise UsageError(f"size = {size}: a weight matrix needs at least one row and one column")
    n_parts = 1 if largest is None else -(-size // largest)
    base, extra = divmod(size, n_parts)
    stops = [base * (k + 1) + min(k + 1, extra) for k in range(n_parts)]
    return tuple(zip([0, *stops[:-1]], stops, strict=True))


@dataclass(frozen=True)
class TilePlan:
    """One matrix of `n_in` inputs (rows, word lines) and `n_out` outputs (columns, bit-line pairs) on tiles."""

    n_in: int
    n_out: int
    rows: tuple[Span, ...]
    cols: tuple[Span, ...]
    tile: TileSpec
    devices_per_weight: int

    @classmethod
    def of(cls, n_in: int, n_out: int, tile: TileSpec, devices_per_weight: int = 2) -> TilePlan:
        """Split a matrix evenly over tiles; the devices of a weight (a pair: 2) share its cell."""
        rows, cols = split_evenly(n_in, tile.rows), split_evenly(n_out, tile.cols)
        return cls(n_in, n_out, rows, cols, tile, devices_per_weight)

    @property
    def n_tiles(self) -> int:
        return len(self.rows) * len(self.cols)

    @property
    def n_devices(self) -> int:
        return self.devices_per_weight * self.n_in * self.n_out

    @property
    def utilisation(self) -> float:
        """Share of the cells of the used tiles that hold a weight; an unlimited side counts as just large enough."""
        rows = self.tile.rows or self.n_in
        cols = self.tile.cols or self.n_out
        return self.n_in * self.n_out / (self.n_tiles * rows * cols)

    def spans(self, tile: tuple[int, int]) -> tuple[Span, Span]:
        """Row and column span of the tile at (row of tiles, column of tiles)."""
        known = {(r, c): (rows, cols) for r, rows in enumerate(self.rows) for c, cols in enumerate(self.cols)}
        if tuple(tile) not in known:
            raise UsageError(
                f"tile = {tile}: must be (row, column) within (0..{len(self.rows) - 1}, 0..{len(self.cols) - 1})"
            )
        return known[tile]

    def __str__(self) -> str:
        sizes = f"{_sizes(self.rows)} rows x {_sizes(self.cols)} columns"
        return f"{self.n_in} x {self.n_out} on {self.n_tiles} tiles: {sizes}, {self.utilisation:.0%} used"


def _sizes(spans: tuple[Span, ...]) -> str:
    sizes = [stop - start for start, stop in spans]
    groups = [f"{sizes.count(size)}x{size}" if sizes.count(size) > 1 else f"{size}" for size in dict.fromkeys(sizes)]
    return "+".join(groups)


@dataclass(frozen=True)
class ModelPlan:
    """Every mapped matrix of a model with its chip and tiles, those that a rule keeps digital, and the account."""

    layers: Mapping[str, tuple[ChipSpec, TilePlan]]
    digital: tuple[str, ...] = ()
    coverage: Coverage | None = None
    per_token: Mapping[str, float] = field(default_factory=dict)
    """How often a token reads a matrix, for those that not every token reads: experts of a mixture."""

    def __iter__(self) -> Iterator[tuple[str, ChipSpec, TilePlan]]:
        return ((name, spec, plan) for name, (spec, plan) in self.layers.items())

    @property
    def n_weights(self) -> int:
        return sum(plan.n_in * plan.n_out for _, _, plan in self)

    @property
    def n_tiles(self) -> int:
        return sum(plan.n_tiles for _, _, plan in self)

    @property
    def n_devices(self) -> int:
        return sum(plan.n_devices for _, _, plan in self)

    @property
    def utilisation(self) -> float:
        cells = sum(plan.n_in * plan.n_out / plan.utilisation for _, _, plan in self)
        return self.n_weights / cells

    def groups(self) -> list[tuple[str, int, ChipSpec, TilePlan]]:
        """Layers that differ only in the numbers of their names and the bounds of their ADCs: (pattern, count, chip of
        the first, tiles)."""
        grouped: dict[tuple[str, str, TilePlan], list[ChipSpec]] = {}
        for name, spec, plan in self:
            grouped.setdefault((pattern_of(name), spec.key_but_bound(), plan), []).append(spec)
        return [(pattern, len(specs), specs[0], plan) for (pattern, _, plan), specs in grouped.items()]

    def __str__(self) -> str:
        rows = [("layer", "count", "chip", "in x out", "tiles each", "tile sizes (rows | columns)", "used")]
        rows += [
            (
                pattern,
                str(count),
                spec.name,
                f"{plan.n_in} x {plan.n_out}",
                str(plan.n_tiles),
                f"{_sizes(plan.rows)} | {_sizes(plan.cols)}",
                f"{plan.utilisation:.0%}",
            )
            for pattern, count, spec, plan in self.groups()
        ]
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
        lines.append(
            f"total: {len(self.layers)} layers, {self.n_weights:,} weights, {self.n_tiles:,} tiles, "
            f"{self.n_devices:,} devices, {self.utilisation:.0%} of the cells used"
        )
        if self.digital:
            lines.append(f"kept digital by rule: {', '.join(self.digital)}")
        if self.coverage is not None:
            lines.append(str(self.coverage))
        return "\n".join(lines)
