"""Algorithm 2 line by line, as locally as its result shows: ALG2-1 … ALG2-10 and EQ-12.

In a world of *spokes* every target has an axis of its own and the sample sits at the origin, so
that V's entries are the weights W of ALG2-9 times known radii. Ratios of weights speak for the
distance and the temperature alone, their signs for the split, their sums for the balance.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from drifting_parity.adapters.base import NotObservable
from drifting_parity.cases import Array, FieldCase, Manifest
from drifting_parity.checks.core import Context, Property
from drifting_parity.checks.field import worlds
from drifting_parity.checks.field.closed_forms import (
    UNIT_ROUNDOFF,
    affinities,
    affinity_exponent,
    alone,
    as_seen,
    as_whole,
    doubled,
    exact_inputs,
    field_is,
    pair_field,
    rounding,
)
from drifting_parity.checks.predicates import (
    excludes_self,
    excludes_whole_rows,
    from_differences,
    has_softmax,
    joint_without_floor,
    separate,
    without_floor,
)
from drifting_parity.draw import Draw
from drifting_parity.measure import Measurement, at_least, compare, whole, within
from drifting_spec.registry import Tolerance


def _weights(ctx: Context, case: FieldCase) -> Array:
    """ΣA_neg·A_pos of the positives, then −ΣA_pos·A_neg of the negatives, read off V."""
    radii = np.diag(np.concatenate([case.positive, case.negative]))
    return ctx.field(case)[0] / radii


def _slack(ctx: Context, case: FieldCase) -> float:
    """Allowed relative error of one weight: its logit's, and the rounding of V itself."""
    dtype = ctx.setting.dtype
    farthest = float(np.max(np.abs(case.positive))) / case.temperature
    returned = rounding(case, ctx.readings, dtype).rtol
    # 100√u·R is as near as expanded squares may come; nothing here is nearer than R/16.
    return 64.0 * UNIT_ROUNDOFF[dtype] * (16.0 * farthest + 2.0) + 2.0 * returned


def _spokes(ctx: Context, case: FieldCase) -> Iterator[Measurement]:
    case, near = as_seen(case, ctx.setting.dtype), case.manifest.id
    weights, slack = _weights(ctx, case), _slack(ctx, case)
    signs = np.concatenate([np.ones(3), -np.ones(len(case.negative))])
    lost = float(np.count_nonzero(~(weights * signs > 0.0)))
    yield within(("ALG2-7",), "weights of the wrong sign", near, lost, 0.0)
    if lost:
        return
    unbalanced = _imbalance(ctx, case, weights)
    if unbalanced > 16.0 * slack:
        # Measured from the targets' mean an imbalance moves every weight: they cannot be read.
        item = within((), "ΣW_pos/ΣW_neg − 1, from the targets' mean", near, unbalanced, slack)
        yield replace(item, refutes=("ALG2-8", "ALG2-9"))
        return
    logs = np.log(np.abs(weights))
    exponent, radii = affinity_exponent(ctx.readings), np.max(np.abs(case.positive), axis=1)
    expected = exponent * (radii[1] - radii[0]) / case.temperature
    # Equal steps outwards are equal factors: of an un-squared distance only.
    linear = abs((logs[0] - logs[1]) - (logs[1] - logs[2]))
    yield within(("ALG2-1",), "log-ratios at equal steps", near, linear, 4.0 * slack)
    away = logs[3:]
    straight = float(np.ptp(np.diff(away))) if len(away) > 2 else 0.0
    yield within(("ALG2-2",), "log-ratios at equal steps", near, straight, 4.0 * slack)
    steps = np.array([logs[0] - logs[1], 2.0 * (away[0] - away[1])])
    error = float(np.max(np.abs(steps - expected)))
    # Twice or half the exponent is another way to combine the softmaxes, not another kernel.
    powers = (0.5 * expected, 2.0 * expected)
    rooted = any(float(np.max(np.abs(steps - power))) <= 6.0 * slack for power in powers)
    item = within(("EQ-12", "ALG2-6"), "log-ratio of weights", near, error, 6.0 * slack)
    yield replace(item, refutes=("ALG2-6",) if rooted else ("EQ-12",))
    warmer = case.changed(temperature=2.0 * case.temperature)
    halved = np.log(np.abs(_weights(ctx, warmer)))
    ratio = abs(2.0 * (halved[0] - halved[1]) - (logs[0] - logs[1]))
    yield within(("ALG2-4",), "log-ratio at twice T, doubled", near, float(ratio), 6.0 * slack)
    gap = abs(float(np.sum(weights[:3])) / -float(np.sum(weights[3:])) - 1.0)
    yield within(("ALG2-8", "ALG2-9"), "ΣW_pos/ΣW_neg − 1", near, gap, 4.0 * slack)
    attraction, repulsion = affinities(case, ctx.readings)
    mass = float(np.sum(attraction) * np.sum(repulsion))
    total = abs(float(np.sum(weights[:3])) / mass - 1.0)
    item = within(("ALG2-9", "ALG2-10"), "ΣW_pos/(ΣA_pos ΣA_neg) − 1", near, total, 6.0 * slack)
    # The mass is that of the affinities, whatever is wrong with them.
    yield as_whole(item, case)


def _imbalance(ctx: Context, case: FieldCase, weights: Array) -> float:
    """How far the sums of W differ, where V is measured from the mean of its targets.

    There V's entries are W_j − ΣW/M times the radii: the paper's weights up to a factor for each
    set, and one number off. 0 where that does not explain them.
    """
    attraction, repulsion = affinities(case, ctx.readings)
    pull, push = attraction[0] * np.sum(repulsion), repulsion[0] * np.sum(attraction)
    count = len(pull)
    columns = np.zeros((len(weights), 3))
    columns[:count, 0], columns[count:, 1], columns[:, 2] = pull, -push, -1.0
    solution = np.linalg.lstsq(columns, weights, rcond=None)[0]
    rest = float(np.linalg.norm(columns @ solution - weights) / np.linalg.norm(weights))
    if rest > 64.0 * _slack(ctx, case):
        return 0.0
    return abs(float(solution[2])) / float(np.mean(np.abs(weights)))


def _wider(ctx: Context, case: FieldCase) -> Iterator[Measurement]:
    """Channels in which nothing differs add no distance: no √D, no mean over channels."""
    case = exact_inputs(case, ctx.setting.dtype)
    padding = 3 * case.x.shape[1]
    wide = case.changed(
        x=np.pad(case.x, ((0, 0), (0, padding))),
        positive=np.pad(case.positive, ((0, 0), (0, padding))),
        negative=np.pad(case.negative, ((0, 0), (0, padding))),
    )
    expected = np.pad(ctx.field(case), ((0, 0), (0, padding)))
    allowed = doubled(rounding(case, ctx.readings, ctx.setting.dtype))
    clauses = ("ALG2-1", "ALG2-2")
    near = case.manifest.id
    yield compare(clauses, "V with idle channels", near, ctx.field(wide), expected, allowed)


def _isolated(ctx: Context, case: FieldCase) -> Iterator[Measurement]:
    """Positives 30 to 34 T away keep their tiny weights in proportion: nothing is added to A."""
    if ctx.setting.dtype == "float16":
        raise NotObservable("float16 cannot hold the weight of an isolated sample")
    here = _log_ratio_error(ctx, as_seen(case, ctx.setting.dtype))
    far = np.zeros_like(case.positive)
    far[:, :3] = np.diag((30.0 + 2.0 * np.arange(3)) * case.temperature)
    case, near = case.changed(positive=far), f"{case.manifest.id}, positives 30 T away"
    weights, slack = _weights(ctx, case), _slack(ctx, case)
    expected = 2.0 * affinity_exponent(ctx.readings)
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(weights[:3])
        error = float(np.max(np.abs(logs[:2] - logs[1:] - expected)))
    item = within(("ALG2-6",), "log-ratio of isolated weights", near, error, 6.0 * slack)
    # Where it is wrong near by already, isolation is not what is wrong.
    yield item if here <= 6.0 * slack else whole(item, "field", ("ALG2-6",))


def _log_ratio_error(ctx: Context, case: FieldCase) -> float:
    """How far the first positives' weights are from their proportion."""
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(_weights(ctx, case)[:2])
        radii = np.max(np.abs(case.positive), axis=1)
        expected = affinity_exponent(ctx.readings) * (radii[1] - radii[0]) / case.temperature
        return float(abs(logs[0] - logs[1] - expected))


def _crowd_value(ctx: Context, case: FieldCase) -> Iterator[Measurement]:
    narrow = ctx.setting.dtype in ("bfloat16", "float16")
    shifted = as_seen(worlds.moved(case, 16.0 if narrow else 1000.0), ctx.setting.dtype)
    shifted = shifted.changed(manifest=Manifest(f"{case.manifest.id} offset"))
    there = as_seen(case, ctx.setting.dtype)
    here = field_is(ctx, ("ALG2-10",), "V of a crowd", there, pair_field(there, ctx.readings))
    yield here
    if not here.passed:
        return
    expected = pair_field(shifted, ctx.readings)
    clauses = ("ALG2-1", "ALG2-2", "EQ-12")
    yield alone(field_is(ctx, clauses, "V far off the origin", shifted, expected))


def _one_sample(ctx: Context, case: FieldCase) -> Iterator[Measurement]:
    """N = 1: its masked self column counts for nothing, only the further negatives do."""
    case = exact_inputs(case, ctx.setting.dtype)
    bare = case.changed(negative=case.negative[1:], mask_self=False)
    allowed = doubled(rounding(case, ctx.readings, ctx.setting.dtype))
    clauses, near = ("ALG2-3", "A7-selfmask-count"), case.manifest.id
    quantity = "V with the self column masked and left out"
    item = compare(clauses, quantity, near, ctx.field(case), ctx.field(bare), allowed)
    yield whole(item, "field", clauses)


def _only_itself(ctx: Context, case: FieldCase) -> Iterator[Measurement]:
    case = exact_inputs(case, ctx.setting.dtype)
    yield alone(field_is(ctx, ("ALG2-3",), "V of one sample", case, np.zeros_like(case.x)))


def _as_many(draw: Draw) -> FieldCase:
    case = worlds.cloud(draw, mask_self=False)
    count = max(2, min(len(case.x), len(case.negative)))
    size = f"N=M={count}"
    return case.changed(
        manifest=Manifest(f"cloud {size}"),
        x=np.resize(case.x, (count, case.x.shape[1])),
        negative=np.resize(case.negative, (count, case.x.shape[1])),
    )


def _unmasked(ctx: Context, case: FieldCase) -> Iterator[Measurement]:
    """N other negatives without a mask: their order is nothing to V."""
    case = exact_inputs(case, ctx.setting.dtype)
    allowed = doubled(rounding(case, ctx.readings, ctx.setting.dtype))
    turned = case.changed(negative=np.roll(case.negative, 1, axis=0))
    near, field = case.manifest.id, ctx.field(case)
    yield compare(("ALG2-3",), "V, negatives rolled", near, ctx.field(turned), field, allowed)
    # The samples themselves as negatives, unmasked: the self pair takes part.
    own = case.changed(negative=case.x)
    expected = pair_field(own, ctx.readings)
    item = field_is(ctx, ("ALG2-3",), "V with unmasked self pairs", own, expected)
    yield whole(item, "field", ("ALG2-3",))


def _joint(ctx: Context, case: FieldCase) -> Iterator[Measurement]:
    """Positives far away leave no drift: they share their normaliser with the negatives."""
    case = as_seen(case, ctx.setting.dtype)
    everything = np.concatenate([case.positive, case.negative])
    size = float(np.max(np.abs(everything)))
    length = float(np.linalg.norm(ctx.field(case)))
    # 100 T farther: affinities of the positives are below exp(−50) = 2e-22.
    item = within(("ALG2-4", "ALG2-5"), "‖V‖", case.manifest.id, length, 1e-18 * size)
    yield whole(item, "field", ("ALG2-4", "ALG2-5"))


def _attracted(ctx: Context, case: FieldCase) -> Iterator[Measurement]:
    case = as_seen(case, ctx.setting.dtype)
    to_far = float(np.max(np.abs(case.positive)))
    length = float(np.min(np.linalg.norm(ctx.field(case), axis=1)))
    yield at_least(("ALG2-4",), "smallest ‖V_i‖", case.manifest.id, length, 0.1 * to_far)


def _two_softmaxes(ctx: Context, case: FieldCase) -> Iterator[Measurement]:
    """Every sample r times: a softmax over x divides A² by r; every target r times: over y."""
    case, near, copies = exact_inputs(case, ctx.setting.dtype), case.manifest.id, 3
    readings, field = ctx.readings, ctx.field(case)
    rooted = readings.softmax_combination == "sqrt"
    over_x = {"xy": 1.0 / copies if rooted else 1.0 / copies**2}.get(readings.softmax_axes, 1.0)
    over_y = {"xy": float(copies) if rooted else 1.0, "y": 1.0, "none": float(copies) ** 2}
    more = worlds.repeated(case, samples=copies)
    quantity, expected = "V with every sample three times", np.tile(over_x * field, (copies, 1))
    clauses, allowed = ("ALG2-5", "EQ-17"), doubled(_room(ctx, more))
    item = compare(clauses, quantity, near, ctx.field(more), expected, allowed)
    # The factor is that of the softmaxes as they are combined.
    yield whole(item, "field", ("ALG2-5",))
    more = worlds.repeated(case, targets=copies)
    quantity, expected = "V with every target three times", over_y[readings.softmax_axes] * field
    clauses, allowed = ("ALG2-5", "EQ-17"), doubled(_room(ctx, more))
    item = compare(clauses, quantity, near, ctx.field(more), expected, allowed)
    # The factor is that of the softmaxes as they are combined.
    yield whole(item, "field", ("ALG2-5",))
    # One sample twice must show in the others: this is the softmax over x itself.
    if len(case.x) > 1 and readings.softmax_axes == "xy":
        twice = case.changed(x=np.concatenate([case.x, case.x[:1]]))
        quantity, expected = "V with one sample twice", pair_field(twice, readings)
        yield field_is(ctx, ("ALG2-5",), quantity, twice, expected)


def _room(ctx: Context, case: FieldCase) -> Tolerance:
    return rounding(case, ctx.readings, ctx.setting.dtype)


def _uneven(ctx: Context, case: FieldCase) -> Iterator[Measurement]:
    """All positives at a, all negatives at b, in different numbers: V = ΣA_pos ΣA_neg (a − b)."""
    case = exact_inputs(case, ctx.setting.dtype)
    attraction, repulsion = affinities(case, ctx.readings)
    mass = np.sum(attraction, axis=1) * np.sum(repulsion, axis=1)
    expected = mass[:, None] * (case.positive[0] - case.negative[0])
    yield field_is(ctx, ("ALG2-7", "ALG2-10"), "V between two points", case, expected)


def _deep(ctx: Context, cases: tuple[FieldCase, ...]) -> Iterator[Measurement]:
    """All targets 120 T away, 1000 T in float64: every kernel underflows, the field does not."""
    near, case = (
        as_seen(one, ctx.setting.dtype)
        for one in (cases[0], cases[1 + (ctx.setting.dtype == "float64")])
    )
    here = field_is(ctx, ("ALG2-10",), "V on a shell", near, pair_field(near, ctx.readings))
    yield here
    if here.passed:
        yield alone(field_is(ctx, ("EQ-12",), "V far out", case, pair_field(case, ctx.readings)))


def _deep_draw(draw: Draw) -> tuple[FieldCase, FieldCase, FieldCase]:
    near = worlds.far_shell(draw)
    return near, worlds.at_depth(near, 120.0), worlds.at_depth(near, 1000.0)


PROPERTIES: tuple[Property[Any], ...] = (
    Property(
        "ALG2-spokes",
        "The weights read off one by one: distance, temperature, split, balance, mass "
        "(D10, D12, D15, D19, D21)",
        ("ALG2-1", "ALG2-2", "ALG2-4", "ALG2-6", "ALG2-7", "ALG2-8", "ALG2-9", "ALG2-10", "EQ-12"),
        worlds.spokes,
        _spokes,
    ),
    Property(
        "ALG2-1-idle-channels",
        "Channels without differences change nothing (distance/√D, a mean over channels)",
        ("ALG2-1", "ALG2-2"),
        lambda draw: worlds.cloud(draw, mask_self=draw.choice((False, True))),
        _wider,
    ),
    Property(
        "ALG2-1-crowd",
        "26 samples and more, 1000 off the origin (D18: expanded squares without centring)",
        ("ALG2-1", "ALG2-2", "EQ-12", "ALG2-10", "ALG2-3"),
        worlds.crowd,
        _crowd_value,
        # The release's own distances are expanded squares, which no offset leaves right.
        applies=from_differences,
        examples=4,
    ),
    Property(
        "ALG2-3-one-sample",
        "One sample with further negatives: its own column counts for nothing (D01, D08)",
        ("ALG2-3", "A7-selfmask-count"),
        worlds.alone_with_others,
        _one_sample,
        about_mask=True,
        applies=excludes_self,
    ),
    Property(
        "PB-17",
        "One sample and no other negative: V = 0, and finite (D08, D06)",
        ("ALG2-3",),
        worlds.alone,
        _only_itself,
        about_mask=True,
        applies=excludes_whole_rows,
    ),
    Property(
        "ALG2-3-unmasked",
        "No mask where none is asked for, though there are N negatives (D02, D03)",
        ("ALG2-3",),
        _as_many,
        _unmasked,
        about_mask=True,
    ),
    Property(
        "ALG2-4-joint",
        "Positives moved far away leave no drift: one softmax over [positives | negatives] (D10)",
        ("ALG2-4", "ALG2-5"),
        lambda draw: worlds.far_positives(draw, 100.0),
        _joint,
        applies=joint_without_floor,
    ),
    Property(
        "ALG2-4-separate",
        "Positives moved far away attract all the same under separate normalisers",
        ("ALG2-4",),
        lambda draw: worlds.far_positives(draw, 100.0),
        _attracted,
        applies=separate,
    ),
    Property(
        "PB-13",
        "Repeating samples, or targets, or one sample: the two softmaxes (D11, D12)",
        ("ALG2-5", "EQ-17"),
        lambda draw: worlds.cloud(draw, mask_self=False),
        _two_softmaxes,
        applies=without_floor,
    ),
    Property(
        "ALG2-6-isolated",
        "Weights of isolated samples stay in proportion (D16, D06: an epsilon by the root)",
        ("ALG2-6",),
        worlds.spokes,
        _isolated,
        applies=without_floor,
    ),
    Property(
        "ALG2-7-two-points",
        "Positives at one point and negatives at another, in different numbers (D10, D11, D12)",
        ("ALG2-7", "ALG2-10"),
        worlds.two_points,
        _uneven,
    ),
    Property(
        "EQ-12-far",
        "Targets so far away that every kernel underflows (D17)",
        ("EQ-12", "ALG2-10"),
        _deep_draw,
        _deep,
        applies=has_softmax,
    ),
)
