"""Properties of A.5: the vectors of a map, their number, and the sum over features (PB-37…39).

Vectors are worked out anew by reshaping; the loss over features is held to that of one feature,
as the adapter itself computes it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from drifting_parity.adapters.base import NotObservable
from drifting_parity.cases import Array, FeatureCase, LossCase, Manifest, VectorizeCase, rounded
from drifting_parity.checks.core import Check, Context, Property, worst
from drifting_parity.checks.loss import closed_forms as loss_forms
from drifting_parity.checks.loss import worlds as loss_worlds
from drifting_parity.checks.predicates import no_floors
from drifting_parity.draw import Draw, generator
from drifting_parity.measure import Measurement, at_least, compare, whole, within
from drifting_spec import Readings

CLAUSE = {"": "A5-b", "2": "A5-c", "4": "A5-d"}
"""Which clause asks for the statistics of a patch size."""

TAPS: dict[str, tuple[dict[int, int], int]] = {
    "union": ({32: 2, 16: 2, 8: 3, 4: 2}, 4542),
    "coincident taps twice": ({32: 2, 16: 3, 8: 4, 4: 2}, 5066),
    "network output": ({32: 1, 16: 2, 8: 3, 4: 2}, 2876),
}
"""Maps by side for three readings of the taps, and A5-total's number of vectors."""


def patches(array: Array, size: int) -> Array:
    """Cut [B, C, H, W] into size × size patches, row by row: [B, patches, C, size·size]."""
    batch, channels, height, width = array.shape
    rows, columns = height // size, width // size
    cut = array[:, :, : rows * size, : columns * size]
    cut = cut.reshape(batch, channels, rows, size, columns, size).transpose(0, 2, 4, 1, 3, 5)
    return cut.reshape(batch, rows * columns, channels, size * size)


def deviation(cut: Array, readings: Readings) -> Array:
    """Standard deviation along the last axis, by the estimator of the readings."""
    if readings.std == "unbiased":
        return cut.std(axis=-1, ddof=1)
    return np.sqrt(cut.var(axis=-1) + (1e-6 if readings.std == "population_eps" else 0.0))


def vectors_of(array: Array, readings: Readings) -> dict[str, Array]:
    """All vectors of a map by statistic, means and deviations apart."""
    batch, channels = array.shape[:2]
    whole = array.reshape(batch, 1, channels, -1)
    found = {"loc": np.moveaxis(array.reshape(batch, channels, -1), 1, 2)}
    for size, cut in (("", whole), ("2", patches(array, 2)), ("4", patches(array, 4))):
        found[f"mean{size}"], found[f"std{size}"] = cut.mean(axis=-1), deviation(cut, readings)
    return found


def keyed(statistics: Mapping[str, Array], name: str, readings: Readings) -> dict[str, Array]:
    """The vectors under the keys that statistics_grouping asks for."""
    if readings.statistics_grouping == "by_statistic":
        return {f"{name}.{key}": array for key, array in statistics.items()}
    found = {f"{name}.loc": statistics["loc"]}
    for size, key in (("", "global"), ("2", "patch2"), ("4", "patch4")):
        pair = [statistics[f"mean{size}"], statistics[f"std{size}"]]
        found[f"{name}.{key}"] = np.concatenate(pair, axis=1)
    return found


def clause_of(key: str) -> str:
    """The clause that asks for a key: A5-a to A5-d, A5-x2."""
    statistic = key.rpartition(".")[2]
    if statistic in {"loc", "x2"}:
        return {"loc": "A5-a", "x2": "A5-x2"}[statistic]
    return CLAUSE[statistic[-1] if statistic[-1] in "24" else ""]


def in_arithmetic(context: Context, arrays: Mapping[str, Array]) -> dict[str, Array]:
    """The arrays as the setting's dtype rounds them."""
    return {key: rounded(array, context.setting.dtype) for key, array in arrays.items()}


# Vectors


def measure_vectors(context: Context, case: VectorizeCase) -> Iterator[Measurement]:
    """A5-a…d: every vector. Kills unbiased or padded std, other patch orders, merged keys (D42)."""
    got, tolerance = context.vectorize(case), context.tolerance("vectors")
    expected: dict[str, Array] = {}
    for name, array in in_arithmetic(context, case.maps).items():
        expected |= keyed(vectors_of(array, context.readings), name, context.readings)
    for key, array in expected.items():
        statistic, vectors = key.rpartition(".")[2], got.get(key, np.zeros(0))
        yield compare(clause_of(key), statistic, case.manifest.id, vectors, array, tolerance)
    extra = sorted(set(got) - set(expected))
    note = f"also gives {', '.join(extra)}" if extra else ""
    clauses, count = ("A5-a", "A5-b", "A5-c", "A5-d"), float(len(extra))
    yield within(clauses, "keys not asked for", case.manifest.id, count, 0.0, note)


def apart(statistics: Mapping[str, Array], name: str, readings: Readings) -> dict[str, Array]:
    """Means and deviations of one map by statistic, whatever their grouping."""
    keys = keyed(vectors_of(np.ones((1, 1, 4, 4)), readings), name, readings)
    missing = [key for key in keys if key not in statistics]
    if missing:
        raise NotObservable(f"gives no vectors called {', '.join(missing)}")
    if readings.statistics_grouping == "by_statistic":
        return {
            key: statistics[f"{name}.{key}"] for key in vectors_of(np.ones((1, 1, 4, 4)), readings)
        }
    found = {"loc": statistics[f"{name}.loc"]}
    for size, key in (("", "global"), ("2", "patch2"), ("4", "patch4")):
        half = statistics[f"{name}.{key}"].shape[1] // 2
        found[f"mean{size}"] = statistics[f"{name}.{key}"][:, :half]
        found[f"std{size}"] = statistics[f"{name}.{key}"][:, half:]
    return found


def measure_identities(context: Context, case: VectorizeCase) -> Iterator[Measurement]:
    """PB-38: total mean and variance from the patches. Kills unbiased std, lost patches."""
    got, tolerance = context.vectorize(case), context.tolerance("identity")
    name, clause = case.manifest.id, "A5-identities"
    for each in case.maps:
        found = apart(got, each, context.readings)
        for size in ("2", "4"):
            means, stds = found[f"mean{size}"], found[f"std{size}"]
            total = means.mean(axis=1, keepdims=True)
            what = f"mean of means of {size}×{size} patches"
            yield compare(clause, what, name, total, found["mean"], tolerance)
            if context.readings.std != "population":
                continue
            spread = np.mean(stds**2, axis=1, keepdims=True) + means.var(axis=1, keepdims=True)
            what, whole = f"variance from {size}×{size} patches", found["std"] ** 2
            # Means of size R and deviations σ, each rounded by u, move a variance by 6uRσ + (uR)².
            rounding = loss_forms.UNIT[context.setting.dtype] * float(np.abs(means).max())
            extra = 6 * rounding * float(found["std"].max()) + rounding**2
            wide = replace(tolerance, atol=tolerance.atol + extra)
            yield compare(clause, what, name, spread, whole, wide)
        if case.maps[each].shape[2:] == (4, 4):
            for statistic in ("mean", "std"):
                what = f"{statistic} of the one 4×4 patch"
                one, all_ = found[f"{statistic}4"], found[statistic]
                yield compare(clause, what, name, one, all_, tolerance)


def draw_identities(draw: Draw) -> VectorizeCase:
    """Maps as drawn, and one of side 4."""
    case = loss_worlds.maps(draw)
    four = generator(draw).standard_normal((2, 3, 4, 4))
    return replace(case, maps={**case.maps, "four": four})


def measure_changes(context: Context, drawn: tuple[VectorizeCase, float]) -> Iterator[Measurement]:
    """PB-38: a shift moves means only, a factor scales all. Kills std about zero, absolute ones."""
    case, factor = drawn
    loss_forms.needs_single_precision(context, "the shift rounds the maps")
    before, tolerance = context.vectorize(case), context.tolerance("identity")
    shifted = {name: array + 1.5 for name, array in case.maps.items()}
    scaled = {name: array * factor for name, array in case.maps.items()}
    moved = context.vectorize(replace(case, maps=shifted))
    larger = context.vectorize(replace(case, maps=scaled))
    name = case.manifest.id
    for each in case.maps:
        first, second = (apart(item, each, context.readings) for item in (before, moved))
        third = apart(larger, each, context.readings)
        for key, array in first.items():
            by = 0.0 if key.startswith("std") else 1.5
            clause = clause_of(f"{each}.{key}")
            yield compare(clause, f"{key}, map shifted", name, second[key], array + by, tolerance)
            if context.readings.std != "population_eps" or not key.startswith("std"):
                what, expected = f"{key}, map scaled", factor * array
                yield compare(clause, what, name, third[key], expected, tolerance)


def draw_changes(draw: Draw) -> tuple[VectorizeCase, float]:
    """Maps and a factor from ½ to 4, a power of two or not."""
    return loss_worlds.maps(draw), draw.choice((2.0, 0.5, 3.0, 4.0))


def measure_x2(context: Context, case: VectorizeCase) -> Iterator[Measurement]:
    """PB-39: mean of x² by channel, even, quadratic, blind to order. Kills the root (D46)."""
    readings, patch, clause = context.readings, case.input_patch_size, "A5-x2"
    assert case.inputs is not None
    seen, tolerance = rounded(case.inputs, context.setting.dtype), context.tolerance("vectors")
    size = patch if readings.x2_input == "patchified" else 1
    # [B, patches, C0, p·p] → channels in the order (row, column, channel).
    square = np.mean(patches(seen, size) ** 2, axis=1)
    expected = np.moveaxis(square, 1, 2).reshape(len(seen), 1, -1)
    expected = np.sqrt(expected + 1e-6) if readings.x2_statistic == "rms" else expected

    def shown(inputs: Array) -> Array:
        return context.vectorize(replace(case, inputs=inputs)).get("input.x2", np.zeros(0))

    name, got = case.manifest.id, shown(case.inputs)
    yield compare(clause, "x²", name, got, expected, tolerance)
    yield compare(clause, "x² of −x", name, shown(-case.inputs), got, tolerance)
    if size == 1:
        turned = shown(case.inputs[:, :, ::-1, ::-1].copy())
        yield compare(clause, "x² of x in another order", name, turned, got, tolerance)
    if readings.x2_statistic == "mean_square":
        yield compare(clause, "x² of 2x", name, shown(2 * case.inputs), 4 * got, tolerance)


def draw_remainder(draw: Draw) -> VectorizeCase:
    """A map of odd sides."""
    rng, sides = generator(draw), (draw.choice((7, 5, 9)), draw.choice((7, 6, 11)))
    array = rng.standard_normal((2, draw.integer(1, 3), *sides))
    return VectorizeCase(Manifest(f"map {sides[0]}x{sides[1]}"), maps={"odd": array})


def measure_remainder(context: Context, case: VectorizeCase) -> Iterator[Measurement]:
    """P-15: patches that do not divide the map, as the readings say. Kills silent crops (D50)."""
    readings, name = context.readings, case.manifest.id
    clauses = ("A5-c", "A5-d")
    try:
        got = context.vectorize(case)
    except NotObservable:
        raise
    except Exception as refusal:
        if readings.patch_remainder != "error":
            raise
        yield within(clauses, "map that patches do not divide refused", name, 0.0, 0.0)
        del refusal
        return
    if readings.patch_remainder == "error":
        note = f"accepted, gives {', '.join(sorted(got))}"
        yield within(clauses, "map that patches do not divide refused", name, 1.0, 0.0, note)
        return
    (array,) = in_arithmetic(context, case.maps).values()
    found = keyed(vectors_of(array, readings), "odd", readings)
    tolerance = context.tolerance("vectors")
    for key, expected in found.items():
        size = int(key[-1]) if key[-1] in "24" else 1
        if readings.patch_remainder == "skip" and any(side % size for side in array.shape[2:]):
            note = "left out" if key not in got else "given, though patches do not divide the map"
            surplus = float(key in got)
            yield within(clause_of(key), "statistics left out", name, surplus, 0.0, note)
            continue
        what = f"{key.rpartition('.')[2]} of a map with a remainder"
        vectors = got.get(key, np.zeros(0))
        yield compare(clause_of(key), what, name, vectors, expected, tolerance)


def measure_gradient(context: Context, case: VectorizeCase) -> Iterator[Measurement]:
    """The gradient of all vectors' sum; finite for a constant map. Kills √0's infinite slope."""
    got, readings = (
        context.adapter.vectorize_gradient(case, context.readings, context.setting),
        (context.readings),
    )
    for name, array in in_arithmetic(context, case.maps).items():
        height, width = array.shape[2:]
        expected = np.ones_like(array)
        for rows, columns in ((height, width), (2, 2), (4, 4)):
            for h in range(0, height, rows):
                for w in range(0, width, columns):
                    window = (slice(None), slice(None), slice(h, h + rows), slice(w, w + columns))
                    expected[window] += _patch_slope(array[window], readings)
        what = "gradient of constant maps" if "constant" in name else "gradient of the vectors"
        tolerance = context.tolerance("identity")
        clauses = ("A5-b", "A5-c", "A5-d")
        yield compare(clauses, what, case.manifest.id, got[name], expected, tolerance)


def _patch_slope(patch: Array, readings: Readings) -> Array:
    """Gradient of mean + std of a patch [B, C, h, w]; that of the std is 0 where it is 0."""
    n = patch.shape[2] * patch.shape[3]
    centred = patch - patch.mean(axis=(2, 3), keepdims=True)
    flat = patch.reshape(*patch.shape[:2], 1, n)
    std = deviation(flat, readings)[..., None]
    divisor = std * (n - 1 if readings.std == "unbiased" else n)
    constant = np.ptp(flat, axis=-1)[..., None] == 0
    slope = np.divide(centred, divisor, out=np.zeros_like(centred), where=~constant)
    return 1 / n + slope


def draw_gradient(draw: Draw) -> VectorizeCase:
    """Maps as drawn, and a constant one."""
    case = loss_worlds.maps(draw)
    constant = np.full((1, 2, 4, 8), float(draw.integer(-3, 3)))
    return replace(case, maps={**case.maps, "constant": constant})


# Counts: a check on fixed maps, with one channel each, since only shapes matter


def count_vectors(context: Context) -> Iterator[Measurement]:
    """PB-37: n(H), the shape of every key, totals over the taps. Kills missing or extra vectors."""
    by_side: dict[int, int] = {}
    exact = context.spec.tolerance("count", "exact")
    for side in (4, 8, 16, 32):
        array = np.arange(2.0 * side * side).reshape(1, 2, side, side) / side**2
        name = f"map of side {side}"
        got = context.vectorize(VectorizeCase(Manifest(name), maps={"map": array}))
        by_side[side] = sum(vectors.shape[1] for vectors in got.values())
        closed = float(1.625 * side**2 + 2)
        yield compare("A5-count", f"n({side})", name, float(by_side[side]), closed, exact)
        for key, expected in keyed(
            vectors_of(array, context.readings), "map", context.readings
        ).items():
            shape = np.array(got[key].shape if key in got else (), dtype=np.float64)
            what = f"shape of {key.rpartition('.')[2]}"
            wanted = np.array(expected.shape, dtype=np.float64)
            yield compare(clause_of(key), what, name, shape, wanted, exact)
    for reading, (counts, total) in TAPS.items():
        found = sum(number * by_side[side] for side, number in counts.items())
        what = f"vectors of all maps, {reading}"
        yield compare("A5-total", what, str(counts), float(found), float(total), exact)


# The sum over features and the vanilla term


def part(case: FeatureCase, key: str) -> LossCase:
    """One feature of a feature case."""
    return LossCase(
        Manifest(f"{case.manifest.id}, {key}"),
        case.generated[key],
        case.positive[key],
        temperatures=case.temperatures,
    )


def measure_sum(context: Context, case: FeatureCase) -> Iterator[Measurement]:
    """EQ-14: features are added, each with S and λ of its own. Kills a mean (D44), one S."""
    seen, name = context.feature_loss(case), case.manifest.id
    tolerance, total = context.tolerance("identity"), 0.0
    for key in case.generated:
        one = part(case, key)
        alone = context.loss(one)
        total += alone.loss
        scale = loss_forms.feature_scale(context, one) / context.setting.upstream
        expected = loss_forms.drift_of(context.readings, one, alone.gradient, scale)
        gradient = seen.gradients.get(key, np.zeros(0))
        if gradient.shape != alone.gradient.shape:
            yield within("EQ-14", "gradient of a feature", name, np.inf, 0.0, f"none for {key}")
            continue
        got = loss_forms.drift_of(context.readings, one, gradient, scale)
        what = "gradient of a feature among others"
        yield compare(("EQ-14", "A6-sum-features"), what, name, got, expected, tolerance)
        if key in seen.terms:
            what = "loss of a feature among others"
            yield compare("EQ-14", what, name, seen.terms[key], alone.loss, tolerance)
    shown = seen.loss if seen.feature_loss is None else seen.feature_loss
    what = "loss of several features against their sum"
    yield compare(("A6-sum-features", "EQ-14"), what, name, shown, total, tolerance)
    yield compare("A6-sum-features", "total loss", name, seen.loss, total, tolerance)


def measure_feature_count(context: Context, case: FeatureCase) -> Iterator[Measurement]:
    """With one temperature the loss is the number of vectors of all features. Kills D43, D44."""
    expected = sum(
        loss_forms.one_temperature_loss(context.readings, part(case, key)) for key in case.generated
    )
    reached = loss_forms.in_range(context, case.temperatures)
    got = context.feature_loss(case.changed(temperatures=reached)).loss
    tolerance = context.tolerance("loss")
    clauses, what = "A5-sum", "loss of one temperature, all features"
    item = compare(clauses, what, case.manifest.id, got, expected, tolerance)
    # One feature's λ and error take part.
    yield whole(item, "reductions", ("A5-sum",))


def raw_part(case: FeatureCase) -> LossCase:
    """The raw samples, flattened: one vector of all their entries."""
    assert case.generated_samples is not None
    assert case.positive_samples is not None
    generated, positive = (
        array.reshape(*array.shape[:2], 1, -1)
        for array in (case.generated_samples, case.positive_samples)
    )
    manifest = Manifest(f"{case.manifest.id}, flattened")
    return LossCase(manifest, generated, positive, temperatures=case.temperatures)


def measure_vanilla(context: Context, case: FeatureCase) -> Iterator[Measurement]:
    """A5-vanilla: the flattened sample is one more feature. Kills a term left out, raw (D45)."""
    readings, clause, name = context.readings, "A5-vanilla", case.manifest.id
    seen, raw = context.feature_loss(case), raw_part(case)
    without = context.feature_loss(case.changed(generated_samples=None, positive_samples=None))
    tolerance = context.tolerance("identity")
    if readings.vanilla_term == "raw":
        # Distances and temperatures as they are.
        temperatures = np.array(raw.temperatures)[:, None, None]
        fields, count = loss_forms.fields_at(context, raw, temperatures), len(raw.temperatures)
        share = loss_forms.error_share(readings, raw)
        loss = share * float(np.sum(fields**2)) / count
        gradient = -2 * share * fields.sum(axis=0) / count
    else:
        alone = context.loss(raw)
        loss, gradient = alone.loss, alone.gradient / context.setting.upstream
    expected = case.raw_weight * loss
    what = "total less the loss of the features, over the weight"
    got = (seen.loss - without.loss) / case.raw_weight
    allowed = tolerance.rtol * (seen.loss + expected) / case.raw_weight + tolerance.atol
    yield within(clause, what, name, abs(got - loss), allowed)
    if seen.raw_loss is not None:
        yield compare(clause, "loss of the samples", name, seen.raw_loss, loss, tolerance)
    if seen.raw_gradient is not None:
        size = float(np.linalg.norm(gradient)) * case.raw_weight or 1.0
        shown = seen.raw_gradient.reshape(raw.generated.shape) / context.setting.upstream / size
        what = "gradient of the samples, in units of its length"
        wanted = case.raw_weight * gradient / size
        yield compare(clause, what, name, shown, wanted, tolerance)


def draw_vanilla(draw: Draw) -> FeatureCase:
    """Features with raw samples; moderate temperatures, so that raw distances are not one-hot."""
    temperatures = draw.choice(((0.2,), (0.2, 0.5), (0.5, 1.0)))
    return loss_worlds.with_samples(draw, loss_worlds.features(draw, temperatures))


def measure_constant_features(context: Context, case: FeatureCase) -> Iterator[Measurement]:
    """Constant features, moving samples: the loss still pulls at x. Kills a vanilla term off."""
    zeros = {key: np.zeros_like(array) for key, array in case.generated.items()}
    flat = {key: np.zeros_like(array) for key, array in case.positive.items()}
    seen = context.feature_loss(case.changed(generated=zeros, positive=flat))
    if seen.raw_gradient is None:
        raise NotObservable("the adapter does not show the gradient of the raw samples")
    what, size = "gradient of the samples, features constant", np.linalg.norm(seen.raw_gradient)
    yield at_least("A5-vanilla", what, case.manifest.id, float(size), 1e-6)


PROPERTIES: tuple[Property[Any], ...] = (
    Property(
        "vectors.closed_form",
        "location vectors, means and deviations of map and patches, row by row",
        ("A5-a", "A5-b", "A5-c", "A5-d"),
        loss_worlds.maps,
        measure_vectors,
        examples=10,
    ),
    Property(
        "vectors.identities",
        "total mean and variance follow from the patches'",
        ("A5-identities",),
        draw_identities,
        measure_identities,
        examples=10,
    ),
    Property(
        "vectors.shift_and_scale",
        "a shift of the map moves its means only, a factor scales all",
        ("A5-a", "A5-b", "A5-c", "A5-d"),
        draw_changes,
        measure_changes,
        examples=6,
    ),
    Property(
        "vectors.x2",
        "the x² vector is the mean square of the input, channel by channel",
        ("A5-x2",),
        lambda draw: loss_worlds.maps(draw, ("loc", "x2")),
        measure_x2,
        examples=10,
    ),
    Property(
        "vectors.remainder",
        "a map that the patches do not divide is treated as the readings say",
        ("A5-a", "A5-b", "A5-c", "A5-d"),
        draw_remainder,
        measure_remainder,
        examples=6,
    ),
    Property(
        "vectors.gradient",
        "the vectors' gradient, finite and zero for the deviation of a constant map",
        ("A5-b", "A5-c", "A5-d"),
        draw_gradient,
        measure_gradient,
        examples=5,
    ),
    Property(
        "features.sum",
        "the losses of the features are added, each with scales of its own",
        ("EQ-14", "A6-sum-features"),
        loss_worlds.features,
        measure_sum,
        examples=8,
    ),
    Property(
        "features.one_temperature",
        "with one temperature the loss is the number of vectors",
        ("A5-sum",),
        lambda draw: loss_worlds.features(draw, (draw.choice((0.2, 0.05)),)),
        measure_feature_count,
        applies=no_floors,
        examples=6,
    ),
    Property(
        "features.vanilla",
        "the flattened sample is one more feature",
        ("A5-vanilla",),
        draw_vanilla,
        measure_vanilla,
        examples=8,
    ),
    Property(
        "features.vanilla_alone",
        "with constant features the samples still receive a gradient",
        ("A5-vanilla",),
        draw_vanilla,
        measure_constant_features,
        examples=4,
    ),
)

CHECKS: tuple[Check, ...] = (
    Check(
        "vectors.count",
        "n(H) = 1.625H² + 2 vectors, and 4542, 5066 or 2876 over all taps",
        ("A5-count", "A5-total", "A5-a", "A5-b", "A5-c", "A5-d"),
        "property",
        lambda context: worst(count_vectors(context)),
    ),
)
