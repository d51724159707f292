"""Probes: cases chosen so that each settles one stage of the computation.

A stage's probes are ordinary in every later respect: one label, one vector, no weights and one
temperature until it is their turn, so that a mistake further on cannot spoil them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from drifting_parity.cases import Array, FieldCase, LossCase, Manifest

View = Literal["dialled direction", "direction", "whole"]
"""What of an answer is compared: the direction of the gradient with the temperature free, the
direction as it is, or value and gradient in full."""

STAGES: Final = (
    "field",
    "scale",
    "drift scale",
    "aggregation",
    "labels",
    "locations",
    "weights",
    "range",
)
"""The stages in the order in which they are settled; ``range`` probes are extreme."""


@dataclass(frozen=True)
class Probe:
    """A case that settles ``stage``, and how its answer is looked at."""

    name: str
    stage: str
    case: LossCase | FieldCase
    view: View = "whole"


def entries(probe: Probe) -> int:
    """How many numbers the answer to a probe holds."""
    case = probe.case
    return case.generated.size if isinstance(case, LossCase) else case.x.size


def samples(source: np.random.Generator, *shape: int) -> Array:
    """Points [L, K, V, C] at various distances from the origin."""
    points = source.normal(size=shape)
    return points * source.uniform(0.4, 1.6, size=(*shape[:-1], 1))


def loss_case(
    name: str,
    seed: int,
    sizes: tuple[int, int, int, int, int, int],
    temperatures: tuple[float, ...] = (0.3,),
    *,
    spread: float = 1.0,
    positive_spread: float = 1.0,
    weight: Literal["one", "label", "sample", "zero"] = "one",
) -> LossCase:
    """A case of ``sizes`` (L, N, P, U, V, C); the labels' spreads go up to ``spread``."""
    labels, count, positives, extra, vectors, channels = sizes
    source = np.random.default_rng([seed, *sizes])
    by_label = np.linspace(1.0, spread, labels)[:, None, None, None]
    by_vector = np.linspace(1.0, spread**0.5, vectors)[:, None]
    size = by_label * by_vector
    generated = samples(source, labels, count, vectors, channels) * size
    positive = (samples(source, labels, positives, vectors, channels) + 0.4) * size
    unconditional = (samples(source, labels, extra, vectors, channels) * 1.3 - 0.3) * size
    weights = {
        "one": np.ones((labels, extra)),
        "label": np.repeat(np.linspace(2.5, 0.6, labels)[:, None], extra, 1),
        "sample": source.uniform(0.3, 3.0, size=(labels, extra)),
        "zero": np.zeros((labels, extra)),
    }[weight]
    return LossCase(
        Manifest(name, seed=seed),
        generated,
        positive * positive_spread,
        unconditional if extra else None,
        weights if extra else None,
        temperatures=temperatures,
    )


def _kernel() -> tuple[Probe, ...]:
    view: View = "dialled direction"
    return (
        Probe("one temperature, 6 and 5 samples", "field",
              loss_case("kernel-1", 1, (1, 6, 5, 0, 1, 24)), view),
        Probe("a sharp temperature, 5 and 8 samples", "field",
              loss_case("kernel-2", 2, (1, 5, 8, 0, 1, 20), (0.1,)), view),
        Probe("a mild temperature, 7 and 3 samples", "field",
              loss_case("kernel-3", 3, (1, 7, 3, 0, 1, 6), (1.5,)), view),
    )  # fmt: skip


def _scale() -> tuple[Probe, ...]:
    view: View = "direction"
    return (
        Probe("positives of another spread", "scale",
              loss_case("scale-1", 4, (1, 4, 6, 0, 1, 9), (0.25,), positive_spread=2.2), view),
        Probe("many channels", "scale",
              loss_case("scale-2", 5, (1, 5, 4, 0, 1, 31), (0.2,), positive_spread=0.6), view),
        Probe("few samples, few channels", "scale",
              loss_case("scale-3", 6, (1, 3, 2, 0, 1, 4), (0.4,), positive_spread=1.5), view),
    )  # fmt: skip


def _size() -> tuple[Probe, ...]:
    return tuple(
        Probe(probe.name, "drift scale", probe.case, "whole") for probe in (*_scale(), *_kernel())
    )


def _aggregation() -> tuple[Probe, ...]:
    return (
        Probe("three temperatures", "aggregation",
              loss_case("several-1", 7, (1, 5, 4, 0, 1, 7), (0.1, 0.3, 0.9))),
        Probe("two temperatures", "aggregation",
              loss_case("several-2", 8, (1, 4, 6, 0, 1, 12), (0.15, 0.5))),
    )  # fmt: skip


def _labels() -> tuple[Probe, ...]:
    return (
        Probe("two labels of unlike spread", "labels",
              loss_case("labels-1", 9, (2, 4, 5, 0, 1, 7), (0.3,), spread=3.0)),
        Probe("three labels, two temperatures", "labels",
              loss_case("labels-2", 10, (3, 3, 4, 0, 1, 5), (0.2, 0.6), spread=2.0)),
    )  # fmt: skip


def _locations() -> tuple[Probe, ...]:
    return (
        Probe("three vectors of unlike spread", "locations",
              loss_case("vectors-1", 11, (1, 4, 5, 0, 3, 7), (0.3,), spread=3.0)),
        Probe("two labels, three vectors, two temperatures", "locations",
              loss_case("vectors-2", 12, (2, 4, 3, 0, 3, 5), (0.2, 0.6), spread=2.5)),
    )  # fmt: skip


def _weights() -> tuple[Probe, ...]:
    one, three = (0.3,), (0.1, 0.3, 0.9)
    return (
        Probe("unconditional samples of weight 1", "weights",
              loss_case("weights-1", 13, (1, 5, 4, 3, 1, 16), one)),
        Probe("one weight", "weights",
              loss_case("weights-2", 14, (1, 4, 5, 6, 1, 12), one, weight="label")),
        Probe("a weight for each sample", "weights",
              loss_case("weights-3", 15, (1, 5, 4, 3, 1, 16), one, weight="sample")),
        Probe("two labels, two vectors, one weight each", "weights",
              loss_case("weights-4", 16, (2, 4, 3, 5, 2, 6), three, spread=2.0, weight="label")),
        Probe("weight 0", "weights",
              loss_case("weights-5", 17, (1, 4, 5, 3, 1, 8), one, weight="zero")),
        Probe("weighted generated samples and positives", "weights", _weighted()),
    )  # fmt: skip


def _weighted() -> LossCase:
    case = loss_case("weights-6", 18, (2, 4, 5, 3, 2, 7), (0.2, 0.6), spread=1.7, weight="sample")
    source = np.random.default_rng(18)
    return case.changed(
        generated_weight=source.uniform(0.3, 2.5, size=(2, 4)),
        positive_weight=source.uniform(0.3, 2.5, size=(2, 5)),
    )


def isolated(factor: float) -> LossCase:
    """One generated sample ``factor`` mean distances away from all others."""
    case = loss_case("isolated", 19, (1, 6, 5, 0, 1, 12), (0.2,))
    generated = case.generated.copy()
    generated[0, 0, 0] *= factor
    return case.changed(generated=generated)


def offset() -> LossCase:
    """More than 25 samples, all of them 1000 spreads from the origin."""
    case = loss_case("offset", 23, (1, 20, 24, 0, 1, 6), (0.3,))
    return case.changed(generated=case.generated + 1e3, positive=case.positive + 1e3)


def equidistant(temperature: float, noise: float) -> LossCase:
    """Samples that all have the same distance, or nearly so: no temperature singles one out."""
    source = np.random.default_rng(25)
    points = np.eye(9) + noise * source.normal(size=(9, 9))
    return LossCase(
        Manifest("equidistant"),
        points[None, :5, None],
        points[None, 5:, None],
        temperatures=(temperature,),
    )


def coincident() -> LossCase:
    """Two generated samples that coincide, and one that is a positive."""
    case = loss_case("coincident", 24, (1, 5, 4, 0, 1, 6), (0.3,))
    generated = case.generated.copy()
    generated[0, 1] = generated[0, 0]
    generated[0, 2] = case.positive[0, 0]
    return case.changed(generated=generated)


def _range() -> tuple[Probe, ...]:
    plain = loss_case("range", 20, (1, 5, 4, 0, 1, 6), (0.3,))
    several = loss_case("range-2", 21, (2, 4, 5, 3, 2, 6), (0.1, 0.3, 0.9), spread=2.0,
                        weight="label")  # fmt: skip
    return (
        Probe("an isolated sample", "range", isolated(8.0)),
        Probe("τ of 40", "range", plain.changed(temperatures=(40.0,))),
        Probe("τ of 1e5", "range", plain.changed(temperatures=(1e5,))),
        Probe("τ of 0.02", "range", plain.changed(temperatures=(0.02,))),
        Probe("τ of 1e-3", "range", plain.changed(temperatures=(1e-3,))),
        Probe("samples at about 1000 temperatures", "range", equidistant(1e-3, 0.01)),
        Probe("samples at 1e6 temperatures, all alike", "range", equidistant(1e-6, 0.0)),
        Probe("one generated sample", "range", loss_case("range-3", 22, (1, 1, 4, 0, 1, 6))),
        Probe("all samples far from the origin", "range", offset()),
        Probe("samples that coincide", "range", coincident()),
        Probe("units of 1e-2", "range", several.scaled(1e-2)),
        Probe("units of 1e-4", "range", plain.scaled(1e-4)),
        Probe("units of 1e-5", "range", several.scaled(1e-5)),
        Probe("units of 1e-7", "range", plain.scaled(1e-7)),
        Probe("units of 1e-10", "range", plain.scaled(1e-10)),
        Probe("units of 1e4", "range", plain.scaled(1e4)),
    )


def loss_probes() -> tuple[Probe, ...]:
    """All probes of the loss of one feature, stage after stage."""
    return (
        *_kernel(), *_scale(), *_size(), *_aggregation(), *_labels(), *_locations(), *_weights(),
        *_range(),
    )  # fmt: skip


def field_probes() -> tuple[Probe, ...]:
    """All probes of the bare field, stage after stage."""
    source = np.random.default_rng(31)

    def points(count: int, channels: int = 5) -> Array:
        return samples(source, count, channels)

    x, others = points(4), points(3) + 0.3
    more = np.concatenate([x, points(3) - 0.2])
    weight = np.array([1.0, 1.0, 1.0, 1.0, 2.5, 0.4, 1.7])
    apart = points(6)
    far = x.copy()
    far[0] *= 9.0
    return (
        Probe("points", "field", FieldCase(Manifest("field-1"), x, others, x, 0.8)),
        Probe("points, other negatives too", "field",
              FieldCase(Manifest("field-2"), x, others, more, 1.1)),
        Probe("points, other negatives alone", "field",
              FieldCase(Manifest("field-3"), x, others, apart, 0.9, mask_self=False)),
        Probe("points, as many other negatives", "field",
              FieldCase(Manifest("field-7"), x, others, apart[:4], 0.9, mask_self=False)),
        Probe("points, weighted negatives", "weights",
              FieldCase(Manifest("field-4"), x, others, more, 0.8, negative_weight=weight)),
        Probe("one point", "range", FieldCase(Manifest("field-8"), x[:1], others, x[:1], 0.8)),
        Probe("points, one isolated", "range",
              FieldCase(Manifest("field-5"), far, others, far, 0.4)),
        Probe("points, T of 40", "range", FieldCase(Manifest("field-6"), x, others, x, 40.0)),
    )  # fmt: skip
