"""Bound management: vectors whose outputs saturate are read again with half their inputs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from crossbar_sim.array.matrix import AnalogMatrix
from crossbar_sim.kernels.tries import REPEAT

ReadAgain = Callable[[NDArray[np.intp], NDArray[np.uint32]], NDArray[np.bool_]]


def halve_inputs(
    max_halvings: int, tries: NDArray[np.uint32], beyond: NDArray[np.bool_], read_again: ReadAgain
) -> NDArray[np.uint32]:
    """Read vectors again until no output of theirs saturates, at most `max_halvings` times.

    Equation   R -> 2 R for a vector on a row of tiles where an output saturated, and all columns of the row, which
               share its DAC, are converted anew. Its other rows of tiles keep their range and their random numbers, and
               so their outputs
    Arguments  tries (row tiles, T) numbers of the first tries (`kernels.tries`); beyond (row tiles, T): where outputs
               saturated in them; read_again(vectors, tries): reads these of the T vectors once more with these
               numbers, puts their results in place of those before, and gives their `beyond`
    Returns    (row tiles, T) numbers of the last tries
    Source     bound management: T. Gokmen, M. Onen, W. Haensch, Front. Neurosci. 11, 538 (2017),
               DOI 10.3389/fnins.2017.00538
    Test       tests/unit/test_array_bound_management.py
    """
    tries, vectors = tries.copy(), np.arange(tries.shape[1])
    for _ in range(max_halvings):
        some = beyond.any(axis=0)
        if not some.any():
            break
        vectors, beyond = vectors[some], beyond[:, some]
        tries[:, vectors] += beyond * np.uint32(REPEAT)
        beyond = read_again(vectors, np.take(tries, vectors, axis=1))
    return tries


def count_repeats(matrix: AnalogMatrix, tries: NDArray[np.uint32]) -> None:
    """Count how many vectors were read again on a row of tiles, and how often, from the numbers of the last tries."""
    repeats = tries // REPEAT
    matrix.n_read_again += int(np.count_nonzero(repeats))
    matrix.n_repeats += int(repeats.sum())
