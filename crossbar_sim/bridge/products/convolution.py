"""Convolutions by the matrices of their groups: patches through each, or in the transposed form positions.

A transposed convolution adds what each position gives to the patch around it, so it is the same steps backwards.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

_AT_ONCE = 2**24
"""Numbers of patches that are laid out in memory at once: each number of the input is in many patches."""


def convolution(
    n: int,
    reads: Any,
    input: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | str | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> torch.Tensor:
    """torch.conv1d, conv2d, conv3d by `n`: input (batch, in_channels, *sizes), or without its first dimension."""
    like = _result(n, reads, _CONVOLUTIONS[n], input, weight, bias, stride, padding, dilation, groups)
    stride, dilation = _each(stride, n), _each(dilation, n)
    sizes = [d * (k - 1) + 1 for k, d in zip(weight.shape[2:], dilation, strict=True)]
    x = input if input.dim() == n + 2 else input[None]
    x = nn.functional.pad(x, _padding(padding, sizes))
    for i, (size, step, gap) in enumerate(zip(sizes, stride, dilation, strict=True)):
        x = x.unfold(2 + i, size, step)[..., ::gap]
    # (batch, channels, *positions, *kernel) -> (batch, *positions, groups, channels of a group, *kernel)
    patches = x.movedim(1, n + 1).unflatten(n + 1, (groups, -1))
    biases = [None] * groups if bias is None else bias.chunk(groups)
    outputs = [
        _read(patches.select(n + 1, g), n + 1, partial(read, bias=biases[g]))
        for g, read in enumerate(reads.of_groups(weight, groups))
    ]
    return torch.cat(outputs, -1).movedim(-1, 1).reshape(like).contiguous()


def _read(patches: torch.Tensor, n: int, read: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """Patches with `n` dimensions of positions before those of a patch, in halves while they are too many at once."""
    longest = max(range(n), key=lambda dim: patches.shape[dim])
    if patches.numel() <= _AT_ONCE or patches.shape[longest] == 1:
        return read(patches.flatten(n))
    return torch.cat([_read(half, n, read) for half in patches.chunk(2, longest)], longest)


def transposed_convolution(
    n: int,
    reads: Any,
    input: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    output_padding: int | Sequence[int] = 0,
    groups: int = 1,
    dilation: int | Sequence[int] = 1,
) -> torch.Tensor:
    """torch.conv_transpose1d, 2d, 3d by `n`: input as in `convolution`."""
    options = stride, padding, output_padding, groups, dilation
    like = _result(n, reads, _TRANSPOSED[n], input, weight, bias, *options)
    stride, padding, dilation = _each(stride, n), _each(padding, n), _each(dilation, n)
    kernel = weight.shape[2:]
    x = input if input.dim() == n + 2 else input[None]
    x = x.movedim(1, -1).unflatten(-1, (groups, -1))  # (batch, *positions, groups, channels of a group)
    outputs = [read(x.select(n + 1, g)) for g, read in enumerate(reads.of_groups(weight, groups))]
    patches = torch.cat([y.unflatten(-1, (-1, *kernel)) for y in outputs], n + 1).movedim(n + 1, 1)
    ends = [p + size for p, size in zip(padding, like[-n:], strict=True)]
    inside: Any = tuple(map(slice, padding, ends))
    y = _add_patches(patches, ends, stride, dilation)[(..., *inside)]
    if bias is not None:
        y = y + bias.to(y.dtype).reshape(-1, *[1] * n)
    return y.reshape(like).contiguous()


def _add_patches(
    patches: torch.Tensor, ends: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> torch.Tensor:
    """Patches (batch, channels, *positions, *kernel) added where they overlap, at least as long as `ends`."""
    n = len(ends)
    positions, kernel = patches.shape[2 : n + 2], patches.shape[n + 2 :]
    lengths = [(many - 1) * s + 1 for many, s in zip(positions, stride, strict=True)]
    reach = [length + d * (k - 1) for length, d, k in zip(lengths, dilation, kernel, strict=True)]
    y = patches.new_zeros((*patches.shape[:2], *map(max, reach, ends)))
    place: Any
    for place in itertools.product(*map(range, kernel)):
        starts = [d * k for d, k in zip(dilation, place, strict=True)]
        target: Any = tuple(
            slice(start, start + length, s) for start, length, s in zip(starts, lengths, stride, strict=True)
        )
        y[(..., *target)] += patches[(..., *place)]
    return y


def general_convolution(
    reads: Any,
    input: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
) -> torch.Tensor:
    """torch.convolution, which is behind all of them."""
    n = weight.dim() - 2
    if transposed:
        return transposed_convolution(n, reads, input, weight, bias, stride, padding, output_padding, groups, dilation)
    return convolution(n, reads, input, weight, bias, stride, padding, dilation, groups)


def _result(
    n: int,
    reads: Any,
    function: Any,
    input: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    *options: Any,
) -> torch.Size:
    """The shape that the function itself gives, asked with a batch of none; what PyTorch refuses is refused here."""
    if reads.holds(input) or (bias is not None and reads.holds(bias)):
        raise reads.refusal(input if reads.holds(input) else bias, function)
    batch, sizes = input.shape[: -n - 1], input.shape[-n - 1 :]
    offsets = None if bias is None else bias.to(weight.dtype)
    with torch.no_grad(), torch._C.DisableTorchFunction():  # a layer around this one may be watched as well
        result = function(weight.new_empty((0, *batch[1:], *sizes)), weight, offsets, *options)
    return torch.Size((*batch, *result.shape[1:]))


def _each(value: Any, n: int) -> list[int]:
    """One number for each of `n` dimensions."""
    values = [value] if isinstance(value, int) else list(value)
    return values * n if len(values) == 1 else values


def _padding(padding: int | str | Sequence[int], sizes: Sequence[int]) -> list[int]:
    """What F.pad is to add, from the last dimension on, around patches of `sizes`."""
    if padding == "same":
        both = [((size - 1) // 2, size - 1 - (size - 1) // 2) for size in sizes]
    elif padding == "valid":
        both = [(0, 0)] * len(sizes)
    else:
        both = [(p, p) for p in _each(padding, len(sizes))]
    return [side for pair in reversed(both) for side in pair]


_CONVOLUTIONS: dict[int, Any] = {1: torch.conv1d, 2: torch.conv2d, 3: torch.conv3d}
_TRANSPOSED: dict[int, Any] = {1: torch.conv_transpose1d, 2: torch.conv_transpose2d, 3: torch.conv_transpose3d}
CONVOLUTION: dict[Any, Callable[..., Any]] = {
    **{function: partial(convolution, n) for n, function in _CONVOLUTIONS.items()},
    **{function: partial(transposed_convolution, n) for n, function in _TRANSPOSED.items()},
    torch.convolution: general_convolution,
}
