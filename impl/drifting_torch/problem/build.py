"""A problem from checked arguments."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from drifting_spec import Readings
from drifting_torch.arguments.tensors import (
    check_finite,
    check_precision,
    check_readings,
    check_samples,
    check_temperatures,
    check_tensor,
    reads_values,
)
from drifting_torch.problem.ablation import NO_ABLATION, Ablation
from drifting_torch.problem.problem import Problem
from drifting_torch.problem.readings import compute_dtype
from drifting_torch.problem.weights import TargetWeights


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
    ablation: Ablation = NO_ABLATION,
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
        dtype=compute_dtype(
            generated, readings, raw=not (normalized and ablation.feature_normalization)
        ),
        normalized=normalized,
        precision=check_precision(precision),
        ablation=ablation,
    )
