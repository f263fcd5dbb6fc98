"""Means over the tokens of a text. Metrics on the same windows share one pass through the model."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import nn

from crossbar_sim.study.contract import AbstractTokenMetric, MetricContext
from crossbar_sim.study.language_model import context_length, logits_of
from crossbar_sim.study.tokens import encode_with_prefix
from device_models.errors import UsageError

_ROWS_IN_CACHE = 8  # tokens whose distributions are compared together


@dataclass(frozen=True)
class AbstractTextMetric(AbstractTokenMetric):
    """A mean over the tokens of a text, in non-overlapping windows; the first token of a window is not scored.

    Where the tokenizer puts tokens such as BOS in front of a text, every window starts with them, within its length,
    and every token of the text is scored. An incomplete last window is left out. `max_windows` limits the work to the
    first ones. `windows_at_once` go through the model together: faster where each pass has a price of its own, as with
    `state="regenerated"`; on a chip they then meet other samples of the noise per read than one by one.
    """

    text: str = field(repr=False)
    window: int = 512
    max_windows: int | None = None
    windows_at_once: int = 1

    needs_digital: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not isinstance(self.text, str) or not self.text.strip():
            raise UsageError(f"{type(self).__name__}.text: is empty; give the text to score")
        if isinstance(self.window, bool) or not isinstance(self.window, int) or self.window < 2:
            raise UsageError(f"{type(self).__name__}.window = {self.window!r}: must be a whole number of at least 2")
        if self.max_windows is not None and (not isinstance(self.max_windows, int) or self.max_windows < 1):
            raise UsageError(f"{type(self).__name__}.max_windows = {self.max_windows!r}: must be at least 1, or None")
        if type(self.windows_at_once) is not int or self.windows_at_once < 1:
            raise UsageError(f"{type(self).__name__}.windows_at_once = {self.windows_at_once!r}: must be at least 1")

    @property
    def passes(self) -> tuple[str, int, int | None, int]:
        """Metrics that agree in these share passes through the model."""
        return self.text, self.window, self.max_windows, self.windows_at_once

    def identity(self) -> dict[str, Any]:
        """What the metric measures, as plain data: two metrics with the same identity give the same number."""
        return {"metric": type(self).__name__, **{name: getattr(self, name) for name in self.__dataclass_fields__}}

    def sequences(self, model: nn.Module, tokenizer: Any) -> list[list[int]]:
        """The windows."""
        windows = token_windows(self.text, tokenizer, self.window, self.max_windows)
        limit = context_length(model)
        if limit is not None and self.window > limit[0]:
            raise UsageError(
                f"{type(self).__name__}.window = {self.window}: {type(model).__name__} reads at most {limit[0]} tokens "
                f"(config.{limit[1]}); choose a smaller window"
            )
        return [window[0].tolist() for window in windows]

    def measure(self, context: MetricContext) -> float:
        """The number by itself; metrics on the same windows are faster together (measure_texts)."""
        return measure_texts([self], context)[self.name]

    @abstractmethod
    def score(self, log_probs: torch.Tensor, targets: torch.Tensor, digital: torch.Tensor | None) -> float:
        """Sum over one window: log_probs and digital (T, vocabulary) of the targets (T,); NaN where one is NaN."""

    @abstractmethod
    def finish(self, mean: float) -> float:
        """The metric from the mean score per token."""


class Perplexity(AbstractTextMetric):
    """exp of the mean negative log-likelihood of the next token."""

    name = "perplexity"

    def score(self, log_probs: torch.Tensor, targets: torch.Tensor, digital: torch.Tensor | None) -> float:
        return -float(log_probs.gather(1, targets[:, None]).sum(dtype=torch.float64))

    def finish(self, mean: float) -> float:
        return math.inf if mean >= 700 else math.exp(mean)


class NextTokenAccuracy(AbstractTextMetric):
    """Share of tokens that the model ranks first."""

    name = "next_token_accuracy"

    def score(self, log_probs: torch.Tensor, targets: torch.Tensor, digital: torch.Tensor | None) -> float:
        if log_probs[:, 0].isnan().any():  # one NaN makes the whole row NaN, and then no token is first
            return math.nan
        return float((log_probs.argmax(dim=1) == targets).sum())

    def finish(self, mean: float) -> float:
        return mean


class KLToDigital(AbstractTextMetric):
    """Mean Kullback-Leibler divergence of the model's next-token distribution from the digital model's, in nats."""

    name = "kl_to_digital"
    needs_digital: ClassVar[bool] = True

    def score(self, log_probs: torch.Tensor, targets: torch.Tensor, digital: torch.Tensor | None) -> float:
        assert digital is not None
        rows = zip(digital.split(_ROWS_IN_CACHE), log_probs.split(_ROWS_IN_CACHE), strict=True)
        return sum(float((p.exp() * (p - q)).sum(dim=1).sum(dtype=torch.float64)) for p, q in rows)

    def finish(self, mean: float) -> float:
        return mean


def measure_texts(group: Sequence[AbstractTextMetric], context: MetricContext) -> dict[str, float]:
    """Metrics whose `passes` are the same, by name."""
    first, reference = group[0], context.reference
    if reference is None and any(metric.needs_digital for metric in group):
        raise UsageError("reference: needed by KLToDigital; give DigitalReference(digital_model)")
    sums = [0.0] * len(group)
    n_tokens = 0
    prefix, windows = _windows(first.text, context.tokenizer, first.window, first.max_windows)
    unscored = max(0, len(prefix) - 1)  # of the rows, which begin at the second token
    every = next_token_log_probs(context.model, windows, first.windows_at_once)
    for tokens, log_probs in zip(windows, every, strict=True):
        targets = tokens[0, 1 + unscored :].to(log_probs.device)
        for metric_number, metric in enumerate(group):
            digital = None
            if reference is not None and metric.needs_digital:
                digital = reference.log_probs(tokens)[unscored:]
            sums[metric_number] += metric.score(log_probs[unscored:], targets, digital)
        n_tokens += len(targets)
    return {metric.name: metric.finish(total / n_tokens) for metric, total in zip(group, sums, strict=True)}


def token_windows(text: str, tokenizer: Any, window: int, max_windows: int | None) -> list[torch.Tensor]:
    """Non-overlapping windows (1, window) of a text's tokens, each after what the tokenizer puts in front of a text."""
    return _windows(text, tokenizer, window, max_windows)[1]


def next_token_log_probs(model: nn.Module, windows: Sequence[torch.Tensor], at_once: int = 1) -> Iterator[torch.Tensor]:
    """Log-probabilities (T - 1, vocabulary) of every token after the first of each window (1, T), in float32."""
    for start in range(0, len(windows), at_once):
        for logits in logits_of(model, torch.cat(list(windows[start : start + at_once]))):
            yield torch.log_softmax(logits[:-1].float(), dim=-1)


def _windows(text: str, tokenizer: Any, window: int, max_windows: int | None) -> tuple[list[int], list[torch.Tensor]]:
    """The tokens that every window begins with, and the windows."""
    prefix, tokens = encode_with_prefix(tokenizer, text)
    step = window - len(prefix)
    if step < 1:
        raise UsageError(f"window = {window}: the tokenizer puts {len(prefix)} tokens in front, and none is left")
    count = len(tokens) // step
    if count == 0:
        raise UsageError(
            f"text: has {len(tokens)} tokens, fewer than one window of {step}; give more text or a smaller window"
        )
    parts = [prefix + tokens[i * step : (i + 1) * step] for i in range(min(count, max_windows or count))]
    return prefix, [torch.tensor([part]) for part in parts]
