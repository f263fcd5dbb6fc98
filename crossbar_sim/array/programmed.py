"""ProgrammedMatrix: target weights, their devices and their drift compensation, moved through time together."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TypeVar

import torch

from crossbar_sim.array.compensation import Correction, ReferenceRead
from crossbar_sim.array.descent import descend
from crossbar_sim.array.matrix import AnalogMatrix
from crossbar_sim.array.read_numba import read_numba
from crossbar_sim.array.read_torch import read_torch
from crossbar_sim.array.replay import check_noise_is_known
from crossbar_sim.array.source import Source
from crossbar_sim.array.state_memory import StateMemory
from crossbar_sim.array.view import View
from crossbar_sim.array.watch import Watch
from crossbar_sim.spec import ChipSpec, Compensation
from device_models.errors import StateError, UsageError

BACKENDS = ("auto", "numba", "torch")
_NOTHING_TO_DO = nullcontext()
T = TypeVar("T")


class ProgrammedMatrix:
    """One weight matrix on a chip with everything that belongs to its state.

    `parameter` is the caller's tensor, or where it stands and which matrix of it this is. It is never written; a later
    change of its values makes the state stale, which the next use refuses (array.watch says what a read notices; all
    else compares all values).

    transposed a tensor without more is (n_in, n_out)
    loading    gives the values of a parameter that are not in memory (it is on the meta device) for as long as the
               context lasts
    memory     where given, the state is not kept but computed in there whenever it is used: bit for bit the same
    """

    def __init__(
        self,
        parameter: torch.Tensor | Source,
        spec: ChipSpec,
        seed: int,
        name: str,
        *,
        transposed: bool = False,
        loading: Callable[[], AbstractContextManager[torch.Tensor]] | None = None,
        memory: StateMemory | None = None,
    ):
        self.source = parameter if isinstance(parameter, Source) else Source.of(parameter, View(transposed=transposed))
        self.loading = loading
        self.memory = memory
        self.compensation = spec.compensation
        self.observer: Callable[[torch.Tensor], None] | None = None
        """Looks at the vectors of every read, before it."""
        with self.target() as weight:
            self.matrix = AnalogMatrix(weight, spec, seed, name)
            with self._in_memory():
                self._start()
            self.matrix.to(weight.device)

    @property
    def weight(self) -> torch.Tensor:
        """The target weights (n_out, n_in); without values where they are to be loaded."""
        return self.source.matrix()

    @contextmanager
    def values(self) -> Iterator[torch.Tensor]:
        """The part of the parameter that is this matrix, in the order of the parameter, with its values."""
        if self.loading is None:
            yield self.source()
        else:
            with self.loading() as parameter:
                yield self.source.view.part(parameter)

    @contextmanager
    def target(self) -> Iterator[torch.Tensor]:
        """The target weights (n_out, n_in) with their values."""
        if self.loading is None:
            yield self.source.matrix()
        else:
            with self.loading() as parameter:
                yield self.source.view(parameter)

    def program(self, seed: int, write: int = 0) -> None:
        """Write the present target weights to the devices of `seed`: the state at time 0 and the reference read."""
        with self._in_memory(), self.target() as weight:
            self.matrix.to(weight.device)  # where a parameter took the place of one on another device
            self.matrix.program(weight, seed, write)
            self._start()

    def _start(self) -> None:
        """What follows programming: the reference read, and remembering the weights that were written."""
        if self.matrix.written is not None:
            with self._on_cpu(), self.target() as weight:
                deque(descend(self.matrix, weight), maxlen=0)
        self.compensated_s = 0.0
        self.reference = self._reference_read()
        if self.compensation is not None and self.compensation.reference == "exact":
            self.compensate()  # a measured reference is what the devices answer now, and changes nothing yet
        self.stale: str | None = None
        self.watch = self._watched(Watch)

    def state(self, apart: bool = False) -> AbstractContextManager[None]:
        """While this lasts the state is in memory; `apart` as in StateMemory.lend."""
        return _NOTHING_TO_DO if self.memory is None else self._computed(self.memory, apart)

    @contextmanager
    def _computed(self, memory: StateMemory, apart: bool) -> Iterator[None]:
        with memory.lend(self.matrix, apart):
            if not self.matrix.has_state:
                with self.target() as weight:
                    self.matrix.age(weight, self.matrix.time_s)
            yield

    def _in_memory(self) -> AbstractContextManager[None]:
        """A state that is not kept is released after what is done inside."""
        return _NOTHING_TO_DO if self.memory is None else self.memory.lend(self.matrix)

    def _go_to(self, t_s: float) -> None:
        """The state at `t_s`: computed now, or where it is not kept when it is used."""
        if self.memory is None or self.matrix.spec.wires is not None:  # how wires were folded in is shown at once
            with self.target() as weight:
                self.matrix.age(weight, t_s)
        else:
            self.matrix.release()
            self.matrix.time_s = t_s

    def set_time(self, t_s: float, compensated_s: float | None = None) -> None:
        """Age the devices to `t_s` seconds after programming; the compensation is of then or of `compensated_s`."""
        self.check_fresh(resuming=True)
        self.compensated_s = t_s if compensated_s is None else compensated_s
        with self._in_memory():
            self._go_to(self.compensated_s)
            self.compensate()
            if self.compensated_s != t_s:
                self._go_to(t_s)
        self.stale = None

    def compensate(self) -> None:
        """Renew the correction from a read of the present state; factors are 1 where compensation is off."""
        if self.reference is None:
            self.matrix.drift_factor = torch.ones_like(self.matrix.drift_factor)
            self.matrix.drift_offset = None
        else:
            with self._on_cpu(), self.state():
                self.matrix.drift_factor, self.matrix.drift_offset = self.reference.correction(self.matrix)

    def choose_compensation(self, compensation: Compensation | None, t_s: float) -> None:
        """Use another compensation, with its reference read on the state at time 0, and go to time `t_s`."""
        self.check_fresh(resuming=True)
        self.compensation = compensation
        with self._in_memory():
            if compensation is not None:
                self._go_to(0.0)
            self.reference = self._reference_read()
            self.set_time(t_s)

    def restore(
        self, t_s: float, reads: int, compensation: Compensation | None, compensated_s: float, correction: Correction
    ) -> None:
        """Go to a stored state: its time, read number and compensation as it was measured at `compensated_s`."""
        with self._in_memory():
            if compensation != self.compensation:
                self.choose_compensation(compensation, t_s)
            self._go_to(t_s)
        self.compensated_s = compensated_s
        self.matrix.drift_factor, self.matrix.drift_offset = correction
        self.matrix.to(self.matrix.device)
        self.matrix.reads = reads

    @property
    def is_fresh(self) -> bool:
        """Whether the target weights have the values that were programmed."""
        return self._watched(self.watch.is_fresh)

    @property
    def may_follow(self) -> bool:
        """Whether `follow` may take the state along: asked before the layer is moved, but maybe after one that shares
        its weights was."""
        return self._watched(self.watch.was_cast) or self.is_fresh

    def _watched(self, look: Callable[[Source, bool], T]) -> T:
        """What `look` gives for the weights with their values, and for whether their tensor is always the same."""
        if self.loading is None:
            return look(self.source, True)
        with self.loading() as parameter:
            return look(Source.of(parameter, self.source.view), False)

    def follow(self, fresh: bool) -> None:
        """Go where `.to()` moved the target weights; where their float type changed, compute the state again from them.

        Ranges, time and read number stay. Weights that were not `fresh` before (`may_follow`) stay refused.
        """
        parameter = self.source.whole()
        if parameter.device.type == "meta":
            return
        self.matrix.to(parameter.device)
        if not fresh or parameter.dtype == self.watch.fingerprint.dtype:
            return
        t_s, compensated_s, reads = self.matrix.time_s, self.compensated_s, self.matrix.reads
        self.program(self.matrix.seed, self.matrix.write)
        self.set_time(t_s, compensated_s)
        self.matrix.reads = reads

    def read(self, x: torch.Tensor, bias: torch.Tensor | None = None, backend: str = "auto") -> torch.Tensor:
        """One read of vectors x (T, n_in): y (T, n_out). Each call takes the next read number."""
        if self.stale or not self._watched(self.watch.seems_fresh):
            self.check_fresh()
        matrix = self.matrix
        if matrix.input_range is None and matrix.needs_calibration:
            raise StateError(f"{matrix.name}: its dac.range is found on calibration data, but none were given")
        if self.observer is not None:
            self.observer(x)
        inputs = (x, self.source.whole(), bias) if torch.is_grad_enabled() else ()
        use_numba = _use_numba(backend, x, inputs, matrix.name)
        check_noise_is_known(matrix)
        number = matrix.reads
        matrix.reads += 1
        if use_numba:
            with self.state():
                return read_numba(matrix, x.detach(), bias, number)
        if matrix.needs_kernels:
            raise UsageError(
                f"{matrix.name}: the chip has {matrix.needs_kernels}, which only the numba backend reads: on the CPU "
                "and without gradients"
            )
        with self.state(apart=True), self.target() as weight:
            return read_torch(matrix, x, weight, bias, number)

    def _reference_read(self) -> ReferenceRead | None:
        if self.compensation is None:
            return None
        with self._on_cpu(), self.state(), self.target() as weight:
            return ReferenceRead(self.matrix, weight, self.compensation)

    @contextmanager
    def _on_cpu(self) -> Iterator[None]:
        device = self.matrix.device
        self.matrix.to(torch.device("cpu"))
        try:
            yield
        finally:
            self.matrix.to(device)

    def check_fresh(self, resuming: bool = False) -> None:
        """StateError where the target weights changed after programming, or a change of time was cut short."""
        if not self.is_fresh:
            raise StateError(
                f"{self.matrix.name}: its weights changed after they were programmed; call chip.reprogram() to write "
                "the new weights to the devices"
            )
        if self.stale and not resuming:
            raise StateError(f"{self.matrix.name}: {self.stale}")


def _use_numba(backend: str, x: torch.Tensor, inputs: tuple[torch.Tensor | None, ...], name: str) -> bool:
    """Whether this call runs on the Numba kernels: on the CPU, where no gradient is asked for."""
    differentiable = any(part is not None and part.requires_grad for part in inputs)
    possible = x.device.type == "cpu" and not differentiable
    if backend == "numba" and not possible:
        reason = (
            "gradients are asked for; wrap the call in torch.no_grad()" if differentiable else f"x is on {x.device}"
        )
        raise UsageError(f'{name}: backend = "numba" cannot run this call, because {reason}, or use backend="torch"')
    return backend != "torch" and possible
