"""Views that cost nothing: an ordinary view of a row counts references, and its numbers may lie apart for all it knows,
so that loops over it are not vectorised."""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import populate_array


@intrinsic
def row(typing_context, array, number):
    """Row `number` of a matrix whose rows are contiguous, while somebody holds the matrix. Only inside kernels."""
    kind = types.Array(array.dtype, 1, "C")

    def generate(context, builder, signature, values):
        matrix = context.make_array(array)(context, builder, values[0])
        distance, size = cgutils.unpack_tuple(builder, matrix.strides)
        length = cgutils.unpack_tuple(builder, matrix.shape)[1]
        start = builder.bitcast(matrix.data, ir.IntType(8).as_pointer())
        address = builder.gep(start, [builder.mul(values[1], distance)])
        view = context.make_array(kind)(context, builder)
        data = builder.bitcast(address, view.data.type)
        populate_array(view, data=data, shape=[length], strides=[size], itemsize=matrix.itemsize, meminfo=None)
        return view._getvalue()

    return kind(array, types.intp), generate
