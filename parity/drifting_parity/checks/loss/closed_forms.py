"""Closed forms of A.6 in plain NumPy: what the loss of one feature must be, without the reference.

S of EQ-21, the share of a squared error in EQ-26, the field of Algorithm 2 as the paper prints
it, and how to read Ṽ and S back from a loss and its gradient.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from drifting_parity.adapters.base import NotObservable
from drifting_parity.adapters.reference_adapter import as_seen
from drifting_parity.cases import Array, FieldCase, LossCase, LossObservation, Manifest
from drifting_parity.checks.core import Context
from drifting_spec import Readings
from drifting_spec.registry import Tolerance

UNIT = {"float64": 2.0**-53, "float32": 2.0**-24, "bfloat16": 2.0**-9, "float16": 2.0**-11}
"""Unit roundoff by dtype."""


def in_range(context: Context, temperatures: tuple[float, ...]) -> tuple[float, ...]:
    """The temperatures, raised where under these readings the drift would leave the dtype's range.

    Raw temperatures meet distances of √C ≈ 3, so they are four times as high. Without a softmax,
    or without the root over two of them, a drift at τ = 0.02 is of the size e⁻¹⁰⁰: below float32.
    """
    readings = context.readings
    factor = 4.0 if readings.temperature_scaling == "raw" else 1.0
    unbalanced = readings.softmax_axes == "none" or (
        readings.softmax_axes == "xy" and readings.softmax_combination == "product"
    )
    factor *= 10.0 if unbalanced and context.setting.dtype != "float64" else 1.0
    return tuple(factor * temperature for temperature in temperatures)


def observe(context: Context, case: LossCase) -> LossObservation:
    """What the adapter shows at temperatures in range, its gradient for an upstream one of 1."""
    return observe_as_given(
        context, case.changed(temperatures=in_range(context, case.temperatures))
    )


def observe_as_given(context: Context, case: LossCase) -> LossObservation:
    """What the adapter shows at the case's own temperatures, likewise."""
    seen = context.loss(case)
    return replace(seen, gradient=seen.gradient / context.setting.upstream)


def statistics_tolerance(context: Context, quantity: str) -> Tolerance:
    """Give a statistic's tolerance: below float32 statistics are taken in float32."""
    dtype = "float64" if context.setting.dtype == "float64" else "float32"
    return context.spec.tolerance(quantity, dtype)


def loss_tolerance(context: Context, quantity: str) -> Tolerance:
    """The tolerance of ``loss`` or ``gradient``; in float32 the release's own under its floors.

    Its distances are expanded squares, whose rounding those tolerances hold.
    """
    if context.readings.floors == "release" and context.setting.dtype == "float32":
        return context.tolerance(f"release_{quantity.partition('_')[0]}")
    return context.tolerance(quantity)


def by_expanded_squares(context: Context, tolerance: Tolerance) -> Tolerance:
    """The tolerance of S where samples coincide: EQ-21 does not say how a distance is computed.

    By expanded squares the distance of a coincident pair is some √u·R instead of 0 (D18); that is
    EQ-12's matter, and seen in the kernel. Of a mean over all pairs it is no more than that share.
    """
    return replace(tolerance, rtol=max(tolerance.rtol, 4.0 * np.sqrt(UNIT[context.setting.dtype])))


def needs_single_precision(context: Context, reason: str) -> None:
    """Refuse dtypes in which changing the inputs rounds them more than the tolerance allows."""
    if context.setting.dtype not in {"float64", "float32"}:
        raise NotObservable(f"needs float32 or float64: {reason}")


def targets(case: LossCase) -> tuple[Array, Array]:
    """Positives, generated and unconditional samples [L, M, V, C], and their weights [L, M]."""
    arrays, weights = [case.positive, case.generated], [case.positive_weight, case.generated_weight]
    if case.unconditional is not None:
        arrays.append(case.unconditional)
        weights.append(case.unconditional_weight)
    filled = [
        np.ones(array.shape[:2]) if weight is None else weight
        for array, weight in zip(arrays, weights, strict=True)
    ]
    return np.concatenate(arrays, axis=1), np.concatenate(filled, axis=1)


def shared_axes(readings: Readings) -> tuple[int, ...]:
    """Which axes of [L, V] share S and λ."""
    labels = (0,) if readings.statistics_scope == "batch" else ()
    return labels if readings.location_sharing == "none" else (*labels, 1)


def feature_scale(context: Context, case: LossCase) -> Array:
    """EQ-21 on the case as the adapter's dtype sees it: S [1 or L, 1 or V]."""
    readings, seen = context.readings, as_seen(case, context.setting.dtype)
    y, weight = targets(seen)
    _, n, vectors, channels = seen.generated.shape
    p, m = seen.positive.shape[1], y.shape[1]
    columns = np.arange(m)
    of_positives = columns < p
    chosen = {"all": columns >= 0, "positives": of_positives, "negatives": ~of_positives}
    every = np.broadcast_to(chosen[readings.scale_samples] * weight[:, None], (len(y), n, m))
    own = np.zeros((n, m))
    own[np.arange(n), p + np.arange(n)] = float(readings.scale_self_pairs == "without")
    totals, counts = np.zeros((len(y), vectors)), np.zeros((len(y), vectors))
    for v in range(vectors):
        for other in range(vectors) if readings.location_sharing == "all_pairs" else (v,):
            pairs = seen.generated[:, :, None, v] - y[:, None, :, other]
            square = np.sum(pairs**2, axis=-1)
            distance = np.sqrt(np.maximum(square, 1e-8 if readings.floors == "release" else 0.0))
            counted = every * (1 - own) if other == v else every
            totals[:, v] += np.sum(counted * distance, axis=(1, 2))
            counts[:, v] += np.sum(counted, axis=(1, 2))
    axes = shared_axes(readings)
    mean = totals.sum(axis=axes, keepdims=True) / counts.sum(axis=axes, keepdims=True)
    return mean / np.sqrt(channels)


def error_share(readings: Readings, case: LossCase) -> float:
    """How much each squared entry of Ṽ [L, N, V, C] counts in the loss of one temperature."""
    labels, n, vectors, channels = case.generated.shape
    share = 1.0 / n
    share /= channels if readings.channel_reduction == "mean" else 1
    share /= vectors if readings.location_reduction == "mean" else 1
    return share / (labels if readings.label_reduction == "mean" else 1)


def temperature_share(readings: Readings, case: LossCase) -> float:
    """1/T where the loss is a mean over temperatures, else 1."""
    mean = readings.temperature_aggregation == "per_temperature_mse_mean"
    return 1.0 / len(case.temperatures) if mean else 1.0


def one_temperature_loss(readings: Readings, case: LossCase) -> float:
    """EQ-24 in EQ-26: with one temperature the loss is the number of vectors (of its share)."""
    return error_share(readings, case) * case.generated.size


def across(statistic: Array) -> Array:
    """A statistic [..., 1 or L, 1 or V] beside samples [..., L, N, V, C]."""
    return statistic[..., :, None, :, None]


def drift_of(readings: Readings, case: LossCase, gradient: Array, scale: Array) -> Array:
    """Ṽ = −(∂L/∂φ)·S/2κ: the summed normalised drift that a gradient tells of. [L, N, V, C]."""
    share = error_share(readings, case) * temperature_share(readings, case)
    return -gradient * across(scale) / (2 * share)


def root_mean_square(field: Array, readings: Readings) -> Array:
    """EQ-25: λ of V [..., L, N, V, C] over its scope, [..., 1 or L, 1 or V]."""
    square = np.mean(field**2, axis=(-3, -1))
    axes = tuple(axis - 2 for axis in shared_axes(readings))
    return np.sqrt(np.mean(square, axis=axes, keepdims=True))


def block_directions(field: Array) -> Array:
    """The field [L, N, V, C] with each label and vector scaled to length 1 (0 stays 0)."""
    length = np.sqrt(np.sum(field**2, axis=(1, 3), keepdims=True))
    return np.divide(field, length, out=np.zeros_like(field), where=length > 0)


def unit(array: Array) -> Array:
    """The array scaled to length 1 (0 stays 0)."""
    length = float(np.linalg.norm(array))
    return array / length if length else array


def implied_scale(readings: Readings, case: LossCase, seen: LossObservation) -> float:
    """S from value and gradient alone, for one shared S: S² = 4κL/‖∂L/∂φ‖², whatever λ is."""
    size = float(np.linalg.norm(seen.gradient))
    return 2 * np.sqrt(error_share(readings, case) * seen.loss) / size if size else np.inf


def own_field(context: Context, case: LossCase, scale: Array) -> Array:
    """S·V_τ from the adapter's own Algorithm 2, group by group: [T, L, N, V, C].

    V is 1-homogeneous, so Algorithm 2 on φ with temperature τ̃·S gives S times that on φ̃.
    """
    channels = case.generated.shape[-1]
    unit = np.sqrt(channels) if context.readings.temperature_scaling == "sqrt_channels" else 1.0
    reached = np.array(in_range(context, case.temperatures))
    return fields_at(context, case, reached[:, None, None] * unit * scale)


def fields_at(context: Context, case: LossCase, temperatures: Array) -> Array:
    """The adapter's Algorithm 2 on φ at bare temperatures [T, 1 or L, 1 or V]: [T, L, N, V, C]."""
    labels, _, vectors, _ = case.generated.shape
    each = np.broadcast_to(temperatures, (len(temperatures), labels, vectors))
    fields = np.zeros((len(temperatures), *case.generated.shape))
    for label, v in np.ndindex(labels, vectors):
        x, weight = case.generated[label, :, v], None
        negative = x
        if case.unconditional is not None and case.unconditional_weight is not None:
            negative = np.concatenate([x, case.unconditional[label, :, v]])
            weight = np.concatenate([np.ones(len(x)), case.unconditional_weight[label]])
        for position, temperature in enumerate(each[:, label, v]):
            group = FieldCase(
                Manifest(f"{case.manifest.id}, label {label}, vector {v}"),
                x,
                case.positive[label, :, v],
                negative,
                float(temperature),
                negative_weight=weight,
            )
            fields[position, label, :, v] = context.field(group)
    return fields


def plain_field(x: Array, positive: Array, temperature: float) -> tuple[Array, Array]:
    """Algorithm 2 as printed, x its own negatives: V [N, C] and each row's balanced mass [N]."""
    y = np.concatenate([positive, x])
    logit = -np.sqrt(np.sum((x[:, None] - y[None]) ** 2, axis=-1)) / temperature
    p = len(positive)
    logit[np.arange(len(x)), p + np.arange(len(x))] = -np.inf
    # A column may hold the masked entry alone (N = 1): 0 is its greatest logit then.
    greatest = np.max(logit, axis=0, initial=-np.inf)
    columns = np.where(np.isfinite(greatest), greatest, 0.0)
    row = np.exp(logit - logit.max(axis=1, keepdims=True))
    column = np.exp(logit - columns)
    total = column.sum(axis=0)
    affinity = np.sqrt(row / row.sum(axis=1, keepdims=True)) * np.sqrt(
        np.divide(column, total, out=np.zeros_like(column), where=total > 0)
    )
    attraction, repulsion = affinity[:, :p], affinity[:, p:]
    mass = attraction.sum(axis=1) * repulsion.sum(axis=1)
    pull = attraction * repulsion.sum(axis=1, keepdims=True)
    push = repulsion * attraction.sum(axis=1, keepdims=True)
    origin = y.mean(axis=0)
    return pull @ (positive - origin) - push @ (x - origin), mass
