"""Losses between samples that are no drifting loss, for the confusion table.

Nothing of the catalogue is in them: an explanation that names some of it is false. Each takes the
samples of one label and vector, x [N, C] and y [P, C].
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from drifting_parity import forms
from drifting_parity.adapters.base import Adapter


def matched_means(gen: Tensor, pos: Tensor) -> Tensor:
    """The squared distance of the two means."""
    return (gen.mean(0) - pos.mean(0)).square().sum()


def matched_covariances(gen: Tensor, pos: Tensor) -> Tensor:
    """The squared difference of the two covariances."""
    difference = torch.cov(gen.T, correction=0) - torch.cov(pos.T, correction=0)
    return difference.square().mean()


def energy_distance(gen: Tensor, pos: Tensor) -> Tensor:
    """Twice the mean distance between the sets less that within the samples."""
    return 2.0 * torch.cdist(gen, pos).mean() - torch.cdist(gen, gen).mean()


def gaussian_discrepancy(gen: Tensor, pos: Tensor) -> Tensor:
    """The maximum mean discrepancy under a Gaussian kernel."""

    def kernel(x: Tensor, y: Tensor) -> Tensor:
        return (-0.5 * torch.cdist(x, y).square()).exp().mean()

    return kernel(gen, gen) - 2.0 * kernel(gen, pos) + kernel(pos, pos)


def laplace_discrepancy(gen: Tensor, pos: Tensor) -> Tensor:
    """The same under the kernel of the paper."""

    def kernel(x: Tensor, y: Tensor) -> Tensor:
        return (-torch.cdist(x, y)).exp().mean()

    return kernel(gen, gen) - 2.0 * kernel(gen, pos) + kernel(pos, pos)


def paired(gen: Tensor, pos: Tensor) -> Tensor:
    """The squared error of pairs in the order in which they come."""
    count = min(len(gen), len(pos))
    return (gen[:count] - pos[:count]).square().mean()


def chamfer(gen: Tensor, pos: Tensor) -> Tensor:
    """The mean distance to the nearest of the other set, both ways."""
    distances = torch.cdist(gen, pos)
    return distances.amin(1).mean() + distances.amin(0).mean()


def to_the_nearest(gen: Tensor, pos: Tensor) -> Tensor:
    """The squared error to the nearest real sample."""
    nearest = torch.cdist(gen, pos).argmin(1)
    return (gen - pos[nearest]).square().mean()


def contrastive(gen: Tensor, pos: Tensor) -> Tensor:
    """Cross entropy of the real sample of one's own place."""
    count = min(len(gen), len(pos))
    logs = torch.log_softmax(-torch.cdist(gen, pos), 1)
    return -logs[:count, :count].diag().mean()


def mean_shift(gen: Tensor, pos: Tensor, temperatures: Any = (0.3,)) -> Tensor:
    """Towards the real samples by a softmax over them; nothing repels."""
    weights = torch.softmax(-torch.cdist(gen, pos) / temperatures[0], 1)
    return (gen - (weights @ pos).detach()).square().mean()


def attention(gen: Tensor, pos: Tensor, temperatures: Any = (0.3,)) -> Tensor:
    """The same by inner products."""
    weights = torch.softmax(gen @ pos.T / temperatures[0], 1)
    return (gen - (weights @ pos).detach()).square().mean()


def transport(gen: Tensor, pos: Tensor, temperatures: Any = (0.3,)) -> Tensor:
    """Towards the means of an entropic transport plan, by 30 rounds of Sinkhorn."""
    logs = -torch.cdist(gen, pos) / temperatures[0]
    for _ in range(30):
        logs = logs.log_softmax(1)
        logs = logs.log_softmax(0)
    plan = logs.softmax(1)
    return (gen - (plan @ pos).detach()).square().mean()


def density_ratio(gen: Tensor, pos: Tensor, temperatures: Any = (0.3,)) -> Tensor:
    """The mean log ratio of two kernel densities, the sample itself left out."""
    own = torch.eye(len(gen), dtype=gen.dtype) * 1e6
    real = torch.logsumexp(-torch.cdist(gen, pos) / temperatures[0], 1)
    other = torch.logsumexp(-(torch.cdist(gen, gen) + own) / temperatures[0], 1)
    return (other - real).mean()


def nothing(gen: Tensor, pos: Tensor) -> Tensor:
    """0, with a gradient of zeros."""
    return (0.0 * gen).sum() + (0.0 * pos).sum()


def small(gen: Tensor, pos: Tensor) -> Tensor:
    """The samples' mean square: the real ones have no part in it."""
    return gen.square().mean() + 0.0 * pos.sum()


ALL: Final[tuple[Callable[..., Tensor], ...]] = (
    matched_means,
    matched_covariances,
    energy_distance,
    gaussian_discrepancy,
    laplace_discrepancy,
    paired,
    chamfer,
    to_the_nearest,
    contrastive,
    mean_shift,
    attention,
    transport,
    density_ratio,
    nothing,
    small,
)


@dataclass(frozen=True)
class OtherLoss:
    """One of them as a subject of the table."""

    function: Callable[..., Tensor]

    @property
    def name(self) -> str:
        """Its name in words."""
        return self.function.__name__.replace("_", " ")

    def adapter(self) -> Adapter:
        """The loss of one label and vector, looped over."""
        return forms.class_loss(self.function, "sample channel", loop="label vector")
