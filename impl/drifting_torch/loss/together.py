"""What the GPU kernels solved together, made differentiable in the generated samples (A.6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from drifting_spec import implements
from drifting_torch.kernels import available
from drifting_torch.kernels.launches import Kept, Launches
from drifting_torch.kernels.solve import Bucket, Solved
from drifting_torch.loss.driver import solve, solved_again
from drifting_torch.problem.derivatives import Curvature, change_of, gradients_of
from drifting_torch.problem.problem import Problem
from drifting_torch.problem.slope import Slope
from drifting_torch.problem.solution import Solution, Statistics, Sums


def alone(problem: Problem) -> Solution:
    """Solve a problem of one process with its gradient, by the kernels where they apply."""
    solved, solutions = solve({"": problem})
    for bucket, each in solved:
        slope = _Restored(Saved.of(bucket, each), [0], bucket.kernels).slope(0)
        results = each.results
        statistics = Statistics(results.feature_scale[0], results.drift_scale[0])
        return Solution(results.per_label[0], Slope.of(slope), statistics)
    return solutions[""]


def together(
    bucket: Bucket, generated: Sequence[Tensor], solved: Solved
) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Loss, ``per_label``, S and λ of each problem, differentiable in ``generated`` features."""
    outputs = _Together.apply(bucket, solved, *[change_of(each) for each in generated])
    size = len(generated)
    return [tuple(outputs[index::size]) for index in range(size)]


@dataclass(frozen=True)
class Saved:
    """All that the backward pass of a bucket reads.

    ``feature_scale`` are the S of its problems, the rest is that of :class:`Solved`.
    """

    problems: list[Problem]
    shares: Tensor
    kept: Kept
    feature_scale: list[Tensor]
    received: tuple[Sums, ...]

    @classmethod
    def of(cls, bucket: Bucket, solved: Solved) -> Saved:
        """That of a bucket that was solved."""
        scales = solved.results.feature_scale
        return cls(bucket.problems, solved.shares, solved.kept, scales, solved.received)

    def flatten(self) -> list[Tensor | None]:
        """All tensors: autograd gives back in time what is saved one by one."""
        samples = [
            each
            for problem in self.problems
            for each in (problem.generated, problem.positive, problem.unconditional)
        ]
        received = [each for totals in self.received for each in totals]
        weight = self.problems[0].weight
        return [weight, self.shares, *self.kept, *samples, *self.feature_scale, *received]

    @classmethod
    def restore(cls, tensors: Sequence[Any], size: int, options: dict[str, Any]) -> Saved:
        """From what :meth:`flatten` gave of ``size`` problems with such ``options``."""
        left = iter(tensors)
        weight, shares = next(left), next(left)
        kept = Kept(*islice(left, len(Kept._fields)))
        problems = [Problem(*islice(left, 3), weight=weight, **options) for _ in range(size)]
        scales = [*islice(left, size)]
        received = [*left]
        turns = tuple(received[at : at + size] for at in range(0, len(received), size))
        return cls(problems, shares, kept, scales, turns)


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
        results = solved.results
        statistics = [each.detach() for each in (*results.feature_scale, *results.drift_scale)]
        ctx.mark_non_differentiable(*statistics)
        ctx.set_materialize_grads(False)
        ctx.kernels = bucket.kernels
        ctx.changes = changes
        saved = Saved.of(bucket, solved).flatten()
        # Autograd saves nothing that was made under inference_mode; it cannot be changed either.
        ctx.inferred = {
            index: each
            for index, each in enumerate(saved)
            if each is not None and each.is_inference()
        }
        ctx.save_for_backward(
            *(None if index in ctx.inferred else each for index, each in enumerate(saved))
        )
        ctx.options = bucket.problems[0].options
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
            tensors = [
                ctx.inferred.get(index, each) for index, each in enumerate(ctx.saved_tensors)
            ]
            saved = Saved.restore(tensors, size, ctx.options)
            parts = gradients_of(
                _Restored(saved, wanted, ctx.kernels),
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

    The gradients of all labels' losses are in ``slopes`` once a kernel failed.
    """

    saved: Saved
    wanted: list[int]
    kernels: ModuleType
    slopes: list[Tensor] | None = None

    def gradients(
        self, of_loss: Sequence[Tensor | None], of_label: Sequence[Tensor | None]
    ) -> list[Tensor]:
        """As ``Frozen.gradients``."""
        generated = [self.saved.problems[index].generated for index in self.wanted]
        outs = [torch.empty_like(each) for each in generated]
        if self._launched(self.wanted, of_loss, of_label, outs):
            return outs
        slopes = self._eager()
        found: list[Tensor] = []
        for index, loss, label in zip(self.wanted, of_loss, of_label, strict=True):
            arriving = torch.zeros_like(slopes[index][:, 0, 0, 0])
            if loss is not None:
                arriving = arriving + loss * self.saved.shares[index]
            if label is not None:
                arriving = arriving + label
            gradient = slopes[index] * arriving[:, None, None, None]
            found.append(gradient.to(self.saved.problems[index].generated.dtype))
        return found

    def share(self, index: int) -> Tensor:
        """As ``Frozen.share``."""
        return self.saved.shares[self.wanted[index]]

    def slope(self, index: int) -> Tensor:
        """As ``Frozen.slope``."""
        at = self.wanted[index]
        labels, count, vectors, channels = self.saved.problems[at].generated.shape
        ones = torch.ones_like(self.saved.shares[:1]).expand(labels)
        out = ones.new_empty((labels, vectors, count, channels)).transpose(1, 2)
        return out if self._launched([at], [None], [ones], [out]) else self._eager()[at]

    def curvature(self, index: int) -> Curvature:
        """As ``Frozen.curvature``."""
        at = self.wanted[index]
        return Curvature.of(self.saved.problems[at], self.saved.feature_scale[at])

    def _launched(
        self,
        wanted: Sequence[int],
        of_loss: Sequence[Tensor | None],
        of_label: Sequence[Tensor | None],
        outs: Sequence[Tensor],
    ) -> bool:
        """Write the gradients into ``outs`` by the kernels; whether they served."""
        if self.slopes is not None:
            return False
        saved = self.saved
        losses: list[Tensor | None] = [None] * len(saved.problems)
        labels: list[Tensor | None] = [None] * len(saved.problems)
        for index, loss, label in zip(wanted, of_loss, of_label, strict=True):
            losses[index], labels[index] = loss, label
        try:
            launches = Launches(saved.problems, self.kernels)
            launches.gradient(saved.kept, saved.shares, wanted, losses, labels, outs)
        except torch.cuda.OutOfMemoryError:
            raise
        except Exception as error:  # whatever a compiler may raise
            available.give_up(saved.problems[0], error)
            return False
        return True

    def _eager(self) -> list[Tensor]:
        """The gradients of all features by PyTorch's operators, where a kernel failed."""
        if self.slopes is None:
            again = solved_again(self.saved.problems, self.saved.received)
            self.slopes = [each.slope.whole() for each in again]
        return self.slopes
