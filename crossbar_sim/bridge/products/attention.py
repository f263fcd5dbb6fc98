"""The attention function behind nn.MultiheadAttention, which some models also call with weights of their own layers."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

_ATTENTION = nn.functional.multi_head_attention_forward
_SIGNATURE = inspect.signature(_ATTENTION)


def attention(reads: Any, *args: Any, **kwargs: Any) -> Any:
    """Projections are read, and the function itself is given identities in their place.

    It so keeps its own masks, dropout, biases of keys and values and averages. A product with an identity adds zeros,
    which changes no bit of a finite number.
    """
    bound = _SIGNATURE.bind(*args, **kwargs)
    bound.apply_defaults()
    given = bound.arguments
    size = given["embed_dim_to_check"]
    weights = (
        [given[f"{name}_proj_weight"] for name in "qkv"]
        if given["use_separate_proj_weight"]
        else given["in_proj_weight"].split(size)
    )
    packed = given["in_proj_bias"]
    biases = [None] * 3 if packed is None else packed.split(size)
    for name, weight, bias in zip(("query", "key", "value"), weights, biases, strict=True):
        given[name] = reads.read(given[name], weight, bias)
    identity = torch.eye(size, dtype=given["query"].dtype, device=given["query"].device)
    out, out_bias = given["out_proj_weight"], given["out_proj_bias"]
    given.update(use_separate_proj_weight=True, in_proj_weight=None, in_proj_bias=None)
    given.update({f"{name}_proj_weight": identity for name in "qkv"})
    given.update(out_proj_weight=identity, out_proj_bias=None)
    result, shares = _ATTENTION(*bound.args, **bound.kwargs)
    return reads.read(result, out, out_bias), shares


ATTENTION: dict[Any, Callable[..., Any]] = {_ATTENTION: attention}
