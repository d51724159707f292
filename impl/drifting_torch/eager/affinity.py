"""Algorithm 2 from distances to the drift's coefficients, for every reading of its axes.

Targets stand in the order positives, generated samples as negatives, unconditional samples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from drifting_spec import Readings, implements
from drifting_torch.problem.readings import added_to_self, affinity_floor


@dataclass(frozen=True)
class Targets:
    """How the M columns of a distance matrix are made up.

    ``positives`` columns come first; ``masked`` says whether the next N are the generated samples
    themselves, each row's own to be masked. ``weight`` [B, 1, M] holds the kernel weights, None
    where all are one.
    """

    positives: int
    masked: bool
    weight: Tensor | None = None


def self_entries(matrix: Tensor, targets: Targets) -> Tensor:
    """View of the entries [B, N] that pair a generated sample with itself."""
    rows = matrix.shape[-2]
    return matrix[..., targets.positives : targets.positives + rows].diagonal(dim1=-2, dim2=-1)


@implements("ALG2-3")
def masked_logits(
    distances: Tensor, factor: Tensor, mask_shift: Tensor, targets: Targets, readings: Readings
) -> Tensor:
    """Logits −d·factor [B, N, M] with every sample's own entry masked as the reading says.

    ``factor`` and ``mask_shift`` broadcast to [B, 1, 1]: the inverse temperature in units of the
    distances, and what one unit of the additive masks is in logits.
    """
    logits = distances * (-factor)
    if targets.masked:
        own = self_entries(logits, targets)
        size = added_to_self(readings)
        if size is None:
            own.fill_(-math.inf)
        else:
            own.sub_(size * mask_shift.squeeze(-1))
    return logits


@implements("ALG2-4", "ALG2-5", "ALG2-6", "ALG2-7", "EQ-27", "A7-w")
def affinities(logits: Tensor, targets: Targets, readings: Readings) -> Tensor:
    """Affinities A [B, N, M] of the logits, weights included.

    Formed as exp(logit − normaliser), so that neither a product of softmaxes nor a far cluster
    underflows before the root is taken.
    """
    weight = targets.weight
    if readings.softmax_axes == "none":
        return _weighted(logits.exp_(), weight)
    rows = _row_normalizer(logits, targets, readings)
    if readings.softmax_axes == "y":
        affinity = (logits - rows).exp_()
        _clear_excluded(affinity, targets, readings, 0.0)
        return _weighted(affinity, weight)
    columns = _finite(torch.logsumexp(logits, dim=-2, keepdim=True))
    power = 0.5 if readings.softmax_combination == "sqrt" else 1.0
    affinity = logits.sub_(rows, alpha=0.5).sub_(columns, alpha=0.5)
    affinity = affinity.exp_() if power == 0.5 else affinity.mul_(2).exp_()
    inside = readings.unconditional_weight == "log_in_softmaxes"
    if inside and weight is not None:
        affinity = _weighted(affinity, weight**power)
    floor = affinity_floor(readings) ** power
    _clear_excluded(affinity, targets, readings, floor)
    if floor:
        affinity.clamp_min_(floor)
    return affinity if inside else _weighted(affinity, weight)


def _weighted(affinity: Tensor, weight: Tensor | None) -> Tensor:
    """Weigh the columns; one of weight 0 is absent, however large its unweighted entries are."""
    if weight is None:
        return affinity
    return affinity.mul_(weight).masked_fill_(weight == 0, 0.0)


def _row_normalizer(logits: Tensor, targets: Targets, readings: Readings) -> Tensor:
    """Logarithm of the sums over y [B, N, 1], or [B, N, M] where the two sets have one each."""
    weighted = logits
    if targets.weight is not None and readings.unconditional_weight != "after_softmaxes":
        weighted = logits + targets.weight.log()
    if readings.kernel_normalization == "joint":
        return _finite(torch.logsumexp(weighted, dim=-1, keepdim=True))
    positive, negative = weighted.tensor_split([targets.positives], dim=-1)
    return torch.cat(
        [
            _finite(torch.logsumexp(part, dim=-1, keepdim=True)).expand_as(part)
            for part in (positive, negative)
        ],
        dim=-1,
    )


def _finite(normalizer: Tensor) -> Tensor:
    """An empty softmax (every entry excluded) gives zeros: its normaliser must not be −inf."""
    return normalizer.masked_fill_(normalizer == -math.inf, 0.0)


def _clear_excluded(affinity: Tensor, targets: Targets, readings: Readings, value: float) -> None:
    if targets.masked and readings.self_mask == "exclude":
        self_entries(affinity, targets).fill_(value)


@implements("ALG2-8", "ALG2-9", "EQ-17")
def balanced(affinity: Tensor, targets: Targets) -> Tensor:
    """Coefficients [B, N, M] of the drift, in place: W_pos, and −W_neg; each row sums to zero.

    Both factors are the unmodified row sums: the in-place form printed in Algorithm 2 would scale
    W_neg by an already scaled A_pos (P-25).
    """
    positive, negative = affinity.tensor_split([targets.positives], dim=-1)
    positive_mass = positive.sum(-1, keepdim=True)
    negative_mass = negative.sum(-1, keepdim=True)
    positive.mul_(negative_mass)
    negative.mul_(positive_mass.neg_())
    return affinity
