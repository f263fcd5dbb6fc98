"""The kernels' normals in torch operations, for any device: the same bits of Threefry, the same pairs."""

from __future__ import annotations

import math

import torch

from crossbar_sim.kernels.mvm import GROUP

_MASK = 0xFFFFFFFF
_ROTATIONS = (13, 15, 26, 6, 17, 29, 16, 24)


def threefry(key: tuple[int, int], counter0: torch.Tensor, counter1: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Threefry-2x32-13 on int64 tensors that hold 32-bit words (torch has no full uint32 arithmetic)."""
    k = (key[0], key[1], 0x1BD11BDA ^ key[0] ^ key[1])
    x0, x1 = (counter0 + k[0]) & _MASK, (counter1 + k[1]) & _MASK
    for r in range(13):
        x0 = (x0 + x1) & _MASK
        rotation = _ROTATIONS[r % 8]
        x1 = ((x1 << rotation) & _MASK | x1 >> (32 - rotation)) ^ x0
        if r % 4 == 3:
            s = r // 4 + 1
            x0, x1 = (x0 + k[s % 3]) & _MASK, (x1 + k[(s + 1) % 3] + s) & _MASK
    return x0, x1


def read_normals(key: tuple[int, int], n_vectors: int, n_cols: int, device: torch.device) -> torch.Tensor:
    """Normals (n_vectors, n_cols) in float32 of one read of one row tile (crossbar_sim.kernels.mvm.GROUP)."""
    half = GROUP // 2
    n_groups = -(-n_cols // GROUP)
    lanes = torch.arange(n_groups * half, device=device).expand(n_vectors, -1)
    vectors = torch.arange(n_vectors, device=device)[:, None].expand_as(lanes)
    bits0, bits1 = threefry(key, lanes, vectors)
    radius = torch.sqrt(-2.0 * torch.log(bits0.float() * 2.0**-32 + 2.0**-33))
    phase = (torch.where(bits1 >= 2**31, bits1 - 2**32, bits1).double() * (math.pi * 2.0**-31)).float()
    pair = torch.stack((radius * torch.cos(phase), radius * torch.sin(phase)), dim=1)
    grouped = pair.view(n_vectors, 2, n_groups, half).transpose(1, 2)
    return grouped.reshape(n_vectors, n_groups * GROUP)[:, :n_cols]
