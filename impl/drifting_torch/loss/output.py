"""What a loss hands out, and how it is made differentiable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from drifting_torch.eager.solve import DriftingLossFunction
from drifting_torch.loss.compiled import compiled_loss, transformed_loss
from drifting_torch.loss.driver import Added, solve
from drifting_torch.loss.together import together
from drifting_torch.problem.derivatives import change_of
from drifting_torch.problem.problem import Problem
from drifting_torch.problem.readings import has_floor, over_labels
from drifting_torch.problem.solution import Solution


@dataclass(frozen=True)
class DriftingLossOutput:
    """The loss of one feature and what went into it.

    Attributes
    ----------
    loss
        Scalar; differentiable in the generated samples and in nothing else. With a process group
        the loss of all processes' labels, the same on each; its gradient is scaled so that the
        *average* over the processes is the gradient of one process that has all labels.
    per_label
        [L], this process's labels; differentiable as ``loss`` is, without that scaling.
    feature_scale
        S [1|L, 1|V] (EQ-21), 1 where it is shared, before any floor. Units of the features.
    drift_scale
        λ [T, 1|L, 1|V] (EQ-25) in φ̃ coordinates, one per temperature, before any floor.
    channels
        C, the channels of the feature.
    floored
        Whether the readings lay a floor under the affinities.
    problem
        The samples, for :attr:`floor_share`; kept only with a floor, as long as this output is.
    """

    loss: Tensor
    per_label: Tensor
    feature_scale: Tensor
    drift_scale: Tensor
    channels: int
    floored: bool = False
    problem: Problem | None = field(default=None, repr=False, compare=False)

    @property
    def drift_energy(self) -> Tensor:
        """‖V‖² = C·λ² [T, 1|L, 1|V], the curve to watch: the loss itself hardly moves (P-34)."""
        return self.channels * self.drift_scale.square()

    @property
    def degenerate(self) -> Tensor:
        """Where the drift vanishes altogether [T, 1|L, 1|V]: 0/0 was taken as 0 there."""
        return self.drift_scale == 0

    @property
    def floor_share(self) -> Tensor:
        """How much of the affinity is the readings' floor [2, T, 1|L, 1|V], from 0 to 1.

        First of the positives' affinity, then of the negatives', for each λ; 0 where the readings
        have no floor. Near 1 for the positives the kernel no longer counts, and every sample is
        drawn to their mean, whichever lie near it. Under ``RELEASE`` this is so while the generated
        samples coincide, and on few channels they then stay together (J-01).

        Worked out whenever it is asked for, at about the cost of the loss, from the samples as
        they are then, those of this process alone. ``RuntimeError`` with a floor where they were
        not kept: by :func:`drifting_torch.stream_drifting_loss` and under ``torch.compile``.
        """
        if not self.floored:
            return torch.zeros_like(self.drift_scale).expand(2, *self.drift_scale.shape)
        if self.problem is None:
            raise RuntimeError(
                "floor_share needs the samples, which stream_drifting_loss and torch.compile do "
                "not keep: ask drifting_loss about this feature, without compiling it"
            )
        # Not before it is needed: most never ask.
        from drifting_torch.eager.floor_share import floor_share

        return floor_share(self.problem, self.feature_scale)


def outputs_of(
    asked: Mapping[str, tuple[Tensor, Problem]], processes: int = 1, added: Added | None = None
) -> dict[str, DriftingLossOutput]:
    """Solve named problems, and make them differentiable in the generated samples [L, N, V, C].

    With those of other ``processes`` if ``added`` is given, which adds up over them.
    """
    if not asked:
        return {}
    problems = {key: problem for key, (_, problem) in asked.items()}
    solved, solutions = solve(problems, processes, added)
    outputs = {key: _output_of(*asked[key], each, processes) for key, each in solutions.items()}
    for bucket, each in solved:
        found = together(bucket, [asked[key][0] for key in bucket.keys], each)
        parts = zip(bucket.keys, found, bucket.problems, strict=True)
        outputs |= {key: _output(values, problem) for key, values, problem in parts}
    return {key: outputs[key] for key in asked}


def _output(values: tuple[Tensor, Tensor, Tensor, Tensor], problem: Problem) -> DriftingLossOutput:
    """The output of a problem: its loss, ``per_label``, S and λ, and what they came from."""
    floored = has_floor(problem.readings)
    kept = problem if floored and not torch.compiler.is_compiling() else None
    return DriftingLossOutput(*values, problem.generated.shape[-1], floored, kept)


def traced_output(generated: Tensor, problem: Problem) -> DriftingLossOutput:
    """The loss of one problem as an operator, for torch.compile and torch.func."""
    compiling = torch.compiler.is_compiling()
    outputs = (compiled_loss if compiling else transformed_loss)(generated, problem)
    return _of_labels(*outputs, problem)


def _output_of(
    generated: Tensor, problem: Problem, solution: Solution, processes: int
) -> DriftingLossOutput:
    """The loss of a problem that PyTorch's operators solved."""
    parts = DriftingLossFunction.apply(change_of(generated), problem, solution)
    per_label, feature_scale, drift_scale = parts
    if solution.loss is None or solution.labels is None:
        return _of_labels(per_label, feature_scale, drift_scale, problem)
    factor = torch.full_like(solution.labels, processes)
    factor = over_labels(problem.readings, factor, solution.labels)
    loss = _LossOfAll.apply(per_label, solution.loss.to(per_label.dtype), factor)
    return _output((loss, per_label, feature_scale, drift_scale), problem)


def _of_labels(
    per_label: Tensor, feature_scale: Tensor, drift_scale: Tensor, problem: Problem
) -> DriftingLossOutput:
    """The output of a problem all of whose labels are here."""
    loss = over_labels(problem.readings, per_label.sum(), len(per_label))
    return _output((loss, per_label, feature_scale, drift_scale), problem)


class _LossOfAll(torch.autograd.Function):
    """The loss of all processes, differentiable in the ``per_label`` [L] of this one."""

    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride] -- the arguments are ours
        ctx: Any, per_label: Tensor, loss: Tensor, factor: Tensor
    ) -> Tensor:
        """Hand out the value that is known already."""
        ctx.save_for_backward(factor)
        ctx.labels = len(per_label)
        return loss.clone()

    @staticmethod
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride] -- the arguments are ours
        ctx: Any, gradient: Tensor
    ) -> tuple[Tensor, None, None]:
        """The number of processes over the number of all labels: to be averaged over processes."""
        (factor,) = ctx.saved_tensors
        return (gradient * factor.to(gradient.dtype)).expand(ctx.labels), None, None
