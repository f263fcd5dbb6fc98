"""Matrix products of a block inside kernels: vectors times packed weights, by the widest vectors of the processor.

A thread that multiplies a block and then works on it finds it in its cache, which a product by a library, for all
vectors at once, does not allow. Each sum is one chain of fused multiply-adds in the order of the inputs, so neither
blocks nor threads change a bit of it. Stored bfloat16 numbers are multiplied as they are, in pairs, where vectors are
given as such and the processor can, else as what they stand for.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from llvmlite import ir
from numba import config, types
from numba.core import cgutils
from numba.core.codegen import get_host_cpu_features
from numba.extending import intrinsic, overload
from numpy.typing import DTypeLike

from crossbar_sim.kernels.bits import from_stored
from crossbar_sim.kernels.compiling import inner
from crossbar_sim.kernels.random import u32

_FEATURES = set((config.CPU_FEATURES or get_host_cpu_features()).split(","))  # type: ignore[attr-defined]
_VECTOR_BYTES = 64 if "+avx512f" in _FEATURES else 32 if "+avx2" in _FEATURES else 16

HAS_PAIRS = "+avx512bf16" in _FEATURES
"""Whether kernels multiply bfloat16 numbers as they are."""

HEIGHT = 8 if _VECTOR_BYTES == 64 else 6
"""Vectors whose sums are in registers at a time, beside two vectors of columns each."""

_BYTE, _I16, _I32, _I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))


def panel_width(dtype: DTypeLike) -> int:
    """Columns of a panel of packed weights; of the float type of the sums."""
    return 2 * _VECTOR_BYTES // np.dtype(dtype).itemsize


@inner
def n_steps(in_pairs, n_rows):
    """Steps of a packed panel for n_rows inputs: pairs of them where codes are stored as bfloat16."""
    return (n_rows + 1) // 2 if in_pairs else n_rows


def pack(weights, codes, packed):
    """packed (panels, steps, panel_width) <- weights (C, K), zero beyond C. Only inside kernels.

    For codes of type float32 or float64 packed has the same type, and weights are that or stored bfloat16; for codes
    that are stored bfloat16 both are, and packed holds pairs of them as uint32.
    """
    raise TypeError("pack works only inside compiled kernels")


def multiply(codes, packed, adds, out):
    """out (T, panels panel_width) = codes (T, K) times what was packed, or more by that where it `adds`. Only inside
    kernels.

    Rows of codes may lie apart; `out` is contiguous and has room for a multiple of HEIGHT vectors, of which those
    beyond T are of no meaning.
    """
    raise TypeError("multiply works only inside compiled kernels")


@overload(pack)
def _pack(weights, codes, packed):
    in_pairs, transposes = codes.dtype == types.uint16, packed.dtype.bitwidth == 32
    size = _VECTOR_BYTES // 4

    def pack_all(weights, codes, packed):
        n_cols, n_rows = weights.shape
        width = packed.shape[2]
        for p in range(packed.shape[0]):
            first = p * width
            n = min(width, n_cols - first)
            done = 0
            if transposes and n == width:
                done = (n_rows // 2 if in_pairs else n_rows) // size * size
                for i in range(0, done, size):
                    for j in range(0, width, size):
                        source = (first + j) * n_rows + (2 * i if in_pairs else i)
                        _transpose(weights, source, n_rows, packed, (p * packed.shape[1] + i) * width + j, width)
            for i in range(done, packed.shape[1]):
                for j in range(n):
                    if in_pairs:
                        other = u32(weights[first + j, 2 * i + 1]) if 2 * i + 1 < n_rows else u32(0)
                        packed[p, i, j] = u32(u32(other << u32(16)) | u32(weights[first + j, 2 * i]))
                    else:
                        packed[p, i, j] = from_stored(weights, weights[first + j, i])
                for j in range(n, width):
                    packed[p, i, j] = 0

    return pack_all


@overload(multiply)
def _multiply(codes, packed, adds, out):
    in_pairs = codes.dtype == types.uint16

    def multiply_all(codes, packed, adds, out):
        n_vectors, n_rows = codes.shape
        n_panels, steps, width = packed.shape
        whole = n_rows // 2 if in_pairs else n_rows
        stride = codes.strides[0] // codes.itemsize
        for p in range(n_panels):
            for t in range(0, n_vectors, HEIGHT):
                _sum_tile(
                    codes, t * stride, stride, min(HEIGHT, n_vectors - t), whole, packed, p * steps * width, adds, out,
                    t * out.shape[1] + p * width, out.shape[1], n_rows % 2,
                )  # fmt: skip

    return multiply_all


@inner
def dot_rows(weights, first, x, sums):
    """sums[j] = weights[first + j K : first + (j + 1) K] @ x (K,) for as many rows as there are sums.

    Flat weights and x are of the types of `pack`; for one vector, packing would take longer than the product.
    """
    n_rows, at_once = x.shape[0], _rows_at_once(sums.itemsize)
    lanes = _VECTOR_BYTES // (x.itemsize if x.itemsize == 2 else sums.itemsize)
    done = n_rows // lanes * lanes
    for start in range(0, sums.shape[0], at_once):
        stop = min(start + at_once, sums.shape[0])
        summed = done if stop - start == at_once else 0
        if summed > 0:
            _dot_rows(weights, first + start * n_rows, n_rows, summed, x, sums, start)
        else:
            sums[start:stop] = 0
        for j in range(start, stop):
            at = first + j * n_rows
            for i in range(summed, n_rows):
                sums[j] += from_stored(weights, weights[at + i]) * from_stored(x, x[i])


@inner
def _rows_at_once(item_bytes):
    """Rows that `_dot_rows` sums together, at most as many as a vector has sums of that size."""
    return min(8, _VECTOR_BYTES // item_bytes)


class _Builder:
    """Instructions on elements of arrays, which are given by their place from the first element on."""

    def __init__(self, context, builder, signature, values):
        self.builder, self.context, self.types, self.values = builder, context, signature.args, values

    def address(self, array: int, place: ir.Value):
        """That of an element of the array which is argument number `array`."""
        kind = self.types[array]
        data = self.context.make_array(kind)(self.context, self.builder, self.values[array]).data
        start = self.builder.bitcast(data, _BYTE.as_pointer())
        return self.builder.gep(start, [self.builder.mul(place, _I64(kind.dtype.bitwidth // 8))])

    def load(self, address, kind: ir.Type, alignment: int):
        loaded = self.builder.load(self.builder.bitcast(address, kind.as_pointer()))
        loaded.align = alignment
        return loaded

    def store(self, value, address, alignment: int):
        self.builder.store(value, self.builder.bitcast(address, value.type.as_pointer())).align = alignment

    def spread(self, word, lanes: int):
        """A vector of equal elements."""
        kind = ir.VectorType(word.type, lanes)
        one = self.builder.insert_element(ir.Constant(kind, ir.Undefined), word, _I32(0))
        mask = ir.Constant(ir.VectorType(_I32, lanes), [0] * lanes)
        return self.builder.shuffle_vector(one, ir.Constant(kind, ir.Undefined), mask)

    def choose(self, one, other, lanes: list[int]):
        """A vector of lanes of two, those of the second counted on."""
        return self.builder.shuffle_vector(one, other, ir.Constant(ir.VectorType(_I32, len(lanes)), lanes))

    def product(self, in_pairs: bool, vector: ir.VectorType):
        """A function of sums and two vectors of factors: the sums with their products, or with those of pairs."""
        factor, bits = vector, 32 if isinstance(vector.element, ir.FloatType) else 64
        name = f"llvm.fma.v{vector.count}f{bits}"
        if in_pairs:
            factor, name = _Pairs(2 * vector.count), "llvm.x86.avx512bf16.dpbf16ps.512"
        arguments = [vector, factor, factor] if in_pairs else [factor, factor, vector]
        function = cgutils.get_or_insert_function(self.builder.module, ir.FunctionType(vector, arguments), name)

        def product(sums, one, other):
            return self.builder.call(function, [sums, one, other] if in_pairs else [one, other, sums])

        return product

    def loop(self, start, stop, increment: int, carried, step):
        """Values after `carried = step(number, carried)` for every number from start to stop."""
        builder, before = self.builder, self.builder.block
        head, body, end = (builder.append_basic_block(name) for name in ("head", "body", "end"))
        builder.branch(head)
        builder.position_at_end(head)
        number, phis = builder.phi(_I64), [builder.phi(value.type) for value in carried]
        builder.cbranch(builder.icmp_signed("<", number, stop), body, end)
        builder.position_at_end(body)
        found, following = step(number, phis), builder.add(number, _I64(increment))
        builder.branch(head)
        for phi, given, own in zip([number, *phis], [start, *carried], [following, *found], strict=True):
            phi.add_incoming(given, before)
            phi.add_incoming(own, body)
        builder.position_at_end(end)
        return phis


@intrinsic
def _transpose(typing_context, source, first, stride, target, place, width):
    """A square of 32-bit words: row j of the target, `width` words apart, is column j of the source, whose rows are
    `stride` elements apart; stored bfloat16 numbers become float32 ones, or pairs of them words."""
    size = _VECTOR_BYTES // 4
    words = ir.VectorType(_I32, size)

    def generate(context, builder, signature, values):
        code = _Builder(context, builder, signature, values)
        _, first, stride, _, place, width = values
        widens = source.dtype == types.uint16 and target.dtype == types.float32
        rows = []
        for j in range(size):
            address = code.address(0, builder.add(first, builder.mul(stride, _I64(j))))
            if widens:
                narrow = builder.zext(code.load(address, ir.VectorType(_I16, size), 2), words)
                rows.append(builder.shl(narrow, ir.Constant(words, [16] * size)))
            else:
                rows.append(code.load(address, words, 2))
        step = size // 2
        while step:
            low = [i if not i & step else size + i - step for i in range(size)]
            high = [i + step if not i & step else size + i for i in range(size)]
            for j in (j for j in range(size) if not j & step):
                a, b = rows[j], rows[j + step]
                for row, chosen in ((j, low), (j + step, high)):
                    rows[row] = code.choose(a, b, chosen)
            step //= 2
        for j, row in enumerate(rows):
            code.store(row, code.address(3, builder.add(place, builder.mul(width, _I64(j)))), 4)
        return context.get_dummy_value()

    return types.void(source, types.intp, types.intp, target, types.intp, types.intp), generate


class _Pairs(ir.Type):
    """A vector of bfloat16 numbers, a type that llvmlite does not know."""

    def __init__(self, count: int):
        self.count = count

    def _to_string(self) -> str:
        return f"<{self.count} x bfloat>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Pairs) and other.count == self.count

    def __hash__(self) -> int:
        return hash(self.count)


@intrinsic
def _sum_tile(
    typing_context, codes, first, stride, n_valid, whole, packed, panel, adds, out, place, out_stride, odd
):  # fmt: skip
    """Sums of HEIGHT vectors and a panel of columns; of vectors from n_valid on those of the last one before."""
    real = out.dtype
    bits, lanes = real.bitwidth, _VECTOR_BYTES * 8 // real.bitwidth
    scalar = ir.FloatType() if bits == 32 else ir.DoubleType()
    vector, pairs = ir.VectorType(scalar, lanes), _Pairs(2 * lanes)
    in_pairs = codes.dtype == types.uint16

    def generate(context, builder, signature, values):
        code = _Builder(context, builder, signature, values)
        _, first, stride, n_valid, whole, _, panel, adds, _, place, out_stride, odd = values
        product = code.product(in_pairs, vector)
        last = builder.sub(n_valid, _I64(1))
        rows, places = [], []
        for t in range(HEIGHT):
            own = builder.select(builder.icmp_signed("<", _I64(t), last), _I64(t), last)
            rows.append(code.address(0, builder.add(first, builder.mul(own, stride))))
            start = builder.add(place, builder.mul(out_stride, _I64(t)))
            places += [code.address(8, builder.add(start, _I64(v * lanes))) for v in range(2)]

        def step(number, sums, size):
            """Sums with the inputs of a step, which are `size` bits a vector."""
            columns = []
            for v in range(2):
                at = builder.add(panel, builder.add(builder.mul(number, _I64(2 * lanes)), _I64(v * lanes)))
                kind = ir.VectorType(_I32, lanes) if in_pairs else vector
                loaded = code.load(code.address(5, at), kind, 4)
                columns.append(builder.bitcast(loaded, pairs) if in_pairs else loaded)
            offset, found = builder.mul(number, _I64(bits // 8)), []
            for t in range(HEIGHT):
                address = builder.gep(rows[t], [offset])
                if in_pairs:
                    word = code.load(address, ir.IntType(size), 2)
                    word = builder.zext(word, _I32) if size < 32 else word
                    drive = builder.bitcast(code.spread(word, lanes), pairs)
                else:
                    drive = code.spread(code.load(address, scalar, bits // 8), lanes)
                found += [product(sums[2 * t + v], columns[v], drive) for v in range(2)]
            return found

        zero = ir.Constant(vector, [0.0] * lanes)
        before = builder.block
        with builder.if_then(adds):
            given = [code.load(address, vector, bits // 8) for address in places]
            inside = builder.block
        sums = []
        for own in given:
            phi = builder.phi(vector)
            phi.add_incoming(zero, before)
            phi.add_incoming(own, inside)
            sums.append(phi)
        sums = code.loop(_I64(0), whole, 1, sums, partial(step, size=bits))
        if in_pairs:  # the last input of an odd number, beside which another row may lie
            sums = code.loop(whole, builder.add(whole, odd), 1, sums, partial(step, size=16))
        for value, address in zip(sums, places, strict=True):
            code.store(value, address, bits // 8)
        return context.get_dummy_value()

    return types.void(
        codes, types.intp, types.intp, types.intp, types.intp, packed, types.intp, types.boolean, out, types.intp,
        types.intp, types.intp,
    ), generate  # fmt: skip


@intrinsic
def _dot_rows(typing_context, weights, first, stride, stop, x, sums, place):
    """`_rows_at_once` sums over inputs up to `stop`, a multiple of the inputs that vectors of both have."""
    bits, in_pairs = sums.dtype.bitwidth, x.dtype == types.uint16
    lanes = _VECTOR_BYTES * 8 // bits
    n_rows = _rows_at_once.py_func(bits // 8)
    vector = ir.VectorType(ir.FloatType() if bits == 32 else ir.DoubleType(), lanes)
    words, halves, pairs = ir.VectorType(_I32, lanes), ir.VectorType(_I16, lanes), _Pairs(2 * lanes)

    def generate(context, builder, signature, values):
        code = _Builder(context, builder, signature, values)
        _, first, stride, stop, _, _, place = values
        product = code.product(in_pairs, vector)

        def factors(array, place):
            address = code.address(array, place)
            if in_pairs:
                return builder.bitcast(code.load(address, words, 2), pairs)
            if code.types[array].dtype == types.uint16:
                wide = builder.zext(code.load(address, halves, 2), words)
                return builder.bitcast(builder.shl(wide, ir.Constant(words, [16] * lanes)), vector)
            return code.load(address, vector, bits // 8)

        def step(number, carried):
            drive, found = factors(4, number), []
            for j, own in enumerate(carried):
                row = builder.add(first, builder.mul(stride, _I64(j)))
                found.append(product(own, factors(0, builder.add(row, number)), drive))
            return found

        zeros = [ir.Constant(vector, [0.0] * lanes)] * n_rows
        found = code.loop(_I64(0), stop, 2 * lanes if in_pairs else lanes, zeros, step)
        width = lanes
        while len(found) > 1 or width > n_rows:  # neighbours are added until a lane is left of each row
            couples = list(zip(found[::2], found[1::2] or found, strict=True))
            width = lanes if len(found) > 1 else width // 2
            even, odd = (list(range(part, 2 * width, 2)) for part in range(2))
            found = [builder.fadd(code.choose(a, b, even), code.choose(a, b, odd)) for a, b in couples]
        code.store(found[0], code.address(5, place), bits // 8)
        return context.get_dummy_value()

    return types.void(weights, types.intp, types.intp, types.intp, x, sums, types.intp), generate
