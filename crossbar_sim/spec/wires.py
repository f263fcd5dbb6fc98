"""Resistance of the wires of an array and how its effect on the column currents is computed."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from device_models.strict import Number, Positive, StrictModel


class WiresSpec(StrictModel):
    """Parasitic resistances of one array; `None` is a resistance of zero.

    Word lines (rows) are driven at their left end, bit lines (columns) are held at virtual ground at their lower end.
    Typical resistance per cell: 0.15 ohm for a 14 nm tile column, 0.35 ohm as default of the same simulator (aihwkit
    1.1.0); what counts is its product with g_max (T. P. Xiao et al., IEEE CAS Mag. 22(4) (2022),
    DOI 10.1109/MCAS.2022.3214409).
    """

    r_wl_ohm: Positive | None = Field(
        0.35, description="Word line, per segment between two cells and ahead of the first"
    )
    r_bl_ohm: Positive | None = Field(0.35, description="Bit line, per segment between two cells and after the last")
    r_source_ohm: Positive | None = Field(
        None, description="Source line, per segment; of arrays with separate source lines"
    )
    r_driver_ohm: Positive | None = Field(None, description="Output resistance of each driver")
    r_sense_ohm: Positive | None = Field(None, description="Input resistance of each column's read-out")
    r_transistor_ohm: Positive | None = Field(
        None, description="On-resistance in series with each device (1T1R): G becomes G / (1 + G R)"
    )
    two_sided: bool = Field(False, strict=True, description="Whether word lines are driven at both ends")
    interleaved: bool = Field(
        False,
        strict=True,
        description="Whether g+ and g- of a pair share a bit-line node and have word lines of their own (+V, -V), "
        "instead of neighbouring bit lines",
    )
    idle_rows: Literal["clamped", "floating"] = Field(
        "clamped", description="Whether word lines of zero input are held at the reference or left open"
    )
    topology: Literal["shared", "separate_source"] = Field(
        "shared",
        description="shared: inputs drive the word lines and current flows from word to bit line; separate_source: "
        "inputs gate the cells, current flows from a source line parallel to the bit line, fed at its upper end",
    )
    model: Literal["ratio", "first_order", "exact"] = Field(
        "ratio",
        description="ratio: G / (1 + C); first_order: G (1 - C), C the loss to first order; exact: nodal solution",
    )
    max_c: Number | None = Field(
        0.3, gt=0, description="Largest C of a tile for which the closed form is used; tiles beyond are solved exactly"
    )

    @property
    def devices_per_node(self) -> int:
        """Neighbouring word lines that meet each bit line in one node."""
        return 2 if self.interleaved else 1

    @property
    def is_linear(self) -> bool:
        """Whether one effective conductance matrix serves all inputs: no line floats and no cell is gated."""
        return self.idle_rows == "clamped" and self.topology == "shared"

    @model_validator(mode="after")
    def _can_act(self) -> Self:
        resistances = (self.r_wl_ohm, self.r_bl_ohm, self.r_source_ohm, self.r_driver_ohm, self.r_sense_ohm)
        if all(value is None for value in (*resistances, self.r_transistor_ohm)):
            raise ValueError("no resistance is given: leave wires out (none) for ideal wires")
        if self.topology == "separate_source":
            for name in ("r_wl_ohm", "two_sided", "interleaved"):
                if getattr(self, name):
                    raise ValueError(f"{name} cannot act with topology separate_source: word lines only gate its cells")
            if self.idle_rows == "floating":
                raise ValueError("idle_rows floating cannot act with topology separate_source: idle cells are off")
        elif self.r_source_ohm is not None:
            raise ValueError("r_source_ohm acts only with topology separate_source")
        if self.two_sided and self.r_wl_ohm is None and self.r_driver_ohm is None:
            raise ValueError("two_sided cannot act: r_wl_ohm and r_driver_ohm are both none")
        if self.idle_rows == "floating" and self.r_bl_ohm is None and self.r_sense_ohm is None:
            raise ValueError("idle_rows floating cannot act: r_bl_ohm and r_sense_ohm are both none")
        if self.model == "first_order" and (self.max_c is None or self.max_c > 1):
            raise ValueError(
                f"max_c = {self.max_c}: must be at most 1 with model first_order, where G (1 - C) turns sign"
            )
        if not self.is_linear and self.model != "exact":
            raise ValueError(
                f"model {self.model} needs idle_rows clamped and topology shared, because currents depend on the whole "
                "input pattern otherwise; use model exact"
            )
        return self
