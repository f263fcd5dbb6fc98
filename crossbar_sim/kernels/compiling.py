"""How parts of kernels are compiled."""

from __future__ import annotations

from numba import njit

inner = njit(no_cpython_wrapper=True, no_cfunc_wrapper=True)  # type: ignore[call-overload]
"""For functions that only kernels call: they have no entry for Python, whose call would end the process."""
