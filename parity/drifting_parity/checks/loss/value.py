"""Properties of the loss and its gradient: EQ-26, EQ-A6τ, the frozen target (PB-22…26, PB-30).

A per-temperature error has the same gradient as the sum of drifts and another value, and several
mistakes of scale cancel in the value: value and gradient are always measured both.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from drifting_parity.adapters.base import NotObservable
from drifting_parity.adapters.capabilities import Feature
from drifting_parity.adapters.reference_adapter import as_seen
from drifting_parity.cases import PAPER_TEMPERATURES, Array, LossCase
from drifting_parity.checks.core import Context, Property
from drifting_parity.checks.loss import closed_forms as loss_forms
from drifting_parity.checks.loss import worlds as loss_worlds
from drifting_parity.checks.loss.closed_forms import (
    drift_of,
    error_share,
    feature_scale,
    observe,
    one_temperature_loss,
    unit,
)
from drifting_parity.checks.loss.worlds import Shape
from drifting_parity.checks.predicates import (
    alone_has_no_drift,
    copies_of_locations_count,
    cross_terms_by_hand,
    field_as_printed,
    no_floors,
    two_points_by_hand,
)
from drifting_parity.draw import Draw, Rejected, generator
from drifting_parity.measure import (
    Measurement,
    Stage,
    at_least,
    at_stage,
    compare,
    necessary,
    whole,
    within,
)
from drifting_spec.registry import Tolerance

Clauses = tuple[str, ...]


def draw_one_temperature(draw: Draw) -> LossCase:
    """A world with one temperature: ordinary, with coinciding samples, or guided."""
    temperatures = (draw.choice((0.2, 0.05, 0.02, 0.5)),)
    kind = draw.choice(("ordinary", "guided", "among positives", "duplicated", "all equal"))
    if kind == "all equal":
        return loss_worlds.generated_equal(draw, (max(temperatures[0], 0.1),))
    if kind == "among positives":
        return loss_worlds.generated_among_positives(draw, temperatures)
    if kind == "duplicated":
        return loss_worlds.duplicated(draw, temperatures)
    return loss_worlds.ordinary(
        draw, temperatures=temperatures, unconditional=kind == "guided", name=kind
    )


def measure_one_temperature(context: Context, case: LossCase) -> Iterator[Measurement]:
    """PB-22, PB-23: the value is the number of vectors. Kills √C in λ, no λ, a factor ½, D43.

    Where it is not, :mod:`anatomy` says whether λ or the error is meant; where the gradient is not
    of the size that the value asks for, whether S is.
    """
    if len(case.temperatures) != 1:
        raise NotObservable("the adapter takes several temperatures only")
    readings, name = context.readings, case.manifest.id
    tolerance, scale = context.tolerance("identity"), feature_scale(context, case)
    if not scale.all():
        # Under scale_samples=negatives generated samples that are all equal have no S.
        raise Rejected
    seen = observe(context, case)
    value = seen.loss / one_temperature_loss(readings, case)
    what = "loss of one temperature, per vector"
    clauses = ("EQ-24", "EQ-25", "EQ-26", *(("A6-lambda",) if len(case.generated) > 1 else ()))
    item = compare(clauses, what, name, value, 1.0, context.tolerance("loss"))
    yield whole(item, "reductions")
    if seen.feature_scale is not None and seen.feature_scale.shape == scale.shape:
        scale = seen.feature_scale
    drift = drift_of(readings, case, seen.gradient, scale)
    size = float(np.sqrt(np.mean(drift**2)))
    what = "root mean square of Ṽ, by the gradient"
    item = compare(("A6-mse", "EQ-26"), what, name, size, 1.0, tolerance)
    yield whole(item, "gradient")


# Several temperatures: EQ-A6tau, A6-order


def draw_temperatures(draw: Draw) -> LossCase:
    """One label and vector, so that one S and λ rule; the paper's temperatures or drawn ones."""
    drawn = tuple(draw.choice((0.2, 0.05, 0.1, 0.5, 1.0)) for _ in range(draw.integer(2, 3)))
    temperatures = draw.choice((PAPER_TEMPERATURES, drawn))
    return loss_worlds.ordinary(draw, Shape((1, 1), (1, 1)), temperatures=temperatures)


def measure_temperatures(context: Context, case: LossCase) -> Iterator[Measurement]:
    """PB-24, PB-25: value T + 2Σcross, gradient the sum. Kills D24, D25, λ after the sum (D26)."""
    name, tolerance = case.manifest.id, context.tolerance("identity")
    aggregation, count = context.readings.temperature_aggregation, len(case.temperatures)
    seen = observe(context, case)
    single = [observe(context, case.changed(temperatures=(t,))) for t in case.temperatures]
    paper = ("A6-taus",) if case.temperatures == PAPER_TEMPERATURES else ()
    mean = 1 / count if aggregation == "per_temperature_mse_mean" else 1.0
    scale = feature_scale(context, case)
    expected = drift_of(
        context.readings, case, mean * np.sum([one.gradient for one in single], axis=0), scale
    )
    got = drift_of(context.readings, case, seen.gradient, scale)
    what = "gradient against the sum over temperatures"
    yield compare(("EQ-A6tau",), what, name, got, expected, tolerance)
    if paper:
        # How they add up is no matter of which they are.
        sharp, mild = (unit(single[case.temperatures.index(t)].gradient) for t in (0.02, 0.2))
        what = "turn of the gradient from τ = 0.02 to τ = 0.2"
        yield at_least(paper, what, name, float(np.linalg.norm(sharp - mild)), 1e-3)
    value = mean * sum(one.loss for one in single)
    if aggregation == "sum_drifts_then_mse":
        # Ṽ_τ has the length √L_τ, whatever λ and S are.
        vectors = [np.sqrt(one.loss) * unit(one.gradient) for one in single]
        value = float(np.sum(np.sum(vectors, axis=0) ** 2))
    clauses = ("A6-order", "EQ-A6tau")
    what = "loss against that of each temperature and their products"
    yield compare(clauses, what, name, seen.loss, value, tolerance)


def draw_repeated(draw: Draw) -> tuple[LossCase, int]:
    """A world with one temperature, and how often it is repeated."""
    temperatures = (draw.choice((0.2, 0.05, 0.02)),)
    return loss_worlds.ordinary(draw, temperatures=temperatures), draw.integer(2, 4)


def measure_repeated(context: Context, drawn: tuple[LossCase, int]) -> Iterator[Measurement]:
    """PB-24: one temperature T times gives T² (summed errors: T; their mean: 1). Kills D24, D26."""
    case, count = drawn
    first = observe(context, case)
    seen = observe(context, case.changed(temperatures=case.temperatures * count))
    value, slope = {
        "sum_drifts_then_mse": (count**2, count),
        "per_temperature_mse": (count, count),
        "per_temperature_mse_mean": (1, 1),
    }[context.readings.temperature_aggregation]
    tolerance, name = context.tolerance("identity"), f"{case.manifest.id}, T={count} equal"
    what = "loss of equal temperatures over that of one"
    got = seen.loss / first.loss if first.loss else np.inf
    yield compare(("A6-order", "EQ-A6tau"), what, name, got, float(value), tolerance)
    scale = feature_scale(context, case)
    expected = drift_of(context.readings, case, slope * first.gradient, scale)
    got = drift_of(context.readings, case, seen.gradient, scale)
    what = "gradient of equal temperatures"
    yield compare("EQ-A6tau", what, name, got, expected, tolerance)


def measure_vanishing_cross(context: Context, case: LossCase) -> Iterator[Measurement]:
    """Orthogonal drifts: the summed drift's value is T as well. Kills Σ_τ of absolute drifts."""
    mean = context.readings.temperature_aggregation == "per_temperature_mse_mean"
    first = observe(context, case.changed(temperatures=case.temperatures[:1])).loss
    loss, what = observe(context, case).loss, "loss of orthogonal drifts, over that of one"
    tolerance, expected = _scaled(context.tolerance("identity"), 4.0), 1.0 if mean else 2.0
    ratio = loss / first if first else np.inf
    item = compare("A6-order", what, case.manifest.id, ratio, expected, tolerance)
    # The drifts are orthogonal only if they are Algorithm 2's.
    yield whole(item, "aggregation")


def _scaled(tolerance: Tolerance, factor: float) -> Tolerance:
    return Tolerance(
        tolerance.id,
        tolerance.quantity,
        tolerance.dtype,
        factor * tolerance.rtol,
        factor * tolerance.atol,
        tolerance.derivation,
    )


# The frozen target: S3-sg


def draw_frozen(draw: Draw) -> tuple[LossCase, Array]:
    """A world with one temperature, and a direction of unit length."""
    temperature = draw.choice((0.2, 0.05))
    case = loss_worlds.ordinary(draw, temperatures=(temperature,))
    direction = generator(draw).standard_normal(case.generated.shape)
    return case, direction / np.linalg.norm(direction)


def normalized_drifts(context: Context, case: LossCase, scale: Array) -> Array:
    """Ṽ_τ of the adapter's own field, or of Algorithm 2 as printed where it shows none."""
    try:
        fields = loss_forms.own_field(context, case, scale)
    except NotObservable:
        if not field_as_printed(context.readings):
            raise
        seen, root = as_seen(case, context.setting.dtype), np.sqrt(case.generated.shape[-1])
        scales = np.broadcast_to(scale, (case.generated.shape[0], case.generated.shape[2]))
        fields = np.zeros((len(case.temperatures), *case.generated.shape))
        for position, label, v in np.ndindex(len(fields), *scales.shape):
            wide = root if context.readings.temperature_scaling == "sqrt_channels" else 1.0
            temperature = (
                loss_forms.in_range(context, case.temperatures)[position] * wide * scales[label, v]
            )
            x, positive = seen.generated[label, :, v], seen.positive[label, :, v]
            field, _ = loss_forms.plain_field(x, positive, float(temperature))
            fields[position, label, :, v] = field
    return fields / loss_forms.across(loss_forms.root_mean_square(fields, context.readings))


def measure_frozen(context: Context, drawn: tuple[LossCase, Array]) -> Iterator[Measurement]:
    """PB-25, PB-26: the gradient is that of a frozen target. Kills gradient through V, S, λ (D61).

    With one temperature the value does not move at all when the target is recomputed (EQ-24), so
    a gradient through the target would be zero along the gradient.
    """
    case, direction = drawn
    readings, name = context.readings, case.manifest.id
    seen, scale = observe(context, case), feature_scale(context, case)
    drift = normalized_drifts(context, case, scale)[0]
    clauses, share = "S3-sg", error_share(readings, case)
    expected = -2 * share * drift / loss_forms.across(scale)
    tolerance = context.tolerance("identity")
    per_length = 1 / float(np.linalg.norm(expected))
    what = "gradient, in units of its length"
    got = seen.gradient * per_length
    yield whole(compare(clauses, what, name, got, expected * per_length, tolerance), "gradient")
    normalized = case.generated / loss_forms.across(scale)
    target = normalized + drift

    def frozen(step: Array) -> float:
        moved = (case.generated + step) / loss_forms.across(scale)
        return share * float(np.sum((moved - target) ** 2))

    # The frozen loss is a square, so that a central difference is exact for any step; half of
    # the direction is the gradient's, so that the slope is not near zero.
    direction = direction + expected * per_length
    step = float(scale.mean()) * direction
    slope = (frozen(step) - frozen(-step)) / (2 * float(scale.mean())) * per_length
    got = float(np.sum(seen.gradient * direction)) * per_length
    what = "finite difference, target frozen"
    yield whole(compare(clauses, what, name, got, slope, tolerance), "gradient")
    along = 0.05 * float(scale.mean()) * expected * per_length
    there = observe(context, case.changed(generated=case.generated + along)).loss
    back = observe(context, case.changed(generated=case.generated - along)).loss
    recomputed = (there - back) / (0.1 * float(scale.mean()))
    slope = float(np.sum(seen.gradient * expected * per_length))
    what = "finite difference, target recomputed: how far from the gradient"
    item = at_least("S3-sg", what, name, abs(recomputed - slope) * per_length, 0.02)
    yield necessary(replace(at_stage(item, "gradient"), premise=True))


def measure_other_gradients(context: Context, case: LossCase) -> Iterator[Measurement]:
    """Nothing but the generated samples receives a gradient. Kills a live target (D61)."""
    others = context.loss(case).other_gradients
    if others is None:
        raise NotObservable("the adapter does not show the gradients of the other inputs")
    for key, size in sorted(others.items()):
        # Code that leaks through V, S or λ alone passes this.
        yield necessary(within("S3-sg", f"gradient of {key}", case.manifest.id, size, 0.0))


# Worlds whose answer is known: two points, a sample on its own, coincidence, copies of labels


def measure_two_points(context: Context, case: LossCase) -> Iterator[Measurement]:
    """Two samples and a positive by hand: S, λ, value, gradient. Kills any mistake of scale."""
    readings, name = context.readings, case.manifest.id
    seen_case = as_seen(case, context.setting.dtype)
    x, y, other = seen_case.generated, seen_case.positive, seen_case.generated[:, ::-1]
    channels, root = case.generated.shape[-1], np.sqrt(case.generated.shape[-1])
    to_positive = np.sqrt(np.sum((x - y) ** 2, axis=-1))[..., 0]
    apart = np.sqrt(np.sum((x - other) ** 2, axis=-1))[..., 0]
    scale = np.sum(to_positive + apart) / (6 * len(x)) / root
    drifts: list[Array] = []
    lambdas: list[float] = []
    for temperature in case.temperatures:
        near = np.exp(-to_positive / (scale * temperature * root))
        beside = np.exp(-apart / (scale * temperature * root))
        attraction = near / np.sqrt((near + beside) * near.sum(axis=1, keepdims=True))
        repulsion = np.sqrt(beside / (near + beside))
        field = (attraction * repulsion)[..., None, None] * (y - other) / scale
        lambdas.append(float(np.sqrt(np.mean(field**2))))
        drifts.append(field / lambdas[-1])
    total = np.sum(drifts, axis=0)
    per_label = np.mean(total**2, axis=(1, 2, 3))
    found = observe(context, case)
    # A logit of size ρ is wrong by ρ·u, and so is, a few times, all that follows from it.
    largest = max(apart.max(), to_positive.max()) / (scale * root * min(case.temperatures))
    extra = 16 * loss_forms.UNIT[_statistics_dtype(context)] * float(largest)
    for clauses, what, got, expected in (
        (("EQ-26",), "loss", found.loss, float(per_label.mean())),
        (("EQ-26",), "loss per label", found.per_label, per_label),
        (("EQ-21",), "feature scale", found.feature_scale, np.array([[scale]])),
        (("EQ-25",), "drift scale", found.drift_scale, np.array(lambdas)[:, None, None]),
    ):
        if got is not None:
            item = compare(clauses, what, name, got, expected, _at_least(context, "loss", extra))
            if what == "feature scale":
                yield item
            else:
                stage: Stage = "drift scale" if what == "drift scale" else "gradient"
                yield whole(item, stage, clauses)
    expected = -2 * total / (len(x) * 2 * channels * scale)
    tolerance = _at_least(context, "gradient", extra)
    item = compare("EQ-26", "gradient", name, found.gradient, expected, tolerance)
    yield whole(item, "gradient")
    assert readings.label_reduction == "mean"


def _statistics_dtype(context: Context) -> str:
    return "float64" if context.setting.dtype == "float64" else "float32"


def _at_least(context: Context, quantity: str, rtol: float) -> Tolerance:
    flat = context.tolerance(quantity)
    return Tolerance(flat.id, quantity, flat.dtype, max(flat.rtol, rtol), 0.0, flat.derivation)


def draw_zero(draw: Draw) -> tuple[Clauses, LossCase]:
    """A sample on its own, or everything at one point: no drift at all."""
    one = draw.choice((True, False))
    case = loss_worlds.ordinary(draw)
    if one:
        alone = case.changed(generated=case.generated[:, :1])
        return ("EQ-23", "EQ-25"), loss_worlds.labelled(alone, "one generated sample")
    where = float(draw.integer(0, 3))
    same = case.changed(
        generated=np.full_like(case.generated, where), positive=np.full_like(case.positive, where)
    )
    return ("EQ-21", "EQ-23"), loss_worlds.labelled(same, "everything at one point")


def measure_zero(context: Context, drawn: tuple[Clauses, LossCase]) -> Iterator[Measurement]:
    """PB-17: no drift gives loss 0 and gradient 0, never NaN. Kills a missing 0/0 := 0."""
    clauses, case = drawn
    seen, name = observe(context, case), case.manifest.id
    zeros, lone = np.zeros_like(case.generated), case.generated.shape[1] == 1
    for item in (
        compare(clauses, "loss without drift", name, seen.loss, 0.0, context.tolerance("loss")),
        compare(
            clauses,
            "gradient without drift",
            name,
            seen.gradient,
            zeros,
            context.tolerance("gradient"),
        ),
    ):
        # Code with another S or λ gives zero here as well; a sample alone has a drift unmasked.
        item = whole(item, "drift scale", clauses) if lone else at_stage(item, "drift scale")
        yield necessary(item, "EQ-23")


def measure_copies(context: Context, case: LossCase) -> Iterator[Measurement]:
    """Every label twice, every vector twice: mean and sum. Kills D43, a sum over labels."""
    readings, name = context.readings, case.manifest.id
    tolerance, scale = context.tolerance("identity"), feature_scale(context, case)
    before = observe(context, case)
    sums = {0: readings.label_reduction == "sum", 2: readings.location_reduction == "sum"}
    clauses: dict[int, tuple[Clauses, str]] = {
        0: (("EQ-26",), "label"),
        2: (("A5-sum",), "vector"),
    }
    kinds: dict[int, Feature] = {0: "labels", 2: "vectors"}
    if not any(context.takes(kind) for kind in kinds.values()):
        context.needs("labels", "vectors")
    for axis, summed in sums.items():
        if not context.takes(kinds[axis]):
            continue
        twice = case.changed(
            generated=np.repeat(case.generated, 2, axis=axis),
            positive=np.repeat(case.positive, 2, axis=axis),
        )
        after, (names, each) = observe(context, twice), clauses[axis]
        factor = 2.0 if summed else 1.0
        expected, what = factor * before.loss, f"loss, every {each} twice"
        yield compare(names, what, name, after.loss, expected, tolerance)
        got = drift_of(readings, case, np.take(after.gradient, [0], axis=axis), scale)
        expected = drift_of(readings, case, np.take(before.gradient, [0], axis=axis), scale)
        what = f"gradient, every {each} twice"
        yield compare(names, what, name, got * 2 / factor, expected, tolerance)


ONE = Shape((1, 1), (1, 1))
PROPERTIES: tuple[Property[Any], ...] = (
    Property(
        "loss.one_temperature",
        "with one temperature the loss is 1 per vector, and Ṽ has mean square 1",
        ("EQ-24", "EQ-25", "EQ-26", "A6-lambda", "A6-mse"),
        draw_one_temperature,
        measure_one_temperature,
        applies=no_floors,
        examples=20,
        reads_drift=True,
    ),
    Property(
        "loss.temperatures",
        "the value is T + 2Σcross, the gradient the sum over temperatures",
        ("EQ-A6tau", "A6-order", "A6-taus"),
        draw_temperatures,
        measure_temperatures,
        examples=12,
        needs=("one temperature",),
        reads_drift=True,
    ),
    Property(
        "loss.equal_temperatures",
        "one temperature T times gives T² times the loss",
        ("EQ-A6tau", "A6-order"),
        draw_repeated,
        measure_repeated,
        examples=8,
        needs=("other temperatures",),
        reads_drift=True,
    ),
    Property(
        "loss.orthogonal_drifts",
        "where the cross terms vanish the value is T",
        ("A6-order",),
        loss_worlds.vanishing_cross_terms,
        measure_vanishing_cross,
        applies=cross_terms_by_hand,
        examples=6,
        needs=("other temperatures",),
        reads_drift=True,
    ),
    Property(
        "loss.frozen_target",
        "the gradient is that of a frozen target, and no other",
        ("S3-sg",),
        draw_frozen,
        measure_frozen,
        applies=no_floors,
        examples=8,
        needs=("one temperature",),
    ),
    Property(
        "loss.other_gradients",
        "positives, unconditional samples and weights receive no gradient",
        ("S3-sg",),
        lambda draw: loss_worlds.ordinary(draw, unconditional=True),
        measure_other_gradients,
        examples=4,
    ),
    Property(
        "loss.two_points",
        "two samples and one positive, worked by hand",
        ("EQ-21", "EQ-25", "EQ-26"),
        loss_worlds.two_points,
        measure_two_points,
        applies=two_points_by_hand,
        examples=16,
        reads_drift=True,
    ),
    Property(
        "loss.no_drift",
        "a sample on its own, or everything at one point: loss and gradient are zero",
        ("EQ-21", "EQ-23", "EQ-25"),
        draw_zero,
        measure_zero,
        applies=alone_has_no_drift,
        examples=8,
        reads_drift=True,
    ),
    Property(
        "loss.copies",
        "every label twice leaves the loss, every vector twice doubles it",
        ("EQ-26", "A5-sum"),
        lambda draw: loss_worlds.ordinary(draw, ONE),
        measure_copies,
        applies=copies_of_locations_count,
        examples=8,
        reads_drift=True,
    ),
)
