"""Whether tensors hold values that may be looked at: those that stand for others do not."""

from __future__ import annotations

import sys

import torch
from torch import Tensor
from torch.autograd import forward_ad

_TRACING = (
    torch._C._TorchDispatchModeKey.FAKE,  # pyright: ignore[reportPrivateUsage] -- nothing public tells
    torch._C._TorchDispatchModeKey.PROXY,  # pyright: ignore[reportPrivateUsage]
    torch._C._TorchDispatchModeKey.FUNCTIONAL,  # pyright: ignore[reportPrivateUsage]
)


def is_transformed(tensor: Tensor) -> bool:
    """Whether the loss is traced, or one of ``torch.func``'s transformations is at work.

    So it is under ``torch.compile``, ``torch.export``, ``make_fx`` and ``FakeTensorMode``, under
    ``torch.func`` and forward-mode derivatives, and for tensors without values ("meta").
    """
    if torch.compiler.is_compiling():
        return True
    return tensor.is_meta or is_transforming() or _is_fake(tensor)


def is_transforming() -> bool:
    """Whether tensors made here and now would be transformed, torch.compile apart."""
    if is_func() or forward_ad._current_level >= 0:  # pyright: ignore[reportPrivateUsage]
        return True
    if torch._C._len_torch_dispatch_stack() == 0:  # pyright: ignore[reportPrivateUsage] -- mostly so
        return False
    return any(torch._C._get_dispatch_mode(key) is not None for key in _TRACING)  # pyright: ignore[reportPrivateUsage]


def is_func() -> bool:
    """Whether a transformation of ``torch.func`` is at work, torch.compile or not."""
    return torch._C._are_functorch_transforms_active()  # pyright: ignore[reportPrivateUsage] -- nothing public tells


def _is_fake(tensor: Tensor) -> bool:
    """Whether this is a fake tensor, used outside of its mode."""
    if type(tensor) in (Tensor, torch.nn.Parameter):
        return False
    module = sys.modules.get("torch._subclasses.fake_tensor")
    return module is not None and isinstance(tensor, module.FakeTensor)


def is_grads_batched(gradient: Tensor | None) -> bool:
    """Whether this arrives under ``torch.autograd.grad(..., is_grads_batched=True)``."""
    if gradient is None:
        return False
    return torch._C._functorch.is_legacy_batchedtensor(gradient)  # pyright: ignore[reportPrivateUsage, reportAttributeAccessIssue] -- nothing public tells
