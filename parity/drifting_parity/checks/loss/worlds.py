"""Worlds for the loss: drawn cases of A.6 and A.5, some of which know their answer.

*Ordinary* worlds are well conditioned by construction: eight or more channels of Gaussian
features, at least four generated samples and positives, no pair much closer than the others.
What falls outside is rejected, so that the flat tolerances of the spec hold for every draw.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import root_scalar

from drifting_parity.cases import (
    PAPER_TEMPERATURES,
    Array,
    Conditioning,
    FeatureCase,
    LossCase,
    Manifest,
    VectorizeCase,
)
from drifting_parity.checks.loss.closed_forms import plain_field, targets
from drifting_parity.draw import Draw, Rejected, generator

CLOSEST = 0.35
"""The least distance of two samples of an ordinary world, in units of their mean distance."""

LEAST_CONDITION = 0.02
"""The least λ of an ordinary world, in units of RMS(mass × spread): what cancels in its drift."""


@dataclass(frozen=True)
class Shape:
    """Ranges that an ordinary world's sizes are drawn from, both ends included."""

    labels: tuple[int, int] = (1, 2)
    vectors: tuple[int, int] = (1, 2)
    samples: tuple[int, int] = (4, 6)
    channels: tuple[int, int] = (8, 12)


def reject_ill_conditioned(case: LossCase) -> None:
    """Raise :class:`Rejected` for a pair much closer than the mean, or a drift that cancels."""
    y, _ = targets(case)
    labels, n, vectors, _ = case.generated.shape
    p = case.positive.shape[1]
    for label, v in np.ndindex(labels, vectors):
        x, to = case.generated[label, :, v], y[label, :, v]
        distance = np.sqrt(np.sum((x[:, None] - to[None]) ** 2, axis=-1))
        mean = distance.mean()
        distance[np.arange(n), p + np.arange(n)] = np.inf
        if distance.min() < CLOSEST * mean:
            raise Rejected
        spread = np.sqrt(np.mean((to - to.mean(axis=0)) ** 2))
        for temperature in case.temperatures:
            field, mass = plain_field(x, to[:p], temperature * mean)
            size = np.sqrt(np.mean(field**2))
            if size < LEAST_CONDITION * spread * np.sqrt(np.mean(mass**2)):
                raise Rejected


def ordinary(
    draw: Draw,
    shape: Shape | None = None,
    *,
    temperatures: Sequence[float] = PAPER_TEMPERATURES,
    unconditional: bool = False,
    spreads: tuple[float, float] = (1.0, 1.5),
    name: str = "ordinary",
) -> LossCase:
    """A well-conditioned world; labels alternate between the two ``spreads``.

    With ``unconditional`` two or three unconditional samples have weights between ¼ and 3.
    """
    shape = shape or Shape()
    rng = generator(draw)
    labels, vectors = draw.integer(*shape.labels), draw.integer(*shape.vectors)
    n, p, channels = (
        draw.integer(*shape.samples),
        draw.integer(*shape.samples),
        draw.integer(*shape.channels),
    )
    u = draw.integer(2, 3) if unconditional else 0
    spread = np.array(spreads)[np.arange(labels) % 2][:, None, None, None]

    def samples(count: int, shift: float) -> Array:
        drawn = rng.standard_normal((labels, count, vectors, channels))
        return spread * (drawn + shift * centre)

    centre = rng.standard_normal((labels, 1, vectors, channels))
    sizes = f"L={labels} N={n} P={p} U={u} V={vectors} C={channels}"
    case = LossCase(
        Manifest(f"{name} {sizes}", exercises="ordinary features"),
        generated=samples(n, 0.0),
        positive=samples(p, 0.4),
        unconditional=samples(u, -0.4) if u else None,
        unconditional_weight=rng.integers(1, 13, (labels, u)) / 4 if u else None,
        temperatures=tuple(temperatures),
    )
    reject_ill_conditioned(case)
    return case


def labelled(case: LossCase, name: str, conditioning: Conditioning = "ordinary") -> LossCase:
    """The same case under another name."""
    sizes = case.manifest.id.partition(" ")[2]
    return case.changed(manifest=Manifest(f"{name} {sizes}", conditioning=conditioning))


def generated_equal(draw: Draw, temperatures: Sequence[float]) -> LossCase:
    """All generated samples of a label and vector are one point: a zero-initialised generator.

    Every row of the drift is the same then.
    """
    case = ordinary(draw, temperatures=temperatures)
    equal = np.broadcast_to(case.generated[:, :1], case.generated.shape).copy()
    return labelled(case.changed(generated=equal), "generated samples all equal", "coincident")


def generated_among_positives(draw: Draw, temperatures: Sequence[float]) -> LossCase:
    """The generated samples are a permutation of the positives."""
    case = ordinary(draw, temperatures=temperatures)
    order = generator(draw).permutation(case.positive.shape[1])
    copies = case.positive[:, order].copy()
    return labelled(case.changed(generated=copies), "generated equal positives", "coincident")


def duplicated(draw: Draw, temperatures: Sequence[float]) -> LossCase:
    """A generated sample and a positive stand twice."""
    case = ordinary(draw, temperatures=temperatures)
    twice = case.changed(
        generated=np.concatenate([case.generated, case.generated[:, :1]], axis=1),
        positive=np.concatenate([case.positive, case.positive[:, :1]], axis=1),
    )
    return labelled(twice, "duplicated samples", "coincident")


def collapsed_label(draw: Draw) -> tuple[LossCase, LossCase]:
    """Two labels, then all samples of the first at the origin: it has no drift any more."""
    case = ordinary(draw, Shape(labels=(2, 2), vectors=(1, 1)), temperatures=(0.2,))
    generated, positive = case.generated.copy(), case.positive.copy()
    generated[0] = positive[0] = 0.0
    collapsed = case.changed(generated=generated, positive=positive)
    return case, labelled(collapsed, "one label collapsed")


def collapsed_vector(draw: Draw) -> tuple[LossCase, LossCase]:
    """One label of two vectors, then all samples at the origin in the first vector."""
    case = ordinary(draw, Shape(labels=(1, 1), vectors=(2, 2)), temperatures=(0.2,))
    generated, positive = case.generated.copy(), case.positive.copy()
    generated[:, :, 0] = positive[:, :, 0] = 0.0
    collapsed = case.changed(generated=generated, positive=positive)
    return case, labelled(collapsed, "one vector collapsed")


def small_drift(draw: Draw) -> tuple[LossCase, LossCase]:
    """Two samples far apart, a positive beside each, at a mild and at a low temperature.

    The other sample is so far that the affinity to it is about e^(−0.9/τ) of that to the positive:
    at the low temperature λ is below 5·10⁻⁵, and everything else is ordinary.
    """
    rng = generator(draw)
    channels, low = draw.integer(4, 12), draw.choice((0.06, 0.07))
    generated = np.eye(2, channels) + 0.02 * rng.standard_normal((2, channels))
    towards = rng.standard_normal((2, channels))
    positive = generated + 0.1 * towards / np.linalg.norm(towards, axis=1, keepdims=True)
    mild = LossCase(
        Manifest(f"a positive beside each of two samples, C={channels}"),
        generated=generated[None, :, None],
        positive=positive[None, :, None],
        temperatures=(1.0,),
    )
    manifest = Manifest(f"a positive beside each of two samples, C={channels} τ={low}")
    return mild, mild.changed(manifest=manifest, temperatures=(low,))


def two_points(draw: Draw) -> LossCase:
    """Two generated samples and one positive for each label: everything has a closed form."""
    rng = generator(draw)
    labels, channels = draw.integer(1, 3), draw.integer(1, 12)
    count = draw.integer(1, 3)
    temperatures = tuple(draw.choice((0.2, 0.05, 0.1, 0.5, 1.0)) for _ in range(count))
    points = rng.standard_normal((labels, 3, 1, channels)) + 3 * rng.standard_normal(channels)
    sides = [points[:, i] - points[:, j] for i, j in ((0, 1), (0, 2), (1, 2))]
    lengths = np.sqrt(np.sum(np.stack(sides) ** 2, axis=(2, 3)))
    if lengths.min() < 0.25 * lengths.max():
        raise Rejected
    return LossCase(
        Manifest(f"two samples, one positive, L={labels} C={channels} T={temperatures}"),
        generated=points[:, :2],
        positive=points[:, 2:],
        temperatures=temperatures,
    )


def cross_product(case: LossCase) -> float:
    """mean(Ṽ_τ·Ṽ_τ') of a one-label, one-vector case with two temperatures, field as printed."""
    x, positive = case.generated[0, :, 0], case.positive[0, :, 0]
    y = np.concatenate([positive, x])
    mean = np.sqrt(np.sum((x[:, None] - y[None]) ** 2, axis=-1)).mean()
    first, second = (plain_field(x, positive, t * mean)[0] for t in case.temperatures)
    return float(np.sum(first * second) / np.sqrt(np.sum(first**2) * np.sum(second**2)))


def vanishing_cross_terms(draw: Draw) -> LossCase:
    """Two temperatures whose normalised drifts are orthogonal over the batch.

    One positive is near, a pair of others far on the opposite side: a low temperature pulls to
    the near one, a high one to the far pair. Between a far pair close by and one far off the
    product changes its sign.
    """
    rng = generator(draw)
    channels = draw.integer(2, 6)
    noise = 0.05 * rng.standard_normal((5, channels))

    def world(reach: float) -> LossCase:
        points = noise.copy()
        points[:, 0] += (0.0, 0.3, -1.0, reach, reach)
        return LossCase(
            Manifest(f"drifts of two temperatures orthogonal, C={channels}"),
            generated=points[None, :2, None],
            positive=points[None, 2:, None],
            temperatures=(0.1, 2.0),
        )

    low, high = 1.5, 6.0

    def product(reach: float) -> float:
        return cross_product(world(reach))

    if product(low) * product(high) >= 0:
        raise Rejected
    return world(float(root_scalar(product, bracket=(low, high), xtol=1e-15).root))


def features(draw: Draw, temperatures: Sequence[float] = PAPER_TEMPERATURES) -> FeatureCase:
    """Three features of different size and unit, named like means and deviations of a map."""
    units = {"map.loc": 1.0, "map.mean": 3.0, "map.std": 2.0**-6}
    labels = draw.integer(1, 2)
    n = draw.integer(4, 5)
    parts: dict[str, LossCase] = {}
    for key, unit in units.items():
        vectors = (2, 3) if key == "map.loc" else (1, 1)
        shape = Shape((labels, labels), vectors, (n, n))
        parts[key] = ordinary(draw, shape, temperatures=temperatures).scaled(unit)
    return FeatureCase(
        Manifest(f"features L={labels} N=P={n}"),
        generated={key: part.generated for key, part in parts.items()},
        positive={key: part.positive for key, part in parts.items()},
        temperatures=tuple(temperatures),
    )


def with_samples(draw: Draw, case: FeatureCase) -> FeatureCase:
    """The features with raw samples of shape [3, 2, 2], for the vanilla term."""
    labels, n = next(iter(case.generated.values())).shape[:2]
    shape = Shape((labels, labels), (1, 1), (n, n), (12, 12))
    raw = ordinary(draw, shape, temperatures=case.temperatures)
    return case.changed(
        manifest=Manifest(f"{case.manifest.id} and samples"),
        generated_samples=raw.generated.reshape(labels, n, 3, 2, 2),
        positive_samples=raw.positive.reshape(labels, n, 3, 2, 2),
        raw_weight=draw.choice((1.0, 0.5, 2.0)),
    )


def maps(
    draw: Draw, statistics: tuple[str, ...] = ("loc", "global", "patch2", "patch4")
) -> VectorizeCase:
    """Two maps whose sides are multiples of four, rectangular too, and an encoder input."""
    rng = generator(draw)
    batch, channels = draw.integer(1, 3), draw.integer(1, 4)
    sides = [4 * draw.integer(1, 3) for _ in range(4)]
    shift = draw.number(-3.0, 3.0)

    def drawn(channels: int, height: int, width: int) -> Array:
        return shift + rng.standard_normal((batch, channels, height, width))

    return VectorizeCase(
        Manifest(f"maps B={batch} C={channels} {sides[0]}x{sides[1]} and {sides[2]}x{sides[3]}"),
        maps={"one": drawn(channels, *sides[:2]), "two": drawn(channels + 1, *sides[2:])},
        inputs=drawn(3, 8, 12) if "x2" in statistics else None,
        statistics=statistics,
        input_patch_size=draw.choice((1, 2, 4)) if "x2" in statistics else 1,
    )
