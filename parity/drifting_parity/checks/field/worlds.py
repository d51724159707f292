"""Worlds: generators of inputs for Algorithm 2, some of which know what the field must be.

Each takes a :class:`Draw` and returns a :class:`FieldCase`. Arrays come from a drawn seed, sizes
are drawn and small, so that a failing property shrinks to something that fits on paper.
"""

from __future__ import annotations

import numpy as np

from drifting_parity.cases import Array, FieldCase, Manifest
from drifting_parity.checks.field.closed_forms import distances
from drifting_parity.draw import Draw, generator


def _case(
    name: str,
    x: Array,
    positive: Array,
    negative: Array,
    temperature: float,
    *,
    mask_self: bool,
    negative_weight: Array | None = None,
) -> FieldCase:
    sizes = f"N={len(x)} P={len(positive)} M={len(negative)} C={x.shape[1]} T={temperature:.3g}"
    manifest = Manifest(f"{name} {sizes}")
    return FieldCase(manifest, x, positive, negative, temperature, mask_self, negative_weight)


def cloud(draw: Draw, *, mask_self: bool, channels: int | None = None) -> FieldCase:
    """Generic points: with the mask negatives = [x; up to 4 more], without 1 to 9 others, never N.

    T is between a quarter of and four times the median distance. Points lie within ±4.
    """
    count, positives = draw.integer(1, 8), draw.integer(1, 8)
    others = draw.integer(0, 4) if mask_self else draw.integer(1, 8)
    if mask_self and count == 1:
        others = max(others, 1)
    if not mask_self and others == count:
        # A mask that is inferred from M = N is left to the worlds made for it.
        others += 1
    width = channels or draw.integer(1, 6)
    random = generator(draw)
    x = random.normal(size=(count, width))
    positive = random.normal(size=(positives, width)) + 0.5
    negative = random.normal(size=(others, width)) - 0.25
    if mask_self:
        negative = np.concatenate([x, negative])
    median = float(np.median(distances(x, np.concatenate([positive, negative]))))
    temperature = 2.0 ** draw.integer(-2, 2) * max(median, 0.25)
    return _case("cloud", x, positive, negative, temperature, mask_self=mask_self)


def alone(draw: Draw) -> FieldCase:
    """N = 1: the only negative is the sample itself, so the field is 0."""
    case = cloud(draw, mask_self=False)
    return _case("alone", case.x[:1], case.positive, case.x[:1], case.temperature, mask_self=True)


def alone_with_others(draw: Draw) -> FieldCase:
    """N = 1 with further negatives: as if they were the only ones and nothing were masked."""
    case = cloud(draw, mask_self=False)
    negative = np.concatenate([case.x[:1], case.negative])
    return _case(
        "alone with others",
        case.x[:1],
        case.positive,
        negative,
        case.temperature,
        mask_self=True,
    )


def coinciding(draw: Draw) -> FieldCase:
    """Negatives are a permutation of the positives, duplicates included: the field is 0."""
    case = cloud(draw, mask_self=False)
    positive = np.concatenate([case.positive, case.positive[: draw.integer(0, 2)]])
    negative = positive[generator(draw).permutation(len(positive))]
    return _case("coinciding", case.x, positive, negative, case.temperature, mask_self=False)


def two_points(draw: Draw) -> FieldCase:
    """All positives at one place, all negatives at another (one of each at least)."""
    case = cloud(draw, mask_self=False)
    positive = np.repeat(case.positive[:1], len(case.positive), axis=0)
    negative = np.repeat(case.negative[:1], len(case.negative), axis=0)
    return _case("two points", case.x, positive, negative, case.temperature, mask_self=False)


def collapsed(draw: Draw, *, onto_positives: bool) -> FieldCase:
    """All generated samples at one place, perhaps that of all the positives."""
    case = cloud(draw, mask_self=False)
    count = draw.integer(2, 8)
    x = np.repeat(case.x[:1], count, axis=0)
    positive = np.repeat(x[:1], len(case.positive), axis=0) if onto_positives else case.positive
    return _case("collapsed", x, positive, x, case.temperature, mask_self=True)


def spokes(draw: Draw, *, nearest: float = 0.5, farthest: float = 4.0) -> FieldCase:
    """One sample at the origin, every target on an axis of its own.

    The field's entry on a target's axis is that target's weight times its radius, so that the
    weights W of ALG2-9 can be read off. Three positives and two to four negatives, radii between
    ``nearest`` and ``farthest`` times T, the positives' equally spaced.
    """
    positives, negatives = 3, draw.integer(2, 4)
    random = generator(draw)
    temperature = 2.0 ** draw.integer(-2, 1)
    step = round(16.0 * random.uniform(0.5, 1.0) * (farthest - nearest) / 3.0) / 16.0
    radii = nearest + step * np.arange(3)
    other = nearest + step * np.arange(negatives) * 0.5
    sizes = np.concatenate([radii, other]) * random.choice([-1.0, 1.0], size=3 + negatives)
    targets: Array = np.diag(np.asarray(sizes * temperature, dtype=np.float64))
    return _case(
        "spokes",
        np.zeros((1, positives + negatives)),
        targets[:positives],
        targets[positives:],
        temperature,
        mask_self=False,
    )


def far_shell(draw: Draw) -> FieldCase:
    """Targets on a shell around samples that lie within T of the origin; see :func:`at_depth`."""
    case = cloud(draw, mask_self=False)
    random = generator(draw)
    width = case.x.shape[1]

    def shell(count: int) -> Array:
        directions = random.normal(size=(count, width))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        return directions * (1.0 + random.uniform(0.0, 3.0, size=(count, 1)))

    x = random.uniform(-0.5, 0.5, size=case.x.shape) / np.sqrt(width)
    positive, negative = shell(len(case.positive)), shell(len(case.negative))
    return _case("far shell", x, positive, negative, 1.0, mask_self=False)


def at_depth(case: FieldCase, depth: float) -> FieldCase:
    """Every target pushed ``depth`` further from the origin."""

    def pushed(array: Array) -> Array:
        return array * (1.0 + depth / np.linalg.norm(array, axis=1, keepdims=True))

    return case.changed(positive=pushed(case.positive), negative=pushed(case.negative))


def far_positives(draw: Draw, gap: float) -> FieldCase:
    """Positives at least ``gap`` temperatures farther from every sample than its negatives."""
    case = cloud(draw, mask_self=False)
    width = float(np.max(distances(case.x, case.negative)))
    everywhere = np.concatenate([case.x, case.positive, case.negative])
    away = np.zeros(case.x.shape[1])
    away[0] = gap * case.temperature + width + 2.0 * float(np.max(np.abs(everywhere)))
    return case.changed(
        manifest=Manifest(case.manifest.id.replace("cloud", "far positives")),
        positive=case.positive + 2.0 * away,
    )


def hot(draw: Draw, *, extra: bool = False) -> FieldCase:
    """τ→∞: points within 1/8 of each other's origin at T = 512, the mask of 1e6 still infinite.

    With ``extra`` one to four further negatives follow the generated samples.
    """
    count, positives = draw.integer(2, 8), draw.integer(1, 8)
    others = draw.integer(1, 4) if extra else 0
    width = draw.integer(2, 6)
    random = generator(draw)
    x = random.uniform(-0.125, 0.125, size=(count, width))
    positive = random.uniform(-0.125, 0.125, size=(positives, width)) + 0.25
    others_at = random.uniform(-0.125, 0.125, size=(others, width)) - 0.25
    negative = np.concatenate([x, others_at])
    return _case("hot", x, positive, negative, 512.0, mask_self=True)


def cold(draw: Draw) -> FieldCase:
    """τ→0: T is a 64th of the spread, so that nearly every softmax picks one target."""
    case = cloud(draw, mask_self=False)
    return _case("cold", case.x, case.positive, case.negative, 2.0**-5, mask_self=False)


def crowd(draw: Draw) -> FieldCase:
    """26 to 32 samples: so many that libraries change their way of computing distances."""
    count, width = draw.integer(26, 32), draw.integer(3, 6)
    random = generator(draw)
    x = random.normal(size=(count, width))
    positive = random.normal(size=(count, width)) + 0.5
    temperature = 0.5 * float(np.median(distances(x, positive)))
    return _case("crowd", x, positive, x, temperature, mask_self=True)


def moved(case: FieldCase, offset: float) -> FieldCase:
    """Every point shifted by ``offset`` in every channel."""
    return case.changed(
        x=case.x + offset, positive=case.positive + offset, negative=case.negative + offset
    )


def repeated(case: FieldCase, *, samples: int = 1, targets: int = 1) -> FieldCase:
    """Every sample, or every target, several times over; without the mask."""
    return case.changed(
        x=np.tile(case.x, (samples, 1)),
        positive=np.tile(case.positive, (targets, 1)),
        negative=np.tile(case.negative, (targets, 1)),
    )
