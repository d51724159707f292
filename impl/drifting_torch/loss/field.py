"""The drifting field: Algorithm 2 on points, without A.6's normalisation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from drifting_spec import PAPER, Readings, implements
from drifting_torch.arguments.tensors import (
    check_factors,
    check_finite,
    check_like,
    check_not_negative,
    check_readings,
    check_temperature,
    check_temperatures,
    check_tensor,
    reads_values,
)
from drifting_torch.arguments.transforms import is_func, is_transformed
from drifting_torch.eager.affinity import Targets, affinities, balanced, masked_logits
from drifting_torch.eager.distances import pair_distances
from drifting_torch.loss.compiled import readings_of, readings_text, symbols
from drifting_torch.problem.readings import compute_dtype


@dataclass(frozen=True)
class DriftingFields:
    """The fields of several temperatures, and their two parts.

    Attributes
    ----------
    attraction, repulsion
        V⁺ and V⁻ [T, ..., N, C], relative to x, with Algorithm 2's weights.
    total
        V = V⁺ − V⁻ [T, ..., N, C].
    """

    attraction: Tensor
    repulsion: Tensor
    total: Tensor


@implements("ALG2-1", "ALG2-2", "ALG2-10", "EQ-10", "EQ-11")
@torch.no_grad()
def drifting_field(
    x: Tensor,
    positive: Tensor,
    negative: Tensor,
    temperature: float,
    *,
    mask_self: bool,
    negative_weight: Tensor | None = None,
    readings: Readings = PAPER,
    attraction: float = 1.0,
    repulsion: float = 1.0,
) -> Tensor:
    """Drifting field V of Algorithm 2, detached: the paper never differentiates it (S3-sg).

    Parameters
    ----------
    x
        Generated samples [..., N, C].
    positive
        Positives [..., P, C].
    negative
        Negatives [..., M, C], any points: ``x`` need not be among them. The leading dimensions of
        the three are the same.
    temperature
        Kernel temperature T, in units of the distance.
    mask_self
        True where the first N negatives are ``x`` itself: no sample then repels itself.
    negative_weight
        Kernel weights of the negatives [..., M] (A7-w), at least 0; None for ones.
    readings
        Only the axes of ``drifting_spec.FIELD_AXES`` are read.
    attraction, repulsion
        Factors a and b of V = a·V⁺ − b·V⁻, both relative to x, at least 0 (Table 1's ablation; the
        paper's field is 1 and 1).

    Returns
    -------
    Tensor
        V [..., N, C] in the dtype of ``x``, on its device.

    Raises
    ------
    ValueError, TypeError
        For shapes, dtypes, devices or values that do not fit, naming the argument.
    """
    temperature = check_temperature("temperature", temperature)
    factors = check_factors(attraction, repulsion)
    points = (x, positive, negative)
    return _fields_of(points, [temperature], mask_self, negative_weight, readings, factors)[0, 0]


@implements("ALG2-10", "EQ-10")
@torch.no_grad()
def drifting_fields(
    x: Tensor,
    positive: Tensor,
    negative: Tensor,
    temperatures: Sequence[float],
    *,
    mask_self: bool,
    negative_weight: Tensor | None = None,
    readings: Readings = PAPER,
) -> DriftingFields:
    """:func:`drifting_field` at several temperatures, and V⁺ and V⁻ apart; distances formed once.

    Parameters
    ----------
    temperatures
        Kernel temperatures T, in units of the distance; they may repeat.
    x, positive, negative, mask_self, negative_weight, readings
        As in :func:`drifting_field`.

    Returns
    -------
    DriftingFields
        ``.total``, ``.attraction`` and ``.repulsion``, each [T, ..., N, C], without a graph.

    Raises
    ------
    ValueError, TypeError
        For shapes, dtypes, devices or values that do not fit, naming the argument.
    """
    kinds = check_temperatures(temperatures)
    points, factors = (x, positive, negative), (1.0, 0.0, 0.0, 1.0, 1.0, 1.0)
    found = _fields_of(points, kinds, mask_self, negative_weight, readings, factors)
    return DriftingFields(found[0], -found[1], found[2])


def _fields_of(
    points: tuple[Tensor, Tensor, Tensor],
    temperatures: Sequence[float],
    mask_self: bool,
    negative_weight: Tensor | None,
    readings: Readings,
    factors: Sequence[float],
) -> Tensor:
    """Check the tensors, and give the fields by whichever way serves them."""
    readings = check_readings(readings)
    x, positive, negative = points
    _check_points(x, positive, negative, mask_self)
    _check_negative_weight(negative_weight, negative)
    if is_transformed(x):
        text = readings_text(readings)
        arguments = (*points, [*temperatures], mask_self, negative_weight, text, [*factors])
        if is_func():
            return _operator(*arguments, None)
        return torch.ops.drifting_torch.traced_field(*arguments)
    return _fields(*points, temperatures, mask_self, negative_weight, readings, factors)


def _fields(
    x: Tensor,
    positive: Tensor,
    negative: Tensor,
    temperatures: Sequence[float],
    mask_self: bool,
    negative_weight: Tensor | None,
    readings: Readings,
    factors: Sequence[float],
) -> Tensor:
    """Fields [F, T, ..., N, C] of checked arguments, for F pairs of ``factors`` a and b."""
    count, channels = x.shape[-2:]
    dtype = compute_dtype(x, readings)
    pairs = [*zip(factors[::2], factors[1::2], strict=True)]
    found = x.new_empty((len(pairs), len(temperatures), *x.shape))
    with torch.autocast(x.device.type, enabled=False):
        points = x.reshape(-1, count, channels).to(dtype)
        targets_at = torch.cat([positive, negative], dim=-2).to(dtype)
        targets_at = targets_at.reshape(-1, targets_at.shape[-2], channels)
        weight = _column_weights(negative_weight, positive, dtype)
        targets = Targets(positive.shape[-2], mask_self, weight)
        centre = targets_at.mean(-2, keepdim=True)
        points, centred = points - centre, targets_at - centre
        distances = pair_distances(points, centred)
        for index, temperature in enumerate(temperatures):
            factor = torch.full((1, 1, 1), 1.0 / temperature, dtype=dtype, device=x.device)
            logits = masked_logits(distances, factor, factor, targets, readings)
            coefficients = balanced(affinities(logits, targets, readings), targets)
            for of_pair, pair in zip(found, pairs, strict=True):
                field = _product(coefficients, targets, points, centred, pair)
                of_pair[index] = field.reshape(x.shape)
    return found


@implements("T1")
def _product(
    coefficients: Tensor,
    targets: Targets,
    points: Tensor,
    centred: Tensor,
    factors: tuple[float, float],
) -> Tensor:
    """a·V⁺ − b·V⁻ [B, N, C], both relative to x (P-29), from targets measured from their centre.

    Rows of coefficients sum to zero, so the centre drops out, and with it its rounding.
    """
    attraction, repulsion = factors
    if attraction == repulsion == 1.0:
        return torch.bmm(coefficients, centred)
    first = targets.positives
    multiplied = torch.cat(
        [coefficients[..., :first] * attraction, coefficients[..., first:] * repulsion], dim=-1
    )
    mass = coefficients[..., :first].sum(-1, keepdim=True)
    return torch.bmm(multiplied, centred).sub_(mass * points, alpha=attraction - repulsion)


@torch.library.custom_op(
    "drifting_torch::field",
    mutates_args=(),
    schema="(Tensor x, Tensor positive, Tensor negative, float[] temperatures, bool mask_self, "
    "Tensor? negative_weight, str readings, float[] factors, Tensor? annealed) -> Tensor",
)
def _operator(
    x: Tensor,
    positive: Tensor,
    negative: Tensor,
    temperatures: Sequence[float],
    mask_self: bool,
    negative_weight: Tensor | None,
    readings: str,
    factors: Sequence[float],
    annealed: Tensor | None,
) -> Tensor:
    """The fields as one operator, for torch.compile and torch.func.

    ``annealed`` holds temperatures and factors if those given are symbols (``compiled.symbols``).
    """
    if annealed is not None:
        numbers = annealed.tolist()
        temperatures, factors = numbers[: len(temperatures)], numbers[len(temperatures) :]
    taken = readings_of(readings)
    points = (x, positive, negative)
    return _fields(*points, temperatures, mask_self, negative_weight, taken, factors)


@_operator.register_fake
def _(
    x: Tensor,
    positive: Tensor,
    negative: Tensor,
    temperatures: Sequence[float],
    mask_self: bool,
    negative_weight: Tensor | None,
    readings: str,
    factors: Sequence[float],
    annealed: Tensor | None,
) -> Tensor:
    del positive, negative, mask_self, negative_weight, readings, annealed
    return x.new_empty((len(factors) // 2, len(temperatures), *x.shape))


@_operator.register_vmap
def _(info: Any, in_dims: tuple[int | None, ...], *arguments: Any) -> tuple[Tensor, int]:
    """One more leading dimension, after those of factors and temperatures."""
    spread = [
        each
        if not isinstance(each, Tensor)
        else each.expand(info.batch_size, *each.shape)
        if axis is None
        else each.movedim(axis, 0)
        for each, axis in zip(arguments[:-1], in_dims[:-1], strict=True)
    ]
    return _operator(*spread, arguments[-1]), 2


torch.library.define(
    "drifting_torch::traced_field",
    "(Tensor x, Tensor positive, Tensor negative, Scalar[] temperatures, bool mask_self, "
    "Tensor? negative_weight, str readings, Scalar[] factors) -> Tensor",
)


@torch.library.impl("drifting_torch::traced_field", "CompositeImplicitAutograd")
def _(
    x: Tensor,
    positive: Tensor,
    negative: Tensor,
    temperatures: Sequence[float],
    mask_self: bool,
    negative_weight: Tensor | None,
    readings: str,
    factors: Sequence[float],
) -> Tensor:
    """The operator where numbers may be symbols: it cannot be handed those."""
    annealed = symbols([*temperatures, *factors])
    times, pairs = (
        [*each] if annealed is None else [1.0] * len(each) for each in (temperatures, factors)
    )
    points = (x, positive, negative)
    return _operator(*points, times, mask_self, negative_weight, readings, pairs, annealed)


def _check_points(x: Tensor, positive: Tensor, negative: Tensor, mask_self: bool) -> None:
    for name, value in (("x", x), ("positive", positive), ("negative", negative)):
        if not isinstance(value, Tensor) or value.dim() < 2:  # pyright: ignore[reportUnnecessaryIsInstance]
            shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__  # pyright: ignore[reportUnnecessaryIsInstance]
            raise (ValueError if isinstance(value, Tensor) else TypeError)(  # pyright: ignore[reportUnnecessaryIsInstance]
                f"{name} is {shape}, expected a tensor [..., samples, channels]"
            )
        # Flattened, for reshape could not tell how many there are of nothing.
        flat = value.flatten(0, -3) if value.dim() > 2 else value.unsqueeze(0)
        check_tensor(name, flat, "... samples channels")
        check_like(name, value, "x", x)
        if value.shape[:-2] != x.shape[:-2] or value.shape[-1] != x.shape[-1]:
            raise ValueError(
                f"{name} has shape {tuple(value.shape)}, expected the leading dimensions and the "
                f"channels of x {tuple(x.shape)}"
            )
        if reads_values(value, None):
            check_finite(name, value)
    count = x.shape[-2]
    if mask_self and negative.shape[-2] < count:
        raise ValueError(
            f"negative has {negative.shape[-2]} samples, expected at least the {count} of x, which "
            "come first when mask_self is true"
        )
    if mask_self and reads_values(x, None) and not torch.equal(negative[..., :count, :], x):
        raise ValueError(
            f"the first {count} of negative are not x, as mask_self=True says; pass "
            "mask_self=False for negatives that are other points"
        )


def _check_negative_weight(negative_weight: Tensor | None, negative: Tensor) -> None:
    if negative_weight is None:
        return
    shape = tuple(negative.shape[:-1])
    if not isinstance(negative_weight, Tensor):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"negative_weight is {negative_weight!r}, expected a tensor {shape}")
    if tuple(negative_weight.shape) != shape:
        raise ValueError(
            f"negative_weight has shape {tuple(negative_weight.shape)}, expected {shape}: one "
            "weight per negative"
        )
    if negative_weight.device != negative.device:
        raise ValueError(
            f"negative_weight is on {negative_weight.device}, expected {negative.device}"
        )
    if reads_values(negative_weight, None):
        check_not_negative("negative_weight", negative_weight)


def _column_weights(
    negative_weight: Tensor | None, positive: Tensor, dtype: torch.dtype
) -> Tensor | None:
    if negative_weight is None:
        return None
    ones = torch.ones(positive.shape[:-1], dtype=dtype, device=positive.device)
    columns = torch.cat([ones, negative_weight.to(dtype)], dim=-1)
    return columns.reshape(-1, 1, columns.shape[-1])
