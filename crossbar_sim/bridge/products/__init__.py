"""Functions of PyTorch that multiply by a weight, and how a chip computes them: one file for each family.

Each takes the arguments of the function behind `reads`, which reads vectors through a matrix (bridge.direct).
"""

from collections.abc import Callable
from typing import Any

from crossbar_sim.bridge.products.attention import ATTENTION
from crossbar_sim.bridge.products.convolution import CONVOLUTION
from crossbar_sim.bridge.products.matmul import MATMUL
from crossbar_sim.bridge.products.recurrent import RECURRENT

PRODUCTS: dict[Any, Callable[..., Any]] = {**MATMUL, **ATTENTION, **CONVOLUTION, **RECURRENT}

__all__ = ["PRODUCTS"]
