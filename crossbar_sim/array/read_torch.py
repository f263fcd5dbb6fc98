"""Reading vectors through an AnalogMatrix in plain torch operations: any device, differentiable.

Roundings and conversions pass gradients straight through, saturation stops them, input ranges are constants. The
gradient of the weights is taken at the programmed state and given to the target weights. Derivatives are written by
hand, from as little as they need: codes, which inputs and outputs were clipped, and slopes of the noise.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from crossbar_sim.array.bound_management import count_repeats, halve_inputs
from crossbar_sim.array.columns_torch import Columns, Kept, known_to_be_within
from crossbar_sim.array.inputs_torch import Inputs, convert_inputs
from crossbar_sim.array.matrix import AnalogMatrix
from crossbar_sim.array.stacks_torch import add_scaled, stacks_of
from crossbar_sim.kernels.mvm import GROUP
from crossbar_sim.kernels.tries import first_tries
from device_models.errors import StateError, UsageError

_BLOCK_ELEMENTS = 1 << 19
"""Column sums of one block, 2 MB in float32."""


def read_torch(
    matrix: AnalogMatrix, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, read: int
) -> torch.Tensor:
    """y (T, n_out) = bias + the digital outputs of all tiles for x (T, n_in); `weight` (n_out, n_in): targets.

    With v_kj what the columns of part k show, in fully driven devices, R_k the full scale of the inputs, and f_kj full
    scale of the weights times drift compensation c_kj:

        y_j = bias_j + sum_k R_k f_kj v_kj
        dL/dx_i = sum_kj dL/dy_j f_kj dv_kj/dcode_i where x_i was within R_k, else 0
        dL/dw_ji = sum_t dL/dy_tj c_kj R_tk code_ti where v_tkj was within the bound of the ADC, mean of the planes

    Gradients cannot be differentiated again (UsageError), and belong to the state that was read: StateError where the
    devices were aged or programmed before the gradient was asked for.
    """
    if torch.is_grad_enabled() and any(part is not None and part.requires_grad for part in (x, weight, bias)):
        return _Read.apply(x, weight, bias, matrix, read)
    return _Reader(matrix, read).forward(x, bias, keeps=False).y


class _Try(NamedTuple):
    """What one try to read vectors gave."""

    y: torch.Tensor
    """(T, n_out)"""
    inputs: Inputs
    kept: Kept
    kept_reference: Kept
    saturated: torch.Tensor
    """(row tiles, T) outputs beyond the bound of the ADC"""

    def put(self, vectors: torch.Tensor, again: _Try) -> None:
        """Take what a later try of some of the vectors gave in place of what they gave here."""
        for by_vector, later in zip((self.y, *self.inputs), (again.y, *again.inputs), strict=True):
            if by_vector is not None and later is not None:
                by_vector[vectors] = later
        for by_part, later in zip(self._by_part(), again._by_part(), strict=True):
            if by_part is not None and later is not None:
                by_part[:, vectors] = later

    def _by_part(self) -> tuple[torch.Tensor | None, ...]:
        return *self.kept, *self.kept_reference, self.saturated


class _Read(torch.autograd.Function):
    """`_Reader` for autograd. What is as large as activations is saved by autograd's own means, which gradient
    checkpointing and hooks on saved tensors rely on."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, matrix: AnalogMatrix, read: int
    ) -> torch.Tensor:
        reader = ctx.reader = _Reader(matrix, read)
        y, inputs, kept, kept_reference, _ = reader.forward(x, bias, keeps=True)
        ctx.save_for_backward(inputs.codes.to(reader.code_dtype), *inputs[1:], *kept, *kept_reference)
        ctx.weight_like = torch.empty_like(weight, device="meta")
        ctx.bias_dtype = None if bias is None else bias.dtype
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        reader, (g,) = ctx.reader, gradients
        if torch.is_grad_enabled():
            raise UsageError(
                f"{reader.matrix.name}: create_graph = True: gradients of a read on a chip cannot be differentiated"
            )
        saved = ctx.saved_tensors
        wants_x, wants_weight, wants_bias, *_ = ctx.needs_input_grad
        with torch.autocast(g.device.type, enabled=False):
            of_x, of_weight = reader.backward(
                g.contiguous(),
                Inputs(*saved[:3]),
                Kept(*saved[3:5]),
                Kept(*saved[5:]),
                wants_x,
                ctx.weight_like if wants_weight else None,
            )
            of_bias = g.sum(dim=0).to(ctx.bias_dtype) if wants_bias else None
        return of_x, of_weight, of_bias, None, None


class _Reader:
    """One read of the present state of a matrix, and its derivative."""

    def __init__(self, matrix: AnalogMatrix, read: int):
        self.matrix = matrix
        self.columns = Columns(matrix, read)
        reference = matrix.reference_columns
        self.reference = None if reference is None else Columns(reference, read)
        self.drift_factor, self.full_scale = matrix.drift_factor, matrix.full_scale
        self.row_tiles = [part.row_tile for part in matrix.parts]
        self.stacks = stacks_of(matrix, at_once=matrix.device.type != "cpu")
        self.state = self._present_state()

    @property
    def code_dtype(self) -> torch.dtype:
        """The smallest type that holds the codes of the DAC."""
        levels = self.matrix.dac_levels
        if levels == 0 or levels > 32767:
            return self.matrix.dtype
        return torch.int8 if levels <= 127 else torch.int16

    def forward(self, x: torch.Tensor, bias: torch.Tensor | None, keeps: bool) -> _Try:
        """y, and what the derivative needs of the inputs, the columns and reference columns where `keeps`."""
        matrix, tries = self.matrix, first_tries(len(self.matrix.plan.rows), x.shape[0])
        found = self._try(x, bias, tries, keeps)
        if matrix.max_halvings:  # only then: to look at what a device counted is to wait for it

            def read_again(vectors: NDArray[np.intp], own_tries: NDArray[np.uint32]) -> NDArray[np.bool_]:
                index = torch.from_numpy(vectors).to(x.device)
                again = self._try(x[index], bias, own_tries, keeps)
                found.put(index, again)
                return self._beyond(again)

            last = halve_inputs(matrix.max_halvings, tries, self._beyond(found), read_again)
            count_repeats(matrix, last)
        self._count(x, found)
        if known_to_be_within(found.saturated, 0):
            found = found._replace(
                kept=found.kept._replace(saturated=None), kept_reference=found.kept_reference._replace(saturated=None)
            )
        return found

    def _try(self, x: torch.Tensor, bias: torch.Tensor | None, tries: NDArray[np.uint32], keeps: bool) -> _Try:
        """One try (row tiles, T) of each vector x (T, n_in)."""
        matrix, columns, nothing = self.matrix, self.columns, Kept(None, None)
        inputs = convert_inputs(matrix, x, tries)
        drive = columns.drive(self._in_steps(inputs.codes), tries)
        kept = columns.room(x.shape[0], x.device) if keeps else nothing
        y = x.new_empty((x.shape[0], matrix.plan.n_out))
        offset = y.new_zeros(()) if bias is None else bias.detach().to(matrix.dtype)
        gain = self.full_scale * self.drift_factor * columns.step
        full_scales = [stack.of_tiles(inputs.full_scale)[..., None] for stack in self.stacks]
        saturated = x.new_zeros(tries.shape)
        for start, stop in self._blocks(x):
            block = y[:, start:stop]
            before = offset if bias is None else offset[start:stop]
            for stack, full_scale in zip(self.stacks, full_scales, strict=True):
                shown = columns.shown(stack, start, stop, drive, kept, saturated).mul_(full_scale)
                add_scaled(before, shown, gain[stack.parts, start:stop], out=block)
                before = block
        if matrix.drift_offset is not None:
            y.addmm_(inputs.full_scale[:, self.row_tiles], self.full_scale * matrix.drift_offset)
        if matrix.zero:
            sums = torch.stack([inputs.codes[:, start:stop].sum(dim=1) for _, _, (start, stop) in matrix.parts], dim=1)
            sums *= inputs.full_scale[:, self.row_tiles]
            y.addmm_(sums, self.full_scale, alpha=-matrix.zero / (matrix.dac_levels or 1))
        kept_reference = nothing
        if self.reference is not None:
            kept_reference = self.reference.room(x.shape[0], x.device) if keeps else nothing
            drive = self.reference.drive(drive.inputs, tries)
            for stack, full_scale in zip(self.stacks, full_scales, strict=True):
                shown = self.reference.shown(stack, 0, len(matrix.plan.cols), drive, kept_reference, saturated)
                shown.mul_(full_scale)
                for c, (start, stop) in enumerate(matrix.plan.cols):
                    y[:, start:stop].addmm_(shown[..., c].t(), gain[stack.parts, start:stop], alpha=-1)
        return _Try(y, inputs, kept, kept_reference, saturated)

    def _beyond(self, found: _Try) -> NDArray[np.bool_]:
        """(row tiles, T) whether an output saturated."""
        beyond: NDArray[np.bool_] = (found.saturated > 0).cpu().numpy()
        return beyond

    def _count(self, x: torch.Tensor, found: _Try) -> None:
        matrix, plan = self.matrix, self.matrix.plan
        n_columns = plan.n_out + (0 if self.reference is None else len(plan.cols))
        matrix.n_inputs += x.numel()
        matrix.n_outputs += len(matrix.parts) * len(x) * n_columns
        if found.inputs.clipped is not None:
            AnalogMatrix.n_clipped.add(matrix, found.inputs.clipped.sum())
        if self.columns.converts:
            AnalogMatrix.n_saturated.add(matrix, found.saturated.sum(dtype=torch.int64))

    def backward(
        self,
        g: torch.Tensor,
        inputs: Inputs,
        kept: Kept,
        kept_reference: Kept,
        wants_x: bool,
        weight_like: torch.Tensor | None,
    ) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """Gradients of x, where it is wanted, and of weights like `weight_like`, for gradients g (T, n_out) of y."""
        matrix, dtype = self.matrix, self.matrix.dtype
        self._check_state()
        codes = inputs.codes.to(dtype)
        of_sums = torch.zeros_like(codes) if wants_x else None
        of_noise = torch.zeros_like(codes) if wants_x and kept.slope is not None else None
        of_weight = None if weight_like is None else torch.empty_like(weight_like, dtype=dtype, device=g.device)
        read = self._scaled(codes, inputs) if of_weight is not None else codes
        for start, stop in self._blocks(g):
            for stack in self.stacks:
                block = g[:, start:stop] * self.drift_factor[stack.parts, None, start:stop]
                self.columns.stop_saturated(stack, start, block, kept)
                if of_weight is not None:
                    stack.add_product(of_weight[start:stop], block.mT, stack.split(read), sets=stack.plane == 0)
                if of_sums is not None:
                    block.mul_(self.full_scale[stack.parts, None, start:stop])
                    self.columns.pull(stack, start, block, kept, of_sums, of_noise)
        if weight_like is not None and of_weight is not None:
            of_weight = of_weight.to(weight_like.dtype)
        if of_sums is None:
            return None, of_weight
        if matrix.zero:
            self._pull_zero(g, of_sums)
        if self.reference is not None:
            self._pull_reference(g, self.reference, kept_reference, of_sums, of_noise)
        if of_noise is not None:
            of_sums.addcmul_(of_noise, self._in_steps(codes))
        if inputs.clipped is not None:
            of_sums.masked_fill_(inputs.clipped, 0)
        for tile, (start, stop) in enumerate(matrix.plan.rows):
            of_sums[:, start:stop].mul_((inputs.full_scale[:, tile, None] > 0).to(dtype))
        return of_sums, of_weight

    def _pull_zero(self, g: torch.Tensor, of_sums: torch.Tensor) -> None:
        of_parts = g @ (self.full_scale.t() * self.matrix.zero)
        for k, (_, _, (start, stop)) in enumerate(self.matrix.parts):
            of_sums[:, start:stop] -= of_parts[:, k, None]

    def _pull_reference(
        self, g: torch.Tensor, columns: Columns, kept: Kept, of_sums: torch.Tensor, of_noise: torch.Tensor | None
    ) -> None:
        gain = self.full_scale * self.drift_factor
        for stack in self.stacks:
            of_columns = [gain[stack.parts, start:stop] @ g[:, start:stop].t() for start, stop in self.matrix.plan.cols]
            block = torch.stack(of_columns, dim=2).neg_()
            columns.stop_saturated(stack, 0, block, kept)
            columns.pull(stack, 0, block, kept, of_sums, of_noise)

    def _in_steps(self, codes: torch.Tensor) -> torch.Tensor:
        return codes * (1 / ((self.matrix.dac_levels or 1) * self.columns.step))

    def _scaled(self, codes: torch.Tensor, inputs: Inputs) -> torch.Tensor:
        """Inputs as the tiles see them, in the units of x, divided among the planes."""
        share = (self.matrix.dac_levels or 1) * len(self.matrix.layout.planes)
        full_scale = inputs.full_scale / share
        scaled = torch.empty_like(codes)
        for tile, (start, stop) in enumerate(self.matrix.plan.rows):
            torch.mul(codes[:, start:stop], full_scale[:, tile, None], out=scaled[:, start:stop])
        return scaled

    def _blocks(self, x: torch.Tensor) -> list[tuple[int, int]]:
        """Runs of columns that stay in the cache of a CPU between operations; all at once elsewhere."""
        n_out = self.matrix.plan.n_out
        if x.device.type != "cpu":
            return [(0, n_out)]
        block = max(GROUP, _BLOCK_ELEMENTS // max(1, x.shape[0]) // GROUP * GROUP)
        n_blocks = -(-n_out // block)
        width = -(-n_out // (n_blocks * GROUP)) * GROUP  # even blocks, because products with narrow ones are slow
        return [(start, min(start + width, n_out)) for start in range(0, n_out, width)]

    def _present_state(self) -> tuple[Any, ...]:
        matrix = self.matrix
        return matrix.effective_flat.data_ptr(), matrix.time_s, matrix.seed, matrix.write, matrix.w_max.data_ptr()

    def _check_state(self) -> None:
        """StateError where the memory of the state that was read holds another one by now."""
        now = self._present_state()
        if now[0] == self.state[0] and now != self.state:
            raise StateError(
                f"{self.matrix.name}: its devices were aged or programmed after this read; ask for gradients before"
            )
