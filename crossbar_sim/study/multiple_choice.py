"""Multiple-choice items, scored as lm-evaluation-harness scores them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import nn

from crossbar_sim.study.contract import AbstractTokenMetric, MetricContext
from crossbar_sim.study.language_model import context_length, logits_of
from crossbar_sim.study.tokens import empty_context_token, encode, encode_with_prefix
from device_models.errors import StoreError, UsageError

_SUFFIXES = {False: "acc", True: "acc_norm", "bytes": "acc_norm", "characters": "acc_norm_characters"}


class _Sequence(NamedTuple):
    """Tokens of a context with its continuation, which begins at `start`; `read` of them go through the model."""

    tokens: list[int]
    start: int
    read: int


@dataclass(frozen=True)
class MultipleChoice(AbstractTokenMetric):
    """Share of items whose right choice is the likeliest, zero-shot, without a chat template; NaN where a score is NaN.

    `items` is the path of a JSONL file or a list of mappings: `type` "mc" has `context`, `choices`, `answer` (index)
    and scores " " + choice after the context; "mc_context" has `contexts`, `continuation`, `answer` and scores
    " " + continuation after each context. `normalise` divides the log-likelihood by the length of the choice in UTF-8
    bytes (True or "bytes"; acc_bytes of lm-evaluation-harness) or in "characters" (its acc_norm).

    Conventions are those of lm-evaluation-harness: tokens that the tokenizer puts in front of a text by default, such
    as BOS, stand in front of the context; spaces at the end of a context go to the continuation; BOS, or else EOS, is
    the context where there is none; what is longer than the model's context loses tokens on the left.
    """

    items: str | Path | Sequence[Mapping[str, Any]] = field(repr=False)
    limit: int | None = None
    normalise: bool | Literal["bytes", "characters"] = False
    name: str = field(init=False)

    def __post_init__(self) -> None:
        if self.limit is not None and (type(self.limit) is not int or self.limit < 1):
            raise UsageError(f"MultipleChoice.limit = {self.limit!r}: must be at least 1, or None")
        if not isinstance(self.normalise, bool | str) or self.normalise not in _SUFFIXES:
            raise UsageError(
                f'MultipleChoice.normalise = {self.normalise!r}: must be True, False, "bytes" or "characters"'
            )
        if not isinstance(self.items, str | Path | Sequence) or isinstance(self.items, bytes | bytearray):
            raise UsageError(
                f"MultipleChoice.items is a {type(self.items).__name__}: must be the path of a JSONL file or a list of "
                "mappings"
            )
        label = Path(self.items).stem if isinstance(self.items, str | Path) else "multiple_choice"
        object.__setattr__(self, "name", f"{label}_{_SUFFIXES[self.normalise]}")
        loaded = self.load()
        if not loaded:
            raise UsageError("MultipleChoice.items: holds no item")
        for number, item in enumerate(loaded):
            _check_item(item, number)

    def identity(self) -> dict[str, Any]:
        """What the metric measures, as plain data."""
        items = [dict(item) for item in self.load()]
        return {"metric": "MultipleChoice", "items": items, "score": _SUFFIXES[self.normalise]}

    def load(self) -> list[Mapping[str, Any]]:
        """The items, at most `limit`."""
        if not isinstance(self.items, str | Path):
            return list(self.items)[: self.limit]
        path = Path(self.items)
        try:
            lines = [line for line in path.read_text(encoding="utf-8-sig").split("\n") if line.strip()]
        except (OSError, ValueError) as error:
            raise StoreError(f"{path}: cannot be read: {error}") from None
        items = []
        for number, line in enumerate(lines[: self.limit], start=1):
            try:
                items.append(json.loads(line))
            except (ValueError, RecursionError) as error:
                raise StoreError(f"{path}, line {number}: is not JSON: {error}") from None
        return items

    def sequences(self, model: nn.Module, tokenizer: Any) -> list[list[int]]:
        """Every context with every continuation."""
        encoded = [_encode_item(model, tokenizer, *numbered) for numbered in enumerate(self.load())]
        return [sequence.tokens for sequences in encoded for sequence in sequences]

    def measure(self, context: MetricContext) -> float:
        """Accuracy of the model on the items."""
        items, hits = self.load(), 0
        for number, item in enumerate(items):
            scores = _log_likelihoods(context.model, _encode_item(context.model, context.tokenizer, number, item))
            if self.normalise:
                lengths = [len(text if self.normalise == "characters" else text.encode()) for text in _texts(item)]
                scores = [score / length for score, length in zip(scores, lengths, strict=True)]
            if any(math.isnan(score) for score in scores):
                return math.nan
            hits += max(range(len(scores)), key=scores.__getitem__) == item["answer"]
        return hits / len(items)


def _check_item(item: Mapping[str, Any], number: int) -> None:
    needed: dict[str, tuple[str, ...]] = {
        "mc": ("context", "choices", "answer"),
        "mc_context": ("contexts", "continuation", "answer"),
    }
    kind = item.get("type") if isinstance(item, Mapping) else None
    if not isinstance(kind, str) or kind not in needed:
        raise UsageError(f'MultipleChoice.items[{number}].type = {kind!r}: must be "mc" or "mc_context"')
    for name in needed[kind]:
        if name not in item:
            raise UsageError(f"MultipleChoice.items[{number}].{name}: required, but not given")
    group = "choices" if kind == "mc" else "contexts"
    options = item[group]
    if not isinstance(options, list | tuple) or not all(
        isinstance(option, str) and (option.strip() or kind != "mc") for option in options
    ):
        raise UsageError(f"MultipleChoice.items[{number}].{group}: must be a list of texts that are not empty")
    single = "context" if kind == "mc" else "continuation"
    if not isinstance(item[single], str) or not (item[single].strip() or kind == "mc"):
        raise UsageError(f"MultipleChoice.items[{number}].{single} = {item[single]!r}: must be a text")
    if type(item["answer"]) is not int or not 0 <= item["answer"] < len(options):
        raise UsageError(f"MultipleChoice.items[{number}].answer = {item['answer']!r}: must be an index of the choices")


def _texts(item: Mapping[str, Any]) -> list[str]:
    """What is scored for each option."""
    return item["choices"] if item["type"] == "mc" else [item["continuation"]] * len(item["contexts"])


def _encode_item(model: nn.Module, tokenizer: Any, number: int, item: Mapping[str, Any]) -> list[_Sequence]:
    """The sequences of an item, one for each option."""
    contexts = [item["context"]] * len(item["choices"]) if item["type"] == "mc" else item["contexts"]
    limit = context_length(model)
    sequences = []
    for context, text in zip(contexts, _texts(item), strict=True):
        tokens, start = _encode_pair(tokenizer, context, " " + text, number)
        if limit is None or len(tokens) <= limit[0]:
            sequences.append(_Sequence(tokens, start, len(tokens)))
            continue
        if len(tokens) - start > limit[0]:
            raise UsageError(
                f"MultipleChoice.items[{number}]: a continuation has {len(tokens) - start} tokens, and "
                f"{type(model).__name__} reads at most {limit[0]} (config.{limit[1]})"
            )
        dropped = len(tokens) - limit[0] - 1  # nothing follows the last token, so it need not be read
        sequences.append(_Sequence(tokens[dropped:], start - dropped, limit[0]))
    return sequences


def _encode_pair(tokenizer: Any, context: str, continuation: str, number: int) -> tuple[list[int], int]:
    """Tokens of a context with its continuation, encoded together, and where the continuation begins."""
    kept = context.rstrip()
    continuation = context[len(kept) :] + continuation
    prefix, tokens = encode_with_prefix(tokenizer, kept + continuation)
    whole, start = prefix + tokens, len(prefix) + len(encode(tokenizer, kept) if kept else [])
    if start == 0:
        first = empty_context_token(tokenizer)
        if first is None:
            raise UsageError(
                f"MultipleChoice.items[{number}]: its context is empty, and the tokenizer has no BOS or EOS token to "
                "stand for it"
            )
        whole, start = whole if whole[:1] == [first] else [first, *whole], 1
    if start >= len(whole):
        raise UsageError(f"MultipleChoice.items[{number}]: {continuation!r} adds no token to its context")
    return whole, start


def _log_likelihoods(model: nn.Module, sequences: list[_Sequence]) -> list[float]:
    """log p(continuation | context) of each sequence, in one batch padded on the right."""
    tokens = torch.zeros((len(sequences), max(sequence.read for sequence in sequences)), dtype=torch.long)
    mask = torch.zeros_like(tokens)
    for row, sequence in enumerate(sequences):
        tokens[row, : sequence.read] = torch.tensor(sequence.tokens[: sequence.read])
        mask[row, : sequence.read] = 1
    logits = logits_of(model, tokens, mask)
    scores = []
    for row, (whole, start, _) in enumerate(sequences):
        log_probs = torch.log_softmax(logits[row, start - 1 : len(whole) - 1].float(), dim=-1)
        scores.append(float(log_probs.gather(1, torch.tensor(whole[start:], device=logits.device)[:, None]).sum()))
    return scores
