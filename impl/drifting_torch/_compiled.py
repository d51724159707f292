"""The loss of one feature as one operator of torch.compile (A.6).

Under torch.compile a step must neither break into pieces at the loss nor have its loops unrolled,
so the compiler sees an opaque operator with the shapes, dtypes and the gradient of its outputs.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from drifting_spec import Readings
from drifting_torch._core import Problem, loss_dtype
from drifting_torch._together import alone

_AXES = tuple(axis.name for axis in fields(Readings))


def _readings(text: str) -> Readings:
    """What :func:`compiled_loss` wrote: operators take strings."""
    values: dict[str, Any] = dict(zip(_AXES, text.split(","), strict=True))
    return Readings(**values)


_SCHEMA = (
    "(Tensor generated, Tensor positive, Tensor? unconditional, Tensor? weight, "
    "float[] temperatures, str readings, ScalarType dtype, bool normalized, str precision) "
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
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """``per_label`` [L], its gradient [L, V, N, C], S and λ."""
    problem = Problem(
        generated,
        positive,
        unconditional,
        weight,
        tuple(temperatures),
        _readings(readings),
        dtype,
        normalized,
        precision,
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
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    del positive, unconditional, weight, normalized, precision
    labels, count, vectors, channels = generated.shape
    out = loss_dtype(generated)
    taken = _readings(readings)
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
    ctx.save_for_backward(output[1])
    ctx.generated_dtype = inputs[0].dtype
    ctx.mark_non_differentiable(*output[1:])


def _slope(ctx: Any, arriving: Tensor, *others: Tensor) -> tuple[Tensor | None, ...]:
    """The kept gradient of each label, times what arrives for it."""
    del others
    (slope,) = ctx.saved_tensors
    scaled = slope * arriving.to(slope.dtype)[:, None, None, None]
    return scaled.transpose(1, 2).to(ctx.generated_dtype), *[None] * 8


_loss.register_autograd(_slope, setup_context=_keep)


def compiled_loss(generated: Tensor, problem: Problem) -> tuple[Tensor, Tensor, Tensor]:
    """``per_label`` [L], S and λ as :class:`DriftingLossFunction` gives them."""
    per_label, _, feature_scale, drift_scale = _loss(
        generated,
        problem.positive,
        problem.unconditional,
        problem.weight,
        list(problem.temperatures),
        ",".join([getattr(problem.readings, axis) for axis in _AXES]),
        problem.dtype,
        problem.normalized,
        problem.precision,
    )
    return per_label, feature_scale, drift_scale
