"""All temperatures' drifts of a problem, what λ needs of them, and their normalised sum (A.6).

Where channels are few the drifts V_τ = R_τ·Y are formed and kept. Where they are many, only the
coefficients R_τ are: ‖R_τ·Y‖² = tr(R_τ G R_τᵀ) needs no more of the targets than their Gram matrix
G = Y·Yᵀ, and Σ V_τ/λ_τ = (Σ R_τ/λ_τ)·Y is then the only product with all channels.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations
from typing import Protocol

import torch
from torch import Tensor

from drifting_spec import implements
from drifting_torch._coefficients import Coefficients
from drifting_torch._problem import Chunk, Problem, group_slices

_MANY_CHANNELS = 5
"""Channels per target from which the Gram matrix pays."""

CANCELLED = 1e-3
"""Least share of the trace in the sum of its terms' magnitudes: below it λ would lose digits."""

_IN_RANGE = (1e-15, 1e15)
"""Norms whose squares are far inside float32."""


class Drifts(Protocol):
    """The drifts of all temperatures on φ̃."""

    @property
    def energy(self) -> Tensor:
        """Their squares [T, L, V], summed over samples and channels."""
        ...

    def crosses(self) -> list[Tensor]:
        """The products [L, V] of every two of them, summed likewise."""
        ...

    def summed(self, inverse: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
        """Squares [L, V] of Ṽ = Σ inverse_τ·V_τ, and Ṽ times ``slope`` [L, V] as [L·V, N, C].

        ``inverse`` is [T, L, V]. Nothing else may be asked afterwards.
        """
        ...


def drifts_of(
    problem: Problem,
    gathered: Iterable[Chunk],
    distances: Tensor,
    coefficients: Coefficients,
    *,
    kept: bool,
) -> Drifts:
    """The drifts from the distances [L·V, N, M]; ``kept`` where their products are needed too."""
    found = None
    if not kept and _gram_pays(problem, coefficients):
        found = KeptCoefficients.of(problem, gathered, distances, coefficients)
    return found or KeptDrifts.of(problem, gathered, distances, coefficients)


def _gram_pays(problem: Problem, coefficients: Coefficients) -> bool:
    """Whether channels are many, and the distances tell the generated samples' Gram matrix."""
    channels = problem.generated.shape[-1]
    if channels < _MANY_CHANNELS * problem.targets or problem.generated.device.type != "cpu":
        return False
    # The release's floor under each distance shows unless their mean, S·√C, is far above it.
    root = math.sqrt(channels)
    floored = problem.readings.floors == "release" and problem.normalized
    return not floored or coefficients.per_distance.amax().item() < root


@dataclass(frozen=True)
class KeptDrifts:
    """Every temperature's drift [L·V, N, C] in memory."""

    problem: Problem
    drift: list[Tensor]
    energy: Tensor

    @classmethod
    @implements("EQ-23", "EQ-25", "A6-lambda", "ALG2-10")
    def of(
        cls,
        problem: Problem,
        gathered: Iterable[Chunk],
        distances: Tensor,
        coefficients: Coefficients,
    ) -> KeptDrifts:
        """Form the products of coefficients and targets."""
        labels, count, vectors, channels = problem.generated.shape
        like, size = distances.new_empty, labels * vectors
        drift = [like((size, count, channels)) for _ in problem.temperatures]
        norms = like((len(drift), size, count))
        for chunk in gathered:

            def move(index: int, found: Tensor, chunk: Chunk = chunk) -> None:
                here = drift[index][chunk.groups]
                torch.bmm(found, chunk.targets, out=here)
                torch.linalg.vector_norm(here, dim=-1, out=norms[index, chunk.groups])

            coefficients.deliver(chunk, distances[chunk.groups], move)
        energy = [_squares(*each, problem) for each in zip(norms, drift, strict=True)]
        return cls(problem, drift, torch.stack(energy).view(-1, labels, vectors))

    def crosses(self) -> list[Tensor]:
        """As :meth:`Drifts.crosses`."""
        found = [torch.empty_like(self.energy[0]) for _ in combinations(self.drift, 2)]
        for here in group_slices(self.problem):
            parts = [each[here].to(self.problem.wide) for each in self.drift]
            for into, (one, two) in zip(found, combinations(parts, 2), strict=True):
                into.view(-1)[here] = (one * two).sum((-2, -1))
        return found

    @implements("EQ-A6tau", "A6-order")
    def summed(self, inverse: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
        """As :meth:`Drifts.summed`, in the memory of the first drift."""
        problem, summed = self.problem, self.drift[0]
        norms = summed.new_empty(summed.shape[:2])
        factors = inverse.reshape(len(self.drift), -1, 1, 1).to(summed.dtype)
        for here in group_slices(problem):
            part = summed[here].mul_(factors[0][here])
            for each, factor in zip(self.drift[1:], factors[1:], strict=True):
                part.addcmul_(each[here], factor[here])
            torch.linalg.vector_norm(part, dim=-1, out=norms[here])
        squares = _squares(norms, summed, problem).view(slope.shape)
        return squares, summed.mul_(slope.reshape(-1, 1, 1).to(summed.dtype))


@dataclass(frozen=True)
class KeptCoefficients:
    """Every temperature's coefficients [L·V, T, N, M] in memory, and no drift."""

    problem: Problem
    gathered: Iterable[Chunk]
    coefficients: Tensor
    energy: Tensor

    @classmethod
    def of(
        cls,
        problem: Problem,
        gathered: Iterable[Chunk],
        distances: Tensor,
        coefficients: Coefficients,
    ) -> KeptCoefficients | None:
        """Keep the coefficients and form the traces; None where a trace cancels too far."""
        labels, count, vectors, _ = problem.generated.shape
        groups, temperatures = labels * vectors, len(problem.temperatures)
        kept = distances.new_empty((groups, temperatures, count, problem.targets))
        energy = torch.empty((temperatures, groups), dtype=problem.wide, device=distances.device)
        terms = torch.empty_like(energy)
        for chunk in gathered:
            norms, here = chunk.norms, kept[chunk.groups]
            if not _IN_RANGE[0] < norms.amax().item() < _IN_RANGE[1]:
                return None
            gram = _gram(problem, distances[chunk.groups], chunk.targets, norms.square())

            def keep(index: int, found: Tensor, here: Tensor = here) -> None:
                here[:, index] = found

            coefficients.deliver(chunk, distances[chunk.groups], keep)
            flat = here.flatten(1, 2)
            of_rows = (
                torch.bmm(flat, gram).mul_(flat).sum(-1),
                torch.bmm(flat.abs(), norms).square_(),
            )
            for into, rows in zip((energy, terms), of_rows, strict=True):
                wide = rows.view(-1, temperatures, count).to(problem.wide)
                into[:, chunk.groups] = wide.sum(-1).T
        if not bool((energy > CANCELLED * terms).all()):
            return None
        return cls(problem, gathered, kept, energy.view(-1, labels, vectors))

    def crosses(self) -> list[Tensor]:
        """They are not at hand."""
        raise NotImplementedError("the products of two drifts are to be had from kept drifts")

    def summed(self, inverse: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
        """As :meth:`Drifts.summed`: one product of all coefficients with the targets."""
        problem, kept = self.problem, self.coefficients
        groups, _, count, targets = kept.shape
        summed = kept.new_empty((groups, count, problem.generated.shape[-1]))
        norms = kept.new_empty((groups, count))
        factors = inverse.reshape(len(inverse), -1).T.unsqueeze(1).to(kept.dtype)
        for chunk in self.gathered:
            here = chunk.groups
            folded = torch.bmm(factors[here], kept[here].flatten(2)).view(-1, count, targets)
            torch.bmm(folded, chunk.targets, out=summed[here])
            torch.linalg.vector_norm(summed[here], dim=-1, out=norms[here])
        squares = _squares(norms, summed, problem).view(slope.shape)
        return squares, summed.mul_(slope.reshape(-1, 1, 1).to(summed.dtype))


def _gram(problem: Problem, distances: Tensor, targets: Tensor, squares: Tensor) -> Tensor:
    """The targets' Gram matrix [B, M, M], with the generated samples' part from their distances.

    ``squares`` [B, M, 1] are the targets' squared norms.
    """
    first = problem.positive.shape[1]
    last = first + problem.generated.shape[1]
    gram = targets.new_empty((len(targets), targets.shape[1], targets.shape[1]))
    of_generated = gram[:, first:last]
    torch.add(squares[:, first:last], squares.mT, out=of_generated)
    of_generated.addcmul_(distances, distances, value=-1).mul_(0.5)
    # A sample's distance from itself is 0, whatever floor stands under it.
    of_generated[..., first:last].diagonal(dim1=1, dim2=2).copy_(squares[:, first:last, 0])
    positive, other = targets[:, :first], targets[:, last:]
    gram[:, :first, :first] = torch.bmm(positive, positive.mT)
    gram[:, :first, last:] = torch.bmm(positive, other.mT)
    gram[:, last:, :first] = gram[:, :first, last:].mT
    gram[:, last:, last:] = torch.bmm(other, other.mT)
    gram[:, :first, first:last] = of_generated[..., :first].mT
    gram[:, last:, first:last] = of_generated[..., last:].mT
    return gram


def _squares(norms: Tensor, drift: Tensor, problem: Problem) -> Tensor:
    """Sum of squares [G] of each group's drift [G, N, C], of which ``norms`` [G, N] are the rows'.

    Norms that under- or overflowed their dtype are not used.
    """
    if drift.dtype != problem.wide and drift.device.type == "cpu":
        lowest, highest = norms.aminmax()
        if not (_IN_RANGE[0] < lowest.item() and highest.item() < _IN_RANGE[1]):
            parts = (drift[here].to(problem.wide) for here in group_slices(problem))
            return torch.cat([part.square_().sum((-2, -1)) for part in parts])
    return norms.to(problem.wide).square_().sum(-1)
