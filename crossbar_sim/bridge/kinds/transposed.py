"""The transposed Conv1D of GPT-2 on the chip, in a file of its own: its class exists only where transformers does."""

from __future__ import annotations

from torch import nn
from transformers.pytorch_utils import Conv1D

from crossbar_sim.array.programmed import ProgrammedMatrix
from crossbar_sim.bridge.layers import AbstractAnalogLayer


class AnalogConv1D(AbstractAnalogLayer, Conv1D):
    """Conv1D (weight (n_in, n_out)) on the chip, and a Conv1D to whoever asks for its class."""

    def __init__(self, parameter: nn.Parameter, bias: nn.Parameter | None, programmed: ProgrammedMatrix, backend: str):
        super().__init__(parameter, bias, programmed, backend)
        self.nx, self.nf = self.in_features, self.out_features
