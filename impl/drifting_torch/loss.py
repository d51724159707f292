"""The drifting loss of one feature (A.6), the vanilla term included as one more feature."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from drifting_spec import PAPER, Readings
from drifting_torch._affinity import has_floor
from drifting_torch._compiled import compiled_loss, transformed_loss
from drifting_torch._core import DriftingLossFunction, Problem, Solution
from drifting_torch._quadratic import change_of
from drifting_torch._together import Bucket, Solved, gathered, together
from drifting_torch._transforms import is_transformed
from drifting_torch._triton import kernels_for
from drifting_torch._validation import (
    check_finite,
    check_precision,
    check_readings,
    check_samples,
    check_temperatures,
    check_tensor,
    reads_values,
)
from drifting_torch._weights import TargetWeights
from drifting_torch.field import compute_dtype

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

PAPER_TEMPERATURES = (0.02, 0.05, 0.2)


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
        from drifting_torch._floor_share import floor_share

        return floor_share(self.problem, self.feature_scale)


def drifting_loss(
    generated: Tensor,
    positive: Tensor,
    unconditional: Tensor | None = None,
    unconditional_weight: Tensor | None = None,
    *,
    generated_weight: Tensor | None = None,
    positive_weight: Tensor | None = None,
    temperatures: Sequence[float] = PAPER_TEMPERATURES,
    readings: Readings = PAPER,
    validate: bool | None = None,
    process_group: ProcessGroup | str | None = None,
    precision: str = "float32",
) -> DriftingLossOutput:
    """Drifting loss of one feature: normalise by S, drift at each τ, normalise by λ, sum, MSE.

    Parameters
    ----------
    generated
        Features of the generated samples [L, N, V, C]: L labels, N samples each, V vectors that
        share one S and one λ (the locations of a map), C channels. float64, float32, bfloat16 or
        float16; any strides. Of any unit on the CPU that the dtype holds (spread over processes
        float64 up to 1e300); on a GPU squares of distances are formed in float32, so that features
        from 1e-18 to 1e17 fit and others need float64.
    positive
        Features of real samples of the same labels [L, P, V, C].
    unconditional
        Features of real samples of any class [L, U, V, C], further negatives (A.7).
    unconditional_weight
        Their kernel weight w [L] or [L, U], at least 0; required with ``unconditional``
        (:func:`drifting_torch.cfg_alpha_to_weight`).
    generated_weight, positive_weight
        Kernel weights [L, N] of the generated samples as negatives, and [L, P]; ones if None.
    temperatures
        τ's; each is multiplied by √C (EQ-22). They may repeat.
    readings
        How the text is read where it leaves a choice.
    validate
        Whether to look at values: None for always on the CPU and never elsewhere. With a process
        group also whether its processes first compare shapes, temperatures and readings, so that
        all of them raise where one would: None for always on the CPU, elsewhere in the first call.
    process_group
        The processes over which the labels of the batch are spread, each label whole on one of
        them, ``"world"`` for all. S and λ are then statistics of the global batch (nothing else
        is shared: the softmaxes stay within a label). The processes may hold different numbers
        of labels, of positives and of unconditional samples, or none of the latter. Every process
        must call, and the gradients must be averaged, as DistributedDataParallel does. None for
        one process.
    precision
        Of the matrix products of the GPU kernels: "float32", or "tf32" for faster products of
        factors rounded to 10 bits. Nothing else heeds it.

    Returns
    -------
    DriftingLossOutput
        ``.loss`` and its parts. Under the default readings the gradient with respect to
        ``generated`` is −2Ṽ/(L·N·C·S) exactly.
        It can be differentiated again: with the target frozen the second derivative is
        2/(L·N·C·S²) on the diagonal. Not outside of a function compiled by ``torch.compile``,
        whose operators have no second derivatives (as PyTorch's own have none there): take
        ``torch.func.grad`` inside it.

    Raises
    ------
    ValueError, TypeError
        For shapes, dtypes, devices or values that do not fit, naming the argument; with a process
        group on all its processes.
    RuntimeError
        For a process group where torch.distributed is not initialised.
    """

    def problems() -> Iterator[tuple[str, Tensor, Problem]]:
        problem = problem_of(
            generated,
            positive,
            unconditional,
            TargetWeights(unconditional_weight, generated_weight, positive_weight),
            temperatures=temperatures,
            readings=readings,
            validate=validate,
            precision=precision,
        )
        yield "", generated, problem

    return solve_each(problems(), process_group, validate)[""]


def solve_each(
    problems: Iterable[tuple[str, Tensor, Problem]],
    process_group: ProcessGroup | str | None,
    validate: bool | None,
) -> dict[str, DriftingLossOutput]:
    """Solve named problems: together where the GPU kernels do, else one after the other.

    With a process group all side by side with those of other processes.
    """
    if process_group is None:
        return _solve_here(problems)
    # Not before it is needed: this loads the compiler, to keep it out.
    from drifting_torch._many import solve_together

    return solve_together(problems, process_group, validate)  # pyright: ignore[reportCallIssue] -- the decorator hides it


def _solve_here(problems: Iterable[tuple[str, Tensor, Problem]]) -> dict[str, DriftingLossOutput]:
    """Solve the problems of one process; what the GPU kernels take waits for its like."""
    outputs: dict[str, DriftingLossOutput | None] = {}
    waiting: dict[str, tuple[Tensor, Problem]] = {}
    for key, generated, problem in problems:
        if is_transformed(generated) or kernels_for(problem) is None:
            outputs[key] = _solve_alone(generated, problem)
        else:
            outputs[key] = None
            waiting[key] = (generated, problem)
    for bucket in gathered((key, problem) for key, (_, problem) in waiting.items()):
        outputs |= outputs_of(bucket, {key: waiting[key][0] for key in bucket.keys})
    return {key: found for key, found in outputs.items() if found is not None}


def outputs_of(
    bucket: Bucket, generated: Mapping[str, Tensor], solved: Solved | None = None
) -> dict[str, DriftingLossOutput]:
    """A bucket's outputs, differentiable in the ``generated`` features [L, N, V, C] of each key."""
    found = together(bucket, list(generated.values()), solved)
    return {
        key: _output(each, problem)
        for key, problem, each in zip(generated, bucket.problems, found, strict=True)
    }


def _output(values: tuple[Tensor, Tensor, Tensor, Tensor], problem: Problem) -> DriftingLossOutput:
    """The output of a problem: its loss, ``per_label``, S and λ, and what they came from."""
    floored = has_floor(problem.readings)
    kept = problem if floored and not torch.compiler.is_compiling() else None
    return DriftingLossOutput(*values, problem.generated.shape[-1], floored, kept)


def problem_of(
    generated: Tensor,
    positive: Tensor,
    unconditional: Tensor | None,
    weights: TargetWeights,
    *,
    temperatures: Sequence[float],
    readings: Readings,
    validate: bool | None = None,
    normalized: bool = True,
    precision: str = "float32",
) -> Problem:
    """Check the arguments of :func:`drifting_loss` and put them together.

    ``weights`` are those of all features of a call.
    """
    readings = check_readings(readings)
    kinds = check_temperatures(temperatures)
    check_tensor("generated", generated, "L N V C")
    check_samples("positive", positive, generated)
    if unconditional is not None:
        check_samples("unconditional", unconditional, generated)
    if reads_values(generated, validate):
        samples = {"generated": generated, "positive": positive, "unconditional": unconditional}
        for name, value in samples.items():
            if value is not None:
                check_finite(name, value)
    return Problem(
        generated=generated.detach(),
        positive=positive.detach(),
        unconditional=None if unconditional is None else unconditional.detach(),
        weight=weights.of(generated, positive, unconditional, validate),
        temperatures=kinds,
        readings=readings,
        dtype=compute_dtype(generated, readings, raw=not normalized),
        normalized=normalized,
        precision=check_precision(precision),
    )


def _solve_alone(generated: Tensor, problem: Problem) -> DriftingLossOutput:
    """The loss of one checked problem, differentiable in ``generated``."""
    if torch.compiler.is_compiling():
        outputs = compiled_loss(generated, problem)
    elif is_transformed(generated):
        outputs = transformed_loss(generated, problem)
    else:
        outputs = DriftingLossFunction.apply(change_of(generated), problem, None)
    per_label, feature_scale, drift_scale = outputs
    mean = problem.readings.label_reduction == "mean"
    loss = per_label.mean() if mean else per_label.sum()
    return _output((loss, per_label, feature_scale, drift_scale), problem)


def output_of(
    generated: Tensor, problem: Problem, solution: Solution, processes: int
) -> DriftingLossOutput:
    """The loss of a problem that was solved together with other processes."""
    assert solution.loss is not None
    assert solution.labels is not None
    parts = DriftingLossFunction.apply(change_of(generated), problem, solution)
    per_label, feature_scale, drift_scale = parts
    factor = torch.full_like(solution.labels, processes)
    if problem.readings.label_reduction == "mean":
        factor = factor / solution.labels
    loss = _LossOfAll.apply(per_label, solution.loss.to(per_label.dtype), factor)
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
