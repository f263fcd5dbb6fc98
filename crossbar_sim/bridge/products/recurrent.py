"""Recurrent layers and their cells, step by step: each product with a weight is a read.

The inputs of all steps go through their matrix in one read, the state before goes through its own at each step. The
order of gates in rows, and where a bias is added, are PyTorch's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

State = tuple[torch.Tensor, ...]
"""What a step hands to the next: (h,), or (h, c) of an LSTM."""

Map = Callable[[torch.Tensor], torch.Tensor]
Cell = Callable[[torch.Tensor, State, Map, Map], State]
"""A step from the gates' share of the input, the state before, the product with that state, and the projection."""


def lstm_step(gates: torch.Tensor, state: State, recurrent: Map, project: Map) -> State:
    """Gates: input, forget, cell, output."""
    h, c = state
    i, f, g, o = (gates + recurrent(h)).chunk(4, -1)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return project(o.sigmoid() * c.tanh()), c


def gru_step(gates: torch.Tensor, state: State, recurrent: Map, project: Map) -> State:
    """Gates: reset, update, new; the reset gate meets the product with the state after its bias was added."""
    (h,) = state
    (r, z, n), (hr, hz, hn) = gates.chunk(3, -1), recurrent(h).chunk(3, -1)
    r, z = (r + hr).sigmoid(), (z + hz).sigmoid()
    n = (n + r * hn).tanh()
    return ((h - n) * z + n,)


def rnn_step(activation: Map, gates: torch.Tensor, state: State, recurrent: Map, project: Map) -> State:
    """One gate."""
    return (activation(gates + recurrent(state[0])),)


def _padded(
    cell: Cell,
    reads: Any,
    input: torch.Tensor,
    hx: torch.Tensor | Sequence[torch.Tensor],
    params: Sequence[torch.Tensor],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[torch.Tensor, ...]:
    """Sequences of one length: input (steps, sequences, n_in), with batch_first (sequences, steps, n_in)."""
    steps = input.transpose(0, 1) if batch_first else input
    n_steps, n_sequences = steps.shape[:2]
    data, *state = _packed(
        cell,
        reads,
        steps.flatten(0, 1),
        [n_sequences] * n_steps,
        hx,
        params,
        has_biases,
        num_layers,
        dropout,
        train,
        bidirectional,
    )
    output = data.unflatten(0, (n_steps, n_sequences))
    return (output.transpose(0, 1) if batch_first else output), *state


def _packed(
    cell: Cell,
    reads: Any,
    data: torch.Tensor,
    batch_sizes: torch.Tensor | list[int],
    hx: torch.Tensor | Sequence[torch.Tensor],
    params: Sequence[torch.Tensor],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
) -> tuple[torch.Tensor, ...]:
    """Sequences of several lengths, the longest first: data (steps of all, n_in), and how many take each step."""
    sizes = batch_sizes if isinstance(batch_sizes, list) else batch_sizes.tolist()
    first = (hx,) if isinstance(hx, torch.Tensor) else tuple(hx)
    directions = 2 if bidirectional else 1
    each = len(params) // (num_layers * directions)
    last = []
    for layer in range(num_layers):
        outputs = []
        for backwards in range(directions):
            k = layer * directions + backwards
            own = params[k * each : (k + 1) * each]
            output, state = _direction(
                cell, reads, data, sizes, tuple(s[k] for s in first), own, has_biases, bool(backwards)
            )
            outputs.append(output)
            last.append(state)
        data = torch.cat(outputs, -1)
        if layer < num_layers - 1:
            data = nn.functional.dropout(data, dropout, train)
    return data, *(torch.stack(states) for states in zip(*last, strict=True))


def _direction(
    cell: Cell,
    reads: Any,
    data: torch.Tensor,
    sizes: list[int],
    state: State,
    params: Sequence[torch.Tensor],
    has_biases: bool,
    backwards: bool,
) -> tuple[torch.Tensor, State]:
    """One layer in one direction: the output of every step, and the state after the last one of each sequence."""
    w_ih, w_hh, *rest = params
    b_ih, b_hh = (rest.pop(0), rest.pop(0)) if has_biases else (None, None)
    recurrent = partial(reads.read, weight=w_hh, bias=b_hh)
    project = partial(reads.read, weight=rest[0]) if rest else _as_it_is
    gates = reads.read(data, w_ih, b_ih).split(sizes)
    outputs: list[torch.Tensor] = [data] * len(sizes)
    for t in reversed(range(len(sizes))) if backwards else range(len(sizes)):
        # sequences that are shorter wait behind: forwards with their last state, backwards with their first one
        now = cell(gates[t], tuple(s[: sizes[t]] for s in state), recurrent, project)
        outputs[t] = now[0]
        state = tuple(torch.cat([new, old[sizes[t] :]]) for new, old in zip(now, state, strict=True))
    return torch.cat(outputs), state


def _as_it_is(h: torch.Tensor) -> torch.Tensor:
    return h


def _layers(cell: Cell) -> Callable[..., Any]:
    """The function of a layer, which takes packed sequences by an argument more before its parameters."""

    def run(reads: Any, *args: Any, **kwargs: Any) -> Any:
        packed = "batch_sizes" in kwargs or (len(args) > 3 and isinstance(args[3], tuple | list))
        return (_packed if packed else _padded)(cell, reads, *args, **kwargs)

    return run


def _one_step(cell: Cell) -> Callable[..., Any]:
    """The function of a cell."""

    def run(
        reads: Any,
        input: torch.Tensor,
        hx: torch.Tensor | Sequence[torch.Tensor],
        w_ih: torch.Tensor,
        w_hh: torch.Tensor,
        b_ih: torch.Tensor | None = None,
        b_hh: torch.Tensor | None = None,
    ) -> Any:
        state = (hx,) if isinstance(hx, torch.Tensor) else tuple(hx)
        now = cell(reads.read(input, w_ih, b_ih), state, partial(reads.read, weight=w_hh, bias=b_hh), _as_it_is)
        return now[0] if isinstance(hx, torch.Tensor) else now

    return run


_tanh_step, _relu_step = partial(rnn_step, torch.tanh), partial(rnn_step, torch.relu)
RECURRENT: dict[Any, Callable[..., Any]] = {
    torch.lstm: _layers(lstm_step),
    torch.gru: _layers(gru_step),
    torch.rnn_tanh: _layers(_tanh_step),
    torch.rnn_relu: _layers(_relu_step),
    torch.lstm_cell: _one_step(lstm_step),
    torch.gru_cell: _one_step(gru_step),
    torch.rnn_tanh_cell: _one_step(_tanh_step),
    torch.rnn_relu_cell: _one_step(_relu_step),
}
