"""The groups of one feature, gathered a chunk at a time (A.6).

A group is one label and one vector. A chunk of groups is small enough to stay in cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from drifting_torch.eager.fused import call
from drifting_torch.problem.problem import Problem
from drifting_torch.problem.units import ordinary_range

_CHUNK_ENTRIES = {"cpu": 2**18}
"""Entries of one chunk's [groups, N, M] distances: between the cost of calls and that of caches."""

_KEPT_ENTRIES = 3 * 2**22
"""Entries of a feature's targets and distances up to which the targets are gathered only once."""

_CHUNK_ENTRIES_ELSEWHERE = 2**25

MANY_CHANNELS = 4
"""Channels per target from which Gram matrices pay."""

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


class Whole(NamedTuple):
    """The Gram matrices [L·V, M, M] of all groups' targets, and those [L·V, M, C] if kept."""

    gram: Tensor
    targets: Tensor | None


@dataclass(frozen=True)
class Chunks:
    """Every chunk of a feature, gathered when it is asked for; kept where the feature is small."""

    problem: Problem
    keeps: bool
    _kept: dict[int, Chunk] = field(default_factory=dict[int, Chunk])

    def __iter__(self) -> Iterator[Chunk]:
        """Go over all chunks."""
        return map(self._of, group_slices(self.problem))

    def unserved(self, served: Tensor | None) -> Iterator[Chunk]:
        """Go over those with groups for which ``served`` [L·V] is 0; all if it is None."""
        if served is not None and bool(served.all()):
            return iter(())
        left = group_slices(self.problem)
        return map(self._of, (each for each in left if served is None or not served[each].all()))

    def _of(self, groups: slice) -> Chunk:
        if groups.start in self._kept:
            return self._kept[groups.start]
        chunk = Chunk(groups, _targets(self.problem, groups))
        if self.keeps:
            self._kept[groups.start] = chunk
        return chunk

    def kept(self) -> tuple[Tensor, ...]:
        """All groups' targets in their order."""
        if self.whole is not None and self.whole.targets is not None:
            return (self.whole.targets,)
        return tuple(chunk.targets for chunk in self)

    @cached_property
    def whole(self) -> Whole | None:
        """What compiled code makes of many channels; None where it does not or channels are few."""
        problem = self.problem
        labels, _, vectors, channels = problem.generated.shape
        if problem.generated.device.type != "cpu" or channels < MANY_CHANNELS * problem.targets:
            return None
        groups = labels * vectors
        targets = _room(problem, groups) if self.keeps else None
        shape = (groups, problem.targets, problem.targets)
        gram = problem.generated.new_empty(shape, dtype=problem.dtype)
        done = call.gram(self.feature, targets, gram)
        return Whole(gram, targets) if done else None

    @cached_property
    def feature(self) -> call.Feature | None:
        """The samples as compiled code reads them, None where it cannot."""
        sets = [each.detach().to(self.problem.dtype) for each in self.problem.sets]
        return call.feature_of(sets, self.problem.units)


def chunks(problem: Problem) -> Chunks:
    """The chunks of a feature."""
    labels, count, vectors, channels = problem.generated.shape
    entries = labels * vectors * problem.targets * (count + channels)
    return Chunks(problem, problem.generated.device.type == "cpu" and entries <= _KEPT_ENTRIES)


def _targets(problem: Problem, groups: slice) -> Tensor:
    """Gather the targets [B, M, C] of some groups in the arithmetic's dtype, and centre them."""
    _, _, vectors, channels = problem.generated.shape
    label, vector = divmod(groups.start, vectors)
    size = groups.stop - groups.start
    labels = slice(label, label + max(1, size // vectors))
    width = slice(vector, vector + min(size, vectors))
    gathered = _room(problem, size)
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


def _room(problem: Problem, groups: int) -> Tensor:
    """Memory for the targets [B, M, C] of some groups."""
    channels, dtype = problem.generated.shape[-1], problem.dtype
    apart = channels + (_PADDING if channels * dtype.itemsize % _PAGE == 0 else 0)
    memory = problem.generated.new_empty((groups, problem.targets, apart), dtype=dtype)
    return memory[..., :channels]


def ordinary(chunk: Chunk) -> bool:
    """Whether squares of all the chunk's distances fit its dtype; where all coincide they do."""
    sizes = chunk.norms.amax((1, 2))
    lowest, highest = sizes.aminmax()
    least, most = ordinary_range(sizes.dtype)
    if least < lowest.item() and highest.item() < most:
        return True
    beyond = ~((sizes > least) & (sizes < most))  # nan is beyond
    return not bool(chunk.targets[beyond].any())
