"""The C++ structures, field by field, and what fills them from tensors.

What a structure points to must outlive the call: it holds on to it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from drifting_torch.problem.thresholds import LEAST_SUM, LOGIT_RANGE, NEGLIGIBLE, near
from drifting_torch.problem.units import ordinary_range

if TYPE_CHECKING:
    from drifting_torch.eager.affinity_powers import Kernel

_WHOLE, _REAL, _POINTER = ctypes.c_int64, ctypes.c_double, ctypes.c_void_p


class Structure(ctypes.Structure):
    """A C++ structure, and the tensors and arrays that it points to."""

    kept: tuple[object, ...]

    def holding(self, *kept: object) -> ctypes.Structure:
        """Itself, with what it points to."""
        self.kept = kept
        return self


class _Samples(ctypes.Structure):
    """``struct Samples`` of samples.hpp."""

    _fields_ = (
        ("numbers", _POINTER),
        *((name, _WHOLE) for name in ("count", "of_label", "of_sample", "of_vector")),
    )


class _Feature(Structure):
    """``struct Feature`` of samples.hpp."""

    _fields_ = (
        *((name, _WHOLE) for name in ("groups", "vectors", "channels")),
        *((name, _Samples) for name in ("positive", "generated", "other")),
        ("units", _POINTER),
    )


class _Distances(Structure):
    """``struct Distances`` of distances.hpp."""

    _fields_ = (
        *((name, _REAL) for name in ("least_square", "most_square", "threshold")),
        *((name, _WHOLE) for name in ("shared_floor", "threads")),
        *((name, _POINTER) for name in ("floor", "gram", "values", "sums", "served")),
    )


class _Affinities(Structure):
    """``struct Affinities`` of affinities.hpp."""

    _fields_ = (
        *((name, _WHOLE) for name in ("groups", "rows", "columns", "positives", "temperatures")),
        *((name, _WHOLE) for name in ("shared_rate", "shared_scale", "shared_weight")),
        *((name, _WHOLE) for name in ("weights_enter", "threads")),
        *((name, _REAL) for name in ("floor", "least", "range", "masked")),
        *(
            (name, _POINTER)
            for name in ("powers", "places", "rate", "scale", "weight", "distances", "served")
        ),
    )


class _Gram(Structure):
    """``struct Gram`` of gram.hpp."""

    _fields_ = (
        *((name, _WHOLE) for name in ("stride", "threads")),
        *((name, _POINTER) for name in ("targets", "values")),
    )


class _Traces(Structure):
    """``struct Traces`` of gram.hpp."""

    _fields_ = (
        *((name, _POINTER) for name in ("gram", "out", "sums")),
        *((name, _REAL) for name in ("least_square", "most_square")),
    )


class _Drifts(Structure):
    """``struct Drifts`` of solver.cpp."""

    _fields_ = (("values", _POINTER), ("energy", _POINTER))


class _Sum(Structure):
    """``struct Sum`` of solver.cpp."""

    _fields_ = (
        *((name, _WHOLE) for name in ("groups", "entries", "temperatures", "threads")),
        *((name, _POINTER) for name in ("values", "factors", "squares")),
    )


class _Product(Structure):
    """``struct Product`` of solver.cpp."""

    _fields_ = (
        *((name, _WHOLE) for name in ("groups", "rows", "inner", "columns", "threads")),
        *((name, _WHOLE) for name in ("of_group", "of_row", "out_of_group", "out_of_row")),
        *((name, _POINTER) for name in ("coefficients", "targets", "out")),
    )


def _threads(groups: int) -> int:
    return min(torch.get_num_threads(), groups)


def _pointer(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def _pointers(tensors: Sequence[Tensor]) -> ctypes.Array[ctypes.c_void_p]:
    return (_POINTER * len(tensors))(*(each.data_ptr() for each in tensors))


def feature(sets: Sequence[Tensor], units: Tensor | None) -> ctypes.Structure:
    """The samples [L, ·, V, C], channels side by side, and the units [L, V] in their dtype."""
    positive, generated, *other = sets
    labels, _, vectors, channels = generated.shape
    kinds = [
        _Samples(each.data_ptr(), each.shape[1], *each.stride()[:3])
        for each in (positive, generated, *other)
    ]
    found = _Feature(labels * vectors, vectors, channels, *kinds)
    found.units = _pointer(units)
    return found.holding(sets, units)


def distances(
    floor: Tensor | None, gram: Tensor | None, values: Tensor, sums: Tensor, served: Tensor
) -> ctypes.Structure:
    """Distances [B, N, M] and their sums over rows; ``floor`` of one element or [B, 1, 1].

    ``gram`` [B, M, M] are the targets' products where they are known.
    """
    least, most = ordinary_range(values.dtype)
    floor = None if floor is None else floor.to(values.dtype).contiguous()
    return _Distances(
        least**2,
        most**2,
        near(values.dtype),
        floor is None or floor.numel() == 1,
        _threads(len(values)),
        *(_pointer(each) for each in (floor, gram, values, sums, served)),
    ).holding(floor, gram, values, sums, served)


def affinities(kernel: Kernel, found: Tensor, served: Tensor) -> ctypes.Structure:
    """A kernel and the distances [B, N, M] it is for."""
    dtype, (groups, rows, columns) = found.dtype, found.shape
    rate, scale = (each.to(dtype).contiguous() for each in (kernel.rate, kernel.scale))
    weight = kernel.targets.weight
    weight = None if weight is None else weight.to(dtype).contiguous()
    order = sorted(range(len(kernel.powers)), key=kernel.powers.__getitem__)
    places = (_WHOLE * len(order))(*order)
    powers = (_WHOLE * len(order))(*(kernel.powers[index] for index in order))
    return _Affinities(
        groups,
        rows,
        columns,
        kernel.targets.positives,
        len(order),
        rate.numel() == 1,
        scale.numel() == 1,
        weight is None or len(weight) == 1,
        kernel.readings.unconditional_weight == "replication",
        _threads(groups),
        kernel.floor,
        LEAST_SUM[dtype],
        LOGIT_RANGE[dtype],
        -kernel.mask_logit - NEGLIGIBLE,
        ctypes.addressof(powers),
        ctypes.addressof(places),
        rate.data_ptr(),
        scale.data_ptr(),
        _pointer(weight),
        found.data_ptr(),
        served.data_ptr(),
    ).holding(rate, scale, weight, places, powers, found, served)


def gram(targets: Tensor | None, values: Tensor) -> ctypes.Structure:
    """Gram matrices [B, M, M], and the targets [B, M, C] if they are kept."""
    stride = 0 if targets is None else targets.stride(1)
    pointers = _pointer(targets), values.data_ptr()
    return _Gram(stride, torch.get_num_threads(), *pointers).holding(targets, values)


def traces(gram: Tensor, out: Tensor, sums: Tensor, norms: tuple[float, float]) -> ctypes.Structure:
    """Coefficients [B, T, N, M] and their traces [B, T+1, T]; ``norms`` are those in range."""
    pointers = (each.data_ptr() for each in (gram, out, sums))
    return _Traces(*pointers, *(norm**2 for norm in norms)).holding(gram, out, sums)


def drifts(values: Sequence[Tensor], energy: Tensor) -> ctypes.Structure:
    """Each temperature's drift [B, N, C] and all their squares [T, B]."""
    pointers = _pointers(values)
    return _Drifts(ctypes.addressof(pointers), energy.data_ptr()).holding(pointers, values, energy)


def summed(values: Sequence[Tensor], factors: Tensor, squares: Tensor) -> ctypes.Structure:
    """Drifts [B, N, C], what they are multiplied by [T, B], and the squares of their sum [B]."""
    pointers, groups = _pointers(values), len(squares)
    return _Sum(
        groups,
        values[0].numel() // groups,
        len(values),
        _threads(groups),
        ctypes.addressof(pointers),
        factors.data_ptr(),
        squares.data_ptr(),
    ).holding(pointers, values, factors, squares)


def product(coefficients: Tensor, targets: Tensor, out: Tensor) -> ctypes.Structure:
    """Coefficients [B, N, M], targets [B, M, C] and their product, channels side by side."""
    groups, rows, inner = coefficients.shape
    return _Product(
        groups,
        rows,
        inner,
        targets.shape[-1],
        torch.get_num_threads(),
        *targets.stride()[:2],
        *out.stride()[:2],
        *(each.data_ptr() for each in (coefficients, targets, out)),
    ).holding(coefficients, targets, out)
