"""Calling causal language models, and refusing what is none before any work is done."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn

from crossbar_sim.array.programmed import ProgrammedMatrix
from crossbar_sim.bridge.mode import evaluating
from crossbar_sim.chip import Chip
from device_models.errors import CrossbarError, UsageError

_CONTEXT_LENGTHS = ("n_positions", "max_position_embeddings", "n_ctx")
_PROBE_TOKENS = 32
_INSTEAD = "give a causal language model, or measure with a metric of your own (crossbar_sim.AbstractMetric)"


def logits_of(model: nn.Module, tokens: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    """Logits (N, T, vocabulary) of tokens (N, T); `mask` is 0 where tokens pad on the right."""
    device = _input_device(model)
    options: dict[str, Any] = {"use_cache": False}
    if mask is not None:
        options["attention_mask"] = mask.to(device)
    taken = {name: value for name, value in options.items() if _takes(model, name)}
    output = model(tokens.to(device), **taken)
    logits = getattr(output, "logits", None)
    if not isinstance(logits, torch.Tensor):
        raise UsageError(f"model: {type(model).__name__} returns no `logits` but {type(output).__name__}; {_INSTEAD}")
    if logits.ndim != 3 or logits.shape[:2] != tokens.shape:
        raise UsageError(
            f"model: {type(model).__name__} gives logits of shape {tuple(logits.shape)} for tokens of shape "
            f"{tuple(tokens.shape)}, not one row for each token; {_INSTEAD}"
        )
    return logits


def context_length(model: nn.Module) -> tuple[int, str] | None:
    """How many tokens a model reads at once, and the field of its configuration that says so; None: as many as come."""
    config = getattr(model, "config", None)
    nested = getattr(config, "get_text_config", None)
    text = nested() if callable(nested) else getattr(config, "text_config", config)
    if getattr(text, "alibi", False):  # its biases go on for ever
        return None
    for name in _CONTEXT_LENGTHS:
        value = getattr(text, name, None)
        if type(value) is int and value > 0:
            return value - _padded_positions(model, value), name
    return None


def _padded_positions(model: nn.Module, n_positions: int) -> int:
    """How many of its positions a model keeps for padding, as RoBERTa and its kin do: those up to `padding_idx`."""
    embedded = _embedding(model)
    return max(
        (
            each.padding_idx + 1
            for each in model.modules()
            if isinstance(each, nn.Embedding) and each is not embedded and each.num_embeddings == n_positions
            if each.padding_idx is not None
        ),
        default=0,
    )


def check_vocabulary(model: nn.Module, sequences: Sequence[Sequence[int]], size: int | None) -> None:
    """UsageError where a token is not below `size`, of logits, and not below the number of tokens that are embedded."""
    largest = max(max(sequence) for sequence in sequences)
    known = min((each for each in (size, _embedded(model)) if each is not None), default=None)
    if known is not None and largest >= known:
        raise UsageError(
            f"tokenizer: gives token {largest}, but {type(model).__name__} knows {known} tokens; give the tokenizer of "
            "this model"
        )


def check_causal(model: nn.Module, sequences: Sequence[Sequence[int]]) -> int:
    """How many tokens `model` gives logits of; UsageError where those at a token depend on later tokens.

    It runs the model twice on the first tokens of the longest sequence; the second half of them differs.
    """
    if getattr(getattr(model, "config", None), "is_encoder_decoder", False):
        raise UsageError(f"model: {type(model).__name__} is an encoder-decoder model; {_INSTEAD}")
    check_vocabulary(model, sequences, None)
    first = torch.tensor([max(sequences, key=len)[:_PROBE_TOKENS]])
    half = first.shape[1] // 2
    logits = _probe(model, first)
    check_vocabulary(model, sequences, logits.shape[2])
    other = first.clone()
    other[:, half:] = (other[:, half:] + 1) % min(logits.shape[2], _embedded(model) or logits.shape[2])
    seen, again = (each[0, :half].float() for each in (logits, _probe(model, other)))
    known = torch.isfinite(seen) & torch.isfinite(again)
    if not known.any():
        return logits.shape[2]
    spread = seen[known].amax() - seen[known].amin()
    if (seen - again)[known].abs().amax() <= _rounding(model, logits) * spread:
        return logits.shape[2]
    if not torch.equal(_probe(model, first), logits):
        raise UsageError(
            f"model: {type(model).__name__} gives other logits when it reads the same tokens again: something in it is "
            "random in evaluation mode as well"
        )
    raise UsageError(
        f"model: {type(model).__name__} is not causal: its logits depend on later tokens, so that it is told what it "
        f"should predict; {_INSTEAD}"
    )


def _rounding(model: nn.Module, logits: torch.Tensor) -> float:
    """How far, relative to their spread, logits may be apart because experts read other numbers of tokens at once."""
    dtypes = {logits.dtype, *(value.dtype for value in model.parameters() if value.is_floating_point())}
    coarsest = max((torch.finfo(dtype) for dtype in dtypes), key=lambda info: info.eps)
    return coarsest.eps * (100 if coarsest.bits > 16 else 4)


def _probe(model: nn.Module, tokens: torch.Tensor) -> torch.Tensor:
    """Digital logits of `tokens`; what a model, or the chip that it is on, counts or keeps is afterwards as before."""
    with torch.no_grad(), evaluating(model), _left_alone(model), _exact_products(model):
        try:
            return logits_of(model, tokens)
        except CrossbarError:
            raise
        except Exception as error:  # a model may refuse tokens in any way
            text = " ".join(str(error).split())[:200]
            raise UsageError(
                f"model: {type(model).__name__} cannot read {tokens.shape[1]} tokens: {type(error).__name__}: {text}; "
                f"{_INSTEAD}"
            ) from error


@contextmanager
def _exact_products(model: nn.Module) -> Iterator[None]:
    """What is on a chip is multiplied in digital: noise that experts of a mixture share would look like dependence."""
    chip = getattr(model, "chip", None)
    matrices = list(chip.matrices.values()) if isinstance(chip, Chip) else []
    reads = [programmed.matrix.reads for programmed in matrices]
    for programmed in matrices:
        programmed.read = partial(_product, programmed)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for programmed, number in zip(matrices, reads, strict=True):
            del programmed.read
            programmed.matrix.reads = number


def _product(programmed: ProgrammedMatrix, x: torch.Tensor, bias: torch.Tensor | None, backend: str) -> torch.Tensor:
    """ProgrammedMatrix.read without devices; it counts, for whoever asks which layers a forward reads."""
    programmed.matrix.reads += 1
    with programmed.target() as weight:
        return nn.functional.linear(x, weight.to(x.dtype), None if bias is None else bias.to(x.dtype))


@contextmanager
def _left_alone(model: nn.Module) -> Iterator[None]:
    """Attributes and buffers that a forward sets are set back, unless it edits values, to which they then belong."""
    before = [(module, dict(vars(module)), dict(module._buffers)) for module in model.modules()]
    values = [*model.parameters(), *model.buffers()]
    versions = [0 if value.is_inference() else value._version for value in values]
    try:
        yield
    finally:
        edited = versions != [0 if value.is_inference() else value._version for value in values]
        for module, attributes, buffers in [] if edited else before:
            module._buffers.clear()
            module._buffers.update(buffers)
            vars(module).clear()
            vars(module).update(attributes)


def _embedding(model: nn.Module) -> nn.Module | None:
    """The embedding of tokens, where a model says which it is, as those of Hugging Face do."""
    try:
        return model.get_input_embeddings()  # type: ignore[operator]
    except (AttributeError, NotImplementedError):
        return None


def _embedded(model: nn.Module) -> int | None:
    """How many tokens that embedding has."""
    size = getattr(_embedding(model), "num_embeddings", None)
    return size if isinstance(size, int) else None


def _takes(model: nn.Module, name: str) -> bool:
    """Whether the forward of a model, or of the one that it wraps, takes a keyword."""
    parameters = inspect.signature(model.forward).parameters
    if name in parameters or not any(each.kind is each.VAR_KEYWORD for each in parameters.values()):
        return name in parameters
    inner = getattr(model, "_orig_mod", getattr(model, "module", None))  # of torch.compile; of DataParallel and its kin
    return not isinstance(inner, nn.Module) or _takes(inner, name)


def _input_device(model: nn.Module) -> torch.device:
    """Where tokens go: to the first parameter, or the CPU where accelerate loads that one only when it is used."""
    first = next(model.parameters(), None)
    return torch.device("cpu") if first is None or first.device.type == "meta" else first.device
