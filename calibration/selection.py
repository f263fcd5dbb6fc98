"""Which law to take: held-out log likelihood over cells, and the plainest law within one standard error of the best."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calibration.fit import Candidate
from device_models.errors import UsageError

Mask = NDArray[np.bool_]


class Law(NamedTuple):
    """One law to rank.

    held_out(train, test): fit to the observations of the mask `train`; log likelihood [nat] of each of `test`.
    """

    name: str
    n_parameters: int
    held_out: Callable[[Mask, Mask], NDArray[np.float64]]


class Ranking(NamedTuple):
    """Candidates with the best first, the name of the chosen one, and which laws could not be ranked."""

    candidates: tuple[Candidate, ...]
    chosen: str
    warnings: tuple[str, ...]


def rank_laws(laws: Sequence[Law], cells: ArrayLike, *, folds: int = 5, seed: int = 0) -> Ranking:
    """Rank laws by cross-validation over cells, so that observations of one cell never lie on both sides.

    Arguments  cells: (n,) the cell of each observation; folds: parts into which the cells are divided at random
    Returns    score: held-out log likelihood per observation; score_se: standard error, over cells, of its difference
               to the best law. Chosen: the fewest parameters among those within one standard error of the best
    Errors     UsageError: fewer cells than folds, no law, or no law with a finite likelihood
    A law that cannot predict a held-out observation (likelihood not finite) is left out with a warning.
    """
    labels, index = np.unique(np.asarray(cells), return_inverse=True)
    if not laws or not 2 <= folds <= len(labels):
        raise UsageError(f"folds = {folds}: must be from 2 to {len(labels)}, the number of cells, for {len(laws)} laws")
    fold = np.random.default_rng(seed).permutation(np.arange(len(labels)) % folds)[index]
    likelihoods: dict[str, NDArray[np.float64]] = {}
    warnings = []
    for law in laws:
        values = np.full(len(index), np.nan)
        for k in range(folds):
            values[fold == k] = law.held_out(fold != k, fold == k)
        failed = int(np.sum(~np.isfinite(values)))
        if failed:
            warnings.append(f"candidate {law.name}: left out, because it cannot predict {failed} held-out observations")
        else:
            likelihoods[law.name] = values
    if not likelihoods:
        raise UsageError("; ".join(warnings))
    best = max(likelihoods, key=lambda name: likelihoods[name].mean())

    def standard_error(name: str) -> float:
        by_cell = np.bincount(index, likelihoods[name] - likelihoods[best])
        return float(np.std(by_cell, ddof=1) * np.sqrt(len(by_cell)) / len(index))

    scored = [
        (law, float(likelihoods[law.name].mean()), standard_error(law.name)) for law in laws if law.name in likelihoods
    ]
    top = max(score for _, score, _ in scored)
    near = [(law.n_parameters, -score, law.name) for law, score, error in scored if score + error >= top]
    chosen = min(near)[2]
    candidates = tuple(
        Candidate(model=law.name, n_parameters=law.n_parameters, score=score, score_se=error, chosen=law.name == chosen)
        for law, score, error in sorted(scored, key=lambda item: -item[1])
    )
    return Ranking(candidates, chosen, tuple(warnings))
