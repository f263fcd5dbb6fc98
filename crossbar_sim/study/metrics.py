"""Measuring a model: every metric of it, and the digital model as a reference."""

from __future__ import annotations

import numbers
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import nn

from crossbar_sim.bridge.hf import tokenizer_of
from crossbar_sim.bridge.mode import evaluating
from crossbar_sim.study.contract import AbstractMetric, AbstractTokenMetric, MetricContext
from crossbar_sim.study.language_model import check_causal, check_vocabulary
from crossbar_sim.study.multiple_choice import MultipleChoice
from crossbar_sim.study.text_metrics import (
    AbstractTextMetric,
    KLToDigital,
    NextTokenAccuracy,
    Perplexity,
    measure_texts,
    next_token_log_probs,
    token_windows,
)
from crossbar_sim.study.tokens import RememberingTokenizer, plain_tokenizer
from device_models.errors import UsageError

__all__ = [
    "AbstractMetric",
    "AbstractTextMetric",
    "DigitalReference",
    "KLToDigital",
    "MetricContext",
    "MultipleChoice",
    "NextTokenAccuracy",
    "Perplexity",
    "RememberingTokenizer",
    "TextMetric",
    "checked_metrics",
    "evaluate",
    "next_token_log_probs",
    "token_windows",
]

TextMetric = AbstractTextMetric
"""Its name in earlier versions."""

_CACHE_BYTES = 2**30  # log-probabilities of the digital model that a reference keeps; beyond, it computes them again


class DigitalReference:
    """The digital model as a reference: its log-probabilities of each window, kept while they fit in memory."""

    def __init__(self, model: nn.Module):
        self.model = model
        self._kept: dict[tuple[int, ...], torch.Tensor] = {}
        self._bytes = 0
        self._vocabulary: int | None = None

    def log_probs(self, tokens: torch.Tensor) -> torch.Tensor:
        """(T - 1, vocabulary) of one window (1, T)."""
        key = tuple(tokens[0].tolist())
        if key not in self._kept:
            with torch.no_grad(), evaluating(self.model):
                computed = next(next_token_log_probs(self.model, [tokens]))
            size = computed.numel() * computed.element_size()
            if self._bytes + size > _CACHE_BYTES:
                return computed
            self._kept[key] = computed
            self._bytes += size
        return self._kept[key]

    def check(self, sequences: Sequence[Sequence[int]]) -> None:
        """UsageError where the digital model is no causal language model (asked once) or does not know the tokens."""
        if self._vocabulary is None:
            self._vocabulary = check_causal(self.model, sequences)
        check_vocabulary(self.model, sequences, self._vocabulary)


def evaluate(
    model: nn.Module,
    metrics: Iterable[AbstractMetric],
    tokenizer: Any = None,
    reference: DigitalReference | None = None,
) -> dict[str, float]:
    """Every metric of a model by name, in evaluation mode; every module then has the mode that it had.

    `reference` is needed by metrics that compare with the digital model. Metrics of text need a causal language model
    and the tokenizer that belongs to it; what they would read is checked ahead of the work.
    """
    if not isinstance(model, nn.Module):
        raise UsageError(f"model = {model!r}: must be a torch.nn.Module")
    if reference is not None and not isinstance(reference, DigitalReference):
        raise UsageError(
            f"reference is a {type(reference).__name__}: must be a DigitalReference; give DigitalReference(model)"
        )
    metrics = checked_metrics(metrics)
    tokenizer = needed_tokenizer(model, metrics, tokenizer)
    sequences = token_sequences(model, metrics, tokenizer)
    if sequences:
        every = [sequence for own in sequences.values() for sequence in own]
        (reference or DigitalReference(model)).check(every)
    context = MetricContext(model, plain_tokenizer(tokenizer), reference)
    remembering = MetricContext(model, tokenizer, reference)
    values: dict[str, float] = {}
    groups: dict[tuple[Any, ...], list[AbstractTextMetric]] = {}
    for metric in metrics:
        if isinstance(metric, AbstractTextMetric):
            groups.setdefault(metric.passes, []).append(metric)
            continue
        with _measuring(model, reference):  # each anew: a metric of one's own may change the mode
            own = remembering if isinstance(metric, AbstractTokenMetric) else context
            values[metric.name] = _number(metric.name, metric.measure(own))
    for group in groups.values():
        with _measuring(model, reference):
            values.update(measure_texts(group, remembering))
    return {metric.name: values[metric.name] for metric in metrics}


@contextmanager
def _measuring(model: nn.Module, reference: DigitalReference | None) -> Iterator[None]:
    """Without gradients, and both models in evaluation mode."""
    with torch.no_grad(), evaluating(model), evaluating(reference.model) if reference else nullcontext():
        yield


def checked_metrics(metrics: AbstractMetric | Iterable[AbstractMetric]) -> list[AbstractMetric]:
    """The metrics as a list, or UsageError where one is none, has no name, or shares it with another."""
    if not isinstance(metrics, AbstractMetric | Iterable):
        raise UsageError(f"metrics = {metrics!r}: must be a metric or a list of metrics, e.g. Perplexity(text)")
    chosen: list[AbstractMetric] = [metrics] if isinstance(metrics, AbstractMetric) else list(metrics)
    if not chosen:
        raise UsageError("metrics: give at least one, e.g. Perplexity(text)")
    for metric in chosen:
        if not isinstance(metric, AbstractMetric):
            raise UsageError(f"metrics: {metric!r} is not a metric; give objects such as Perplexity(text)")
        name = getattr(metric, "name", None)
        if not isinstance(name, str) or not name.strip():
            raise UsageError(f"metrics: {type(metric).__name__}.name = {name!r}: must be a text that is not empty")
    names = [metric.name for metric in chosen]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(f"metrics: {', '.join(twice)} appears more than once; measure one at a time")
    return chosen


def needed_tokenizer(model: nn.Module, metrics: Iterable[AbstractMetric], tokenizer: Any) -> Any:
    """The given tokenizer, or that of the model where a metric needs one, else None."""
    if not any(metric.needs_tokenizer for metric in metrics):
        return tokenizer
    found = tokenizer_of(model, tokenizer)
    if not callable(found):
        raise UsageError(f"tokenizer = {found!r}: must be a tokenizer, not its name; give e.g. load_tokenizer(name)")
    return found


def token_sequences(model: nn.Module, metrics: Iterable[AbstractMetric], tokenizer: Any) -> dict[str, list[list[int]]]:
    """What the model will read for each metric of a language model, by its name."""
    return {
        metric.name: metric.sequences(model, tokenizer) for metric in metrics if isinstance(metric, AbstractTokenMetric)
    }


def _number(name: str, value: Any) -> float:
    """What a metric returned as a float."""
    if isinstance(value, torch.Tensor) and value.is_meta:
        raise UsageError(f"metric {name!r}: measure() returned a tensor without values (device meta)")
    if value is np.ma.masked:
        raise UsageError(f"metric {name!r}: measure() returned a masked value, which is no number")
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy() if value.dtype != torch.bfloat16 else value.float().cpu().numpy()
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value.item()
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        shape = f" of shape {value.shape}" if isinstance(value, np.ndarray) else ""
        raise UsageError(
            f"metric {name!r}: measure() returned a {type(value).__name__}{shape}; it must return a single real number"
        )
    try:
        return float(value)
    except OverflowError:
        raise UsageError(f"metric {name!r}: measure() returned a number that is too large for a float") from None
