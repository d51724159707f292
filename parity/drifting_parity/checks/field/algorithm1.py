"""The training step around the field: Algorithm 1, EQ-5, EQ-6, the reuse of negatives (Sec. 3.2).

Through value and gradient of the loss of one feature with one temperature: its drift comes from
the closed form of Algorithm 2, and only its direction and the relation of value and gradient
count, so that a wrong S or λ is left to A.6's own checks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from drifting_parity.adapters.reference_adapter import as_seen
from drifting_parity.cases import Array, FieldCase, LossCase, Manifest
from drifting_parity.checks.core import Context, Property
from drifting_parity.checks.field.closed_forms import UNIT_ROUNDOFF, pair_field, rounding
from drifting_parity.checks.loss import closed_forms as loss_forms
from drifting_parity.draw import Draw, Rejected, generator
from drifting_parity.measure import Measurement, at_least, at_stage, compare, whole, within


def drawn_loss(draw: Draw, labels: int, *, guided: bool) -> LossCase:
    """One vector, one temperature, on a grid of 1/16 within ±4; ``guided`` adds 1 to 3 others."""
    count, positives, others = draw.integer(2, 6), draw.integer(1, 6), draw.integer(1, 3)
    channels, temperature = draw.integer(2, 5), draw.choice((0.5, 0.25, 1.0))
    random = generator(draw)

    def samples(size: int, shift: float) -> Array:
        drawn = random.normal(size=(labels, size, 1, channels)) + shift
        return np.clip(np.round(drawn * 16.0) / 16.0, -3.9375, 3.9375)

    case = LossCase(
        Manifest(f"step L={labels} N={count} P={positives} C={channels} τ={temperature}"),
        samples(count, 0.0),
        samples(positives, 0.5),
        temperatures=(temperature,),
    )
    if not guided:
        return case
    weight = random.integers(1, 17, size=(labels, others)) / 8.0
    return case.changed(unconditional=samples(others, -0.5), unconditional_weight=weight)


def group(ctx: Context, case: LossCase, label: int, scale: Array) -> FieldCase:
    """Algorithm 2's inputs for one label, in units of the mean distance."""
    channels = case.generated.shape[-1]
    unit = float(np.broadcast_to(scale, (len(case.generated), 1))[label, 0]) * np.sqrt(channels)
    raw = ctx.readings.temperature_scaling == "raw"
    x, weight = case.generated[label, :, 0], None
    negative = x
    if case.unconditional is not None and case.unconditional_weight is not None:
        negative = np.concatenate([x, case.unconditional[label, :, 0]])
        weight = np.concatenate([np.ones(len(x)), case.unconditional_weight[label]])
    return FieldCase(
        Manifest(case.manifest.id),
        x / unit,
        case.positive[label, :, 0] / unit,
        negative / unit,
        case.temperatures[0] / (np.sqrt(channels) if raw else 1.0),
        negative_weight=weight,
    )


def drifts(ctx: Context, case: LossCase) -> tuple[Array, float]:
    """V [L, N, 1, C] in closed form, up to one factor, and its relative error through rounding.

    Raises :class:`Rejected` where attraction and repulsion cancel to a thousandth.
    """
    scale = loss_forms.feature_scale(ctx, case)
    groups = [group(ctx, case, label, scale) for label in range(len(case.generated))]
    fields = np.stack([pair_field(item, ctx.readings) for item in groups])[:, :, None]
    rooms = [rounding(item, ctx.readings, ctx.setting.dtype) for item in groups]
    exact = [rounding(item, ctx.readings, "float64") for item in groups]
    size = float(np.sqrt(np.min(np.sum(fields**2, axis=(1, 2, 3)))))
    if size < 1e9 * max(room.atol for room in exact) or size < 1e-3:
        raise Rejected
    error = max(room.atol for room in rooms) / size + rooms[0].rtol
    return fields, error


def _step(ctx: Context, case: LossCase) -> Iterator[Measurement]:
    case, near = as_seen(case, ctx.setting.dtype), case.manifest.id
    field, error = drifts(ctx, case)
    seen = loss_forms.observe_as_given(ctx, case)
    slack = 4.0 * error + ctx.tolerance("gradient").rtol
    scale = loss_forms.feature_scale(ctx, case)
    share = loss_forms.error_share(ctx.readings, case)
    drift = field / loss_forms.root_mean_square(field, ctx.readings)[:, None, :, None]
    target = -2.0 * share * drift / scale[:, None, :, None]
    size = float(np.linalg.norm(target))
    reached = float(np.linalg.norm(seen.gradient))
    yield at_least(("ALG1-2",), "‖∂L/∂x‖", near, reached, 1e-3 * size)
    # The step −∂L/∂x leads from x towards x + V, and nowhere else: the target is frozen.
    # What else may turn it is the matter of the field, S and the temperature.
    turned = seen.gradient / reached if reached > 0.0 else np.full_like(target, np.inf)
    clauses = ("EQ-5", "EQ-6", "ALG1-5")
    allowed = replace(ctx.tolerance("gradient"), rtol=slack, atol=0.0)
    quantity, direction = "direction of ∂L/∂x", target / size
    yield whole(compare(clauses, quantity, near, turned, direction, allowed), "gradient")
    # L = κ‖Ṽ‖² and ∂L/∂x = −2κṼ/S: one from the other, whatever λ is.
    by_label = (
        np.sum(seen.gradient**2, axis=(1, 2, 3))
        * np.broadcast_to(scale[:, 0], len(case.generated)) ** 2
    )
    value = float(np.sum(by_label)) / (4.0 * share)
    relation = abs(seen.loss - value) / value if value > 0.0 else np.inf
    room = 2.0 * slack + 64.0 * UNIT_ROUNDOFF[ctx.setting.dtype]
    item = within(("EQ-6", "ALG1-6"), "L against ‖∂L/∂x‖²", near, relation, room)
    yield whole(item, "gradient")


def _reuse(ctx: Context, case: LossCase) -> Iterator[Measurement]:
    """Mirror one label's samples: the negatives of no label may be another's.

    The mirror is at the label's own mean, which is brought to 0 first: its distances, norms and
    angles stay as they are, so that nothing but its samples can show in the other label.
    """
    generated, positive = case.generated.copy(), case.positive.copy()
    centre = np.concatenate([generated[0], positive[0]]).mean(axis=0)
    generated[0] = np.round((generated[0] - centre) * 16.0) / 16.0
    positive[0] = np.round((positive[0] - centre) * 16.0) / 16.0
    case = as_seen(
        case.changed(generated=generated.copy(), positive=positive.copy()), ctx.setting.dtype
    )
    generated[0], positive[0] = -generated[0, ::-1], -positive[0, ::-1]
    moved = case.changed(generated=generated, positive=positive)
    _, error = drifts(ctx, case)
    before, after = loss_forms.observe_as_given(ctx, case), loss_forms.observe_as_given(ctx, moved)
    slack = 8.0 * error + 2.0 * ctx.tolerance("gradient").rtol
    allowed = replace(ctx.tolerance("gradient"), rtol=slack)
    clauses, near = ("S3-neg-reuse", "ALG1-3"), case.manifest.id
    quantity = "∂L/∂x of a label whose neighbour is mirrored"
    item = compare(clauses, quantity, near, after.gradient[1], before.gradient[1], allowed)
    yield at_stage(item, "labels")


PROPERTIES: tuple[Property[Any], ...] = (
    Property(
        "ALG1-step",
        "One step: the gradient points from x + V to x, and the loss is its own square (D61, D58)",
        ("EQ-5", "EQ-6", "ALG1-2", "ALG1-5", "ALG1-6"),
        lambda draw: drawn_loss(draw, draw.integer(1, 2), guided=False),
        _step,
        needs=("one temperature",),
        reads_drift=True,
    ),
    Property(
        "S3-neg-reuse",
        "Mirroring one label leaves the other's gradient: negatives are of the same label (D58)",
        ("S3-neg-reuse", "ALG1-3"),
        lambda draw: drawn_loss(draw, 2, guided=False),
        _reuse,
        needs=("labels",),
        reads_drift=True,
    ),
)
