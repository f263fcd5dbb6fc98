"""Metrics of a language model. Those on the same text share one pass through the model."""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from crossbar_sim.bridge.hf import tokenizer_of
from device_models.errors import StoreError, UsageError

_CACHE_BYTES = 2**30  # log-probabilities of the digital model that a reference keeps; beyond, it computes them again
_ROWS_IN_CACHE = 8  # tokens whose distributions are compared together


@dataclass(frozen=True)
class AbstractMetric(ABC):
    """One number of a model. `name` is its column in tables."""

    @property
    @abstractmethod
    def name(self) -> str: ...

    def identity(self) -> dict[str, Any]:
        """What the metric measures, as plain data: two metrics with the same identity give the same number."""
        return {"metric": type(self).__name__, **{name: getattr(self, name) for name in self.__dataclass_fields__}}


@dataclass(frozen=True)
class TextMetric(AbstractMetric):
    """A mean over the tokens of a text, in non-overlapping windows; the first token of a window is not scored.

    An incomplete last window is left out. `max_windows` limits the work to the first ones. `windows_at_once` go through
    the model together: faster where each pass has a price of its own, as with `state="regenerated"`; on a chip they
    then meet other samples of the noise per read than one by one.
    """

    text: str = field(repr=False)
    window: int = 512
    max_windows: int | None = None
    windows_at_once: int = 1

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

    @abstractmethod
    def score(self, log_probs: torch.Tensor, targets: torch.Tensor, digital: torch.Tensor | None) -> float:
        """Sum over one window: log_probs and digital (T, vocabulary) of the targets (T,)."""

    def finish(self, mean: float) -> float:
        """The metric from the mean score per token."""
        return mean

    @property
    def needs_digital(self) -> bool:
        return False


class Perplexity(TextMetric):
    """exp of the mean negative log-likelihood of the next token."""

    name = "perplexity"

    def score(self, log_probs: torch.Tensor, targets: torch.Tensor, digital: torch.Tensor | None) -> float:
        return -float(log_probs.gather(1, targets[:, None]).sum(dtype=torch.float64))

    def finish(self, mean: float) -> float:
        return math.inf if mean >= 700 else math.exp(mean)


class NextTokenAccuracy(TextMetric):
    """Share of tokens that the model ranks first."""

    name = "next_token_accuracy"

    def score(self, log_probs: torch.Tensor, targets: torch.Tensor, digital: torch.Tensor | None) -> float:
        return float((log_probs.argmax(dim=1) == targets).sum())


class KLToDigital(TextMetric):
    """Mean Kullback-Leibler divergence of the model's next-token distribution from the digital model's, in nats."""

    name = "kl_to_digital"

    def score(self, log_probs: torch.Tensor, targets: torch.Tensor, digital: torch.Tensor | None) -> float:
        assert digital is not None
        rows = zip(digital.split(_ROWS_IN_CACHE), log_probs.split(_ROWS_IN_CACHE), strict=True)
        return sum(float((p.exp() * (p - q)).sum(dim=1).sum(dtype=torch.float64)) for p, q in rows)

    @property
    def needs_digital(self) -> bool:
        return True


@dataclass(frozen=True)
class MultipleChoice(AbstractMetric):
    """Share of items whose right choice is the likeliest, zero-shot, without a chat template.

    `items` is the path of a JSONL file or a list of mappings: `type` "mc" has `context`, `choices`, `answer` (index)
    and scores " " + choice after the context; "mc_context" has `contexts`, `continuation`, `answer` and scores
    " " + continuation after each context. `normalise` divides the log-likelihood by the UTF-8 length of the choice.
    """

    items: str | Path | Sequence[Mapping[str, Any]] = field(repr=False)
    limit: int | None = None
    normalise: bool = False

    def __post_init__(self) -> None:
        if self.limit is not None and (type(self.limit) is not int or self.limit < 1):
            raise UsageError(f"MultipleChoice.limit = {self.limit!r}: must be at least 1, or None")
        loaded = self.load()
        if not loaded:
            raise UsageError("MultipleChoice.items: holds no item")
        for number, item in enumerate(loaded):
            _check_item(item, number)

    @property
    def name(self) -> str:
        label = Path(self.items).stem if isinstance(self.items, str | Path) else "multiple_choice"
        return f"{label}_{'acc_norm' if self.normalise else 'acc'}"

    def identity(self) -> dict[str, Any]:
        return {"metric": "MultipleChoice", "items": [dict(item) for item in self.load()], "normalise": self.normalise}

    def load(self) -> list[Mapping[str, Any]]:
        """The items, at most `limit`."""
        if not isinstance(self.items, str | Path):
            return list(self.items)[: self.limit]
        path = Path(self.items)
        try:
            lines = [line for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
        except (OSError, UnicodeDecodeError) as error:
            raise StoreError(f"{path}: cannot be read: {error}") from None
        items = []
        for number, line in enumerate(lines[: self.limit], start=1):
            try:
                items.append(json.loads(line))
            except json.JSONDecodeError as error:
                raise StoreError(f"{path}, line {number}: is not JSON: {error}") from None
        return items

    @torch.no_grad()
    def measure(self, model: nn.Module, tokenizer: Any) -> float:
        """Accuracy of `model` on the items."""
        hits = [_best_choice(model, tokenizer, item, self.normalise) == item["answer"] for item in self.load()]
        return sum(hits) / len(hits)


class RememberingTokenizer:
    """A tokenizer that encodes each text once: a sweep scores the same ones in every cell."""

    def __init__(self, tokenizer: Any):
        self.tokenizer = tokenizer
        self._encoded: dict[tuple[Any, ...], Any] = {}

    def __call__(self, text: str, **options: Any) -> Any:
        key = (text, *sorted(options.items()))
        if key not in self._encoded:
            self._encoded[key] = self.tokenizer(text, **options)
        return self._encoded[key]


class DigitalReference:
    """The digital model as a reference: its log-probabilities of each window, kept while they fit in memory."""

    def __init__(self, model: nn.Module):
        self.model = model
        self._kept: dict[tuple[int, ...], torch.Tensor] = {}
        self._bytes = 0

    def log_probs(self, tokens: torch.Tensor) -> torch.Tensor:
        """(T - 1, vocabulary) of one window (1, T)."""
        key = tuple(tokens[0].tolist())
        if key not in self._kept:
            computed = next(next_token_log_probs(self.model, [tokens]))
            size = computed.numel() * computed.element_size()
            if self._bytes + size > _CACHE_BYTES:
                return computed
            self._kept[key] = computed
            self._bytes += size
        return self._kept[key]


def evaluate(
    model: nn.Module,
    metrics: Iterable[AbstractMetric],
    tokenizer: Any = None,
    reference: DigitalReference | None = None,
) -> dict[str, float]:
    """Every metric of a model by name. `reference` is needed by metrics that compare with the digital model."""
    metrics = checked_metrics(metrics)
    tokenizer = tokenizer_of(model, tokenizer)
    values: dict[str, float] = {}
    with torch.no_grad():
        groups: dict[tuple[Any, ...], list[TextMetric]] = {}
        for metric in metrics:
            if isinstance(metric, TextMetric):
                groups.setdefault(metric.passes, []).append(metric)
            elif isinstance(metric, MultipleChoice):
                values[metric.name] = metric.measure(model, tokenizer)
        for group in groups.values():
            values.update(_evaluate_text(model, tokenizer, group, reference))
    return {metric.name: values[metric.name] for metric in metrics}


def checked_metrics(metrics: AbstractMetric | Iterable[AbstractMetric]) -> list[AbstractMetric]:
    """The metrics as a list, or UsageError where one is none or two share a name."""
    chosen: list[AbstractMetric] = [metrics] if isinstance(metrics, AbstractMetric) else list(metrics)
    if not chosen:
        raise UsageError("metrics: give at least one, e.g. Perplexity(text)")
    for metric in chosen:
        if not isinstance(metric, TextMetric | MultipleChoice):
            raise UsageError(f"metrics: {metric!r} is not a metric; give objects such as Perplexity(text)")
    names = [metric.name for metric in chosen]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(f"metrics: {', '.join(twice)} appears more than once; measure one at a time")
    return chosen


def token_windows(text: str, tokenizer: Any, window: int, max_windows: int | None) -> list[torch.Tensor]:
    """Non-overlapping windows (1, window) of a text's tokens, without special tokens."""
    tokens = torch.tensor([tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]])
    count = tokens.shape[1] // window
    if count == 0:
        raise UsageError(
            f"text: has {tokens.shape[1]} tokens, fewer than one window of {window}; give more text or a smaller window"
        )
    return [tokens[:, i * window : (i + 1) * window] for i in range(min(count, max_windows or count))]


def next_token_log_probs(model: nn.Module, windows: Sequence[torch.Tensor], at_once: int = 1) -> Iterator[torch.Tensor]:
    """Log-probabilities (T - 1, vocabulary) of every token after the first of each window (1, T), in float32."""
    for start in range(0, len(windows), at_once):
        tokens = torch.cat(list(windows[start : start + at_once]))
        for logits in model(tokens.to(_input_device(model)), use_cache=False).logits:
            yield torch.log_softmax(logits[:-1].float(), dim=-1)


def _input_device(model: nn.Module) -> torch.device:
    """Where tokens go: to the first parameter, or the CPU where accelerate loads that one only when it is used."""
    device = next(model.parameters()).device
    return torch.device("cpu") if device.type == "meta" else device


def _evaluate_text(
    model: nn.Module, tokenizer: Any, group: list[TextMetric], reference: DigitalReference | None
) -> dict[str, float]:
    first = group[0]
    if reference is None and any(metric.needs_digital for metric in group):
        raise UsageError("reference: needed by KLToDigital; give DigitalReference(digital_model)")
    sums = [0.0] * len(group)
    n_tokens = 0
    windows = token_windows(first.text, tokenizer, first.window, first.max_windows)
    every = next_token_log_probs(model, windows, first.windows_at_once)
    for tokens, log_probs in zip(windows, every, strict=True):
        targets = tokens[0, 1:].to(log_probs.device)
        for i, metric in enumerate(group):
            needed = reference.log_probs(tokens) if reference is not None and metric.needs_digital else None
            sums[i] += metric.score(log_probs, targets, needed)
        n_tokens += len(targets)
    return {metric.name: metric.finish(total / n_tokens) for metric, total in zip(group, sums, strict=True)}


def _check_item(item: Mapping[str, Any], number: int) -> None:
    needed: dict[str, tuple[str, ...]] = {
        "mc": ("context", "choices", "answer"),
        "mc_context": ("contexts", "continuation", "answer"),
    }
    kind = item.get("type") if isinstance(item, Mapping) else None
    if kind not in needed:
        raise UsageError(f'MultipleChoice.items[{number}].type = {kind!r}: must be "mc" or "mc_context"')
    for name in needed[kind]:
        if name not in item:
            raise UsageError(f"MultipleChoice.items[{number}].{name}: required, but not given")
    group = "choices" if kind == "mc" else "contexts"
    options = item[group]
    if isinstance(options, str) or not all(isinstance(o, str) and (o.strip() or kind != "mc") for o in options):
        raise UsageError(f"MultipleChoice.items[{number}].{group}: must be a list of texts that are not empty")
    if type(item["answer"]) is not int or not 0 <= item["answer"] < len(options):
        raise UsageError(f"MultipleChoice.items[{number}].answer = {item['answer']!r}: must be an index of the choices")


def _best_choice(model: nn.Module, tokenizer: Any, item: Mapping[str, Any], normalise: bool) -> int:
    kind: Literal["mc", "mc_context"] = item["type"]
    if kind == "mc":
        pairs = [(item["context"], " " + choice) for choice in item["choices"]]
    else:
        pairs = [(context, " " + item["continuation"]) for context in item["contexts"]]
    scores = _log_likelihoods(model, tokenizer, pairs)
    if normalise:
        scores = [score / len(text.strip().encode()) for score, (_, text) in zip(scores, pairs, strict=True)]
    return max(range(len(scores)), key=scores.__getitem__)


def _log_likelihoods(model: nn.Module, tokenizer: Any, pairs: list[tuple[str, str]]) -> list[float]:
    """log p(continuation | context) of each pair, in one batch padded on the right."""
    encoded = []
    for context, continuation in pairs:
        start = tokenizer(context, add_special_tokens=False)["input_ids"]
        whole = tokenizer(context + continuation, add_special_tokens=False)["input_ids"]
        encoded.append((whole, max(1, min(len(start), len(whole) - 1))))
    longest = max(len(whole) for whole, _ in encoded)
    device = _input_device(model)
    tokens = torch.zeros((len(encoded), longest), dtype=torch.long)
    mask = torch.zeros_like(tokens)
    for row, (whole, _) in enumerate(encoded):
        tokens[row, : len(whole)] = torch.tensor(whole)
        mask[row, : len(whole)] = 1
    logits = model(tokens.to(device), attention_mask=mask.to(device), use_cache=False).logits
    scores = []
    for row, (whole, start) in enumerate(encoded):
        log_probs = torch.log_softmax(logits[row, start - 1 : len(whole) - 1].float(), dim=-1)
        scores.append(float(log_probs.gather(1, torch.tensor(whole[start:], device=device)[:, None]).sum()))
    return scores
