"""All temperatures' drifts of a problem, what λ needs of them, and their normalised sum (A.6).

Where channels are few the drifts V_τ = R_τ·Y are formed and kept. Where they are many, only the
coefficients R_τ are: ‖R_τ·Y‖² = tr(R_τ G R_τᵀ) needs no more of the targets than their Gram matrix
G = Y·Yᵀ, and Σ V_τ/λ_τ = (Σ R_τ/λ_τ)·Y is then the only product with all channels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations
from typing import Protocol

import torch
from torch import Tensor

from drifting_spec import implements
from drifting_torch.eager import chunks
from drifting_torch.eager.chunks import Chunks, group_slices
from drifting_torch.eager.coefficients import Coefficients
from drifting_torch.eager.fused import call, scratch
from drifting_torch.problem.problem import Problem
from drifting_torch.problem.slope import Slope
from drifting_torch.problem.thresholds import CANCELLED

_MANY_TARGETS = 4
"""Targets per generated sample up to which they are kept for the backward pass."""


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

    def summed(self, inverse: Tensor, factor: Tensor) -> tuple[Tensor, Slope]:
        """Squares [L, V] of Ṽ = Σ inverse_τ·V_τ, and the gradient ``factor`` [L, V] times Ṽ.

        ``inverse`` is [T, L, V]. Nothing else may be asked afterwards.
        """
        ...


def drifts_of(
    problem: Problem, gathered: Chunks, distances: Tensor, coefficients: Coefficients
) -> Drifts:
    """The drifts from the distances [L·V, N, M]."""
    found = None
    if _gram_pays(problem, coefficients):
        found = KeptCoefficients.of(problem, gathered, distances, coefficients)
    return found or KeptDrifts.of(problem, gathered, distances, coefficients)


def _gram_pays(problem: Problem, coefficients: Coefficients) -> bool:
    """Whether channels are many, and the distances tell the generated samples' Gram matrix."""
    channels = problem.generated.shape[-1]
    if channels < chunks.MANY_CHANNELS * problem.targets or problem.generated.device.type != "cpu":
        return False
    if problem.ablation.scales:  # a sample's own coefficient then has either sign
        return False
    # The release's floor under each distance shows unless their mean, S·√C, is far above it.
    root = math.sqrt(channels)
    floored = problem.readings.floors == "release" and problem.divides_features
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
        gathered: Chunks,
        distances: Tensor,
        coefficients: Coefficients,
    ) -> KeptDrifts:
        """Form the products of coefficients and targets."""
        labels, count, vectors, channels = problem.generated.shape
        like, size = distances.new_empty, labels * vectors
        shape = (size, count, channels)
        others = (scratch.empty(distances, shape, problem.dtype) for _ in problem.temperatures[1:])
        drift = [like(shape), *others]
        energy = like((len(drift), size), dtype=problem.wide)
        kernel = None if problem.ablation.scales else coefficients.kernel
        served = call.drifts(gathered.feature, kernel, distances, drift, energy)
        for chunk in gathered.unserved(served):
            here = chunk.groups
            found = coefficients.fill(chunk, distances[here])
            for index, each in enumerate(drift):
                torch.bmm(found[:, index], chunk.targets, out=each[here])
                energy[index, here] = _squares(each[here], problem)
        return cls(problem, drift, energy.view(-1, labels, vectors))

    def crosses(self) -> list[Tensor]:
        """As :meth:`Drifts.crosses`."""
        found = [torch.empty_like(self.energy[0]) for _ in combinations(self.drift, 2)]
        for here in group_slices(self.problem):
            parts = [each[here].to(self.problem.wide) for each in self.drift]
            for into, (one, two) in zip(found, combinations(parts, 2), strict=True):
                into.view(-1)[here] = (one * two).sum((-2, -1))
        return found

    @implements("EQ-A6tau", "A6-order")
    def summed(self, inverse: Tensor, factor: Tensor) -> tuple[Tensor, Slope]:
        """As :meth:`Drifts.summed`, in the memory of the first drift."""
        problem, summed = self.problem, self.drift[0]
        wide = inverse.reshape(len(self.drift), -1)
        squares = call.summed(self.drift, wide)
        if squares is None:
            inverses = wide.view(len(self.drift), -1, 1, 1).to(summed.dtype)
            squares = summed.new_empty(len(summed), dtype=problem.wide)
            for here in group_slices(problem):
                part = summed[here].mul_(inverses[0][here])
                for each, other in zip(self.drift[1:], inverses[1:], strict=True):
                    part.addcmul_(each[here], other[here])
                squares[here] = _squares(part, problem)
        scratch.give_back(*self.drift[1:])
        return squares.view(factor.shape), Slope(summed, factor)


@dataclass(frozen=True)
class KeptCoefficients:
    """Every temperature's coefficients [L·V, T, N, M] in memory, and no drift.

    ``traces`` [L·V, T, T] are R_a·H·R_b summed over samples (:func:`_half_gram`), and ``terms``
    [L·V, T] the size of what cancelled in those of a = b.
    """

    problem: Problem
    gathered: Chunks
    coefficients: Tensor
    traces: Tensor
    terms: Tensor

    @classmethod
    def of(
        cls,
        problem: Problem,
        gathered: Chunks,
        distances: Tensor,
        coefficients: Coefficients,
    ) -> KeptCoefficients | None:
        """Keep the coefficients and form the traces; None where a trace cancels too far."""
        groups, count, targets = distances.shape
        temperatures = len(problem.temperatures)
        kept = scratch.empty(distances, (groups, temperatures, count, targets), problem.dtype)
        shape = (groups, temperatures + 1, temperatures)
        sums = torch.empty(shape, dtype=problem.wide, device=distances.device)
        served, whole = None, gathered.whole
        if whole is not None:
            served = call.traces(coefficients.kernel, distances, whole.gram, kept, sums, _IN_RANGE)
        for chunk in gathered.unserved(served):
            if not _IN_RANGE[0] < chunk.norms.amax().item() < _IN_RANGE[1]:
                return None
            here = chunk.groups
            gram = _half_gram(problem, distances[here], chunk.targets, chunk.norms.square())
            found = coefficients.fill(chunk, distances[here], kept[here])
            halves = _times_half(found.flatten(1, 2), gram, problem).view_as(found)
            of_rows = found.new_empty((len(found), *shape[1:], count))
            part = torch.empty_like(found)
            for index in range(temperatures):
                torch.mul(found, halves[:, index : index + 1], out=part)
                torch.sum(part, -1, out=of_rows[:, index])
            torch.mul(found, _signed(chunk.norms, problem).unsqueeze(1), out=part)
            torch.sum(part, -1, out=of_rows[:, temperatures]).square_()
            torch.sum(of_rows, -1, dtype=problem.wide, out=sums[here])
        traces, terms = sums[:, :temperatures], sums[:, temperatures]
        if not bool((traces.diagonal(dim1=1, dim2=2) > CANCELLED * terms).all()):
            return None
        return cls(problem, gathered, kept, traces, terms)

    @property
    def energy(self) -> Tensor:
        """As :attr:`Drifts.energy`."""
        return self._by_label(self.traces.diagonal(dim1=1, dim2=2))

    def crosses(self) -> list[Tensor]:
        """As :meth:`Drifts.crosses`."""
        found = self._by_label((self.traces + self.traces.mT).flatten(1).mul_(0.5))
        count = len(self.problem.temperatures)
        return [found[one * count + two] for one, two in combinations(range(count), 2)]

    def summed(self, inverse: Tensor, factor: Tensor) -> tuple[Tensor, Slope]:
        """As :meth:`Drifts.summed`: one product of all coefficients with the targets."""
        kept = self.coefficients
        groups, _, count, targets = kept.shape
        inverses = inverse.reshape(len(inverse), -1).T
        folded = torch.bmm(inverses.unsqueeze(1).to(kept.dtype), kept.flatten(2))
        folded = folded.view(groups, count, targets)
        scratch.give_back(kept)
        products = self.traces * inverses.unsqueeze(1) * inverses.unsqueeze(2)
        squares, terms = products.sum((1, 2)), (self.terms.sqrt() * inverses).sum(1).square_()
        few = targets <= _MANY_TARGETS * count and self.gathered.keeps
        if few and bool((squares > CANCELLED * terms).all()):
            return squares.view(factor.shape), Slope(folded, factor, self.gathered.kept())
        return self._formed(folded, factor)

    def _formed(self, folded: Tensor, factor: Tensor) -> tuple[Tensor, Slope]:
        """The squares of the drift and the gradient, from the product itself."""
        problem = self.problem
        drift = folded.new_empty((*folded.shape[:2], problem.generated.shape[-1]))
        squares = folded.new_empty(len(folded), dtype=problem.wide)
        for chunk in self.gathered:
            here = chunk.groups
            call.product(folded[here], chunk.targets, out=drift[here])
            squares[here] = _squares(drift[here], problem)
        return squares.view(factor.shape), Slope(drift, factor)

    def _by_label(self, of_groups: Tensor) -> Tensor:
        """[L·V, K] as [K, L, V]."""
        labels, _, vectors, _ = self.problem.generated.shape
        return of_groups.T.view(-1, labels, vectors)


def _signed(norms: Tensor, problem: Problem) -> Tensor:
    """The targets' norms as a row [B, 1, M] with the signs that their coefficients have."""
    row = norms.mT.clone()
    row[..., problem.positive.shape[1] :].neg_()
    return row


def _half_gram(problem: Problem, distances: Tensor, targets: Tensor, squares: Tensor) -> Tensor:
    """A matrix H [B, M, M] with r·H·r = r·G·r for any r, where G is the targets' Gram matrix.

    Of two entries of G that mirror one another it holds their sum in one of the places, 0 in the
    other, and the generated samples' part is had from their distances. ``squares`` [B, M, 1] are
    the targets' squared norms.
    """
    first = problem.positive.shape[1]
    last = first + problem.generated.shape[1]
    half = targets.new_zeros((len(targets), targets.shape[1], targets.shape[1]))
    of_generated = half[:, first:last]  # 2⟨x, y⟩ = |x|² + |y|² − d²
    torch.add(squares[:, first:last], squares.mT, out=of_generated)
    of_generated.addcmul_(distances, distances, value=-1)
    own = of_generated[..., first:last].mul_(0.5)
    # A sample's distance from itself is 0, whatever floor stands under it.
    own.diagonal(dim1=1, dim2=2).copy_(squares[:, first:last, 0])
    positive, other = targets[:, :first], targets[:, last:]
    middle = first // 2
    upper, lower = positive.split([middle, first - middle], 1)
    torch.bmm(upper, positive.mT, out=half[:, :middle, :first])
    half[:, :middle, middle:first].mul_(2)
    torch.bmm(lower, lower.mT, out=half[:, middle:first, middle:first])
    if last < targets.shape[1]:
        beside = half[:, last:, :first]
        torch.baddbmm(beside, other, positive.mT, beta=0, alpha=2, out=beside)
        torch.bmm(other, other.mT, out=half[:, last:, last:])
    return half


def _times_half(rows: Tensor, half: Tensor, problem: Problem) -> Tensor:
    """Rows [B, K, M] times H [B, M, M], whose first rows are 0 beyond the positives."""
    first = problem.positive.shape[1]
    found = torch.bmm(rows[..., first:], half[:, first:])
    found[..., :first].baddbmm_(rows[..., :first], half[:, :first, :first])
    return found


def _squares(drift: Tensor, problem: Problem) -> Tensor:
    """The sum of squares [B] of each group of a drift [B, N, C].

    Norms that under- or overflowed their dtype are not used.
    """
    norms = torch.linalg.vector_norm(drift, dim=-1)
    if norms.dtype != problem.wide and norms.device.type == "cpu":
        lowest, highest = norms.aminmax()
        if not (_IN_RANGE[0] < lowest.item() and highest.item() < _IN_RANGE[1]):
            return drift.to(problem.wide).square_().sum((-2, -1))
    return norms.to(problem.wide).square_().sum(-1)
