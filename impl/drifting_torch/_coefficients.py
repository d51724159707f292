"""From kept distances to the coefficients of the drift, a chunk at a time (Algorithm 2, EQ-22).

All temperatures at once where one exponential serves them, else one after the other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from drifting_spec import implements
from drifting_torch import _powers
from drifting_torch._affinity import Targets, affinities, balanced, masked_logits
from drifting_torch._powers import Buffers, Deliver, Kernel
from drifting_torch._problem import Chunk, Problem
from drifting_torch._statistics import reciprocal


@dataclass
class Coefficients:
    """A problem's coefficients, once S is known.

    ``per_distance`` and ``per_coordinate`` [L·V, 1, 1], or of one element, are the inverse scales
    of distances and coordinates, ``weight`` [L·V, 1, M] or [1, 1, M] the kernel weights. The
    buffers are made at the first chunk, which is the largest.
    """

    problem: Problem
    per_distance: Tensor
    per_coordinate: Tensor
    weight: Tensor | None
    weighted: int
    buffers: Buffers | None = None

    @classmethod
    def of(cls, problem: Problem, coordinate_scale: Tensor, distance_scale: Tensor) -> Coefficients:
        """Those of the scales [1|L, 1|V] that the readings' floors leave."""
        labels, _, vectors, _ = problem.generated.shape

        def inverse(scale: Tensor) -> Tensor:
            shared = scale if scale.numel() == 1 else scale.expand(labels, vectors)
            return reciprocal(shared).reshape(-1, 1, 1)

        weight, weighted = problem.weight, 0
        if weight is not None:
            weight = weight.to(problem.dtype).unsqueeze(1)
            if labels > 1:
                weight = weight.repeat_interleave(vectors, 0)
            if weight.device.type == "cpu":
                weighted = _first_weighted(weight)
        return cls(problem, inverse(distance_scale), inverse(coordinate_scale), weight, weighted)

    def deliver(self, chunk: Chunk, distances: Tensor, deliver: Deliver) -> None:
        """Hand ``deliver`` every temperature's index and coefficients [B, N, M] on φ̃.

        The product of the coefficients with the chunk's targets is V. ``distances`` [B, N, M] are
        the chunk's. What is handed out may be overwritten once ``deliver`` returns.
        """
        powers = _powers.whole_powers(self.problem.temperatures)
        if powers is not None and self._by_powers(distances):
            kernel = self._kernel(chunk, powers)
            if self.buffers is None:
                self.buffers = Buffers.like(distances)
            buffers = self.buffers.first(len(distances))
            if _powers.deliver_coefficients(distances, kernel, buffers, deliver):
                return
        self._one_by_one(chunk, distances, deliver)

    def _by_powers(self, distances: Tensor) -> bool:
        """Whether one exponential may serve: on a GPU, to ask whether it does would stop it."""
        problem = self.problem
        return (
            distances.device.type == "cpu"
            and problem.normalized
            and _powers.applies(problem.readings)
        )

    @implements("EQ-22", "A6-tau")
    def _kernel(self, chunk: Chunk, powers: tuple[int, ...]) -> Kernel:
        problem = self.problem
        highest = max(problem.temperatures) * root_scaled(problem)
        (mask,) = mask_logits(problem, [highest])
        return Kernel(
            powers,
            (_of(chunk, self.per_distance) / highest).to(problem.dtype),
            mask,
            _of(chunk, self.per_coordinate).to(problem.dtype),
            self._targets(chunk),
            self.weighted,
            problem.readings,
        )

    def _one_by_one(self, chunk: Chunk, distances: Tensor, deliver: Deliver) -> None:
        """Temperature by temperature, under any readings."""
        problem = self.problem
        targets = self._targets(chunk)
        unit = _of(chunk, self.per_distance)
        scale = _of(chunk, self.per_coordinate).to(problem.dtype)
        for index, temperature in enumerate(problem.temperatures):
            effective = temperature * root_scaled(problem)
            factor = (unit / effective).to(problem.dtype)
            shift = torch.full_like(factor, _mask_unit(problem) / effective)
            logits = masked_logits(distances, factor, shift, targets, problem.readings)
            deliver(
                index, balanced(affinities(logits, targets, problem.readings), targets).mul_(scale)
            )

    def _targets(self, chunk: Chunk) -> Targets:
        weight = None if self.weight is None else _of(chunk, self.weight)
        return Targets(self.problem.positive.shape[1], True, weight)


def _of(chunk: Chunk, shared: Tensor) -> Tensor:
    """A chunk's part of what is given per group, or once for all."""
    return shared if len(shared) == 1 else shared[chunk.groups]


def _first_weighted(weight: Tensor) -> int:
    """The first column of weights [·, 1, M] that holds another than 1, M if none does."""
    places = (weight != 1).any(0).flatten().nonzero().flatten().tolist()
    return places[0] if places else weight.shape[-1]


def root_scaled(problem: Problem) -> float:
    """What multiplies the temperatures: √C (EQ-22) unless they are raw."""
    raw = not problem.normalized or problem.readings.temperature_scaling == "raw"
    return 1.0 if raw else math.sqrt(problem.generated.shape[-1])


def mask_logits(problem: Problem, effective: list[float]) -> list[float]:
    """What is added to a sample's own logit at effective temperatures; −inf to exclude it."""
    if problem.readings.self_mask == "exclude":
        return [-math.inf for _ in effective]
    size = 1e6 if problem.readings.self_mask == "add_1e6" else 100.0
    return [-size * _mask_unit(problem) / each for each in effective]


def _mask_unit(problem: Problem) -> float:
    """One unit of an additive mask: of the mean distance for add_100, else of a distance."""
    of_mean = problem.normalized and problem.readings.self_mask == "add_100"
    return math.sqrt(problem.generated.shape[-1]) if of_mean else 1.0
