"""What a tokenizer makes of a text, and what it puts in front of it."""

from __future__ import annotations

from typing import Any

from device_models.errors import UsageError

_PROBE_CHARACTERS = 32  # of a text, to see what a tokenizer puts in front


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


def plain_tokenizer(tokenizer: Any) -> Any:
    """The tokenizer itself, where it is a RememberingTokenizer."""
    return tokenizer.tokenizer if isinstance(tokenizer, RememberingTokenizer) else tokenizer


def encode(tokenizer: Any, text: str) -> list[int]:
    """The tokens of a text without special tokens."""
    return [int(token) for token in tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]]


def encode_with_prefix(tokenizer: Any, text: str) -> tuple[list[int], list[int]]:
    """What the tokenizer puts in front of a text by default, such as BOS, and the tokens of the text.

    A prefix that the text has written in front already is not doubled. What a tokenizer appends is left out: nothing
    would follow it.
    """
    tokens, part = encode(tokenizer, text), text.strip()[:_PROBE_CHARACTERS]
    bare, default = encode(tokenizer, part), [int(token) for token in tokenizer(part, verbose=False)["input_ids"]]
    starts = [i for i in range(len(default) - len(bare) + 1) if default[i : i + len(bare)] == bare]
    if not starts:
        raise UsageError(
            f"tokenizer: {type(plain_tokenizer(tokenizer)).__name__} gives {part!r} other tokens with special tokens "
            f"than without: {default} and {bare}"
        )
    prefix = default[: starts[0]]
    return prefix, tokens[len(prefix) :] if tokens[: len(prefix)] == prefix else tokens


def empty_context_token(tokenizer: Any) -> int | None:
    """The token that stands for an empty context: BOS, or else EOS; None where the tokenizer has neither."""
    own = plain_tokenizer(tokenizer)
    first, second = (getattr(own, name, None) for name in ("bos_token_id", "eos_token_id"))
    return first if first is not None else second
