"""How an integer input code is played out: passes, the part of a code in each, and their duration."""
# mypy: allow-untyped-defs, allow-incomplete-defs
# Numba compiles these from the types of the call.

from __future__ import annotations

from itertools import product
from typing import Any, NamedTuple

import numpy as np
from numba import njit, types
from numba.extending import overload

from crossbar_sim.spec.dac import AmplitudeEncoding, BitSerialEncoding, DacSpec, PwmEncoding, SplitPwmEncoding
from device_models.errors import UsageError


class Pass(NamedTuple):
    """One drive of the word lines.

    Each pass drives the part (`split_codes`) of every code that its signs select, magnitude bits `first_bit` to
    `first_bit + n_bits - 1` (`n_bits` None: inputs that have no bits, whole), onto the devices g+ or g- or both. Over
    the passes that reach g+ (and likewise g-) the sum of weight x part is the code. A pass over g- alone enters the
    difference of the pair with the minus sign of g-. Passes with the same `conversion` add their charges, times weight,
    before one ADC conversion; others are converted one by one and added digitally.
    """

    weight: int
    positive_inputs: bool
    negative_inputs: bool
    g_plus: bool
    g_minus: bool
    first_bit: int
    n_bits: int | None
    conversion: int


WHOLE = Pass(1, True, True, True, True, 0, None, 0)
"""Every input at once on all devices, as it is."""

_SIGNS = {1: ((True, True),), 2: ((True, False), (False, True)), 4: ((True, False), (False, True))}
_DEVICES = {1: ((True, True),), 2: ((True, True),), 4: ((True, False), (False, True))}


def input_passes(spec: DacSpec) -> tuple[Pass, ...]:
    """The passes that play out one vector of codes, in time order.

    Equation   sum over passes of weight x part = code, for each of g+ and g-
    Source     encodings: PWM, bit-serial, split PWM (aihwkit split mode); phases: M. Le Gallo et al., Nat. Electron. 6
               (2023), DOI 10.1038/s41928-023-01010-1, Extended Data
    """
    passes: list[Pass] = []
    phases = product(_SIGNS[spec.phases], _DEVICES[spec.phases])
    for number, ((positive, negative), (g_plus, g_minus)) in enumerate(phases):
        for first, n_bits in _digits(spec):
            once = isinstance(spec.encoding, BitSerialEncoding) and spec.encoding.digitised == "once"
            conversion = number if once else len(passes)
            passes.append(Pass(2**first, positive, negative, g_plus, g_minus, first, n_bits, conversion))
    return tuple(passes)


def _digits(spec: DacSpec) -> tuple[tuple[int, int | None], ...]:
    """(first bit, number of bits) of the pulses of one phase."""
    if spec.bits is None:
        return ((0, None),)
    match spec.encoding:
        case BitSerialEncoding():
            return tuple((k, 1) for k in range(spec.bits - 1))
        case SplitPwmEncoding(low_bits=low):
            return (0, low), (low, spec.bits - 1 - low)
        case _:
            return ((0, spec.bits - 1),)


def _magnitude_bits(spec: DacSpec) -> int:
    if spec.bits is None:
        raise UsageError("dac.bits = None: an input without steps has no length in ticks or bits; give bits, 2 to 16")
    return spec.bits - 1


def latency_ticks(spec: DacSpec) -> int:
    """Ticks of the input clock to play out one vector.

    Equation   per phase: PWM 2^(b-1) - 1; split PWM 2^s + 2^(b-1-s); bit-serial b - 1 pulses; amplitude 1 pulse;
               times `phases`
    Source     split PWM: aihwkit split mode, which counts a full power of two for each of its two pulses
    """
    match spec.encoding:
        case PwmEncoding():
            ticks = 2 ** _magnitude_bits(spec) - 1
        case SplitPwmEncoding(low_bits=low):
            ticks = 2**low + 2 ** (_magnitude_bits(spec) - low)
        case BitSerialEncoding():
            ticks = _magnitude_bits(spec)
        case AmplitudeEncoding():
            ticks = 1
    return int(spec.phases * ticks)


def conversions(spec: DacSpec) -> int:
    """ADC conversions of each column for one vector of inputs."""
    return 1 + max(each.conversion for each in input_passes(spec))


@njit(nogil=True, cache=True)
def split_codes(thread, first, last, codes, each, out):
    """out = the part of every code that one pass drives, of vectors first to last - 1.

    Equation   out = sign(code) floor(|code| / 2^first) mod 2^n_bits where the pass takes this sign, else 0;
               all of it where `n_bits` is None
    Arguments  codes (T, n) whole numbers in floats, |code| <= L (any numbers where `n_bits` is None); each: a Pass;
               out (T, n) of the type of codes, not overlapping them
    Returns    0
    """
    for t in range(first, last):
        for i in range(codes.shape[1]):
            code = codes[t, i]
            takes = each.positive_inputs if code > 0 else each.negative_inputs
            part = _part(each.first_bit, each.n_bits, abs(code)) if takes else 0 * code
            out[t, i] = -part if code < 0 else part
    return 0


def _part(first_bit: Any, n_bits: Any, magnitude: Any) -> Any:
    raise TypeError("works only inside compiled kernels")


@overload(_part, inline="always")
def _part_of_kind(first_bit, n_bits, magnitude):
    if isinstance(n_bits, types.NoneType):
        return lambda first_bit, n_bits, magnitude: magnitude

    def part(first_bit, n_bits, magnitude):
        shifted = np.floor(magnitude / (1 << first_bit))
        size = 1 << n_bits
        return shifted - size * np.floor(shifted / size)

    return part
