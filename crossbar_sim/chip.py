"""Chip: what is programmed, its seed and its clock. Knows matrices by name, not the model they came from."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from crossbar_sim.array.matrix import checked_seed
from crossbar_sim.array.programmed import ProgrammedMatrix
from crossbar_sim.array.programming import matrix_report
from crossbar_sim.kernels.programming import ProgrammingReport
from crossbar_sim.mapping import ModelPlan
from crossbar_sim.progress import track
from crossbar_sim.spec import ChipSpec, compensation_kinds
from crossbar_sim.store import write_chip
from crossbar_sim.summary import ChipSummary, summarise
from device_models.errors import InertOptionWarning, StateError, UsageError, nearest
from device_models.units import readable_time, seconds


class TileAddress(NamedTuple):
    """One physical tile: `conductances(layer, tile)` reads it out. Spans are (start, stop) in the weight matrix."""

    layer: str
    tile: tuple[int, int]
    inputs: tuple[int, int]
    outputs: tuple[int, int]


class Chip:
    """All matrices of a model on one chip (or several kinds of chips, where rules say so).

    The state is a pure function of (weights, specs, seed, time): `set_time` may go forward and back, and only
    `reprogram` changes what the devices are.
    """

    def __init__(self, spec: ChipSpec, seed: int, matrices: Mapping[str, ProgrammedMatrix], plan: ModelPlan):
        self.spec = spec
        self.seed = seed
        self.matrices = dict(matrices)
        self.plan = plan
        self.write = 0
        self.time_s = 0.0

    def set_time(self, t: float | str, compensated_at: float | str | None = None) -> None:
        """Put every device into its state `t` after programming: seconds, or a text such as "1h", "30d", "1y".

        The compensation is renewed at `t`, or stays what was measured at the earlier time `compensated_at`.
        """
        t_s = seconds(t, "time")
        compensated_s = None if compensated_at is None else seconds(compensated_at, "compensated_at")
        if compensated_s is not None:
            if compensated_s > t_s:
                raise UsageError(f"compensated_at = {compensated_at!r}: must not be later than time = {t!r}")
            if all(programmed.compensation is None for programmed in self.matrices.values()):
                raise UsageError(f"compensated_at = {compensated_at!r}: the compensation is off")
        if t_s != self.time_s and not self._time_matters(t_s):
            kinds = ", ".join(sorted({programmed.matrix.spec.device.kind for programmed in self.matrices.values()}))
            text = f"chip.set_time({t!r}): devices of kind {kinds} do not change with time"
            warnings.warn(text, InertOptionWarning, stacklevel=2)
        self._check_fresh()
        self._each(
            lambda programmed: programmed.set_time(t_s, compensated_s), f"ageing to {readable_time(t_s)}", "set_time"
        )
        self.time_s = t_s

    def reprogram(self, seed: int | None = None, write: int = 0) -> None:
        """Write the present weights to devices anew, time 0. Another `seed` gives another chip of the same kind.

        Each number `write` is another writing of the same devices: programming errors, drift exponents and frozen
        noise are drawn anew; faults, traps, temperature coefficients and converters stay. The same number gives the
        same state.
        """
        chosen = self.seed if seed is None else checked_seed(seed)
        number = checked_seed(write, "write")
        self._each(lambda programmed: programmed.program(chosen, number), "programming", "reprogram")
        self.seed, self.write = chosen, number
        self.time_s = 0.0

    def compensate(
        self,
        kind: Literal["global", "column", "affine"] | None = "global",
        probe_vectors: int | None = None,
        reference: Literal["measured", "exact"] = "measured",
        probe_amplitude: float | None = None,
    ) -> None:
        """Choose the drift compensation from now on and renew it for the present time; `None` switches it off.

        The kinds and options are those of `crossbar_sim.spec.compensation`; options that are None are what belongs to
        the kind. The reference read of the end of programming is repeated on the state at time 0.
        """
        kinds = compensation_kinds()
        if kind is not None and kind not in kinds:
            raise UsageError(f"kind = {kind!r}: must be {', '.join(kinds)} or None{nearest(str(kind), kinds)}")
        given = {"probe_vectors": probe_vectors, "probe_amplitude": probe_amplitude}
        options: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        if reference != "measured":
            options["reference"] = reference
        if kind is None and options:
            text = ", ".join(f"{name} = {value!r}" for name, value in options.items())
            raise UsageError(f"{text}: cannot act, because kind = None switches the compensation off")
        chosen = None if kind is None else kinds[kind](**options)
        self._check_fresh()
        self._each(
            lambda programmed: programmed.choose_compensation(chosen, self.time_s), "compensating drift", "compensate"
        )

    def reset_reads(self) -> None:
        """Number reads from zero again: the same inputs in the same order then meet the same per-read noise."""
        for programmed in self.matrices.values():
            programmed.matrix.reads = 0

    def reset_counts(self) -> None:
        """Count clipped inputs and saturated outputs from zero again."""
        for programmed in self.matrices.values():
            programmed.matrix.reset_counts()

    @property
    def is_fresh(self) -> bool:
        """Whether every weight has, bit for bit, the value that was written to its devices."""
        return all(programmed.is_fresh for programmed in self.matrices.values())

    @property
    def tiles(self) -> list[TileAddress]:
        """Every physical tile of the chip."""
        return [
            TileAddress(name, (r, c), inputs, outputs)
            for name, programmed in self.matrices.items()
            for r, inputs in enumerate(programmed.matrix.plan.rows)
            for c, outputs in enumerate(programmed.matrix.plan.cols)
        ]

    def conductances(self, layer: str, tile: tuple[int, int] = (0, 0)) -> tuple[NDArray, ...]:
        """(g+, g-) in uS of one tile at the present time, each (rows, columns) with inputs as rows.

        One array for each device of a weight, in the order of crossbar_sim.mapping.layout, where it is not a pair.
        """
        programmed = self._layer(layer)
        with programmed.target() as weight:
            return programmed.matrix.conductances(weight, tile)

    def programming_report(self, layer: str) -> ProgrammingReport:
        """How the devices of a layer took their targets: residuals, pulses, yield and what did not converge."""
        programmed = self._layer(layer)
        with programmed.target() as weight:
            return matrix_report(programmed.matrix, weight)

    def _layer(self, layer: str) -> ProgrammedMatrix:
        if layer not in self.matrices:
            hint = nearest(layer, self.matrices)
            raise UsageError(f"layer = {layer!r}: is not on the chip ({len(self.matrices)} layers are){hint}")
        programmed = self.matrices[layer]
        programmed.check_fresh()
        return programmed

    def summary(self) -> ChipSummary:
        """What is on the chip, what of it is simulated, what it costs, and what was clipped so far."""
        self._check_fresh()
        return summarise(self.plan, self.matrices, self.seed, self.time_s)

    def save(self, path: str | Path) -> Path:
        """Write the chip to the folder `path`; `crossbar_sim.load_chip(path, model)` puts it back onto its model."""
        return write_chip(path, self.spec, self.seed, self.write, self.time_s, self.matrices, self.plan)

    def _time_matters(self, t_s: float) -> bool:
        for spec in {programmed.matrix.spec for programmed in self.matrices.values()}:
            device, noise = spec.device, spec.read_noise
            if device.telegraph is not None and noise is not None and device.telegraph.fast_share(noise.window_s) < 1:
                return True
            now, then = device.curves(self.time_s, 1.0), device.curves(t_s, 1.0)
            if any(not np.array_equal(np.asarray(a), np.asarray(b)) for a, b in zip(now, then, strict=True)):
                return True
        return False

    def _check_fresh(self) -> None:
        """StateError where weights changed, before anything is done."""
        for programmed in self.matrices.values():
            programmed.check_fresh(resuming=True)

    def _each(self, action: Callable[[ProgrammedMatrix], None], what: str, verb: str) -> None:
        """Run `action` on every matrix; until all are done, none may be read: they would be of different states."""
        unfinished = f"chip.{verb} was interrupted; call it again"
        other = next((p.stale for p in self.matrices.values() if p.stale not in (None, unfinished)), None)
        if other:
            raise StateError(other)
        for programmed in self.matrices.values():
            programmed.stale = unfinished
        for programmed in track(self.matrices.values(), what):
            action(programmed)
        for programmed in self.matrices.values():
            programmed.stale = None
