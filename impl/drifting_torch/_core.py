"""The loss of one feature without a graph over the N×M work (A.6).

Everything but the mean square at the end is stop-gradient (S3-sg), so the forward pass computes
the summed normalised drift once, keeps it, and the backward pass is one product. The work goes
over chunks of groups (a group is one label and one vector), small enough to stay in cache.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from drifting_spec import Readings, implements
from drifting_torch import _powers
from drifting_torch._affinity import (
    Targets,
    affinities,
    balanced,
    masked_logits,
    self_entries,
)
from drifting_torch._distances import exact_distances, pair_distances
from drifting_torch._powers import Buffers

_CHUNK_ENTRIES = {"cpu": 2**18}
"""Entries of one chunk's [groups, N, M] buffer: a MiB in float32, near enough to a core."""

_KEPT_ENTRIES = 2**23
"""Entries of a feature's targets up to which they are gathered once and kept: 32 MiB."""

_CHUNK_ENTRIES_ELSEWHERE = 2**26

RELEASE_DISTANCE = 1e-4
"""The authors' release floors every squared distance at 1e-8."""


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
    """Some labels and vectors, and their targets [B, M, C] measured from each group's mean."""

    labels: slice
    vectors: slice
    targets: Tensor

    def part(self, tensor: Tensor) -> Tensor:
        """View of this chunk's groups in a tensor [L, V, ...]."""
        return tensor[self.labels, self.vectors]


@dataclass(frozen=True)
class Statistics:
    """What is shared over the batch: S [1|L, 1|V] and λ [T, 1|L, 1|V], before any floor."""

    feature_scale: Tensor
    drift_scale: Tensor


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


def chunks(problem: Problem) -> Iterable[Chunk]:
    """Every chunk: all kept where the feature is small, else gathered again at each use."""
    gathered = (_chunk(problem, labels, vectors) for labels, vectors in group_slices(problem))
    labels, _, vectors, channels = problem.generated.shape
    entries = labels * vectors * problem.targets * channels
    if problem.generated.device.type == "cpu" and entries <= _KEPT_ENTRIES:
        return list(gathered)
    return Regathered(problem)


@dataclass(frozen=True)
class Regathered:
    """Chunks that are gathered anew each time one goes over them."""

    problem: Problem

    def __iter__(self) -> Iterator[Chunk]:
        """Gather one chunk after the other."""
        for labels, vectors in group_slices(self.problem):
            yield _chunk(self.problem, labels, vectors)


def _chunk(problem: Problem, labels: slice, vectors: slice) -> Chunk:
    """Gather the targets of some groups, in the arithmetic's dtype, and centre them."""
    sets = [problem.positive, problem.generated]
    if problem.unconditional is not None:
        sets.append(problem.unconditional)
    parts = [samples[labels, :, vectors].transpose(1, 2) for samples in sets]
    head = parts[0]
    gathered = torch.empty(
        (*head.shape[:2], problem.targets, head.shape[3]), dtype=problem.dtype, device=head.device
    )
    for part, room in zip(
        parts, gathered.split([part.shape[2] for part in parts], dim=2), strict=True
    ):
        room.copy_(part)
    targets = gathered.flatten(0, 1)
    targets.sub_(targets.mean(1, keepdim=True))
    return Chunk(labels, vectors, targets)


def _points(problem: Problem, chunk: Chunk) -> Tensor:
    """The generated samples among a chunk's targets [B, N, C]."""
    first = problem.positive.shape[1]
    return chunk.targets[:, first : first + problem.generated.shape[1]]


@implements("EQ-19", "EQ-21", "A6-S", "A7-weight-in-scale", "A6-locshare")
def measure_distances(problem: Problem, gathered: Iterable[Chunk]) -> tuple[Tensor, Tensor]:
    """All distances [L, V, N, M] and the feature scale S [1|L, 1|V] in the wide dtype."""
    labels, count, vectors, channels = problem.generated.shape
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
    return distances, _feature_scale(problem, distances, columns) / math.sqrt(channels)


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


def _feature_scale(problem: Problem, distances: Tensor, columns: Tensor) -> Tensor:
    """Mean distance [1|L, 1|V]: the ratio of weighted sums over the scope."""
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
    return _over_zero(_shared(sums, readings), _shared(pairs, readings))


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


def _sets(problem: Problem, label: int) -> list[Tensor]:
    """Positives, generated and unconditional samples of one label [V, ·, C]."""
    sets = [problem.positive, problem.generated, problem.unconditional]
    return [each[label].transpose(0, 1).to(problem.dtype) for each in sets if each is not None]


def _all_pairs(problem: Problem, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted sums [L, V] of the distances between every two locations, and of their weights."""
    labels, count, vectors, _ = problem.generated.shape
    sums = torch.zeros((labels, vectors), dtype=problem.wide, device=weight.device)
    for label in range(labels):
        everywhere = torch.cat(_sets(problem, label), dim=1)
        everywhere = everywhere - everywhere.mean((0, 1))
        first = problem.positive.shape[1]
        for vector in range(vectors):
            points = everywhere[vector : vector + 1, first : first + count]
            found = exact_distances(points.expand(vectors, -1, -1).contiguous(), everywhere)
            if problem.readings.floors == "release":
                found.clamp_min_(RELEASE_DISTANCE)
            sums[label, vector] = (found.sum(-2, dtype=problem.wide) * weight[label]).sum()
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
    per_distance = _inverse(distance_scale).expand(shape)
    per_coordinate = _inverse(coordinate_scale).expand(shape)
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


def _inverse(scale: Tensor) -> Tensor:
    """Reciprocal with 1/0 := 0: what coincides entirely has no drift."""
    return torch.where(scale == 0, 0.0, 1.0 / scale)


def _drift_scale(problem: Problem, energy: Tensor) -> Tensor:
    """λ [T, 1|L, 1|V]: root mean square of V over its scope."""
    _, count, _, channels = problem.generated.shape
    groups = _shared(torch.ones_like(energy[0]), problem.readings)
    sums = torch.stack([_shared(each, problem.readings) for each in energy])
    return (sums / (groups * count * channels)).sqrt()


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
        squares[here] = _squares(part, problem)
    return summed, squares


@implements("EQ-26", "A6-mse", "A5-sum")
def loss_and_slope(problem: Problem) -> tuple[Tensor, Tensor, Statistics]:
    """``per_label`` [L], its gradient with the target frozen [L, N, V, C], and the statistics.

    The gradient of ``per_label[l]`` is nonzero on label l alone, so that one tensor holds all.
    """
    labels, count, vectors, channels = problem.generated.shape
    readings = problem.readings
    gathered = chunks(problem)
    distances, feature_scale = measure_distances(problem, gathered)
    if not problem.normalized:
        feature_scale = torch.ones_like(feature_scale)
    coordinate_scale, distance_scale = used_scales(problem, feature_scale)
    drift, energy = drifts(problem, gathered, distances, coordinate_scale, distance_scale)
    del distances, gathered
    drift_scale = _drift_scale(problem, energy)
    inverse = torch.ones_like(drift_scale)
    if problem.normalized:
        inverse = _inverse_drift_scale(problem, drift_scale)
    inverse = inverse.expand_as(energy)
    summed, squares = _summed(problem, drift, inverse)
    if readings.temperature_aggregation != "sum_drifts_then_mse":
        squares = (energy * inverse.square()).sum(0)
    per_entry = 1.0 / count
    if readings.channel_reduction == "mean":
        per_entry /= channels
    if readings.location_reduction == "mean":
        per_entry /= vectors
    if readings.temperature_aggregation == "per_temperature_mse_mean":
        per_entry /= len(problem.temperatures)
    per_label = squares.sum(1) * per_entry
    slope = (-2.0 * per_entry * _inverse(coordinate_scale)).expand(labels, vectors)
    summed.mul_(slope[:, :, None, None].to(problem.dtype))
    return per_label, summed.transpose(1, 2), Statistics(feature_scale, drift_scale)


@implements("EQ-6", "EQ-13", "S3-sg", "ALG1-5", "ALG1-6")
class DriftingLossFunction(torch.autograd.Function):
    """``per_label`` [L] of a :class:`Problem`, differentiable in the generated samples alone."""

    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride] -- the arguments are ours
        ctx: Any, generated: Tensor, problem: Problem
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Compute everything; keep what the backward pass multiplies."""
        with torch.autocast(generated.device.type, enabled=False):
            per_label, slope, statistics = loss_and_slope(problem)
        outputs = tuple(
            value.to(loss_dtype(problem))
            for value in (per_label, statistics.feature_scale, statistics.drift_scale)
        )
        ctx.save_for_backward(slope)
        ctx.generated_dtype = generated.dtype
        ctx.mark_non_differentiable(*outputs[1:])
        return outputs  # pyright: ignore[reportReturnType] -- three, as made above

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride] -- the decorator hides it
        ctx: Any, *gradients: Tensor
    ) -> tuple[Tensor, None]:
        """−2Ṽ/(numel·S) for each label, times the gradient that arrives for it."""
        (slope,) = ctx.saved_tensors
        arriving = gradients[0].to(slope.dtype)[:, None, None, None]
        return (slope * arriving).to(ctx.generated_dtype), None


def loss_dtype(problem: Problem) -> torch.dtype:
    """The dtype of the loss: float64 for float64 features, float32 for all others."""
    return torch.float64 if problem.generated.dtype == torch.float64 else torch.float32
