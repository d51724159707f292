"""Suspects of the aggregation over τ, the target, the error, the reductions and the gradient."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from drifting_parity.suspects.field_steps import ratio
from drifting_parity.suspects.loss_steps import across
from drifting_parity.suspects.registry import suspect
from drifting_parity.suspects.samples import Samples
from drifting_parity.suspects.textbook import Textbook

PER_TEMPERATURE = (
    {"temperature_aggregation": "per_temperature_mse"},
    {"temperature_aggregation": "per_temperature_mse_mean"},
)


@suspect("D24", "", "loss", reading=("temperature_aggregation", "per_temperature_mse"))
class ErrorOfEachTemperature(Textbook):
    """One mean squared error for each temperature, summed."""

    def aggregation(self, drifts: Tensor) -> Tensor:
        """One target for each τ."""
        return drifts

    def reduce_temperatures(self, squared: Tensor, temperatures: int) -> Tensor:
        """Their sum."""
        del temperatures
        return squared.sum(0)


@suspect("D25", "errors", "loss", reading=("temperature_aggregation", "per_temperature_mse_mean"))
class MeanErrorOfTemperatures(Textbook):
    """One mean squared error for each temperature, averaged."""

    def aggregation(self, drifts: Tensor) -> Tensor:
        """One target for each τ."""
        return drifts

    def reduce_temperatures(self, squared: Tensor, temperatures: int) -> Tensor:
        """Their mean."""
        return squared.sum(0) / temperatures


@suspect("D25", "drifts", "loss", "temperatures", size=1e-2)
class MeanDriftOfTemperatures(Textbook):
    """The normalised drifts are averaged, then one mean squared error."""

    def aggregation(self, drifts: Tensor) -> Tensor:
        """The targets, as many times nearer as there are temperatures."""
        return super().aggregation(drifts) / len(drifts)


@suspect(
    *("D27", "", "loss", "temperatures"),
    size=1e-3,
    idle_under=PER_TEMPERATURE,
    needed_under={"temperatures": ("floors", "none")},
)
class NormalizedTwice(Textbook):
    """The sum of the normalised drifts is normalised once more."""

    def aggregation(self, drifts: Tensor) -> Tensor:
        """ΣṼ over its own λ."""
        total = super().aggregation(drifts)
        return ratio(total, across(self.drift_scale(total)))


@suspect("D43", "", "loss", reading=("location_reduction", "mean"))
class MeanOverVectors(Textbook):
    """The losses of a feature's vectors are averaged."""

    def reduce_vectors(self, squared: Tensor) -> Tensor:
        """Their mean."""
        return squared.mean(-1)


@suspect("D59", "raw-features", "loss", size=1e-3)
class DriftOnRawFeatures(Textbook):
    """The normalised drift is added to features that are not normalised."""

    def regressed(self, x: Tensor, scale: Tensor) -> Tensor:
        """φ(x)."""
        del scale
        return x


@suspect("D59", "raw-units", "loss", size=1e-3)
class DriftInRawUnits(Textbook):
    """The drift is multiplied back by S and added to features that are not normalised."""

    def regressed(self, x: Tensor, scale: Tensor) -> Tensor:
        """φ(x)."""
        del scale
        return x

    def displacement(self, drifts: Tensor, scale: Tensor) -> Tensor:
        """S Ṽ."""
        return super().displacement(drifts, scale) * across(scale)


@suspect("D60", "sum", "loss", reading=("channel_reduction", "sum"))
class SumOverChannels(Textbook):
    """The squared error is added over channels."""

    def reduce_channels(self, squared: Tensor) -> Tensor:
        """The sum."""
        return squared.sum(-1)


@suspect("D60", "half", "loss", size=1e-2, factor_of_loss=0.5)
class LossFactor(Textbook):
    """A constant before the loss."""

    factor_of_loss: float = 0.5

    def value(self, loss: Tensor) -> Tensor:
        """κ times the loss."""
        return self.factor_of_loss * super().value(loss)


@suspect("D60", "huber", "loss", size=1e-2, huber_limit=1.0)
class Huber(Textbook):
    """A Huber loss (``smooth_l1``) in place of the square."""

    huber_limit: float = 1.0

    def squared(self, error: Tensor) -> Tensor:
        """e²/2δ near 0, |e| − δ/2 beyond δ."""
        size, limit = error.abs(), self.huber_limit
        return torch.where(size < limit, error.square() / (2 * limit), size - limit / 2)


@suspect("D60", "norm-clamp", "loss", size=1e-3, longest_drift=1.0)
class DriftClamped(Textbook):
    """Drifts longer than a limit (over √C) are cut to it."""

    longest_drift: float = 1.0

    def displacement(self, drifts: Tensor, scale: Tensor) -> Tensor:
        """Ṽ of length √C times the limit at most."""
        drifts = super().displacement(drifts, scale)
        length = torch.linalg.vector_norm(drifts, dim=-1, keepdim=True)
        limit = self.longest_drift * drifts.shape[-1] ** 0.5
        return drifts * ratio(torch.full_like(length, limit), length).clamp_max(1)


# Gradient through what should be frozen, S3-sg.


@suspect("D61", "target", "loss", size=1e-2)
class TargetAttached(Textbook):
    """Nothing is detached: the gradient runs through V, S, λ, positives and negatives."""

    attached = frozenset(
        {"rows", "positives", "negatives", "feature_scale", "drift", "drift_scale"}
    )

    def error(self, phi: Tensor, displacement: Tensor) -> Tensor:
        """φ̃ − (φ̃ + Ṽ)."""
        del phi
        return -displacement


@suspect("D61", "feature-scale", "loss", size=1e-3)
class ScaleAttached(Textbook):
    """The gradient runs through S of φ̃ = φ/S; the target is frozen."""

    attached = frozenset({"rows", "negatives", "feature_scale"})


@suspect("D61", "negatives", "loss", size=1e-3)
class NegativesAttached(Textbook):
    """The negatives are the samples with their gradient."""

    attached = frozenset({"negatives", "drift"})


# The loss of several features.


@suspect("D44", "", "features")
class MeanOverFeatures(Textbook):
    """The losses of the features are averaged."""

    def reduce_features(self, terms: Sequence[Tensor]) -> Tensor:
        """Their mean."""
        return super().reduce_features(terms) / max(1, len(terms))


@suspect("D45", "missing", "features")
class VanillaMissing(Textbook):
    """The vanilla term is missing."""

    def add_vanilla(self, features: Tensor, vanilla: Tensor, weight: float) -> Tensor:
        """The features alone."""
        del vanilla, weight
        return features


@suspect("D45", "weighted", "features", weight_of_vanilla=0.1)
class VanillaWeighted(Textbook):
    """The vanilla term has a weight of its own."""

    weight_of_vanilla: float = 0.1

    def add_vanilla(self, features: Tensor, vanilla: Tensor, weight: float) -> Tensor:
        """The vanilla term times a constant."""
        return super().add_vanilla(features, vanilla, weight * self.weight_of_vanilla)


@suspect("D45", "raw", "features", reading=("vanilla_term", "raw"))
class VanillaRaw(Textbook):
    """The vanilla term has neither S nor λ."""

    def vanilla(self, live: Samples, temperatures: Sequence[float]) -> Tensor:
        """Distances and temperatures as they are."""
        return self.raw_loss(live, temperatures)
