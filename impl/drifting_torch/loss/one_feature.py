"""The drifting loss of one feature (A.6), the vanilla term included as one more feature."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from drifting_spec import PAPER, Readings
from drifting_torch.arguments.transforms import is_transformed
from drifting_torch.kernels.available import kernels_for
from drifting_torch.loss.output import DriftingLossOutput, outputs_of, traced_output
from drifting_torch.problem.ablation import Ablation
from drifting_torch.problem.build import problem_of
from drifting_torch.problem.problem import Problem
from drifting_torch.problem.weights import TargetWeights

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

PAPER_TEMPERATURES = (0.02, 0.05, 0.2)


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
    attraction: float = 1.0,
    repulsion: float = 1.0,
    feature_normalization: bool = True,
    drift_normalization: bool = True,
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
        Features of real samples of any class [L, U, V, C], further negatives (A.7). Other negatives
        of your own come here too; with a ``generated_weight`` of 0 they are the only ones.
    unconditional_weight
        Their kernel weight w [L] or [L, U], at least 0; required with ``unconditional``
        (:func:`drifting_torch.cfg_alpha_to_weight`).
    generated_weight, positive_weight
        Kernel weights [L, N] of the generated samples as negatives, and [L, P]; ones if None.
    temperatures
        τ's; each is multiplied by √C (EQ-22). They may repeat.
    readings
        How the text is read where it leaves a choice.
    attraction, repulsion
        Factors a and b of V = a·V⁺ − b·V⁻, both relative to x, at least 0 (Table 1's ablation; the
        paper's method is 1 and 1). Applied before λ, so that their ratio alone matters where λ
        divides. The GPU kernels leave other factors than 1 to PyTorch's operators.
    feature_normalization, drift_normalization
        False leaves S (EQ-18), or λ (EQ-23), out. For ablations only: it is not the paper's
        method, no table of it has such a row, and temperatures and losses are then in the units of
        the features. ``feature_scale`` is then 1; ``drift_scale`` is λ all the same.
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
        ablation = Ablation(attraction, repulsion, feature_normalization, drift_normalization)
        problem = problem_of(
            generated,
            positive,
            unconditional,
            TargetWeights(unconditional_weight, generated_weight, positive_weight),
            temperatures=temperatures,
            readings=readings,
            validate=validate,
            precision=precision,
            ablation=ablation,
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
    from drifting_torch.loss.distributed import solve_together

    return solve_together(problems, process_group, validate)  # pyright: ignore[reportCallIssue] -- the decorator hides it


def _solve_here(problems: Iterable[tuple[str, Tensor, Problem]]) -> dict[str, DriftingLossOutput]:
    """Solve the problems of one process; what the GPU kernels take waits for its like."""
    outputs: dict[str, DriftingLossOutput | None] = {}
    waiting: dict[str, tuple[Tensor, Problem]] = {}
    for key, generated, problem in problems:
        if is_transformed(generated):
            outputs[key] = traced_output(generated, problem)
        elif kernels_for(problem) is None:
            outputs |= outputs_of({key: (generated, problem)})
        else:
            outputs[key] = None
            waiting[key] = (generated, problem)
    outputs |= outputs_of(waiting)
    return {key: found for key, found in outputs.items() if found is not None}
