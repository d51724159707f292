"""The form that public ports take: every tensor whole, expanded squares, two softmaxes each.

It computes the loss of one feature under the ``release`` readings; the field is formed without a
graph, the loss is an ordinary mean of squares. It is what the benchmark compares with.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def textbook_loss(
    generated: Tensor,
    positive: Tensor,
    unconditional: Tensor,
    weight: Tensor,
    temperatures: tuple[float, ...],
) -> Tensor:
    """Loss of one feature, [L, N, V, C] and weights [L, U], as one batch of L·V groups."""
    labels, vectors = generated.shape[0], generated.shape[2]
    x = _grouped(generated)
    with torch.no_grad():
        goal, scale = _goal(
            x, _grouped(positive), _grouped(unconditional), _columns(weight, vectors), temperatures
        )
    per_group = (x / scale - goal).square().mean((1, 2))
    return per_group.view(labels, vectors).mean(1).mean()


def _grouped(samples: Tensor) -> Tensor:
    return samples.transpose(1, 2).flatten(0, 1)


def _columns(weight: Tensor, vectors: int) -> Tensor:
    return weight.repeat_interleave(vectors, 0)


def _goal(
    x: Tensor,
    positive: Tensor,
    unconditional: Tensor,
    weight: Tensor,
    temperatures: tuple[float, ...],
) -> tuple[Tensor, Tensor]:
    count, channels = x.shape[1:]
    targets = torch.cat([x, unconditional, positive], 1)
    ones = torch.ones_like
    columns = torch.cat([ones(x[..., 0]), weight, ones(positive[..., 0])], 1)
    squares = x.square().sum(-1)[:, :, None] + targets.square().sum(-1)[:, None, :]
    cross = torch.einsum("bic,bjc->bij", x, targets)
    distance = (squares - 2 * cross).clamp_min(1e-8).sqrt()
    mean = (distance * columns[:, None, :]).mean() / columns.mean()
    scale = (mean / math.sqrt(channels)).clamp_min(1e-3)
    unit = distance / mean.clamp_min(1e-3)
    mask = torch.zeros_like(unit)
    mask[:, :, :count] = 100 * torch.eye(count, dtype=x.dtype, device=x.device)
    unit = unit + mask
    at, points = targets / scale, x / scale
    negatives = count + unconditional.shape[1]
    total = torch.zeros_like(points)
    for temperature in temperatures:
        logits = -unit / temperature
        affinity = (logits.softmax(-1) * logits.softmax(-2)).clamp_min(1e-6).sqrt()
        affinity = affinity * columns[:, None, :]
        repel, attract = affinity[:, :, :negatives], affinity[:, :, negatives:]
        repelled = repel * attract.sum(-1, keepdim=True)
        attracted = attract * repel.sum(-1, keepdim=True)
        force = torch.einsum("bij,bjc->bic", attracted, at[:, negatives:])
        force = force - torch.einsum("bij,bjc->bic", repelled, at[:, :negatives])
        total = total + force / force.square().mean().clamp_min(1e-8).sqrt()
    return points + total, scale
