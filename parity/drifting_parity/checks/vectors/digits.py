"""Real images: class-conditional handwritten digits, the adapter against the reference.

Positives are images of a class, generated samples are images blended with others or copied,
unconditional samples come from other classes and are weighted by A.7's w. The images serve as the
vanilla feature (A5-vanilla: all pixels one vector) and through simple fixed maps as patch and
global statistics (A5-b, A5-c, A5-d). Real images bring what random numbers do not: borders that
are zero everywhere, patches without variance, coincident coordinates, duplicated samples, class
structure. A vectorisation that cuts patches otherwise, a √ that gives NaN at variance zero,
distances that lose coincident pairs, or statistics over other sets fail here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache

import numpy as np

from drifting_parity import golden
from drifting_parity.adapters.base import NotObservable
from drifting_parity.cases import (
    Array,
    Conditioning,
    FeatureCase,
    LossCase,
    Manifest,
    VectorizeCase,
)
from drifting_parity.checks.core import Check, Context
from drifting_parity.checks.loss.closed_forms import loss_tolerance
from drifting_parity.measure import Measurement, compare, whole
from drifting_spec.registry import Tolerance, UnknownIdError

SCALE, LAMBDA, LOSS, GRADIENT = ("EQ-21",), ("EQ-25",), ("EQ-26",), ("EQ-26",)
STATISTICS: Mapping[str, tuple[str, ...]] = {
    "mean": ("A5-b",),
    "std": ("A5-b",),
    "global": ("A5-b",),
    "mean2": ("A5-c",),
    "std2": ("A5-c",),
    "patch2": ("A5-c",),
    "mean4": ("A5-d",),
    "std4": ("A5-d",),
    "patch4": ("A5-d",),
}
MAPS = ("edges", "blur")
ALPHAS = (1.5, 3.0)
"""The guidance scale of each of the two labels."""


@cache
def images() -> Array:
    """The bundled digits by class, [10, 24, 8, 8], values 0 to 1 in steps of 1/16."""
    data = golden.load("digits")
    pixels = np.asarray(data["images"], dtype=np.float64) / 16.0
    labels = np.asarray(data["labels"])
    return np.stack([pixels[labels == digit] for digit in range(10)])


def _weights(n_generated: int, n_unconditional: int) -> Array:
    """A.7's w [L, U], the same for all unconditional samples of a label: (α − 1)(N − 1)/U."""
    weights = [(alpha - 1.0) * (n_generated - 1) / n_unconditional for alpha in ALPHAS]
    return np.repeat(np.array(weights)[:, None], n_unconditional, axis=1)


def _samples(count: int, positives: int, others: int) -> tuple[Array, Array, Array]:
    """Samples [L, ·, 8, 8] of the classes 3 and 8: generated, positive, unconditional.

    Generated images are further images of the class, each blended half and half with one of
    another class; images are given out in the order of the file.
    """
    digits, labels = images(), (3, 8)
    positive = np.stack([digits[label, :positives] for label in labels])
    generated: list[Array] = []
    for label in labels:
        own = np.resize(digits[label, positives:], (count, 8, 8))
        foreign = np.stack([digits[(label + 1 + i % 9) % 10, i // 9] for i in range(count)])
        generated.append(0.5 * (own + foreign))
    unconditional = np.stack(
        [
            np.stack([digits[(label + 1 + i % 9) % 10, 12 + i // 9] for i in range(others)])
            for label in labels
        ]
    )
    return np.stack(generated), positive, unconditional


def _flat(samples: Array) -> Array:
    """Flatten [L, N, 8, 8] to one vector a sample: [L, N, 1, 64]."""
    return samples.reshape(*samples.shape[:2], 1, -1)


def pixel_case(name: str, count: int, positives: int, others: int) -> LossCase:
    """The vanilla feature of blended digits, two labels with guidance."""
    generated, positive, unconditional = _samples(count, positives, others)
    return LossCase(
        manifest=Manifest(id=name, exercises="real images", source="UCI digits"),
        generated=_flat(generated),
        positive=_flat(positive),
        unconditional=_flat(unconditional),
        unconditional_weight=_weights(count, others),
    )


def memorised_case() -> LossCase:
    """A generator that repeats the data: two copies of positives, one sample made twice.

    The others stay apart: were all of them copies, attraction and repulsion would cancel, and the
    normalised drift be mostly rounding.
    """
    generated, positive, unconditional = _samples(7, 5, 3)
    generated[:, :2] = positive[:, :2]
    generated[:, 3] = generated[:, 2]
    case = pixel_case("digits, memorised", 7, 5, 3)
    return case.changed(
        manifest=Manifest(id=case.manifest.id, source="UCI digits", conditioning="coincident"),
        generated=_flat(generated),
        positive=_flat(positive),
        unconditional=_flat(unconditional),
    )


def maps(samples: Array) -> dict[str, Array]:
    """Simple fixed maps of images [B, 8, 8]: name → [B, C, 8, 8].

    ``edges``: ink that begins and ends, to the right and downwards (rectified differences);
    ``blur``: the mean over 3×3 pixels and what it takes away.
    """
    right = np.diff(samples, axis=2, append=0.0)
    down = np.diff(samples, axis=1, append=0.0)
    edges = [np.maximum(part, 0.0) for part in (right, -right, down, -down)]
    padded = np.pad(samples, ((0, 0), (1, 1), (1, 1)))
    box = sum(padded[:, i : i + 8, j : j + 8] for i in range(3) for j in range(3)) / 9.0
    return {"edges": np.stack(edges, axis=1), "blur": np.stack([box, samples - box], axis=1)}


def _vectorize_case(samples: Array, names: Sequence[str]) -> VectorizeCase:
    made = maps(samples.reshape(-1, *samples.shape[2:]))
    manifest = Manifest(id="digits, fixed maps", source="UCI digits")
    chosen = {name: made[name] for name in names}
    return VectorizeCase(manifest, chosen, statistics=("global", "patch2", "patch4"))


def _tolerance(context: Context, quantity: str, conditioning: Conditioning) -> Tolerance:
    """The tolerance for coincident samples where the case has them and the spec tells it apart."""
    if conditioning == "coincident":
        with suppress(UnknownIdError):
            return context.tolerance(f"{quantity}_coincident")
    return (
        loss_tolerance(context, quantity) if quantity in _OF_LOSS else context.tolerance(quantity)
    )


_OF_LOSS = frozenset({"loss", "gradient"})


def _conditioning(context: Context) -> Conditioning:
    """With statistics of its own a patch that hardly any image inks has samples that coincide."""
    return "coincident" if context.readings.location_sharing == "none" else "ordinary"


def loss_measurements(context: Context, case: LossCase) -> Iterator[Measurement]:
    """S, λ, the loss (mean and per label) and its gradient, adapter against reference."""
    case = context.capabilities.fitted_loss(case)
    found, expected = context.loss(case), context.expected_loss(case)
    name, conditioning = case.manifest.id, case.manifest.conditioning
    for clauses, quantity, got, want in (
        (SCALE, "feature_scale", found.feature_scale, expected.feature_scale),
        (LAMBDA, "drift_scale", found.drift_scale, expected.drift_scale),
        (LOSS, "loss", found.loss, expected.loss),
        (LOSS, "per_label", found.per_label, expected.per_label),
        (GRADIENT, "gradient", found.gradient, expected.gradient),
    ):
        # S and λ have no tolerance in the narrow dtypes: they are no output there.
        known = f"{quantity}.{context.setting.dtype}" in context.spec.tolerances
        if known and got is not None and want is not None:
            tolerance = _tolerance(context, quantity, conditioning)
            item = compare(clauses, quantity, name, got, want, tolerance)
            if clauses is LAMBDA:
                yield whole(item, "drift scale", LAMBDA)
            else:
                yield item if clauses is SCALE else whole(item, "gradient")


def run_pixels(context: Context) -> Iterator[Measurement]:
    """The pixels as a feature: a few images, more than 25 of them, and memorised ones."""
    yield from loss_measurements(context, pixel_case("digits, pixels", 6, 6, 4))
    if not context.quick:
        yield from loss_measurements(context, pixel_case("digits, pixels, N = 28", 28, 12, 6))
        yield from loss_measurements(context, memorised_case())


def run_vectors(context: Context) -> Iterator[Measurement]:
    """Global and patch statistics of the maps of real images, among them patches all zero."""
    generated, positive, _ = _samples(3, 2, 1)
    case = _vectorize_case(np.concatenate([generated, positive], axis=1), MAPS)
    found, expected = context.vectorize(case), context.expected_vectors(case)
    tolerance = context.tolerance("vectors")
    for key, want in expected.items():
        clauses = STATISTICS[key.rsplit(".", 1)[1]]
        got = found.get(key, np.empty(0))
        yield compare(clauses, "vectors", f"digits, {key}", got, want, tolerance)


def _features(context: Context, samples: Array) -> dict[str, Array]:
    """The reference's vectors of the samples' maps, label by label: key → [L, N, V, C]."""
    names = MAPS[1:] if context.quick else MAPS
    vectors = context.expected_vectors(_vectorize_case(samples, names))
    return {
        key: array.reshape(*samples.shape[:2], *array.shape[1:]) for key, array in vectors.items()
    }


def feature_case(context: Context) -> FeatureCase:
    """Every statistic of every map as a feature, with the vanilla term on the images."""
    generated, positive, unconditional = _samples(4, 4, 2)
    return FeatureCase(
        manifest=Manifest(
            id="digits, features", source="UCI digits", conditioning=_conditioning(context)
        ),
        generated=_features(context, generated),
        positive=_features(context, positive),
        unconditional=_features(context, unconditional),
        unconditional_weight=_weights(4, 2),
        generated_samples=generated,
        positive_samples=positive,
        unconditional_samples=unconditional,
    )


def run_features(context: Context) -> Iterator[Measurement]:
    """The loss over all statistics and the vanilla term: total, terms, gradients."""
    case = context.capabilities.fitted_features(feature_case(context))
    found, expected = context.feature_loss(case), context.expected_feature_loss(case)
    name, conditioning = case.manifest.id, case.manifest.conditioning
    loss = _tolerance(context, "loss", conditioning)
    gradient = _tolerance(context, "gradient", conditioning)
    if found.feature_loss is not None and expected.feature_loss is not None:
        item = compare(LOSS, "feature loss", name, found.feature_loss, expected.feature_loss, loss)
        yield whole(item, "gradient")
    for key, want in expected.gradients.items():
        case_name = f"{name}, {key}"
        if key in found.terms:
            item = compare(LOSS, "term", case_name, found.terms[key], expected.terms[key], loss)
            yield whole(item, "gradient")
        got = found.gradients.get(key, np.empty(0))
        item = compare(GRADIENT, "gradient", case_name, got, want, gradient)
        yield whole(item, "gradient")
    if context.readings.vanilla_term == "raw":
        # Temperatures as they are on distances as they are: logits of several hundred.
        loss, gradient = _raw_tolerances(context)
    if found.raw_loss is not None and expected.raw_loss is not None:
        shown, wanted = found.raw_loss, expected.raw_loss
        item = compare("A5-vanilla", "vanilla loss", name, shown, wanted, loss)
        yield whole(item, "vanilla term", ("A5-vanilla",))
    if found.raw_gradient is not None and expected.raw_gradient is not None:
        got, want = found.raw_gradient, expected.raw_gradient
        item = compare("A5-vanilla", "vanilla gradient", name, got, want, gradient)
        yield whole(item, "vanilla term", ("A5-vanilla",))


def _raw_tolerances(context: Context) -> tuple[Tolerance, Tolerance]:
    try:
        return context.tolerance("seed_loss"), context.tolerance("seed_gradient")
    except UnknownIdError as unknown:
        dtype = context.setting.dtype
        raise NotObservable(f"the raw vanilla term is not comparable in {dtype}") from unknown


def run_statistics(context: Context) -> Iterator[Measurement]:
    """S and λ over patches of real maps, of which those at the border hold no ink at all."""
    generated, positive, unconditional = (
        _features(context, samples) for samples in _samples(5, 4, 3)
    )
    # Which keys there are depends on statistics_grouping and on the maps taken.
    for key in [key for key in ("blur.patch2", "blur.std2", "edges.mean4") if key in generated]:
        case = LossCase(
            manifest=Manifest(
                id=f"digits, {key}", source="UCI digits", conditioning=_conditioning(context)
            ),
            generated=generated[key],
            positive=positive[key],
            unconditional=unconditional[key],
            unconditional_weight=_weights(5, 3),
        )
        yield from loss_measurements(context, case)


CHECKS: tuple[Check, ...] = (
    Check(
        id="digits.pixels",
        title="real digits as pixels: S, λ, loss and gradient of the vanilla feature",
        clauses=(*SCALE, *LAMBDA, *LOSS, *GRADIENT),
        kind="real data",
        run=run_pixels,
        independent=False,
    ),
    Check(
        id="digits.vectors",
        title="real digits through fixed maps: global and patch statistics",
        clauses=("A5-b", "A5-c", "A5-d"),
        kind="real data",
        run=run_vectors,
        independent=False,
    ),
    Check(
        id="digits.statistics",
        title="real digits through fixed maps: S, λ, loss and gradient over patches",
        clauses=(*SCALE, *LAMBDA, *LOSS, *GRADIENT),
        kind="real data",
        run=run_statistics,
        independent=False,
    ),
    Check(
        id="digits.features",
        title="real digits: the loss over all statistics with the vanilla term",
        clauses=("A5-vanilla", *LOSS, *GRADIENT),
        kind="real data",
        run=run_features,
        independent=False,
    ),
)
