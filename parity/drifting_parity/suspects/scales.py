"""Suspects of the features as they enter, S, the temperature, λ and their epsilons."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from drifting_parity.suspects.field_steps import ratio, root
from drifting_parity.suspects.registry import suspect
from drifting_parity.suspects.samples import Samples
from drifting_parity.suspects.textbook import Textbook

# The features as they enter.


@suspect("D38", "", "loss", size=1e-3)
class StandardizedChannels(Textbook):
    """Every channel is divided by its deviation over all samples, labels and vectors."""

    def features(self, samples: Samples) -> Samples:
        """φ/σ, σ [C] without a gradient."""
        samples = super().features(samples)
        everything = torch.cat([samples.positive, samples.negative], dim=-2).detach()
        sigma = everything.std((0, 1, 2), correction=0)
        return replace(
            samples,
            x=ratio(samples.x, sigma),
            positive=ratio(samples.positive, sigma),
            negative=ratio(samples.negative, sigma),
        )


@suspect("D39", "centred", "loss", size=1e-3)
class OwnCentres(Textbook):
    """Generated, positive and unconditional samples are each centred by their own mean."""

    def features(self, samples: Samples) -> Samples:
        """φ minus the mean of its set, without a gradient through the mean."""
        samples = super().features(samples)
        own, unconditional = samples.negative.tensor_split([samples.own], dim=-2)

        def centred(of: Tensor) -> Tensor:
            return of - of.detach().mean(-2, keepdim=True) if of.shape[-2] else of

        return replace(
            samples,
            x=centred(samples.x),
            positive=centred(samples.positive),
            negative=torch.cat([centred(own), centred(unconditional)], dim=-2),
        )


@suspect("D39", "scaled", "loss", size=1e-3)
class OwnScales(Textbook):
    """Generated, positive and unconditional samples are each divided by their own size."""

    def features(self, samples: Samples) -> Samples:
        """φ over the root mean square of its set, without a gradient through it."""
        samples = super().features(samples)
        own, unconditional = samples.negative.tensor_split([samples.own], dim=-2)

        def scaled(of: Tensor) -> Tensor:
            return ratio(of, of.detach().square().mean((-2, -1), keepdim=True).sqrt())

        return replace(
            samples,
            x=scaled(samples.x),
            positive=scaled(samples.positive),
            negative=torch.cat([scaled(own), scaled(unconditional)], dim=-2),
        )


@suspect("D58", "other-label", "loss", "labels", size=1e-3)
class NegativesOfOtherLabel(Textbook):
    """The negatives of a label are the generated samples of the one before."""

    def features(self, samples: Samples) -> Samples:
        """Generated negatives rolled by one label."""
        samples = super().features(samples)
        own, unconditional = samples.negative.tensor_split([samples.own], dim=-2)
        return replace(samples, negative=torch.cat([own.roll(1, 0), unconditional], dim=-2))


@suspect("D58", "all-labels", "loss", "labels", size=1e-3)
class NegativesOfAllLabels(Textbook):
    """The generated samples of every label are negatives."""

    def features(self, samples: Samples) -> Samples:
        """Those of the other labels stand after the label's own."""
        samples = super().features(samples)
        own, unconditional = samples.negative.tensor_split([samples.own], dim=-2)
        first = samples.positives
        of_pos, of_own, of_unc = samples.weight.tensor_split([first, first + samples.own], dim=-1)
        rolls = range(1, len(own))
        others = [own.roll(shift, 0) for shift in rolls]
        weights = [of_own.roll(shift, 0) for shift in rolls]
        return replace(
            samples,
            negative=torch.cat([own, *others, unconditional], dim=-2),
            weight=torch.cat([of_pos, of_own, *weights, of_unc], dim=-1),
        )


@suspect("D41", "flattened", "loss", "vectors", size=1e-3)
class FlattenedLocations(Textbook):
    """The vectors of a sample are samples of their own: each meets all locations of all others."""

    def features(self, samples: Samples) -> Samples:
        """[L, V, ·, C] → [L, 1, V·, C], own samples first among the negatives."""
        samples = super().features(samples)
        vectors, first, own = samples.x.shape[1], samples.positives, samples.own

        def flat(of: Tensor) -> Tensor:
            return of.flatten(1, 2).unsqueeze(1)

        def tiled(weight: Tensor) -> Tensor:
            return weight.repeat(1, 1, vectors)

        negatives = samples.negative.tensor_split([own], dim=-2)
        weights = samples.weight.tensor_split([first, first + own], dim=-1)
        return Samples(
            x=flat(samples.x),
            positive=flat(samples.positive),
            negative=torch.cat([flat(of) for of in negatives], dim=-2),
            weight=torch.cat([tiled(weight) for weight in weights], dim=-1),
            own=own * vectors,
        )


@suspect("D41", "unshared", "loss", size=1e-4, reading=("location_sharing", "none"))
class UnsharedLocations(Textbook):
    """Every vector has an S and a λ of its own."""

    def shared_axes(self) -> tuple[int, ...]:
        """Labels at most."""
        return tuple(axis for axis in super().shared_axes() if axis == -2)


@suspect("D40", "", "loss", size=1e-4, reading=("statistics_scope", "label"))
class ScalesOfEachLabel(Textbook):
    """Every label has an S and a λ of its own."""

    def shared_axes(self) -> tuple[int, ...]:
        """Vectors at most."""
        return tuple(axis for axis in super().shared_axes() if axis == -1)


# S, EQ-21.


class _Scope(Textbook):
    """Means over pairs, in the scope of S."""

    def mean_in_scope(self, total: Tensor, count: Tensor) -> Tensor:
        """Ratio of sums [L, V] over labels and vectors that share S."""
        count, axes = count.expand(total.shape), self.shared_axes()
        if axes:
            total, count = total.sum(axes, keepdim=True), count.sum(axes, keepdim=True)
        return ratio(total, count)


@suspect("D32", "", "loss", size=1e-4, reading=("scale_samples", "positives"))
class ScaleOfPositives(Textbook):
    """S from the distances to the positives alone."""

    def pair_weights(self, samples: Samples) -> Tensor:
        """0 for every negative."""
        weight = self.weights(samples).clone()
        weight[..., samples.positives :] = 0
        return weight[:, :, None, :].expand(-1, -1, samples.x.shape[-2], -1)


@suspect("D33", "", "loss", size=1e-4)
class ScaleOfAllPairs(_Scope):
    """S from all pairs of all samples, positives among themselves too."""

    def mean_distance(self, samples: Samples, distance: Tensor) -> Tensor:
        """Σ w w' d/Σ w w' over the columns with themselves."""
        del distance
        targets, weight = samples.targets, self.weights(samples)
        pairs = weight[..., :, None] * weight[..., None, :]
        d = self.floored_distances(self.distances(targets, targets))
        return self.mean_in_scope((pairs * d).sum((-2, -1)), pairs.sum((-2, -1)))


@suspect(
    "D34",
    "",
    "loss",
    size=1e-1,
    idle_under=({"scale_self_pairs": "without"}, {"scale_samples": "positives"}),
    added_to_self_distance_in_scale=1e6,
)
class ScaleOfMaskedDistances(Textbook):
    """S is averaged after the mask was added to the distances."""

    added_to_self_distance_in_scale: float = 1e6

    def mean_distance(self, samples: Samples, distance: Tensor) -> Tensor:
        """The mean of the masked distances."""
        own = samples.self_pairs.to(distance.dtype)
        return super().mean_distance(samples, distance + self.added_to_self_distance_in_scale * own)


@suspect("D35", "", "loss", size=1e-4, reading=("scale_self_pairs", "without"))
class ScaleWithoutSelf(_Scope):
    """Self pairs are left out of S."""

    def mean_distance(self, samples: Samples, distance: Tensor) -> Tensor:
        """The mean without the pairs of a sample with itself."""
        weight = self.pair_weights(samples)
        within = weight * ~samples.self_pairs
        total, count = (within * distance).sum((-2, -1)), within.sum((-2, -1))
        if self.readings.location_sharing == "all_pairs":
            elsewhere, pairs = self.distances_across(samples, weight)
            total, count = total + elsewhere, count.expand(total.shape) + pairs
        return self.mean_in_scope(total, count)


@suspect("D36", "", "loss", "weights", size=1e-4)
class ScaleUnweighted(Textbook):
    """Every pair counts once in S, whatever the weights."""

    def pair_weights(self, samples: Samples) -> Tensor:
        """1 where it counts at all."""
        counted = super().pair_weights(replace(samples, weight=torch.ones_like(samples.weight)))
        return (counted > 0).to(counted.dtype)


@suspect("D31", "scale", "loss", "second call", size=1e-4, kept_of_scale=0.9)
class RunningScale(Textbook):
    """S is a running average over calls."""

    kept_of_scale: float = 0.9
    last_scale: Tensor | None = None

    def feature_scale(self, samples: Samples, distance: Tensor) -> Tensor:
        """The average of S with what it was."""
        scale, last = super().feature_scale(samples, distance), self.last_scale
        if last is not None and last.shape == scale.shape:
            scale = self.kept_of_scale * last.to(scale) + (1 - self.kept_of_scale) * scale
        self.last_scale = scale.detach()
        return scale


@suspect("D31", "drift-scale", "loss", "second call", size=1e-4, kept_of_drift_scale=0.9)
class RunningDriftScale(Textbook):
    """λ is a running average over calls."""

    kept_of_drift_scale: float = 0.9
    last_drift_scale: Tensor | None = None

    def drift_scale(self, V: Tensor) -> Tensor:
        """The average of λ with what it was."""
        scale, last = super().drift_scale(V), self.last_drift_scale
        if last is not None and last.shape == scale.shape:
            scale = (
                self.kept_of_drift_scale * last.to(scale) + (1 - self.kept_of_drift_scale) * scale
            )
        self.last_drift_scale = scale.detach()
        return scale


@suspect("D66", "clamped", "loss", shows_at="small units", size=1e-2, least_scale=1e-3)
class ScaleClamped(Textbook):
    """S is kept above an absolute floor."""

    least_scale: float = 1e-3

    def coordinate_scale(self, S: Tensor) -> Tensor:
        """max(S, ε)."""
        return super().coordinate_scale(S).clamp_min(self.least_scale)


@suspect("D66", "added", "loss", shows_at="small units", size=1e-6, added_to_scale=1e-8)
class ScaleAdded(Textbook):
    """An epsilon is added to S."""

    added_to_scale: float = 1e-8

    def coordinate_scale(self, S: Tensor) -> Tensor:
        """S + ε."""
        return super().coordinate_scale(S) + self.added_to_scale


# The temperature, EQ-22.


@suspect("D22", "", "loss", size=1e-3, reading=("temperature_scaling", "raw"))
class RawTemperature(Textbook):
    """√C is missing in the temperature."""

    def normalized_temperature(self, temperature: Tensor, channels: int) -> Tensor:
        """τ."""
        del channels
        return temperature


@suspect("D23", "tau-c", "loss", "channels", size=1e-3, power_of_channels_in_temperature=1.0)
@suspect(
    "D23", "tau-over-root-c", "loss", "channels", size=1e-3, power_of_channels_in_temperature=-0.5
)
@suspect(
    "D23",
    "tau-2c",
    "loss",
    size=1e-3,
    power_of_channels_in_temperature=1.0,
    factor_of_temperature=2.0,
)
class TemperaturePower(Textbook):
    """The temperature goes with another power of C."""

    power_of_channels_in_temperature: float = 1.0
    factor_of_temperature: float = 1.0

    def normalized_temperature(self, temperature: Tensor, channels: int) -> Tensor:
        """κ τ C^a."""
        power = channels**self.power_of_channels_in_temperature
        return self.factor_of_temperature * temperature * power


@suspect("D71", "", "loss", "channels", size=1e-3)
class ScaleWithoutChannels(Textbook):
    """S is the mean distance itself: temperatures are √C too large, gradients √C too small."""

    def feature_scale(self, samples: Samples, distance: Tensor) -> Tensor:
        """S√C."""
        return super().feature_scale(samples, distance) * math.sqrt(samples.channels)


# λ, EQ-25.


@suspect("D26", "", "loss", "temperatures", size=1e-3)
class OneDriftScale(Textbook):
    """λ once, of the sum of the drifts of all temperatures."""

    def drift_scale(self, V: Tensor) -> Tensor:
        """The same λ for every temperature."""
        return super().drift_scale(V.sum(0, keepdim=True)).expand(len(V), -1, -1)


@suspect("D28", "norm", "loss", "channels", size=1e-2, power_of_channels_in_drift_scale=0.5)
@suspect(
    "D28", "divided-twice", "loss", "channels", size=1e-2, power_of_channels_in_drift_scale=-0.5
)
class DriftScalePower(Textbook):
    """λ is off by a power of C."""

    power_of_channels_in_drift_scale: float = 0.5

    def drift_scale(self, V: Tensor) -> Tensor:
        """λ C^a."""
        return super().drift_scale(V) * V.shape[-1] ** self.power_of_channels_in_drift_scale


class _MeanLength(Textbook):
    """The mean length of the drift in place of its root mean square."""

    def mean_length(self, V: Tensor) -> Tensor:
        """E‖V‖ in the scope of λ. [T, 1 or L, 1 or V]."""
        length = torch.linalg.vector_norm(V, dim=-1).mean(-1)
        axes = self.shared_axes()
        return length.mean(axes, keepdim=True) if axes else length


@suspect("D29", "over-root-c", "loss", "several samples", size=1e-4)
class MeanDriftLength(_MeanLength):
    """λ is the mean length of the drift over √C."""

    def drift_scale(self, V: Tensor) -> Tensor:
        """E‖V‖/√C."""
        return self.mean_length(V) / V.shape[-1] ** 0.5


@suspect("D29", "length", "loss", size=1e-4)
class MeanDriftLengthOfAll(_MeanLength):
    """λ is the mean length of the drift."""

    def drift_scale(self, V: Tensor) -> Tensor:
        """E‖V‖."""
        return self.mean_length(V)


@suspect("D30", "", "loss", size=1e-2)
class DriftNotNormalized(Textbook):
    """The drift is left as it is."""

    def normalized_drift(self, V: Tensor, drift_scale: Tensor) -> Tensor:
        """V."""
        del drift_scale
        return V


# Epsilons that stand beside S: on distances and on λ.


@suspect(
    "D66",
    "drift-scale-added",
    "loss",
    clauses=("EQ-25",),
    stage="drift scale",
    size=1e-9,
    added_to_drift_scale=1e-6,
)
class DriftScaleAdded(Textbook):
    """An epsilon is added to λ."""

    added_to_drift_scale: float = 1e-6

    def used_drift_scale(self, drift_scale: Tensor) -> Tensor:
        """λ + ε."""
        return super().used_drift_scale(drift_scale) + self.added_to_drift_scale


@suspect(
    "D66",
    "drift-scale-under-root",
    "loss",
    clauses=("EQ-25",),
    stage="drift scale",
    size=1e-12,
    added_to_drift_energy=1e-8,
)
class DriftEnergyAdded(Textbook):
    """An epsilon is added to mean V² under the root of λ."""

    added_to_drift_energy: float = 1e-8

    def used_drift_scale(self, drift_scale: Tensor) -> Tensor:
        """√(λ² + ε)."""
        return root(super().used_drift_scale(drift_scale).square() + self.added_to_drift_energy)


@suspect(
    "D66",
    "drift-scale-clamped",
    "loss",
    clauses=("EQ-25",),
    stage="drift scale",
    shows_at="tiny temperature",
    size=1e-3,
    least_drift_scale=1e-4,
)
class DriftScaleClamped(Textbook):
    """λ is kept above an absolute floor."""

    least_drift_scale: float = 1e-4

    def used_drift_scale(self, drift_scale: Tensor) -> Tensor:
        """max(λ, ε)."""
        return super().used_drift_scale(drift_scale).clamp_min(self.least_drift_scale)


@suspect(
    "D66",
    "distance-under-root",
    clauses=("EQ-12",),
    stage="field",
    size=1e-9,
    added_to_squared_distance=1e-8,
)
class DistanceEpsilon(Textbook):
    """An epsilon under the root of every distance."""

    added_to_squared_distance: float = 1e-8

    def distances(self, x: Tensor, y: Tensor) -> Tensor:
        """√(d² + ε)."""
        return root(super().distances(x, y).square() + self.added_to_squared_distance)
