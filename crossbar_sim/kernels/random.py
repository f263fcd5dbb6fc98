"""Counter-based standard normals: Threefry-2x32 with 13 rounds, then Box-Muller with float32 polynomials.

A normal is a function of a 64-bit key and a 64-bit counter and of nothing else: no state, no order of execution, no
thread. Thirteen rounds are the fewest of this generator that pass BigCrush. The arithmetic uses only correctly rounded
float32 operations (sums, products, fused products with a sum, roots), so the bits are the same on every machine.

Source     J. K. Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011, DOI 10.1145/2063384.2063405
"""

from __future__ import annotations

import hashlib

import numpy as np
from numba import njit, types
from numba.extending import intrinsic

from crossbar_sim.kernels.compiling import inner
from crossbar_sim.kernels.views import bits_of, float_of

u32 = np.uint32
i32 = np.int32
f32 = np.float32

_PARITY = 0x1BD11BDA
_ROTATIONS = (13, 15, 26, 6, 17, 29, 16, 24)
_ROUNDS = 13
_SIGN = u32(0x80000000)
_TWO_M24 = f32(2.0**-24)
_TWO_M31 = f32(2.0**-31)
_TWO_M32 = f32(2.0**-32)
_ONE = f32(1.0)
_SQRT_HALF_BITS = i32(0x3F3504F3)
_MINUS_LN2 = f32(-0.6931471805599453)

# minimax in relative error: -ln(1 + m) / m on [sqrt(1/2) - 1, sqrt(2) - 1] to 1.7e-7; sin(pi t / 4) / t to 4e-9 and
# cos(pi t / 4) to 4e-8 on [-1, 1], both by powers of t^2
_LOG = tuple(
    f32(c)
    for c in (
        -0.9999999453229222, 0.500003651332136, -0.33335058678652985, 0.2496990827696425, -0.1990017319389386,
        0.17250848169272084, -0.16222524464922317, 0.10106764313307741,
    )
)  # fmt: skip
_SIN = tuple(f32(c) for c in (0.7853981608639523, -0.08074543260667048, 0.0024900011780202885, -3.5950539824693965e-05))
_COS = tuple(f32(c) for c in (0.9999999675110791, -0.30842416653784566, 0.015849686006133446, -0.000318728867815472))


def random_key(*parts: int | str) -> tuple[np.uint32, np.uint32]:
    """The 64-bit key of a purpose, e.g. ``random_key(seed, "lm_head", "program", 0)``: a BLAKE2b hash of the parts."""
    digest = hashlib.blake2b("\x1f".join(map(str, parts)).encode(), digest_size=8).digest()
    words = np.frombuffer(digest, dtype="<u4")
    return words[0], words[1]


@intrinsic
def threefry(typing_context, key0, key1, counter0, counter1):
    """Threefry-2x32-13: 64 random bits as two uint32 from two uint32 of key and two of counter. Only inside kernels."""
    word, pair = types.uint32, types.UniTuple(types.uint32, 2)

    def generate(context, builder, signature, values):
        # written as instructions, because Numba takes half a second to compile thirteen rounds
        number = context.get_constant
        key = [*values[:2], builder.xor(builder.xor(number(word, _PARITY), values[0]), values[1])]
        x = [builder.add(values[2], key[0]), builder.add(values[3], key[1])]
        for turn in range(_ROUNDS):
            left = _ROTATIONS[turn % len(_ROTATIONS)]
            x[0] = builder.add(*x)
            low, high = builder.shl(x[1], number(word, left)), builder.lshr(x[1], number(word, 32 - left))
            x[1] = builder.xor(builder.or_(low, high), x[0])
            if turn % 4 == 3:
                own = turn // 4 + 1
                x[0] = builder.add(x[0], key[own % 3])
                x[1] = builder.add(x[1], builder.add(key[(own + 1) % 3], number(word, own)))
        return context.make_tuple(builder, pair, x)

    return pair(word, word, word, word), generate


@intrinsic
def fma(typing_context, a, b, c):
    """a b + c, rounded once; all of one type."""

    def generate(context, builder, signature, values):
        return builder.fma(*values)

    return a(a, a, a), generate


@njit(inline="always")
def _polynomial(c, x):
    """The cubic with coefficients c from the constant on."""
    return fma(fma(fma(c[3], x, c[2]), x, c[1]), x, c[0])


@njit(inline="always")
def minus_log(bits):
    """-ln(u) of u = (bits | 1) / 2^32, bits of 32, relative error below 4e-7: an exponential number, 22.2 at most."""
    x = fma(f32(i32(bits >> u32(1))), _TWO_M31, _TWO_M32)
    bits = i32(bits_of(x))
    exponent = i32(i32(bits - _SQRT_HALF_BITS) >> i32(23))
    m = float_of(u32(bits - i32(exponent << i32(23)))) - _ONE
    high = _polynomial(_LOG[4:], m)
    p = fma(fma(fma(fma(high, m, _LOG[3]), m, _LOG[2]), m, _LOG[1]), m, _LOG[0])
    return fma(f32(exponent), _MINUS_LN2, m * p)


@njit(inline="always")
def normal_pair(bits0, bits1):
    """Two independent standard normals from 64 random bits (Box-Muller); the largest is 6.66.

    Equation   sqrt(-2 ln u) (cos a, sin a), u = (bits0 | 1) / 2^32, a = pi bits1 / 2^31. The angle is a quadrant and
               phi in [-pi/4, pi/4) from its middle, so that both numbers are (cos phi -+ sin phi) / sqrt(2) but for
               signs, which are the two highest bits, and 1/2 goes into the root.
    """
    radius = np.sqrt(minus_log(bits0))
    t = f32(i32(u32(bits1 << u32(2)) ^ _SIGN)) * _TWO_M31
    half = u32(bits1 & _SIGN)
    odd = u32(u32(bits1 << u32(1)) & _SIGN)  # quadrants that are passed from sine to cosine
    square = t * t
    sine = float_of(bits_of(_polynomial(_SIN, square) * t) ^ odd)
    cosine = _polynomial(_COS, square)
    first, second = f32(radius * (cosine - sine)), f32(radius * (cosine + sine))
    return float_of(bits_of(first) ^ u32(half ^ odd)), float_of(bits_of(second) ^ half)


@njit(cache=True)
def fill_normals(key0, key1, first0, counter1, z0, z1):
    """z0[l], z1[l] = the normal pair of key and counter (first0 + l, counter1)."""
    for lane in range(z0.shape[0]):  # a loop of its own: the processor then works on several turns at a time
        bits0, bits1 = threefry(key0, key1, u32(first0 + u32(lane)), counter1)
        z0[lane], z1[lane] = float_of(bits0), float_of(bits1)
    for lane in range(z0.shape[0]):
        z0[lane], z1[lane] = normal_pair(bits_of(z0[lane]), bits_of(z1[lane]))


@inner
def fill_normals_at(key0, key1, rows, cols, z0, z1, size):
    """The normal pairs of the first `size` of some counters (rows, cols)."""
    for k in range(size):
        bits0, bits1 = threefry(key0, key1, rows[k], cols[k])
        z0[k], z1[k] = float_of(bits0), float_of(bits1)
    for k in range(size):
        z0[k], z1[k] = normal_pair(bits_of(z0[k]), bits_of(z1[k]))


@njit
def fill_columns(key, row, col, n, z0, z1):
    """The normal pairs of weights from input `row` and output `col` on, n inputs of each output."""
    for start in range(0, z0.shape[0], n):
        own = slice(start, start + n)
        fill_normals(key[0], key[1], u32(row), u32(col + start // n), z0[own], z1[own])


@njit(cache=True)
def fill_uniforms(key0, key1, first0, counter1, u0, u1):
    """u0[l], u1[l] = two uniforms in [0, 1) from key and counter (first0 + l, counter1), in steps of 2^-24."""
    for lane in range(u0.shape[0]):
        bits0, bits1 = threefry(key0, key1, u32(first0 + u32(lane)), counter1)
        u0[lane] = f32(bits0 >> u32(8)) * _TWO_M24
        u1[lane] = f32(bits1 >> u32(8)) * _TWO_M24


@njit(cache=True)
def fill_signs(key, signs):
    """signs[p, i] = +-1 with equal chances, a function of the key and of (i, p)."""
    for p in range(signs.shape[0]):
        for i in range(signs.shape[1]):
            bits, _ = threefry(key[0], key[1], u32(i), u32(p))
            signs[p, i] = f32(1.0) if bits & u32(1) else f32(-1.0)
