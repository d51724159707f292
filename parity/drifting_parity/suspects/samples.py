"""What the textbook is given: the samples of one feature and their kernel weights.

Shapes use the letters L labels, N generated, P positives, U unconditional, V vectors, C channels.
Inside, every label and vector is a group of its own, [L, V, ·, C]; the M columns of Algorithm 2
stand in the order positives, generated (as negatives), unconditional.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Samples:
    """Samples in groups, all weights filled in, and which pairs are a sample with itself.

    ``x`` [L, V, N, C], ``positive`` [L, V, P, C], ``negative`` [L, V, M − P, C]; ``weight``
    [L, 1, M]. The first ``own`` negatives are x itself (N inside the loss, 0 for a field whose
    negatives are other points).
    """

    x: Tensor
    positive: Tensor
    negative: Tensor
    weight: Tensor
    own: int

    @property
    def positives(self) -> int:
        """P, the number of columns that are positives."""
        return self.positive.shape[-2]

    @property
    def channels(self) -> int:
        """C."""
        return self.x.shape[-1]

    @property
    def targets(self) -> Tensor:
        """Every column of Algorithm 2. [L, V, M, C]."""
        return torch.cat([self.positive, self.negative], dim=-2)

    @property
    def self_pairs(self) -> Tensor:
        """Which pairs (x_i, column m) are a sample with itself. Booleans [N, M]."""
        rows, columns = self.x.shape[-2], self.weight.shape[-1]
        pairs = torch.zeros(rows, columns, dtype=torch.bool, device=self.x.device)
        if self.own:
            pairs[:, self.positives : self.positives + rows].fill_diagonal_(True)
        return pairs


def _per_label(name: str, weight: Tensor | None, samples: Tensor) -> Tensor:
    """Weights of the samples [L, K, V, C] as [L, K]; ones where none are given."""
    labels, count = samples.shape[:2]
    if weight is None:
        return samples.new_ones(labels, count)
    weight = weight.to(samples.dtype)
    if weight.dim() == 1 and len(weight) == labels:
        return weight[:, None].expand(labels, count)
    if weight.shape != (labels, count):
        raise ValueError(
            f"{name} has shape {tuple(weight.shape)}, expected ({labels},) or ({labels}, {count})"
        )
    return weight


def gather(
    generated: Tensor,
    positive: Tensor,
    unconditional: Tensor | None,
    unconditional_weight: Tensor | None,
    generated_weight: Tensor | None,
    positive_weight: Tensor | None,
) -> Samples:
    """Bring the inputs of the loss into groups; ``ValueError`` names what does not fit.

    ``generated`` [L, N, V, C], ``positive`` [L, P, V, C], ``unconditional`` [L, U, V, C]; weights
    [L] or one for each sample, as [L, U].
    """
    labels, _, vectors, channels = generated.shape
    for name, samples in (("positive", positive), ("unconditional", unconditional)):
        if samples is None:
            continue
        expected = (labels, samples.shape[1], vectors, channels)
        if samples.shape != expected:
            raise ValueError(f"{name} has shape {tuple(samples.shape)}, expected {expected}")
    if (unconditional is None) != (unconditional_weight is None):
        raise ValueError("unconditional and unconditional_weight go together: give both or neither")
    negative = [generated]
    weights = [
        _per_label("positive_weight", positive_weight, positive),
        _per_label("generated_weight", generated_weight, generated),
    ]
    if unconditional is not None:
        negative.append(unconditional)
        weights.append(_per_label("unconditional_weight", unconditional_weight, unconditional))
    return Samples(
        x=generated.transpose(1, 2),
        positive=positive.transpose(1, 2),
        negative=torch.cat(negative, dim=1).transpose(1, 2),
        weight=torch.cat(weights, dim=1)[:, None, :],
        own=generated.shape[1],
    )
