"""What is shared over the batch (A.6): the sums that S and λ come from, and their floors.

Everything is kept as a sum over labels as long as it can be, so that processes can add up.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from drifting_spec import Readings
from drifting_torch.eager.affinity import Targets, self_entries
from drifting_torch.eager.distances import exact_distances
from drifting_torch.problem.problem import Problem
from drifting_torch.problem.readings import RELEASE_DISTANCE


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


def distance_sums(
    problem: Problem, distances: Tensor, columns: Tensor, unit: Tensor | float = 1.0
) -> Tensor:
    """Weighted distances and weights [2, 1|L, 1|V] summed over the scope, in a shared ``unit``."""
    readings = problem.readings
    from_own = 1.0 if problem.units is None else unit / problem.units
    labels, count, vectors, _ = problem.generated.shape
    weight = _scale_weights(problem)
    if readings.location_sharing == "all_pairs":
        sums, pairs = _all_pairs(problem, weight, unit)
    else:
        sums = (columns * weight.unsqueeze(1)).sum(-1) * from_own
        pairs = weight.sum(-1, keepdim=True).mul_(count).expand(labels, vectors)
    if readings.scale_self_pairs == "without":
        own = Targets(problem.positive.shape[1], masked=True)
        own_weight = weight[:, own.positives : own.positives + count].unsqueeze(1)
        own_distance = self_entries(distances, own).to(problem.wide).view(labels, vectors, count)
        sums = sums - (own_distance * own_weight).sum(-1) * from_own
        pairs = pairs - own_weight.sum(-1)
    return shared_sums(torch.stack([sums, pairs]), readings)


def feature_scale_from(problem: Problem, sums: Tensor) -> Tensor:
    """S [1|L, 1|V] in the wide dtype, in the sums' unit; 1 where S is left out."""
    if not problem.divides_features:
        return torch.ones_like(sums[0])
    return _over_zero(sums[0], sums[1]) / math.sqrt(problem.generated.shape[-1])


def shared_sums(sums: Tensor, readings: Readings) -> Tensor:
    """Sum [..., L, V] over what shares a statistic."""
    if readings.statistics_scope == "batch":
        sums = sums.sum(-2, keepdim=True)
    if readings.location_sharing != "none":
        sums = sums.sum(-1, keepdim=True)
    return sums


def _over_zero(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Quotient with 0/0 := 0 (the paper has no floors, so that everything may coincide)."""
    return torch.where(denominator == 0, 0.0, numerator / denominator)


def _sets(problem: Problem, label: int) -> list[Tensor]:
    """Positives, generated and unconditional samples of one label [V, ·, C]."""
    return [each[label].transpose(0, 1).to(problem.dtype) for each in problem.sets]


def _all_pairs(problem: Problem, weight: Tensor, unit: Tensor | float) -> tuple[Tensor, Tensor]:
    """Weighted sums [L, V] of the distances between every two locations, and of their weights.

    The distances are formed in the unit of the label's largest group, the sums in ``unit``.
    """
    labels, count, vectors, _ = problem.generated.shape
    sums = torch.zeros((labels, vectors), dtype=problem.wide, device=weight.device)
    for label in range(labels):
        everywhere = torch.cat(_sets(problem, label), dim=1)
        own = 1.0
        if problem.units is not None:
            own = problem.units[label].amin().item()
            everywhere = everywhere * own
        everywhere = everywhere - everywhere.mean((0, 1))
        first = problem.positive.shape[1]
        for vector in range(vectors):
            points = everywhere[vector : vector + 1, first : first + count]
            found = exact_distances(points.expand(vectors, -1, -1).contiguous(), everywhere)
            if problem.readings.floors == "release":
                found.clamp_min_(RELEASE_DISTANCE * own)
            sums[label, vector] = (found.sum(-2, dtype=problem.wide) * weight[label]).sum()
        sums[label] *= (
            unit[-1 if len(unit) == 1 else label] if isinstance(unit, Tensor) else unit
        ) / own
    pairs = weight.sum(-1, keepdim=True).mul_(count * vectors).expand(labels, vectors)
    return sums, pairs


def drift_sums(problem: Problem, energy: Tensor) -> tuple[Tensor, int]:
    """Squares of the drifts [T, 1|L, 1|V] over the scope, and the number of entries summed."""
    _, count, _, channels = problem.generated.shape
    sums = shared_sums(energy, problem.readings)
    return sums, energy.numel() // sums.numel() * count * channels


def cross_sums(problem: Problem, products: list[Tensor]) -> list[Tensor]:
    """Products [L, V] of every two temperatures' drifts, summed over the scope [1|L, 1|V]."""
    return [shared_sums(each, problem.readings) for each in products]
