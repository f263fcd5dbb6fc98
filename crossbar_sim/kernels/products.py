"""Many vectors through the tiles of a matrix: BLAS for the column sums, the converters while the sums are in cache.

Threads take blocks of vectors and columns. Random numbers are keyed by vector and column, so that blocks and thread
count change no bit of them.
"""

from __future__ import annotations

from numba import njit

from crossbar_sim.kernels.bits import from_stored
from crossbar_sim.kernels.blas import multiply
from crossbar_sim.kernels.mvm import GROUP, convert, draw, room_for

BLOCK_COLUMNS = 2 * GROUP


def block_vectors(n_vectors: int) -> int:
    """Vectors of a block, of which a thread sums BLOCK_COLUMNS columns at a time."""
    return max(1, min(256, (n_vectors + 1) // 2))


def n_blocks(n_vectors: int, n_cols: int) -> int:
    """Blocks that n_vectors vectors and n_cols columns are read in."""
    return -(-n_vectors // block_vectors(n_vectors)) * -(-n_cols // BLOCK_COLUMNS)


def room_size(n_vectors: int, n_cols: int, n_rows: int, has_variance: bool) -> int:
    """Numbers that a thread of `read_parts` needs room for; `n_rows` of the longest part."""
    block, width = block_vectors(n_vectors), min(n_cols, BLOCK_COLUMNS)
    return 2 * block * width + width * n_rows if has_variance else block * width


@njit(nogil=True, cache=True)
def read_parts(
    thread, first_block, last_block, gemm, codes, squares, spreads, parts, columns, effective, variance, per_level,
    noise_variance, draws, adc, errors, stage, full_scale, gain, bias, keys, tries, first, room, block, y, beyond,
):  # fmt: skip
    """Column sums and `mvm.read_columns` of many vectors on some parts of a matrix, for some of `n_blocks`.

    Arguments  thread that this is, and the blocks; gemm: `blas.gemm_address`; codes (F, T, K), the drive of each
               feature; squares (V, T, K) of their variances, (V, 1, K) where all vectors have the same, (0, 0, 0) where
               there are none; spreads (parts, T, columns): the variances themselves as stored, where they are known,
               else (0, 0, 0); parts (., 5): number of a part, its row tile, first and last row + 1, and where it begins
               in flat weights; columns: the first, a multiple of GROUP, and last + 1; effective, variance: F and V flat
               arrays with the (N, rows) of all parts, `variance` as stored; full_scale (row tiles, T); gain (parts, N);
               keys (parts, 2); tries, beyond (row tiles, T); room (threads, room_size); block: vectors of a block; y
               (T, N) out; the rest as in `read_columns`
    Returns    number of saturated outputs
    """
    n_vectors, width = codes.shape[1], columns[1] - columns[0]
    across = (width + BLOCK_COLUMNS - 1) // BLOCK_COLUMNS
    saturated = 0
    for number in range(first_block, last_block):
        t, col = number // across * block, columns[0] + number % across * BLOCK_COLUMNS
        saturated += _read_block(
            gemm, codes, squares, spreads, parts, columns[0], effective, variance, per_level, noise_variance, draws,
            adc, errors, stage, full_scale, gain, bias, keys, tries, first, room[thread], t, min(t + block, n_vectors),
            col, min(col + BLOCK_COLUMNS, columns[1]), y, beyond,
        )  # fmt: skip
    return saturated


@njit
def _read_block(
    gemm, codes, squares, spreads, parts, first_col, effective, variance, per_level, noise_variance, draws, adc, errors,
    stage, full_scale, gain, bias, keys, tries, first, room, start, stop, col, end, y, beyond,
):  # fmt: skip
    n, width = stop - start, end - col
    sums, free = room[: n * width].reshape(n, width), room[n * width :]
    z, z_behind, dither = room_for(draws, (width + GROUP - 1) // GROUP * GROUP)
    over = 0
    for p in range(parts.shape[0]):
        k, tile, row, last_row = parts[p, 0], parts[p, 1], parts[p, 2], parts[p, 3]
        rows, at = last_row - row, parts[p, 4]
        here, there = at + col * (last_row - row), at + end * (last_row - row)
        for f in range(codes.shape[0]):
            weights = effective[f][here:there].reshape(width, rows)
            multiply(gemm, codes[f, start:stop, row:last_row], weights, f > 0, sums)
        spread = free[:0].reshape(0, width)
        if squares.shape[0] > 0:
            alike = squares.shape[1] == 1
            spread = free[: (1 if alike else n) * width].reshape(1 if alike else n, width)
            wide = free[n * width : n * width + width * rows]
            for f in range(squares.shape[0]):
                _widen(variance[f][here:there], wide)
                own = squares[f, :1, row:last_row] if alike else squares[f, start:stop, row:last_row]
                multiply(gemm, own, wide.reshape(width, rows), f > 0, spread)
        elif spreads.shape[0] > 0:
            spread = free[: n * width].reshape(n, width)
            for t in range(n):
                _widen(spreads[p, start + t, col - first_col : end - first_col], spread[t])
        for t in range(n):
            vector = start + t
            number = tries[tile, vector]
            draw(draws, keys[k], col // 2, number, GROUP // 2, (width + GROUP - 1) // GROUP, z, z_behind, dither)
            out = y[vector, col:end]
            if first and p == 0:
                for j in range(width):
                    out[j] = bias[col + j]
            own_spread = spread[min(t, spread.shape[0] - 1)] if spread.shape[0] > 0 else free[:0]
            beyond_adc = convert(
                sums[t], own_spread, z, z_behind, dither, per_level, noise_variance, draws, adc, errors, stage, col,
                full_scale[tile, vector], gain[k, col:end], out,
            )  # fmt: skip
            if beyond_adc > 0:
                beyond[tile, vector] = True  # whichever thread is first: they all write the same
            over += beyond_adc
    return over


@njit
def _widen(source, out):
    for j in range(out.shape[0]):
        out[j] = from_stored(source, source[j])
