"""The kernels' normals in torch operations, for any device: the same bits of Threefry, the same pairs."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from crossbar_sim.kernels.mvm import GROUP
from crossbar_sim.kernels.read_normals import fill_read_normals
from crossbar_sim.kernels.workers import share

_ROTATIONS = (13, 15, 26, 6, 17, 29, 16, 24)
_QUARTER_TURN = 1 << 30


def threefry(key: tuple[int, int], x0: torch.Tensor, x1: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Threefry-2x32-13 in place of its counters, int32 tensors of one shape that hold the bits of 32-bit words."""
    k = [_signed(word) for word in (key[0], key[1], 0x1BD11BDA ^ key[0] ^ key[1])]
    high = torch.empty_like(x1)
    x0.add_(k[0])
    x1.add_(k[1])
    for r in range(13):
        rotation = _ROTATIONS[r % 8]
        x0.add_(x1)
        # a shift to the right brings copies of the sign, which the mask takes away
        torch.bitwise_right_shift(x1, 32 - rotation, out=high).bitwise_and_((1 << rotation) - 1)
        x1.bitwise_left_shift_(rotation).bitwise_or_(high).bitwise_xor_(x0)
        if r % 4 == 3:
            s = r // 4 + 1
            x0.add_(k[s % 3])
            x1.add_(_signed(k[(s + 1) % 3] + s))
    return x0, x1


def read_normals(
    key: tuple[int, int], tries: NDArray[np.uint32], n_cols: int, device: torch.device, first_col: int = 0
) -> torch.Tensor:
    """Normals (T, n_cols) in float32 of tries (T,) to read one part (`kernels.tries`), from column `first_col` on.

    `first_col` is a multiple of GROUP. On CPUs they come from the kernel, a few times faster than in torch operations.
    """
    if device.type != "cpu":
        return device_normals(key, tries, n_cols, device, first_col)
    z = torch.empty((len(tries), n_cols), dtype=torch.float32)
    arguments = (np.array(key, np.uint32), tries, first_col, z.numpy())
    share(fill_read_normals, arguments, len(tries), torch.get_num_threads())
    return z


def device_normals(
    key: tuple[int, int], tries: NDArray[np.uint32], n_cols: int, device: torch.device, first_col: int = 0
) -> torch.Tensor:
    """What `read_normals` gives, in torch operations."""
    half = GROUP // 2
    n_groups = -(-n_cols // GROUP)
    lanes = torch.arange(first_col // 2, first_col // 2 + n_groups * half, dtype=torch.int32, device=device)
    n_vectors, numbers = len(tries), torch.from_numpy(tries.astype(np.int32)).to(device)
    bits0, phase = threefry(
        key, lanes.expand(n_vectors, -1).contiguous(), numbers[:, None].expand(-1, len(lanes)).contiguous()
    )
    uniform = ((bits0 >> 1) & 0x7FFFFFFF).float().mul_(2.0**-31).add_(2.0**-32)
    radius = uniform.log_().mul_(-2.0).sqrt_()
    z = torch.empty((n_vectors, n_groups, 2, half), device=device)
    # a signed phase a has cos(a) = sin(pi/2 - |a|) and sin(a) = cos(a - pi/2); small angles keep all their bits
    for number in range(2):
        angle = (_QUARTER_TURN - phase.abs()).float().mul_(math.pi * 2.0**-31)
        torch.mul(
            angle.sin_().view(n_vectors, n_groups, half), radius.view(n_vectors, n_groups, half), out=z[:, :, number]
        )
        phase.sub_(_QUARTER_TURN)
    return z.view(n_vectors, n_groups * GROUP)[:, :n_cols]


def _signed(word: int) -> int:
    """The int32 with the bits of the lowest 32 of `word`."""
    return (word + 2**31) % 2**32 - 2**31
