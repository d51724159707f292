"""One feature's inputs, and its groups gathered a chunk at a time (A.6).

A group is one label and one vector. A chunk of groups is small enough to stay in cache.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from drifting_spec import Readings

_CHUNK_ENTRIES = {"cpu": 2**18}
"""Entries of one chunk's [groups, N, M] buffer: a MiB in float32, near enough to a core."""

_KEPT_ENTRIES = 2**23
"""Entries of a feature's targets up to which they are gathered once and kept: 32 MiB."""

_CHUNK_ENTRIES_ELSEWHERE = 2**26


@dataclass(frozen=True)
class Problem:
    """One feature's inputs, checked, and the arithmetic to treat them in.

    ``weight`` [L, M] holds the kernel weights in the order of the targets, None if all are one.
    ``normalized=False`` leaves out A.6: raw distances, raw temperatures, no S and no λ.
    """

    generated: Tensor
    positive: Tensor
    unconditional: Tensor | None
    weight: Tensor | None
    temperatures: tuple[float, ...]
    readings: Readings
    dtype: torch.dtype
    normalized: bool = True

    @property
    def targets(self) -> int:
        """M, the number of targets of each generated sample."""
        extra = 0 if self.unconditional is None else self.unconditional.shape[1]
        return self.positive.shape[1] + self.generated.shape[1] + extra

    @property
    def wide(self) -> torch.dtype:
        """The dtype of sums over the batch."""
        return torch.float32 if self.generated.device.type == "mps" else torch.float64


@dataclass(frozen=True)
class Chunk:
    """Some labels and vectors, and their targets [B, M, C] measured from each group's mean."""

    labels: slice
    vectors: slice
    targets: Tensor

    def part(self, tensor: Tensor) -> Tensor:
        """View of this chunk's groups in a tensor [L, V, ...]."""
        return tensor[self.labels, self.vectors]


def group_slices(problem: Problem) -> Iterator[tuple[slice, slice]]:
    """Go over all groups, a few at a time: whole labels, or vectors of one label."""
    labels, count, vectors, _ = problem.generated.shape
    entries = _CHUNK_ENTRIES.get(problem.generated.device.type, _CHUNK_ENTRIES_ELSEWHERE)
    groups = max(1, entries // (count * problem.targets))
    label_step = max(1, groups // vectors)
    vector_step = min(vectors, groups)
    for label in range(0, labels, label_step):
        for vector in range(0, vectors, vector_step):
            yield slice(label, label + label_step), slice(vector, vector + vector_step)


def chunks(problem: Problem) -> Iterable[Chunk]:
    """Every chunk: all kept where the feature is small, else gathered again at each use."""
    gathered = (_chunk(problem, labels, vectors) for labels, vectors in group_slices(problem))
    labels, _, vectors, channels = problem.generated.shape
    entries = labels * vectors * problem.targets * channels
    if problem.generated.device.type == "cpu" and entries <= _KEPT_ENTRIES:
        return list(gathered)
    return Regathered(problem)


@dataclass(frozen=True)
class Regathered:
    """Chunks that are gathered anew each time one goes over them."""

    problem: Problem

    def __iter__(self) -> Iterator[Chunk]:
        """Gather one chunk after the other."""
        for labels, vectors in group_slices(self.problem):
            yield _chunk(self.problem, labels, vectors)


def _chunk(problem: Problem, labels: slice, vectors: slice) -> Chunk:
    """Gather the targets of some groups, in the arithmetic's dtype, and centre them."""
    sets = [problem.positive, problem.generated]
    if problem.unconditional is not None:
        sets.append(problem.unconditional)
    parts = [samples[labels, :, vectors].transpose(1, 2) for samples in sets]
    head = parts[0]
    gathered = torch.empty(
        (*head.shape[:2], problem.targets, head.shape[3]), dtype=problem.dtype, device=head.device
    )
    for part, room in zip(
        parts, gathered.split([part.shape[2] for part in parts], dim=2), strict=True
    ):
        room.copy_(part)
    targets = gathered.flatten(0, 1)
    targets.sub_(targets.mean(1, keepdim=True))
    return Chunk(labels, vectors, targets)
