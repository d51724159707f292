"""From kept distances to the coefficients of the drift, a chunk at a time (Algorithm 2, EQ-22).

All temperatures at once where one exponential serves them, else one after the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from drifting_spec import implements
from drifting_torch.eager import affinity_powers
from drifting_torch.eager.affinity import (
    Targets,
    affinities,
    balanced,
    masked_logits,
    self_entries,
)
from drifting_torch.eager.affinity_powers import Kernel
from drifting_torch.eager.chunks import Chunk
from drifting_torch.problem.ablation import Ablation
from drifting_torch.problem.problem import Problem
from drifting_torch.problem.readings import (
    mask_logits,
    mask_unit,
    root_scaled,
    takes_geometric_mean,
)


@dataclass
class Coefficients:
    """A problem's coefficients, once S is known.

    ``per_distance`` and ``per_coordinate`` [L·V, 1, 1], or of one element, are the inverse scales
    of distances and coordinates, ``weight`` [L·V, 1, M] or [1, 1, M] the kernel weights.
    ``kernel`` is what one exponential for all temperatures takes, of all groups; None where it does
    not serve. The buffers [B, T, N, M] are made at the first chunk, which is the largest.
    """

    problem: Problem
    per_distance: Tensor
    per_coordinate: Tensor
    weight: Tensor | None
    kernel: Kernel | None
    spare: Tensor | None = None
    found: Tensor | None = None

    @classmethod
    def of(
        cls,
        problem: Problem,
        per_coordinate: Tensor,
        per_distance: Tensor,
        unit: Tensor | float = 1.0,
    ) -> Coefficients:
        """Those of the inverse scales [1|L, 1|V] that the readings' floors leave, in ``unit``."""
        labels, _, vectors, _ = problem.generated.shape

        def of_groups(inverse: Tensor) -> Tensor:
            if problem.units is not None:
                inverse = inverse * (unit / problem.units)
            shared = inverse if inverse.numel() == 1 else inverse.expand(labels, vectors)
            return shared.reshape(-1, 1, 1)

        weight = problem.weight
        if weight is not None:
            weight = weight.to(problem.dtype).unsqueeze(1)
            if labels > 1:
                weight = weight.repeat_interleave(vectors, 0)
        inverses = of_groups(per_distance), of_groups(per_coordinate)
        return cls(problem, *inverses, weight, _kernel(problem, *inverses, weight))

    def fill(self, chunk: Chunk, distances: Tensor, out: Tensor | None = None) -> Tensor:
        """Every temperature's coefficients [B, T, N, M] of a chunk on φ̃, in ``out`` if given.

        The product of the coefficients with the chunk's targets is V. ``distances`` [B, N, M] are
        the chunk's. Without ``out`` the next chunk's overwrite these.
        """
        groups, *rest = distances.shape
        if out is None:
            if self.found is None:
                self.found = self._buffer(groups, *rest)
            out = self.found[:groups]
        if self.kernel is not None:
            if self.spare is None:
                self.spare = self._buffer(groups, *rest)
            kernel = replace(
                self.kernel,
                rate=_of(chunk, self.kernel.rate),
                scale=_of(chunk, self.kernel.scale),
                targets=self._targets(chunk),
            )
            if affinity_powers.fill_coefficients(distances, kernel, self.spare[:groups], out):
                return scaled(out, self._targets(chunk), self.problem.ablation)
        self._one_by_one(chunk, distances, out)
        return scaled(out, self._targets(chunk), self.problem.ablation)

    def _buffer(self, groups: int, count: int, targets: int) -> Tensor:
        shape = (groups, len(self.problem.temperatures), count, targets)
        return torch.empty(shape, dtype=self.problem.dtype, device=self.problem.generated.device)

    def _one_by_one(self, chunk: Chunk, distances: Tensor, out: Tensor) -> None:
        """Temperature by temperature, under any readings."""
        problem = self.problem
        scale = _of(chunk, self.per_coordinate).to(problem.dtype)
        for index, (logits, targets) in enumerate(self.logits(chunk, distances)):
            found = balanced(affinities(logits, targets, problem.readings), targets)
            torch.mul(found, scale, out=out[:, index])

    def logits(self, chunk: Chunk, distances: Tensor) -> Iterator[tuple[Tensor, Targets]]:
        """Each temperature's masked logits [B, N, M] of a chunk, and what its columns are."""
        problem = self.problem
        targets = self._targets(chunk)
        unit = _of(chunk, self.per_distance)
        for temperature in problem.temperatures:
            effective = temperature * root_scaled(problem)
            factor = (unit / effective).to(problem.dtype)
            shift = torch.full_like(factor, mask_unit(problem) / effective)
            yield masked_logits(distances, factor, shift, targets, problem.readings), targets

    def _targets(self, chunk: Chunk) -> Targets:
        weight = None if self.weight is None else _of(chunk, self.weight)
        return Targets(self.problem.positive.shape[1], True, weight)


@implements("T1")
def scaled(coefficients: Tensor, targets: Targets, ablation: Ablation) -> Tensor:
    """Coefficients [B, T, N, M] of a·V⁺ − b·V⁻, in place; each row still sums to zero (P-29).

    V⁺ and V⁻ are relative to x, which cancels in V⁺ − V⁻ alone: here −(a − b)·ρ·x is left, where ρ
    is what either side's coefficients of the row sum to.
    """
    if not ablation.scales:
        return coefficients
    positive, negative = coefficients.tensor_split([targets.positives], dim=-1)
    mass = positive.sum(-1)
    positive.mul_(ablation.attraction)
    negative.mul_(ablation.repulsion)
    own = self_entries(coefficients, targets)
    own.sub_(mass, alpha=ablation.attraction - ablation.repulsion)
    return coefficients


def _of(chunk: Chunk, shared: Tensor) -> Tensor:
    """A chunk's part of what is given per group, or once for all."""
    return shared if len(shared) == 1 else shared[chunk.groups]


@implements("EQ-22", "A6-tau")
def _kernel(
    problem: Problem, per_distance: Tensor, per_coordinate: Tensor, weight: Tensor | None
) -> Kernel | None:
    """What one exponential for all temperatures takes, None where it does not serve.

    On a GPU it does not: to ask, chunk by chunk, whether it may would stop the device.
    """
    powers = affinity_powers.whole_powers(problem.temperatures)
    on_cpu = problem.generated.device.type == "cpu"
    if powers is None or not (
        on_cpu and problem.divides_features and takes_geometric_mean(problem.readings)
    ):
        return None
    highest = max(problem.temperatures) * root_scaled(problem)
    (mask,) = mask_logits(problem, [highest])
    return Kernel(
        powers,
        (per_distance / highest).to(problem.dtype),
        mask,
        per_coordinate.to(problem.dtype),
        Targets(problem.positive.shape[1], True, weight),
        problem.weighted,
        problem.readings,
    )
