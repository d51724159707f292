"""Several problems of one kind, solved together by the GPU kernels (A.6).

Where a kernel does not compile or launch, the eager path takes over, at whichever point that is:
it is told the sums over all processes that have arrived already.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from drifting_spec import implements
from drifting_torch.eager import solve as eager
from drifting_torch.kernels import available
from drifting_torch.kernels.launches import MOST, Kept, Launches, Results, kind
from drifting_torch.problem.derivatives import Curvature, change_of, gradients_of
from drifting_torch.problem.problem import Problem
from drifting_torch.problem.slope import Slope
from drifting_torch.problem.solution import Solution, Statistics


@dataclass(frozen=True)
class Solved:
    """Losses and statistics, and what their gradient takes: of the kernels, or the gradients.

    A loss' gradient is ``shares`` [S] times that of each label; ``received`` are the sums over all
    processes on which it rests.
    """

    results: Results
    shares: Tensor
    kept: Kept | None = None
    slopes: list[Tensor] | None = None
    received: tuple[list[Tensor], ...] = ()


@dataclass(frozen=True)
class Bucket:
    """Problems of one kind by their keys, no more than fit one launch."""

    keys: list[str]
    problems: list[Problem]
    kernels: ModuleType


def gathered(problems: Iterable[tuple[str, Problem]]) -> list[Bucket]:
    """Sort the problems that the kernels take by their kinds; each key falls into one bucket."""
    found: dict[tuple[object, ...], list[Bucket]] = {}
    for key, problem in problems:
        kernels = available.kernels_for(problem)
        if kernels is None:
            continue
        alike = found.setdefault(kind(problem), [])
        if not alike or len(alike[-1].keys) == MOST:
            alike.append(Bucket([], [], kernels))
        alike[-1].keys.append(key)
        alike[-1].problems.append(problem)
    return [bucket for alike in found.values() for bucket in alike]


Steps = Generator[list[Tensor], list[Tensor], Solved]


def solving(bucket: Bucket, *, many: bool = False, processes: int = 1) -> Steps:
    """Solve a bucket, yielding the sums that ``eager.solving`` yields, of each problem."""
    received: list[list[Tensor]] = []
    steps = _by_kernels(Launches(bucket.problems, bucket.kernels), many, processes)
    arriving: Any = None
    while True:
        try:
            sums = steps.send(arriving)
        except StopIteration as end:
            return replace(end.value, received=tuple(received))
        except torch.cuda.OutOfMemoryError:
            raise
        except Exception as error:  # whatever a compiler may raise
            available.give_up(bucket.problems[0], error)
            return (yield from _eagerly(bucket.problems, many, processes, received))
        arriving = yield sums
        received.append(arriving)


def _by_kernels(launches: Launches, many: bool, processes: int) -> Steps:
    across = many and launches.batch
    mean = launches.readings.label_reduction == "mean"
    distances, gram, means, sums = launches.measure()
    totals = None
    if across:
        totals = _joined((yield launches.scale_sums(sums)))
    feature_scale, units = launches.scale(sums, totals)
    crossed = launches.crossed or across
    normalizers, products = launches.correlate(distances, gram, means, units, crossed=crossed)
    del gram
    totals = None
    if across:
        totals = _joined((yield launches.drift_sums(products)))
    drift = launches.drift(
        products, totals, mean=mean and (across or not many), processes=processes
    )
    results, shares = launches.outcome(feature_scale, drift), drift[-1]
    if many and not across:
        labels = float(launches.labels)
        own = [torch.stack([each, torch.full_like(each, labels)]) for each in results.losses]
        squares, there = torch.stack((yield [each.double() for each in own])).float().unbind(1)
        shares = shares / there if mean else shares
        results = replace(results, losses=[*(squares / there if mean else squares).unbind()])
    return Solved(results, shares, Kept(distances, means, normalizers, units, drift[1]))


def _joined(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat([each.flatten() for each in parts])


def _eagerly(
    problems: Sequence[Problem], many: bool, processes: int, received: Sequence[list[Tensor]]
) -> Steps:
    """The same without the kernels; it yields nothing that has been ``received`` already."""
    runs = [eager.solving(problem, many=many) for problem in problems]
    waiting = [*received]
    arriving: list[Any] = [None] * len(runs)
    while True:
        sums: list[Tensor] = []
        solutions: list[Solution] = []
        for run, value in zip(runs, arriving, strict=True):
            try:
                sums.append(run.send(value))
            except StopIteration as end:
                solutions.append(end.value)
        if solutions:
            return _of_solutions(problems[0], solutions, processes)
        arriving = waiting.pop(0) if waiting else (yield sums)


def _of_solutions(problem: Problem, solutions: Sequence[Solution], processes: int) -> Solved:
    mean = problem.readings.label_reduction == "mean"
    losses: list[Tensor] = []
    shares: list[Tensor] = []
    for each in solutions:
        alone = each.per_label.mean() if mean else each.per_label.sum()
        losses.append(alone if each.loss is None else each.loss)
        labels = alone.new_full((), len(each.per_label)) if each.labels is None else each.labels
        share = torch.full_like(labels, processes)
        shares.append(share / labels if mean else share)
    results = Results(
        *(
            [each.float() for each in part]
            for part in (
                losses,
                [each.per_label for each in solutions],
                [each.statistics.feature_scale for each in solutions],
                [each.statistics.drift_scale for each in solutions],
            )
        )
    )
    return Solved(
        results, torch.stack(shares).float(), slopes=[each.slope.whole() for each in solutions]
    )


def alone(problem: Problem) -> Solution:
    """Solve a problem of one process with its gradient, by the kernels where they apply."""
    for bucket in gathered([("", problem)]):
        solved = _finished(solving(bucket))
        results = solved.results
        (slope,) = solved.slopes or [None]
        if slope is None:
            labels, count, vectors, channels = problem.generated.shape
            like = results.per_label[0]
            slope = like.new_empty((labels, vectors, count, channels)).transpose(1, 2)
            try:
                assert solved.kept is not None
                Launches([problem], bucket.kernels).gradient(
                    solved.kept, solved.shares, [0], [None], [None], [slope], always=1.0
                )
            except torch.cuda.OutOfMemoryError:
                raise
            except Exception as error:  # whatever a compiler may raise
                available.give_up(problem, error)
                break
        statistics = Statistics(results.feature_scale[0], results.drift_scale[0])
        return Solution(results.per_label[0], Slope.of(slope), statistics)
    return eager.alone(problem)


def _finished(steps: Steps) -> Solved:
    """What a bucket of one process comes to, or one that has received all it waits for."""
    try:
        next(steps)
    except StopIteration as end:
        return end.value
    raise AssertionError("a bucket of one process waits for no other")


def together(
    bucket: Bucket, generated: Sequence[Tensor], solved: Solved | None = None
) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Loss, ``per_label``, S and λ of each problem, differentiable in the ``generated`` features.

    ``solved`` is what was found already.
    """
    if solved is None:
        with torch.no_grad(), torch.autocast(generated[0].device.type, enabled=False):
            solved = _finished(solving(bucket))
    outputs = _Together.apply(bucket, solved, *[change_of(each) for each in generated])
    size = len(generated)
    return [tuple(outputs[index::size]) for index in range(size)]


@implements("EQ-6", "EQ-13", "S3-sg", "ALG1-5", "ALG1-6")
class _Together(torch.autograd.Function):
    """Losses and ``per_label`` of a bucket, differentiable in the generated samples alone."""

    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride] -- the arguments are ours
        ctx: Any, bucket: Bucket, solved: Solved, *changes: Tensor
    ) -> tuple[Tensor, ...]:
        """Hand out what was found, and save what the backward pass reads again.

        ``changes`` lead to the generated samples of each problem (``derivatives.change_of``).
        """
        results, first = solved.results, bucket.problems[0]
        statistics = [each.detach() for each in (*results.feature_scale, *results.drift_scale)]
        ctx.mark_non_differentiable(*statistics)
        ctx.set_materialize_grads(False)
        ctx.kernels = bucket.kernels
        # Problems and what was kept of them, taken apart: saved tensors are given back in time.
        samples = [
            each
            for problem in bucket.problems
            for each in (problem.generated, problem.positive, problem.unconditional)
        ]
        kept = (
            [None] * len(fields(Kept)) if solved.kept is None else list(vars(solved.kept).values())
        )
        received = [each for turn in solved.received for each in turn]
        slopes = solved.slopes or []
        ctx.slopes = bool(slopes)
        ctx.changes = changes
        scales = results.feature_scale
        saved = [first.weight, solved.shares, *kept, *samples, *scales, *slopes, *received]
        # Autograd saves nothing that was made under inference_mode; it cannot be changed either.
        ctx.inferred = {
            index: each
            for index, each in enumerate(saved)
            if each is not None and each.is_inference()
        }
        ctx.save_for_backward(
            *(None if index in ctx.inferred else each for index, each in enumerate(saved))
        )
        ctx.options = first.options
        differentiable = [each.detach() for each in (*results.losses, *results.per_label)]
        return (*differentiable, *statistics)

    @staticmethod
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride] -- the arguments are ours
        ctx: Any, *gradients: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        """−2Ṽ/(numel·S) for each label, times the gradients that arrive for it."""
        size = len(gradients) // 4
        of_loss, of_label = gradients[:size], gradients[size : 2 * size]
        wanted = [
            index
            for index in range(size)
            if ctx.needs_input_grad[2 + index]
            and not (of_loss[index] is None and of_label[index] is None)
        ]
        found: list[Tensor | None] = [None] * size
        if wanted:
            parts = gradients_of(
                _Restored.of(ctx, size, wanted),
                [ctx.changes[index] for index in wanted],
                [of_loss[index] for index in wanted],
                [of_label[index] for index in wanted],
            )
            for index, each in zip(wanted, parts, strict=True):
                found[index] = each
        return None, None, *found


@dataclass
class _Restored:
    """The ``wanted`` features of a bucket, as the backward pass has them.

    ``feature_scale`` are their S. The gradients of all labels' losses are in ``slopes``, once the
    eager path was taken, else in nothing that is ``kept``.
    """

    problems: list[Problem]
    wanted: list[int]
    kernels: ModuleType
    shares: Tensor
    kept: Kept | None
    feature_scale: list[Tensor]
    slopes: list[Tensor] | None
    received: list[list[Tensor]]

    @classmethod
    def of(cls, ctx: Any, size: int, wanted: list[int]) -> _Restored:
        """From what :class:`_Together` saved of ``size`` features."""
        saved = enumerate(ctx.saved_tensors)
        weight, shares, *others = [ctx.inferred.get(index, each) for index, each in saved]
        others: list[Any]
        first = len(fields(Kept))
        last = first + 3 * size
        kept, samples, scales, rest = (
            others[:first],
            others[first:last],
            others[last : last + size],
            others[last + size :],
        )
        return cls(
            [
                Problem(*samples[at : at + 3], weight=weight, **ctx.options)
                for at in range(0, 3 * size, 3)
            ],
            wanted,
            ctx.kernels,
            shares,
            None if ctx.slopes else Kept(*kept),
            scales,
            rest[:size] if ctx.slopes else None,
            [] if ctx.slopes else [rest[at : at + size] for at in range(0, len(rest), size)],
        )

    def gradients(
        self, of_loss: Sequence[Tensor | None], of_label: Sequence[Tensor | None]
    ) -> list[Tensor]:
        """As ``Frozen.gradients``."""
        outs = self._launched(self.wanted, of_loss, of_label)
        if outs is not None:
            return outs
        slopes = self._eager()
        found: list[Tensor] = []
        for index, loss, label in zip(self.wanted, of_loss, of_label, strict=True):
            arriving = torch.zeros_like(slopes[index][:, 0, 0, 0])
            if loss is not None:
                arriving = arriving + loss * self.shares[index]
            if label is not None:
                arriving = arriving + label
            gradient = slopes[index] * arriving[:, None, None, None]
            found.append(gradient.to(self.problems[index].generated.dtype))
        return found

    def share(self, index: int) -> Tensor:
        """As ``Frozen.share``."""
        return self.shares[self.wanted[index]]

    def slope(self, index: int) -> Tensor:
        """As ``Frozen.slope``."""
        at = self.wanted[index]
        ones = torch.ones_like(self.shares[:1]).expand(len(self.problems[at].generated))
        outs = self._launched([at], [None], [ones], torch.float32)
        return self._eager()[at] if outs is None else outs[0]

    def curvature(self, index: int) -> Curvature:
        """As ``Frozen.curvature``."""
        at = self.wanted[index]
        return Curvature.of(self.problems[at], self.feature_scale[at])

    def _launched(
        self,
        wanted: Sequence[int],
        of_loss: Sequence[Tensor | None],
        of_label: Sequence[Tensor | None],
        dtype: torch.dtype | None = None,
    ) -> list[Tensor] | None:
        """The gradients by the kernels, in the features' ``dtype`` if None; None without them."""
        if self.kept is None or self.slopes is not None:
            return None
        chosen = [self.problems[index].generated for index in wanted]
        outs = [torch.empty_like(each, dtype=dtype) for each in chosen]
        losses: list[Tensor | None] = [None] * len(self.problems)
        labels: list[Tensor | None] = [None] * len(self.problems)
        for index, loss, label in zip(wanted, of_loss, of_label, strict=True):
            losses[index], labels[index] = loss, label
        try:
            launches = Launches(self.problems, self.kernels)
            launches.gradient(self.kept, self.shares, wanted, losses, labels, outs)
        except torch.cuda.OutOfMemoryError:
            raise
        except Exception as error:  # whatever a compiler may raise
            available.give_up(self.problems[0], error)
            return None
        return outs

    def _eager(self) -> list[Tensor]:
        """The gradients of all features by the eager path, where a kernel failed."""
        if self.slopes is None:
            received = self.received
            device = self.problems[0].generated.device.type
            with torch.no_grad(), torch.autocast(device, enabled=False):
                again = _finished(_eagerly(self.problems, bool(received), 1, received))
            assert again.slopes is not None
            self.slopes = again.slopes
        return self.slopes
