"""Many vectors through the tiles of a matrix: column sums, and the converters while the sums are in cache.

Threads take blocks of vectors and columns. Sums go on in the order of the inputs and random numbers are keyed by vector
and column, so that neither blocks nor thread count change a bit.
"""

from __future__ import annotations

from numba import njit
from numpy.typing import DTypeLike

from crossbar_sim.kernels.gemm import HEIGHT, multiply, n_steps, pack, panel_width
from crossbar_sim.kernels.mvm import GROUP, convert
from crossbar_sim.kernels.views import shaped

TURN = 8 * HEIGHT
"""Vectors of a block that are summed and then converted before the next ones are."""

_BLOCK, _SMALL_BLOCK = 256, 32


def block_vectors(n_vectors: int) -> int:
    """Vectors of a block, for which weights are packed once; there are two where they fill more than a small one."""
    return min(_BLOCK, max(_SMALL_BLOCK, (n_vectors + 1) // 2))


def n_blocks(n_vectors: int, n_cols: int) -> int:
    """Blocks that n_vectors vectors and n_cols columns are read in."""
    return -(-n_vectors // block_vectors(n_vectors)) * -(-n_cols // GROUP)


def packed_shape(dtype: DTypeLike, n_cols: int, n_rows: int, in_pairs: bool) -> tuple[int, int, int]:
    """(panels, steps, columns of a panel) of a block, with sums of type dtype; `in_pairs` of bfloat16 numbers."""
    width = panel_width(dtype)
    return -(-min(n_cols, GROUP) // width), n_steps.py_func(in_pairs, n_rows), width


@njit(nogil=True, cache=True)
def read_parts(
    thread, first_block, last_block, codes, squares, parts, columns, effective, variance, per_level, noise_variance,
    draws, adc, errors, stage, full_scale, gain, bias, keys, tries, first, room, weight_room, variance_room, block, y,
    beyond,
):  # fmt: skip
    """Column sums and `mvm.read_columns` of many vectors on some parts of a matrix, for some of `n_blocks`.

    Arguments  thread that this is, and the blocks; codes (F, T, K), the drive of each feature; squares (V, T, K) of
               their variances, (V, 1, K) where all vectors have the same, (0, 0, 0) where there are none; parts (., 5):
               number of a part, its row tile, first and last row + 1, and where it begins in flat weights; columns: the
               first, a multiple of GROUP, and last + 1; effective, variance: F and V flat arrays with the (N, rows) of
               all parts; full_scale (row tiles, T); gain (parts, N); keys (parts, 2); tries, beyond (row tiles, T);
               first: whether y is set to the bias (N,) first; room (threads, 2, TURN, columns of whole panels),
               weight_room (threads, F, packed_shape of the longest part), variance_room (threads, V, the same for
               squares); block: vectors of a block; y (T, columns) out; the rest as in `read_columns`. Codes, squares,
               effective and variance may be stored as bfloat16, see `gemm.pack`
    Returns    number of saturated outputs
    """
    across = (columns[1] - columns[0] + GROUP - 1) // GROUP
    noisy, alike, saturated = squares.shape[0] > 0, squares.shape[1] == 1, 0
    weight_room, variance_room, size = weight_room[thread], variance_room[thread], room.shape[2] * room.shape[3]
    for number in range(first_block, last_block):
        start, col = number // across * block, columns[0] + number % across * GROUP
        stop, end = min(start + block, codes.shape[1]), min(col + GROUP, columns[1])
        width = end - col
        n_panels = (width + weight_room.shape[3] - 1) // weight_room.shape[3]
        n_sums = n_panels * weight_room.shape[3]  # of a vector, in whole panels
        sums = shaped(room, 2 * thread * size, (TURN, n_sums))
        spread = shaped(room, (2 * thread + 1) * size, (TURN, n_sums))
        for p in range(parts.shape[0]):
            k, tile, row, last_row = parts[p, 0], parts[p, 1], parts[p, 2], parts[p, 3]
            here, there = parts[p, 4] + col * (last_row - row), parts[p, 4] + end * (last_row - row)
            _pack_features(effective, here, there, width, codes, n_panels, weight_room)
            _pack_features(variance, here, there, width, squares, n_panels, variance_room)
            for turn in range(start, stop, TURN):
                turned = min(turn + TURN, stop)
                _multiply_features(codes[:, turn:turned, row:last_row], n_panels, weight_room, sums)
                if not alike or turn == start:
                    own = squares[:, 0 if alike else turn : 1 if alike else turned, row:last_row]
                    _multiply_features(own, n_panels, variance_room, spread)
                spreads = spread[: min(turned - turn, squares.shape[1]) if noisy else 0, :width]
                saturated += convert(
                    sums[: turned - turn, :width], spreads, per_level, noise_variance, draws, adc, errors, stage,
                    full_scale[tile, turn:turned], gain[k, col:end], bias[col:end], keys[k], tries[tile, turn:turned],
                    col, first and p == 0, y[turn:turned, col - columns[0] : end - columns[0]],
                    beyond[tile, turn:turned],
                )  # fmt: skip
    return saturated


@njit(inline="always")
def _pack_features(flats, here, there, width, drives, n_panels, room):
    for f in range(drives.shape[0]):
        weights = shaped(flats[f], here, (width, (there - here) // width))
        pack(weights, drives, _packed(room, f, n_panels, n_steps(drives.itemsize == 2, weights.shape[1])))


@njit(inline="always")
def _multiply_features(drives, n_panels, room, out):
    for f in range(drives.shape[0]):
        packed = _packed(room, f, n_panels, n_steps(drives.itemsize == 2, drives.shape[2]))
        multiply(drives[f], packed, f > 0, out)


@njit(inline="always")
def _packed(room, f, n_panels, steps):
    """The beginning of the room (F, packed_shape) of feature f, for its packed weights."""
    width = room.shape[3]
    return shaped(room, f * room.shape[1] * room.shape[2] * width, (n_panels, steps, width))
