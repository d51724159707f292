"""Pairwise distances that stay right where samples coincide or share a large mean (EQ-12).

A Gram matrix is fast, and wrong by √eps·R where two samples coincide, which a temperature of 0.02
then amplifies; centring each group cures a common mean but not that. So pairs whose
squared distance falls below a threshold are computed again from differences.
"""

from __future__ import annotations

import torch
from torch import Tensor

from drifting_torch.problem.thresholds import near
from drifting_torch.problem.units import units_for

_DENSE = 8
"""Repairing pairs one by one pays while fewer than one pair in this many is to be repaired."""

FEW_CHANNELS = 4
"""Up to this many channels exact distances cost no more than the Gram matrix."""


def pair_distances(
    x: Tensor,
    y: Tensor,
    self_at: int | None = None,
    out: Tensor | None = None,
    norms: Tensor | None = None,
) -> Tensor:
    """Distances [B, N, M] between ``x`` [B, N, C] and ``y`` [B, M, C], in their dtype.

    Both are to be centred: measured from a common centre for each of the B groups. With
    ``self_at`` the columns from there on are ``x`` itself, whose own entries are exactly 0.
    ``norms`` [B, M] are those of ``y`` where they are known, and known to be ordinary numbers even
    when squared (``units``).
    On a GPU the distances are exact ones: finding the pairs to repair would stop the device.
    """
    if out is None:
        out = x.new_empty((*x.shape[:-1], y.shape[-2]))
    units = None
    if x.device.type != "cpu":
        norms = None
    elif norms is None:
        norms = _norms(y)
        units = units_for(y, norms)
        if units is not None:
            x, y = x * units, y * units
            norms = _norms(y)
    if norms is None or x.shape[-1] <= FEW_CHANNELS:
        out.copy_(exact_distances(x, y))
    else:
        _from_gram(x, y, self_at, out, norms)
    if self_at is not None:
        _own(out, self_at).zero_()
    return out if units is None else out.div_(units)


def _own(matrix: Tensor, self_at: int) -> Tensor:
    """View of the entries [B, N] that pair a sample with itself."""
    rows = matrix.shape[-2]
    return matrix[..., self_at : self_at + rows].diagonal(dim1=-2, dim2=-1)


def _norms(points: Tensor) -> Tensor:
    return torch.linalg.vector_norm(points, dim=-1)


def _from_gram(x: Tensor, y: Tensor, self_at: int | None, out: Tensor, norms: Tensor) -> None:
    squares = norms.square()
    own = _norms(x).square_() if self_at is None else squares[:, self_at:][:, : x.shape[1]]
    torch.add(own.unsqueeze(-1), squares.unsqueeze(-2), out=out)
    out.baddbmm_(x, y.mT, alpha=-2)
    if self_at is not None:  # known to be 0: nothing to repair
        _own(out, self_at).fill_(torch.inf)
    threshold = near(x.dtype)
    most = squares.amax(-1) + own.amax(-1)
    if bool((out.amin((-2, -1)) > most.mul_(threshold)).all()):
        out.sqrt_()
        return
    both = own.unsqueeze(-1) + squares.unsqueeze(-2)
    suspect = out < both.mul_(threshold)
    repairs = int(suspect.sum())
    if repairs * _DENSE > out.numel():
        out.copy_(exact_distances(x, y))
        return
    out.clamp_min_(0).sqrt_()
    if repairs:
        group, row, column = suspect.nonzero().unbind(1)
        out[group, row, column] = (x[group, row] - y[group, column]).square_().sum(-1).sqrt_()


def exact_distances(x: Tensor, y: Tensor) -> Tensor:
    """Distances from differences, without an [B, N, M, C] tensor."""
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")
