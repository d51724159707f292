"""Comparisons with the reference: drawn cases, value and gradient, under every single reading.

Under the readings asked for, under each other reading on its own, and under the presets
``release`` and ``seed``. Where the reference itself is judged these prove nothing and are shown
so. The worlds of an axis are such that its readings differ on them.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from drifting_parity.adapters.base import NotObservable
from drifting_parity.cases import (
    PAPER_TEMPERATURES,
    FeatureCase,
    FieldCase,
    LossCase,
    Manifest,
    VectorizeCase,
)
from drifting_parity.checks.core import Check, Context, Yield, worst
from drifting_parity.checks.field.closed_forms import as_whole
from drifting_parity.checks.loss import closed_forms as loss_forms
from drifting_parity.checks.loss import worlds as loss_worlds
from drifting_parity.checks.loss.worlds import Shape
from drifting_parity.draw import Draw, RandomDraw, Rejected, generator
from drifting_parity.measure import WHOLE, Measurement, compare, whole
from drifting_spec import AXES, FIELD_AXES, PRESETS, Readings, ReadingsError
from drifting_spec.registry import Tolerance, load

Clauses = tuple[str, ...]
AnyCase = FieldCase | LossCase | FeatureCase | VectorizeCase
World = Callable[[Draw], AnyCase]


SPOKEN_FOR: dict[str, Clauses] = {
    "feature_scale": ("EQ-21", "A6-S"),
    "drift_scale": ("EQ-25", "A6-lambda"),
    "drift_energy": ("EQ-25", "A6-lambda"),
}
"""The clauses that a shown statistic speaks for, whatever the check is about."""

STATISTICS: Clauses = ("EQ-21", "A6-S", "EQ-25", "A6-lambda")

OF_FEATURES: Clauses = ("EQ-14", "A6-sum-features")
"""Those of the loss over many features as a whole."""


# One case


def compare_field(context: Context, case: FieldCase, clauses: Clauses) -> Iterator[Measurement]:
    """V of Algorithm 2."""
    got, expected = context.field(case), context.expected_field(case)
    tolerance = context.tolerance("field")
    item = compare(clauses, "field", case.manifest.id, got, expected, tolerance)
    yield as_whole(item, case)


def _tolerance(context: Context, quantity: str, case: LossCase) -> Tolerance:
    # Samples that coincide or nearly do have a tolerance of their own in some dtypes.
    own = f"{quantity}_{case.manifest.conditioning}"
    known = f"{own}.{context.setting.dtype}" in context.spec.tolerances
    return loss_forms.loss_tolerance(context, own if known else quantity)


def shown_by(case: LossCase, clauses: Clauses) -> Clauses:
    """The clauses less those of a scope that the case has not: one label or one vector."""
    labels, _, vectors, _ = case.generated.shape
    without = (("A6-S", "A6-lambda") if labels == 1 else ()) + (
        ("A6-locshare",) if vectors == 1 else ()
    )
    return tuple(name for name in clauses if name not in without)


def compare_loss(context: Context, case: LossCase, clauses: Clauses) -> Iterator[Measurement]:
    """Loss, gradient, and what else is shown, of one feature."""
    case = case.changed(temperatures=loss_forms.in_range(context, case.temperatures))
    got, expected = context.loss(case), context.expected_loss(case)
    name, loss = case.manifest.id, _tolerance(context, "loss", case)
    if got.feature_scale is not None and got.drift_scale is not None:
        clauses = tuple(each for each in clauses if each not in STATISTICS) or WHOLE
    clauses = shown_by(case, clauses)
    if context.capabilities.temperatures == PAPER_TEMPERATURES:
        clauses = (*clauses, "A6-taus")
    gradient = _tolerance(context, "gradient", case)
    # A value says nothing of the factor 1/S that the gradient carries.
    by_value = tuple(clause for clause in clauses if clause != "A6-mse")
    for what, proven, shown, wanted, tolerance in (
        ("loss", by_value, got.loss, expected.loss, loss),
        ("gradient", clauses, got.gradient, expected.gradient, gradient),
        ("loss per label", by_value, got.per_label, expected.per_label, loss),
    ):
        if shown is not None and wanted is not None:
            yield whole(compare(proven, what, name, shown, wanted, tolerance), "gradient")
    for quantity in ("feature_scale", "drift_scale", "drift_energy"):
        shown, wanted = getattr(got, quantity), getattr(expected, quantity)
        if shown is not None and wanted is not None:
            tolerance = loss_forms.statistics_tolerance(context, quantity)
            if quantity == "feature_scale" and case.manifest.conditioning == "coincident":
                tolerance = loss_forms.by_expanded_squares(context, tolerance)
            what, spoken_for = quantity.replace("_", " "), SPOKEN_FOR[quantity]
            item = compare(spoken_for, what, name, shown, wanted, tolerance)
            # λ has every mistake of field, S and temperature in it.
            yield item if quantity == "feature_scale" else whole(item, "drift scale", spoken_for)


def compare_features(
    context: Context, case: FeatureCase, clauses: Clauses
) -> Iterator[Measurement]:
    """Loss over features and the gradient of each, with the vanilla term if it is on."""
    case = case.changed(temperatures=loss_forms.in_range(context, case.temperatures))
    got, expected = context.feature_loss(case), context.expected_feature_loss(case)
    loss, gradient = context.tolerance("loss"), context.tolerance("gradient")
    name = case.manifest.id
    item = compare(clauses, "loss over features", name, got.loss, expected.loss, loss)
    yield whole(item, "reductions", OF_FEATURES)
    for key, wanted in expected.gradients.items():
        shown, what = got.gradients.get(key, np.zeros(0)), "gradient of a feature"
        item = compare(clauses, what, f"{name}, {key}", shown, wanted, gradient)
        yield whole(item, "reductions", OF_FEATURES)
    for what, shown, wanted in (
        ("loss of the features alone", got.feature_loss, expected.feature_loss),
        ("loss of the samples", got.raw_loss, expected.raw_loss),
    ):
        if shown is not None and wanted is not None:
            item = compare(clauses, what, name, shown, wanted, loss)
            yield whole(item, "reductions", OF_FEATURES)
    if got.raw_gradient is not None and expected.raw_gradient is not None:
        shown, wanted = got.raw_gradient, expected.raw_gradient
        item = compare(clauses, "gradient of the samples", name, shown, wanted, gradient)
        yield whole(item, "vanilla term", ("A5-vanilla",))


def compare_vectors(
    context: Context, case: VectorizeCase, clauses: Clauses
) -> Iterator[Measurement]:
    """Every vector, and no other keys than the reference gives."""
    got, expected = context.vectorize(case), context.expected_vectors(case)
    tolerance = context.tolerance("vectors")
    for key in sorted(set(got) | set(expected)):
        none = np.zeros(0)
        shown, wanted = got.get(key, none), expected.get(key, none)
        yield compare(clauses, key.rpartition(".")[2], case.manifest.id, shown, wanted, tolerance)


def compare_case(context: Context, case: AnyCase, clauses: Clauses) -> Iterator[Measurement]:
    """Everything that the adapter shows of one case, against the reference.

    A clause about the field is spoken for by the field, where it is shown, not by the loss.
    """
    if isinstance(case, FieldCase):
        yield from compare_field(context, case, clauses)
    elif isinstance(case, LossCase):
        about_field = {clause for axis in FIELD_AXES for clause in load().axes[axis].clauses}
        if context.offers_field and about_field.issuperset(clauses):
            clauses = WHOLE
        yield from compare_loss(context, case, clauses)
    elif isinstance(case, FeatureCase):
        yield from compare_features(context, case, clauses)
    else:
        yield from compare_vectors(context, case, clauses)


# Worlds


def guided_field(draw: Draw, temperature: float = 0.2) -> FieldCase:
    """Algorithm 2 on one label of a guided world, temperature in units of the mean distance."""
    case = loss_worlds.ordinary(
        draw, Shape((1, 1), (1, 1)), temperatures=(temperature,), unconditional=True
    )
    assert case.unconditional is not None
    assert case.unconditional_weight is not None
    x = case.generated[0, :, 0]
    return FieldCase(
        Manifest(f"field of {case.manifest.id}"),
        x,
        case.positive[0, :, 0],
        np.concatenate([x, case.unconditional[0, :, 0]]),
        temperature * float(np.sqrt(2 * x.shape[-1])),
        negative_weight=np.concatenate([np.ones(len(x)), case.unconditional_weight[0]]),
    )


def guided_loss(draw: Draw, temperatures: Sequence[float] = (0.05, 0.2)) -> LossCase:
    """Two labels of different spread, two vectors, unconditional samples with weights."""
    shape = Shape((2, 2), (2, 2), (4, 5), (8, 9))
    return loss_worlds.ordinary(draw, shape, temperatures=temperatures, unconditional=True)


def weighted_loss(draw: Draw) -> LossCase:
    """Weights on positives and generated samples too, at the paper's temperatures."""
    case = loss_worlds.ordinary(draw, unconditional=True)
    rng, labels = generator(draw), case.generated.shape[0]
    return loss_worlds.labelled(
        case.changed(
            generated_weight=rng.integers(2, 9, (labels, case.generated.shape[1])) / 4,
            positive_weight=rng.integers(2, 9, (labels, case.positive.shape[1])) / 4,
        ),
        "all samples weighted",
    )


def tiny_loss(draw: Draw, factor: float = 2.0**-12) -> LossCase:
    """Features so small that floors act: S around 3e-4, or around 1e-9 for 2⁻³⁰."""
    case = guided_loss(draw, (0.2, 0.5)).scaled(factor)
    return loss_worlds.labelled(case, f"tiny({factor:.0e})")


def features_with_samples(draw: Draw) -> FeatureCase:
    """Features and raw samples, at temperatures that suit raw distances as well."""
    return loss_worlds.with_samples(draw, loss_worlds.features(draw, (0.5, 1.0)))


def flat_maps(draw: Draw) -> VectorizeCase:
    """Maps one of which has constant patches."""
    case = loss_worlds.maps(draw)
    first = case.maps["one"].copy()
    first[:, :, :4, :4] = 1.0
    return VectorizeCase(Manifest(f"{case.manifest.id}, a patch constant"), maps={"one": first})


def odd_map(draw: Draw) -> VectorizeCase:
    """A map that 2×2 patches do not divide, and one that only 4×4 do not."""
    rng, channels = generator(draw), draw.integer(1, 3)
    shapes = {"seven": (7, 7), "six": (6, 10)}
    maps = {name: rng.standard_normal((2, channels, *shape)) for name, shape in shapes.items()}
    return VectorizeCase(Manifest(f"maps 7x7 and 6x10, C={channels}"), maps=maps)


def input_maps(draw: Draw) -> VectorizeCase:
    """A map and an encoder input of 8x12, cut into 2×2 patches where it is patchified."""
    case = loss_worlds.maps(draw, ("loc", "x2"))
    return VectorizeCase(
        Manifest("inputs 3x8x12, patch 2"), case.maps, case.inputs, case.statistics, 2
    )


WORLDS: dict[str, tuple[World, ...]] = {
    # At the mean distance's own temperature the 100 of add_100 shows.
    "self_mask": (
        partial(guided_field, temperature=5.0),
        partial(guided_loss, temperatures=(5, 20)),
    ),
    "affinity_floor": (
        partial(guided_field, temperature=0.05),
        partial(guided_loss, temperatures=(0.02, 0.05)),
    ),
    "floors": (guided_loss, tiny_loss, partial(tiny_loss, factor=2.0**-30)),
    "temperature_scaling": (partial(guided_loss, temperatures=(0.2, 0.5)),),
    "statistics_grouping": (loss_worlds.maps,),
    "vanilla_term": (features_with_samples,),
    "x2_statistic": (input_maps,),
    "x2_input": (input_maps,),
    "std": (flat_maps,),
    "patch_remainder": (odd_map,),
}
"""Worlds of the axes that need their own; the others show on guided ones. ``taps`` has none: it
needs an encoder."""


def worlds_of(axis: str) -> tuple[World, ...]:
    """The worlds on which the readings of an axis differ."""
    if axis in WORLDS:
        return WORLDS[axis]
    return (guided_field, guided_loss) if axis in FIELD_AXES else (guided_loss,)


# Checks


def cases_of(context: Context, stream: str, world: World, count: int) -> Iterator[AnyCase]:
    """``count`` accepted cases of a world, from a stream of the context's seed.

    What the adapter does not take is replaced by the nearest that it takes.
    """
    capabilities = context.capabilities
    source = RandomDraw(context.seed * 2**32 + zlib.crc32(stream.encode()))
    accepted = 0
    for _ in range(50 * count):
        try:
            case = capabilities.fitted(world(source))
        except Rejected:
            continue
        yield capabilities.fitted_field(case) if isinstance(case, FieldCase) else case
        accepted += 1
        if accepted == count:
            return
    if context.capabilities.refused:
        raise NotObservable("no case that the adapter takes serves this")
    raise RuntimeError(f"{stream} accepted {accepted} of {50 * count} drawn cases")


def measure_under(
    contexts: Sequence[Callable[[], Context]],
    stream: str,
    worlds: Sequence[World],
    count: int,
    clauses: Clauses,
) -> Iterator[Yield]:
    """Compare under each context on each world; not observable only if nothing was.

    The first context is that of the readings asked for. Where a loss agrees under them and not
    under another reading, it is that reading which is wrong, and not the loss as a whole.
    """
    measured = agrees = False
    answer = NotObservable("no reading to compare under")
    for position, make in enumerate(contexts):
        found: list[Measurement] = []
        for number, world in enumerate(worlds):
            try:
                context = make()
                for case in cases_of(context, f"{stream} {position} {number}", world, count):
                    found.extend(compare_case(context, case, clauses))
            except NotObservable as reason:
                answer = reason
        measured = measured or bool(found)
        if position == 0:
            agrees = bool(found) and all(item.passed for item in found)
        elif agrees:
            found = [
                replace(item, end_to_end=False, refutes=item.clauses) if not item.passed else item
                for item in found
            ]
        yield from worst(found)
    if not measured:
        raise answer


def compare_asked(
    context: Context, *, stream: str, worlds: Sequence[World], clauses: Clauses, count: int
) -> Iterator[Yield]:
    """Compare under the readings asked for."""
    number = max(2, count // 4) if context.quick else count
    yield from measure_under([lambda: context], stream, worlds, number, clauses)


def compare_axis(context: Context, *, axis: str) -> Iterator[Yield]:
    """Compare under every reading of an axis, the one asked for first.

    patch_remainder=error is left to ``vectors.remainder``: it gives no vectors.
    """
    asked = getattr(context.readings, axis)
    readings = [asked, *(reading for reading in AXES[axis] if reading != asked)]
    chosen = [one for one in readings if (axis, one) != ("patch_remainder", "error")]

    def under(reading: str) -> Context:
        return context.with_readings(context.readings.with_reading(axis, reading))

    contexts = [partial(under, reading) for reading in chosen]
    clauses, count = load().axes[axis].clauses, 1 if context.quick else 2
    worlds = [partial(_showing, context, axis, world) for world in worlds_of(axis)]
    yield from measure_under(contexts, f"comparison.{axis}", worlds, count, clauses)


def _showing(context: Context, axis: str, world: World, draw: Draw) -> AnyCase:
    """A case of the world on which the axis shows, as far as the adapter takes it."""
    case = context.capabilities.fitted(world(draw))
    if isinstance(case, FieldCase):
        case = context.capabilities.fitted_field(case)
    traits = case.traits()
    # Some axes are moot under the reading asked for of another: any that shows will do.
    forms = {dict(one.canonical(traits))[axis] for one in _readings_of(context.readings, axis)}
    if len(forms) < 2:
        raise NotObservable(f"{axis.replace('_', ' ')} shows on no case that the adapter takes")
    return case


def _readings_of(readings: Readings, axis: str) -> Iterator[Readings]:
    for reading in AXES[axis]:
        try:
            yield readings.with_reading(axis, reading)
        except ReadingsError:
            continue


def compare_preset(context: Context, *, readings: Readings, stream: str) -> Iterator[Yield]:
    """Compare under a preset, at every level."""
    levels: tuple[tuple[Clauses, tuple[World, ...]], ...] = (
        (WHOLE, (guided_loss, tiny_loss, partial(tiny_loss, factor=2.0**-30))),
        (("EQ-14",), (features_with_samples,)),
        (("A5-a", "A5-b", "A5-c", "A5-d"), (loss_worlds.maps,)),
    )
    answer, measured, count = NotObservable(""), False, 1 if context.quick else 2
    for clauses, worlds in levels:
        contexts = [partial(context.with_readings, readings)]
        try:
            for item in measure_under(contexts, stream, worlds, count, clauses):
                measured = True
                yield item
        except NotObservable as reason:
            answer = reason
    if not measured:
        raise answer


def _asked(
    identifier: str, title: str, clauses: Clauses, worlds: Sequence[World], count: int
) -> Check:
    run = partial(
        compare_asked, stream=identifier, worlds=tuple(worlds), clauses=clauses, count=count
    )
    return Check(identifier, title, clauses, "comparison", run, independent=False)


def _axis(axis: str) -> Check:
    readings = f"under every reading of {axis.replace('_', ' ')}"
    run = partial(compare_axis, axis=axis)
    clauses = load().axes[axis].clauses
    if guided_loss in worlds_of(axis) or axis in {*FIELD_AXES, "floors", "temperature_scaling"}:
        clauses = (*clauses, *(each for each in (*WHOLE, *STATISTICS) if each not in clauses))
    identifier = f"comparison.{axis}"
    return Check(identifier, readings, clauses, "comparison", run, independent=False)


def _preset(name: str) -> Check:
    clauses = (*WHOLE, *STATISTICS, "EQ-14", "A5-a", "A5-b", "A5-c", "A5-d")
    identifier = f"comparison.{name}"
    run = partial(compare_preset, readings=PRESETS[name], stream=identifier)
    title = f"under the readings of {name}"
    return Check(identifier, title, clauses, "comparison", run, independent=False)


PAPER_FIELD = partial(guided_field, temperature=0.05)
COINCIDENT = (
    partial(loss_worlds.generated_among_positives, temperatures=(0.02, 0.2)),
    partial(loss_worlds.duplicated, temperatures=(0.02, 0.2)),
    partial(loss_worlds.generated_equal, temperatures=(0.1, 0.5)),
)

CHECKS: tuple[Check, ...] = (
    _asked("comparison.field", "Algorithm 2 on drawn cases", ("ALG2-10",), (PAPER_FIELD,), 12),
    _asked(
        "comparison.loss",
        "loss and gradient of one feature on drawn cases",
        (*WHOLE, *STATISTICS, "A6-taus"),
        (loss_worlds.ordinary, weighted_loss),
        12,
    ),
    _asked(
        "comparison.coincident",
        "loss and gradient where samples coincide",
        (*WHOLE, *STATISTICS),
        COINCIDENT,
        4,
    ),
    _asked(
        "comparison.features",
        "loss over features, and the vanilla term",
        ("EQ-14", "A6-sum-features"),
        (loss_worlds.features, features_with_samples),
        4,
    ),
    _asked(
        "comparison.vectors",
        "vectors of drawn maps and inputs",
        ("A5-a", "A5-b", "A5-c", "A5-d"),
        (loss_worlds.maps,),
        6,
    ),
    *(_axis(axis) for axis in AXES if axis != "taps"),
    _preset("release"),
    _preset("seed"),
)
