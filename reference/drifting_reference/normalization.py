"""A.6: the feature scale S, the normalised kernel and the drift scale λ, EQ-18 to EQ-25.

One feature has generated samples [L, N, V, C] and targets [L, M, V, C] in the order of
Algorithm 2's columns: positives, generated samples (as negatives), unconditional samples, with
kernel weights [L, M]. Statistics have shape [1 or L, 1 or V]: 1 where they are shared.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from drifting_reference.arrays import Array, ratio
from drifting_reference.kernels import distances
from drifting_spec import Readings, implements


@dataclass(frozen=True)
class Feature:
    """One feature: samples [L, ·, V, C] and the kernel weight of each target, [L, ·]."""

    generated: Array
    positive: Array
    unconditional: Array
    positive_weight: Array
    generated_weight: Array
    unconditional_weight: Array

    @property
    def targets(self) -> Array:
        """Every column of Algorithm 2: positives, generated, unconditional. [L, M, V, C]."""
        return np.concatenate([self.positive, self.generated, self.unconditional], axis=1)

    @property
    def weight(self) -> Array:
        """The kernel weights of :attr:`targets`, [L, M]."""
        return np.concatenate(
            [self.positive_weight, self.generated_weight, self.unconditional_weight], axis=1
        )

    @property
    def negative(self) -> Array:
        """Generated samples, then unconditional ones. [L, N + U, V, C]."""
        return np.concatenate([self.generated, self.unconditional], axis=1)

    @property
    def negative_weight(self) -> Array:
        """The kernel weights of :attr:`negative`, [L, N + U]."""
        return np.concatenate([self.generated_weight, self.unconditional_weight], axis=1)


def feature_distances(x: Array, y: Array, readings: Readings) -> Array:
    """‖x_i − y_m‖ [N, M]; floors=release: √max(d², 1e-8) for every pair, self pairs included."""
    d = distances(x, y)
    return np.sqrt(np.maximum(d**2, 1e-8)) if readings.floors == "release" else d


def shared_axes(readings: Readings) -> tuple[int, ...]:
    """Which of the axes (label, location) share S and λ."""
    labels = (0,) if readings.statistics_scope == "batch" else ()
    locations = () if readings.location_sharing == "none" else (1,)
    return labels + locations


@implements("EQ-21", "A6-S", "A6-locshare", "A7-weight-in-scale")
def feature_scale(feature: Feature, readings: Readings) -> Array:
    """EQ-21: S = (1/√C) E_x E_y[‖φ(x) − φ(y)‖] = (1/√C) Σ ω d/Σ ω, ω the kernel weight of y.

    Before floors. [1 or L, 1 or V]: one S for all labels with statistics_scope=batch, for all
    locations unless location_sharing=none. 0 where no pair has a weight.
    """
    L, N, V, C = feature.generated.shape
    P = feature.positive.shape[1]
    numerator, denominator = np.zeros((L, V)), np.zeros((L, V))
    for label, v, w in itertools.product(range(L), range(V), range(V)):
        if v != w and readings.location_sharing != "all_pairs":
            continue
        x, y = feature.generated[label, :, v], feature.targets[label, :, w]
        omega = np.tile(feature.weight[label], (N, 1))
        if readings.scale_samples == "positives":
            omega[:, P:] = 0.0
        if readings.scale_samples == "negatives":
            omega[:, :P] = 0.0
        if readings.scale_self_pairs == "without" and v == w:
            for i in range(N):
                omega[i, P + i] = 0.0
        numerator[label, v] += np.sum(omega * feature_distances(x, y, readings))
        denominator[label, v] += np.sum(omega)
    axes = shared_axes(readings)
    mean_distance = ratio(
        numerator.sum(axis=axes, keepdims=True), denominator.sum(axis=axes, keepdims=True)
    )
    return mean_distance / np.sqrt(C)


def coordinate_scale(S: Array, readings: Readings) -> Array:
    """S as used for coordinates: release max(S, 1e-3), seed max(S, 1e-8), none S itself."""
    least = {"none": 0.0, "release": 1e-3, "seed": 1e-8}[readings.floors]
    return np.maximum(S, least)


def distance_scale(S: Array, channels: int, readings: Readings) -> Array:
    """S√C as used for distances: release max(S√C, 1e-3), seed max(S, 1e-8)√C, none S√C."""
    if readings.floors == "release":
        return np.maximum(S * np.sqrt(channels), 1e-3)
    return coordinate_scale(S, readings) * np.sqrt(channels)


@implements("EQ-18")
def normalized_feature(phi: Array, scale: Array) -> Array:
    """EQ-18: φ̃ = φ/S for every sample alike; S = 0 (everything coincides) gives 0.

    phi [L, ·, V, C], scale [1 or L, 1 or V] → [L, ·, V, C].
    """
    return ratio(phi, scale[:, None, :, None])


@implements("EQ-19", "EQ-22")
def normalized_distances(x: Array, y: Array, scale: float, readings: Readings) -> Array:
    """EQ-19: ‖φ̃(x) − φ̃(y)‖ = ‖φ(x) − φ(y)‖ √C/(S√C), from raw x [N, C], y [M, C] → [N, M].

    ``scale`` is S√C as used (:func:`distance_scale`).
    """
    d = feature_distances(x, y, readings)
    return d * np.sqrt(x.shape[-1]) / scale if scale > 0 else np.zeros(d.shape)


@implements("EQ-20")
def mean_normalized_distance(feature: Feature, readings: Readings) -> Array:
    """EQ-20: E_x E_y[dist(x, y)] ≈ √C, exactly so over the pairs that define S. As S.

    Pair by pair, so that a wrong set of pairs in S (:func:`feature_scale`) shows.
    """
    L, N, V, C = feature.generated.shape
    P, M = feature.positive.shape[1], feature.weight.shape[1]
    scale = distance_scale(feature_scale(feature, readings), C, readings)
    S = np.broadcast_to(scale, (L, V))
    total, weight = np.zeros((L, V)), np.zeros((L, V))
    for label, i, v, m, w in itertools.product(range(L), range(N), range(V), range(M), range(V)):
        if v != w and readings.location_sharing != "all_pairs":
            continue
        if readings.scale_samples == "positives" and m >= P:
            continue
        if readings.scale_samples == "negatives" and m < P:
            continue
        if readings.scale_self_pairs == "without" and v == w and m == P + i:
            continue
        x = feature.generated[label, i, v][None]
        y = feature.targets[label, m, w][None]
        dist = normalized_distances(x, y, S[label, v], readings).item()
        total[label, v] += feature.weight[label, m] * dist
        weight[label, v] += feature.weight[label, m]
    axes = shared_axes(readings)
    return ratio(total.sum(axis=axes, keepdims=True), weight.sum(axis=axes, keepdims=True))


@implements("EQ-22", "A6-tau")
def normalized_temperature(temperature: float, channels: int, readings: Readings) -> float:
    """EQ-22: τ̃ = τ√C (temperature_scaling=raw: τ)."""
    scaled = readings.temperature_scaling == "sqrt_channels"
    return temperature * float(np.sqrt(channels)) if scaled else temperature


@implements("EQ-25", "A6-lambda")
def drift_scale(V: Array, readings: Readings) -> Array:
    """EQ-25: λ = √E[‖V‖²/C], the RMS over samples, channels and the scope. Before floors.

    V [L, N, V, C] → [1 or L, 1 or V].
    """
    largest = np.abs(V).max()
    if largest == 0:
        largest = 1.0
    # In units of the largest entry, because the square of a drift below 1e-154 underflows.
    mean_square = np.mean((V / largest) ** 2, axis=(1, 3))
    return largest * np.sqrt(np.mean(mean_square, axis=shared_axes(readings), keepdims=True))


def used_drift_scale(drift_scale: Array, readings: Readings) -> Array:
    """λ as used: release √max(λ², 1e-8), seed max(λ, 1e-8), none λ itself."""
    least = {"none": 0.0, "release": 1e-4, "seed": 1e-8}[readings.floors]
    return np.maximum(drift_scale, least)


@implements("EQ-23", "A6-lambda")
def normalized_drift(V: Array, drift_scale: Array) -> Array:
    """EQ-23: Ṽ = V/λ, with 0/0 := 0. V [L, N, V, C], drift_scale [1 or L, 1 or V]."""
    return ratio(V, drift_scale[:, None, :, None])


@implements("EQ-24")
def mean_drift_energy(V: Array, readings: Readings) -> Array:
    """EQ-24: E[‖Ṽ‖²/C] ≈ 1 over the scope of λ; this mean for any V [L, N, V, C]. As λ."""
    energy = np.sum(V**2, axis=3) / V.shape[3]
    return np.mean(np.mean(energy, axis=1), axis=shared_axes(readings), keepdims=True)
