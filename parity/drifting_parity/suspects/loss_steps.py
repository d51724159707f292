"""A.6 step by step in PyTorch: scale, temperature, drift scale, aggregation, error, reductions.

Statistics have shape [1 or L, 1 or V]: 1 where labels or vectors share them; the temperatures
stand in front. What the target is made of carries no gradient (S3-sg): see ``stopped``.
"""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor

from drifting_parity.suspects.field_steps import FieldSteps, ratio, root
from drifting_parity.suspects.samples import Samples

SQUARED_DISTANCE_FLOOR: Final = 1e-8
SCALE_FLOORS: Final = {"none": 0.0, "release": 1e-3, "seed": 1e-8}
DRIFT_SCALE_FLOORS: Final = {"none": 0.0, "release": 1e-4, "seed": 1e-8}


def across(statistic: Tensor) -> Tensor:
    """Lay a statistic [..., 1 or L, 1 or V] beside samples [..., L, V, N, C]."""
    return statistic[..., None, None]


class LossSteps(FieldSteps):
    """The steps from the samples of one feature to its loss, beside those of Algorithm 2."""

    attached: frozenset[str] = frozenset()
    """Through which parts of the target the gradient runs: none in the paper."""

    def stopped(self, part: str, tensor: Tensor) -> Tensor:
        """S3-sg: the ``part`` of the target without its history.

        Parts are ``rows`` (x as the place of the field), ``negatives``, ``positives``,
        ``feature_scale``, ``drift``, ``drift_scale``.
        """
        return tensor if part in self.attached else tensor.detach()

    def features(self, samples: Samples) -> Samples:
        """EQ-18: the features as they enter, before S is measured: as they are."""
        return samples

    # The feature scale S.

    def floored_distances(self, distance: Tensor) -> Tensor:
        """Distances of raw features as used; floors=release: d² at least 10⁻⁸, for every pair."""
        if self.readings.floors != "release":
            return distance
        return distance.clamp_min(SQUARED_DISTANCE_FLOOR**0.5)

    def shared_axes(self) -> tuple[int, ...]:
        """Which of the axes (label, vector) share S and λ, as axes from the end of a statistic."""
        labels = (-2,) if self.readings.statistics_scope == "batch" else ()
        return labels if self.readings.location_sharing == "none" else (*labels, -1)

    def pair_weights(self, samples: Samples) -> Tensor:
        """How much each pair counts in S, before self pairs are looked at. [L, 1, N, M]."""
        column = torch.ones(samples.weight.shape[-1], device=samples.x.device)
        if self.readings.scale_samples == "positives":
            column[samples.positives :] = 0
        elif self.readings.scale_samples == "negatives":
            column[: samples.positives] = 0
        weight = self.weights(samples) * column.to(samples.weight.dtype)
        return weight[:, :, None, :].expand(-1, -1, samples.x.shape[-2], -1)

    def mean_distance(self, samples: Samples, distance: Tensor) -> Tensor:
        """EQ-21 × √C: Σ w d/Σ w over the pairs in scope. Distances [L, V, N, M] of raw features."""
        weight = self.pair_weights(samples)
        within = weight
        if self.readings.scale_self_pairs == "without":
            within = weight * ~samples.self_pairs
        total = (within * distance).sum((-2, -1))
        count = within.sum((-2, -1)).expand(total.shape)
        if self.readings.location_sharing == "all_pairs":
            across_locations, pairs = self.distances_across(samples, weight)
            total, count = total + across_locations, count + pairs
        axes = self.shared_axes()
        if not axes:
            return ratio(total, count)
        return ratio(total.sum(axes, keepdim=True), count.sum(axes, keepdim=True))

    def distances_across(self, samples: Samples, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Σ w d and Σ w over the pairs of unlike locations, for each location of x. [L, V]."""
        vectors = samples.x.shape[1]
        d = self.floored_distances(
            self.distances(samples.x.unsqueeze(2), samples.targets.unsqueeze(1))
        )
        other = ~torch.eye(vectors, dtype=torch.bool, device=d.device)
        total = ((weight.unsqueeze(1) * d).sum((-2, -1)) * other).sum(-1)
        return total, (weight.sum((-2, -1)) * (vectors - 1)).expand(total.shape)

    def feature_scale(self, samples: Samples, distance: Tensor) -> Tensor:
        """EQ-21: S = (1/√C) E_x E_y[‖φ(x) − φ(y)‖], before floors. [1 or L, 1 or V]."""
        return self.mean_distance(samples, distance) / math.sqrt(samples.channels)

    def coordinate_scale(self, S: Tensor) -> Tensor:
        """S by which coordinates are divided, above its floor."""
        return S.clamp_min(SCALE_FLOORS[self.readings.floors])

    def distance_scale(self, S: Tensor, channels: int) -> Tensor:
        """S√C in which distances are measured, above its floor."""
        if self.readings.floors == "release":
            return (S * math.sqrt(channels)).clamp_min(SCALE_FLOORS["release"])
        return self.coordinate_scale(S) * math.sqrt(channels)

    def normalized_feature(self, phi: Tensor, scale: Tensor) -> Tensor:
        """EQ-18: φ̃ = φ/S for every sample alike; S = 0 gives 0. [L, V, ·, C]."""
        return ratio(phi, across(scale))

    def normalized_distances(self, distance: Tensor, scale: Tensor, channels: int) -> Tensor:
        """EQ-19: ‖φ̃(x) − φ̃(y)‖ = d√C/(S√C), ``scale`` being S√C as used. [L, V, N, M]."""
        return ratio(distance * math.sqrt(channels), across(scale))

    # The field of the feature.

    def normalized_temperature(self, temperature: Tensor, channels: int) -> Tensor:
        """EQ-22: τ̃ = τ√C; temperature_scaling=raw: τ. [T, 1, 1, 1, 1]."""
        scaled = self.readings.temperature_scaling == "sqrt_channels"
        return temperature * math.sqrt(channels) if scaled else temperature

    def field_of_feature(
        self, samples: Samples, S: Tensor, distance: Tensor, temperature: Tensor
    ) -> Tensor:
        """EQ-22: Algorithm 2 on φ̃ for each label and vector. → V_τ [T, L, V, N, C]."""
        channels = samples.channels
        scale = self.coordinate_scale(S)
        W_pos, W_neg = self.weights_from_distances(
            self.normalized_distances(distance, self.distance_scale(S, channels), channels),
            samples,
            self.normalized_temperature(temperature, channels),
            # One mean distance: EQ-20 makes it √C in these coordinates.
            math.sqrt(channels),
        )
        return self.drift(
            W_pos,
            W_neg,
            self.normalized_feature(samples.positive, scale),
            self.normalized_feature(samples.negative, scale),
        )

    # The drift scale λ.

    def drift_scale(self, V: Tensor) -> Tensor:
        """EQ-25: λ = √E[‖V‖²/C] for each temperature, before floors. [T, 1 or L, 1 or V]."""
        axes = (-2, -1, *(axis - 2 for axis in self.shared_axes()))
        # In units of the largest entry: the square of a drift below 1e-154 underflows.
        largest = V.detach().abs().amax(axes, keepdim=True)
        unit = torch.where(largest > 0, largest, 1.0)
        mean_square = (V / unit).square().mean(axes, keepdim=True)
        return (unit * root(mean_square))[..., 0, 0]

    def used_drift_scale(self, drift_scale: Tensor) -> Tensor:
        """λ by which the drift is divided, above its floor."""
        return drift_scale.clamp_min(DRIFT_SCALE_FLOORS[self.readings.floors])

    def normalized_drift(self, V: Tensor, drift_scale: Tensor) -> Tensor:
        """EQ-23: Ṽ = V/λ, with 0/0 := 0. [T, L, V, N, C]."""
        return ratio(V, across(drift_scale))

    # The loss.

    def aggregation(self, drifts: Tensor) -> Tensor:
        """EQ-A6τ: Σ_τ Ṽ_τ as one displacement, else one for each τ. [T, ...] → [K, ...]."""
        if self.readings.temperature_aggregation == "sum_drifts_then_mse":
            return drifts.sum(0, keepdim=True)
        return drifts

    def regressed(self, x: Tensor, scale: Tensor) -> Tensor:
        """EQ-26: what is drawn to its target: φ̃(x). [L, V, N, C]."""
        return self.normalized_feature(x, scale)

    def displacement(self, drifts: Tensor, scale: Tensor) -> Tensor:
        """EQ-26: how far the target lies from there: Ṽ, with S at hand. [K, L, V, N, C]."""
        del scale
        return drifts

    def error(self, phi: Tensor, displacement: Tensor) -> Tensor:
        """EQ-26: φ̃ − sg(φ̃ + Ṽ), as (φ̃ − sg φ̃) − Ṽ so that no digit is lost. [K, L, V, N, C]."""
        return (phi - phi.detach()) - displacement

    def squared(self, error: Tensor) -> Tensor:
        """EQ-26: the square of each entry of the error. [K, L, V, N, C]."""
        return error.square()

    def reduce_channels(self, squared: Tensor) -> Tensor:
        """Mean over channels, the last axis; channel_reduction=sum: their sum."""
        mean = self.readings.channel_reduction == "mean"
        return squared.mean(-1) if mean else squared.sum(-1)

    def reduce_samples(self, squared: Tensor) -> Tensor:
        """Mean over the generated samples, the last axis."""
        return squared.mean(-1)

    def reduce_vectors(self, squared: Tensor) -> Tensor:
        """Sum over the vectors, the last axis; location_reduction=mean: their mean."""
        mean = self.readings.location_reduction == "mean"
        return squared.mean(-1) if mean else squared.sum(-1)

    def reduce_temperatures(self, squared: Tensor, temperatures: int) -> Tensor:
        """Sum over the K targets; per_temperature_mse_mean: over τ the mean. [K, L] → [L]."""
        total = squared.sum(0)
        mean = self.readings.temperature_aggregation == "per_temperature_mse_mean"
        return total / temperatures if mean else total

    def reduce_labels(self, per_label: Tensor) -> Tensor:
        """Mean over the labels; label_reduction=sum: their sum. [L] → scalar."""
        mean = self.readings.label_reduction == "mean"
        return per_label.mean() if mean else per_label.sum()

    def value(self, loss: Tensor) -> Tensor:
        """The loss as it is returned."""
        return loss
