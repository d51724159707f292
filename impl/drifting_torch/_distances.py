"""Pairwise distances that stay right where samples coincide or share a large mean (EQ-12).

A Gram matrix is fast, and wrong by √eps·R where two samples coincide, which a temperature of 0.02
then amplifies; centring each group on its targets cures a common mean but not that. So pairs whose
squared distance falls below a threshold are computed again from differences.
"""

from __future__ import annotations

import torch
from torch import Tensor

_DENSE = 8
"""Repairing pairs one by one pays while fewer than one pair in this many is to be repaired."""

_FEW_CHANNELS = 4
"""Up to this many channels exact distances cost no more than the Gram matrix."""


def pair_distances(x: Tensor, y: Tensor, x_centred: Tensor, y_centred: Tensor) -> Tensor:
    """Distances [B, N, M] between ``x`` [B, N, C] and ``y`` [B, M, C], in their dtype.

    The centred copies are the same points less a common centre for each of the B groups.
    On a GPU the distances are exact ones: finding the pairs to repair would stop the device.
    """
    if x.shape[-1] <= _FEW_CHANNELS or x.device.type != "cpu":
        return exact_distances(x, y)
    x_norm = x_centred.square().sum(-1).unsqueeze(-1)
    y_norm = y_centred.square().sum(-1).unsqueeze(-2)
    squared = torch.baddbmm(x_norm + y_norm, x_centred, y_centred.mT, alpha=-2)
    # The Gram form errs by about eps·(|x|²+|y|²), so by eps·(|x|²+|y|²) / 2d in the distance. At
    # the threshold d² = √√eps·(|x|²+|y|²) that is 4e-7 of the norms in float32, 6e-15 in float64.
    threshold = torch.finfo(x.dtype).eps ** 0.25
    suspect = squared < threshold * (x_norm + y_norm)
    pairs = suspect.nonzero()
    if len(pairs) * _DENSE > squared.numel():
        return exact_distances(x, y)
    distances = squared.clamp_min_(0).sqrt_()
    if len(pairs):
        group, row, column = pairs.unbind(1)
        distances[group, row, column] = (x[group, row] - y[group, column]).square_().sum(-1).sqrt_()
    return distances


def exact_distances(x: Tensor, y: Tensor) -> Tensor:
    """Distances from differences, without an [B, N, M, C] tensor."""
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")
