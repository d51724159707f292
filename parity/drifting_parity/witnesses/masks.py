"""Effects of the self-mask: its presence, its size, and what it does to antisymmetry."""

from __future__ import annotations

import numpy as np

from drifting_parity.cases import Array, rounded
from drifting_parity.witnesses.cases import apart, largest, points
from drifting_parity.witnesses.core import witness
from drifting_parity.witnesses.fields import T, field
from drifting_reference import antisymmetry_defect, compute_V, distances
from drifting_reference.algorithm2 import affinity
from drifting_reference.field import pair_field
from drifting_spec import PAPER

# P-26, P-27, R-20, J-11: its presence and its size.


@witness("P-26-dropped")
def mask_dropped_beside_unconditional_samples() -> float:
    case = points()
    with_mask, without = (
        compute_V(case.x, case.y_pos, case.y_neg, T, mask_self=mask) for mask in (True, False)
    )
    return apart(without, with_mask)


@witness("P-27-hot")
def mask_of_a_million_at_a_high_temperature() -> float:
    added = PAPER.with_reading("self_mask", "add_1e6")
    return apart(field(points(), added, 2e5), field(points(), PAPER, 2e5))


@witness("P-27-spacing")
def spacing_of_bfloat16_at_a_million() -> float:
    near = rounded(1e6 + np.arange(0.0, 20000.0, 64.0), "bfloat16")
    return float(np.diff(np.unique(near)).min())


@witness("R-20-mask")
def masks_at_the_papers_temperatures() -> float:
    case = points()
    added = field(case, PAPER.with_reading("self_mask", "add_1e6"), 0.2)
    return apart(added, field(case, PAPER, 0.2))


@witness("J-11-mask")
def mask_of_a_hundred() -> float:
    case = points()
    added = field(case, PAPER.with_reading("self_mask", "add_100"), 0.2)
    return apart(added, field(case, PAPER, 0.2))


# P-28: antisymmetry.


def masked_field(x: Array, y_pos: Array, y_neg: Array, *, mask: str) -> Array:
    """Algorithm 2 in which the self pairs of the positives, or of the negatives, are absent."""
    y = np.concatenate([y_pos, y_neg])
    present = np.ones((len(x), len(y)), dtype=np.bool_)
    first = {"positives": 0, "negatives": len(y_pos)}[mask]
    present[np.arange(len(x)), first + np.arange(len(x))] = False
    A = affinity(-distances(x, y) / T, present, np.ones(len(y)))
    return pair_field(A[:, : len(y_pos)], A[:, len(y_pos) :], y_pos, y_neg)


@witness("P-28-mask-moves")
def antisymmetry_if_the_mask_moves() -> float:
    case = points()
    forth = masked_field(case.x, case.y_pos, case.x, mask="negatives")
    back = masked_field(case.x, case.x, case.y_pos, mask="positives")
    return largest(forth + back)


@witness("P-28-mask-stays")
def antisymmetry_if_the_mask_stays() -> float:
    case = points()

    def eye_on_negatives(x: Array, y_pos: Array, y_neg: Array) -> Array:
        return masked_field(x, y_pos, y_neg, mask="negatives")

    others = points(1, P=len(case.x)).y_pos
    defect = antisymmetry_defect(eye_on_negatives, case.x, others, case.x)
    return float(np.linalg.norm(defect) / np.linalg.norm(eye_on_negatives(case.x, others, case.x)))


@witness("P-28-coincident")
def field_where_the_sets_coincide() -> float:
    x = points().x
    return largest(compute_V(x, x, x, T, mask_self=True))
