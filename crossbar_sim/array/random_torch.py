"""The kernels' normals in torch operations, for any device: the same bits of Threefry, the same pairs."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from crossbar_sim.kernels.mvm import GROUP
from crossbar_sim.kernels.read_normals import fill_read_normals
from crossbar_sim.kernels.workers import Work, share_all

_ROTATIONS = (13, 15, 26, 6, 17, 29, 16, 24)
_QUARTER_TURN = 1 << 30


def threefry(keys: torch.Tensor, x0: torch.Tensor, x1: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Threefry-2x32-13 in place of its counters, int32 tensors (K, ...) that hold the bits of 32-bit words; keys (K, 2)
    of the same kind."""
    words = keys.view(len(keys), 2, *(1 for _ in x0.shape[1:]))
    k = [words[:, 0], words[:, 1], words[:, 0] ^ words[:, 1] ^ 0x1BD11BDA]
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
            x1.add_(k[(s + 1) % 3]).add_(s)
    return x0, x1


def read_normals(
    keys: NDArray[np.uint32], tries: NDArray[np.uint32], n_cols: int, device: torch.device, first_col: int = 0
) -> torch.Tensor:
    """Normals (K, T, n_cols) in float32 of tries (K, T) to read K parts (`kernels.tries`), from column `first_col` on.

    keys (K, 2). `first_col` is a multiple of GROUP. On CPUs they come from the kernel, a few times faster than in torch
    operations.
    """
    if device.type != "cpu":
        return device_normals(keys, tries, n_cols, device, first_col)
    z = torch.empty((*tries.shape, n_cols), dtype=torch.float32)
    works = [
        Work(fill_read_normals, (key, own, first_col, out), len(own))
        for key, own, out in zip(keys, tries, z.numpy(), strict=True)
    ]
    share_all(works, torch.get_num_threads())
    return z


def device_normals(
    keys: NDArray[np.uint32], tries: NDArray[np.uint32], n_cols: int, device: torch.device, first_col: int = 0
) -> torch.Tensor:
    """What `read_normals` gives, in torch operations."""
    half = GROUP // 2
    n_groups = -(-n_cols // GROUP)
    lanes = torch.arange(first_col // 2, first_col // 2 + n_groups * half, dtype=torch.int32, device=device)
    words, numbers = (torch.from_numpy(part.view(np.int32)).to(device) for part in (keys, tries.astype(np.uint32)))
    shape = *tries.shape, len(lanes)
    bits0, phase = threefry(words, lanes.expand(shape).contiguous(), numbers[..., None].expand(shape).contiguous())
    uniform = ((bits0 >> 1) & 0x7FFFFFFF).float().mul_(2.0**-31).add_(2.0**-32)
    radius = uniform.log_().mul_(-2.0).sqrt_()
    z = torch.empty((*tries.shape, n_groups, 2, half), device=device)
    # a signed phase a has cos(a) = sin(pi/2 - |a|) and sin(a) = cos(a - pi/2); small angles keep all their bits
    for number in range(2):
        angle = (_QUARTER_TURN - phase.abs()).float().mul_(math.pi * 2.0**-31)
        by_group = (part.unflatten(2, (n_groups, half)) for part in (angle.sin_(), radius))
        torch.mul(*by_group, out=z[..., number, :])
        phase.sub_(_QUARTER_TURN)
    return z.flatten(2)[..., :n_cols]
