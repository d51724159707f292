"""The groups of one feature, gathered a chunk at a time (A.6).

A group is one label and one vector. A chunk of groups is small enough to stay in cache.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from drifting_torch.problem.problem import Problem
from drifting_torch.problem.units import ordinary_range

_CHUNK_ENTRIES = {"cpu": 2**18}
"""Entries of one chunk's [groups, N, M] distances: between the cost of calls and that of caches."""

_KEPT_ENTRIES = 3 * 2**22
"""Entries of a feature's targets and distances up to which the targets are gathered only once."""

_CHUNK_ENTRIES_ELSEWHERE = 2**25

_PAGE, _PADDING = 4096, 32
"""Rows a multiple of so many bytes apart share few lines of a cache: there they are padded."""


@dataclass(frozen=True)
class Chunk:
    """Some groups among all L·V, and their targets [B, M, C] measured from each group's centre."""

    groups: slice
    targets: Tensor

    @cached_property
    def norms(self) -> Tensor:
        """The targets' norms [B, M, 1]."""
        return torch.linalg.vector_norm(self.targets, dim=-1, keepdim=True)


def group_slices(problem: Problem) -> Iterator[slice]:
    """Go over all groups, a few at a time: whole labels, or vectors of one label."""
    labels, count, vectors, _ = problem.generated.shape
    entries = _CHUNK_ENTRIES.get(problem.generated.device.type, _CHUNK_ENTRIES_ELSEWHERE)
    most = max(1, entries // (count * problem.targets))
    stride = vectors * max(1, most // vectors)
    step = min(stride, most)
    for first in range(0, labels * vectors, stride):
        last = min(first + stride, labels * vectors)
        for start in range(first, last, step):
            yield slice(start, min(start + step, last))


def chunks(problem: Problem) -> Iterable[Chunk]:
    """Every chunk: all kept where the feature is small, else gathered again at each use."""
    labels, count, vectors, channels = problem.generated.shape
    entries = labels * vectors * problem.targets * (count + channels)
    if problem.generated.device.type == "cpu" and entries <= _KEPT_ENTRIES:
        return list(Regathered(problem))
    return Regathered(problem)


@dataclass(frozen=True)
class Regathered:
    """Chunks that are gathered anew each time one goes over them."""

    problem: Problem

    def __iter__(self) -> Iterator[Chunk]:
        """Gather one chunk after the other."""
        for groups in group_slices(self.problem):
            yield Chunk(groups, _targets(self.problem, groups))


def _targets(problem: Problem, groups: slice) -> Tensor:
    """Gather the targets [B, M, C] of some groups in the arithmetic's dtype, and centre them."""
    _, _, vectors, channels = problem.generated.shape
    label, vector = divmod(groups.start, vectors)
    size = groups.stop - groups.start
    labels = slice(label, label + max(1, size // vectors))
    width = slice(vector, vector + min(size, vectors))
    apart = channels + (_PADDING if channels * problem.dtype.itemsize % _PAGE == 0 else 0)
    gathered = torch.empty(
        (size, problem.targets, apart), dtype=problem.dtype, device=problem.generated.device
    )[..., :channels]
    shaped = gathered.view(-1, width.stop - width.start, problem.targets, channels)
    sizes = [each.shape[1] for each in problem.sets]
    positive, generated, *others = shaped.split(sizes, 2)
    parts = [each[labels, :, width].transpose(1, 2) for each in problem.sets]
    if problem.units is not None:
        units = problem.units[labels, width, None, None].to(problem.dtype)
        parts = [each.to(problem.dtype) * units for each in parts]
    # Measured from the generated samples: others may lie anywhere if they weigh nothing. Copied
    # before their mean is taken, which else would be rounded as their strides have it.
    centre = generated.copy_(parts.pop(1)).mean(2, keepdim=True)
    generated.sub_(centre)
    for part, into in zip(parts, (positive, *others), strict=True):
        torch.sub(part, centre, out=into)
    return gathered


def ordinary(chunk: Chunk) -> bool:
    """Whether squares of all the chunk's distances fit its dtype; where all coincide they do."""
    sizes = chunk.norms.amax((1, 2))
    lowest, highest = sizes.aminmax()
    least, most = ordinary_range(sizes.dtype)
    if least < lowest.item() and highest.item() < most:
        return True
    beyond = ~((sizes > least) & (sizes < most))  # nan is beyond
    return not bool(chunk.targets[beyond].any())
