"""Effects on guidance: where the weight enters, what weight 0 does, what α a weight acts as."""

from __future__ import annotations

import numpy as np

from drifting_parity.cases import Array
from drifting_parity.witnesses.cases import (
    Y_ONLY,
    apart,
    largest,
    points,
    samples,
    unit_drift,
)
from drifting_parity.witnesses.core import witness
from drifting_reference import (
    cfg_alpha_to_weight,
    compute_V,
    distances,
    guided_distribution,
    weight_to_alpha,
)
from drifting_reference.algorithm2 import FLOOR
from drifting_spec import PAPER, RELEASE, SEED, Readings

AFTER = PAPER.with_reading("unconditional_weight", "after_softmaxes")
LOG = PAPER.with_reading("unconditional_weight", "log_in_softmaxes")
T = 1.0


def acting_alpha(readings: Readings, alpha: float, n_unconditional: int) -> float:
    """Measure the α that a nominal one acts as, at high temperature, with 64 generated samples.

    The drift is then proportional to E y⁺ − (1 − γ) E x − γ E y⁻: with the positives on one axis,
    the unconditional samples on another and x at the origin, γ is the ratio of two coordinates.
    """
    N, step = 64, 1e-6
    x = np.zeros((N, 2))
    y_pos, y_unc = np.tile([step, 0.0], (N, 1)), np.tile([0.0, step], (n_unconditional, 1))
    weight = np.ones(N + n_unconditional)
    weight[N:] = cfg_alpha_to_weight(alpha, N, n_unconditional)
    V = compute_V(
        *(x, y_pos, np.concatenate([x, y_unc]), T),
        mask_self=True,
        negative_weight=weight,
        readings=readings,
    )
    gamma = -V[0, 1] / V[0, 0]
    return float(1 / (1 - gamma))


# P-05, P-07: how much a weight weighs.


@witness("P-05-acts-as-16")
def logarithm_acts_as_root_at_16() -> float:
    return acting_alpha(LOG, 2.0, 16)


@witness("P-05-acts-as-32")
def logarithm_acts_as_root_at_32() -> float:
    return acting_alpha(LOG, 2.0, 32)


@witness("P-05-four-acts-as-16")
def logarithm_of_four_at_16() -> float:
    return acting_alpha(LOG, 4.0, 16)


@witness("P-05-four-acts-as-32")
def logarithm_of_four_at_32() -> float:
    return acting_alpha(LOG, 4.0, 32)


@witness("P-07-acts-as")
def replication_acts_as() -> float:
    return acting_alpha(PAPER, 2.0, 16)


@witness("P-07-weight")
def effective_weight_over_nominal() -> float:
    return acting_alpha(PAPER, 2.0, 16) - 1.0


@witness("P-07-y-only")
def y_only_acts_as() -> float:
    return acting_alpha(Y_ONLY, 2.0, 16)


def weighted(readings: Readings, weight: float) -> Array:
    """The field with five unconditional samples of one weight."""
    case = points()
    weights = np.array([1.0] * len(case.x) + [weight] * len(case.y_unc))
    return compute_V(
        *(case.x, case.y_pos, case.y_neg, T),
        mask_self=True,
        negative_weight=weights,
        readings=readings,
    )


def dropped(readings: Readings) -> Array:
    """The field without the unconditional samples."""
    case = points()
    return compute_V(case.x, case.y_pos, case.x, T, mask_self=True, readings=readings)


def row_sums(weight: float) -> Array:
    """Row sums of the kernel, a sample of the given weight counting so many times. [N]."""
    case = points()
    kernel = np.exp(-distances(case.x, np.concatenate([case.y_pos, case.y_neg])) / T)
    P, N = len(case.y_pos), len(case.x)
    kernel[np.arange(N), P + np.arange(N)] = 0.0
    return kernel[:, : P + N].sum(axis=1) + weight * kernel[:, P + N :].sum(axis=1)


@witness("P-05-after")
def outside_against_replication() -> float:
    after, replicated = weighted(AFTER, 3.0), weighted(PAPER, 3.0)
    return apart(unit_drift(after), unit_drift(replicated))


@witness("P-05-after-law")
def replication_is_outside_times_row_sums() -> float:
    factor = row_sums(1.0) / row_sums(3.0)
    return apart(weighted(PAPER, 3.0), factor[:, None] * weighted(AFTER, 3.0))


@witness("R-01-root")
def logarithm_is_the_root() -> float:
    # V_log(w) is V_after(√w) but for one factor per row, R/R_w.
    factor = row_sums(1.0) / row_sums(3.0)
    return apart(weighted(LOG, 3.0), factor[:, None] * weighted(AFTER, float(np.sqrt(3.0))))


@witness("R-01-weight")
def logarithm_against_outside() -> float:
    return largest(unit_drift(weighted(LOG, 3.0)) - unit_drift(weighted(AFTER, 3.0)))


@witness("R-01-acts-as")
def seed_acts_as() -> float:
    return acting_alpha(SEED, 2.0, 16)


# P-06, R-02, J-02: what weight 0 leaves.


@witness("P-06-replication")
def weight_zero_by_replication() -> float:
    return apart(weighted(PAPER, 0.0), dropped(PAPER))


@witness("P-06-after")
def weight_zero_outside() -> float:
    return apart(unit_drift(weighted(AFTER, 0.0)), unit_drift(dropped(PAPER)))


@witness("P-06-after-law")
def weight_zero_outside_is_a_factor() -> float:
    factor = row_sums(0.0) / row_sums(1.0)
    return apart(weighted(AFTER, 0.0), factor[:, None] * dropped(PAPER))


@witness("P-06-y-only-law")
def weight_zero_outside_y_only_is_its_square() -> float:
    readings = AFTER.with_reading("softmax_axes", "y")
    factor = (row_sums(0.0) / row_sums(1.0)) ** 2
    return apart(weighted(readings, 0.0), factor[:, None] * dropped(Y_ONLY))


@witness("J-02-row-sum")
def share_left_by_weight_zero() -> float:
    return float((row_sums(0.0) / row_sums(1.0)).mean())


@witness("J-02-gradient")
def release_at_weight_zero() -> float:
    case = samples(U=5)
    case.weight[:] = 0.0  # pyright: ignore[reportOptionalSubscript] -- U > 0 gives weights
    without = samples(U=5)
    plain = type(case)(without.generated, without.positive)
    inside = AFTER
    return apart(case.loss(inside).gradient, plain.loss(inside).gradient)


@witness("R-02-leak")
def seed_leak_of_weight_zero() -> float:
    leak = weighted(SEED, 0.0) - dropped(SEED)
    return largest(leak) / float(np.sqrt(FLOOR["1e-12"]))


# P-31, P-45: the distributions themselves.


def class_and_all(classes: int) -> tuple[Array, Array]:
    """One class out of many, as probabilities over the classes, and all of them alike."""
    one = np.zeros(classes)
    one[0] = 1.0
    return one, np.full(classes, 1 / classes)


@witness("P-31-own-class")
def own_class_among_the_unconditional() -> float:
    p_class, p_all = class_and_all(1000)
    others = (p_all - p_class / 1000) / (1 - 1 / 1000)
    with_own, without = (guided_distribution(p_class, p, 2.0) for p in (p_all, others))
    return float(np.abs(with_own - without).sum() / 2)


SUPPORT = np.array([0.5, 0.3, 0.15, 0.05]), np.array([0.3, 0.3, 0.2, 0.2])


@witness("P-45-limit")
def least_alpha_that_turns_negative() -> float:
    p_class, p_all = SUPPORT
    low, high = 1.0, 10.0
    while high - low > 1e-12:
        middle = (low + high) / 2
        negative = guided_distribution(p_class, p_all, middle).min() < 0
        low, high = (low, middle) if negative else (middle, high)
    return float(high * (1 - (p_class / p_all).min()))


@witness("P-45-mass")
def negative_mass_at_alpha_two() -> float:
    density = guided_distribution(*SUPPORT, 2.0)
    return float(-density[density < 0].sum())


@witness("R-24-alpha")
def weight_and_alpha_invert_each_other() -> float:
    alphas = np.linspace(1.0, 4.0, 13)
    back = [weight_to_alpha(cfg_alpha_to_weight(alpha, 64, 16), 64, 16) for alpha in alphas]
    return largest(np.array(back) - alphas)


@witness("J-02-acts-as")
def release_acts_as() -> float:
    return acting_alpha(RELEASE.with_reading("affinity_floor", "none"), 2.0, 16)
