"""What a metric is, and what it is given to measure."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from torch import nn

if TYPE_CHECKING:
    from crossbar_sim.study.metrics import DigitalReference


@dataclass(frozen=True)
class MetricContext:
    """What a metric measures with.

    model       the model to measure, digital or mapped, in evaluation mode
    tokenizer   the one that was given, or that belongs to the model where a metric needs one; else None
    reference   the digital model as a reference, where there is one
    """

    model: nn.Module
    tokenizer: Any = None
    reference: DigitalReference | None = None

    @property
    def digital(self) -> nn.Module | None:
        """The digital model, in evaluation mode, where there is a reference."""
        return None if self.reference is None else self.reference.model


class AbstractMetric(ABC):
    """One number of a model. A metric of one's own has `name`, its column in tables, and `measure`.

        class Top1(cs.AbstractMetric):
            name = "top1"

            def __init__(self, images, labels):
                self.images, self.labels = images, labels

            def measure(self, context):
                return (context.model(self.images).argmax(dim=1) == self.labels).float().mean()

    A sweep on disk tells metrics apart by their classes and attributes, dataclass or not. Where attributes do not say
    what is measured, a method `identity()` returns plain data that does. `needs_tokenizer = True` asks for the
    tokenizer of the model where none is given.
    """

    name: str
    needs_tokenizer: ClassVar[bool] = False

    @abstractmethod
    def measure(self, context: MetricContext) -> float:
        """The number: a real number, or an array or tensor that holds a single one without dimensions."""


class AbstractTokenMetric(AbstractMetric):
    """A metric of a causal language model: what the model will read is checked before anything is measured."""

    needs_tokenizer: ClassVar[bool] = True

    @abstractmethod
    def sequences(self, model: nn.Module, tokenizer: Any) -> list[list[int]]:
        """The tokens of everything that `model` will read, or UsageError where they do not fit into its context."""
