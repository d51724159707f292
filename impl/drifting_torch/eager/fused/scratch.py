"""Memory that a call needs for itself, kept for the next one.

What is as large as a feature comes from the system anew at each call, and to touch its pages for
the first time costs as much as to compute what they hold. So the compiled path keeps some.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

import torch
from torch import Tensor

from drifting_torch.eager.fused import call

_LEAST = 2**20
"""Bytes below which PyTorch's own memory serves: the system is seldom asked for so little."""

_MOST = 3 * 2**26
"""Bytes that are kept in all, less than a call with features of that size takes anyway."""

_LOCK = threading.Lock()
_KEPT: list[torch.UntypedStorage] = []


def empty(like: Tensor, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """A tensor on the device of ``like``, to be handed to :func:`give_back` or forgotten."""
    count = torch.Size(shape).numel()
    size = count * dtype.itemsize
    if size < _LEAST or not _serves(like):
        return like.new_empty(shape, dtype=dtype)
    with _LOCK:
        fitting = [each for each in _KEPT if each.nbytes() >= size]
        found = min(fitting, key=torch.UntypedStorage.nbytes, default=None)
        if found is not None:
            _KEPT[:] = [each for each in _KEPT if each is not found]
    with torch.inference_mode(False):  # it may serve outside of that mode next time
        if found is None:
            return torch.empty(shape, dtype=dtype, device="cpu")
        return torch.empty(0, dtype=dtype, device="cpu").set_(found)[:count].view(shape)  # pyright: ignore[reportArgumentType] -- takes them


def give_back(*tensors: Tensor) -> None:
    """Keep the memory of tensors that nobody will use again, the largest first."""
    storages = [each.untyped_storage() for each in tensors if _serves(each)]
    with _LOCK:
        kept = sorted([*_KEPT, *storages], key=torch.UntypedStorage.nbytes, reverse=True)
        _KEPT.clear()
        for each in kept:
            size = each.nbytes()
            if _LEAST <= size <= _MOST - sum(other.nbytes() for other in _KEPT):
                _KEPT.append(each)


def _serves(like: Tensor) -> bool:
    plain = type(like) is Tensor and like.device.type == "cpu"
    return plain and call.library().loaded is not None
