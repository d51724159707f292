"""What of a feature the compiled library does, and whether it is there.

A function that returns None did nothing, and PyTorch's operators serve; else it tells for each
group whether it did: 0 where operators must, 1 or, where columns took factors of their own, 2.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from drifting_torch.eager.fused import compiler, structures
from drifting_torch.problem.wanted import kernels_wanted, warn_once

if TYPE_CHECKING:
    from drifting_torch.eager.affinity_powers import Kernel

_NAME = "the compiled CPU kernel"

_MOST_TEMPERATURES = 16

Feature = ctypes.Structure
"""A feature's samples as compiled code reads them."""

_DTYPES = (torch.float32, torch.float64)


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


def _library_for(*tensors: Tensor) -> ctypes.CDLL | None:
    """The library, if it takes these tensors, which are whole."""
    dtype = tensors[0].dtype
    plain = all(_is_plain(each, dtype) and each.is_contiguous() for each in tensors)
    return library().loaded if plain and dtype in _DTYPES else None


def _is_plain(tensor: Tensor, dtype: torch.dtype) -> bool:
    """Whether a tensor is memory of this process that C++ can read."""
    return (
        type(tensor) is Tensor
        and tensor.device.type == "cpu"
        and tensor.dtype == dtype
        and not torch._C._functorch.is_functorch_wrapped_tensor(tensor)  # pyright: ignore[reportPrivateUsage, reportAttributeAccessIssue] -- nothing public tells
        and (tensor.data_ptr() != 0 or tensor.numel() == 0)
    )


def _call(
    function: str, loaded: ctypes.CDLL, dtype: torch.dtype, *arguments: ctypes.Structure
) -> None:
    getattr(loaded, function)(dtype == torch.float64, *(ctypes.byref(each) for each in arguments))


def feature_of(sets: Sequence[Tensor], units: Tensor | None) -> Feature | None:
    """Samples [L, ·, V, C] of one dtype and the units [L, V] that multiply them.

    None where compiled code cannot read them.
    """
    dtype = sets[0].dtype
    if dtype not in _DTYPES or not all(_is_plain(each, dtype) for each in sets):
        return None
    together = [each if each.stride(-1) == 1 else each.contiguous() for each in sets]
    return structures.feature(together, None if units is None else units.to(dtype).contiguous())


def measure(
    feature: Feature | None,
    floor: Tensor | None,
    gram: Tensor | None,
    out: Tensor,
    sums: Tensor,
) -> Tensor | None:
    """Fill ``out`` [L·V, N, M] with distances, and ``sums`` [L·V, M] with those over rows.

    ``gram`` are the targets' Gram matrices if they are known. ``floor`` [L·V, 1, 1], or of one
    element, is the least distance. Not served are groups whose norms are no ordinary numbers, or
    whose samples are too close for their products.
    """
    loaded = _library_for(out) if sums.dtype == torch.float64 else None
    if loaded is None or feature is None:
        return None
    served = out.new_empty(len(out), dtype=torch.uint8)
    _call(
        "drifting_measure",
        loaded,
        out.dtype,
        feature,
        structures.distances(floor, gram, out, sums, served),
    )
    return served


def drifts(
    feature: Feature | None,
    kernel: Kernel | None,
    distances: Tensor,
    out: Sequence[Tensor],
    energy: Tensor,
) -> Tensor | None:
    """Fill ``out``, each temperature's drift [L·V, N, C], and ``energy`` [T, L·V], their squares.

    ``kernel`` is that of all groups. Not served are groups whose samples are so far from one side
    or from one another that the general path must be taken.
    """
    loaded = _library_for(distances, *out) if _takes(kernel) else None
    if loaded is None or feature is None or kernel is None or energy.dtype != torch.float64:
        return None
    served = distances.new_empty(len(distances), dtype=torch.uint8)
    _call(
        "drifting_drifts",
        loaded,
        distances.dtype,
        feature,
        structures.affinities(kernel, distances, served),
        structures.drifts(out, energy),
    )
    return served


def gram(feature: Feature | None, targets: Tensor | None, out: Tensor) -> bool:
    """Fill ``out`` [L·V, M, M] with Gram matrices and ``targets`` [L·V, M, C] with the targets.

    The latter only if there are any. False where nothing was done.
    """
    loaded = _library_for(out)
    if loaded is None or feature is None:
        return False
    _call("drifting_gram", loaded, out.dtype, feature, structures.gram(targets, out))
    return True


def traces(
    kernel: Kernel | None,
    distances: Tensor,
    gram: Tensor,
    out: Tensor,
    sums: Tensor,
    norms: tuple[float, float],
) -> Tensor | None:
    """Fill ``out`` [L·V, T, N, M] with the coefficients R, and ``sums`` [L·V, T+1, T].

    Those are the R_a·G·R_b summed over samples, and in the last row what cancelled where a = b.
    Not served are what :func:`drifts` does not, and groups whose largest norm is beyond ``norms``.
    """
    loaded = _library_for(distances, gram, out) if _takes(kernel) else None
    if loaded is None or kernel is None or sums.dtype != torch.float64:
        return None
    served = distances.new_empty(len(distances), dtype=torch.uint8)
    _call(
        "drifting_traces",
        loaded,
        out.dtype,
        structures.affinities(kernel, distances, served),
        structures.traces(gram, out, sums, norms),
    )
    return served


def fill(distances: Tensor, kernel: Kernel, out: Tensor) -> Tensor | None:
    """Fill ``out`` [B, T, N, M] with the coefficients, as ``affinity_powers`` would."""
    loaded = _library_for(distances, out) if _takes(kernel) else None
    if loaded is None:
        return None
    served = distances.new_empty(len(distances), dtype=torch.uint8)
    loaded.drifting_coefficients(
        out.dtype == torch.float64,
        ctypes.byref(structures.affinities(kernel, distances, served)),
        ctypes.c_void_p(out.data_ptr()),
    )
    return served


def summed(values: Sequence[Tensor], factors: Tensor) -> Tensor | None:
    """Squares [B] of the drifts' sum times ``factors`` [T, B], which takes the first one's place.

    None where PyTorch's operators must form it.
    """
    loaded = _library_for(*values) if factors.dtype == torch.float64 else None
    if loaded is None:
        return None
    squares = factors.new_empty(factors.shape[1])
    call = structures.summed(values, factors.contiguous(), squares)
    _call("drifting_sum", loaded, values[0].dtype, call)
    return squares


def product(coefficients: Tensor, targets: Tensor, /, *, out: Tensor) -> None:
    """Fill ``out`` [B, N, C] with the product of coefficients [B, N, M] and targets [B, M, C].

    Compiled or not.
    """
    loaded = _library_for(coefficients)
    others = (targets, out)
    plain = all(_is_plain(each, coefficients.dtype) and each.stride(-1) == 1 for each in others)
    if loaded is not None and plain:
        call = structures.product(coefficients, targets, out)
        if loaded.drifting_product(out.dtype == torch.float64, ctypes.byref(call)):
            return
    torch.bmm(coefficients, targets, out=out)


def _takes(kernel: Kernel | None) -> bool:
    return kernel is not None and len(kernel.powers) <= _MOST_TEMPERATURES
