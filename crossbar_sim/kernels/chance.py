"""Events of a given probability, decided by comparing whole random words: the same on every machine."""

from __future__ import annotations

import numpy as np


def below(probability: float) -> np.uint64:
    """A uniform 32-bit word lies below this number with the given probability, to 2^-33."""
    return np.uint64(round(probability * 2.0**32))
