"""The drifting loss of one feature in plain PyTorch, without guidance: Algorithm 2 and A.6.

Every matrix is kept whole: for reading, and to be judged by ``judge_a_loss.py``. For training use
``drifting_torch.drifting_loss``, which is the same and faster.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def plain_drifting_loss(
    generated: Tensor, positive: Tensor, temperatures: Sequence[float] = (0.02, 0.05, 0.2)
) -> Tensor:
    """MSE(φ̃ − sg(φ̃ + Ṽ)) of samples [labels, N, vectors, C] and real ones [labels, P, vectors, C].

    Gradients reach ``generated`` alone.
    """
    x = generated.detach().transpose(1, 2)
    y = torch.cat([positive.detach().transpose(1, 2), x], dim=2)
    count, root = positive.shape[1], generated.shape[-1] ** 0.5
    distance = torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")
    scale = above_zero(distance.mean() / root)  # S: afterwards the mean distance is √C
    own = torch.eye(x.shape[2], dtype=torch.bool, device=x.device)
    own = torch.cat([own.new_zeros(len(own), count), own], dim=1)
    total, place = torch.zeros_like(x), y - y[:, :, :1]  # where the origin is does not matter
    for temperature in temperatures:
        logit = (-distance / (scale * temperature * root)).masked_fill(own, -torch.inf)
        # NaN where a lone sample is alone with itself: it has no negatives then.
        affinity = (logit.softmax(-1) * logit.softmax(-2).nan_to_num()).sqrt()
        near, far = affinity[..., :count], affinity[..., count:]
        near, far = near * far.sum(-1, keepdim=True), far * near.sum(-1, keepdim=True)
        drift = near @ place[:, :, :count] - far @ place[:, :, count:]
        total += drift / above_zero(drift.square().mean().sqrt())  # λ
    phi = generated / scale
    target = phi.detach() + total.transpose(1, 2)
    return (phi - target).square().mean(dim=(1, 3)).sum(dim=1).mean()


def above_zero(divisor: Tensor) -> Tensor:
    """1 for a divisor of 0: what it divides is 0 as well then."""
    return torch.where(divisor > 0, divisor, 1.0)
