"""Tiles and warps of the GPU kernels, by the shared memory of the device.

They were chosen by compiling for compute capabilities 8.0, 8.9 and 9.0 (``tests/triton_targets``):
the most channels at a time for which no register spills on the last, and no more than eight on
the others, at 64 generated samples, 64 positives and 16 unconditional ones. With more ``measure``
spills more: it stays right and grows slower.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch

_PLENTY = 227 * 1024
"""Where a kernel is interpreted there is no limit; this is an H100's."""

_UNKNOWN = 48 * 1024
"""What every device gives a program without being asked."""

_SCRATCH = 16 * 1024


def tiling(
    kernel: str, sizes: tuple[int, int, int, int], gram: bool, device: torch.device
) -> dict[str, Any]:
    """What a device launches a kernel with, for N, P, U samples and C channels."""
    return fitting(kernel, sizes, gram, _shared(device))


@cache
def _shared(device: torch.device) -> int:
    """Bytes of shared memory that a program may ask for."""
    if device.type != "cuda":
        return _PLENTY
    properties = torch.cuda.get_device_properties(device)
    return getattr(properties, "shared_memory_per_block_optin", _UNKNOWN)


def fitting(
    kernel: str, sizes: tuple[int, int, int, int], gram: bool, shared: int
) -> dict[str, Any]:
    """Tiles, warps and stages of a kernel where a program may have ``shared`` bytes."""
    *samples, channels = sizes
    count, positives, others = (_tile(each) if each else 0 for each in samples)
    tiles: dict[str, Any] = {"N": count, "P": positives, "U": others}
    if kernel == "measure":
        return tiles | {"C": 16, "num_warps": 8, "num_stages": 2}
    if kernel == "correlate":
        # By traces, eight warps on an H100 read beyond their shared memory where 64 generated
        # samples met 16 positives, which they shared between them; with 64 positives they were
        # right, and 128 generated samples they share by rows.
        many = gram and (count > 64 or count == positives == 64)
        block, warps = (32 if gram else 64), (8 if many else 4)
        return tiles | {"C": min(block, _tile(channels)), "num_warps": warps, "num_stages": 1}
    # All coefficients in registers pass through shared memory, in two parts where in 3xTF32.
    # With unconditional samples beside more than 32 generated ones an H100 went wrong there.
    targets = count + positives + others
    small = count <= (32 if others else 64) and positives <= 64 and others <= 16
    whole = small and 8 * count * targets + _SCRATCH <= shared
    block = min(32 if whole else 64, _tile(channels))
    return tiles | {"WHOLE": whole, "C": block, "num_warps": 8, "num_stages": 1}


def _tile(size: int) -> int:
    """The power of two that holds ``size``, at least 16 as products of tiles need."""
    return max(16, 1 << (size - 1).bit_length())
