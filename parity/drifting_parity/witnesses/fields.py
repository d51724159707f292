"""Effects on the field of Algorithm 2: normalisers, softmaxes, aliasing, scaled products."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from drifting_parity.cases import Array
from drifting_parity.witnesses.cases import (
    G1,
    Y_ONLY,
    Points,
    apart,
    cosine,
    largest,
    points,
    unit_drift,
)
from drifting_parity.witnesses.core import witness
from drifting_reference import compute_V, distances, drift, eq11_field
from drifting_reference.ablations import asymmetric_drift, asymmetric_products
from drifting_reference.algorithm2 import (
    affinities,
    balance,
    mask_distances,
    softmax,
)
from drifting_reference.field import y_softmax_factor
from drifting_spec import PAPER, Readings

Mask = NDArray[np.bool_]
T = 1.0


def field(case: Points, readings: Readings = PAPER, temperature: float = T) -> Array:
    """Algorithm 2 with the generated samples as the only negatives."""
    return compute_V(case.x, case.y_pos, case.x, temperature, mask_self=True, readings=readings)


def logits(case: Points) -> tuple[Array, Mask]:
    """ALG2-1 to ALG2-4: the logits [N, P + N] and which pairs are present."""
    distance, present = mask_distances(distances(case.x, case.x), True, PAPER, 1.0)
    logit = -np.concatenate([distances(case.x, case.y_pos), distance], axis=1) / T
    everywhere = np.ones((len(case.x), len(case.y_pos)), dtype=np.bool_)
    return logit, np.concatenate([everywhere, present], axis=1)


def split_affinities(case: Points) -> tuple[Array, Array]:
    """ALG2-5 to ALG2-7 under the paper's readings."""
    logit, present = logits(case)
    P = len(case.y_pos)
    return affinities(logit, present, np.ones(logit.shape[1]), P, PAPER)


def of_affinity(A: Array, case: Points) -> Array:
    """ALG2-7 to ALG2-10 for an affinity [N, P + N]."""
    P = len(case.y_pos)
    return drift(*balance(A[:, :P], A[:, P:]), case.y_pos, case.x)


def share_of(part: Array, whole: Array) -> Array:
    """For each row, how much of ``whole`` the row of ``part`` is. [N]."""
    return np.sum(part * whole, axis=1) / np.sum(whole**2, axis=1)


# P-03: joint or separate normalisation.


@witness("P-03-y-factor")
def y_only_against_eq11() -> float:
    case = points()
    separate = eq11_field(case.x, case.y_pos, case.x, T, mask_self=True)
    return float(share_of(field(case, Y_ONLY), separate).mean())


@witness("P-03-y-law")
def y_only_is_its_factor_times_eq11() -> float:
    case = points()
    factor = y_softmax_factor(case.x, case.y_pos, case.x, T, mask_self=True)
    separate = eq11_field(case.x, case.y_pos, case.x, T, mask_self=True)
    return apart(field(case, Y_ONLY), factor[:, None] * separate)


def by_density(case: Points) -> tuple[Array, Array]:
    """EQ-11 with the kernel over √C_j, and the factor P̂Q̂/R of each row. [N, C], [N]."""
    logit, present = logits(case)
    e, P = np.where(present, np.exp(logit), 0.0), len(case.y_pos)
    root = np.sqrt(e.sum(axis=0))
    V = eq11_field(
        *(case.x, case.y_pos, case.x, T),
        mask_self=True,
        positive_weight=1 / root[:P],
        negative_weight=1 / root[P:],
    )
    attraction, repulsion = (e / root)[:, :P].sum(axis=1), (e / root)[:, P:].sum(axis=1)
    return V, attraction * repulsion / e.sum(axis=1)


@witness("P-03-joint-factor")
def joint_against_eq11() -> float:
    case = points()
    return float(share_of(field(case), by_density(case)[0]).mean())


@witness("P-03-joint-law")
def joint_is_its_factor_times_eq11() -> float:
    case = points()
    V, factor = by_density(case)
    return apart(field(case), factor[:, None] * V)


@witness("P-03-angle")
def joint_points_elsewhere_than_eq11() -> float:
    case = points()
    return cosine(field(case), eq11_field(case.x, case.y_pos, case.x, T, mask_self=True))


@witness("P-03-far")
def joint_vanishes_far_from_the_positives() -> float:
    case = points()
    far = Points(case.x, case.y_pos + 20.0, case.y_unc)
    separate = eq11_field(far.x, far.y_pos, far.x, T, mask_self=True)
    return float(np.log10(np.linalg.norm(field(far)) / np.linalg.norm(separate)))


# P-04: how two softmaxes combine.


def two_softmaxes(case: Points) -> tuple[Array, Array]:
    """A_row and A_col of ALG2-5, [N, P + N] each."""
    logit, present = logits(case)
    rows, columns = np.ones(len(logit)), np.ones(logit.shape[1])
    row = np.array([softmax(logit[i], present[i], columns) for i in range(len(rows))])
    column = np.array([softmax(logit[:, m], present[:, m], rows) for m in range(len(columns))]).T
    return row, column


def from_the_root(A: Array, case: Points) -> float:
    """Largest difference of the normalised drift from that of the geometric mean."""
    return largest(unit_drift(of_affinity(A, case)) - unit_drift(field(case)))


@witness("P-04-product")
def product_of_softmaxes() -> float:
    case = points()
    product = field(case, PAPER.with_reading("softmax_combination", "product"))
    return largest(unit_drift(product) - unit_drift(field(case)))


@witness("P-04-arithmetic")
def arithmetic_mean_of_softmaxes() -> float:
    row, column = two_softmaxes(points())
    return from_the_root((row + column) / 2, points())


@witness("P-04-row-then-column")
def rows_then_columns() -> float:
    row, _ = two_softmaxes(points())
    return from_the_root(row / row.sum(axis=0), points())


@witness("P-04-column-then-row")
def columns_then_rows() -> float:
    _, column = two_softmaxes(points())
    return from_the_root(column / column.sum(axis=1, keepdims=True), points())


# P-25: the printed code run literally.


def as_printed(case: Points) -> Array:
    """ALG2-8 and ALG2-9 as they stand: W_pos *is* A_pos, so the product in place changes it."""
    A_pos, A_neg = split_affinities(case)
    W_pos, W_neg = A_pos, A_neg
    W_pos *= A_neg.sum(axis=1, keepdims=True)
    W_neg *= A_pos.sum(axis=1, keepdims=True)
    return drift(W_pos, W_neg, case.y_pos, case.x)


@witness("P-25-field")
def printed_code_against_the_field() -> float:
    return apart(as_printed(points()), field(points()))


@witness("P-25-by-hand")
def printed_code_on_two_samples() -> float:
    return float(as_printed(G1)[0, 0] / field(G1)[0, 0])


@witness("P-25-shift")
def printed_code_under_a_translation() -> float:
    case = points()
    moved = Points(case.x + 1, case.y_pos + 1, case.y_unc)
    return apart(as_printed(moved), as_printed(case))


# P-29, R-09, J-12: what is relative to x; J-29: how distances are computed.

Scaled = Callable[[Points, float, float], Array]


def products(case: Points, attraction: float, repulsion: float) -> Array:
    """ALG2-10 with a factor before each product."""
    return asymmetric_products(case.x, case.y_pos, case.x, T, attraction, repulsion, mask_self=True)


def shifts(case: Points, attraction: float, repulsion: float) -> Array:
    """Table 1's field: the two shifts, relative to x, with a factor each."""
    return asymmetric_drift(case.x, case.y_pos, case.x, T, attraction, repulsion, mask_self=True)


def moved_by_a_shift(field_of: Scaled, attraction: float) -> float:
    """How far a row of the field moves, on average, when all points move by a unit step."""
    case, step = points(), np.array([1.0, 0.0, 0.0])
    moved = Points(case.x + step, case.y_pos + step, case.y_unc)
    change = field_of(moved, attraction, 1.0) - field_of(case, attraction, 1.0)
    return float(np.linalg.norm(change, axis=1).mean())


@witness("P-29-shift")
def scaled_products_under_a_translation() -> float:
    return moved_by_a_shift(products, 1.5)


@witness("P-29-relative")
def scaled_shifts_under_a_translation() -> float:
    return moved_by_a_shift(shifts, 1.5)


@witness("P-29-field")
def scaled_products_against_shifts() -> float:
    return apart(products(points(), 1.5, 1.0), shifts(points(), 1.5, 1.0))


@witness("R-09-shift")
def seed_scaling_under_a_translation() -> float:
    return moved_by_a_shift(products, 2.0)


@witness("J-12-centre")
def coefficients_sum_to_zero() -> float:
    W_pos, W_neg = balance(*split_affinities(points()))
    return largest(W_pos.sum(axis=1) - W_neg.sum(axis=1))


@witness("J-29-expanded")
def expanded_squares_in_single_precision() -> float:
    case = points(C=64)
    x, y = case.x.astype(np.float32), np.concatenate([case.y_pos, case.x]).astype(np.float32)
    squares = np.zeros((len(x), len(y)), np.float32)
    norms_x, norms_y = np.zeros((len(x), 1), np.float32), np.zeros((1, len(y)), np.float32)
    for one, two in zip(x.T, y.T, strict=True):  # in this order on every machine
        squares -= 2 * one[:, None] * two[None]
        norms_x += one[:, None] ** 2
        norms_y += two[None] ** 2
    squares += norms_x + norms_y
    off_diagonal = distances(case.x, np.concatenate([case.y_pos, case.x])) > 0
    expanded = np.sqrt(np.maximum(squares, 1e-8))[off_diagonal].astype(np.float64)
    exact = distances(case.x, np.concatenate([case.y_pos, case.x]))[off_diagonal]
    return largest(expanded / exact - 1)
