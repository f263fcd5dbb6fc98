"""What a chip holds and what its reads met, as numbers and as a table for people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from crossbar_sim.array.matrix import AnalogMatrix
from crossbar_sim.array.programmed import ProgrammedMatrix
from crossbar_sim.circuit.effective import Folded
from crossbar_sim.expected import Expected, Layer, expect
from crossbar_sim.mapping import ModelPlan, pattern_of
from crossbar_sim.spec import (
    AbstractTargetProgramming,
    BitSliceEncoding,
    ChipSpec,
    Compensation,
    Encoding,
    GradientDescentProgramming,
    LawProgramming,
    OffsetEncoding,
    PairEncoding,
    WiresSpec,
)
from device_models.units import readable_time


@dataclass(frozen=True)
class ChipSummary:
    """Numbers behind the table that `print(chip.summary())` shows."""

    plan: ModelPlan
    seed: int
    time_s: float
    effects: list[tuple[str, list[str]]]
    wire_losses: list[Folded]
    broken_lines: tuple[int, int, int, int] | None
    """Broken word lines, all word lines, broken bit lines, all bit lines of tiles that may have broken ones."""
    regenerated: bool
    """Whether states are computed for each read, in memory that layers share, and released after it."""
    state_bytes: int
    compensation_bytes: int
    expected: Expected
    """Time and peaks of memory, as `plan_model` says before anything is programmed."""
    n_inputs: int
    n_clipped: int
    n_outputs: int
    n_saturated: int
    n_vectors: int
    """Vectors that rows of tiles with bound management read."""
    n_read_again: int
    n_repeats: int
    unread: tuple[str, ...] = ()
    """Matrices that no read asked for since the counts began, where others were read."""

    def __str__(self) -> str:
        lines = [str(self.plan), f"seed {self.seed}, {readable_time(self.time_s)} after programming"]
        lines += [f"{name}: {'; '.join(effects)}" for name, effects in self.effects]
        if self.wire_losses:
            n_exact = sum(loss.exact for loss in self.wire_losses)
            lines.append(
                f"wires: first-order loss of a device up to {max(loss.max_c for loss in self.wire_losses):.2g}; "
                f"{n_exact} of {len(self.wire_losses)} tiles solved exactly, the others by the closed form"
            )
        if self.broken_lines is not None:
            word, words, bit, bits = self.broken_lines
            lines.append(f"broken lines: {_share(word, words)} word lines, {_share(bit, bits)} bit lines")
        lines.append(
            f"memory above the digital model: {self.state_bytes / 2**20:.1f} MiB of state"
            f"{', regenerated layer by layer,' if self.regenerated else ''}"
            f" + {self.compensation_bytes / 2**20:.1f} MiB of reference reads"
        )
        lines.append(str(self.expected))
        if self.n_inputs:
            lines.append(
                f"inputs clipped by the DAC: {_share(self.n_clipped, self.n_inputs)}; "
                f"outputs saturated in the ADC: {_share(self.n_saturated, self.n_outputs)}"
            )
        else:
            lines.append("inputs clipped, outputs saturated: nothing was read yet")
        if self.unread:
            shown = dict.fromkeys(map(pattern_of, self.unread))
            lines.append(f"on the chip, but not read so far: {len(self.unread)} matrices: {', '.join(shown)}")
        if self.n_vectors:
            lines.append(
                f"vectors read again by bound management: {_share(self.n_read_again, self.n_vectors)}, "
                f"{1 + self.n_repeats / self.n_vectors:.2f} reads per vector"
            )
        return "\n".join(lines)


def summarise(plan: ModelPlan, matrices: Mapping[str, ProgrammedMatrix], seed: int, time_s: float) -> ChipSummary:
    """Collect the summary of a chip from its matrices."""
    parts = [programmed.matrix for programmed in matrices.values()]
    chips: dict[tuple[str, Compensation | None], list[ChipSpec]] = {}
    for programmed in matrices.values():
        spec = programmed.matrix.spec
        chips.setdefault((spec.key_but_bound(), programmed.compensation), []).append(spec)
    memories = (programmed.memory for programmed in matrices.values())
    shared = {id(memory): memory for memory in memories if memory is not None}
    layers = [
        Layer(_present(each), each.matrix.plan, each.weight, plan.per_token.get(name, 1.0))
        for name, each in matrices.items()
    ]
    references = [programmed.reference for programmed in matrices.values() if programmed.reference is not None]
    return ChipSummary(
        plan=plan,
        seed=seed,
        time_s=time_s,
        effects=[(specs[0].name, _effects(specs, compensation)) for (_, compensation), specs in chips.items()],
        wire_losses=[loss for part in parts for loss in part.wire_losses],
        broken_lines=_broken_lines(parts),
        regenerated=bool(shared),
        state_bytes=sum(part.n_bytes for part in parts) + sum(memory.n_bytes for memory in shared.values()),
        compensation_bytes=sum(reference.n_bytes for reference in references),
        expected=expect(layers, regenerated=bool(shared)),
        n_inputs=sum(part.n_inputs for part in parts),
        n_clipped=sum(part.n_clipped for part in parts),
        n_outputs=sum(part.n_outputs for part in parts),
        n_saturated=sum(part.n_saturated for part in parts),
        n_vectors=sum(part.n_inputs // part.plan.n_in * len(part.plan.rows) for part in parts if part.max_halvings),
        n_read_again=sum(part.n_read_again for part in parts),
        n_repeats=sum(part.n_repeats for part in parts),
        unread=_unread(matrices),
    )


def _unread(matrices: Mapping[str, ProgrammedMatrix]) -> tuple[str, ...]:
    silent = tuple(name for name, programmed in matrices.items() if programmed.matrix.n_inputs == 0)
    return silent if len(silent) < len(matrices) else ()


def _present(programmed: ProgrammedMatrix) -> ChipSpec:
    """The chip with the compensation that was chosen since."""
    spec = programmed.matrix.spec
    return spec if spec.compensation == programmed.compensation else spec.evolve(compensation=programmed.compensation)


def _broken_lines(parts: list[AnalogMatrix]) -> tuple[int, int, int, int] | None:
    counts = [part.lines.counts for part in parts if part.lines is not None]
    if not counts:
        return None
    word, words, bit, bits = (sum(column) for column in zip(*counts, strict=True))
    return word, words, bit, bits


def _effects(specs: list[ChipSpec], compensation: Compensation | None) -> list[str]:
    """One phrase per part of a chip, on with its main value, or off; `specs` differ in the bound of the ADC alone."""
    spec, encoding = specs[0], specs[0].encoding
    clip = f", clipped at {encoding.clip.alpha:g} rms" if encoding.clip else ""
    effects = [
        f"device {spec.device.kind}, {spec.device.g_min_uS:g} to {spec.device.g_max_uS:g} uS",
        f"{_encoding(encoding)} scaled per {encoding.scale.replace('_', ' ')}{clip}",
    ]
    effects += _programming(spec)
    if spec.wires is not None:
        effects.append(f"wires ({spec.wires.model}) with {_ohms(spec.wires)}")
    if spec.dac is None:
        effects.append("DAC off")
    else:
        bits = f"{spec.dac.bits} bit" if spec.dac.bits else "without rounding"
        effects.append(f"DAC {bits}, {spec.dac.range.kind} range")
    bounds = sorted({each.adc.bound for each in specs if each.adc is not None})
    bound = f"{bounds[0]:g} to {bounds[-1]:g}, by layer" if len(bounds) > 1 else f"{bounds[0]:g}" if bounds else ""
    effects.append(f"ADC {spec.adc.bits} bit, bound {bound}" if spec.adc else "ADC off")
    if spec.adc and spec.adc.bound_management:
        effects.append(f"bound management with up to {spec.adc.bound_management.max_halvings} halvings")
    if spec.adc and spec.adc.output_noise:
        effects.append(f"output noise {spec.adc.output_noise:g}")
    if spec.read_noise is None:
        effects.append("read noise off")
    else:
        window = f" at {spec.read_noise.window_s:g} s" if spec.read_noise.kind == "split" else ""
        effects.append(f"read noise {spec.read_noise.kind}{window}")
    if compensation is None:
        effects.append("drift compensation off")
    else:
        reference = "" if compensation.reference == "measured" else ", exact reference"
        effects.append(f"drift compensation {compensation.kind}{reference}")
    return effects


def _programming(spec: ChipSpec) -> list[str]:
    programming, stuck = spec.programming, spec.device.faults
    found = []
    if isinstance(programming, GradientDescentProgramming):
        found.append(
            f"programming gradient_descent, {programming.steps} steps of {programming.batch} vectors on each tile, "
            "8 bytes of state per weight"
        )
    elif not isinstance(programming, LawProgramming):
        found.append(f"programming {programming.kind}")
    if stuck is not None and not stuck.is_ideal:
        found.append(f"stuck devices {stuck.p_stuck:g}")
    if isinstance(programming, AbstractTargetProgramming) and programming.retarget_stuck:
        found.append("partners of stuck devices retargeted")
    return found


def _ohms(wires: WiresSpec) -> str:
    names = [name for name in type(wires).model_fields if name.endswith("_ohm") and getattr(wires, name) is not None]
    return ", ".join(f"{name.removesuffix('_ohm')} {getattr(wires, name):g} ohm" for name in names)


def _encoding(encoding: Encoding) -> str:
    match encoding:
        case PairEncoding(devices=1):
            return f"{encoding.pair} pairs"
        case PairEncoding():
            return f"{encoding.pair} pairs of {encoding.devices} devices per polarity ({encoding.fill} fill)"
        case OffsetEncoding():
            return f"single devices with a {encoding.correction} offset"
        case BitSliceEncoding():
            return f"{encoding.bits}-bit weights in slices of {', '.join(map(str, encoding.slices))} bits"


def _share(part: int, whole: int) -> str:
    return f"{part:,} of {whole:,} ({part / whole:.2g})" if whole else "0 of 0"
