"""What is kept of the inputs of a layer to find the input range of each of its row tiles."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch

from crossbar_sim.converters.histogram import MagnitudeHistogram
from crossbar_sim.mapping import TilePlan
from crossbar_sim.spec import CalibratedRange, DacSpec, FoundRange, MinimumErrorRange, SigmaRange
from device_models.errors import UsageError


class AbstractObserver(ABC):
    """Looks at the first vectors that are not silent; a subclass keeps what it needs of each row tile."""

    def __init__(self, name: str, plan: TilePlan, spec: FoundRange):
        self.name, self.plan, self.max_vectors = name, plan, spec.max_vectors
        self.setting = f"dac.range.kind = {spec.kind!r}"
        self.n_vectors = 0
        self.largest = [0.0 for _ in plan.rows]

    def observe(self, x: torch.Tensor) -> None:
        """Look at the input (..., n_in) of one call."""
        vectors = x.detach().reshape(-1, x.shape[-1])
        vectors = vectors[vectors.abs().amax(dim=1) != 0][: self.max_vectors - self.n_vectors].float()
        if not torch.isfinite(vectors).all():
            raise UsageError(f"calibration_data: the input of {self.name} is not finite")
        if len(vectors) == 0:
            return
        self.n_vectors += len(vectors)
        for k, (start, stop) in enumerate(self.plan.rows):
            values = vectors[:, start:stop].reshape(-1).cpu()
            self.largest[k] = max(self.largest[k], float(values.abs().max()))
            self._keep(k, values)

    def ranges(self) -> torch.Tensor:
        """Range of each row tile; 0 only where its inputs were all zero."""
        if self.n_vectors == 0:
            raise UsageError(f"calibration_data: {self.name} received no input other than zeros")
        found = [self._range(k) for k in range(len(self.plan.rows))]
        for k, value in enumerate(found):
            if value == 0 and self.largest[k] > 0:
                raise UsageError(
                    f"{self.name}: {self.setting} gives row tile {k} a full scale of 0, though its inputs reach "
                    f"{self.largest[k]:g}; choose a larger quantile or another kind"
                )
        return torch.tensor(found, dtype=torch.float64)

    @abstractmethod
    def _keep(self, k: int, values: torch.Tensor) -> None: ...

    @abstractmethod
    def _range(self, k: int) -> float: ...

    def _count(self, k: int, n_vectors: int) -> int:
        start, stop = self.plan.rows[k]
        return n_vectors * (stop - start)


class QuantileObserver(AbstractObserver):
    """Exact quantile of |x|, linear between order statistics; keeps only as many largest values as it needs."""

    def __init__(self, name: str, plan: TilePlan, spec: CalibratedRange):
        super().__init__(name, plan, spec)
        self.quantile = spec.quantile
        self.top = [torch.empty(0) for _ in plan.rows]

    def _keep(self, k: int, values: torch.Tensor) -> None:
        known = torch.cat([self.top[k], values.abs()])
        keep = min(len(known), math.ceil((1 - self.quantile) * self._count(k, self.max_vectors)) + 2)
        self.top[k] = torch.topk(known, keep).values

    def _range(self, k: int) -> float:
        from_top = (1 - self.quantile) * (self._count(k, self.n_vectors) - 1)
        above = min(math.floor(from_top), len(self.top[k]) - 1)
        below = min(above + 1, len(self.top[k]) - 1)
        high, low = float(self.top[k][above]), float(self.top[k][below])
        return high - (from_top - above) * (high - low)


class SigmaObserver(AbstractObserver):
    """n standard deviations of x about its mean, from running moments."""

    def __init__(self, name: str, plan: TilePlan, spec: SigmaRange):
        super().__init__(name, plan, spec)
        self.n_sigma = spec.n_sigma
        self.moments = [(0, 0.0, 0.0) for _ in plan.rows]
        """Count, mean, and sum of squared distances from it."""

    def _keep(self, k: int, values: torch.Tensor) -> None:
        n, mean, squares = self.moments[k]
        own = values.double()
        own_mean = float(own.mean())
        total, apart = n + len(own), own_mean - mean
        squares += float((own - own_mean).square().sum()) + apart**2 * n * len(own) / total
        self.moments[k] = total, mean + apart * len(own) / total, squares

    def _range(self, k: int) -> float:
        n, _, squares = self.moments[k]
        return self.n_sigma * math.sqrt(squares / n)


class ErrorObserver(AbstractObserver):
    """The range with the least mean squared quantisation error, from a histogram of |x|."""

    def __init__(self, name: str, plan: TilePlan, spec: MinimumErrorRange, bits: int):
        super().__init__(name, plan, spec)
        self.bits = bits
        self.histograms = [MagnitudeHistogram() for _ in plan.rows]

    def _keep(self, k: int, values: torch.Tensor) -> None:
        self.histograms[k].add(values.abs().numpy())

    def _range(self, k: int) -> float:
        return self.histograms[k].minimum_error_range(self.bits)


def observer_of(name: str, plan: TilePlan, dac: DacSpec) -> AbstractObserver:
    """The observer that finds the ranges of a DAC."""
    match dac.range:
        case CalibratedRange():
            return QuantileObserver(name, plan, dac.range)
        case SigmaRange():
            return SigmaObserver(name, plan, dac.range)
        case MinimumErrorRange():
            assert dac.bits is not None  # DacSpec refuses it without
            return ErrorObserver(name, plan, dac.range, dac.bits)
    raise UsageError(f"dac.range.kind = {dac.range.kind!r}: is not found on calibration data")
