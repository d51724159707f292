"""Closed forms of Algorithm 2 in plain NumPy, for the checks of the field (Sec. 3.3, Alg. 2, A.7).

They are written with sums over whole matrices and share nothing with the reference, so that a
check built on them counts for the reference as well. Everything is float64 [N, ...] arrays.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from drifting_parity.adapters.reference_adapter import weight_dtype
from drifting_parity.cases import Array, DType, FieldCase, rounded
from drifting_parity.checks.core import Context
from drifting_parity.measure import Measurement, compare, whole
from drifting_spec import Readings
from drifting_spec.registry import Tolerance

MASK_AMOUNT = {"add_1e6": 1e6, "add_100": 100.0}
FLOOR = {"none": 0.0, "1e-6": 1e-6, "1e-12": 1e-12}
UNIT_ROUNDOFF: dict[DType, float] = {
    "float64": 2.0**-53,
    "float32": 2.0**-24,
    # Narrower inputs are exact in the checks and statistics are taken in float32.
    "float16": 2.0**-24,
    "bfloat16": 2.0**-24,
}
OUTPUT_ROUNDING: dict[DType, float] = {
    "float64": 0.0,
    "float32": 0.0,
    "float16": 2.0**-10,
    "bfloat16": 2.0**-7,
}

SMALLEST: dict[DType, float] = {
    "float64": 1e-300,
    "float32": 1e-37,
    "float16": 1e-6,
    "bfloat16": 1e-37,
}
"""What a returned entry may lose to underflow."""


def distances(left: Array, right: Array) -> Array:
    """The l2 distances [N, M] of EQ-12, by explicit differences."""
    return np.sqrt(np.sum((left[:, None, :] - right[None, :, :]) ** 2, axis=-1))


def softmax(logits: Array, axis: int) -> Array:
    """Softmax along ``axis``; zeros where every logit is minus infinity."""
    top = np.max(logits, axis=axis, keepdims=True)
    terms = np.exp(logits - np.where(np.isneginf(top), 0.0, top))
    total = np.sum(terms, axis=axis, keepdims=True)
    return np.divide(terms, total, out=np.zeros_like(terms), where=total > 0.0)


def logits_of(case: FieldCase, readings: Readings) -> Array:
    """−d/T for all targets [N, P + M], positives first, the self entries masked (ALG2-1 … 4)."""
    to_negatives = distances(case.x, case.negative)
    if case.mask_self:
        own = np.arange(len(case.x))
        to_negatives[own, own] += MASK_AMOUNT.get(readings.self_mask, np.inf)
    both = np.concatenate([distances(case.x, case.positive), to_negatives], axis=1)
    return -both / case.temperature


def affinities(case: FieldCase, readings: Readings) -> tuple[Array, Array]:
    """A_pos [N, P] and A_neg [N, M] of ALG2-6 and 7 under ``readings``, weights included."""
    logits, count = logits_of(case, readings), len(case.positive)
    weight = np.ones(logits.shape[1])
    if case.negative_weight is not None:
        weight[count:] = case.negative_weight
    with np.errstate(divide="ignore"):
        weighted = logits + np.log(weight)
    inside = readings.unconditional_weight == "log_in_softmaxes"
    after = readings.unconditional_weight == "after_softmaxes"
    if readings.softmax_axes == "none":
        return _split(weight * np.exp(logits), count)
    if readings.softmax_axes == "y":
        row_logits = logits if after else weighted
        parts = [row_logits[:, :count], row_logits[:, count:]]
        if readings.kernel_normalization == "joint":
            row = softmax(row_logits, axis=1)
        else:
            row = np.concatenate([softmax(part, axis=1) for part in parts], axis=1)
        return _split(row * weight if after else row, count)
    # Two softmaxes: per copy of a target the row affinity is e/R_w, also where the weight is 0.
    row = softmax(logits, axis=1)
    if inside:
        row = softmax(weighted, axis=1)
    elif not after:
        kept = np.sum(row * weight, axis=1, keepdims=True)
        row = np.divide(row, kept, out=np.zeros_like(row), where=kept > 0.0)
    squared = np.maximum(row * softmax(logits, axis=0), FLOOR[readings.affinity_floor])
    root = np.sqrt(squared) if readings.softmax_combination == "sqrt" else squared
    return _split(root if inside else root * weight, count)


def _split(affinity: Array, count: int) -> tuple[Array, Array]:
    return affinity[:, :count], affinity[:, count:]


def pair_field(case: FieldCase, readings: Readings) -> Array:
    """V [N, C] as EQ-17 writes it: Σ_jl A_ij A_il (y⁺_j − y⁻_l), one pair at a time."""
    attraction, repulsion = affinities(case, readings)
    pairs = case.positive[:, None, :] - case.negative[None, :, :]
    return np.einsum("ij,il,jlc->ic", attraction, repulsion, pairs)


def mean_shift_field(left: Array, right: Array, case: FieldCase) -> Array:
    """EQ-8 … 10 for kernels [N, P] and [N, M]: Σk⁺y⁺/Σk⁺ − Σk⁻y⁻/Σk⁻, 0 without a kernel."""
    plus, minus = np.sum(left, axis=1), np.sum(right, axis=1)
    some = (plus > 0.0) & (minus > 0.0)
    plus, minus = np.where(some, plus, 1.0)[:, None], np.where(some, minus, 1.0)[:, None]
    drift = left @ case.positive / plus - right @ case.negative / minus
    return np.where(some[:, None], drift, 0.0)


def reach(case: FieldCase, readings: Readings) -> float:
    """The size that V cannot pass and that its rounding scales with: ‖(ΣA_pos)(ΣA_neg)‖ · diam."""
    attraction, repulsion = affinities(case, readings)
    mass = np.sum(attraction, axis=1) * np.sum(repulsion, axis=1)
    everything = np.concatenate([case.positive, case.negative])
    return float(np.linalg.norm(mass) * np.max(distances(everything, everything)))


def rounding(case: FieldCase, readings: Readings, dtype: DType) -> Tolerance:
    """What rounding may do to V, from the conditioning of the case.

    With unit roundoff u, spread R about the mean and nearest distance d, a distance by expanded
    squares is wrong by u·R²/d (coincident and very near pairs are computed from differences:
    d ≥ 100√u·R), one by differences by u·d; a logit by that over T, an affinity by as much in
    relative terms. Sums and the coordinates' own size add a few u. 64 covers the constants, 16
    that of the weighted sums of coordinates.
    """
    u = UNIT_ROUNDOFF[dtype]
    points = np.concatenate([case.x, case.positive, case.negative])
    spread = float(np.max(np.linalg.norm(points - np.mean(points, axis=0), axis=1)))
    between = distances(points, points)
    apart = between[between > 0.0]
    nearest = max(float(np.min(apart)) if apart.size else spread, 100.0 * np.sqrt(u) * spread)
    near = spread / nearest if nearest > 0.0 else 0.0
    # A mask that is added takes part in the row where it does not vanish.
    masked = MASK_AMOUNT.get(readings.self_mask, 0.0) if case.mask_self else 0.0
    steep = (spread * (1.0 + near) + min(masked, 100.0)) / case.temperature
    attraction, repulsion = affinities(case, readings)
    mass = float(np.linalg.norm(np.sum(attraction, axis=1) * np.sum(repulsion, axis=1)))
    size = float(np.max(np.abs(points)))
    absolute = 64.0 * u * (2.0 + steep) * reach(case, readings) + 16.0 * u * mass * size
    return Tolerance(
        id=f"rounding.{dtype}",
        quantity="field",
        dtype=dtype,
        rtol=OUTPUT_ROUNDING[dtype],
        atol=absolute + SMALLEST[dtype],
        derivation="from the conditioning of the case",
    )


def exact_inputs(case: FieldCase, dtype: DType) -> FieldCase:
    """The case on a dyadic grid that ``dtype`` holds exactly, also shifted or turned by 45°.

    The grid has steps of 2⁻¹⁶, in 8- and 11-bit types 2⁻³, and spans ±4 (±2 there).
    """
    narrow = dtype in ("bfloat16", "float16")
    step, bound = (2.0**-3, 2.0 - 2.0**-3) if narrow else (2.0**-16, 4.0)

    def snap(array: Array) -> Array:
        return np.clip(np.round(array / step) * step, -bound, bound)

    return as_seen(
        case.changed(x=snap(case.x), positive=snap(case.positive), negative=snap(case.negative)),
        dtype,
    )


def as_seen(case: FieldCase, dtype: DType) -> FieldCase:
    """The case as an implementation that works in ``dtype`` receives it."""
    weight = case.negative_weight
    if weight is not None:
        weight = rounded(weight, weight_dtype(dtype))
    return case.changed(
        x=rounded(case.x, dtype),
        positive=rounded(case.positive, dtype),
        negative=rounded(case.negative, dtype),
        negative_weight=weight,
    )


def affinity_exponent(readings: Readings) -> float:
    """The power of e = exp(−d/T) in A where a column has one row: ½ for the root, else 1."""
    rooted = readings.softmax_axes == "xy" and readings.softmax_combination == "sqrt"
    return 0.5 if rooted else 1.0


def field_is(
    ctx: Context,
    clauses: tuple[str, ...],
    quantity: str,
    case: FieldCase,
    expected: Array,
) -> Measurement:
    """Hold the adapter's V at ``case`` to a closed form, allowing what rounding may do.

    V is the result of all lines: see :func:`as_whole`.
    """
    allowed = rounding(case, ctx.readings, ctx.setting.dtype)
    item = compare(clauses, quantity, case.manifest.id, ctx.field(case), expected, allowed)
    return as_whole(item, case)


def as_whole(item: Measurement, case: FieldCase) -> Measurement:
    """A measurement of V as a whole: it refutes what nothing plainer explains.

    Weights where there are any, else the mask where there is one, else the result.
    """
    if case.negative_weight is not None:
        return whole(item, "weights", ("A7-w",))
    if not case.mask_self:
        return whole(item, "field", ("ALG2-10",))
    more = len(case.negative) > len(case.x)
    return whole(item, "field", ("ALG2-3", *(("A7-selfmask-count",) if more else ())))


def of_reading(item: Measurement, *clauses: str) -> Measurement:
    """A V under other readings than those asked for: its clauses, if V is right under those."""
    return whole(item, "field", clauses)


def alone(item: Measurement) -> Measurement:
    """A measurement that speaks for its clauses alone, though it is of V as a whole."""
    return replace(item, end_to_end=False, refutes=None, stage=None)


def doubled(tolerance: Tolerance) -> Tolerance:
    """For two outputs held to each other: twice what one may be off."""
    return replace(tolerance, rtol=2.0 * tolerance.rtol, atol=2.0 * tolerance.atol)
