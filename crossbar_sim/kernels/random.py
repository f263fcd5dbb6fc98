"""Counter-based standard normals: Threefry-2x32 with 13 rounds, then Box-Muller with float32 polynomials.

A normal is a function of a 64-bit key and a 64-bit counter and of nothing else: no state, no order of execution, no
thread. Thirteen rounds are the fewest of this generator that pass BigCrush. The arithmetic uses only correctly rounded
float32 operations, so the bits are the same on every machine.

Sources
    J. K. Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011, DOI 10.1145/2063384.2063405;
    single-precision coefficients for ln(1 + x) on [sqrt(1/2) - 1, sqrt(2) - 1] and for sine and cosine on
    [-pi/4, pi/4]: S. Moshier, Cephes mathematical library.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numba import njit

u32 = np.uint32
i32 = np.int32
f32 = np.float32

_PARITY = u32(0x1BD11BDA)
_TWO_M32 = f32(2.0**-32)
_TWO_M33 = f32(2.0**-33)
_HALF_TURN = f32(np.pi * 2.0**-31)  # one count of a signed 32-bit phase, in radians
_LN2_HIGH = f32(0.693359375)
_LN2_LOW = f32(-2.12194440e-4)
_SQRT_HALF_BITS = i32(0x3F3504F3)
_ONE = f32(1.0)
_HALF = f32(0.5)
_TWO = f32(2.0)


def random_key(*parts: int | str) -> tuple[np.uint32, np.uint32]:
    """The 64-bit key of a purpose, e.g. ``random_key(seed, "lm_head", "program", 0)``: a BLAKE2b hash of the parts."""
    digest = hashlib.blake2b("\x1f".join(map(str, parts)).encode(), digest_size=8).digest()
    words = np.frombuffer(digest, dtype="<u4")
    return words[0], words[1]


@njit(inline="always")
def _mix(x0, x1, rotation):
    x0 = u32(x0 + x1)
    x1 = u32(u32(x1 << u32(rotation)) | u32(x1 >> u32(32 - rotation)))
    return x0, u32(x1 ^ x0)


@njit(inline="always")
def threefry(key0, key1, counter0, counter1):
    """Threefry-2x32-13: 64 random bits as two uint32 from two uint32 of key and two of counter."""
    key2 = u32(u32(_PARITY ^ key0) ^ key1)
    x0 = u32(counter0 + key0)
    x1 = u32(counter1 + key1)
    x0, x1 = _mix(x0, x1, 13)
    x0, x1 = _mix(x0, x1, 15)
    x0, x1 = _mix(x0, x1, 26)
    x0, x1 = _mix(x0, x1, 6)
    x0, x1 = u32(x0 + key1), u32(x1 + u32(key2 + u32(1)))
    x0, x1 = _mix(x0, x1, 17)
    x0, x1 = _mix(x0, x1, 29)
    x0, x1 = _mix(x0, x1, 16)
    x0, x1 = _mix(x0, x1, 24)
    x0, x1 = u32(x0 + key2), u32(x1 + u32(key0 + u32(2)))
    x0, x1 = _mix(x0, x1, 13)
    x0, x1 = _mix(x0, x1, 15)
    x0, x1 = _mix(x0, x1, 26)
    x0, x1 = _mix(x0, x1, 6)
    x0, x1 = u32(x0 + key0), u32(x1 + u32(key1 + u32(3)))
    x0, x1 = _mix(x0, x1, 17)
    return x0, x1


@njit(inline="always")
def _log(x):
    """ln(x) of a positive normal float32, relative error below 2e-7."""
    bits = f32(x).view(i32)
    exponent = i32(i32(bits - _SQRT_HALF_BITS) >> i32(23))
    m = i32(bits - i32(exponent << i32(23))).view(f32) - _ONE
    square = m * m
    p = f32(7.0376836292e-2)
    p = p * m + f32(-1.1514610310e-1)
    p = p * m + f32(1.1676998740e-1)
    p = p * m + f32(-1.2420140846e-1)
    p = p * m + f32(1.4249322787e-1)
    p = p * m + f32(-1.6668057665e-1)
    p = p * m + f32(2.0000714765e-1)
    p = p * m + f32(-2.4999993993e-1)
    p = p * m + f32(3.3333331174e-1)
    e = f32(exponent)
    return m + (m * square * p + (e * _LN2_LOW - _HALF * square)) + e * _LN2_HIGH


@njit(inline="always")
def normal_pair(bits0, bits1):
    """Two independent standard normals from 64 random bits (Box-Muller); the largest is 6.76."""
    radius = np.sqrt(-_TWO * _log(f32(bits0) * _TWO_M32 + _TWO_M33))
    quadrant = i32(i32(u32(bits1 + u32(0x20000000))) >> i32(30))
    angle = f32(i32(u32(bits1 - u32(u32(quadrant) << u32(30))))) * _HALF_TURN
    square = angle * angle
    sine = (
        (f32(-1.9515295891e-4) * square + f32(8.3321608736e-3)) * square + f32(-1.6666654611e-1)
    ) * square * angle + angle
    cosine = (
        ((f32(2.443315711809948e-5) * square + f32(-1.388731625493765e-3)) * square + f32(4.166664568298827e-2))
        * square
        * square
        - _HALF * square
        + _ONE
    )
    odd = (quadrant & i32(1)) != 0
    c = sine if odd else cosine
    s = cosine if odd else sine
    c = -c if ((quadrant + i32(1)) & i32(2)) != 0 else c
    s = -s if (quadrant & i32(2)) != 0 else s
    return radius * c, radius * s


@njit(cache=True)
def fill_normals(key0, key1, first0, counter1, z0, z1):
    """z0[l], z1[l] = the normal pair of key and counter (first0 + l, counter1)."""
    for lane in range(z0.shape[0]):
        bits0, bits1 = threefry(key0, key1, u32(first0 + u32(lane)), counter1)
        z0[lane], z1[lane] = normal_pair(bits0, bits1)


@njit(cache=True)
def fill_signs(key, signs):
    """signs[p, i] = +-1 with equal chances, a function of the key and of (i, p)."""
    for p in range(signs.shape[0]):
        for i in range(signs.shape[1]):
            bits, _ = threefry(key[0], key[1], u32(i), u32(p))
            signs[p, i] = f32(1.0) if bits & u32(1) else f32(-1.0)
