"""Properties of the drifting field, PB-01 … PB-19 (Sec. 3.1–3.3, A.1, B.2, Algorithm 2).

Identities over generic inputs. Those that speak for one line of Algorithm 2, the limits, and the
training step have modules of their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from drifting_parity.cases import FieldCase
from drifting_parity.checks.core import Context, Property
from drifting_parity.checks.field import (
    worlds,
)
from drifting_parity.checks.field.closed_forms import (
    alone,
    distances,
    doubled,
    exact_inputs,
    field_is,
    logits_of,
    mean_shift_field,
    of_reading,
    pair_field,
    rounding,
    softmax,
)
from drifting_parity.checks.predicates import (
    has_softmax_without_floor,
    root_excludes_self,
)
from drifting_parity.draw import Draw
from drifting_parity.measure import Measurement, compare, whole, within
from drifting_spec import Readings


def _masked_or_not(draw: Draw) -> FieldCase:
    return worlds.cloud(draw, mask_self=draw.choice((False, True)))


def _masked(draw: Draw) -> FieldCase:
    return worlds.cloud(draw, mask_self=True)


def _unmasked(draw: Draw) -> FieldCase:
    return worlds.cloud(draw, mask_self=False)


def _pairs(ctx: Context, case: FieldCase) -> Iterator[Measurement]:
    case = exact_inputs(case, ctx.setting.dtype)
    clauses = ("EQ-7", "EQ-17", "ALG2-10")
    yield field_is(ctx, clauses, "V as a sum over pairs", case, pair_field(case, ctx.readings))


def _masked_pairs(ctx: Context, case: FieldCase) -> Iterator[Measurement]:
    case = exact_inputs(case, ctx.setting.dtype)
    clauses = ("ALG2-3",)
    if len(case.negative) > len(case.x):
        clauses = ("ALG2-3", "A7-selfmask-count")
    else:
        clauses = ("ALG2-3", "ALG1-4")
    yield field_is(
        ctx, clauses, "V with the mask as a sum over pairs", case, pair_field(case, ctx.readings)
    )


def _mask_of(readings: Readings, case: FieldCase) -> FieldCase:
    # A mask of 100 in the bare field is no mask at ordinary temperatures: leave it out.
    return case if readings.self_mask != "add_100" else case.changed(mask_self=False)


def _over_y(ctx: Context, case: FieldCase) -> Iterator[Measurement]:
    ctx = ctx.under(softmax_axes="y", kernel_normalization="joint")
    case = exact_inputs(_mask_of(ctx.readings, case), ctx.setting.dtype)
    kernel, count = softmax(logits_of(case, ctx.readings), axis=1), len(case.positive)
    share = np.sum(kernel[:, :count], axis=1)[:, None]
    field = mean_shift_field(kernel[:, :count], kernel[:, count:], case)
    expected = share * (1.0 - share) * field
    item = field_is(ctx, ("EQ-11", "EQ-27"), "V against π(1−π) times EQ-11", case, expected)
    yield of_reading(item, "EQ-11", "EQ-27")


def _over_both(ctx: Context, case: FieldCase) -> Iterator[Measurement]:
    case = exact_inputs(case, ctx.setting.dtype)
    logits, count = logits_of(case, ctx.readings), len(case.positive)
    # e_ij/√C_j; a common factor of a row cancels, so subtract the row's largest logit.
    scaled = np.exp(logits - np.max(logits, axis=1, keepdims=True))
    total = np.sum(scaled, axis=1, keepdims=True)
    column = np.sqrt(softmax(logits, axis=0))
    kernel = np.sqrt(scaled / total) * column
    mass = np.sum(kernel[:, :count], axis=1) * np.sum(kernel[:, count:], axis=1)
    expected = mass[:, None] * mean_shift_field(kernel[:, :count], kernel[:, count:], case)
    clauses = ("EQ-10", "EQ-11", "ALG2-6")
    yield field_is(ctx, clauses, "V against (P̂Q̂/R) times EQ-11", case, expected)


def _separate(ctx: Context, case: FieldCase) -> Iterator[Measurement]:
    ctx = ctx.under(softmax_axes="y", kernel_normalization="separate")
    case = exact_inputs(_mask_of(ctx.readings, case), ctx.setting.dtype)
    logits, count = logits_of(case, ctx.readings), len(case.positive)
    left, right = softmax(logits[:, :count], axis=1), softmax(logits[:, count:], axis=1)
    expected = mean_shift_field(left, right, case)
    item = field_is(ctx, ("EQ-9", "EQ-11"), "V with separate normalisers", case, expected)
    yield of_reading(item, "EQ-9", "EQ-11")


def _mean_shift(ctx: Context, case: FieldCase) -> Iterator[Measurement]:
    """EQ-8 … 10 on their own: V_pq + V_qr = V_pr, and V⁺ of one negative at x stays in the hull."""
    ctx = ctx.under(softmax_axes="y", kernel_normalization="separate")
    case = exact_inputs(case, ctx.setting.dtype)
    third = case.changed(positive=case.negative, negative=case.x)
    through = case.changed(negative=case.x)
    allowed = doubled(rounding(through, ctx.readings, ctx.setting.dtype))
    first, second, near = ctx.field(case), ctx.field(third), case.manifest.id
    chained = first + second
    # Three outputs are rounded, of which the sum may be much smaller than its terms.
    sizes = float(np.linalg.norm(first) + np.linalg.norm(second))
    allowed = replace(allowed, atol=2.0 * allowed.atol + allowed.rtol * sizes)
    what = "V_pq + V_qr − V_pr"
    item = compare(("EQ-10",), what, near, chained, ctx.field(through), allowed)
    yield of_reading(item, "EQ-10")
    single = case.changed(x=case.x[:1], negative=case.x[:1], mask_self=False)
    to_positives = softmax(logits_of(single, ctx.readings)[:, : len(case.positive)], axis=1)
    expected = to_positives @ single.positive - single.x
    item = field_is(ctx, ("EQ-8",), "V⁺ with one negative at x", single, expected)
    yield of_reading(item, "EQ-8")
    landed = (single.x + ctx.field(single))[0]
    outside = np.maximum(landed - np.max(single.positive, axis=0), 0.0)
    outside += np.maximum(np.min(single.positive, axis=0) - landed, 0.0)
    slack = rounding(single, ctx.readings, ctx.setting.dtype)
    room = slack.atol + slack.rtol * float(np.linalg.norm(expected))
    yield within(("EQ-8",), "x + V⁺ outside the positives' box", near, np.max(outside), room)


def _antisymmetry(ctx: Context, case: FieldCase) -> Iterator[Measurement]:
    yield _swapped(ctx, case, ("EQ-3",))


def _swapped(ctx: Context, case: FieldCase, clauses: tuple[str, ...]) -> Measurement:
    case = exact_inputs(case, ctx.setting.dtype)
    other = case.changed(positive=case.negative, negative=case.positive)
    allowed = doubled(rounding(case, ctx.readings, ctx.setting.dtype))
    swapped = -ctx.field(other)
    return compare(clauses, "V_pq + V_qp", case.manifest.id, ctx.field(case), swapped, allowed)


def _ablations(ctx: Context, case: FieldCase) -> Iterator[Measurement]:
    for axes in ("xy", "y", "none"):
        under = ctx.under(softmax_axes=axes, kernel_normalization="joint")
        yield of_reading(_swapped(under, case, ("EQ-27",)), "EQ-27")
        near = exact_inputs(case, ctx.setting.dtype)
        expected = pair_field(near, under.readings)
        item = field_is(under, ("EQ-27",), f"V with softmax over {axes}", near, expected)
        yield item if under.readings == ctx.readings else of_reading(item, "EQ-27")


def _coinciding(ctx: Context, case: FieldCase) -> Iterator[Measurement]:
    case = exact_inputs(case, ctx.setting.dtype)
    clauses = ("EQ-3", "EQ-4")
    yield alone(field_is(ctx, clauses, "V where p = q", case, np.zeros_like(case.x)))


def _translation(ctx: Context, case: FieldCase) -> Iterator[Measurement]:
    case = exact_inputs(case, ctx.setting.dtype)
    shifted = worlds.moved(case, 16.0)
    allowed = doubled(rounding(shifted, ctx.readings, ctx.setting.dtype))
    clauses, near = ("ALG2-8", "ALG2-9"), case.manifest.id
    moved = compare(clauses, "V after a shift", near, ctx.field(shifted), ctx.field(case), allowed)
    # Distances that a shift changes show here as well.
    yield whole(moved, "field", clauses)
    # A channel that is the same everywhere changes no distance; its drift is the balance itself.
    lifted = case.changed(
        **{
            name: np.concatenate([array, np.full((len(array), 1), 2.0)], axis=1)
            for name, array in (
                ("x", case.x),
                ("positive", case.positive),
                ("negative", case.negative),
            )
        }
    )
    room = rounding(lifted, ctx.readings, ctx.setting.dtype).atol
    unbalanced = float(np.linalg.norm(ctx.field(lifted)[:, -1]))
    yield within(clauses, "2(ΣW_pos − ΣW_neg)", near, unbalanced, room)


def _rotation(ctx: Context, case: FieldCase) -> Iterator[Measurement]:
    case = exact_inputs(case, ctx.setting.dtype)
    # Orthogonal, and exact on the grid: rows of ±½.
    turn = 0.5 * np.array([[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]])
    turned = case.changed(
        x=case.x @ turn, positive=case.positive @ turn, negative=case.negative @ turn
    )
    allowed = doubled(rounding(turned, ctx.readings, ctx.setting.dtype))
    clauses, expected = ("ALG2-1", "ALG2-2"), ctx.field(case) @ turn
    yield compare(clauses, "V(xQ) − V(x)Q", case.manifest.id, ctx.field(turned), expected, allowed)


def _homogeneity(ctx: Context, inputs: tuple[FieldCase, int]) -> Iterator[Measurement]:
    case, power = exact_inputs(inputs[0], ctx.setting.dtype), 2.0 ** inputs[1]
    grown = case.changed(
        x=case.x * power,
        positive=case.positive * power,
        negative=case.negative * power,
        temperature=case.temperature * power,
    )
    allowed = doubled(rounding(grown, ctx.readings, ctx.setting.dtype))
    clauses, expected = ("EQ-12", "ALG2-4"), power * ctx.field(case)
    near = f"{case.manifest.id} c={power}"
    item = compare(clauses, "V(cx; cT) − cV(x; T)", near, ctx.field(grown), expected, allowed)
    # Another metric is not another division by T.
    yield replace(item, refutes=("EQ-12",))


def _permutations(ctx: Context, inputs: tuple[FieldCase, int]) -> Iterator[Measurement]:
    case, random = exact_inputs(inputs[0], ctx.setting.dtype), np.random.default_rng(inputs[1])
    count, near = len(case.x), case.manifest.id
    allowed = doubled(rounding(case, ctx.readings, ctx.setting.dtype))
    field = ctx.field(case)
    mixed = case.changed(positive=random.permutation(case.positive))
    yield compare(("EQ-7",), "V, positives permuted", near, ctx.field(mixed), field, allowed)
    order = random.permutation(count)
    negative = case.negative
    if case.mask_self:
        negative = np.concatenate([case.x[order], case.negative[count:]])
    else:
        negative = random.permutation(negative)
    mixed = case.changed(x=case.x[order], negative=negative)
    clauses = ("ALG2-3", "ALG2-5")
    yield compare(clauses, "V, x permuted", near, ctx.field(mixed), field[order], allowed)


def _bounds(ctx: Context, case: FieldCase) -> Iterator[Measurement]:
    case = exact_inputs(case, ctx.setting.dtype)
    readings, targets = ctx.readings, len(case.positive) + len(case.negative)
    everything = np.concatenate([case.positive, case.negative])
    bound = float(np.max(distances(everything, everything)))
    if readings.kernel_normalization == "joint":
        rooted = readings.softmax_axes == "xy" and readings.softmax_combination == "sqrt"
        bound *= targets / 4.0 if rooted else 0.25
    slack = rounding(case, readings, ctx.setting.dtype)
    room = bound * (1.0 + slack.rtol) + slack.atol
    longest = float(np.max(np.linalg.norm(ctx.field(case), axis=1)))
    yield within(("EQ-17",), "largest ‖V_i‖", case.manifest.id, longest, room)


def _homogeneous_draw(draw: Draw) -> tuple[FieldCase, int]:
    return _unmasked(draw), draw.integer(-4, 4)


def _permuted_draw(draw: Draw) -> tuple[FieldCase, int]:
    return _masked_or_not(draw), draw.integer(0, 2**16 - 1)


PROPERTIES: tuple[Property[Any], ...] = (
    Property(
        "PB-01",
        "Alg. 2 is the mean over pairs Σ A_ij A_il (y⁺_j − y⁻_l); any wrong value, unmasked",
        ("EQ-7", "EQ-17", "ALG2-10"),
        _unmasked,
        _pairs,
    ),
    Property(
        "PB-02",
        "Softmax over y only: V is π(1−π) times EQ-11 (D10, D12, D19)",
        ("EQ-11", "EQ-27"),
        _masked_or_not,
        _over_y,
    ),
    Property(
        "PB-03",
        "Softmax over both axes: V is P̂Q̂/R times EQ-11 with kernel e/√C (D10, D11, D12, D16)",
        ("EQ-10", "EQ-11", "ALG2-6"),
        _unmasked,
        _over_both,
        applies=root_excludes_self,
    ),
    Property(
        "PB-03-separate",
        "Separate normalisers: V is EQ-11 itself (D10's form, which the paper states first)",
        ("EQ-9", "EQ-11"),
        _masked_or_not,
        _separate,
    ),
    Property(
        "PB-03-mean-shift",
        "Separate normalisers: V is attraction minus repulsion, attraction stays in the hull",
        ("EQ-8", "EQ-10"),
        _unmasked,
        _mean_shift,
    ),
    Property(
        "PB-04",
        "Shifting every point moves no drift: row sums of the weights balance (D15, D21)",
        ("ALG2-8", "ALG2-9"),
        _masked_or_not,
        _translation,
    ),
    Property(
        "PB-05",
        "Swapping the two sets turns V round, without the mask (D15)",
        ("EQ-3",),
        _unmasked,
        _antisymmetry,
    ),
    Property(
        "PB-05-ablations",
        "The three normalisations of B.2: value, and antisymmetry",
        ("EQ-27",),
        _unmasked,
        _ablations,
        examples=8,
    ),
    Property(
        "PB-06",
        "With the mask, and with further negatives behind the samples (D01, D08)",
        ("ALG2-3", "A7-selfmask-count", "ALG1-4"),
        _masked,
        _masked_pairs,
        about_mask=True,
    ),
    Property(
        "PB-07",
        "V = 0 where positives and negatives are the same points, without the mask (D02, D15)",
        ("EQ-3", "EQ-4"),
        worlds.coinciding,
        _coinciding,
    ),
    Property(
        "PB-09",
        "Turning all points turns V (an l1 distance)",
        ("ALG2-1", "ALG2-2"),
        lambda draw: worlds.cloud(draw, mask_self=draw.choice((False, True)), channels=4),
        _rotation,
    ),
    Property(
        "PB-10",
        "Scaling points and T scales V: logits are −distance/T (D19, D21)",
        ("EQ-12", "ALG2-4"),
        _homogeneous_draw,
        _homogeneity,
    ),
    Property(
        "PB-11",
        "Permuting positives, or samples with their negatives, or unmasked negatives",
        ("EQ-7", "ALG2-3", "ALG2-5"),
        _permuted_draw,
        _permutations,
    ),
    Property(
        "PB-14",
        "V is no longer than its bound times the diameter",
        ("EQ-17",),
        _masked_or_not,
        _bounds,
        applies=has_softmax_without_floor,
    ),
)
