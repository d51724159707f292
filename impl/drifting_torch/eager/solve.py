"""The loss of one feature without a graph over the N×M work (A.6).

Everything but the mean square at the end is stop-gradient (S3-sg), so the forward pass computes
the summed normalised drift once, keeps it, and the backward pass is one product. The work goes
over chunks of groups (a group is one label and one vector), small enough to stay in cache.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from typing import Any, NamedTuple

import torch
from torch import Tensor

from drifting_spec import implements
from drifting_torch.eager.chunks import Chunks, chunks, ordinary
from drifting_torch.eager.coefficients import Coefficients
from drifting_torch.eager.distances import FEW_CHANNELS, pair_distances
from drifting_torch.eager.drifts import Drifts, drifts_of
from drifting_torch.eager.fused import call, scratch
from drifting_torch.eager.statistics import (
    cross_sums,
    distance_sums,
    drift_sums,
    feature_scale_from,
)
from drifting_torch.problem.derivatives import FrozenFeature, gradients_of
from drifting_torch.problem.problem import Problem
from drifting_torch.problem.readings import (
    RELEASE_DISTANCE,
    inverse_drift_scale,
    inverse_scales,
    least_drift_scale,
    loss_dtype,
    over_labels,
    per_entry,
)
from drifting_torch.problem.slope import Slope
from drifting_torch.problem.solution import Solution, Statistics
from drifting_torch.problem.thresholds import LEAST_DRIFT_SCALE
from drifting_torch.problem.units import shared, with_units


def _points(problem: Problem, targets: Tensor) -> Tensor:
    """The generated samples [B, N, C] among a chunk's targets."""
    return targets.narrow(1, problem.positive.shape[1], problem.generated.shape[1])


@implements("EQ-19", "EQ-21", "A6-S", "A7-weight-in-scale", "A6-locshare")
def measure_distances(
    problem: Problem, gathered: Chunks, unit: Tensor | float = 1.0
) -> tuple[Tensor, Tensor] | None:
    """All distances [L·V, N, M], and the sums [2, 1|L, 1|V] whose ratio is their mean.

    The distances are in the groups' units, the sums in the ``unit`` [1|L, 1|V] that their groups
    share. None where groups need units and have none yet.
    """
    labels, count, vectors, _ = problem.generated.shape
    device, groups = problem.generated.device, labels * vectors
    shape = (groups, count, problem.targets)
    distances = scratch.empty(problem.generated, shape, problem.dtype)
    columns = torch.empty((groups, problem.targets), dtype=problem.wide, device=device)
    floor = _distance_floor(problem)
    watched = problem.units is None and device.type == "cpu"
    served = None
    if device.type == "cpu" and problem.generated.shape[-1] > FEW_CHANNELS:
        gram = None if gathered.whole is None else gathered.whole.gram
        served = call.measure(gathered.feature, floor, gram, distances, columns)
    for chunk in gathered.unserved(served):
        norms = chunk.norms.squeeze(-1) if device.type == "cpu" else None
        if watched and not ordinary(chunk):
            if problem.divides_features:
                return None
            norms = None
        found, sums = distances[chunk.groups], columns[chunk.groups]
        least = floor if floor is None or len(floor) == 1 else floor[chunk.groups]
        first = problem.positive.shape[1]
        pair_distances(_points(problem, chunk.targets), chunk.targets, first, found, norms)
        if least is not None:
            torch.maximum(found, least, out=found)
        sums.copy_(found.sum(-2))
    columns = columns.view(labels, vectors, -1)
    return distances, distance_sums(problem, distances, columns, unit)


def _distance_floor(problem: Problem) -> Tensor | None:
    """The release's floor under distances [1|L·V, 1, 1], in the groups' units."""
    if problem.readings.floors != "release" or not problem.divides_features:
        return None
    floor = problem.generated.new_full((1, 1, 1), RELEASE_DISTANCE, dtype=problem.dtype)
    if problem.units is None:
        return floor
    return floor * problem.units.to(problem.dtype).view(-1, 1, 1)


class _Measured(NamedTuple):
    """What :meth:`Stages.measure` leaves: distances, and the sums that S is made of.

    ``problem`` has the units that it needs; S and the sums are in ``unit``.
    """

    problem: Problem
    gathered: Chunks
    unit: Tensor | float
    distances: Tensor
    sums: Tensor


class _Scaled(NamedTuple):
    """What is known once the features are divided by S.

    ``feature_scale`` is S, ``per_coordinate`` its reciprocal after the readings' floors, and
    ``sums`` over ``entries`` are λ².
    """

    problem: Problem
    feature_scale: Tensor
    per_coordinate: Tensor
    drifts: Drifts
    sums: Tensor
    entries: int

    def solution(self, sums: Tensor, entries: Tensor | int) -> Solution:
        """What the loss of these labels comes to, with the ``sums`` that λ is made of."""
        drift_scale = (sums / entries).sqrt()
        inverse = inverse_drift_scale(self.problem, drift_scale)
        per_label, slope = _mean_square(self.problem, self.drifts, inverse, self.per_coordinate)
        return Solution(per_label, slope, Statistics(self.feature_scale, drift_scale))


class Stages:
    """A problem on its way through ``measure``, ``scale`` and ``finish``, each run once.

    With ``many`` processes the first two return sums over this process's labels, and the next is
    handed those over all labels. They are None where processes share nothing, and always without
    ``many``.
    """

    _measured: _Measured
    _scaled: _Scaled
    _solution: Solution

    def __init__(self, problem: Problem, *, many: bool = False) -> None:
        self._problem = problem
        self._many = many
        self._batch = problem.readings.statistics_scope == "batch"

    def measure(self) -> Tensor | None:
        """All distances; returns what S is made of [2, 1, 1|V]."""
        across = self._many and self._batch
        problem, unit = self._problem, 1.0
        gathered = chunks(problem)
        measured = measure_distances(problem, gathered)
        if measured is None:
            problem = with_units(problem)
            gathered = chunks(problem)
            # Sums over all processes are in the features' own unit: it is the only one they share.
            unit = shared(problem, raw=across)
            measured = measure_distances(problem, gathered, unit)
            assert measured is not None
        self._measured = _Measured(problem, gathered, unit, *measured)
        return self._measured.sums if across and problem.divides_features else None

    def scale(self, totals: Tensor | None) -> Tensor | None:
        """Divide by S and form the drifts; returns what λ and the loss are made of.

        Where labels share nothing this is their loss, and their number.
        """
        problem, gathered, unit, distances, sums = self._measured
        del self._measured
        scale = feature_scale_from(problem, sums if totals is None else totals)
        per_coordinate, per_distance = inverse_scales(problem, scale, unit)
        coefficients = Coefficients.of(problem, per_coordinate, per_distance, unit)
        drifts = drifts_of(problem, gathered, distances, coefficients)
        scratch.give_back(distances)
        del gathered, distances, coefficients
        sums, entries = drift_sums(problem, drifts.energy)
        if _vanishes(problem, per_coordinate, sums, entries):
            problem = replace(problem, dtype=torch.float64)
            drifts = _drifts_again(problem, per_coordinate, per_distance, unit)
            sums, entries = drift_sums(problem, drifts.energy)
        scaled = _Scaled(problem, scale / unit, per_coordinate * unit, drifts, sums, entries)
        if self._batch:
            self._scaled = scaled
            return _totals(scaled) if self._many else None
        self._solution = scaled.solution(sums, entries)
        if not self._many:
            return None
        per_label = self._solution.per_label
        return torch.stack([per_label.sum(), torch.full_like(per_label[0], len(per_label))])

    @implements("EQ-26", "A6-mse", "A5-sum")
    def finish(self, totals: Tensor | None) -> Solution:
        """Divide by λ and form the loss."""
        if not self._batch:
            solution = self._solution
            if totals is None:
                return solution
            squares, labels = totals.unbind()
        else:
            scaled = self._scaled
            del self._scaled
            if totals is None:
                return scaled.solution(scaled.sums, scaled.entries)
            count = len(self._problem.temperatures)
            solution = scaled.solution(totals[:count], totals[count])
            squares = _square_of_all(self._problem, totals, solution.statistics.drift_scale)
            labels = totals[-1, 0, 0]
        loss = over_labels(self._problem.readings, squares, labels)
        return replace(solution, loss=loss, labels=labels)


def _vanishes(problem: Problem, per_coordinate: Tensor, sums: Tensor, entries: int) -> bool:
    """Whether some λ is so small that float32 held neither its drift nor its reciprocal.

    Drifts decay like e^(−d/τ) where one side is far, and are divided by λ however small it is.
    Where all coincides (``per_coordinate`` 0) there is none. On the CPU alone: to ask would stop
    another device.
    """
    if problem.dtype != torch.float32 or problem.generated.device.type != "cpu":
        return False
    if not problem.divides_drifts or least_drift_scale(problem.readings):
        return False
    small = sums < entries * LEAST_DRIFT_SCALE**2
    return bool((small & (per_coordinate != 0)).any())


def _drifts_again(
    problem: Problem, per_coordinate: Tensor, per_distance: Tensor, unit: Tensor | float
) -> Drifts:
    """The drifts in the dtype that the problem now has, from distances formed in it."""
    gathered = chunks(problem)
    measured = measure_distances(problem, gathered, unit)
    assert measured is not None  # ordinary numbers in float32 are so in a wider dtype
    coefficients = Coefficients.of(problem, per_coordinate, per_distance, unit)
    return drifts_of(problem, gathered, measured[0], coefficients)


def _mean_square(
    problem: Problem, drifts: Drifts, inverse: Tensor, per_coordinate: Tensor
) -> tuple[Tensor, Slope]:
    """``per_label`` [L] and its gradient."""
    inverse = inverse.expand_as(drifts.energy)
    factor = per_entry(problem)
    of_entry = (-2.0 * factor * per_coordinate).expand(inverse.shape[1:])
    squares, slope = drifts.summed(inverse, of_entry)
    if problem.readings.temperature_aggregation != "sum_drifts_then_mse":
        squares = (drifts.energy.sqrt() * inverse).square().sum(0)
    return squares.sum(1) * factor, slope


def _totals(scaled: _Scaled) -> Tensor:
    """What λ and the loss of all processes need [T+1+T(T−1)/2+1, 1, 1|V]; labels come last."""
    problem, sums, entries = scaled.problem, scaled.sums, scaled.entries
    crosses = [each.unsqueeze(0) for each in cross_sums(problem, scaled.drifts.crosses())]
    summed, labels = (
        torch.full_like(sums[:1], number) for number in (entries, problem.generated.shape[0])
    )
    return torch.cat([sums, summed, *crosses, labels])


def _square_of_all(problem: Problem, totals: Tensor, drift_scale: Tensor) -> Tensor:
    """Sum of ``per_label`` over the labels of all processes, from :func:`_totals`.

    ‖Σ V_τ/λ_τ‖² is expanded into products of two drifts, which add up before λ is known.
    """
    count, inverse = len(problem.temperatures), inverse_drift_scale(problem, drift_scale)
    squares = (totals[:count].sqrt() * inverse).square().sum()
    if problem.readings.temperature_aggregation == "sum_drifts_then_mse":
        for index, (one, two) in enumerate(combinations(range(count), 2)):
            squares = squares + 2 * (totals[count + 1 + index] * inverse[one] * inverse[two]).sum()
    return squares * per_entry(problem)


@implements("EQ-6", "EQ-13", "S3-sg", "ALG1-5", "ALG1-6")
class DriftingLossFunction(torch.autograd.Function):
    """``per_label`` [L] of a :class:`Problem`, differentiable in the generated samples alone."""

    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride] -- the arguments are ours
        ctx: Any, change: Tensor, problem: Problem, solution: Solution
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Hand out what was found; keep what the backward pass multiplies.

        ``change`` [L, N, V, C] leads to the generated samples (``derivatives.change_of``).
        """
        generated, statistics = problem.generated, solution.statistics
        outputs = tuple(
            value.to(loss_dtype(generated))
            for value in (solution.per_label, statistics.feature_scale, statistics.drift_scale)
        )
        ctx.save_for_backward(*solution.slope.tensors)
        # No memory of its own, and nobody else changes it: hooks on saved tensors do not see it.
        ctx.change = change
        ctx.feature_scale = statistics.feature_scale
        ctx.like = torch.empty_like(generated, device="meta")
        ctx.options = problem.options
        ctx.mark_non_differentiable(*outputs[1:])
        ctx.set_materialize_grads(False)
        return outputs  # pyright: ignore[reportReturnType] -- three, as made above

    @staticmethod
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride] -- the arguments are ours
        ctx: Any, *gradients: Tensor | None
    ) -> tuple[Tensor | None, None, None]:
        """−2Ṽ/(numel·S) for each label, times the gradient that arrives for it."""
        arriving = gradients[0]
        if arriving is None:
            return None, None, None
        slope = Slope.joined(*ctx.saved_tensors)
        frozen = FrozenFeature(slope, ctx.feature_scale, ctx.like, ctx.options, call.product)
        (found,) = gradients_of(frozen, [ctx.change], [None], [arriving])
        return found, None, None
