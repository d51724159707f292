"""The loss of one feature without a graph over the N×M work (A.6).

Everything but the mean square at the end is stop-gradient (S3-sg), so the forward pass computes
the summed normalised drift once, keeps it, and the backward pass is one product. The work goes
over chunks of groups (a group is one label and one vector), small enough to stay in cache.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from drifting_spec import Readings, implements
from drifting_torch._affinity import (
    Targets,
    affinities,
    balanced,
    masked_logits,
    self_entries,
)
from drifting_torch._distances import exact_distances, pair_distances

_CHUNK_ENTRIES = {"cpu": 2**17}
"""Entries of one chunk's [groups, N, M] buffer; half a MiB in float32 stays in a core's cache."""

_CHUNK_ENTRIES_ELSEWHERE = 2**26


@dataclass(frozen=True)
class Problem:
    """One feature's inputs, checked, and the arithmetic to treat them in.

    ``weight`` [L, M] holds the kernel weights in the order of the targets, None if all are one.
    ``normalized=False`` leaves out A.6: raw distances, raw temperatures, no S and no λ.
    """

    generated: Tensor
    positive: Tensor
    unconditional: Tensor | None
    weight: Tensor | None
    temperatures: tuple[float, ...]
    readings: Readings
    dtype: torch.dtype
    normalized: bool = True

    @property
    def targets(self) -> int:
        """M, the number of targets of each generated sample."""
        extra = 0 if self.unconditional is None else self.unconditional.shape[1]
        return self.positive.shape[1] + self.generated.shape[1] + extra

    @property
    def wide(self) -> torch.dtype:
        """The dtype of sums over the batch."""
        return torch.float32 if self.generated.device.type == "mps" else torch.float64


@dataclass(frozen=True)
class Chunk:
    """Some labels and vectors: their points [B, N, C] and targets [B, M, C], and centred copies."""

    labels: slice
    vectors: slice
    points: Tensor
    targets_at: Tensor
    centred_points: Tensor
    centred_targets: Tensor

    def part(self, tensor: Tensor) -> Tensor:
        """View of this chunk's groups in a tensor [L, V, ...]."""
        return tensor[self.labels, self.vectors]


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


def group_slices(problem: Problem) -> Iterator[tuple[slice, slice]]:
    """Go over all groups, a few at a time: whole labels, or vectors of one label."""
    labels, count, vectors, _ = problem.generated.shape
    entries = _CHUNK_ENTRIES.get(problem.generated.device.type, _CHUNK_ENTRIES_ELSEWHERE)
    groups = max(1, entries // (count * problem.targets))
    label_step = max(1, groups // vectors)
    vector_step = min(vectors, groups)
    for label in range(0, labels, label_step):
        for vector in range(0, vectors, vector_step):
            yield slice(label, label + label_step), slice(vector, vector + vector_step)


def chunks(problem: Problem) -> Iterator[Chunk]:
    """Gather the groups of each slice, in the arithmetic's dtype, and centre them."""
    for labels, vectors in group_slices(problem):
        yield _chunk(problem, labels, vectors)


def _chunk(problem: Problem, labels: slice, vectors: slice) -> Chunk:
    sets = [problem.positive, problem.generated]
    if problem.unconditional is not None:
        sets.append(problem.unconditional)
    parts = [samples[labels, :, vectors].transpose(1, 2).to(problem.dtype) for samples in sets]
    targets_at = torch.cat(parts, dim=2).flatten(0, 1)
    first = problem.positive.shape[1]
    rows = slice(first, first + problem.generated.shape[1])
    centred = targets_at - targets_at.mean(1, keepdim=True)
    return Chunk(labels, vectors, targets_at[:, rows], targets_at, centred[:, rows], centred)


@implements("EQ-19", "EQ-21", "A6-S", "A7-weight-in-scale", "A6-locshare")
def measure_distances(problem: Problem) -> tuple[Tensor, Tensor]:
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
    for chunk in chunks(problem):
        found = pair_distances(
            chunk.points, chunk.targets_at, chunk.centred_points, chunk.centred_targets
        )
        _settle(found, problem)
        shape = chunk.part(distances).shape
        chunk.part(distances).copy_(found.view(shape))
        chunk.part(columns).copy_(found.sum(-2, dtype=problem.wide).view(shape[:2] + shape[3:]))
    return distances, _distance_sums(problem, distances, columns)


def _settle(distances: Tensor, problem: Problem) -> None:
    """A sample's distance to itself is 0; the release floors every squared distance at 1e-8."""
    own = Targets(problem.positive.shape[1], masked=True)
    self_entries(distances, own).zero_()
    if problem.readings.floors == "release" and problem.normalized:
        distances.clamp_min_(1e-4)


def _scale_weights(problem: Problem) -> Tensor:
    """Weights [L, M] of the columns in the mean distance; 0 for those that do not enter."""
    if problem.weight is not None:
        weight = problem.weight.to(problem.wide, copy=True)
    else:
        shape = (problem.generated.shape[0], problem.targets)
        weight = torch.ones(shape, dtype=problem.wide, device=problem.generated.device)
    first = problem.positive.shape[1]
    if problem.readings.scale_samples == "positives":
        weight[:, first:] = 0
    elif problem.readings.scale_samples == "negatives":
        weight[:, :first] = 0
    return weight


def _distance_sums(problem: Problem, distances: Tensor, columns: Tensor) -> Tensor:
    """Weighted distances and weights [2, 1|L, 1|V] summed over the scope."""
    readings = problem.readings
    labels, count, vectors, _ = problem.generated.shape
    weight = _scale_weights(problem)
    if readings.location_sharing == "all_pairs":
        sums, pairs = _all_pairs(problem, weight)
    else:
        sums = (columns * weight.unsqueeze(1)).sum(-1)
        pairs = (count * weight.sum(-1, keepdim=True)).expand(labels, vectors).clone()
    if readings.scale_self_pairs == "without":
        own = Targets(problem.positive.shape[1], masked=True)
        own_weight = weight[:, own.positives : own.positives + count].unsqueeze(1)
        own_distance = self_entries(distances, own).to(problem.wide)
        sums = sums - (own_distance * own_weight).sum(-1)
        pairs = pairs - own_weight.sum(-1)
    return torch.stack([_shared(sums, readings), _shared(pairs, readings)])


def _feature_scale(problem: Problem, sums: Tensor) -> Tensor:
    """S [1|L, 1|V] in the wide dtype; 1 where A.6 is left out."""
    if not problem.normalized:
        return torch.ones_like(sums[0])
    return _over_zero(sums[0], sums[1]) / math.sqrt(problem.generated.shape[-1])


def _shared(sums: Tensor, readings: Readings) -> Tensor:
    """Sum [L, V] over what shares a statistic."""
    if readings.statistics_scope == "batch":
        sums = sums.sum(0, keepdim=True)
    if readings.location_sharing != "none":
        sums = sums.sum(1, keepdim=True)
    return sums


def _over_zero(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Quotient with 0/0 := 0 (the paper has no floors, so that everything may coincide)."""
    return torch.where(denominator == 0, 0.0, numerator / denominator)


def _all_pairs(problem: Problem, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted sums [L, V] of the distances between every two locations, and of their weights."""
    labels, count, vectors, _ = problem.generated.shape
    sums = torch.zeros((labels, vectors), dtype=problem.wide, device=weight.device)
    for chunk in chunks(problem):
        for label in range(*chunk.labels.indices(labels)):
            everywhere = _chunk(problem, slice(label, label + 1), slice(0, vectors)).targets_at
            inside = label - chunk.labels.indices(labels)[0]
            here = chunk.points.view(-1, *chunk.part(sums).shape[1:2], *chunk.points.shape[1:])
            for offset, vector in enumerate(range(*chunk.vectors.indices(vectors))):
                points = here[inside, offset].expand(vectors, -1, -1).contiguous()
                found = exact_distances(points, everywhere)
                if problem.readings.floors == "release":
                    found.clamp_min_(1e-4)
                per_column = found.sum(-2, dtype=problem.wide)
                sums[label, vector] = (per_column * weight[label]).sum()
    pairs = count * vectors * weight.sum(-1, keepdim=True).expand(labels, vectors)
    return sums, pairs.clone()


def used_scales(problem: Problem, feature_scale: Tensor) -> tuple[Tensor, Tensor]:
    """The divisors of the coordinates and of the distances, after the readings' floors.

    The second is in units where the distances' mean is √C, as it is for φ̃ = φ/S (EQ-20).
    """
    if problem.readings.floors == "none":
        return feature_scale, feature_scale
    if problem.readings.floors == "seed":
        floored = feature_scale.clamp_min(1e-8)
        return floored, floored
    root = math.sqrt(problem.generated.shape[-1])
    return feature_scale.clamp_min(1e-3), (feature_scale * root).clamp_min(1e-3) / root


@implements("EQ-22", "EQ-23", "EQ-25", "A6-tau", "A6-lambda", "ALG2-10")
def drifts(
    problem: Problem, distances: Tensor, coordinate_scale: Tensor, distance_scale: Tensor
) -> tuple[list[Tensor], Tensor]:
    """Every temperature's drift V [L, V, N, C] on φ̃, and its squares summed [T, L, V]."""
    labels, count, vectors, channels = problem.generated.shape
    device, shape = distances.device, (labels, vectors)
    drift = [
        torch.empty((*shape, count, channels), dtype=problem.dtype, device=device)
        for _ in problem.temperatures
    ]
    energy = torch.empty((len(drift), *shape), dtype=problem.wide, device=device)
    per_distance = _inverse(distance_scale).expand(shape)
    per_coordinate = _inverse(coordinate_scale).expand(shape)
    root = math.sqrt(channels)
    scaled = problem.normalized and problem.readings.temperature_scaling == "sqrt_channels"
    for chunk in chunks(problem):
        targets = _targets(problem, chunk, vectors)
        found = chunk.part(distances).flatten(0, 1)
        to_unit = chunk.part(per_coordinate).reshape(-1, 1, 1).to(problem.dtype)
        for index, temperature in enumerate(problem.temperatures):
            effective = temperature * (root if scaled else 1.0)
            factor = (chunk.part(per_distance) / effective).reshape(-1, 1, 1)
            # One unit of an additive mask: of the mean distance for add_100, else of a distance.
            unit = root if problem.normalized and problem.readings.self_mask == "add_100" else 1.0
            shift = torch.full_like(factor, unit / effective).to(problem.dtype)
            logits = masked_logits(
                found, factor.to(problem.dtype), shift, targets, problem.readings
            )
            coefficients = balanced(affinities(logits, targets, problem.readings), targets)
            moved = torch.bmm(coefficients, chunk.centred_targets).mul_(to_unit)
            chunk.part(energy[index]).copy_(
                moved.to(problem.wide).square().sum((1, 2)).view_as(chunk.part(energy[index]))
            )
            chunk.part(drift[index]).copy_(moved.view_as(chunk.part(drift[index])))
    return drift, energy


def _targets(problem: Problem, chunk: Chunk, vectors: int) -> Targets:
    if problem.weight is None:
        return Targets(problem.positive.shape[1], masked=True)
    weight = problem.weight[chunk.labels].to(problem.dtype)
    width = len(range(*chunk.vectors.indices(vectors)))
    columns = weight.unsqueeze(1).expand(-1, width, -1).reshape(-1, 1, weight.shape[-1])
    return Targets(problem.positive.shape[1], True, columns, columns.log())


def _inverse(scale: Tensor) -> Tensor:
    """Reciprocal with 1/0 := 0: what coincides entirely has no drift."""
    return torch.where(scale == 0, 0.0, 1.0 / scale)


def _drift_sums(problem: Problem, energy: Tensor) -> Tensor:
    """Squares of the drifts and the number of their entries [T+1, 1|L, 1|V] over the scope."""
    _, count, _, channels = problem.generated.shape
    entries = torch.full_like(energy[0], count * channels)
    return torch.stack([_shared(each, problem.readings) for each in (*energy, entries)])


def _drift_scale(problem: Problem, sums: Tensor) -> Tensor:
    """λ [T, 1|L, 1|V]: root mean square of V over its scope, from :func:`_drift_sums`."""
    count = len(problem.temperatures)
    return (sums[:count] / sums[count]).sqrt()


def _cross_sums(problem: Problem, drift: list[Tensor]) -> list[Tensor]:
    """Products [1|L, 1|V] of every two temperatures' drifts, summed over the scope."""
    pairs = list(combinations(range(len(drift)), 2))
    labels, _, vectors, _ = problem.generated.shape
    device = drift[0].device
    products = torch.empty((len(pairs), labels, vectors), dtype=problem.wide, device=device)
    for here in group_slices(problem):
        parts = [each[here].to(problem.wide) for each in drift]
        for index, (one, two) in enumerate(pairs):
            products[index][here] = (parts[one] * parts[two]).sum((-2, -1))
    return [_shared(each, problem.readings) for each in products]


def _inverse_drift_scale(problem: Problem, drift_scale: Tensor) -> Tensor:
    floors = problem.readings.floors
    if floors == "release":
        return drift_scale.square().clamp_min(1e-8).rsqrt()
    if floors == "seed":
        return 1.0 / drift_scale.clamp_min(1e-8)
    return _inverse(drift_scale)


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
        squares[here] = part.to(problem.wide).square().sum((-2, -1))
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
    distances, distance_sums = measure_distances(problem)
    if across and problem.normalized:
        distance_sums = yield distance_sums
    feature_scale = _feature_scale(problem, distance_sums)
    coordinate_scale, distance_scale = used_scales(problem, feature_scale)
    drift, energy = drifts(problem, distances, coordinate_scale, distance_scale)
    del distances
    drift_sums = _drift_sums(problem, energy)
    totals = None
    if across:
        totals = yield _totals(problem, drift_sums, drift)
        drift_sums = totals[: len(drift) + 1]
    drift_scale = _drift_scale(problem, drift_sums)
    inverse = torch.ones_like(drift_scale)
    if problem.normalized:
        inverse = _inverse_drift_scale(problem, drift_scale)
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
    slope = (-2.0 * factor * _inverse(coordinate_scale)).expand(energy.shape[1:])
    summed.mul_(slope[:, :, None, None].to(problem.dtype))
    return squares.sum(1) * factor, summed.transpose(1, 2)


def _totals(problem: Problem, drift_sums: Tensor, drift: list[Tensor]) -> Tensor:
    """What λ and the loss of all processes need [T+1+T(T−1)/2+1, 1, 1|V]; labels come last."""
    labels = torch.full_like(drift_sums[:1], problem.generated.shape[0])
    crosses = [each.unsqueeze(0) for each in _cross_sums(problem, drift)]
    return torch.cat([drift_sums, *crosses, labels])


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
