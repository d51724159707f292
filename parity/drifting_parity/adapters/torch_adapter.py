"""Base for adapters of PyTorch code: NumPy cases in, tensors to the implementation, NumPy out.

It makes tensors of the setting's dtype and device (as non-contiguous views where the setting asks
for that), tracks gradients of every input, and reads values and gradients back.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from torch import Tensor

from drifting_parity.adapters.base import Adapter, NotObservable
from drifting_parity.adapters.conduct import Conduct
from drifting_parity.adapters.reference_adapter import weight_dtype
from drifting_parity.cases import (
    PAPER_TEMPERATURES,
    Array,
    DType,
    LossCase,
    LossObservation,
    Setting,
)
from drifting_spec import Readings

DTYPES: Mapping[DType, torch.dtype] = {
    "float64": torch.float64,
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}

LossFunction = Callable[..., Tensor]
"""Takes inputs of a :class:`LossCase` by name, and ``temperatures``; returns the scalar loss."""


def to_tensor(array: Array, setting: Setting, dtype: DType | None = None) -> Tensor:
    """A tensor of the setting's dtype (or ``dtype``) and device; a strided view if it asks so.

    On a GPU convolutions in float32 are from now on computed in float32: PyTorch rounds what they
    multiply to TF32's 11 digits unless it is told not to.
    """
    if setting.device.startswith("cuda"):
        torch.backends.cudnn.allow_tf32 = False
    kind = DTYPES[dtype or setting.dtype]
    tensor = torch.tensor(array, dtype=kind, device=setting.device)
    if not setting.strided or tensor.dim() < 2:
        return tensor
    # Every second entry of a wider tensor whose last two axes are swapped in memory.
    wide = torch.full((*tensor.shape[:-2], tensor.shape[-1], 2 * tensor.shape[-2]), 7.0).to(tensor)
    view = wide.transpose(-1, -2)[..., ::2, :]
    view.copy_(tensor)
    return view


def to_array(tensor: Tensor) -> Array:
    """The tensor in float64 on the host."""
    return tensor.detach().to("cpu", torch.float64).numpy()


def gradient_of(tensor: Tensor) -> Array:
    """The gradient that reached a leaf; zeros where none did."""
    if tensor.grad is None:
        return np.zeros(tuple(tensor.shape))
    return to_array(tensor.grad)


def leaf(tensor: Tensor) -> Tensor:
    """The same view as a leaf that takes a gradient."""
    return tensor.detach().requires_grad_()


def autocast(setting: Setting) -> AbstractContextManager[object]:
    """The autocast region that the setting asks for."""
    if setting.autocast is None:
        return nullcontext()
    return torch.autocast(torch.device(setting.device).type, dtype=DTYPES[setting.autocast])


INPUTS = (
    "generated",
    "positive",
    "unconditional",
    "unconditional_weight",
    "generated_weight",
    "positive_weight",
    "temperatures",
)
"""The parameters that a loss function may have."""


def present_devices() -> tuple[str, ...]:
    """The kinds of device that this machine has."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    return ("cpu", *(name for name, present in there.items() if present))


class TorchAdapter(Adapter):
    """Adapter of one PyTorch function that returns the loss of one feature.

    Its parameters are named as the fields of :class:`drifting_parity.cases.LossCase`, as many of
    them as it takes: ``generated`` [L, N, V, C], ``positive``, ``unconditional``,
    ``unconditional_weight`` [L, U], ``generated_weight``, ``positive_weight`` (tensors, None where
    a case has none), ``temperatures`` (a tuple of numbers). Cases with inputs that it does not
    take are not put to it. Raise :class:`NotObservable` with the reason for others it cannot take.
    """

    devices = present_devices()

    def __init__(self, name: str, loss: LossFunction) -> None:
        self.name = name
        self._loss = loss
        self._conduct: list[Conduct] = []
        parameters = inspect.signature(loss).parameters.values()
        open_ended = any(each.kind is each.VAR_KEYWORD for each in parameters)
        named = {each.name: each for each in parameters if each.kind is not each.VAR_KEYWORD}
        self._takes = frozenset(INPUTS if open_ended else named)
        unknown = [
            name
            for name, each in named.items()
            if name not in INPUTS and each.default is each.empty
        ]
        if unknown or "generated" not in self._takes:
            raise TypeError(
                f"the loss of {name!r} has the parameters {', '.join(named)}, expected some of "
                f"{', '.join(INPUTS)}, generated among them"
            )

    def loss(self, case: LossCase, readings: Readings, setting: Setting) -> LossObservation:
        """The loss and its gradients, by ``backward``."""
        del readings
        tensors = loss_tensors(case, setting)
        given: dict[str, object] = {**tensors, "temperatures": case.temperatures}
        for name, value in given.items():
            usual = value is None or (value is case.temperatures and value == PAPER_TEMPERATURES)
            if name not in self._takes and not usual:
                raise NotObservable(f"the function takes no {name}")
        taken = {name: value for name, value in given.items() if name in self._takes}
        before = {
            name: tensor.detach().clone() for name, tensor in tensors.items() if tensor is not None
        }
        with autocast(setting):
            value = self._loss(**taken)
        self._notice_changes(before, tensors)
        if not isinstance(value, Tensor):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(
                f"the loss function returned {type(value).__name__}, expected a scalar tensor"
            )
        if value.dim() != 0:
            raise NotObservable(f"the loss has shape {tuple(value.shape)}, expected a scalar")
        return backward_observation(value, tensors, setting)

    def _notice_changes(
        self, before: Mapping[str, Tensor], after: Mapping[str, Tensor | None]
    ) -> None:
        """Note inputs that the function changed in place: its caller's samples."""
        for name, kept in before.items():
            now = after[name]
            if now is None or not torch.equal(kept.nan_to_num(), now.detach().nan_to_num()):
                self._conduct.append(Conduct("inputs", f"changed its input {name} in place"))

    def conduct(self) -> list[Conduct]:
        """Inputs that the function changed since this was last asked."""
        told, self._conduct = self._conduct, []
        return told


def loss_tensors(case: LossCase, setting: Setting) -> dict[str, Tensor | None]:
    """Every input of the case as a leaf that takes a gradient."""
    weights = weight_dtype(setting.dtype)
    arrays: dict[str, tuple[Array | None, DType | None]] = {
        "generated": (case.generated, None),
        "positive": (case.positive, None),
        "unconditional": (case.unconditional, None),
        "unconditional_weight": (case.unconditional_weight, weights),
        "generated_weight": (case.generated_weight, weights),
        "positive_weight": (case.positive_weight, weights),
    }
    return {
        name: None if array is None else leaf(to_tensor(array, setting, dtype))
        for name, (array, dtype) in arrays.items()
    }


def backward_observation(
    value: Tensor, tensors: Mapping[str, Tensor | None], setting: Setting
) -> LossObservation:
    """Differentiate ``upstream × value`` and read the loss and every gradient."""
    generated = tensors["generated"]
    if generated is None:
        raise NotObservable("the case has no generated samples")
    if value.requires_grad:
        (value * setting.upstream).backward()
    others = {
        name: float(np.abs(gradient_of(tensor)).max())
        for name, tensor in tensors.items()
        if tensor is not None and name != "generated"
    }
    return LossObservation(
        loss=float(value.detach()), gradient=gradient_of(generated), other_gradients=others
    )
