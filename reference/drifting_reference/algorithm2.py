"""Algorithm 2: compute_V, top down, with every reading of its axes.

:func:`compute_V` is lines 1 and 2, :func:`compute_V_from_distances` the last, :func:`compute_W`
those between; each printed line stands as a comment above what carries it out. The steps follow
in the order of the lines. Rows are the N generated samples x, columns the P positives followed by
the M negatives; when ``mask_self`` is set, the first N negatives are x itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from drifting_reference.arrays import (
    Array,
    Mask,
    as_array,
    as_temperatures,
    as_weight,
    require_shape,
)
from drifting_reference.kernels import distances
from drifting_spec import PAPER, Readings, implements


@dataclass(frozen=True)
class KernelWeights:
    """How many copies of itself each target counts as: ``positive`` [P], ``negative`` [M]."""

    positive: Array
    negative: Array

    @property
    def columns(self) -> Array:
        """The weights of the matrix's columns, [P + M]."""
        return np.concatenate([self.positive, self.negative])


@implements("ALG2-1", "ALG2-2", "EQ-27")
def compute_V(
    x: ArrayLike,
    y_pos: ArrayLike,
    y_neg: ArrayLike,
    T: float,
    *,
    mask_self: bool,
    positive_weight: ArrayLike | None = None,
    negative_weight: ArrayLike | None = None,
    readings: Readings = PAPER,
    mask_unit: float = 1.0,
) -> Array:
    """Algorithm 2: the drift of x [N, C] towards y_pos [P, C] and away from y_neg [M, C] → [N, C].

    ``mask_self``: the first N rows of ``y_neg`` are x. Weights [P] and [M] ≥ 0, default ones.
    ``mask_unit``: what the 100 of self_mask=add_100 is a multiple of, in units of the distance.
    Raises ``ValueError`` for shapes that do not fit, and for a temperature that is not positive.
    """
    points = as_array("x", x, "N", "C")
    require_shape("x", points, (None, None), "N samples of C channels")
    channels = points.shape[1]
    positive, negative = as_array("y_pos", y_pos, "P", "C"), as_array("y_neg", y_neg, "M", "C")
    require_shape("y_pos", positive, (None, channels), "channels as x has")
    require_shape("y_neg", negative, (None, channels), "channels as x has")
    if mask_self and not np.array_equal(negative[: len(points)], points):
        raise ValueError("mask_self is True, expected the first N rows of y_neg to be x")
    (temperature,) = as_temperatures([T])
    weight = KernelWeights(
        as_weight("positive_weight", positive_weight, (len(positive),)),
        as_weight("negative_weight", negative_weight, (len(negative),)),
    )
    # ALG2-1: dist_pos = cdist(x, y_pos)
    dist_pos = distances(points, positive)
    # ALG2-2: dist_neg = cdist(x, y_neg)
    dist_neg = distances(points, negative)
    return compute_V_from_distances(
        dist_pos, dist_neg, positive, negative, temperature, weight,
        mask_self=mask_self, readings=readings, mask_unit=mask_unit,
    )  # fmt: skip


def compute_V_from_distances(
    dist_pos: Array,
    dist_neg: Array,
    y_pos: Array,
    y_neg: Array,
    T: float,
    weight: KernelWeights,
    *,
    mask_self: bool,
    readings: Readings,
    mask_unit: float,
) -> Array:
    """Algorithm 2 from ALG2-3 on, for distances [N, P] and [N, M] computed elsewhere → [N, C].

    Normalised distances (with floors) are not always those of the normalised coordinates.
    """
    W_pos, W_neg = compute_W(
        dist_pos, dist_neg, T, weight, mask_self=mask_self, readings=readings, mask_unit=mask_unit
    )
    # W_pos and W_neg have equal row sums, so V is the same from any origin. Measured from a
    # sample, samples that coincide give exactly 0.
    origin = y_pos[0]
    # ALG2-10: V = W_pos @ y_pos − W_neg @ y_neg
    return drift(W_pos, W_neg, y_pos - origin, y_neg - origin)


def compute_W(
    dist_pos: Array,
    dist_neg: Array,
    T: float,
    weight: KernelWeights,
    *,
    mask_self: bool,
    readings: Readings,
    mask_unit: float = 1.0,
) -> tuple[Array, Array]:
    """Algorithm 2 from ALG2-3 to ALG2-9: W_pos [N, P] and W_neg [N, M] of [N, P] and [N, M]."""
    # ALG2-3: if y_neg is x: dist_neg += eye(N) · 1e6
    dist_neg, present_neg = mask_distances(dist_neg, mask_self, readings, mask_unit)
    present = np.concatenate([np.ones(dist_pos.shape, dtype=np.bool_), present_neg], axis=1)
    # ALG2-4: logit = −[dist_pos | dist_neg] / T
    logit = logits(dist_pos, dist_neg, T)
    # ALG2-5: A_row = softmax(logit, −1), A_col = softmax(logit, −2)
    # ALG2-6: A = √(A_row · A_col)
    # ALG2-7: A_pos, A_neg = split(A, [N_pos], 1)
    A_pos, A_neg = affinities(logit, present, weight.columns, dist_pos.shape[1], readings)
    # ALG2-8: W_pos = A_pos, W_neg = A_neg
    # ALG2-9: W_pos *= Σ A_neg, W_neg *= Σ A_pos
    return balance(A_pos, A_neg)


@implements("ALG2-3", "A7-selfmask-count")
def mask_distances(
    distance_neg: Array, mask_self: bool, readings: Readings, mask_unit: float
) -> tuple[Array, Mask]:
    """ALG2-3: no sample repels itself; unconditional columns are never masked.

    ``distance_neg`` [N, M]. self_mask=exclude: the pair (i, i) is absent; add_1e6: its distance
    grows by 10⁶; add_100: by 100 ``mask_unit``. Returns distances and which pairs are present.
    """
    distance, present = distance_neg.copy(), np.ones(distance_neg.shape, dtype=np.bool_)
    if mask_self:
        for i in range(len(distance)):
            if readings.self_mask == "exclude":
                present[i, i] = False
            elif readings.self_mask == "add_1e6":
                distance[i, i] += 1e6
            else:
                distance[i, i] += 100 * mask_unit
    return distance, present


@implements("ALG2-4")
def logits(dist_pos: Array, dist_neg: Array, T: float) -> Array:
    """ALG2-4: logit = −[dist_pos | dist_neg]/T. [N, P], [N, M] → [N, P + M]."""
    return -np.concatenate([dist_pos, dist_neg], axis=1) / T


@implements("ALG2-7")
def affinities(
    logit: Array, present: Mask, weight: Array, positives: int, readings: Readings
) -> tuple[Array, Array]:
    """ALG2-7: A of the positive and of the negative columns, [N, P] and [N, M − P].

    kernel_normalization=separate: each set has a softmax of its own (EQ-9's Z_p and Z_q).
    """
    if readings.kernel_normalization == "separate":
        pos, neg = slice(None, positives), slice(positives, None)
        return (
            affinity(logit[:, pos], present[:, pos], weight[pos], readings),
            affinity(logit[:, neg], present[:, neg], weight[neg], readings),
        )
    A = affinity(logit, present, weight, readings)
    return A[:, :positives], A[:, positives:]


@implements("ALG2-5", "ALG2-6", "A7-w")
def affinity(logit: Array, present: Mask, weight: Array, readings: Readings = PAPER) -> Array:
    """ALG2-5, ALG2-6: A = √(A_row · A_col), A_row the softmax over y, A_col the one over x.

    ``logit`` = −d/T and ``present`` [N, M], ``weight`` [M] ≥ 0 → A [N, M]. Readings:
    softmax_axes (y: A_row alone; none: exp(logit)), softmax_combination, affinity_floor and
    unconditional_weight, where e = exp(logit), R = Σ_m e, R_w = Σ_m w e, C = Σ_i e:

    * replication: w · √(e/R_w · e/C), a sample counts as w copies of it;
    * after_softmaxes: w · √(e/R · e/C);
    * log_in_softmaxes: √(w e/R_w · e/C), as log w is constant along a column and cancels there.
    """
    if readings.softmax_axes == "none":
        return weight * np.where(present, np.exp(logit), 0.0)
    inside = readings.unconditional_weight != "after_softmaxes"
    row = _row_softmax(logit, present, weight if inside else np.ones(len(weight)))
    if readings.softmax_axes == "y":
        return weight * row
    column = _column_softmax(logit, present)
    if readings.unconditional_weight == "log_in_softmaxes":
        return _combine(weight * row, column, readings)
    return weight * _combine(row, column, readings)


@implements("ALG2-5")
def softmax(logit: Array, present: Mask, weight: Array) -> Array:
    """e_m / Σ_m' w_m' e_m' over one row or column: the share of *one copy* of each sample.

    ``logit``, ``present``, ``weight`` [M] → [M]; 0 for what is absent or has weight 0, and
    everywhere if nothing is left.
    """
    counted = present & (weight > 0)
    share = np.zeros(len(logit))
    if counted.any():
        e = np.exp(logit[counted] - logit[counted].max())
        share[counted] = e / np.sum(weight[counted] * e)
    return share


def _row_softmax(logit: Array, present: Mask, weight: Array) -> Array:
    """Softmax over the columns, for each row. [N, M]."""
    return np.array([softmax(logit[i], present[i], weight) for i in range(len(logit))])


def _column_softmax(logit: Array, present: Mask) -> Array:
    """Softmax over the rows, for each column; rows have no weight. [N, M]."""
    column = np.zeros(logit.shape)
    for m in range(logit.shape[1]):
        column[:, m] = softmax(logit[:, m], present[:, m], np.ones(len(logit)))
    return column


FLOOR: Final = {"none": 0.0, "1e-6": 1e-6, "1e-12": 1e-12}
"""affinity_floor: the least value of row · column."""


def _combine(row: Array, column: Array, readings: Readings) -> Array:
    """ALG2-6: √max(row · column, floor), or without the root for softmax_combination=product."""
    floor = FLOOR[readings.affinity_floor]
    if readings.softmax_combination == "product":
        return np.maximum(row * column, floor)
    # Root by root, because the product of two small shares would underflow first.
    return np.maximum(np.sqrt(row) * np.sqrt(column), np.sqrt(floor))


@implements("ALG2-8", "ALG2-9")
def balance(A_pos: Array, A_neg: Array) -> tuple[Array, Array]:
    """ALG2-8, ALG2-9: W_pos = A_pos · Σ A_neg, W_neg = A_neg · Σ A_pos, sums along the row.

    Σ A_pos is that of the *unmodified* A_pos (P-25). [N, P], [N, M] → the same.
    """
    W_pos = A_pos * A_neg.sum(axis=1, keepdims=True)
    W_neg = A_neg * A_pos.sum(axis=1, keepdims=True)
    return W_pos, W_neg


@implements("ALG2-10")
def drift(W_pos: Array, W_neg: Array, y_pos: Array, y_neg: Array) -> Array:
    """ALG2-10: V = W_pos @ y_pos − W_neg @ y_neg. → [N, C]."""
    return W_pos @ y_pos - W_neg @ y_neg
