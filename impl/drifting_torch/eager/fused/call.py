"""Chunks handed to the compiled library, and whether it is there."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from drifting_torch.eager.fused import compiler
from drifting_torch.problem.thresholds import near
from drifting_torch.problem.wanted import kernels_wanted, warn_once

if TYPE_CHECKING:
    from drifting_torch.eager.affinity_powers import Kernel

_NAME = "the compiled CPU kernel"

_TYPES = {torch.float32: "float", torch.float64: "double"}


class _Distances(ctypes.Structure):
    """``struct Distances`` of chunk.cpp, field by field."""

    _fields_ = (
        *(
            (name, ctypes.c_int64)
            for name in ("groups", "rows", "columns", "own", "shared_floor", "threads")
        ),
        ("threshold", ctypes.c_double),
        *((name, ctypes.c_void_p) for name in ("squares", "floor", "values", "sums")),
    )


class _Call(ctypes.Structure):
    """``struct Call`` of chunk.cpp, field by field."""

    _fields_ = (
        *(
            (name, ctypes.c_int64)
            for name in (
                "groups",
                "rows",
                "columns",
                "positives",
                "temperatures",
                "weighted",
                "weights_enter",
                "shared_rate",
                "shared_scale",
                "shared_weight",
                "threads",
            )
        ),
        ("floor", ctypes.c_double),
        ("least", ctypes.c_double),
        *(
            (name, ctypes.c_void_p)
            for name in (
                "powers",
                "distances",
                "nearest",
                "of_column",
                "of_row",
                "rate",
                "scale",
                "weight",
                "exponentials",
                "out",
            )
        ),
    )


@dataclass(frozen=True)
class Library:
    """The compiled library, or ``why`` there is none."""

    loaded: ctypes.CDLL | None
    why: str = ""


_STATE: dict[str, Library] = {}


def library() -> Library:
    """The library; at the first call of a process it is looked for, and compiled if need be."""
    if not kernels_wanted():
        return Library(None, "DRIFTING_TORCH_KERNELS is off")
    if "library" not in _STATE:
        try:
            _STATE["library"] = Library(compiler.library())
        except compiler.NoCompilerError as error:
            _STATE["library"] = Library(None, str(error))
            warn_once(_NAME, str(error))
    return _STATE["library"]


def function_for(stage: str, *tensors: Tensor) -> Callable[[object], int] | None:
    """The compiled function of ``distances`` or ``coefficients`` that takes these tensors.

    None where PyTorch's operators must.
    """
    dtype = tensors[0].dtype
    if dtype not in _TYPES or not all(_plain(each, dtype) for each in tensors):
        return None
    loaded = library().loaded
    return None if loaded is None else loaded[f"drifting_{stage}_{_TYPES[dtype]}"]


def _plain(tensor: Tensor, dtype: torch.dtype) -> bool:
    """Whether a tensor is memory of this process that C++ can read as it lies."""
    return (
        type(tensor) is Tensor
        and tensor.device.type == "cpu"
        and tensor.dtype == dtype
        and tensor.is_contiguous()
        and not torch._C._functorch.is_functorch_wrapped_tensor(tensor)  # pyright: ignore[reportPrivateUsage, reportAttributeAccessIssue] -- nothing public tells
    )


def measure(
    targets: Tensor, norms: Tensor, own: int, floor: Tensor | None, out: Tensor, sums: Tensor
) -> bool:
    """Fill ``out`` [B, N, M] with distances, and ``sums`` [B, M], float64, with those over rows.

    From the targets [B, M, C], centred, with their ``norms`` [B, M]; rows are the N targets from
    column ``own`` on. ``floor`` [B, 1, 1], or of one element, is the least distance. False, with
    nothing of use in ``out``, where samples are too close for a Gram matrix or nothing is compiled.
    """
    plain = sums.dtype == torch.float64 and _plain(sums, torch.float64)
    function = function_for("distances", out) if plain else None
    if function is None:
        return False
    groups, rows, columns = out.shape
    squares = norms.square().contiguous()
    floor = None if floor is None else floor.to(out.dtype).contiguous()
    torch.bmm(targets.narrow(1, own, rows), targets.mT, out=out)
    call = _Distances(
        groups,
        rows,
        columns,
        own,
        floor is None or floor.numel() == 1,
        min(torch.get_num_threads(), groups),
        near(out.dtype),
        squares.data_ptr(),
        None if floor is None else floor.data_ptr(),
        out.data_ptr(),
        sums.data_ptr(),
    )
    return bool(function(ctypes.byref(call)))


def fill(
    function: Callable[[object], int],
    distances: Tensor,
    row: Tensor,
    column: Tensor | None,
    of_row: Tensor,
    kernel: Kernel,
    spare: Tensor,
    out: Tensor,
    least: float,
) -> bool:
    """Fill ``out`` as ``affinity_powers`` would; False where a sum holds too little."""
    groups, temperatures, rows, columns = out.shape
    dtype = out.dtype
    row, of_row = row.to(dtype).contiguous(), of_row.to(dtype).contiguous()
    rate, scale = kernel.rate.to(dtype).contiguous(), kernel.scale.to(dtype).contiguous()
    column = None if column is None else column.to(dtype).contiguous()
    weight = kernel.targets.weight
    weight = None if weight is None else weight.to(dtype).contiguous()
    powers = (ctypes.c_int64 * temperatures)(*kernel.powers)
    call = _Call(
        groups,
        rows,
        columns,
        kernel.targets.positives,
        temperatures,
        kernel.weighted,
        kernel.readings.unconditional_weight == "replication",
        rate.numel() == 1,
        scale.numel() == 1,
        weight is None or len(weight) == 1,
        min(torch.get_num_threads(), groups),
        kernel.floor,
        least,
        ctypes.addressof(powers),
        distances.data_ptr(),
        row.data_ptr(),
        None if column is None else column.data_ptr(),
        of_row.data_ptr(),
        rate.data_ptr(),
        scale.data_ptr(),
        None if weight is None else weight.data_ptr(),
        spare.data_ptr(),
        out.data_ptr(),
    )
    return bool(function(ctypes.byref(call)))
