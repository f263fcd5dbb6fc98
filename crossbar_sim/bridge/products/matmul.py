"""Matrix products by their many names: linear, matmul, mm, mv, bmm, addmm, baddbmm, and the operator @."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn


def linear(reads: Any, input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """input (..., n_in) and weight (n_out, n_in)."""
    if reads.holds(input) or (bias is not None and reads.holds(bias)):
        raise reads.refusal(input if reads.holds(input) else bias, nn.functional.linear)
    return reads.read(input, weight, bias)


def matmul(reads: Any, input: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Either side may be a matrix of the chip, or a stack of them that meets a stack of inputs."""
    if reads.holds(input) and reads.holds(other):
        raise reads.refusal(input, torch.matmul)
    if reads.holds(other):
        return _from_the_right(reads, input, other)
    # (n_out, n_in) @ x (n_in, vectors): the vectors are the columns of x
    if other.dim() == 1:
        return _from_the_right(reads, other, input.mT)
    return _from_the_right(reads, other.mT, input.mT).mT


def _from_the_right(reads: Any, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """x (..., n_in) @ weight (n_in, n_out), or (matrices, ..., n_in) @ (matrices, n_in, n_out)."""
    if weight.dim() == 2:
        return reads.read(x, weight.t())
    if weight.dim() != 3 or x.dim() < 2:
        raise reads.refusal(weight, torch.matmul)
    if x.dim() == 2:
        x = x.expand(len(weight), *x.shape)
    if x.dim() != 3:
        raise reads.refusal(weight, torch.matmul)
    if len(x) != len(weight):
        x = x.expand(len(weight), *x.shape[1:])
    return torch.stack([reads.read(own, matrix.t()) for own, matrix in zip(x, weight, strict=True)])


def right_matmul(reads: Any, other: torch.Tensor, input: torch.Tensor) -> torch.Tensor:
    """other.__rmatmul__(input) is input @ other."""
    return matmul(reads, input, other)


def addmm(
    reads: Any, input: torch.Tensor, mat1: torch.Tensor, mat2: torch.Tensor, *, beta: float = 1, alpha: float = 1
) -> torch.Tensor:
    """beta input + alpha mat1 @ mat2, for single matrices and stacks of them."""
    if reads.holds(input):
        raise reads.refusal(input, torch.addmm)
    product = matmul(reads, mat1, mat2)
    if alpha != 1:
        product = alpha * product
    return product if beta == 0 else product + (input if beta == 1 else beta * input)


MATMUL: dict[Any, Callable[..., Any]] = {
    **dict.fromkeys((nn.functional.linear, torch._C._nn.linear), linear),
    **dict.fromkeys((torch.matmul, torch.mm, torch.mv, torch.bmm, torch.linalg.matmul), matmul),
    **dict.fromkeys((torch.Tensor.matmul, torch.Tensor.mm, torch.Tensor.mv, torch.Tensor.bmm), matmul),
    torch.Tensor.__matmul__: matmul,
    torch.Tensor.__rmatmul__: right_matmul,
    **dict.fromkeys((torch.addmm, torch.addmv, torch.baddbmm), addmm),
    **dict.fromkeys((torch.Tensor.addmm, torch.Tensor.addmv, torch.Tensor.baddbmm), addmm),
}
