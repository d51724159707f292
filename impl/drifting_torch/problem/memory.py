"""Memory for what is as large as a feature.

Such memory is new at each call, and its pages are cleared when they are first touched: on Linux in
pages of 2 MiB at a fraction of what it costs in those of 4 KiB. They are asked for, not needed.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable

import torch
from torch import Tensor

from drifting_torch.problem.wanted import kernels_wanted

_PAGE = 2**21
_MADV_HUGEPAGE = 14


def _system_call() -> Callable[..., int] | None:
    """``madvise``, None elsewhere than on Linux."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        found = ctypes.CDLL(None).madvise
    except (AttributeError, OSError):
        return None
    found.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    return found


_MADVISE = _system_call()


def in_large_pages(tensor: Tensor) -> Tensor:
    """The same tensor, whose memory nobody has touched yet; what does not fit stays as it is.

    ``DRIFTING_TORCH_KERNELS=off`` leaves memory to PyTorch as it leaves all else to it.
    """
    if _MADVISE is None or type(tensor) is not Tensor or tensor.device.type != "cpu":
        return tensor
    size = tensor.numel() * tensor.itemsize
    if size < 2 * _PAGE or not kernels_wanted() or torch.compiler.is_compiling():
        return tensor
    start = tensor.data_ptr()
    first = -(-start // _PAGE) * _PAGE
    last = (start + size) // _PAGE * _PAGE
    if start and first < last:
        _MADVISE(first, last - first, _MADV_HUGEPAGE)
    return tensor
