"""Properties of guidance by negatives, PB-31 … PB-36 (Sec. 3.5, A.7)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from drifting_parity.cases import Array, FieldCase, LossCase, Manifest
from drifting_parity.checks.core import Context, Property
from drifting_parity.checks.field import worlds
from drifting_parity.checks.field.algorithm1 import drawn_loss, drifts
from drifting_parity.checks.field.closed_forms import (
    UNIT_ROUNDOFF,
    affinities,
    affinity_exponent,
    alone,
    as_seen,
    distances,
    doubled,
    exact_inputs,
    field_is,
    logits_of,
    pair_field,
    rounding,
    softmax,
)
from drifting_parity.checks.loss import closed_forms as loss_forms
from drifting_parity.checks.predicates import (
    ignores_weight_zero,
    nearly_excludes_self,
    replicates_without_floor,
    weighs_in_proportion,
)
from drifting_parity.draw import Draw, Rejected, generator
from drifting_parity.measure import Measurement, at_stage, compare, whole, within


def _guided(draw: Draw) -> FieldCase:
    """A masked cloud with one to four unconditional negatives of integer weight 1 to 4."""
    case = worlds.cloud(draw, mask_self=True)
    random, count = generator(draw), len(case.x)
    others = random.normal(size=(draw.integer(1, 4), case.x.shape[1])) - 0.5
    weight = random.integers(1, 5, size=len(others)).astype(np.float64)
    return case.changed(
        manifest=Manifest(f"{case.manifest.id} U={len(others)}"),
        negative=np.concatenate([case.x, others]),
        negative_weight=np.concatenate([np.ones(count), weight]),
    )


def _round_trip(ctx: Context, inputs: tuple[float, int, int]) -> Iterator[Measurement]:
    alpha, generated, unconditional = inputs
    near = f"α={alpha:.3f} N={generated} U={unconditional}"
    weight = ctx.adapter.guidance_weight(alpha, generated, unconditional)
    others = generated - 1
    gamma = unconditional * weight / (others + unconditional * weight)
    # The map may be computed in float32 where the adapter is.
    slack = 64.0 * UNIT_ROUNDOFF[ctx.setting.dtype]
    expected = (alpha - 1.0) * others / unconditional
    room = slack * (expected + others / unconditional)
    yield within(("A7-w",), "w", near, abs(weight - expected), room)
    clauses = ("EQ-A7gamma", "EQ-A7alpha", "A7-w")
    yield within(clauses, "1/(1−γ) − α", near, abs(1.0 / (1.0 - gamma) - alpha), slack * alpha)
    none = ctx.adapter.guidance_weight(1.0, generated, unconditional)
    yield within(("A7-w",), "w at α = 1", near, abs(none), 0.0)
    even = ctx.adapter.guidance_weight(1.0 + unconditional / others, generated, unconditional)
    room = slack * (1.0 + others / unconditional)
    clauses = ("A7-w", "A7-selfmask-count")
    yield within(clauses, "w − 1 at α = 1 + U/(N−1)", near, abs(even - 1.0), room)


def _alpha_draw(draw: Draw) -> tuple[float, int, int]:
    return draw.number(1.0, 10.0), draw.integer(2, 256), draw.integer(1, 64)


def _weighted_pairs(ctx: Context, case: FieldCase) -> Iterator[Measurement]:
    case = exact_inputs(case, ctx.setting.dtype)
    yield field_is(ctx, ("A7-w",), "V with weights", case, pair_field(case, ctx.readings))


def _replication(ctx: Context, case: FieldCase) -> Iterator[Measurement]:
    """Weight w is w copies; and the other two places for w, by their exact relations (P-05)."""
    weight = case.negative_weight
    case = exact_inputs(case, ctx.setting.dtype)
    if weight is None:
        raise Rejected
    copied = case.changed(
        negative=np.repeat(case.negative, weight.astype(int), axis=0), negative_weight=None
    )
    allowed = doubled(rounding(copied, ctx.readings, ctx.setting.dtype))
    clauses, near = ("A7-w", "EQ-A7q"), case.manifest.id
    quantity = "V with weight w and with w copies"
    item = compare(clauses, quantity, near, ctx.field(case), ctx.field(copied), allowed)
    yield whole(item, "weights", clauses)


def _places(ctx: Context, case: FieldCase) -> Iterator[Measurement]:
    both = ctx.under(softmax_axes="xy", kernel_normalization="joint", softmax_combination="sqrt")
    both = both.under(self_mask="exclude", affinity_floor="none")
    case = exact_inputs(case, ctx.setting.dtype)
    after = both.under(unconditional_weight="after_softmaxes")
    copies = both.under(unconditional_weight="replication")
    inside = both.under(unconditional_weight="log_in_softmaxes")
    weight = case.negative_weight if case.negative_weight is not None else np.ones(0)
    kernel = softmax(logits_of(case, both.readings), axis=1)
    total = kernel @ np.concatenate([np.ones(len(case.positive)), weight])
    near, ratio = case.manifest.id, 1.0 / total[:, None]
    allowed = doubled(rounding(case, after.readings, ctx.setting.dtype))
    allowed = replace(allowed, atol=allowed.atol * max(1.0, float(np.max(ratio))))
    field = after.field(case)
    quantity = "V by copies against V weighted after, times R/R_w"
    item = compare(("A7-w",), quantity, near, copies.field(case), ratio * field, allowed)
    yield whole(item, "weights", ("A7-w",))
    root = after.field(case.changed(negative_weight=np.sqrt(weight)))
    quantity = "V with log w inside against √w after, times R/R_w"
    item = compare(("A7-w",), quantity, near, inside.field(case), ratio * root, allowed)
    yield whole(item, "weights", ("A7-w",))


def _mass_ratio(ctx: Context, case: FieldCase) -> Iterator[Measurement]:
    """Two negatives as far as each other: their weights in V are as 1 to w."""
    case, near = as_seen(case, ctx.setting.dtype), case.manifest.id
    radii = np.diag(np.concatenate([case.positive, case.negative]))
    found = (ctx.field(case)[0] / radii)[-2:]
    weight = float(case.negative_weight[-1]) if case.negative_weight is not None else 1.0
    rooted = ctx.readings.unconditional_weight == "log_in_softmaxes"
    if rooted and ctx.readings.softmax_axes == "xy":
        weight **= affinity_exponent(ctx.readings)
    ratio = found[1] / found[0] if found[0] != 0.0 else np.inf
    returned = rounding(case, ctx.readings, ctx.setting.dtype).rtol
    slack = 64.0 * UNIT_ROUNDOFF[ctx.setting.dtype] * 64.0 + 2.0 * returned
    error = abs(float(ratio) / weight - 1.0)
    item = within(("A7-w", "EQ-A7q"), "ratio of two weights ÷ w − 1", near, error, slack)
    yield whole(item, "weights", ("A7-w", "EQ-A7q"))


def _mass_draw(draw: Draw) -> FieldCase:
    case = worlds.spokes(draw)
    count = len(case.negative)
    negative = np.zeros_like(case.negative)
    negative[:, -count:] = np.diag(np.full(count, 1.5 * case.temperature))
    weight = np.ones(count)
    weight[-1] = draw.integer(1, 64) / 8.0
    manifest = Manifest(f"equal negatives w={weight[-1]:.3g}")
    return case.changed(manifest=manifest, negative=negative, negative_weight=weight)


def _weightless(ctx: Context, case: FieldCase) -> Iterator[Measurement]:
    """Without guidance the unconditional samples are not there; or change V's length alone."""
    case, near, count = exact_inputs(case, ctx.setting.dtype), case.manifest.id, len(case.x)
    weight = np.concatenate([np.ones(count), np.zeros(len(case.negative) - count)])
    idle = case.changed(negative_weight=weight)
    dropped = case.changed(negative=case.x, negative_weight=None)
    expected, power = ctx.field(dropped), 0
    if (
        ctx.readings.unconditional_weight == "after_softmaxes"
        and ctx.readings.softmax_axes != "none"
    ):
        power = (
            2 if ctx.readings.softmax_axes == "y" else round(2 * affinity_exponent(ctx.readings))
        )
    kept = softmax(logits_of(case, ctx.readings), axis=1) @ np.concatenate(
        [np.ones(len(case.positive)), weight]
    )
    allowed = doubled(rounding(dropped, ctx.readings, ctx.setting.dtype))
    quantity = "V at w = 0 against V without unconditional samples"
    expected = expected * kept[:, None] ** power
    clauses = ("A7-w", "EQ-15")
    item = compare(clauses, quantity, near, ctx.field(idle), expected, allowed)
    yield whole(item, "weights", clauses)


def _mixture(ctx: Context, inputs: tuple[FieldCase, float]) -> Iterator[Measurement]:
    """τ→∞: V points from the mean of q̃ to that of the positives, γ set by α and w."""
    case, alpha = as_seen(inputs[0], ctx.setting.dtype), inputs[1]
    count, others = len(case.x), len(case.negative) - len(case.x)
    weight = (alpha - 1.0) * (count - 1) / others
    case = as_seen(
        case.changed(negative_weight=np.concatenate([np.ones(count), np.full(others, weight)])),
        ctx.setting.dtype,
    )
    effective = weight
    readings = ctx.readings
    if readings.softmax_axes == "xy":
        rooted = readings.unconditional_weight == "log_in_softmaxes"
        power = affinity_exponent(readings)
        # The x-softmax shares a generated column among N−1 rows, an unconditional one among N.
        effective = (weight**power if rooted else weight) * ((count - 1) / count) ** power
    share = others * effective / (count - 1 + others * effective)
    rest = (np.sum(case.x, axis=0) - case.x) / (count - 1)
    unconditional = np.mean(case.negative[count:], axis=0)
    mixed = (1.0 - share) * rest + share * unconditional
    expected = np.mean(case.positive, axis=0) - mixed
    length = np.linalg.norm(expected, axis=1)
    points = np.concatenate([case.x, case.positive, case.negative])
    widest = float(np.max(distances(points, points)))
    if np.min(length) < widest / 16.0:
        raise Rejected
    field = ctx.field(case)
    size = np.linalg.norm(field, axis=1)
    turned = np.divide(field, size[:, None], out=np.zeros_like(field), where=size[:, None] > 0.0)
    error = float(np.max(np.linalg.norm(turned - expected / length[:, None], axis=1)))
    attraction, repulsion = affinities(case, readings)
    mass = np.sum(attraction, axis=1) * np.sum(repulsion, axis=1)
    room = rounding(case, readings, ctx.setting.dtype)
    # Relative to the largest length the direction moves by 8·diam/T, as PB-15's limit does.
    slack = 8.0 * widest / case.temperature * widest / float(np.min(length))
    slack += 2.0 * (room.atol / float(np.min(mass * length)) + room.rtol)
    clauses = ("EQ-A7q", "EQ-A7gamma", "EQ-A7alpha", "A7-selfmask-count")
    near = f"{case.manifest.id} α={alpha:.3f}"
    item = within(clauses, "direction of V against ȳ⁺ − mean of q̃", near, error, slack)
    yield whole(item, "weights", clauses)


def _mixture_draw(draw: Draw) -> tuple[FieldCase, float]:
    return worlds.hot(draw, extra=True), draw.number(1.0, 4.0)


def _reached(ctx: Context, case: FieldCase) -> Iterator[Measurement]:
    case = as_seen(case, ctx.setting.dtype)
    clauses = ("EQ-15", "EQ-16")
    quantity = "V where q̃ = p(·|c)"
    yield at_stage(alone(field_is(ctx, clauses, quantity, case, np.zeros_like(case.x))), "weights")


def _reached_draw(draw: Draw) -> FieldCase:
    """A discrete support on which q = αp_c − (α−1)p_∅, so that (1−γ)q + γp_∅ is p_c."""
    points, width = draw.integer(2, 5), draw.integer(1, 4)
    random = generator(draw)
    support = np.round(random.normal(size=(points, width)) * 8.0) / 8.0
    copies = random.integers(1, 4, size=points)
    conditional: Array = copies / copies.sum()
    drawn = random.uniform(0.5, 1.0, size=points)
    marginal: Array = drawn / drawn.sum()
    largest = min(4.0, 1.0 / max(1.0 - float(np.min(conditional / marginal)), 0.25))
    alpha = 1.0 + draw.number(0.0, 0.9) * (largest - 1.0)
    generated = alpha * conditional - (alpha - 1.0) * marginal
    gamma = 1.0 - 1.0 / alpha
    weight = np.concatenate([(1.0 - gamma) * generated, gamma * marginal])
    x = np.round(random.normal(size=(draw.integer(1, 5), width)) * 8.0) / 8.0
    return FieldCase(
        Manifest(f"support of {points} points α={alpha:.3f} C={width}"),
        x,
        np.repeat(support, copies, axis=0),
        np.concatenate([support, support]),
        2.0 ** draw.integer(-1, 1),
        mask_self=False,
        negative_weight=8.0 * weight,
    )


def _reached_by_eq11(ctx: Context, case: FieldCase) -> Iterator[Measurement]:
    yield from _reached(ctx.under(softmax_axes="y", kernel_normalization="separate"), case)


def _scale(ctx: Context, case: LossCase) -> Iterator[Measurement]:
    """A7-weight-in-scale: the weight counts in S; w = 0 and far unconditional samples do not."""
    if case.unconditional is None or case.unconditional_weight is None:
        raise Rejected
    drifts(ctx, case)
    near, dtype = case.manifest.id, ctx.setting.dtype
    idle = case.changed(unconditional_weight=np.zeros_like(case.unconditional_weight))
    away = idle.changed(unconditional=4.0 * case.unconditional - 16.0)
    _, error = drifts(ctx, idle)
    _, farther = drifts(ctx, away)
    here, there = loss_forms.observe(ctx, idle), loss_forms.observe(ctx, away)
    base = ctx.tolerance("gradient")
    allowed = replace(base, rtol=4.0 * (error + farther) + 2.0 * base.rtol)
    clauses, quantity = ("A7-weight-in-scale",), "∂L/∂x at w = 0, unconditional samples moved"
    if ctx.readings.unconditional_weight == "replication":
        item = compare(clauses, quantity, near, there.gradient, here.gradient, allowed)
        # Weight 0 may be wrong in the kernel as well as in S.
        yield whole(item, "weights", clauses)
    seen = loss_forms.observe(ctx, case)
    if seen.feature_scale is None or here.feature_scale is None or there.feature_scale is None:
        return
    tolerance = loss_forms.statistics_tolerance(ctx, "feature_scale")
    quantity = "S at w = 0, unconditional samples moved"
    yield compare(clauses, quantity, near, there.feature_scale, here.feature_scale, tolerance)
    expected = loss_forms.feature_scale(ctx, case)
    if dtype in ("float64", "float32"):
        # Against S at weight 0: what is off there as much is no matter of the weights.
        ratio = seen.feature_scale / here.feature_scale
        plain = loss_forms.feature_scale(ctx, idle)
        quantity = "S over S at w = 0"
        yield compare(clauses, quantity, near, ratio, expected / plain, tolerance)


def _scale_draw(draw: Draw) -> LossCase:
    return drawn_loss(draw, draw.integer(1, 2), guided=True)


PROPERTIES: tuple[Property[Any], ...] = (
    Property(
        "PB-31",
        "α → w → γ → α, w = 0 at α = 1, w = 1 at α = 1 + U/(N−1) (D55, N for N−1)",
        ("A7-w", "EQ-A7gamma", "EQ-A7alpha", "A7-selfmask-count"),
        _alpha_draw,
        _round_trip,
    ),
    Property(
        "PB-32",
        "A sample of integer weight w is w samples (D52, D53, D55)",
        ("A7-w", "EQ-A7q"),
        _guided,
        _replication,
        applies=replicates_without_floor,
    ),
    Property(
        "PB-32-value",
        "V with weighted negatives behind the samples (D01, D52, D53, D55)",
        ("A7-w",),
        _guided,
        _weighted_pairs,
    ),
    Property(
        "PB-32-places",
        "The three places of w and their exact relations: log w inside both is √w (P-05)",
        ("A7-w",),
        _guided,
        _places,
        examples=8,
    ),
    Property(
        "PB-32-mass",
        "Of two negatives equally far the one of weight w repels w times as much (D52, D55)",
        ("A7-w", "EQ-A7q"),
        _mass_draw,
        _mass_ratio,
    ),
    Property(
        "PB-33",
        "w = 0 is the same as no unconditional samples (D53), up to a row's factor if after",
        ("A7-w", "EQ-15"),
        _guided,
        _weightless,
        applies=ignores_weight_zero,
    ),
    Property(
        "PB-34",
        "τ→∞: V points away from q̃ with γ = 1 − 1/α (D01, D05, D52, D55)",
        ("EQ-A7q", "EQ-A7gamma", "EQ-A7alpha", "A7-selfmask-count"),
        _mixture_draw,
        _mixture,
        applies=nearly_excludes_self,
    ),
    Property(
        "PB-35",
        "V = 0 where q is the paper's αp_c − (α−1)p_∅ (D52, D55)",
        ("EQ-15", "EQ-16"),
        _reached_draw,
        _reached,
        applies=weighs_in_proportion,
    ),
    Property(
        "PB-35-separate",
        "The same in EQ-11 with weighted normalisers, as Sec. 3.5 means it",
        ("EQ-15", "EQ-16"),
        _reached_draw,
        _reached_by_eq11,
    ),
    Property(
        "PB-36",
        "Weights count in S, and weight 0 leaves it alone (D36)",
        ("A7-weight-in-scale",),
        _scale_draw,
        _scale,
        needs=("unconditional samples", "weights"),
        reads_drift=True,
    ),
)
