"""The four checks that carry the headline, with their numbers.

Slot counts (A.5), scale invariance, detach semantics, and the sum of drifts before one MSE (A.6).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from scipy.optimize import root_scalar

from drifting_parity.adapters.base import NotObservable
from drifting_parity.adapters.reference_adapter import solved
from drifting_parity.cases import Array, DType, LossCase, Manifest, VectorizeCase
from drifting_parity.checks.core import Check, Context, Yield
from drifting_parity.checks.predicates import equal_temperatures_square, no_floors_no_mask_in_units
from drifting_parity.measure import Figure, at_least, at_stage, compare, necessary, whole, within
from drifting_spec import PAPER

SIDES = (32, 16, 8, 4)
"""Sides of the maps of the paper's encoder, stage by stage."""


def _ordinary(seed: int = 11, labels: int = 2, channels: int = 16) -> LossCase:
    """Gaussian features, well separated: two labels, seven generated, six positives, guidance."""
    source = np.random.default_rng(seed)
    vectors, extra = 3, 4

    def draw(samples: int) -> Array:
        return source.normal(size=(labels, samples, vectors, channels))

    return LossCase(
        Manifest(f"headline-{seed}", "ordinary Gaussian features with guidance", seed=seed),
        draw(7),
        draw(6) + 0.4,
        draw(extra) - 0.3,
        source.uniform(0.5, 2.0, size=(labels, extra)),
    )


# Slot counts.


def _expected_shapes(side: int, channels: int) -> dict[str, tuple[int, int]]:
    """Vectors and channels of every key of one map, from the clauses' own arithmetic."""
    half, quarter = (side // 2) ** 2, (side // 4) ** 2
    counts = {"loc": side * side, "mean": 1, "std": 1}
    counts |= {"mean2": half, "std2": half, "mean4": quarter, "std4": quarter}
    return {key: (count, channels) for key, count in counts.items()}


def _merged(shapes: dict[str, tuple[int, int]]) -> dict[str, tuple[int, int]]:
    """The same under ``statistics_grouping='mean_with_std'``."""
    channels = shapes["loc"][1]
    names = {"global": "mean", "patch2": "mean2", "patch4": "mean4"}
    merged = {name: (2 * shapes[statistic][0], channels) for name, statistic in names.items()}
    return {"loc": shapes["loc"], **merged}


def slot_counts(context: Context) -> Iterator[Yield]:
    """n(H) = H² + 2 + 2(H/2)² + 2(H/4)², and the shape of every key; kills D43, D49, D50."""
    batch, source = 2, np.random.default_rng(0)
    for stage, side in enumerate(SIDES, start=1):
        channels = 2 * stage
        name = f"stage{stage}.final"
        maps = {name: source.normal(size=(batch, channels, side, side))}
        found = context.vectorize(VectorizeCase(Manifest(f"slots-{side}"), maps))
        shapes = _expected_shapes(side, channels)
        if context.readings.statistics_grouping == "mean_with_std":
            shapes = _merged(shapes)
        wanted = {f"{name}.{key}": (batch, *shape) for key, shape in shapes.items()}
        seen = {key: array.shape for key, array in found.items()}
        wrong = sorted(
            f"{key} is {seen.get(key, 'missing')}, expected {wanted.get(key, 'no such key')}"
            for key in set(seen) | set(wanted)
            if seen.get(key) != wanted.get(key)
        )
        clauses = ("A5-a", "A5-b", "A5-c", "A5-d", "A5-count")
        case = f"{side}×{side} map"
        yield within(clauses, "keys of another shape", case, len(wrong), 0, "; ".join(wrong))
        count = sum(array.shape[1] for array in found.values())
        target = side**2 + 2 + 2 * (side // 2) ** 2 + 2 * (side // 4) ** 2
        yield within("A5-count", "vectors", case, abs(count - target), 0, f"{count} vectors")
        yield Figure("slot counts", f"n({side})", f"{count} vectors in {len(found)} keys")


# Scale invariance.

_POWERS: dict[DType, tuple[int, ...]] = {
    "float64": tuple(range(-40, 41, 8)),
    "float32": tuple(range(-14, 15, 2)),
    "bfloat16": tuple(range(-14, 15, 2)),
}
"""Powers of two: 24 decades in float64, more than eight in float32 and bfloat16."""

_DECADES: dict[DType, tuple[int, ...]] = {"float64": (-12, -6, -3, 3, 6, 12)}
"""Powers of ten round the features, and code is not to blame for what that moves: in float32 a
gradient without a stop-gradient by more than its own rounding."""


def scale_invariance(context: Context) -> Iterator[Yield]:
    """φ → cφ leaves loss and Ṽ alone and divides the gradient by c; kills D21, D66."""
    for at in context.offered(tuple(_POWERS)):
        dtype, case = at.setting.dtype, context.capabilities.fitted_loss(_ordinary())
        base = at.loss(case)
        worst_bits, worst, decades = 0.0, 0.0, 0.0
        for factor, exact in _factors(dtype):
            seen = at.loss(case.scaled(factor))
            moved = seen.gradient * factor
            name = f"{dtype}, c = {factor:.3g}"
            clauses = ("A6-tau", "EQ-18")
            gradient = compare(
                clauses, "c × gradient", name, moved, base.gradient, at.tolerance("gradient")
            )
            loss = compare(clauses, "loss", name, seen.loss, base.loss, at.tolerance("loss"))
            # A wrong S that has the unit of the features, or no √C, is as free of units.
            yield necessary(gradient)
            yield necessary(loss)
            decades = max(decades, abs(np.log10(factor)))
            worst = max(worst, gradient.observed / float(np.linalg.norm(base.gradient)))
            if exact:
                worst_bits = max(worst_bits, float(np.abs(moved - base.gradient).max()))
                worst_bits = max(worst_bits, abs(seen.loss - base.loss))
        bits = "bit for bit" if worst_bits == 0 else f"to {worst_bits:.1e}"
        text = f"gradient·c to {worst:.1e} over {2 * decades:.0f} decades; powers of two {bits}"
        yield Figure("scale invariance", dtype, text)


def _factors(dtype: DType) -> Iterator[tuple[float, bool]]:
    """Factors to scale by, and whether scaling by them is exact in binary arithmetic."""
    for power in _POWERS[dtype]:
        yield 2.0**power, True
    for power in _DECADES.get(dtype, ()):
        yield 10.0**power, False


# Detach semantics.


def detach_semantics(context: Context) -> Iterator[Yield]:
    """The gradient is −2Ṽ/(numel·S) and nothing else receives one; kills D61."""
    case = context.capabilities.fitted_loss(_ordinary(seed=12))
    expected, seen = context.expected_loss(case), context.loss(case)
    against, tolerance = "against −2Ṽ/(numel·S) of the reference", context.tolerance("gradient")
    clauses = ("EQ-26", "A6-mse", "S3-sg", "ALG1-2", "ALG1-5", "EQ-5")
    item = compare(clauses, "gradient", against, seen.gradient, expected.gradient, tolerance)
    yield whole(item, "gradient")
    error = np.linalg.norm(seen.gradient - expected.gradient) / np.linalg.norm(expected.gradient)
    head = "detach semantics"
    yield Figure(head, "gradient against −2Ṽ/(numel·S)", f"{error:.1e} relative")
    if seen.other_gradients is not None:
        leak = max(seen.other_gradients.values(), default=0.0)
        note = ", ".join(f"{key} {value:.1e}" for key, value in seen.other_gradients.items())
        item = within("S3-sg", "gradient of other inputs", "all other inputs", leak, 0.0, note)
        yield necessary(at_stage(item, "gradient"))
        inputs = ", ".join(seen.other_gradients)
        yield Figure(head, f"gradient reaching {inputs}", f"{leak:.1e}")
    yield from _finite_differences(context, case, seen.gradient)


def _finite_differences(context: Context, case: LossCase, gradient: Array) -> Iterator[Yield]:
    """Along one direction: the frozen target's slope is the gradient's, the recomputed's is not."""
    single = context.setting.dtype != "float64"
    step = 1e-2 if single else 1e-5
    direction = np.random.default_rng(5).normal(size=case.generated.shape)
    along = float((gradient * direction).sum())
    frozen = _reference_slope(context, case, direction, 1e-6)
    scale = float(np.linalg.norm(gradient) * np.linalg.norm(direction))
    limit = max(1e-7, 10 * context.tolerance("gradient").rtol)
    item = within(
        ("EQ-26", "A6-mse"),
        "gradient as a slope with the target frozen",
        "central difference of the reference",
        abs(frozen - along) / scale,
        limit,
        f"gradient along the direction {along:.6g}, difference quotient {frozen:.6g}",
    )
    yield whole(item, "gradient")
    recomputed = _own_slope(context, case, direction, step)
    # Along one direction the two may agree by chance, along three they do not.
    apart = abs(recomputed - along) / abs(along) if along else np.inf
    for seed in (6, 7):
        other = np.random.default_rng(seed).normal(size=case.generated.shape)
        slope = float((gradient * other).sum())
        again = abs(_own_slope(context, case, other, step) - slope)
        apart = max(apart, again / abs(slope) if slope else np.inf)
    item = at_least(
        "S3-sg",
        "distance to the slope with the target recomputed",
        "central difference of the implementation",
        apart,
        0.02,
        f"gradient {along:.4g}, with the target recomputed {recomputed:.4g}",
    )
    yield necessary(replace(at_stage(item, "gradient"), premise=True))
    head = "detach semantics"
    yield Figure(head, "finite difference, target frozen", f"{frozen:.6g} (gradient {along:.6g})")
    yield Figure(head, "finite difference, target recomputed", f"{recomputed:.6g}: it differs")


def _own_slope(context: Context, case: LossCase, direction: Array, step: float) -> float:
    """The implementation's loss along a direction: its target is computed anew at each point."""
    ahead = context.loss(case.changed(generated=case.generated + step * direction)).loss
    behind = context.loss(case.changed(generated=case.generated - step * direction)).loss
    return (ahead - behind) / (2 * step)


def _reference_slope(context: Context, case: LossCase, direction: Array, step: float) -> float:
    found = solved(case, context.readings)
    ahead = found.frozen_target(case.generated + step * direction)
    behind = found.frozen_target(case.generated - step * direction)
    return (ahead - behind) / (2 * step)


# Sum of drifts, then one MSE.


def _line(shift: float) -> LossCase:
    """Two generated points on a line between a near positive and far ones on the other side.

    At a low temperature the near positive pulls, at a high one the far crowd does: the drifts of
    the two temperatures are at right angles for one value of ``shift``.
    """
    generated = np.array([0.0, 0.1]).reshape(1, 2, 1, 1)
    positive = np.array([shift, -2.0, -2.2, -2.4]).reshape(1, 4, 1, 1)
    return LossCase(Manifest("cross-terms-vanish"), generated, positive, temperatures=(0.05, 2.0))


def _cross(shift: float) -> float:
    """Sum of the cross terms: loss − T of the paper's readings."""
    case = _line(shift)
    found = solved(case, PAPER)
    return float(found.loss) - 2.0


def sum_then_mse(context: Context) -> Iterator[Yield]:
    """T + 2Σcross per vector against T, with one gradient; kills D24, D25, D26."""
    head, clauses = "sum_drifts_then_mse is not per-temperature MSE", ("A6-order", "EQ-A6tau")
    case = context.capabilities.fitted_loss(_ordinary(seed=13, labels=1))
    if len(case.temperatures) < 2:
        raise NotObservable("the adapter takes one temperature at a time")
    count, kinds = case.generated.shape[2], len(case.temperatures)
    summed, expected = context.loss(case), context.expected_loss(case)
    tolerance = context.tolerance("loss")
    item = compare(clauses, "loss", "sum of drifts", summed.loss, expected.loss, tolerance)
    yield whole(item, "aggregation")
    per_vector = summed.loss / (count if context.readings.location_reduction == "sum" else 1)
    yield Figure(head, "value per vector, sum of drifts then MSE", f"{per_vector:.6f}")
    yield at_least(
        clauses,
        "distance from T",
        "value per vector",
        abs(per_vector - kinds),
        0.1,
        f"a per-temperature MSE gives T = {kinds}",
    )
    yield from _equal_temperatures(context, case, summed.loss / per_vector)
    yield from _other_forms(context, case, summed.gradient, summed.loss)


def _equal_temperatures(context: Context, case: LossCase, vectors: float) -> Iterator[Yield]:
    """T² for T equal temperatures; T where the drifts of two are at right angles."""
    head, clauses = "sum_drifts_then_mse is not per-temperature MSE", ("A6-order", "EQ-A6tau")
    tolerance, first = context.tolerance("loss"), 1.0
    for power in (1, 3):
        same = case.changed(temperatures=(0.2,) * power)
        value = context.loss(same).loss / vectors
        name = f"{power} equal temperatures"
        # One temperature is λ's and the error's matter; how often it counts is this clause's.
        if power == 1:
            first = value
            continue
        ratio = value / first if first else np.inf
        yield compare(clauses, "value over that of one", name, ratio, float(power**2), tolerance)
        if power == 3:
            yield Figure(head, name, f"{value:.6f} per vector: T², not T")
    shift = float(root_scalar(_cross, bracket=(1.5, 3.0), xtol=1e-15).root)
    flat = context.loss(_line(shift)).loss
    name = f"cross terms vanish (positive at {shift:.6f})"
    yield whole(compare(clauses, "loss", name, flat, 2.0, tolerance), "aggregation")
    yield Figure(head, "cross terms vanish, two temperatures", f"{flat:.12g}: both forms give T")


def _other_forms(
    context: Context, case: LossCase, gradient: Array, value: float
) -> Iterator[Yield]:
    """The other two readings: the same gradient, and a T-th of it."""
    head, kinds = "sum_drifts_then_mse is not per-temperature MSE", len(case.temperatures)
    clauses = ("A6-order", "EQ-A6tau")
    if not context.adapter.configurable:
        return
    for reading, share in (("per_temperature_mse", 1.0), ("per_temperature_mse_mean", kinds)):
        other = context.under(temperature_aggregation=reading).loss(case)
        error = compare(
            clauses,
            "gradient",
            reading,
            other.gradient * share,
            gradient,
            context.tolerance("gradient"),
        )
        yield error
        relative = error.observed / float(np.linalg.norm(gradient))
        words = "the same gradient" if share == 1.0 else "1/T of the gradient"
        text = f"value {other.loss:.6f} against {value:.6f}; {words} to {relative:.1e}"
        yield Figure(head, reading, text)


CHECKS = (
    Check(
        "headline.slots",
        "slot counts",
        ("A5-a", "A5-b", "A5-c", "A5-d", "A5-count"),
        "headline",
        slot_counts,
    ),
    Check(
        "headline.scale",
        "scale invariance",
        ("A6-tau", "EQ-18", "EQ-22"),
        "headline",
        scale_invariance,
        applies=no_floors_no_mask_in_units,
    ),
    Check(
        "headline.detach",
        "detach semantics",
        ("S3-sg", "EQ-26", "A6-mse", "ALG1-2", "ALG1-5", "EQ-5"),
        "headline",
        detach_semantics,
        independent=False,
    ),
    Check(
        "headline.aggregation",
        "sum_drifts_then_mse is not per-temperature MSE",
        ("A6-order", "EQ-A6tau"),
        "headline",
        sum_then_mse,
        applies=equal_temperatures_square,
        independent=False,
    ),
)
