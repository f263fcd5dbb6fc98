"""What layers on a chip are expected to cost before anything is computed: time, and memory beyond the digital model.

Times are counted in multiply-adds of the digital forward, one for each weight and vector; the constants say how many of
them take as long. They were fitted to docs/performance.md, "Cost of each effect". Memory is counted in tensors and
arrays; compiled kernels are not in it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch

from crossbar_sim.array.features import features_of
from crossbar_sim.array.many import memory_bytes
from crossbar_sim.array.matrix import device_tables
from crossbar_sim.array.read_numba import PROBED_COLUMNS
from crossbar_sim.array.readout import Readout
from crossbar_sim.circuit.elimination import n_bytes
from crossbar_sim.converters.dac import WHOLE, input_passes
from crossbar_sim.converters.elementwise import ELEMENTWISE
from crossbar_sim.kernels.conductance import plane_tables
from crossbar_sim.kernels.gemm import HAS_PAIRS
from crossbar_sim.kernels.pairs import is_plain_pair
from crossbar_sim.mapping import ModelPlan, TilePlan, layout_of
from crossbar_sim.mapping.layout import Layout
from crossbar_sim.spec import ChipSpec, GradientDescentProgramming, OffsetEncoding, ProgramVerify, UniformAdcSpec
from crossbar_sim.spec.adc import RampAdcSpec, SarAdcSpec, TabulatedAdcSpec
from device_models.errors import UsageError

VECTORS = 512
_LATER_S = 1.0  # by then devices have all that they will ever have

# multiply-adds of the digital forward
PRODUCT, NOISY_PRODUCT = 0.57, 0.3
"""A weight and a vector of a read, and of the variances of its read noise."""
PLAIN_WEIGHT, PLAIN_DEVICE = 140.0, 105.0
"""State of a weight of plain pairs (kernels.pairs), and of each of its devices where they differ from their targets."""
WEIGHT, DEVICE = 140.0, 230.0
"""The same of any other weight, for each plane, and of each of its devices."""
FEATURE, TRAP, FOLLOWED, PULSE = 140.0, 45.0, 140.0, 24.0
"""A further feature of a device (array.features), a trap at time 0, more of one that is followed to a later time, a
pulse that write-verify may take."""
CLOSED_WIRES, EXACT_WIRES, EXACT_WIRES_PER_LINE = 180.0, 12_800.0, 56.0
"""Wires around a device, in closed form; or exact, and more for each line of the smaller side of its tile."""
INPUT, PASS = 59.0, 93.0
"""An input of a feature; one of each pass where there are several."""
CONVERSION, ADC, STAGES, SEARCH, NORMAL = 4.2, 13.0, 144.0, 154.0, 30.0
"""An output of a part: without ADC, more with one, where errors and stages come one after the other, with an ADC that
searches its table, where it draws random numbers."""
PROBED, DESCENT = 2.5, 900.0
"""A weight and a vector of a reference read, whose few vectors are multiplied less fast; a weight and a step of
gradient descent beside its read and its state."""


class Layer(NamedTuple):
    """A weight matrix (n_out, n_in) that is on a chip, or is to be; only its type and its order in memory matter."""

    spec: ChipSpec
    tiles: TilePlan
    weight: torch.Tensor
    per_token: float = 1.0
    """How many of the vectors of a forward read it: fewer than all read an expert of a mixture."""


@dataclass(frozen=True)
class Expected:
    """Times in digital forwards of the same layers with as many `vectors`; memory in bytes beyond the digital model."""

    vectors: int
    mapping: float
    set_time: float
    forward: float
    kept_bytes: int
    """State and reference reads."""
    mapping_bytes: int
    """Peak of map_model and set_time."""
    forward_bytes: int
    """Peak of a forward with all vectors at once."""

    def __str__(self) -> str:
        return (
            f"expected time, in digital forwards of these layers with {self.vectors} vectors: mapping "
            f"{self.mapping:.1f}, set_time {self.set_time:.1f}, forward {self.forward:.1f}\n"
            f"expected peak of memory above the digital model: mapping {self.mapping_bytes / 2**20:.1f} MiB, such a "
            f"forward {self.forward_bytes / 2**20:.1f} MiB"
        )


def expect(layers: Iterable[Layer], vectors: int = VECTORS, regenerated: bool = False) -> Expected:
    """The costs of mapping layers one after the other, and of reading `vectors` vectors at once on the CPU.

    Arguments  regenerated: as the option `state` of map_model
    Valid      memory within 10 % where the state is more than 100 MiB; times within a factor of 1.5 on the processor of
               docs/performance.md from 64 vectors and tiles of 256 rows on. Tiles that are beyond `wires.max_c` and
               solved exactly are known only when they are programmed: not counted as such
    Errors     UsageError for vectors that are no whole number or below 1
    Test       tests/unit/test_expected.py; measured against each effect in docs/performance.md
    """
    if isinstance(vectors, bool) or not isinstance(vectors, int) or vectors < 1:
        raise UsageError(f"vectors = {vectors!r}: must be a whole number >= 1")
    digital = mapping = set_time = forward = 0.0
    state = references = room = mapping_bytes = passing = 0
    for layer in layers:
        cost = _Cost(layer, _traits(layer.spec))
        own_vectors = vectors * layer.per_token
        digital += own_vectors * cost.cells
        mapping += cost.state_work() + cost.probe_work + cost.descent_work
        # a state that is not kept is computed by its next reader
        set_time += 0.0 if regenerated and cost.probes == 0 else cost.state_work(later=True) + cost.probe_work
        forward += cost.read_work(own_vectors) + (cost.state_work(later=True) if regenerated else 0.0)
        state = max(state, cost.state_bytes) if regenerated else state + cost.state_bytes
        references += cost.reference_bytes
        room = max(room, cost.room_bytes)
        mapping_bytes = max(mapping_bytes, state + references + room + cost.mapping_bytes)
        passing = max(passing, cost.read_bytes(vectors) + (cost.computing_bytes if regenerated else 0))
    kept = state + references
    return Expected(
        vectors, mapping / digital, set_time / digital, forward / digital, kept, mapping_bytes, kept + room + passing
    )


class _Traits(NamedTuple):
    """What costs depend on and all layers of a chip have in common."""

    layout: Layout
    passes: int
    conversions: int
    planes_read: int
    """Planes that each conversion reads."""
    features: int
    noisy: int
    """Features with a variance per read."""
    plain: bool
    """Whether kernels.pairs knows all that happens to the devices."""
    varied: bool
    """Whether devices differ from their targets."""
    staged: bool
    """Whether outputs pass errors or stages of their own on the way to their codes."""


@lru_cache(maxsize=64)
def _traits(spec: ChipSpec) -> _Traits:
    passes = input_passes(spec.dac) if spec.dac is not None else (WHOLE,)
    whole = passes[0].g_plus and passes[0].g_minus
    layout = layout_of(spec.encoding) if whole else layout_of(spec.encoding).apart()
    table, effects = device_tables(spec.device, spec.programming, spec.read_noise, _LATER_S)
    features = features_of(spec)
    readout = Readout.of(spec, 0, "", 0, 1, np.dtype(np.float32))
    written = isinstance(spec.programming, GradientDescentProgramming)
    plain = features is None and spec.tile.faults is None and not written
    return _Traits(
        layout=layout,
        passes=len(passes),
        conversions=len({each.conversion for each in passes}),
        planes_read=len(layout.planes) // (1 if whole else 2),
        features=1 if features is None else len(features.drives(torch.zeros(1), 1)),
        noisy=(1 if features is None else features.noise_features) if table.has_read else 0,
        plain=plain and all(is_plain_pair(table, plane, effects) for plane in plane_tables(layout)),
        varied=table.has_program or table.has_drift or table.has_frozen,
        staged=not (readout.errors is None and readout.stage is None and type(readout.adc) in ELEMENTWISE),
    )


class _Cost:
    """The costs of one layer."""

    def __init__(self, layer: Layer, traits: _Traits):
        self.spec, self.tiles, self.weight, _ = layer
        self.how = traits
        self.cells = self.tiles.n_in * self.tiles.n_out
        self.planes = len(traits.layout.planes)
        self.outputs = len(self.tiles.rows) * self.tiles.n_out
        self.float_bytes = 8 if self.weight.dtype == torch.float64 else 4
        self.weight_bytes = self.float_bytes if self.spec.weight_dtype is None else 2
        compensation = self.spec.compensation
        self.probes = 0 if compensation is None else compensation.probe_vectors
        self.descends = isinstance(self.spec.programming, GradientDescentProgramming)

    def state_work(self, later: bool = False) -> float:
        """Of the state at time 0, or at a later one."""
        how, spec, devices = self.how, self.spec, self.how.layout.n_devices
        wires = self._wires * how.features * devices
        if how.plain:
            return self.cells * (PLAIN_WEIGHT * self.planes + (PLAIN_DEVICE * devices if how.varied else 0.0) + wires)
        each = DEVICE + FEATURE * (how.features - 1)
        traps = 0 if spec.device.telegraph is None else spec.device.telegraph.traps_per_device
        each += traps * (TRAP + (FOLLOWED if later else 0.0))
        each += PULSE * spec.programming.max_pulses if isinstance(spec.programming, ProgramVerify) else 0.0
        return self.cells * (WEIGHT * self.planes + each * devices + wires)

    @property
    def _array(self) -> tuple[int, int]:
        """Word and bit lines of the largest tile of a plane."""
        n_in, n_out = (max(stop - start for start, stop in spans) for spans in (self.tiles.rows, self.tiles.cols))
        per_node = 1 if self.spec.wires is None else self.spec.wires.devices_per_node
        devices = max(len(plane.devices) for plane in self.how.layout.planes)
        return n_in * per_node, n_out * devices // per_node

    @property
    def _wires(self) -> float:
        """For each feature of a device."""
        wires = self.spec.wires
        if wires is None:
            return 0.0
        exact = EXACT_WIRES + EXACT_WIRES_PER_LINE * min(self._array)
        return exact if wires.model == "exact" else CLOSED_WIRES

    @property
    def probe_work(self) -> float:
        products = PROBED * self.cells * self.planes * self.how.features
        return self.probes * (products + self.outputs * self.planes * self._conversion)

    @property
    def descent_work(self) -> float:
        if not isinstance(self.spec.programming, GradientDescentProgramming):
            return 0.0
        read = self.spec.programming.batch * (self.how.features + self.how.noisy) * PROBED * self.cells
        return self.spec.programming.steps * (read + self.state_work() + DESCENT * self.cells)

    def read_work(self, vectors: float) -> float:
        how = self.how
        read = how.conversions * how.planes_read
        products = self.cells * read * (PRODUCT * how.features + NOISY_PRODUCT * how.noisy)
        inputs = self.tiles.n_in * (INPUT * how.features + (PASS * how.passes if how.passes > 1 else 0.0))
        return vectors * (products + inputs + self.outputs * read * self._conversion)

    @property
    def _conversion(self) -> float:
        adc = self.spec.adc
        draws = self.how.noisy > 0 or (adc is not None and adc.output_noise is not None)
        search = SEARCH if isinstance(adc, RampAdcSpec | SarAdcSpec | TabulatedAdcSpec) else 0.0
        stages = STAGES if self.how.staged else 0.0
        return CONVERSION + (ADC if adc is not None else 0.0) + stages + search + (NORMAL if draws else 0.0)

    @property
    def state_bytes(self) -> int:
        """AnalogMatrix.n_bytes."""
        how, floats, encoding = self.how, self.float_bytes, self.spec.encoding
        columns = self.tiles.n_out
        if isinstance(encoding, OffsetEncoding) and encoding.correction == "column":
            columns += len(self.tiles.cols)
        variance = 2 if floats == 4 else floats
        each = self.planes * (self.weight_bytes * how.features + variance * how.noisy)
        written = 4 * self.cells * how.layout.n_devices if self.descends else 0
        return columns * (self.tiles.n_in * each + floats * len(self.tiles.rows) * (1 + self.planes)) + written

    @property
    def reference_bytes(self) -> int:
        """ReferenceRead.n_bytes: codes of a uniform ADC, outputs of others."""
        adc, compensation = self.spec.adc, self.spec.compensation
        coded = isinstance(adc, UniformAdcSpec) and compensation is not None and compensation.reference == "measured"
        each = (1 if adc.bits <= 8 else 2) if coded and adc is not None else self.float_bytes
        return self.probes * self.outputs * self.planes * each

    @property
    def computing_bytes(self) -> int:
        """What computing the state takes meanwhile: weights of another type or order, digits of a slice, solutions."""
        copied = self.weight.element_size() != self.float_bytes or not self.weight.is_contiguous()
        sliced = self.how.plain and self.how.layout.planes[0].devices[0].radix > 1
        return self.cells * self.float_bytes * (copied + sliced) + self._solved_bytes

    @property
    def room_bytes(self) -> int:
        """What stays of the computation of tiles with wires (array.devices.age_by_device)."""
        n_rows, n_cols = self._array
        return 0 if self.spec.wires is None else 3 * self.float_bytes * n_rows * n_cols * self._tiles_at_once

    @property
    def _solved_bytes(self) -> int:
        """What exact solutions take in passing."""
        wires, at_once, (n_rows, n_cols) = self.spec.wires, self._tiles_at_once, self._array
        if wires is None or wires.model != "exact":
            return 0
        solver = n_bytes(n_rows, n_cols, wires.two_sided, torch.get_num_threads() // at_once)
        return at_once * (3 * 8 * n_rows * n_cols + solver)

    @property
    def _tiles_at_once(self) -> int:
        return min(torch.get_num_threads(), len(self.tiles.cols))

    @property
    def mapping_bytes(self) -> int:
        """What mapping takes beside the state: the same, or outputs of reference reads, of some tiles and the next."""
        widest = max(stop - start for start, stop in self.tiles.cols)
        outputs = 2 * self.probes * min(self.outputs * self.planes, max(PROBED_COLUMNS, widest)) * self.float_bytes
        return max(self.computing_bytes, outputs + self.read_bytes(self.probes) if self.probes else 0)

    def read_bytes(self, vectors: int) -> int:
        """What a read takes beside its outputs: codes, their squares, and the room of the kernel."""
        how, floats = self.how, self.float_bytes
        drives = (self.spec.dac is not None) + (3 if how.passes > 1 else 0) + 2 * (how.features - 1)
        longest = max(stop - start for start, stop in self.tiles.rows)
        real = np.dtype(f"f{floats}")
        square = np.dtype(np.uint16) if HAS_PAIRS and floats == 4 else real
        kernel = memory_bytes((how.features, real), (how.noisy, square), real, self.tiles.n_out, longest)
        inputs = floats * drives + square.itemsize * how.noisy
        return vectors * self.tiles.n_in * inputs + kernel


@dataclass(frozen=True)
class PlannedModel(ModelPlan):
    """The plan of a model with what it is expected to cost."""

    expected: Expected = field(kw_only=True)

    def __str__(self) -> str:
        return f"{super().__str__()}\n{self.expected}"
