"""Effects on S and λ: which pairs count, over which labels and locations, with which weights."""

from __future__ import annotations

import numpy as np

from drifting_parity.cases import Array
from drifting_parity.witnesses.cases import Samples, apart, largest, samples
from drifting_parity.witnesses.core import witness
from drifting_reference.algorithm2 import mask_distances
from drifting_reference.kernels import distances
from drifting_spec import PAPER, RELEASE, SEED, Readings

ONE = (0.2,)


def scale(case: Samples, *changes: tuple[str, str], readings: Readings = PAPER) -> Array:
    """S of EQ-21 as a flat array, under readings changed on some axes."""
    for axis, reading in changes:
        readings = readings.with_reading(axis, reading)
    return case.loss(readings, ONE).feature_scale.ravel()


def ratio(case: Samples, axis: str, reading: str) -> float:
    """S under other readings over S under the paper's."""
    return float(scale(case, (axis, reading))[0] / scale(case)[0])


# P-08: self-distances.


@witness("P-08-scale")
def scale_with_self_pairs_over_without() -> float:
    return 1 / ratio(samples(N=64, P=64), "scale_self_pairs", "without")


@witness("P-08-masked")
def scale_of_the_masked_distances() -> float:
    case = samples(N=64, P=64, C=1)
    x, y = case.generated[0, :, 0], case.positive[0, :, 0]
    masked, _ = mask_distances(
        distances(x, x), True, PAPER.with_reading("self_mask", "add_1e6"), 1.0
    )
    return float(np.concatenate([distances(x, y), masked], axis=1).mean())


@witness("P-08-gradient")
def gradient_without_self_pairs() -> float:
    case = samples(N=64, P=64)
    other = PAPER.with_reading("scale_self_pairs", "without")
    return apart(case.loss(other).gradient, case.loss().gradient)


# P-09: which targets, which weights.


@witness("P-09-positives")
def scale_of_the_positives_alone() -> float:
    return ratio(samples(U=5), "scale_samples", "positives")


@witness("P-09-negatives")
def scale_of_the_negatives_alone() -> float:
    return ratio(samples(U=5), "scale_samples", "negatives")


@witness("P-09-mean-of-ratios")
def mean_over_labels_of_their_scales() -> float:
    case = samples(L=2, U=5)
    return float(scale(case, ("statistics_scope", "label")).mean() / scale(case)[0])


# P-10, R-04: scope over labels.


@witness("P-10-scale")
def scale_of_the_narrow_label() -> float:
    case = samples(L=2)
    return float(scale(case, ("statistics_scope", "label"))[0] / scale(case)[0])


@witness("P-10-gradient")
def gradient_by_label_against_batch() -> float:
    case = samples(L=2)
    label = PAPER.with_reading("statistics_scope", "label")
    return apart(case.loss(label).gradient, case.loss().gradient)


@witness("R-04-gradient")
def seed_scope_against_batch() -> float:
    case = samples(L=2)
    batch = SEED.with_reading("statistics_scope", "batch")
    return apart(case.loss(SEED).gradient, case.loss(batch).gradient)


# P-11, R-05, R-06: what locations and statistics share.


@witness("P-11-cross")
def scale_over_all_pairs_of_locations() -> float:
    case = samples(V=4)
    offset = np.arange(4.0)[:, None] / 2
    spread = Samples(case.generated + offset, case.positive + offset)
    return ratio(spread, "location_sharing", "all_pairs")


@witness("P-11-gradient")
def gradient_of_unshared_locations() -> float:
    case = samples(V=4)
    size = np.array([0.5, 1.0, 1.5, 2.0])[:, None]
    uneven = Samples(case.generated * size, case.positive * size)
    unshared = PAPER.with_reading("location_sharing", "none")
    return apart(uneven.loss(unshared).gradient, uneven.loss().gradient)


@witness("R-06-same-pairs")
def shared_scale_against_mean_of_locations() -> float:
    case = samples(V=4)
    own = scale(case, ("location_sharing", "none")).mean()
    return float(abs(scale(case)[0] / own - 1))


def means_and_deviations() -> Samples:
    """One mean vector and one deviation vector, ninety times smaller, under one key: V = 2."""
    case = samples(V=2)
    size = np.array([1.0, 1 / 90])[:, None]
    return Samples(case.generated * size, case.positive * size)


@witness("P-11-statistics")
def shared_scale_over_that_of_the_means() -> float:
    case = means_and_deviations()
    return float(scale(case)[0] / scale(case, ("location_sharing", "none"))[0])


@witness("R-05-law")
def shared_scale_is_the_mean_of_both() -> float:
    case = means_and_deviations()
    return float(abs(scale(case)[0] / scale(case, ("location_sharing", "none")).mean() - 1))


@witness("R-05-deviations")
def gradient_of_deviations_under_a_shared_scale() -> float:
    case = means_and_deviations()
    own = case.loss(PAPER.with_reading("location_sharing", "none"), ONE).gradient[:, :, 1]
    shared = case.loss(PAPER, ONE).gradient[:, :, 1]
    return float(np.linalg.norm(shared) / np.linalg.norm(own))


# P-33: whose batch; J-03: the release's scale.


@witness("P-33-previous")
def scale_of_another_batch() -> float:
    here, there = samples(0, N=64, P=64), samples(1, N=64, P=64)
    return float(abs(scale(there)[0] / scale(here)[0] - 1))


@witness("J-03-scale")
def release_scale_against_the_papers() -> float:
    case = samples(L=2, U=5, V=3)
    return largest(scale(case, readings=RELEASE) / scale(case) - 1)
