"""Effects of floors: on affinities, distances, scales and λ."""

from __future__ import annotations

import numpy as np

from drifting_parity.cases import Array
from drifting_parity.witnesses.cases import Samples, apart, cosine, largest, samples
from drifting_parity.witnesses.core import witness
from drifting_reference.algorithm2 import affinities, mask_distances
from drifting_reference.kernels import distances
from drifting_spec import PAPER, RELEASE, Readings

ONE = (0.2,)


def floored(floor: str) -> Readings:
    """The paper's readings with a floor under the affinities."""
    return PAPER.with_reading("affinity_floor", floor)


def change(case: Samples, temperature: float, floor: str = "1e-6") -> float:
    """By how much the normalised drift changes when a floor is laid under the affinities."""
    changed = case.loss(floored(floor), (temperature,)).drift
    return apart(changed, case.loss(PAPER, (temperature,)).drift)


def many(C: int) -> Samples:
    """64 generated samples and 64 positives, as in Table 8, of one law."""
    case = samples(N=64, P=64, C=C)
    return Samples(case.generated, case.positive - 0.5)


def clustered() -> Samples:
    """Four narrow clusters, in which generated samples and positives lie alike."""
    source = np.random.default_rng(11)
    centres = source.normal(size=(4, 16))[np.arange(64) % 4]
    x, y = (centres + 0.1 * source.normal(size=(64, 16)) for _ in range(2))
    return Samples(x[None, :, None], y[None, :, None])


@witness("J-01-channels-16-cold")
def release_floor_at_the_lowest_temperature() -> float:
    return change(many(16), 0.02)


@witness("J-01-channels-16")
def release_floor_at_the_middle_temperature() -> float:
    return change(many(16), 0.05)


@witness("J-01-channels-1024")
def release_floor_where_distances_concentrate() -> float:
    return change(many(1024), 0.05)


@witness("J-01-clusters")
def release_floor_on_clusters() -> float:
    return change(clustered(), 0.02)


@witness("J-01-cosine")
def direction_under_the_release_floor() -> float:
    case = many(16)
    return cosine(case.loss(floored("1e-6"), (0.02,)).drift, case.loss(PAPER, (0.02,)).drift)


def coinciding() -> Samples:
    """Two channels: 64 samples that lie 100 times closer together than the 64 positives."""
    source = np.random.default_rng(12)
    x, y = (spread * source.normal(size=(64, 2)) for spread in (0.01, 1.0))
    return Samples(x[None, :, None], (y + np.array([1.0, 0.0]))[None, :, None])


def towards_the_mean(readings: Readings) -> float:
    """The cosine between the drift and the way to the mean of the positives, coinciding samples."""
    case = coinciding()
    way = case.positive.mean(axis=1, keepdims=True) - case.generated
    return cosine(case.loss(readings).drift, unit_rows(way))


def unit_rows(vectors: Array) -> Array:
    """Each vector over its norm."""
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


@witness("J-01-coinciding")
def drift_of_coinciding_samples_under_the_release_floor() -> float:
    return towards_the_mean(floored("1e-6"))


@witness("J-01-coinciding-paper")
def drift_of_coinciding_samples_without_floor() -> float:
    return towards_the_mean(PAPER)


@witness("J-01-coinciding-share")
def floor_among_the_affinities_of_coinciding_samples() -> float:
    case = coinciding()
    x, y = case.generated[0, :, 0], case.positive[0, :, 0]
    T = 0.02 * np.sqrt(2) * float(case.loss().feature_scale.item())
    own, present = mask_distances(distances(x, x), True, PAPER, 1.0)
    logit = -np.concatenate([distances(x, y), own], axis=1) / T
    present = np.concatenate([np.ones((64, 64), dtype=np.bool_), present], axis=1)
    kernel, all_of_it = (
        affinities(logit, present, np.ones(128), 64, readings)[0].sum()
        for readings in (PAPER, floored("1e-6"))
    )
    return float(1 - kernel / all_of_it)


@witness("R-03-single")
def loss_of_a_single_sample() -> float:
    return samples(N=1).loss(floored("1e-12"), ONE).loss


@witness("R-03-single-paper")
def loss_of_a_single_sample_without_floor() -> float:
    return samples(N=1).loss(PAPER, ONE).loss


@witness("R-24-floor")
def seed_floor_in_the_field() -> float:
    case = many(16)
    field, plain = (case.loss(each, ONE).drifts for each in (floored("1e-12"), PAPER))
    return largest(field - plain)


# J-04, R-23: floors under distances, scales and λ.


@witness("J-04-tiny")
def release_on_features_of_1e_6() -> float:
    # Every distance is far below its floor, so the kernel is flat and all temperatures agree.
    return samples(C=16).scaled(1e-6).loss(RELEASE.with_reading("affinity_floor", "none")).loss


@witness("J-04-usual")
def release_on_features_of_1() -> float:
    return samples(C=16).loss(RELEASE.with_reading("affinity_floor", "none")).loss


@witness("J-04-two-thresholds")
def coordinates_and_distances_apart() -> float:
    # S is below its floor, S√C above its own: coordinates shrink, distances do not.
    case = samples(C=16).scaled(5e-4)
    floors = PAPER.with_reading("floors", "release")
    return apart(case.loss(floors, ONE).gradient, case.loss(PAPER, ONE).gradient)


@witness("J-04-paper")
def paper_on_features_of_1e_4() -> float:
    case = samples(C=16)
    return abs(case.scaled(1e-4).loss(PAPER, ONE).loss / case.loss(PAPER, ONE).loss - 1)


def far() -> Samples:
    """Positives forty spreads away: the field is far below the seed's clamp of λ."""
    case = samples()
    return Samples(case.generated, case.positive + 40.0)


@witness("R-23-clamped")
def loss_of_a_tiny_drift_with_a_clamp() -> float:
    return far().loss(PAPER.with_reading("floors", "seed"), (0.02,)).loss


@witness("R-23-paper")
def loss_of_a_tiny_drift_without() -> float:
    return far().loss(PAPER, (0.02,)).loss
