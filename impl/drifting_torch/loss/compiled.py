"""The loss of one feature as one operator, for torch.compile and torch.func (A.6).

Under torch.compile a step must neither break into pieces at the loss nor have its loops unrolled,
so the compiler sees an opaque operator with the shapes, dtypes and the gradient of its outputs. The
same operator serves what transforms functions, or computes with tensors that hold no values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from drifting_spec import Readings
from drifting_torch.arguments.transforms import is_func
from drifting_torch.loss.together import alone
from drifting_torch.problem.ablation import Ablation
from drifting_torch.problem.derivatives import Curvature, expanded, stacked, unstacked
from drifting_torch.problem.problem import Problem
from drifting_torch.problem.readings import loss_dtype

_AXES = tuple(axis.name for axis in fields(Readings))


def readings_text(readings: Readings) -> str:
    """Readings as an operator takes them."""
    return ",".join([getattr(readings, axis) for axis in _AXES])


def readings_of(text: str) -> Readings:
    """What :func:`readings_text` wrote."""
    values: dict[str, Any] = dict(zip(_AXES, text.split(","), strict=True))
    return Readings(**values)


_SCHEMA = (
    "(Tensor generated, Tensor positive, Tensor? unconditional, Tensor? weight, "
    "float[] temperatures, str readings, ScalarType dtype, bool normalized, str precision, "
    "float[] factors, bool[] kept, Tensor? annealed) "
    "-> (Tensor, Tensor, Tensor, Tensor)"
)
"""By hand: PyTorch before 2.7 does not infer it from ``list[float]``."""


@torch.library.custom_op("drifting_torch::loss", mutates_args=(), schema=_SCHEMA)
def _loss(
    generated: Tensor,
    positive: Tensor,
    unconditional: Tensor | None,
    weight: Tensor | None,
    temperatures: list[float],
    readings: str,
    dtype: torch.dtype,
    normalized: bool,
    precision: str,
    factors: list[float],
    kept: list[bool],
    annealed: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """``per_label`` [L], its gradient [L, V, N, C], S and λ.

    ``factors`` and ``kept`` are the ablation's, in its order. ``annealed`` [T+2] holds temperatures
    and factors if those given are symbols (:func:`symbols`).
    """
    if annealed is not None:
        *temperatures, attraction, repulsion = annealed.tolist()
        factors = [attraction, repulsion]
    problem = Problem(
        generated,
        positive,
        unconditional,
        weight,
        tuple(temperatures),
        readings_of(readings),
        dtype,
        normalized,
        precision,
        Ablation(factors[0], factors[1], kept[0], kept[1]),
    )
    with torch.autocast(generated.device.type, enabled=False):
        solution = alone(problem)
    statistics, out = solution.statistics, loss_dtype(generated)
    small = (solution.per_label, statistics.feature_scale, statistics.drift_scale)
    per_label, feature_scale, drift_scale = (each.to(out) for each in small)
    return per_label, solution.slope.whole().transpose(1, 2), feature_scale, drift_scale


@_loss.register_fake
def _(
    generated: Tensor,
    positive: Tensor,
    unconditional: Tensor | None,
    weight: Tensor | None,
    temperatures: list[float],
    readings: str,
    dtype: torch.dtype,
    normalized: bool,
    precision: str,
    factors: list[float],
    kept: list[bool],
    annealed: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    del positive, unconditional, weight, normalized, precision, factors, kept, annealed
    labels, count, vectors, channels = generated.shape
    out = loss_dtype(generated)
    taken = readings_of(readings)
    shared = (
        labels if taken.statistics_scope == "label" else 1,
        vectors if taken.location_sharing == "none" else 1,
    )
    return (
        generated.new_empty(labels, dtype=out),
        generated.new_empty((labels, vectors, count, channels), dtype=dtype),
        generated.new_empty(shared, dtype=out),
        generated.new_empty((len(temperatures), *shared), dtype=out),
    )


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    generated, _, _, _, temperatures, readings, dtype, normalized, *_ = inputs
    # Of the generated samples only a gradient that is differentiated again needs the values.
    ctx.save_for_backward(output[1], output[2], generated)
    ctx.options = (tuple(temperatures), readings_of(readings), dtype, normalized)
    ctx.mark_non_differentiable(*output[1:])


def _slope(ctx: Any, arriving: Tensor, *others: Tensor) -> tuple[Tensor | None, ...]:
    """The kept gradient of each label, times what arrives for it."""
    del others
    slope, feature_scale, generated = ctx.saved_tensors
    if torch.is_grad_enabled():
        problem = Problem(generated, generated, None, None, *ctx.options)
        change = (generated - generated.detach()).to(slope.dtype)
        slope = slope + Curvature.of(problem, feature_scale).times(change).transpose(1, 2)
    scaled = slope * arriving.to(slope.dtype)[:, None, None, None]
    return scaled.transpose(1, 2).to(generated.dtype), *[None] * 11


_loss.register_autograd(_slope, setup_context=_keep)


@_loss.register_vmap
def _(
    info: Any, in_dims: tuple[int | None, ...], *arguments: Any
) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
    """One loss after the other: statistics are shared within each, and not among them."""
    turns = range(info.batch_size)
    return stacked([_loss(*unstacked(arguments, in_dims, index)) for index in turns])


torch.library.define(
    "drifting_torch::traced_loss",
    "(Tensor generated, Tensor positive, Tensor? unconditional, Tensor? weight, "
    "Scalar[] temperatures, str readings, ScalarType dtype, bool normalized, str precision, "
    "Scalar[] factors, bool[] kept) "
    "-> (Tensor, Tensor, Tensor, Tensor)",
)


@torch.library.impl("drifting_torch::traced_loss", "CompositeImplicitAutograd")
def _(
    generated: Tensor,
    positive: Tensor,
    unconditional: Tensor | None,
    weight: Tensor | None,
    temperatures: Sequence[float],
    readings: str,
    dtype: torch.dtype,
    normalized: bool,
    precision: str,
    factors: Sequence[float],
    kept: Sequence[bool],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The operator where numbers may be symbols: it cannot be handed those."""
    annealed = symbols([*temperatures, *factors])
    known = [[*each] if annealed is None else [1.0] * len(each) for each in (temperatures, factors)]
    options = (known[0], readings, dtype, normalized, precision, known[1], [*kept])
    return _loss(generated, positive, unconditional, weight, *options, annealed)


def symbols(numbers: Sequence[float]) -> Tensor | None:
    """Numbers [K] as a tensor on the CPU if one is a symbol of torch.compile, else None.

    An operator that took the symbol itself would be compiled anew for each of its values.
    """
    if not any(isinstance(each, torch.SymFloat) for each in numbers):
        return None
    one = torch.ones((), dtype=torch.float64, device="cpu")
    return torch.stack([one * each for each in numbers])


def _arguments(problem: Problem) -> tuple[Any, ...]:
    """What the operators take after the generated samples."""
    ablation = problem.ablation
    return (
        problem.positive,
        problem.unconditional,
        problem.weight,
        list(problem.temperatures),
        readings_text(problem.readings),
        problem.dtype,
        problem.normalized,
        problem.precision,
        [ablation.attraction, ablation.repulsion],
        [ablation.feature_normalization, ablation.drift_normalization],
    )


def compiled_loss(generated: Tensor, problem: Problem) -> tuple[Tensor, Tensor, Tensor]:
    """``per_label`` [L], S and λ as :class:`DriftingLossFunction` gives them."""
    if is_func():
        return transformed_loss(generated, problem)
    outputs = torch.ops.drifting_torch.traced_loss(generated, *_arguments(problem))
    per_label, _, feature_scale, drift_scale = outputs
    return per_label, feature_scale, drift_scale


def transformed_loss(generated: Tensor, problem: Problem) -> tuple[Tensor, Tensor, Tensor]:
    """The same for ``torch.func``, forward-mode derivatives, and tensors without values."""
    outputs = _loss(problem.generated, *_arguments(problem), None)
    per_label, slope, feature_scale, drift_scale = outputs
    curvature = Curvature.of(problem, feature_scale)
    per_label = expanded(generated, per_label, slope.transpose(1, 2), curvature)
    return per_label, feature_scale, drift_scale
