"""The readings as numbers: masks, floors, factors and dtypes, for every solver alike (A.6).

No solver has a number of its own for what a reading says.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from drifting_spec import Readings
from drifting_torch.problem.problem import Problem

RELEASE_DISTANCE = 1e-4
"""The authors' release floors every squared distance at 1e-8."""

_ADDED_TO_SELF = {"add_1e6": 1e6, "add_100": 100.0}
_LEAST_SCALE = {"none": 0.0, "seed": 1e-8, "release": 1e-3}
_LEAST_DRIFT_SCALE = {"none": 0.0, "seed": 1e-8, "release": 1e-4}


def loss_dtype(generated: Tensor) -> torch.dtype:
    """The dtype of losses and weights: float64 for float64 features, float32 for all others."""
    return torch.float64 if generated.dtype == torch.float64 else torch.float32


def has_floor(readings: Readings) -> bool:
    """Whether a floor lies under the affinities: it is one under two softmaxes' product."""
    return readings.affinity_floor != "none" and readings.softmax_axes == "xy"


def takes_geometric_mean(readings: Readings) -> bool:
    """Whether the affinities are those of the two softmaxes' geometric mean."""
    return (
        readings.softmax_axes == "xy"
        and readings.softmax_combination == "sqrt"
        and readings.kernel_normalization == "joint"
        and readings.temperature_scaling == "sqrt_channels"
        and readings.unconditional_weight != "log_in_softmaxes"
    )


def root_scaled(problem: Problem) -> float:
    """What multiplies the temperatures: √C (EQ-22) unless they are raw."""
    raw = not problem.normalized or problem.readings.temperature_scaling == "raw"
    return 1.0 if raw else math.sqrt(problem.generated.shape[-1])


def mask_logits(problem: Problem, effective: list[float]) -> list[float]:
    """What is added to a sample's own logit at effective temperatures; −inf to exclude it."""
    size = added_to_self(problem.readings)
    if size is None:
        return [-math.inf for _ in effective]
    return [-size * mask_unit(problem) / each for each in effective]


def added_to_self(readings: Readings) -> float | None:
    """What is added to a sample's distance from itself, in mask units; None to exclude the pair."""
    return _ADDED_TO_SELF.get(readings.self_mask)


def affinity_floor(readings: Readings) -> float:
    """The floor under the product of the two softmaxes; 0 for none."""
    return 0.0 if readings.affinity_floor == "none" else float(readings.affinity_floor)


def mask_unit(problem: Problem) -> float:
    """One unit of an additive mask: of the mean distance for add_100, else of a distance."""
    of_mean = problem.divides_features and problem.readings.self_mask == "add_100"
    return math.sqrt(problem.generated.shape[-1]) if of_mean else 1.0


def inverse_scales(
    problem: Problem, feature_scale: Tensor, unit: Tensor | float = 1.0
) -> tuple[Tensor, Tensor]:
    """What coordinates and distances in ``unit`` are multiplied by, after the readings' floors.

    The second leads to units where the distances' mean is √C, as it is for φ̃ = φ/S (EQ-20).
    """
    of_coordinate, of_distance = (
        reciprocal(torch.maximum(feature_scale, torch.full_like(feature_scale, least) * unit))
        for least in least_scales(problem)
    )
    return of_coordinate, of_distance


def least_scales(problem: Problem) -> tuple[float, float]:
    """The least S that coordinates, and that distances, are divided by (the readings' floors).

    The release's floor is one under S for coordinates, and under the mean distance for distances.
    """
    least = _LEAST_SCALE[problem.readings.floors]
    root = math.sqrt(problem.generated.shape[-1])
    return least, least / root if problem.readings.floors == "release" else least


def least_drift_scale(readings: Readings) -> float:
    """The least λ that V is divided by; the release's floor is one of 1e-8 under λ²."""
    return _LEAST_DRIFT_SCALE[readings.floors]


def reciprocal(scale: Tensor) -> Tensor:
    """Reciprocal with 1/0 := 0: what coincides entirely has no drift."""
    return scale.reciprocal().masked_fill_(scale == 0, 0.0)


def inverse_drift_scale(problem: Problem, drift_scale: Tensor) -> Tensor:
    """What V is multiplied by [T, 1|L, 1|V], after the readings' floors; 1 without λ."""
    if not problem.divides_drifts:
        return torch.ones_like(drift_scale)
    return reciprocal(drift_scale.clamp_min(least_drift_scale(problem.readings)))


def per_entry(problem: Problem) -> float:
    """What the square of an entry of Ṽ is multiplied by in ``per_label``."""
    _, count, vectors, channels = problem.generated.shape
    factor = 1.0 / count
    if problem.readings.channel_reduction == "mean":
        factor /= channels
    if problem.readings.location_reduction == "mean":
        factor /= vectors
    if problem.readings.temperature_aggregation == "per_temperature_mse_mean":
        factor /= len(problem.temperatures)
    return factor


def over_labels(readings: Readings, summed: Tensor, labels: Tensor | int) -> Tensor:
    """The mean over ``labels`` labels of what was summed over them, or the sum itself."""
    return summed / labels if readings.label_reduction == "mean" else summed


def compute_dtype(tensor: Tensor, readings: Readings, *, raw: bool = False) -> torch.dtype:
    """The arithmetic for features in ``tensor``: float32 or better.

    Without a softmax, with a product instead of the root of two, or with raw temperatures,
    affinities reach e^(−2/τ) and less, and their products leave float32's range: float64 then,
    where the device has it. ``raw`` says that temperatures are raw whatever the readings.
    """
    wide_range = (
        raw
        or readings.temperature_scaling == "raw"
        or readings.softmax_axes == "none"
        or (readings.softmax_axes == "xy" and readings.softmax_combination == "product")
    )
    if tensor.dtype == torch.float64 or (wide_range and tensor.device.type != "mps"):
        return torch.float64
    return torch.float32
