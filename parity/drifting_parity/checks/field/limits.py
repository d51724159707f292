"""Limits and worlds in which the field is known: PB-12, 15, 16, 18, 19, and particles (EQ-2).

Far points, τ→∞, τ→0, collapse, the expectation of V_pp by enumeration, and a few steps of the
toy of Figs. 3–4.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

import drifting_reference as reference
from drifting_parity.cases import Array, FieldCase, Manifest
from drifting_parity.checks.core import Context, Property
from drifting_parity.checks.field import worlds
from drifting_parity.checks.field.closed_forms import (
    affinity_exponent,
    alone,
    as_seen,
    as_whole,
    distances,
    doubled,
    exact_inputs,
    field_is,
    of_reading,
    rounding,
)
from drifting_parity.checks.predicates import (
    joint_root,
    joint_without_floor,
    nearly_excludes_self,
    without_floor,
)
from drifting_parity.draw import Draw, Rejected, generator
from drifting_parity.measure import Measurement, at_least, compare, whole, within
from drifting_spec import Readings


def _padding(ctx: Context, case: FieldCase) -> Iterator[Measurement]:
    """One more positive and one more negative, 120 T from everything: affinities below e^−60."""
    case, near = exact_inputs(case, ctx.setting.dtype), case.manifest.id
    away = np.zeros((1, case.x.shape[1]))
    away[0, 0] = 120.0 * case.temperature + 24.0
    more = as_seen(
        case.changed(
            positive=np.concatenate([case.positive, away]),
            negative=np.concatenate([case.negative, -away]),
        ),
        ctx.setting.dtype,
    )
    allowed = doubled(rounding(more, ctx.readings, ctx.setting.dtype))
    clauses, field = ("EQ-12", "ALG2-5"), ctx.field(case)
    item = compare(clauses, "V with far points", near, ctx.field(more), field, allowed)
    # An epsilon at the root (ALG2-6) shows here as well.
    yield whole(item, "field", clauses)


def hot_factor(readings: Readings, samples: int, positives: int) -> float:
    """(ΣA_pos)(ΣA_neg) for τ→∞ with N samples, their N − 1 others, and P positives."""
    others, row = samples - 1, positives + samples - 1
    if readings.kernel_normalization == "separate":
        return 1.0
    if readings.softmax_axes == "none":
        return float(positives * others)
    if readings.softmax_axes == "y":
        return positives * others / row**2
    squared = positives * others / (row * np.sqrt(samples * others))
    return float(
        squared if readings.softmax_combination == "sqrt" else squared**2 / (positives * others)
    )


def _hot(ctx: Context, case: FieldCase) -> Iterator[Measurement]:
    case = as_seen(case, ctx.setting.dtype)
    count = len(case.x)
    rest = (np.sum(case.x, axis=0) - case.x) / (count - 1)
    factor = hot_factor(ctx.readings, count, len(case.positive))
    expected = factor * (np.mean(case.positive, axis=0) - rest)
    points = np.concatenate([case.x, case.positive])
    widest = float(np.max(distances(points, points)))
    # Every logit is within diam/T of 0, every affinity of its limit within that: two of them,
    # their two softmaxes; the limit of V is wrong by 8·diam/T of its largest size.
    slack = 8.0 * widest / case.temperature * factor * widest * np.sqrt(count)
    allowed = rounding(case, ctx.readings, ctx.setting.dtype)
    room = slack + allowed.atol + allowed.rtol * float(np.linalg.norm(expected))
    error = float(np.linalg.norm(ctx.field(case) - expected))
    clauses = ("ALG2-3", "ALG2-5")
    yield as_whole(within(clauses, "V against τ→∞", case.manifest.id, error, room), case)


def _cold(ctx: Context, case: FieldCase) -> Iterator[Measurement]:
    """The nearer set takes the whole softmax: ΣA of the other is at most √P or P times e^−gap."""
    case, near = as_seen(case, ctx.setting.dtype), case.manifest.id
    exponent = affinity_exponent(ctx.readings)
    to_positive, to_negative = distances(case.x, case.positive), distances(case.x, case.negative)
    gaps = np.abs(np.min(to_positive, axis=1) - np.min(to_negative, axis=1)) / case.temperature
    points = np.concatenate([case.positive, case.negative])
    widest = float(np.max(distances(points, points)))
    targets = len(case.positive) * len(case.negative)
    bound = targets * np.exp(-exponent * gaps) * widest
    lengths = np.linalg.norm(ctx.field(case), axis=1)
    # The exponent itself is only known to some u·d/T.
    slack = rounding(case, ctx.readings, ctx.setting.dtype)
    excess = float(np.max(lengths - bound * (1.0 + slack.rtol)))
    item = within(("ALG2-4",), "‖V_i‖ above its bound", near, max(excess, 0.0), slack.atol)
    yield whole(item, "field", ("ALG2-4",))


def _nearest(ctx: Context, case: FieldCase) -> Iterator[Measurement]:
    ctx = ctx.under(softmax_axes="y", kernel_normalization="separate")
    case = as_seen(case, ctx.setting.dtype)
    chosen, leak = np.zeros_like(case.x), 0.0
    for targets, sign in ((case.positive, 1.0), (case.negative, -1.0)):
        away = distances(case.x, targets)
        chosen += sign * targets[np.argmin(away, axis=1)]
        ordered = np.sort(away, axis=1)
        if len(targets) > 1:
            gap = float(np.min(ordered[:, 1] - ordered[:, 0])) / case.temperature
            if gap < 1.0:
                raise Rejected
            leak += len(targets) * np.exp(-gap) * float(np.max(distances(targets, targets)))
    allowed = rounding(case, ctx.readings, ctx.setting.dtype)
    room = allowed.atol + leak * np.sqrt(len(case.x)) + allowed.rtol * float(np.linalg.norm(chosen))
    error = float(np.linalg.norm(ctx.field(case) - chosen))
    quantity = "V against nearest⁺ − nearest⁻"
    item = within(("EQ-8", "EQ-9"), quantity, case.manifest.id, error, room)
    yield of_reading(item, "EQ-8", "EQ-9")


def _nearest_draw(draw: Draw) -> FieldCase:
    """Few samples and targets with one T = 1/32: their nearest neighbours are unique."""
    random, width = generator(draw), draw.integer(2, 4)
    sizes = (draw.integer(1, 2), draw.integer(1, 3), draw.integer(1, 3))
    x, positive, negative = (random.normal(size=(size, width)) for size in sizes)
    manifest = Manifest(f"cold N={sizes[0]} P={sizes[1]} M={sizes[2]} C={width}")
    return FieldCase(manifest, x, positive, negative, 2.0**-5, mask_self=False)


def _collapse(ctx: Context, cases: tuple[FieldCase, FieldCase]) -> Iterator[Measurement]:
    apart, together = (exact_inputs(case, ctx.setting.dtype) for case in cases)
    field = ctx.field(apart)
    allowed = doubled(rounding(apart, ctx.readings, ctx.setting.dtype))
    same = np.broadcast_to(field[:1], field.shape)
    quantity, near = "V_i − V_1, all samples equal", apart.manifest.id
    yield compare(("ALG2-3", "ALG2-5"), quantity, near, field, same, allowed)
    quantity = "V, samples and positives all equal"
    yield alone(field_is(ctx, ("EQ-4",), quantity, together, np.zeros_like(together.x)))


def _collapse_draw(draw: Draw) -> tuple[FieldCase, FieldCase]:
    apart = worlds.collapsed(draw, onto_positives=False)
    return apart, worlds.collapsed(draw, onto_positives=True)


_ATOMS = np.array([[-1.0], [0.5], [2.0]])
_ODDS = np.array([0.5, 0.3, 0.2])


_SIZES = (((2, 2), (3, 2)), ((2, 3), (3, 2)), ((3, 3), (2, 1)))
"""Pairs of sizes N, P, each with one for which P = N − 1."""


def mean_field_at_equilibrium(ctx: Context, samples: int, positives: int) -> float:
    """E V_pp(x_0): x_0 = −1, the other samples and the positives drawn from three atoms."""
    manifest = Manifest(f"three atoms N={samples} P={positives}")

    def first(x: Array, positive: Array) -> Array:
        return ctx.field(FieldCase(manifest, x, positive, x, 1.0, mask_self=True))[0]

    mean = reference.mean_field_at_equilibrium(first, _ATOMS[0], _ATOMS, _ODDS, samples, positives)
    return float(mean[0])


def _equilibrium(ctx: Context, sizes: tuple[tuple[int, int], ...]) -> Iterator[Measurement]:
    for samples, positives in sizes:
        yield from _at_sizes(ctx, samples, positives)


def _at_sizes(ctx: Context, samples: int, positives: int) -> Iterator[Measurement]:
    over_y = ctx.under(softmax_axes="y", kernel_normalization="joint")
    over_y = over_y.under(self_mask="exclude")
    near = f"three atoms N={samples} P={positives}"
    dtype = ctx.setting.dtype
    manifest = Manifest(near)
    x = np.resize(_ATOMS, (samples, 1))
    typical = FieldCase(manifest, x, np.resize(_ATOMS, (positives, 1)), x, 1.0)
    slack = rounding(typical, over_y.readings, dtype)
    room = 4.0 * slack.atol + 3.0 * slack.rtol
    bias = abs(mean_field_at_equilibrium(over_y, samples, positives))
    item = within(("EQ-7", "EQ-27"), "E V_pp, softmax over y", near, bias, room)
    yield of_reading(item, "EQ-7", "EQ-27")
    both = ctx.under(softmax_axes="xy", softmax_combination="sqrt", kernel_normalization="joint")
    both = both.under(self_mask="exclude", affinity_floor="none")
    if samples > 2:
        bias = abs(mean_field_at_equilibrium(both, samples, positives))
        yield at_least(("EQ-17",), "E V_pp, softmax over both", near, bias, 1e-3)
    apart = ctx.under(softmax_axes="y", softmax_combination="sqrt", affinity_floor="none")
    apart = apart.under(kernel_normalization="separate", self_mask="exclude")
    bias = abs(mean_field_at_equilibrium(apart, samples, positives))
    if positives == samples - 1:
        item = within(("EQ-9", "EQ-11"), "E V_pp, separate, P = N − 1", near, bias, room)
        yield of_reading(item, "EQ-9", "EQ-11")
    else:
        yield at_least(("EQ-9",), "E V_pp, separate, P ≠ N − 1", near, bias, 1e-2)


def _particles(ctx: Context, case: FieldCase) -> Iterator[Measurement]:
    """X ← x + ηV to a target of two modes: the drift and the distance to the target shrink."""
    x, lengths = case.x, list[float]()
    for _ in range(12):
        field = ctx.field(case.changed(x=x, negative=x))
        lengths.append(float(np.mean(np.sum(field**2, axis=1))))
        x = x + 2.0 * field
    near = case.manifest.id
    ratio = lengths[-1] / lengths[0]
    item = within(("EQ-2", "EQ-5"), "mean ‖V‖² after ÷ before", near, ratio, 0.8)
    # How far twelve steps lead is a matter of V's length.
    yield whole(item, "field", ("EQ-2",))
    missed = [float(np.mean(np.min(distances(case.positive, at), axis=1))) for at in (case.x, x)]
    quantity = "distance of positives to the nearest sample, after ÷ before"
    yield whole(within(("EQ-2",), quantity, near, missed[1] / missed[0], 0.7), "field", ("EQ-2",))


def _particles_draw(draw: Draw) -> FieldCase:
    random = generator(draw)
    modes = np.array([[-1.5, 0.0], [1.5, 0.0]])
    positive = np.repeat(modes, 8, axis=0) + 0.125 * random.normal(size=(16, 2))
    name, centre = draw.choice(
        (("between", (0.0, 0.0)), ("far off", (0.0, 4.0)), ("on one", (-1.5, 0.0)))
    )
    x = np.array(centre) + 0.125 * random.normal(size=(12, 2))
    return FieldCase(Manifest(f"two modes, start {name}"), x, positive, x, 1.0)


def _one_particle(ctx: Context, case: FieldCase) -> Iterator[Measurement]:
    """Let x ← x + V lead to one positive: V = c(y⁺ − x), 0 < c ≤ 1."""
    case = as_seen(case, ctx.setting.dtype)
    x, before = case.x, float(distances(case.x, case.positive)[0, 0])
    for _ in range(4):
        x = x + ctx.field(as_seen(case.changed(x=x, negative=x[:1]), ctx.setting.dtype))
    left = float(distances(x, case.positive)[0, 0]) / before
    near = case.manifest.id
    # Within 2 T the factor c is at least 0.026 under every reading: 0.974⁴ < 0.91.
    item = within(("EQ-2", "EQ-5"), "distance after four steps ÷ before", near, left, 0.95)
    yield whole(item, "field", ("EQ-2",))
    arrived = case.changed(x=np.repeat(case.positive, 2, axis=0), negative=case.positive)
    yield alone(field_is(ctx, ("EQ-4",), "V at the positive", arrived, np.zeros_like(case.x)))


def _one_particle_draw(draw: Draw) -> FieldCase:
    random, width = generator(draw), draw.integer(1, 4)
    direction = random.normal(size=(1, width))
    direction /= np.linalg.norm(direction)
    apart, temperature = draw.number(0.25, 2.0), 2.0 ** draw.integer(-2, 2)
    x = random.normal(size=(1, width)) * temperature
    positive = x + apart * temperature * direction
    manifest = Manifest(f"one particle, twice, C={width} {apart:.2f} T away")
    twice = np.repeat(x, 2, axis=0)
    return FieldCase(manifest, twice, positive, x, temperature, mask_self=False)


PROPERTIES: tuple[Property[Any], ...] = (
    Property(
        "PB-12",
        "Points 120 T away from everything change nothing (D16, D21)",
        ("EQ-12", "ALG2-5"),
        lambda draw: worlds.cloud(draw, mask_self=False),
        _padding,
        applies=without_floor,
    ),
    Property(
        "PB-15",
        "τ→∞: V tends to a known multiple of ȳ⁺ − the mean of the other samples (D05, D11, D12)",
        ("ALG2-3", "ALG2-5"),
        worlds.hot,
        _hot,
        applies=nearly_excludes_self,
    ),
    Property(
        "PB-16",
        "τ→0: the joint softmax picks one target, and V vanishes as e^−gap (D10, D16)",
        ("ALG2-4",),
        worlds.cold,
        _cold,
        applies=joint_without_floor,
    ),
    Property(
        "PB-16-separate",
        "τ→0: EQ-11 tends to the nearest positive minus the nearest negative",
        ("EQ-8", "EQ-9"),
        _nearest_draw,
        _nearest,
    ),
    Property(
        "PB-18",
        "All samples equal: all drifts equal, and none where the positives equal them too (D15)",
        ("ALG2-3", "ALG2-5", "EQ-4"),
        _collapse_draw,
        _collapse,
    ),
    Property(
        "PB-19",
        "E V_pp = 0 for the softmax over y, by enumeration; not for both axes (P-19)",
        ("EQ-7", "EQ-9", "EQ-11", "EQ-17", "EQ-27"),
        lambda draw: draw.choice(_SIZES),
        _equilibrium,
        examples=3,
    ),
    Property(
        "EQ-2-particles",
        "Particles that follow V reach a target of two modes, and V falls (a wrong sign)",
        ("EQ-2", "EQ-5"),
        _particles_draw,
        _particles,
        applies=joint_root,
        examples=3,
    ),
    Property(
        "EQ-2-one-particle",
        "A particle drifts towards its positive and stays there (a wrong sign)",
        ("EQ-2", "EQ-4", "EQ-5"),
        _one_particle_draw,
        _one_particle,
    ),
)
