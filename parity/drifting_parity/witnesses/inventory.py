"""Effects on A.5: taps and counts, standard deviations, remainders, x², the vanilla term."""

from __future__ import annotations

from typing import Any

import numpy as np

from drifting_parity.cases import Array
from drifting_parity.witnesses.core import witness
from drifting_reference import (
    input_x2,
    maps_per_side,
    total_vector_count,
    vanilla_drifting_loss,
    vector_count,
    vectorize_feature_maps,
)
from drifting_reference.algorithm2 import softmax
from drifting_reference.features import std_of
from drifting_reference.kernels import distances
from drifting_spec import PAPER, RELEASE, SEED, Readings


def taps(reading: str) -> Readings:
    """The paper's readings with other taps."""
    return PAPER.with_reading("taps", reading)


def vectors(readings: Readings) -> float:
    """How many vectors the maps of the encoder give."""
    return float(total_vector_count(maps_per_side(readings)))


# P-16, P-23, R-15, J-05, J-06: maps, keys and vectors.


@witness("P-16-union")
def vectors_of_nine_maps() -> float:
    return vectors(PAPER)


@witness("P-16-coincident-twice")
def vectors_of_eleven_maps() -> float:
    return vectors(taps("coincident_twice"))


@witness("P-16-network-output")
def vectors_of_eight_maps() -> float:
    return vectors(taps("network_output"))


@witness("J-06-vectors")
def vectors_of_the_release() -> float:
    return vectors(RELEASE)


@witness("J-06-keys")
def keys_of_the_release() -> float:
    example = vectorize_feature_maps({"m": np.zeros((1, 1, 4, 4))}, readings=RELEASE)
    return float(len(example) * sum(maps_per_side(RELEASE).values()) + 2)


@witness("J-05-stem")
def vectors_of_the_stem() -> float:
    return float(vector_count(max(maps_per_side(RELEASE))))


@witness("R-15-maps")
def maps_of_the_seed() -> float:
    return float(sum(maps_per_side(SEED).values()))


@witness("P-23-inventory")
def vectors_over_keys() -> float:
    return (vectors(PAPER) + 2) / keys_of_the_release()


# P-14, R-16, J-09: the standard deviation.


def random_map(*shape: int) -> Array:
    return np.random.default_rng(3).normal(size=shape)


def deviation(patch: Array, std: str) -> Array:
    return std_of(patch, PAPER.with_reading("std", std))


@witness("P-14-unbiased")
def unbiased_over_population() -> float:
    patch = random_map(1, 1, 2, 2)
    return float((deviation(patch, "unbiased") / deviation(patch, "population")).item())


@witness("P-14-constant")
def constant_map_with_epsilon() -> float:
    return float(deviation(np.ones((1, 1, 2, 2)), "population_eps").item())


@witness("J-09-small")
def epsilon_on_a_small_map() -> float:
    patch = 1e-3 * random_map(1, 1, 8, 8)
    return float((deviation(patch, "population_eps") / deviation(patch, "population")).item())


@witness("R-16-constant")
def constant_map_without_epsilon() -> float:
    return float(std_of(np.ones((1, 1, 2, 2)), SEED).item())


# P-15, J-10, R-16: maps that patches do not divide.


def count_on_7x7(readings: Readings) -> float:
    """How many vectors a 7×7 map gives."""
    out = vectorize_feature_maps({"m": random_map(1, 1, 7, 7)}, readings=readings)
    return float(sum(value.shape[1] for value in out.values()))


@witness("P-15-crop-minus-skip")
def cropped_over_skipped() -> float:
    crop, skip = (PAPER.with_reading("patch_remainder", each) for each in ("crop", "skip"))
    return count_on_7x7(crop) - count_on_7x7(skip)


@witness("J-10-vectors")
def skipped_by_the_release() -> float:
    return count_on_7x7(RELEASE)


@witness("R-16-vectors")
def cropped_by_the_seed() -> float:
    return count_on_7x7(SEED)


# P-12, J-07, R-18: the x² feature.


def x2(readings: Readings, factor: float = 1.0) -> Array:
    """The x² feature of pixel inputs, cut by 8 where the readings say so. [B, 1, C]."""
    return input_x2(factor * random_map(2, 3, 32, 32), readings, 8)


@witness("P-12-channels")
def channels_of_the_patchified_input() -> float:
    patchified = x2(PAPER.with_reading("x2_input", "patchified"))
    return float(patchified.shape[-1] / x2(PAPER).shape[-1])


@witness("J-07-scaling")
def root_mean_square_under_scaling() -> float:
    rms = PAPER.with_reading("x2_statistic", "rms")
    return float((x2(rms, 10.0) / x2(rms)).mean())


@witness("J-07-scaling-paper")
def mean_square_under_scaling() -> float:
    return float((x2(PAPER, 10.0) / x2(PAPER)).mean())


@witness("R-18-channels")
def channels_of_the_seed() -> float:
    return float(x2(SEED).shape[-1])


# P-13, R-07, J-13: the vanilla term.


def latents(C: int = 4096) -> tuple[Array, Array]:
    """Eight normal latents and six real ones, [1, N, C]."""
    source = np.random.default_rng(2)
    x, y = (source.normal(size=(1, count, C)) for count in (8, 6))
    return x, y + 0.1


def vanilla(readings: Readings, factor: float = 1.0, **arguments: Any) -> float:
    x, y = latents(64)
    return vanilla_drifting_loss(factor * x, factor * y, readings=readings, **arguments).loss


@witness("P-13-raw-logit")
def nearest_raw_logit() -> float:
    x, y = latents()
    return float(-distances(x[0], y[0]).mean() / 0.02)


@witness("P-13-one-hot")
def largest_share_of_a_raw_softmax() -> float:
    x, y = latents()
    logit = -distances(x[0], y[0]) / 0.02
    present, weight = np.ones(len(y[0]), dtype=np.bool_), np.ones(len(y[0]))
    return float(np.mean([softmax(row, present, weight).max() for row in logit]))


@witness("P-13-normalised")
def largest_share_of_a_normalised_softmax() -> float:
    x, y = latents()
    distance = distances(x[0], y[0])
    logit = -distance / distance.mean() / 0.02
    present, weight = np.ones(len(y[0]), dtype=np.bool_), np.ones(len(y[0]))
    return float(np.mean([softmax(row, present, weight).max() for row in logit]))


@witness("R-07-scaling")
def raw_term_under_scaling() -> float:
    return vanilla(SEED, 2.0, temperatures=(5.0,)) / vanilla(SEED, temperatures=(5.0,))


@witness("J-13-scaling")
def normalised_term_under_scaling() -> float:
    return abs(vanilla(RELEASE, 2.0) / vanilla(RELEASE) - 1)
