"""Reads of a programmed matrix in which every tile is solved as a circuit for the inputs at hand.

Slow and put together anew: it shares with the fast reads only the devices, the DAC kernel and the ADC kernel.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from crossbar_sim.array.bound_management import halve_inputs
from crossbar_sim.array.devices import normals_of
from crossbar_sim.array.features import PolarityFeatures, PolynomialFeatures
from crossbar_sim.array.matrix import AnalogMatrix
from crossbar_sim.circuit.nodal import solve_array
from crossbar_sim.circuit.nonlinear import DeviceLaw, solve_nonlinear
from crossbar_sim.circuit.units import S_PER_uS, to_A
from crossbar_sim.converters.dac import Pass, split_codes
from crossbar_sim.kernels.conductance import device_keys
from crossbar_sim.kernels.inputs import quantise_inputs
from crossbar_sim.kernels.mvm import read_columns, read_keys
from crossbar_sim.kernels.random import random_key
from crossbar_sim.kernels.tries import first_tries
from crossbar_sim.spec import WiresSpec
from crossbar_sim.spec.dac import AmplitudeEncoding
from device_models.effects.iv_curve import AbstractIVCurve

Floats = NDArray[np.float64]


class _Array(NamedTuple):
    """The devices of one plane of one tile as they are wired."""

    g_uS: Floats
    """(word lines, bit lines)"""
    signs: Floats
    """Sign of the drive of each word line of an input: (1,), or (1, -1) where pairs are interleaved."""
    weights: Floats
    """Factor of each bit line of an output."""
    law: AbstractIVCurve | DeviceLaw | None
    """Current of a device; None where it is g V."""


class _Conversion(NamedTuple):
    """What stands at the ADCs of a part during one conversion, in DAC codes, before noise."""

    part: int
    sums: Floats
    variances: Floats
    largest: int
    """Code of a fully driven line."""
    weight: float
    """Of the converted value, relative to an input of full scale."""


class CircuitRead:
    """Reads whose column sums are the currents of the tiles, solved for each vector.

    Equation   node equations of circuit.nodal, or of circuit.nonlinear for devices with an I-V curve or a polarity, on
               the conductances that the devices have at the present time, their currents summed where wires are none;
               passes, noise, ADC and digital corrections as in crossbar_sim.array.read_numba
    Arguments  matrix with float64 weights (n_out, n_in); `noise`: the same matrix with wires folded in otherwise, whose
               variances per read are drawn in place of its own
    Valid      a range of the inputs that is dynamic, static or already found. Codes enter as voltages: that is exact
               for inputs coded in time unless devices with a polarity meet resistive wires. Per-read noise is drawn
               at the column, with the variances and the normals of the fast reads. A column of reference devices has
               wires of its own, as there
    Errors     StateError or UsageError of the solvers
    Test       tests/unit/test_fidelity.py
    """

    def __init__(self, matrix: AnalogMatrix, weight: torch.Tensor, noise: AnalogMatrix | None = None):
        self.matrix = matrix
        self._noise = matrix if noise is None else noise
        self._arrays = [self._arrays_of(weight, k) for k in range(len(matrix.parts))]
        self._reference: CircuitRead | None = None
        if matrix.reference_columns is not None:
            zeros = torch.zeros((matrix.reference_columns.plan.n_out, weight.shape[1]), dtype=weight.dtype)
            self._reference = CircuitRead(matrix.reference_columns, zeros, self._noise.reference_columns)
        self._codes: Floats = np.empty((0, 0))
        self._solved: list[list[_Conversion]] = []

    def read(self, x: Floats, number: int) -> Floats:
        """y (T, n_out) of vectors x (T, n_in) in read `number`."""
        tries = first_tries(len(self.matrix.plan.rows), len(x))
        y, beyond = self._try(x, number, tries)

        def read_again(vectors: NDArray[np.intp], own_tries: NDArray[np.uint32]) -> NDArray[np.bool_]:
            y[vectors], again = self._try(x[vectors], number, own_tries)
            return again

        halve_inputs(self.matrix.max_halvings, tries, beyond, read_again)
        return y

    def _try(self, x: Floats, number: int, tries: NDArray[np.uint32]) -> tuple[Floats, NDArray[np.bool_]]:
        """y (T, n_out) of one try of each vector, and whether outputs of a row of tiles saturated, (row tiles, T)."""
        matrix, beyond = self.matrix, np.zeros(tries.shape, np.bool_)
        codes, scale = self._convert_inputs(x, number, tries)
        gain, full_scale = matrix.gain.numpy(), matrix.full_scale.numpy()
        y = np.zeros((len(x), matrix.plan.n_out))
        for k, weight, converted in self._converted(codes, scale, number, tries, beyond):
            y += weight * gain[k] * converted
            if matrix.drift_offset is not None:
                offset = full_scale[k] * matrix.drift_offset[k].numpy()
                y += weight * scale[matrix.parts[k].row_tile, :, None] * offset
        if matrix.zero:
            for (tile, _, span), per_input in zip(matrix.parts, full_scale, strict=True):
                inputs = codes[:, slice(*span)].sum(axis=1) / (matrix.dac_levels or 1) * scale[tile]
                y -= np.outer(inputs, per_input * matrix.zero)
        if self._reference is not None:
            widths = [stop - start for start, stop in matrix.plan.cols]
            for k, weight, shown in self._reference._converted(codes, scale, number, tries, beyond):
                y -= weight * gain[k] * np.repeat(shown, widths, axis=1)
        return y, beyond

    def _convert_inputs(self, x: Floats, number: int, tries: NDArray[np.uint32]) -> tuple[Floats, Floats]:
        """DAC: codes (T, n_in) and full scales (row tiles, T)."""
        matrix, dac = self.matrix, self.matrix.spec.dac
        scale = np.ones((len(matrix.plan.rows), len(x)))
        if dac is None:
            return x, scale
        stops = np.array([stop for _, stop in matrix.plan.rows])
        ranges = np.empty(0) if matrix.input_range is None else matrix.input_range.numpy()
        key = np.array(random_key(matrix.seed, matrix.name, "input rounding", number), dtype=np.uint32)
        codes, clipped = np.empty_like(x), np.empty(len(x), np.int64)
        quantise_inputs(
            0, 0, len(x), x, stops, ranges, matrix.dac_levels, dac.stochastic_rounding, key, tries, codes,
            np.empty((0, 0)), scale, clipped,
        )  # fmt: skip
        return codes, scale

    def _converted(
        self, codes: Floats, scale: Floats, number: int, tries: NDArray[np.uint32], beyond: NDArray[np.bool_]
    ) -> Iterator[tuple[int, float, Floats]]:
        """Part, weight and digital values (T, columns) of each conversion, in fully driven devices times full scale."""
        matrix = self.matrix
        if not np.array_equal(codes, self._codes):
            self._codes, self._solved = codes, [self._solve(codes, passes) for passes in matrix.conversions]
        n_columns, keys = matrix.plan.n_out, read_keys(matrix.read_key, number, len(matrix.parts) * len(self._solved))
        for first, conversions in enumerate(self._solved):
            for k, sums, variances, largest, weight in conversions:
                out, readout, tile = np.empty_like(sums), matrix.readouts[k], matrix.parts[k].row_tile
                read_columns(
                    sums, variances, 1.0 / largest, matrix.output_noise**2, matrix.draws, readout.adc, readout.errors,
                    readout.stage, scale[tile], np.ones(n_columns), np.zeros(n_columns),
                    keys[first * len(matrix.parts) + k], tries[tile], 0, True, out, beyond[tile],
                )  # fmt: skip
                yield k, weight, out

    def _solve(self, codes: Floats, passes: list[Pass]) -> list[_Conversion]:
        """Passes that are converted together, on every part that they read."""
        matrix, first, alone = self.matrix, passes[0], len(passes) == 1
        levels = matrix.dac_levels or 1
        largest = levels if first.n_bits is None or not alone else 2**first.n_bits - 1
        weight = first.weight * largest / levels if alone else 1.0
        drives = [(1 if alone else each.weight, np.empty_like(codes)) for each in passes]
        for each, (_, drive) in zip(passes, drives, strict=True):
            split_codes(0, 0, len(codes), codes, each, drive)
        found = []
        for k, (_, p, span) in enumerate(matrix.parts):
            if matrix.layout.planes[p].polarity in ([1] * first.g_plus + [-1] * first.g_minus + [0]):
                own = [(factor, np.ascontiguousarray(drive[:, slice(*span)])) for factor, drive in drives]
                sums = np.sum([factor * self._sums(k, drive, largest) for factor, drive in own], axis=0)
                variances = np.sum([factor**2 * self._variances(k, drive, largest) for factor, drive in own], axis=0)
                found.append(_Conversion(k, sums, variances, largest, weight))
        return found

    def _sums(self, k: int, drive: Floats, largest: int) -> Floats:
        """Column currents (T, n_out) of part k, as sums over codes times relative weights."""
        spec = self.matrix.spec
        encoding = spec.dac.encoding if spec.dac is not None else None
        volt = encoding.v_read_V / largest if isinstance(encoding, AmplitudeEncoding) else 1.0
        per_code = volt * (spec.device.g_max_uS - spec.device.g_min_uS) * S_PER_uS
        columns = []
        for g, signs, weights, law in self._arrays[k]:
            v = volt * (drive[:, :, None] * signs).reshape(len(drive), -1)
            currents = _currents_A(g, v, spec.wires, law)
            columns.append(currents.reshape(len(drive), -1, len(weights)) @ (weights / per_code))
        return np.concatenate(columns, axis=1)

    def _variances(self, k: int, drive: Floats, largest: int) -> Floats:
        """Variances (T, n_out) of these sums per read; (0, 0) where there are none."""
        noise = self._noise
        if noise.variance_flat is None:
            return np.empty((0, 0))
        drives = [drive]
        if noise.features is not None:
            drives = [part.numpy() for part in noise.features.drives(torch.from_numpy(drive), largest)]
        per_feature = [noise.views(flat)[k].numpy().T for flat in (noise.variance_flat, *noise.more_variance)]
        total: Floats = np.sum([drives[f] ** 2 @ variance for f, variance in enumerate(per_feature)], axis=0)
        return total

    def _arrays_of(self, weight: torch.Tensor, k: int) -> list[_Array]:
        """The arrays of part k, one for each column of tiles."""
        matrix = self.matrix
        tile, p, (row, _) = matrix.parts[k]
        before = sum(len(plane.devices) for plane in matrix.layout.planes[:p])
        devices = matrix.layout.planes[p].devices
        per_node = 1 if matrix.spec.wires is None else matrix.spec.wires.devices_per_node
        found = []
        for c, (col, _) in enumerate(matrix.plan.cols):
            g = np.stack(matrix.conductances(weight, (tile, c))[before : before + len(devices)])
            weights = np.array([device.weight for device in devices])[::per_node]
            law = self._law(g, p, row, col, per_node)
            found.append(_Array(_wired(g, per_node), np.array([1.0, -1.0])[:per_node], weights, law))
        return found

    def _law(self, g: Floats, plane: int, row: int, col: int, per_node: int) -> AbstractIVCurve | DeviceLaw | None:
        """Current of the devices g (devices, rows, columns) of a tile whose first weight is (row, col)."""
        matrix = self.matrix
        if matrix.features is None:
            return None
        keys = device_keys(matrix.seed, matrix.name, matrix.layout)[plane]
        shape = (len(g), g.shape[2], g.shape[1])
        z = normals_of(keys, matrix.features.normals, shape, (row, col)).transpose(0, 1, 3, 2)
        if isinstance(matrix.features, PolynomialFeatures) and len(z):
            iv, own = matrix.features.iv, np.stack([_wired(part, per_node) for part in z])
            return DeviceLaw(
                lambda g_uS, v_V: iv.current_uA(g_uS, v_V, own), lambda g_uS, v_V: iv.slope_uS(g_uS, v_V, own)
            )
        if not isinstance(matrix.features, PolarityFeatures):
            return matrix.spec.device.iv
        ratio = matrix.features.negative_factor(g, lambda: z)
        backward = _wired(ratio, per_node)

        def slope_uS(g_uS: Floats, v_V: Floats) -> Floats:
            return g_uS * np.where(v_V < 0, backward, 1.0)

        return DeviceLaw(lambda g_uS, v_V: slope_uS(g_uS, v_V) * v_V, slope_uS)


def _currents_A(g_uS: Floats, v_V: Floats, wires: WiresSpec | None, law: AbstractIVCurve | DeviceLaw | None) -> Floats:
    """Currents (T, bit lines) of an array; without wires every device has its whole drive."""
    if wires is not None:
        solution = solve_array(g_uS, v_V, wires) if law is None else solve_nonlinear(g_uS, v_V, wires, law)
        return solution.currents_A
    if law is None:
        return to_A(v_V @ g_uS)
    carries = g_uS > 0  # a device on a broken line has no curve
    held = np.where(carries, g_uS, 1.0)
    volts = (np.repeat(v[:, None], g_uS.shape[1], 1) for v in v_V)
    return np.stack([to_A(np.where(carries, law.current_uA(held, v), 0.0).sum(axis=0)) for v in volts])


def _wired(devices: Floats, per_node: int) -> Floats:
    """(devices, rows, columns) -> (word lines, bit lines): the devices of an output lie side by side on bit lines of
    their own or, `per_node` = 2, in pairs on two word lines."""
    n_devices, n_rows, n_cols = devices.shape
    split = devices.reshape(n_devices // per_node, per_node, n_rows, n_cols)
    return np.ascontiguousarray(split.transpose(2, 1, 3, 0)).reshape(n_rows * per_node, -1)
