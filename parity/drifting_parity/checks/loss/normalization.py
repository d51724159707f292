"""Properties of A.6's normalisation: S, λ, the kernel on normalised features (PB-20…29, 48, 49).

Closed forms are those of :mod:`loss_forms`; the drift that λ normalises is taken from the
adapter's own Algorithm 2, so that a mistake there does not show here. Value and gradient
have :mod:`~drifting_parity.checks.loss.value`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from drifting_parity.adapters.base import NotObservable
from drifting_parity.cases import PAPER_TEMPERATURES, LossCase, LossObservation
from drifting_parity.checks.core import Context, Property
from drifting_parity.checks.loss import (
    closed_forms as loss_forms,
)
from drifting_parity.checks.loss import (
    worlds as loss_worlds,
)
from drifting_parity.checks.loss.closed_forms import (
    across,
    drift_of,
    feature_scale,
    observe,
    unit,
)
from drifting_parity.checks.loss.worlds import Shape
from drifting_parity.checks.predicates import keeps_root_of_channels, locations_apart, no_floors
from drifting_parity.draw import Draw, Rejected, generator
from drifting_parity.measure import Measurement, at_least, at_stage, compare, necessary, whole

SCALE = ("EQ-21", "A6-S")
Clauses = tuple[str, ...]


# S: EQ-18 to EQ-21


def scale_shown(
    context: Context, clauses: Clauses, case: LossCase, seen: LossObservation, what: str
) -> Iterator[Measurement]:
    """S against EQ-21: as shown, else as value and gradient imply it."""
    expected = feature_scale(context, case)
    if seen.feature_scale is not None:
        tolerance = loss_forms.statistics_tolerance(context, "feature_scale")
        item = compare(clauses, what, case.manifest.id, seen.feature_scale, expected, tolerance)
        yield replace(item, refutes=_but_divisions(clauses))
    elif expected.size == 1 and no_floors(context.readings) and len(case.temperatures) == 1:
        if not alone_is_right(context, case):
            raise NotObservable("value and gradient of one label and vector imply another S")
        implied = loss_forms.implied_scale(context.readings, case, seen)
        tolerance, note = context.tolerance("identity"), "from value and gradient"
        what = f"{what} implied"
        item = compare(clauses, what, case.manifest.id, implied, expected.item(), tolerance, note)
        yield replace(item, refutes=_but_divisions(clauses))


def _but_divisions(clauses: Clauses) -> Clauses:
    """The clauses that a wrong number S breaks: what is divided by it is so all the same."""
    return tuple(name for name in clauses if name not in {"EQ-18", "EQ-19"})


def alone_is_right(context: Context, case: LossCase) -> bool:
    """Whether the first label's first vector, without guidance, implies its own S.

    A wrong weight of the error or a wrong mean distance would else pass for a wrong scope.
    """
    alone = first_vector(case)
    implied = loss_forms.implied_scale(context.readings, alone, observe(context, alone))
    expected = feature_scale(context, alone).item()
    return compare("", "", "", implied, expected, context.tolerance("identity")).passed


def first_vector(case: LossCase) -> LossCase:
    """The first label's first vector, without guidance."""
    return case.changed(
        generated=case.generated[:1, :, :1],
        positive=case.positive[:1, :, :1],
        unconditional=None,
        unconditional_weight=None,
    )


def draw_scale(draw: Draw) -> tuple[Clauses, LossCase]:
    """One world for S: plain, labels of different spread, locations, weights far away."""
    kind = draw.choice(("plain", "labels", "locations", "weights"))
    one, two = (1, 1), (2, 2)
    if kind == "weights":
        case = loss_worlds.ordinary(
            draw, Shape(one, one), temperatures=(0.2,), unconditional=True, name=kind
        )
        far = None if case.unconditional is None else 4.0 * case.unconditional
        return ("A7-weight-in-scale",), case.changed(unconditional=far)
    if kind == "locations":
        case = loss_worlds.ordinary(draw, Shape(one, (2, 3)), temperatures=(0.2,), name=kind)
        units = np.array([1.0, 3.0, 0.5])[: case.generated.shape[2], None]
        scaled = case.changed(generated=case.generated * units, positive=case.positive * units)
        return ("A6-locshare",), scaled
    shape = Shape(two if kind == "labels" else one, one)
    case = loss_worlds.ordinary(draw, shape, temperatures=(0.2,), spreads=(1.0, 3.0), name=kind)
    if kind == "labels":
        return SCALE, case
    return ("EQ-21", "EQ-18", "EQ-19", "EQ-20"), case


def measure_scale(context: Context, drawn: tuple[Clauses, LossCase]) -> Iterator[Measurement]:
    """EQ-21 and EQ-20. Kills S without weights, per label, with the mask, without √C."""
    clauses, case = drawn
    kept = {
        "A7-weight-in-scale": case.unconditional is not None and context.takes("weights"),
        "A6-locshare": case.generated.shape[2] > 1,
        "A6-S": len(case.generated) > 1,
    }
    clauses = tuple(name for name in clauses if kept.get(name, True))
    if not clauses:
        raise NotObservable("the adapter takes no case of this kind")
    seen = observe(context, case)
    if seen.feature_scale is not None and clauses[0] in ("A7-weight-in-scale", "A6-locshare"):
        # A factor that S has without weights or locations, as √C, is no matter of theirs.
        factor = own_factor(context, case)
        seen = replace(seen, feature_scale=seen.feature_scale / factor)
    yield from scale_shown(context, clauses, case, seen, "feature scale")


def own_factor(context: Context, case: LossCase) -> float:
    """By how much S is off on one vector of one label without guidance; 1 where it is right."""
    plain = first_vector(case)
    fewer = plain.changed(positive=plain.positive[:, :-1]) if plain.positive.shape[1] > 1 else plain
    factors: list[float] = []
    for item in (plain, fewer):
        shown, expected = observe(context, item).feature_scale, feature_scale(context, item)
        assert shown is not None
        factors.append(float(shown.ravel()[0] / expected.ravel()[0]))
    if not np.isfinite(factors).all() or abs(factors[1] / factors[0] - 1) > 1e-6:
        raise NotObservable("S is wrong on one vector of one label without guidance")
    return 1.0 if abs(factors[0] - 1) < 1e-6 else factors[0]


def measure_self_pairs(context: Context, case: LossCase) -> Iterator[Measurement]:
    """PB-21: S with self pairs is (M−1)/M of S without. Kills self pairs counted by half."""
    ratio = 1 - 1 / (case.generated.shape[1] + case.positive.shape[1])
    scales: list[float] = []
    for choice in ("with", "without"):
        under = context.under(scale_self_pairs=choice, scale_samples="all")
        seen = observe(under, case)
        shown = seen.feature_scale
        implied = loss_forms.implied_scale(under.readings, case, seen)
        scales.append(implied if shown is None else float(shown.ravel()[0]))
    expected, tolerance = ratio * scales[1], context.tolerance("identity")
    what = "feature scale with self pairs"
    yield compare(SCALE, what, case.manifest.id, scales[0], expected, tolerance)


def draw_weights(draw: Draw) -> LossCase:
    """Unconditional samples, one label, one vector."""
    shape = Shape((1, 1), (1, 1))
    return loss_worlds.ordinary(draw, shape, temperatures=(0.2,), unconditional=True)


def measure_weights_in_scale(context: Context, case: LossCase) -> Iterator[Measurement]:
    """An integer weight in S is that many copies, weight 0 is absence (PB-36). Kills D36."""
    extra = case.unconditional
    assert extra is not None
    worlds = {
        "weight 3": (extra, np.full(extra.shape[:2], 3.0)),
        "three copies": (np.repeat(extra, 3, axis=1), np.ones((1, 3 * extra.shape[1]))),
        "weight 0": (extra, np.zeros(extra.shape[:2])),
        "absent": (None, None),
    }
    scales: dict[str, float] = {}
    for name, (samples, weight) in worlds.items():
        world = case.changed(unconditional=samples, unconditional_weight=weight)
        seen = observe(context, world)
        shown = seen.feature_scale
        implied = loss_forms.implied_scale(context.readings, world, seen)
        scales[name] = implied if shown is None else float(shown.ravel()[0])
    tolerance, clause = context.tolerance("identity"), "A7-weight-in-scale"
    for name, expected in (("weight 3", "three copies"), ("weight 0", "absent")):
        what = f"feature scale, {name} against {expected}"
        yield compare(clause, what, case.manifest.id, scales[name], scales[expected], tolerance)


def draw_shift(draw: Draw) -> tuple[LossCase, LossCase]:
    """A world, and the same moved by up to two spreads in every channel."""
    case = loss_worlds.ordinary(draw, temperatures=(0.2,))
    by = generator(draw).uniform(-2.0, 2.0, case.generated.shape[-1])
    return case, case.changed(generated=case.generated + by, positive=case.positive + by)


def measure_shift(context: Context, cases: tuple[LossCase, LossCase]) -> Iterator[Measurement]:
    """PB-28: distances, hence S, forget a common shift. Kills norms in place of distances."""
    loss_forms.needs_single_precision(context, "the shift rounds the features")
    before, after = (observe(context, case) for case in cases)
    tolerance, clauses, name = (
        context.tolerance("identity"),
        ("EQ-19", "EQ-21"),
        cases[0].manifest.id,
    )
    if before.feature_scale is not None and after.feature_scale is not None:
        shown, what = after.feature_scale, "feature scale, shifted"
        item = compare(clauses, what, name, shown, before.feature_scale, tolerance)
        yield necessary(at_stage(item, "scale"))
    first, second = (
        loss_forms.implied_scale(context.readings, cases[0], seen) for seen in (before, after)
    )
    what = "scale of value and gradient, shifted"
    item = compare(clauses, what, name, second, first, tolerance)
    yield necessary(at_stage(item, "scale"))


def draw_rotation(draw: Draw) -> tuple[LossCase, np.ndarray[Any, np.dtype[np.float64]]]:
    """A world with channels of unequal size, and an orthogonal mixing of its channels."""
    case = loss_worlds.ordinary(draw)
    channels = case.generated.shape[-1]
    mixing, _ = np.linalg.qr(generator(draw).standard_normal((channels, channels)))
    return case, mixing


def measure_rotation(
    context: Context, drawn: tuple[LossCase, np.ndarray[Any, np.dtype[np.float64]]]
) -> Iterator[Measurement]:
    """PB-29: channels may be mixed orthogonally. Kills a scale per channel (D38)."""
    loss_forms.needs_single_precision(context, "the mixing rounds the features")
    case, mixing = drawn
    mixed = case.changed(generated=case.generated @ mixing, positive=case.positive @ mixing)
    before, after = observe(context, case), observe(context, mixed)
    tolerance, name = context.tolerance("identity"), case.manifest.id
    clauses = ("EQ-18", "EQ-19")
    # One scalar of any size passes this: it proves nothing of S.
    item = compare(clauses, "loss, channels mixed", name, after.loss, before.loss, tolerance)
    yield necessary(at_stage(item, "scale"))
    # Gradients have the unit 1/φ and so no absolute floor: they are compared times the scale.
    scale = feature_scale(context, case)
    turned = drift_of(context.readings, case, before.gradient @ mixing, scale)
    got = drift_of(context.readings, case, after.gradient, scale)
    item = compare(clauses, "gradient, channels mixed", name, got, turned, tolerance)
    yield necessary(at_stage(item, "scale"))


# The kernel and λ on the adapter's own Algorithm 2: EQ-22 to EQ-25


def draw_guided(draw: Draw) -> LossCase:
    """An ordinary world of up to two labels and vectors, with or without unconditional samples."""
    temperatures = draw.choice((PAPER_TEMPERATURES, (0.2, 0.05), (0.05, 0.5)))
    guided = draw.choice((False, True))
    return loss_worlds.ordinary(draw, temperatures=temperatures, unconditional=guided)


def measure_own_field(context: Context, case: LossCase) -> Iterator[Measurement]:
    """A.6 on the adapter's own field: Ṽ = Σ V_τ/λ_τ. Kills √C out of τ, λ per label or summed.

    A gradient in another direction comes of another temperature, S, kernel, or of a target that is
    not frozen: :mod:`anatomy` tells them apart. λ is compared only where the direction is right,
    and up to a factor: its scope, since what weight the error has is not its matter.
    """
    readings, name = context.readings, case.manifest.id
    tolerance, scale = context.tolerance("identity"), feature_scale(context, case)
    fields = loss_forms.own_field(context, case, scale)
    lambdas = loss_forms.root_mean_square(fields, readings)
    normalized = fields / across(lambdas)
    seen = observe(context, case)
    kernel: Clauses = ("EQ-22", "A6-tau")
    right = True
    shared = ("A6-locshare",) if case.generated.shape[2] > 1 else ()
    for position, temperature in enumerate(case.temperatures):
        gradient = observe(context, case.changed(temperatures=(temperature,))).gradient
        got = loss_forms.block_directions(-gradient)
        expected = loss_forms.block_directions(fields[position])
        what = "direction of the drift, by label and vector"
        direction = compare(kernel, what, name, got, expected, tolerance)
        yield whole(direction, "temperature", kernel)
        right = right and direction.passed
        if direction.passed:
            got, expected = unit(-gradient * across(scale)), unit(normalized[position])
            what, scope = "normalised drift up to a factor", len(case.generated) > 1
            # Of one label and vector the direction says it already.
            clauses = (*(("A6-lambda",) if scope else ()), *shared)
            if clauses:
                item = compare(clauses, what, name, got, expected, tolerance)
                yield at_stage(item, "drift scale")
    if not right:
        return
    got, expected = unit(-seen.gradient * across(scale)), unit(normalized.sum(axis=0))
    what = "sum of normalised drifts up to a factor"
    yield at_stage(compare("EQ-A6tau", what, name, got, expected, tolerance), "aggregation")
    lambdas = lambdas / scale
    if seen.drift_scale is not None:
        yield compare("EQ-25", "drift scale", name, seen.drift_scale, lambdas, tolerance)
    if seen.drift_energy is not None:
        size = np.sqrt(np.abs(seen.drift_energy) / case.generated.shape[-1])
        yield compare("EQ-25", "root of drift energy over C", name, size, lambdas, tolerance)


def draw_collapsed(draw: Draw) -> tuple[Clauses, LossCase, LossCase]:
    """One of two labels, or one of two vectors, has no drift; and the world before that."""
    if draw.choice(("label", "vector")) == "label":
        return (("A6-lambda", "EQ-25"), *loss_worlds.collapsed_label(draw))
    return (("A6-locshare",), *loss_worlds.collapsed_vector(draw))


def measure_collapsed(
    context: Context, drawn: tuple[Clauses, LossCase, LossCase]
) -> Iterator[Measurement]:
    """λ of the batch makes the mean square 1 over *all* of it. Kills λ per label or location."""
    clauses, before_that, case = drawn
    groups = case.generated.shape[0] * case.generated.shape[2]
    axis = 0 if case.generated.shape[0] > 1 else 1
    alone = axis not in loss_forms.shared_axes(context.readings)
    expected = (groups - 1) / groups if alone else 1.0
    if groups < 2:
        raise NotObservable("the adapter takes one label and one vector at a time")
    loss, before = observe(context, case).loss, observe(context, before_that).loss
    what, ratio = "loss with a part that has no drift, over that before", loss / before
    item = compare(clauses, what, case.manifest.id, ratio, expected, context.tolerance("loss"))
    # Where the mean square was not one before either, it is not the scope that is wrong.
    yield _if_normalized(context, before_that, before, item)


def measure_small_drift(
    context: Context, drawn: tuple[LossCase, LossCase]
) -> Iterator[Measurement]:
    """A drift of any size has the mean square 1. Kills an absolute floor of λ (D66)."""
    mild, low = drawn
    before, small = (observe(context, case).loss for case in drawn)
    if small == 0:
        raise Rejected  # under a steeper kernel nothing is left of the drift
    what, tolerance = (
        "loss of a small drift, over that of an ordinary one",
        context.tolerance("loss"),
    )
    item = compare(("EQ-25",), what, low.manifest.id, small / before, 1.0, tolerance)
    # Where an ordinary drift has another mean square, its size is not what is wrong.
    yield _if_normalized(context, mild, before, item)


def _if_normalized(context: Context, case: LossCase, loss: float, item: Measurement) -> Measurement:
    """The measurement for its own clauses where the loss of the case before it is as λ makes it."""
    counted = loss_forms.one_temperature_loss(context.readings, case)
    normalized = compare("", "", "", loss, counted, context.tolerance("loss")).passed
    return item if normalized else whole(item, "drift scale", item.clauses)


# Units and channels: A6-tau


def draw_scaling(draw: Draw) -> tuple[LossCase, float, float]:
    """A world, and a factor as a power of two and a number from 1 to 2."""
    case = draw_guided(draw)
    return case, 2.0 ** draw.integer(-10, 10), draw.number(1.0, 2.0)


def measure_scaling(
    context: Context, drawn: tuple[LossCase, float, float]
) -> Iterator[Measurement]:
    """PB-27: φ → cφ leaves loss and Ṽ, S → cS, gradient → 1/c. Kills floors on S (D66), raw τ."""
    case, power, rest = drawn
    # In half precision only powers of two leave the features' digits as they are.
    exact = context.setting.dtype in {"float64", "float32"}
    factor = power * rest if exact else max(power, 2.0**-6)
    name = f"{case.manifest.id}, c={factor:.3g}"
    before, after = observe(context, case), observe(context, case.scaled(factor))
    tolerance, clauses = context.tolerance("identity"), ("A6-tau", "EQ-18")
    # Any S with the unit of the features passes this, and τ without √C.
    item = compare(clauses, "loss of cφ", name, after.loss, before.loss, tolerance)
    yield necessary(at_stage(item, "temperature"))
    scale = feature_scale(context, case)
    expected = drift_of(context.readings, case, before.gradient, scale)
    got = drift_of(context.readings, case, after.gradient * factor, scale)
    item = compare(clauses, "gradient of cφ, times c", name, got, expected, tolerance)
    yield necessary(at_stage(item, "temperature"))
    if before.feature_scale is not None and after.feature_scale is not None:
        small = after.feature_scale / factor
        what = "feature scale of cφ, over c"
        item = compare(("A6-tau", "EQ-21"), what, name, small, before.feature_scale, tolerance)
        yield necessary(at_stage(item, "scale"))


def measure_repeated_channels(context: Context, case: LossCase) -> Iterator[Measurement]:
    """PB-29: every channel twice leaves S and Ṽ. Kills √C out of τ̃ (D22)."""
    wide = case.changed(
        generated=np.repeat(case.generated, 2, axis=-1),
        positive=np.repeat(case.positive, 2, axis=-1),
    )
    before, after = observe(context, case), observe(context, wide)
    name, tolerance = case.manifest.id, context.tolerance("identity")
    got = loss_forms.block_directions(after.gradient[..., ::2])
    expected = loss_forms.block_directions(before.gradient)
    clauses, what = ("EQ-22", "A6-tau"), "direction, channels repeated"
    # √C may be missing in S as well as in the temperature.
    yield whole(compare(clauses, what, name, got, expected, tolerance), "temperature", clauses)
    one = (case.temperatures[0],)
    first = observe(context, case.changed(temperatures=one)).loss
    second = observe(context, wide.changed(temperatures=one)).loss
    wider = 2.0 if context.readings.channel_reduction == "sum" else 1.0
    what = "loss of one temperature, channels repeated"
    yield whole(compare("EQ-26", what, name, second, wider * first, tolerance), "reductions")
    what = "loss over that of one temperature, channels repeated"
    ratio = after.loss / second if second else np.inf
    item = compare("A6-tau", what, name, ratio, before.loss / first, tolerance)
    yield whole(item, "temperature", ("A6-tau",))
    if before.feature_scale is not None and after.feature_scale is not None:
        what, shown = "feature scale, channels repeated", after.feature_scale
        yield compare("EQ-21", what, name, shown, before.feature_scale, tolerance)


# Labels, locations, and no memory: A6-S, A6-locshare


def draw_two_worlds(draw: Draw) -> tuple[LossCase, LossCase]:
    """Two independent worlds, the second twenty times as large."""
    first = loss_worlds.ordinary(draw, temperatures=(0.2,))
    return first, loss_worlds.ordinary(draw, temperatures=(0.2,)).scaled(20.0)


def measure_memory(context: Context, cases: tuple[LossCase, LossCase]) -> Iterator[Measurement]:
    """The same call gives the same answer after another. Kills running averages (D31)."""
    case, other = cases
    before = observe(context, case)
    observe(context, other)
    after = observe(context, case)
    tolerance, name = context.tolerance("identity"), case.manifest.id
    clauses, scale = ("A6-S", "A6-lambda"), feature_scale(context, case)
    item = compare(clauses, "loss, asked again", name, after.loss, before.loss, tolerance)
    yield necessary(at_stage(item, "scale"))
    expected = drift_of(context.readings, case, before.gradient, scale)
    got = drift_of(context.readings, case, after.gradient, scale)
    item = compare(clauses, "gradient, asked again", name, got, expected, tolerance)
    yield necessary(at_stage(item, "scale"))


def draw_two_labels(draw: Draw) -> tuple[LossCase, LossCase]:
    """Two labels, and the same first label beside another second of the same total distance."""
    shape = Shape((2, 2), (1, 1))
    case = loss_worlds.ordinary(draw, shape, temperatures=(0.2,))
    generated, positive = case.generated.copy(), case.positive.copy()
    # Mirrored at its own mean, which is 0: the same distances, norms, angles and moments of every
    # channel, whatever the implementation measures, and other samples.
    centre = np.concatenate([generated[1], positive[1]]).mean(axis=0)
    generated[1], positive[1] = generated[1] - centre, positive[1] - centre
    case = case.changed(generated=generated.copy(), positive=positive.copy())
    generated[1], positive[1] = -generated[1, ::-1], -positive[1, ::-1]
    return case, case.changed(generated=generated, positive=positive)


def measure_labels(context: Context, cases: tuple[LossCase, LossCase]) -> Iterator[Measurement]:
    """PB-48: samples of another label act through S and λ only. Kills kernels across labels."""
    loss_forms.needs_single_precision(context, "mirroring rounds the features")
    case, other = cases
    before, after = observe(context, case), observe(context, other)
    scale = feature_scale(context, case)
    expected = drift_of(context.readings, case, before.gradient, scale)[0]
    got = drift_of(context.readings, case, after.gradient, scale)[0]
    clauses, tolerance = ("S3-neg-reuse", "S4-batch"), context.tolerance("identity")
    what = "drift of a label beside another"
    yield compare(clauses, what, case.manifest.id, got, expected, tolerance)


def draw_locations(draw: Draw) -> LossCase:
    """Two or three locations, four spreads apart, of coordinates whose squares are exact.

    So the order of the locations, which is all that changes, rounds squared distances of no code
    in another way, expanded ones (D18) in float32 included.
    """
    case = loss_worlds.ordinary(draw, Shape((1, 1), (2, 3)), temperatures=(0.2,))
    vectors, channels = case.generated.shape[2:]
    apart = 4.0 * np.sign(generator(draw).standard_normal(channels)) * np.arange(vectors)[:, None]
    generated, positive = (
        np.round(8.0 * (samples + apart)) / 8.0 for samples in (case.generated, case.positive)
    )
    return case.changed(generated=generated, positive=positive)


def measure_locations(context: Context, case: LossCase) -> Iterator[Measurement]:
    """PB-49: locations permute jointly, not those of x alone. Kills locations as samples (D41)."""
    name, tolerance, clause = case.manifest.id, context.tolerance("identity"), "A6-locshare"
    seen, scale = observe(context, case), feature_scale(context, case)
    flipped = case.changed(
        generated=case.generated[:, :, ::-1].copy(), positive=case.positive[:, :, ::-1].copy()
    )
    joint = observe(context, flipped)
    what = "loss, locations permuted jointly"
    yield compare(clause, what, name, joint.loss, seen.loss, tolerance)
    drift = drift_of(context.readings, case, seen.gradient, scale)
    got = drift_of(context.readings, case, joint.gradient[:, :, ::-1], scale)
    what = "gradient, locations permuted jointly"
    yield compare(clause, what, name, got, drift, tolerance)
    alone = observe(context, case.changed(generated=flipped.generated)).gradient[:, :, ::-1]
    change = np.linalg.norm(alone - seen.gradient) / np.linalg.norm(seen.gradient)
    what = "change of the gradient, locations of x alone permuted"
    yield at_least(clause, what, name, float(change), 0.1)


PROPERTIES: tuple[Property[Any], ...] = (
    Property(
        "loss.feature_scale",
        "S is the weighted mean distance over √C, shared by labels and locations",
        (*SCALE, "EQ-18", "EQ-19", "EQ-20", "A7-weight-in-scale", "A6-locshare"),
        draw_scale,
        measure_scale,
        examples=24,
        reads_drift=True,
    ),
    Property(
        "loss.self_pairs",
        "a sample's zero distance to itself counts in S: a factor (M−1)/M",
        SCALE,
        lambda draw: loss_worlds.ordinary(draw, Shape((1, 1), (1, 1)), temperatures=(0.2,)),
        measure_self_pairs,
        applies=no_floors,
        needs=("one temperature",),
        examples=8,
        reads_drift=True,
    ),
    Property(
        "loss.weights_in_scale",
        "in S an integer weight is that many copies, weight 0 is absence",
        ("A7-weight-in-scale",),
        draw_weights,
        measure_weights_in_scale,
        applies=no_floors,
        needs=("unconditional samples", "weights", "one temperature"),
        stage="weights",
        examples=8,
        reads_drift=True,
    ),
    Property(
        "loss.shift",
        "S forgets a common shift",
        ("EQ-19", "EQ-21"),
        draw_shift,
        measure_shift,
        examples=10,
        reads_drift=True,
    ),
    Property(
        "loss.channel_mixing",
        "channels may be mixed orthogonally: S is one number",
        ("EQ-18", "EQ-19"),
        draw_rotation,
        measure_rotation,
        examples=10,
        reads_drift=True,
    ),
    Property(
        "loss.own_field",
        "A.6 on the implementation's own Algorithm 2: temperature τ√C, one λ for each τ",
        ("EQ-22", "A6-tau", "EQ-25", "A6-lambda", "A6-locshare", "EQ-A6tau"),
        draw_guided,
        measure_own_field,
        applies=no_floors,
        examples=14,
        reads_drift=True,
    ),
    Property(
        "loss.collapsed_part",
        "λ makes the mean square 1 over the batch, parts without drift included",
        ("A6-lambda", "EQ-25", "A6-locshare"),
        draw_collapsed,
        measure_collapsed,
        applies=no_floors,
        examples=8,
        reads_drift=True,
    ),
    Property(
        "loss.small_drift",
        "a drift of any size has the mean square 1",
        ("EQ-25",),
        loss_worlds.small_drift,
        measure_small_drift,
        applies=no_floors,
        needs=("one temperature",),
        examples=6,
        reads_drift=True,
    ),
    Property(
        "loss.scale_invariance",
        "φ → cφ leaves loss and Ṽ, multiplies S by c, divides the gradient by c",
        ("A6-tau", "EQ-18", "EQ-21"),
        draw_scaling,
        measure_scaling,
        applies=no_floors,
        examples=12,
        reads_drift=True,
    ),
    Property(
        "loss.repeated_channels",
        "every channel twice leaves S, Ṽ and the loss",
        ("EQ-22", "A6-tau", "EQ-26", "EQ-21"),
        loss_worlds.ordinary,
        measure_repeated_channels,
        applies=keeps_root_of_channels,
        examples=8,
        reads_drift=True,
    ),
    Property(
        "loss.no_memory",
        "a call depends on its own batch only",
        ("A6-S", "A6-lambda"),
        draw_two_worlds,
        measure_memory,
        examples=6,
        reads_drift=True,
    ),
    Property(
        "loss.label_independence",
        "samples of another label act through S and λ only",
        ("S3-neg-reuse", "S4-batch"),
        draw_two_labels,
        measure_labels,
        examples=6,
        needs=("labels",),
        stage="labels",
        reads_drift=True,
    ),
    Property(
        "loss.locations",
        "kernels stay at their location: x's locations do not permute alone",
        ("A6-locshare",),
        draw_locations,
        measure_locations,
        needs=("vectors",),
        applies=locations_apart,
        examples=8,
        reads_drift=True,
    ),
)
