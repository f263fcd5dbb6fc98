"""Views that cost little: an ordinary view of a row counts references, and its numbers may lie apart for all it knows,
so that loops over it are not vectorised. And slices, shapes and views that Numba makes itself take time to compile."""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.errors import TypingError
from numba.core.imputils import impl_ret_borrowed
from numba.extending import intrinsic
from numba.np.arrayobj import populate_array


@intrinsic
def row(typing_context, array, number):
    """Row `number` of a matrix whose rows are contiguous, while somebody holds the matrix. Only inside kernels."""
    kind = types.Array(array.dtype, 1, "C")

    def generate(context, builder, signature, values):
        matrix = context.make_array(array)(context, builder, values[0])
        distance = cgutils.unpack_tuple(builder, matrix.strides)[0]
        length = cgutils.unpack_tuple(builder, matrix.shape)[1]
        return _view(context, builder, kind, matrix, builder.mul(values[1], distance), [length])

    return kind(array, types.intp), generate


@intrinsic
def shaped(typing_context, array, start, shape):
    """The numbers of a contiguous array from number `start` on as an array of that shape. It counts as a reference, so
    that a kernel may let go of the first one. Only inside kernels."""
    if array.layout != "C":
        raise TypingError(f"shaped: takes contiguous arrays, not {array}")
    kind = types.Array(array.dtype, len(shape), "C")

    def generate(context, builder, signature, values):
        given = context.make_array(array)(context, builder, values[0])
        lengths = cgutils.unpack_tuple(builder, values[2])
        view = _view(context, builder, kind, given, builder.mul(values[1], given.itemsize), lengths, given.meminfo)
        return impl_ret_borrowed(context, builder, kind, view)

    return kind(array, types.intp, types.UniTuple(types.intp, len(shape))), generate


def _view(context, builder, kind, array, offset, lengths, meminfo=None):
    """A contiguous array of that type and those lengths, `offset` bytes behind the start of another."""
    view = context.make_array(kind)(context, builder)
    start = builder.gep(builder.bitcast(array.data, ir.IntType(8).as_pointer()), [offset])
    strides = [array.itemsize]
    for length in reversed(lengths[1:]):
        strides.insert(0, builder.mul(strides[0], length))
    data = builder.bitcast(start, view.data.type)
    populate_array(view, data=data, shape=lengths, strides=strides, itemsize=array.itemsize, meminfo=meminfo)
    return view._getvalue()


@intrinsic
def bits_of(typing_context, number):
    """The bits of a float32 as uint32. Only inside kernels."""
    return types.uint32(types.float32), lambda context, builder, signature, values: builder.bitcast(
        values[0], ir.IntType(32)
    )


@intrinsic
def float_of(typing_context, bits):
    """The float32 of 32 bits. Only inside kernels."""
    return types.float32(types.uint32), lambda context, builder, signature, values: builder.bitcast(
        values[0], ir.FloatType()
    )
