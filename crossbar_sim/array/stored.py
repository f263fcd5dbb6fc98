"""Tensors as the arrays that kernels take."""

from __future__ import annotations

import torch
from numpy.typing import NDArray


def stored(tensor: torch.Tensor) -> NDArray:
    """A tensor as NumPy array without copy; bfloat16 as the uint16 that kernels take it for."""
    return (tensor.view(torch.uint16) if tensor.dtype == torch.bfloat16 else tensor).numpy()
