"""The loss of one feature without a graph over the N×M work (A.6).

Everything but the mean square at the end is stop-gradient (S3-sg), so the forward pass computes
the summed normalised drift once, keeps it, and the backward pass is one product. The work goes
over chunks of groups (a group is one label and one vector), small enough to stay in cache.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from drifting_spec import implements
from drifting_torch import _powers
from drifting_torch._affinity import Targets, affinities, balanced, masked_logits
from drifting_torch._distances import pair_distances
from drifting_torch._powers import Buffers
from drifting_torch._problem import Chunk, Problem, chunks, group_slices
from drifting_torch._statistics import (
    RELEASE_DISTANCE,
    cross_sums,
    distance_sums,
    drift_sums,
    feature_scale_from,
    inverse_drift_scale,
    reciprocal,
    used_scales,
)


@dataclass(frozen=True)
class Statistics:
    """What is shared over the batch: S [1|L, 1|V] and λ [T, 1|L, 1|V], before any floor."""

    feature_scale: Tensor
    drift_scale: Tensor


@dataclass(frozen=True)
class Solution:
    """``per_label`` [L], its gradient with the target frozen [L, N, V, C], and the statistics.

    The gradient of ``per_label[l]`` is nonzero on label l alone, so that one tensor holds all.
    ``loss`` and ``labels`` are the loss and the number of labels of all processes, None for one.
    """

    per_label: Tensor
    slope: Tensor
    statistics: Statistics
    loss: Tensor | None = None
    labels: Tensor | None = None


def _points(problem: Problem, chunk: Chunk) -> Tensor:
    """The generated samples among a chunk's targets [B, N, C]."""
    first = problem.positive.shape[1]
    return chunk.targets[:, first : first + problem.generated.shape[1]]


@implements("EQ-19", "EQ-21", "A6-S", "A7-weight-in-scale", "A6-locshare")
def measure_distances(problem: Problem, gathered: Iterable[Chunk]) -> tuple[Tensor, Tensor]:
    """All distances [L, V, N, M], and the sums [2, 1|L, 1|V] whose ratio is their mean."""
    labels, count, vectors, _ = problem.generated.shape
    distances = torch.empty(
        (labels, vectors, count, problem.targets),
        dtype=problem.dtype,
        device=problem.generated.device,
    )
    columns = torch.empty(
        (labels, vectors, problem.targets), dtype=problem.wide, device=distances.device
    )
    for chunk in gathered:
        found = pair_distances(_points(problem, chunk), chunk.targets, problem.positive.shape[1])
        if problem.readings.floors == "release" and problem.normalized:
            found.clamp_min_(RELEASE_DISTANCE)
        shape = chunk.part(distances).shape
        chunk.part(distances).copy_(found.view(shape))
        chunk.part(columns).copy_(found.sum(-2).view(shape[:2] + shape[3:]))
    return distances, distance_sums(problem, distances, columns)


@implements("EQ-22", "EQ-23", "EQ-25", "A6-tau", "A6-lambda", "ALG2-10")
def drifts(
    problem: Problem,
    gathered: Iterable[Chunk],
    distances: Tensor,
    coordinate_scale: Tensor,
    distance_scale: Tensor,
) -> tuple[list[Tensor], Tensor]:
    """Every temperature's drift V [L, V, N, C] on φ̃, and its squares summed [T, L, V]."""
    labels, count, vectors, channels = problem.generated.shape
    device, shape = distances.device, (labels, vectors)
    drift = [
        torch.empty((*shape, count, channels), dtype=problem.dtype, device=device)
        for _ in problem.temperatures
    ]
    energy = torch.empty((len(drift), *shape), dtype=problem.wide, device=device)
    per_distance = reciprocal(distance_scale).expand(shape)
    per_coordinate = reciprocal(coordinate_scale).expand(shape)
    buffers: Buffers | None = None
    for chunk in gathered:
        found = chunk.part(distances).flatten(0, 1)
        unit = chunk.part(per_distance).reshape(-1, 1, 1)
        moved = None
        if device.type == "cpu" and _powers.applies(problem.readings) and problem.normalized:
            if buffers is None:
                buffers = Buffers.like(found)
            moved = _by_powers(problem, chunk, found, unit, buffers.first(len(found)))
        if moved is None:
            moved = _one_by_one(problem, chunk, found, unit)
        scale = chunk.part(per_coordinate).reshape(-1, 1, 1).to(problem.dtype)
        for index, each in enumerate(moved):
            here = chunk.part(drift[index])
            each.mul_(scale)
            here.copy_(each.view_as(here))
            chunk.part(energy[index]).copy_(_squares(each, problem).view(here.shape[:2]))
    return drift, energy


def _squares(drift: Tensor, problem: Problem) -> Tensor:
    """Sum of squares [...] of each group's drift [..., N, C], without under- or overflow."""
    if drift.dtype == problem.wide:
        return drift.square().sum((-2, -1))
    rows = torch.linalg.vector_norm(drift, dim=-1)
    if drift.device.type == "cpu" and _IN_RANGE[0] < rows.min() and rows.max() < _IN_RANGE[1]:
        return rows.to(problem.wide).square().sum(-1)
    return drift.to(problem.wide).square().sum((-2, -1))


_IN_RANGE = (1e-15, 1e15)
"""Norms whose squares are far inside float32."""


def _root_scaled(problem: Problem) -> float:
    """What multiplies the temperatures: √C (EQ-22) unless they are raw."""
    raw = not problem.normalized or problem.readings.temperature_scaling == "raw"
    return 1.0 if raw else math.sqrt(problem.generated.shape[-1])


def _mask_unit(problem: Problem) -> float:
    """One unit of an additive mask: of the mean distance for add_100, else of a distance."""
    of_mean = problem.normalized and problem.readings.self_mask == "add_100"
    return math.sqrt(problem.generated.shape[-1]) if of_mean else 1.0


def _by_powers(
    problem: Problem, chunk: Chunk, distances: Tensor, unit: Tensor, buffers: Buffers
) -> list[Tensor] | None:
    """All temperatures of a chunk from one exponential, None where that does not serve."""
    powers = _powers.whole_powers(problem.temperatures)
    if powers is None:
        return None
    highest = max(problem.temperatures) * _root_scaled(problem)
    mask = -math.inf
    if problem.readings.self_mask != "exclude":
        size = 1e6 if problem.readings.self_mask == "add_1e6" else 100.0
        mask = -size * _mask_unit(problem) / highest
    return _powers.drifts_by_powers(
        distances,
        (-unit / highest).to(problem.dtype),
        chunk.targets,
        _targets(problem, chunk, problem.generated.shape[2]),
        powers,
        mask,
        problem.readings,
        buffers,
    )


def _one_by_one(problem: Problem, chunk: Chunk, distances: Tensor, unit: Tensor) -> list[Tensor]:
    """The drifts of a chunk, temperature by temperature, under any readings."""
    targets = _targets(problem, chunk, problem.generated.shape[2])
    found: list[Tensor] = []
    for temperature in problem.temperatures:
        effective = temperature * _root_scaled(problem)
        factor = (unit / effective).to(problem.dtype)
        shift = torch.full_like(factor, _mask_unit(problem) / effective)
        logits = masked_logits(distances, factor, shift, targets, problem.readings)
        coefficients = balanced(affinities(logits, targets, problem.readings), targets)
        found.append(torch.bmm(coefficients, chunk.targets))
    return found


def _targets(problem: Problem, chunk: Chunk, vectors: int) -> Targets:
    if problem.weight is None:
        return Targets(problem.positive.shape[1], masked=True)
    weight = problem.weight[chunk.labels].to(problem.dtype)
    width = len(range(*chunk.vectors.indices(vectors)))
    columns = weight.unsqueeze(1).expand(-1, width, -1).reshape(-1, 1, weight.shape[-1])
    return Targets(problem.positive.shape[1], True, columns, columns.log())


def _drift_scale(problem: Problem, sums: Tensor) -> Tensor:
    """λ [T, 1|L, 1|V]: root mean square of V over its scope, from :func:`drift_sums`."""
    count = len(problem.temperatures)
    return (sums[:count] / sums[count]).sqrt()


@implements("EQ-A6tau", "A6-order")
def _summed(problem: Problem, drift: list[Tensor], inverse: Tensor) -> tuple[Tensor, Tensor]:
    """Ṽ = Σ V_τ/λ_τ in the memory of the first, and its squares summed [L, V]."""
    summed = drift[0]
    squares = torch.empty_like(inverse[0])
    for here in group_slices(problem):
        part = summed[here]
        part.mul_(inverse[0][here][..., None, None].to(problem.dtype))
        for index in range(1, len(drift)):
            part.addcmul_(drift[index][here], inverse[index][here][..., None, None].to(part.dtype))
        squares[here] = _squares(part, problem)
    return summed, squares


@implements("EQ-26", "A6-mse", "A5-sum")
def solving(problem: Problem, *, many: bool = False) -> Generator[Tensor, Tensor, Solution]:
    """Solve a problem, yielding sums over this process's labels, to be sent those over all.

    With ``many``, it yields twice: what S needs, then what λ and the loss need (once, under
    readings by which labels share nothing: the loss). Who drives it adds up over the processes.
    Without ``many`` it yields nothing.
    """
    readings = problem.readings
    across = many and readings.statistics_scope == "batch"
    gathered = chunks(problem)
    distances, sums = measure_distances(problem, gathered)
    if across and problem.normalized:
        sums = yield sums
    feature_scale = feature_scale_from(problem, sums)
    coordinate_scale, distance_scale = used_scales(problem, feature_scale)
    drift, energy = drifts(problem, gathered, distances, coordinate_scale, distance_scale)
    del distances, gathered
    sums = drift_sums(problem, energy)
    totals = None
    if across:
        totals = yield _totals(problem, sums, drift)
        sums = totals[: len(drift) + 1]
    drift_scale = _drift_scale(problem, sums)
    inverse = torch.ones_like(drift_scale)
    if problem.normalized:
        inverse = inverse_drift_scale(problem, drift_scale)
    per_label, slope = _mean_square(problem, drift, energy, inverse, coordinate_scale)
    statistics = Statistics(feature_scale, drift_scale)
    if not many:
        return Solution(per_label, slope, statistics)
    if totals is None:
        found = yield torch.stack([per_label.sum(), torch.full_like(per_label[0], len(per_label))])
        squares, labels = found.unbind()
    else:
        squares, labels = _square_of_all(problem, totals, inverse), totals[-1, 0, 0]
    loss = squares / labels if readings.label_reduction == "mean" else squares
    return Solution(per_label, slope, statistics, loss, labels)


def alone(problem: Problem) -> Solution:
    """Solve a problem whose labels are all in this process."""
    try:
        next(solving(problem))
    except StopIteration as end:
        return end.value
    raise AssertionError("a problem of one process waits for no other")


def _per_entry(problem: Problem) -> float:
    """What the square of an entry of Ṽ is multiplied by in ``per_label``."""
    _, count, vectors, channels = problem.generated.shape
    factor = 1.0 / count
    if problem.readings.channel_reduction == "mean":
        factor /= channels
    if problem.readings.location_reduction == "mean":
        factor /= vectors
    if problem.readings.temperature_aggregation == "per_temperature_mse_mean":
        factor /= len(problem.temperatures)
    return factor


def _mean_square(
    problem: Problem,
    drift: list[Tensor],
    energy: Tensor,
    inverse: Tensor,
    coordinate_scale: Tensor,
) -> tuple[Tensor, Tensor]:
    """``per_label`` [L] and its gradient [L, N, V, C], in the memory of the first drift."""
    inverse = inverse.expand_as(energy)
    summed, squares = _summed(problem, drift, inverse)
    if problem.readings.temperature_aggregation != "sum_drifts_then_mse":
        squares = (energy * inverse.square()).sum(0)
    factor = _per_entry(problem)
    slope = (-2.0 * factor * reciprocal(coordinate_scale)).expand(energy.shape[1:])
    summed.mul_(slope[:, :, None, None].to(problem.dtype))
    return squares.sum(1) * factor, summed.transpose(1, 2)


def _totals(problem: Problem, sums: Tensor, drift: list[Tensor]) -> Tensor:
    """What λ and the loss of all processes need [T+1+T(T−1)/2+1, 1, 1|V]; labels come last."""
    labels = torch.full_like(sums[:1], problem.generated.shape[0])
    crosses = [each.unsqueeze(0) for each in cross_sums(problem, drift)]
    return torch.cat([sums, *crosses, labels])


def _square_of_all(problem: Problem, totals: Tensor, inverse: Tensor) -> Tensor:
    """Sum of ``per_label`` over the labels of all processes, from :func:`_totals`.

    ‖Σ V_τ/λ_τ‖² is expanded into products of two drifts, which add up before λ is known.
    """
    count = len(problem.temperatures)
    squares = (totals[:count] * inverse.square()).sum()
    if problem.readings.temperature_aggregation == "sum_drifts_then_mse":
        for index, (one, two) in enumerate(combinations(range(count), 2)):
            squares = squares + 2 * (totals[count + 1 + index] * inverse[one] * inverse[two]).sum()
    return squares * _per_entry(problem)


@implements("EQ-6", "EQ-13", "S3-sg", "ALG1-5", "ALG1-6")
class DriftingLossFunction(torch.autograd.Function):
    """``per_label`` [L] of a :class:`Problem`, differentiable in the generated samples alone."""

    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride] -- the arguments are ours
        ctx: Any, generated: Tensor, problem: Problem, solution: Solution | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Compute everything that is not there yet; keep what the backward pass multiplies."""
        if solution is None:
            with torch.autocast(generated.device.type, enabled=False):
                solution = alone(problem)
        statistics = solution.statistics
        outputs = tuple(
            value.to(loss_dtype(problem))
            for value in (solution.per_label, statistics.feature_scale, statistics.drift_scale)
        )
        ctx.save_for_backward(solution.slope)
        ctx.generated_dtype = generated.dtype
        ctx.mark_non_differentiable(*outputs[1:])
        return outputs  # pyright: ignore[reportReturnType] -- three, as made above

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride] -- the decorator hides it
        ctx: Any, *gradients: Tensor
    ) -> tuple[Tensor, None, None]:
        """−2Ṽ/(numel·S) for each label, times the gradient that arrives for it."""
        (slope,) = ctx.saved_tensors
        arriving = gradients[0].to(slope.dtype)[:, None, None, None]
        return (slope * arriving).to(ctx.generated_dtype), None, None


def loss_dtype(problem: Problem) -> torch.dtype:
    """The dtype of the loss: float64 for float64 features, float32 for all others."""
    return torch.float64 if problem.generated.dtype == torch.float64 else torch.float32
