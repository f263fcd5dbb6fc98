"""The ADC of a chip from static ramps of converters, transition by transition."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from calibration.tables import ConverterTable
from calibration.transitions import from_ramp
from crossbar_sim.spec import TabulatedAdcSpec
from device_models.errors import UsageError


def measured_adc(
    ramps: Sequence[ConverterTable], *, lsb: float, zero: float = 0.0, bits: int, bound: float, group_size: int = 1
) -> TabulatedAdcSpec:
    """`chip.adc` with one table for each ramp: whatever gain, offset, INL and DNL these converters have.

    Equation   inl_lsb[k] = (T_k - zero) / lsb - (k - 1/2), T_k the input from which on code k is given (from_ramp),
               k = -L + 1 ... L, L = 2^(bits-1) - 1
    Arguments  lsb, zero: step of the ideal converter and input of its code 0, in the unit of the ramps; codes count
               from -L to L, so unsigned ones are shifted before; bits, bound, group_size: of the specification
    Errors     UsageError: no ramp, lsb not above 0, transitions that a ramp does not reach, what from_ramp refuses
    Test       tests/unit/test_calibration_converters.py
    """
    if not ramps:
        raise UsageError("ramps: give at least one")
    if not (np.isfinite(lsb) and lsb > 0):
        raise UsageError(f"lsb = {lsb!r}: must be a finite number above 0")
    limit = 2 ** (bits - 1) - 1
    wanted = np.arange(1 - limit, limit + 1)
    tables = []
    for number, ramp in enumerate(ramps):
        found = from_ramp(ramp)
        reached = np.isin(wanted, found.code)
        if not reached.all():
            raise UsageError(
                f"ramps[{number}]: reaches codes {found.code[0]} to {found.code[-1]}: must reach {wanted[0]} to "
                f"{wanted[-1]} for {bits} bits"
            )
        level = found.level[np.searchsorted(found.code, wanted)]
        tables.append(tuple(((level - zero) / lsb - (wanted - 0.5)).tolist()))
    return TabulatedAdcSpec(
        source=f"measured: {len(ramps)} ramps", bits=bits, bound=bound, group_size=group_size, inl_lsb=tuple(tables)
    )
