"""AnalogMatrix: the devices of one weight matrix at one time, and what the digital side knows of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, lru_cache
from itertools import groupby
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from crossbar_sim.array.devices import PlaneDevices, age_by_device
from crossbar_sim.array.features import features_of
from crossbar_sim.array.readout import Readout
from crossbar_sim.array.stored import stored
from crossbar_sim.array.tally import Tally
from crossbar_sim.circuit.effective import Folded
from crossbar_sim.converters.dac import WHOLE, input_passes
from crossbar_sim.devices.broken_lines import broken_lines
from crossbar_sim.devices.effect_tables import effect_tables
from crossbar_sim.kernels.conductance import (
    DeviceKeys,
    DeviceTable,
    device_keys,
    device_table,
    plane_tables,
)
from crossbar_sim.kernels.effects import Effects
from crossbar_sim.kernels.lines import BrokenLines
from crossbar_sim.kernels.mvm import Draws
from crossbar_sim.kernels.random import random_key
from crossbar_sim.kernels.workers import Work, share_all
from crossbar_sim.mapping import TilePlan, full_scale_weights, layout_of
from crossbar_sim.mapping.plan import Span
from crossbar_sim.spec import (
    ChipSpec,
    GradientDescentProgramming,
    OffsetEncoding,
    Programming,
    ReadNoise,
    StaticRange,
)
from device_models import AbstractDevice
from device_models.errors import StateError, UsageError


class Part(NamedTuple):
    """Which columns are read and digitised together: one plane of one row of tiles, and its rows in the matrix."""

    row_tile: int
    plane: int
    rows: tuple[int, int]


class AnalogMatrix:
    """A weight matrix (n_out, n_in) that is programmed on tiles.

    The state is a pure function of (weights, spec, seed, name, time); nothing random is stored, but for `written`, what
    gradient-descent programming ended with [uS] (array.descent). The weights stay with the caller and are handed in
    where the state is computed. A part is one plane of columns (a differential pair is one, see
    crossbar_sim.mapping.layout) of one row of tiles. For part k:

        effective[k]     (n_out, rows) relative effective weights, (g+ - g-) / (g_max - g_min) for a pair
        variance[k]      (n_out, rows) their variance per read, bfloat16 beside float32 weights; None if there is none
        drift_factor[k]  (n_out,)      digital drift compensation
        drift_offset[k]  (n_out,)      what it adds to a converted output, in fully driven devices; None if nothing

    effective has the type `weight_dtype`; it and variance are views of `effective_flat` and `variance_flat`, which hold
    the parts one after the other; w_max (row tiles, n_out) is the weight that fills the conductance window.
    `reference_columns` are those of an offset encoding. `room(name, size, dtype)` gives the memory that `age` puts the
    state in; after `release` there is no state until `age` computes it again.
    """

    n_clipped, n_saturated = Tally(), Tally()

    def __init__(
        self,
        weight: torch.Tensor,
        spec: ChipSpec,
        seed: int,
        name: str,
        write: int = 0,
        beside: AnalogMatrix | None = None,
    ):
        """Program `weight`; `beside` is the matrix for whose columns of tiles these are the columns, one for each."""
        if weight.dim() != 2:
            raise UsageError(f"{name}: weights must be a matrix (n_out, n_in), have shape {tuple(weight.shape)}")
        self.spec = spec
        self.name = name
        self.passes = input_passes(spec.dac) if spec.dac is not None else (WHOLE,)
        self.conversions = [list(group) for _, group in groupby(self.passes, key=lambda each: each.conversion)]
        layout = layout_of(spec.encoding)
        self.layout = layout if self.passes[0].g_plus and self.passes[0].g_minus else layout.apart()
        self.plan = TilePlan.of(weight.shape[1], weight.shape[0], spec.tile, self.layout.n_devices)
        self.parts = [Part(k, p, span) for k, span in enumerate(self.plan.rows) for p in range(len(self.layout.planes))]
        self.device = torch.device("cpu")
        self.dtype = torch.float32
        self.room: Callable[[str, int, torch.dtype], torch.Tensor] | None = None
        self.effective_flat = torch.empty(0, dtype=self.dtype)
        self.variance_flat: torch.Tensor | None = None
        self.input_range: torch.Tensor | None = None
        if spec.dac is not None and isinstance(spec.dac.range, StaticRange):
            self.input_range = torch.full((len(self.plan.rows),), spec.dac.range.value, dtype=torch.float64)
        self.reference_columns: AnalogMatrix | None = None
        self.beside = beside
        self.lines: BrokenLines | None = None
        self.written: NDArray[np.float32] | None = None
        self.wire_losses: list[Folded] = []
        self.features = features_of(spec)
        self.more_effective: list[torch.Tensor] = []
        self.more_variance: list[torch.Tensor] = []
        self.held: object = None  # what array.held gathered of the present state
        self.program(weight, seed, write)

    def program(self, weight: torch.Tensor, seed: int, write: int = 0) -> None:
        """Scale `weight` and put its devices, those of `seed`, into the state at time 0; all counts start anew.

        Each number `write` is another writing of the same devices: their programming errors, drift exponents and
        frozen noise are drawn anew; faults, traps, temperature coefficients and converters stay.
        """
        self.seed, self.write = checked_seed(seed), write
        self.dtype = torch.float64 if weight.dtype == torch.float64 else torch.float32
        if self.spec.weight_dtype is not None and self.dtype == torch.float64:
            raise UsageError(
                f"{self.name}: weight_dtype = {self.spec.weight_dtype!r}, but its weights are float64, whose state has "
                "that type; leave weight_dtype out or map model.float()"
            )
        w_max = full_scale_weights(self._numpy(weight), self.plan, self.spec.encoding, self.name)
        self.w_max = torch.from_numpy(w_max).to(self.device)
        self.drift_factor = torch.ones((len(self.parts), self.plan.n_out), dtype=self.dtype, device=self.device)
        self.drift_offset: torch.Tensor | None = None
        self.reads = 0
        self.read_key = np.array(random_key(self.seed, self.name, "read"), dtype=np.uint32)
        self.device_keys = self._keys_of_devices()
        dtype = torch.empty(0, dtype=self.dtype).numpy().dtype
        self.readouts = [
            Readout.of(self.spec, self.seed, self.name, k, self.plan.n_out, dtype) for k in range(len(self.parts))
        ]
        self.reset_counts()
        self.lines = self._broken_lines()
        if isinstance(self.spec.programming, GradientDescentProgramming):
            shape = (self.layout.n_devices, self.plan.n_out, self.plan.n_in)
            self.written = np.full(shape, self.spec.device.g_min_uS, np.float32)
        encoding = self.spec.encoding
        if isinstance(encoding, OffsetEncoding) and encoding.correction == "column":
            spec = self.spec.evolve(encoding=encoding.evolve(correction="digital"))
            name = f"{self.name}, reference columns"
            self.reference_columns = AnalogMatrix(self._zeros(), spec, seed, name, write, beside=self)
        self.age(weight, 0.0)

    def __getstate__(self) -> dict[str, Any]:
        """Copies and pickles gather anew what follows from the state."""
        return {**self.__dict__, "held": None, "room": None}

    @cached_property
    def part_table(self) -> NDArray[np.int64]:
        """(parts, 5): number, row tile, first and last row + 1, and where the part begins in `effective_flat`."""
        sizes = [self.plan.n_out * (stop - start) for _, _, (start, stop) in self.parts]
        first = np.cumsum([0, *sizes[:-1]])
        return np.array([(k, part.row_tile, *part.rows, first[k]) for k, part in enumerate(self.parts)])

    def parts_read(self, polarity: int) -> list[int]:
        """The parts that a drive of this polarity reads."""
        polarities = [self.layout.planes[part.plane].polarity for part in self.parts]
        return [k for k, own in enumerate(polarities) if polarity in (0, own)]

    def reset_counts(self) -> None:
        """Start counting inputs, clipped inputs, outputs, saturated outputs, vectors read again and repeats anew."""
        self.n_inputs = self.n_clipped = self.n_outputs = self.n_saturated = 0
        self.n_read_again = self.n_repeats = 0

    def age(self, weight: torch.Tensor, t_s: float) -> None:
        """Compute the state `t_s` seconds after programming from the target `weight`; drift_factor is left alone."""
        self.held = None
        table, effects = self._tables(t_s)
        size = self.plan.n_in * self.plan.n_out * len(self.layout.planes)
        if self.effective_flat.numel() != size or self.effective_flat.dtype != self.weight_dtype:
            self.effective_flat = self._room_for("effective", size, self.weight_dtype)
            self.variance_flat = None
        if self.features is not None:
            self._make_room_for_features(table.has_read)
        if not table.has_read:
            self.variance_flat = None
        elif self.variance_flat is None:
            self.variance_flat = self._room_for("variance", size, self.variance_dtype)
        effective = self.effective_flat.cpu()
        variance = None if self.variance_flat is None else self.variance_flat.cpu()
        none = torch.empty((0, 0), dtype=self.variance_dtype)
        views = self.views(effective)
        spreads = [none] * len(views) if variance is None else self.views(variance)
        self.wire_losses = []
        more = [self.views(flat) for flat in self.more_effective]
        more_variance = [self.views(flat) for flat in self.more_variance]
        devices_of = self._devices(weight, table, effects)
        works: list[Work] = []
        for number, (view, spread) in enumerate(zip(views, spreads, strict=True)):
            devices = devices_of(*self.parts[number])
            if self.spec.wires is None and self.features is None:
                works.append(devices.ageing(stored(view), stored(spread)))
                if devices.are_slices:  # the next ones would need as much memory beside
                    share_all([works.pop()], torch.get_num_threads())
            else:
                places = [view, *(part[number] for part in more)]
                spreads_too = [] if variance is None else [spread, *(part[number] for part in more_variance)]
                self.wire_losses += age_by_device(
                    devices, self.plan.cols, self.spec.wires, self.features, places, spreads_too
                )
        share_all(works, torch.get_num_threads())
        if self.device.type != "cpu":
            self.effective_flat.copy_(effective)
            if self.variance_flat is not None and variance is not None:
                self.variance_flat.copy_(variance)
        if self.reference_columns is not None:
            self.reference_columns.age(self._zeros(), t_s)
        self.time_s = t_s

    def _room_for(self, name: str, size: int, dtype: torch.dtype) -> torch.Tensor:
        if self.room is None or self.device.type != "cpu":
            return torch.empty(size, dtype=dtype, device=self.device)
        return self.room(name, size, dtype)

    @property
    def has_state(self) -> bool:
        """Whether the state is in memory."""
        return self.effective_flat.numel() > 0

    def release(self) -> None:
        """Let go of the state."""
        self.held = None
        self.effective_flat, self.variance_flat = torch.empty(0, dtype=self.dtype, device=self.device), None
        self.more_effective, self.more_variance = [], []
        if self.reference_columns is not None:
            self.reference_columns.release()

    def age_tile(self, weight: torch.Tensor, k: int, c: int) -> None:
        """Compute the state at time 0 of one tile alone, in column c of tiles, whose plane is part k; on the CPU."""
        devices = self._devices(weight, *self._tables(0.0))(*self.parts[k])
        effective = [self.views(flat)[k] for flat in (self.effective_flat, *self.more_effective)]
        flats = [] if self.variance_flat is None else [self.variance_flat, *self.more_variance]
        variance = [self.views(flat)[k] for flat in flats]
        age_by_device(devices, (self.plan.cols[c],), self.spec.wires, self.features, effective, variance)

    def _devices(
        self, weight: torch.Tensor, table: DeviceTable, effects: Effects
    ) -> Callable[[int, int, Span], PlaneDevices]:
        """The devices of each part, given by its row tile, plane and rows, at the time of the tables."""
        source, w_max = self._numpy(weight), self.w_max.cpu().numpy()
        first, of_plane = 0, []
        for plane, keys in zip(plane_tables(self.layout), self.device_keys, strict=True):
            end = first + len(plane.slope)
            own = effects.on_plane(slice(first, end), self.lines, self.written)
            of_plane.append(PlaneDevices.of(source, w_max[0], table, own, plane, keys, self.plan.rows[0]))
            first = end

        def devices_of(k: int, p: int, rows: Span) -> PlaneDevices:
            return of_plane[p]._replace(w_max=w_max[k], rows=rows)

        return devices_of

    def _broken_lines(self) -> BrokenLines | None:
        faults, wires = self.spec.tile.faults, self.spec.wires
        if faults is None or faults.is_ideal:
            return None
        own = broken_lines(faults, self.seed, self.name, self.plan, wires is not None and wires.interleaved)
        if self.beside is None or self.beside.lines is None:
            return own
        columns = np.arange(self.plan.n_out, dtype=np.int32)
        return own._replace(word=self.beside.lines.word[:, :1], col_tile=columns)

    def relative_weights(self, weight: torch.Tensor) -> NDArray:
        """w / w_max (n_out, n_in) within +-1; 0 where w_max is 0."""
        source = self._numpy(weight)
        sizes = [stop - start for start, stop in self.plan.rows]
        full_scale = np.repeat(self.w_max.cpu().numpy().T, sizes, axis=1)
        return np.divide(source, full_scale, out=np.zeros_like(source), where=full_scale > 0).clip(-1, 1)

    def _make_room_for_features(self, has_read: bool) -> None:
        count = len(self.features.drives(torch.zeros(1), 1)) if self.features is not None else 1
        noisy = self.features.noise_features if self.features is not None and has_read else 1
        self.more_effective = [torch.empty_like(self.effective_flat, device="cpu") for _ in range(count - 1)]
        self.more_variance = [
            torch.empty_like(self.effective_flat, dtype=self.variance_dtype, device="cpu") for _ in range(noisy - 1)
        ]

    def conductances(self, weight: torch.Tensor, tile: tuple[int, int]) -> tuple[NDArray, ...]:
        """Conductances [uS] of one tile at the present time, one (rows, columns) with inputs as rows for each device.

        (g+, g-) for a differential pair, else in the order of the layout.
        """
        rows, columns = self.plan.spans(tile)
        devices_of = self._devices(weight, *self._tables(self.time_s))
        found: list[NDArray] = []
        for p in range(len(self.layout.planes)):
            found += [device.T for device in devices_of(tile[0], p, rows).conductances(columns)]
        return tuple(found)

    def to(self, device: torch.device) -> None:
        """Move the state to a torch device."""
        self.device = torch.device(device)
        self.held = None
        self.effective_flat = self.effective_flat.to(device)
        if self.variance_flat is not None:
            self.variance_flat = self.variance_flat.to(device)
        self.w_max, self.drift_factor = self.w_max.to(device), self.drift_factor.to(device)
        if self.drift_offset is not None:
            self.drift_offset = self.drift_offset.to(device)
        if self.input_range is not None:
            self.input_range = self.input_range.to(device)
        self.more_effective = [part.to(device) for part in self.more_effective]
        self.more_variance = [part.to(device) for part in self.more_variance]
        if self.reference_columns is not None:
            self.reference_columns.to(device)

    @property
    def effective(self) -> list[torch.Tensor]:
        """Relative effective weights of each part, (n_out, rows)."""
        if not self.has_state:
            raise StateError(f"{self.name}: its state was released; read it inside ProgrammedMatrix.state()")
        return self.views(self.effective_flat)

    @property
    def variance(self) -> list[torch.Tensor] | None:
        """Their variance per read; None if there is none."""
        return None if self.variance_flat is None else self.views(self.variance_flat)

    @property
    def full_scale(self) -> torch.Tensor:
        """(parts, n_out): weight per unit of relative column output."""
        if len(self.layout.planes) == 1:
            return self.w_max * self.layout.planes[0].weight
        planes = torch.tensor([plane.weight for plane in self.layout.planes], dtype=self.dtype, device=self.device)
        return (self.w_max[:, None] * planes[:, None]).flatten(0, 1)

    @property
    def gain(self) -> torch.Tensor:
        """(parts, n_out): weight per unit of relative column output, drift compensation included."""
        return self.full_scale * self.drift_factor

    @property
    def zero(self) -> float:
        """Relative column conductance of a weight of zero, where the digital side subtracts it; else 0."""
        return (
            0.0
            if self.reference_columns is not None
            else self.layout.planes[0].zero(self.spec.device.g_min_uS, self.spec.device.g_max_uS)
        )

    @property
    def weight_dtype(self) -> torch.dtype:
        """Type that effective weights are held in."""
        return self.dtype if self.spec.weight_dtype is None else getattr(torch, self.spec.weight_dtype)

    @property
    def variance_dtype(self) -> torch.dtype:
        """bfloat16 beside float32 weights: its rounding of 0.4 % of a variance is far below what a draw can show."""
        return torch.bfloat16 if self.dtype == torch.float32 else self.dtype

    @property
    def dac_levels(self) -> int:
        """Positive codes of the DAC; 0 where inputs are not rounded."""
        return _levels(self.spec.dac.bits) if self.spec.dac is not None and self.spec.dac.bits else 0

    @property
    def draws(self) -> Draws:
        """Which random numbers a read takes."""
        return self.readouts[0].draws(devices=self.variance_flat is not None, output=self.output_noise > 0)

    @property
    def output_noise(self) -> float:
        """S.d. of the noise ahead of the ADC per read, in units of the bound [1]."""
        return (self.spec.adc.output_noise or 0.0) if self.spec.adc is not None else 0.0

    @property
    def max_halvings(self) -> int:
        """How often a vector may be read again where outputs saturate."""
        management = self.spec.adc.bound_management if self.spec.adc is not None else None
        return 0 if management is None else management.max_halvings

    @property
    def is_noisy(self) -> bool:
        """Whether a read draws random numbers."""
        return any(self.draws) or (self.spec.dac is not None and self.spec.dac.stochastic_rounding)

    @property
    def n_conversions(self) -> int:
        """Conversions of each output for one vector, over all parts and passes."""
        apart = self.layout.planes[0].polarity != 0  # then a pass reads the parts of one sign only
        return len(self.parts) * len(self.conversions) // (2 if apart else 1)

    @property
    def needs_kernels(self) -> str | None:
        """What of this chip only the Numba kernels can read; None where torch operations can, too."""
        dac = self.spec.dac
        if self.features is not None:
            return "devices whose current is not conductance times input"
        if len(self.passes) > 1 or (dac is not None and dac.stochastic_rounding):
            return "inputs that are played out in several passes or rounded at random"
        return self.readouts[0].needs_kernels

    @property
    def needs_calibration(self) -> bool:
        """Whether inputs cannot be converted yet, because their ranges are still to be found."""
        dac = self.spec.dac
        return self.input_range is None and dac is not None and dac.range.kind not in ("dynamic", "static")

    @property
    def n_bytes(self) -> int:
        """Memory of the state."""
        parts = [self.effective_flat, self.w_max, self.drift_factor]
        parts += [part for part in (self.variance_flat, self.drift_offset) if part is not None]
        parts += [*self.more_effective, *self.more_variance]
        own = sum(part.numel() * part.element_size() for part in parts)
        own += 0 if self.written is None else self.written.nbytes
        return own + (self.reference_columns.n_bytes if self.reference_columns is not None else 0)

    def _tables(self, t_s: float) -> tuple[DeviceTable, Effects]:
        return device_tables(self.spec.device, self.spec.programming, self.spec.read_noise, t_s)

    def _keys_of_devices(self) -> list[DeviceKeys]:
        telegraph = self.spec.device.telegraph
        traps = telegraph.traps_per_device if telegraph else 0
        keys = device_keys(self.seed, self.name, self.layout, traps)
        if self.write == 0:
            return keys
        drawn = device_keys(self.seed, f"{self.name}, write {self.write}", self.layout, traps)
        return [
            own._replace(program=new.program, frozen=new.frozen, write=new.write)
            for own, new in zip(keys, drawn, strict=True)
        ]

    def views(self, flat: torch.Tensor) -> list[torch.Tensor]:
        """The parts of a flat tensor, each (n_out, rows)."""
        sizes = [self.plan.n_out * (stop - start) for _, _, (start, stop) in self.parts]
        return [part.view(self.plan.n_out, -1) for part in flat.split(sizes)]

    def _zeros(self) -> torch.Tensor:
        """The weights of the reference columns, one column for each column of tiles."""
        return torch.zeros((len(self.plan.cols), self.plan.n_in), dtype=self.dtype)

    def _numpy(self, weight: torch.Tensor) -> NDArray:
        return weight.detach().to("cpu", self.dtype).contiguous().numpy()


def _levels(bits: int) -> int:
    return 2 ** (bits - 1) - 1


def checked_seed(seed: int, what: str = "seed") -> int:
    if isinstance(seed, bool) or not isinstance(seed, Integral) or seed < 0:
        raise UsageError(f"{what} = {seed!r}: must be a whole number >= 0")
    return int(seed)


@lru_cache(maxsize=64)
def device_tables(
    device: AbstractDevice, programming: Programming, noise: ReadNoise | None, t_s: float
) -> tuple[DeviceTable, Effects]:
    """What kernels need of the devices of a chip at a time; kept, because all layers ask for the same."""
    curves = device.curves(t_s, 0.0 if noise is None else noise.window_s)
    if noise is None:
        zero = np.zeros_like(curves.nodes_uS)
        curves = curves._replace(frozen_abs_uS=zero, frozen_rel=zero, read_abs_uS=zero, read_rel=zero)
    if device.temperature is not None:
        curves = curves._replace(log_time=curves.log_time * device.temperature.drift_scale)
    effects = effect_tables(device, programming, t_s, None if noise is None else noise.window_s)
    return device_table(curves, device.g_min_uS, device.g_max_uS, effects.vary_per_read), effects
