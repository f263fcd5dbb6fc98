"""Numbers of the tries of a read: a vector whose outputs saturate may be read again (`array.bound_management`).

Try r of vector t of a read has the number t + r REPEAT. Every try has random numbers of its own, because its number is
in their counters, and the full scale of its inputs is 2^r times that of the first.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from device_models.errors import UsageError

REPEAT = 1 << 26
"""What each repeat adds to the number of a try, of at most 15: the bits above tell kinds of random numbers apart
(`kernels.mvm`)."""


@lru_cache(maxsize=64)
def first_tries(n_tiles: int, n_vectors: int) -> NDArray[np.uint32]:
    """(n_tiles, n_vectors): numbers of the first tries of all vectors on all row tiles; not to be written to."""
    if n_vectors > REPEAT:
        raise UsageError(f"{n_vectors} vectors: at most {REPEAT} can be read at once")
    return np.tile(np.arange(n_vectors, dtype=np.uint32), (n_tiles, 1))
