"""Vectors: what the authors' release and the seed repository computed, against the adapter.

The release's ``drift_loss`` (A files) gives the loss per label, S√C, λ² and the gradient of one
feature (A.6) under the ``release`` readings; the seed repository (R files) the feature-space loss,
its vanilla term and its vectorisation (A.5) under ``seed``. No reference takes part. A wrong
weight, floor, aggregation or scope, or a missing self-mask, shows here even where reference and
implementation share the mistake.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, cast

import numpy as np

from drifting_parity import golden
from drifting_parity.adapters.base import NotObservable
from drifting_parity.cases import FeatureCase, LossCase, VectorizeCase
from drifting_parity.checks.core import Check, Context
from drifting_parity.checks.vectors.cases import (
    arrays_of,
    case_manifest,
    held_to,
    release_case,
    seed_case,
    seed_readings,
)
from drifting_parity.golden import GoldenManifest
from drifting_parity.measure import Measurement, compare, necessary, whole, within
from drifting_spec import RELEASE, SEED

SCALE = ("EQ-21", "A6-S")
LAMBDA = ("EQ-25", "A6-lambda")
LOSS = ("EQ-26", "A6-mse")
GRADIENT = ("EQ-26", "A6-mse")
WEIGHTED_SCALE = "A7-weight-in-scale"

RELEASE_FLOOR = 1e-3
"""The release's floor on S where coordinates are divided by it."""

SPEAKS_FOR: Mapping[str, tuple[str, ...]] = {
    "R03": ("A6-order",),
    "R04": ("A6-sum-features",),
    "R05": ("A7-w",),
    "R06": ("A7-w",),
    "R07": ("A6-locshare",),
    "R08": ("A6-tau",),
    "R09": ("A5-sum",),
}
"""What the seed repository's losses show beside EQ-26."""


# The release.


def run_release(manifest: GoldenManifest, context: Context) -> Iterator[Measurement]:
    """Loss per label, S, λ and gradient of one file of the release."""
    arrays = arrays_of(manifest)
    case = release_case(manifest, arrays)
    context = held_to(context, RELEASE, case.traits())
    if manifest.conditioning == "ill" and context.setting.dtype == "float32":
        raise NotObservable("near-coincident or far off-centre: comparable in float64 only")
    found = context.loss(case)
    name = f"{manifest.id}: {manifest.exercises}"
    loss, drift = context.tolerance("release_loss"), context.tolerance("release_gradient")
    labels, _, _, channels = case.generated.shape
    if found.feature_scale is not None:
        clauses = (*SCALE, WEIGHTED_SCALE) if _weighted(case) else SCALE
        scale = found.feature_scale.ravel() * np.sqrt(channels)
        expected = arrays["f64_scale"].reshape(1)
        item = compare(clauses, "S·√C", name, scale, expected, context.tolerance("feature_scale"))
        # Whether the weights are what is wrong is for the checks of the weights.
        yield replace(item, refutes=SCALE)
    if manifest.conditioning == "degenerate":
        yield from _degenerate(context, case, name)
        return
    if found.drift_scale is not None:
        # λ has the drift's error, and the tolerance of the gradient no floor for small ones.
        expected = np.sqrt(arrays["f64_loss_R"])
        item = compare(LAMBDA, "λ", name, found.drift_scale.reshape(-1), expected, drift)
        yield whole(item, "drift scale", LAMBDA)
    item = compare(LOSS, "loss", name, found.loss, float(arrays["f64_loss"].mean()), loss)
    yield whole(item, "gradient")
    if found.per_label is not None:
        item = compare(LOSS, "loss per label", name, found.per_label, arrays["f64_loss"], loss)
        yield whole(item, "gradient")
    # The loss is the mean over labels, so the gradient of their sum is L times its own.
    upstream = context.setting.upstream
    for key, factor in (("f64_grad_sum", labels), ("f64_grad_mean", 1)):
        if key in arrays:
            gradient = found.gradient[:, :, 0] * (factor / upstream)
            what = f"gradient ({key[9:]})"
            item = compare(GRADIENT, what, name, gradient, arrays[key], drift)
            yield whole(item, "gradient")


def _weighted(case: LossCase) -> bool:
    weights = (case.unconditional_weight, case.generated_weight, case.positive_weight)
    return any(weight is not None and bool(np.any(weight != 1.0)) for weight in weights)


def _degenerate(context: Context, case: LossCase, name: str) -> Iterator[Measurement]:
    """All samples equal: the drift is zero, and what is left of it rounding over two floors.

    In float64 that stays below 1e-12 in the loss. In float32 only this holds: each temperature's
    mean square is at most 1, since the floor on λ only enlarges the divisor, so the loss is at most
    T²; and the gradient has the norm that its loss allows.
    """
    found = context.loss(case)
    double = context.setting.dtype == "float64"
    bound = 1e-12 if double else float(len(case.temperatures) ** 2)
    note = "all samples equal" if double else "all samples equal: float32 is held to T² alone"
    item = within(LOSS, "loss (zero drift)", name, abs(found.loss), bound, note)
    yield necessary(whole(item, "gradient"))
    steepest = 2.0 * np.sqrt(bound) / (RELEASE_FLOOR * np.sqrt(case.generated.size))
    norm = float(np.linalg.norm(found.gradient)) / abs(context.setting.upstream)
    item = within(GRADIENT, "gradient (zero drift)", name, norm, float(steepest), note)
    yield necessary(whole(item, "gradient"))


# The seed repository.


def run_seed_loss(manifest: GoldenManifest, context: Context) -> Iterator[Measurement]:
    """Loss and gradients over all features of one file; S and λ where there is one feature."""
    arrays = arrays_of(manifest)
    case = seed_case(manifest, arrays)
    config = cast("Mapping[str, Any]", manifest.arguments["config"])
    context = held_to(context, seed_readings(config), case.traits())
    found = context.feature_loss(case)
    name = f"{manifest.id}: {manifest.exercises}"
    # Its term mean divides by the number of vectors over all features and of temperatures.
    terms = 1
    if config["loss_term_reduction"] == "mean":
        vectors = sum(array.shape[2] for array in case.generated.values())
        terms = vectors * len(case.temperatures)
    clauses = (*LOSS, *SPEAKS_FOR.get(manifest.id, ()))
    feature_loss = found.loss if found.feature_loss is None else found.feature_loss
    expected, tolerance = float(arrays["f64_loss"]), context.tolerance("seed_loss")
    item = compare(clauses, "loss", name, feature_loss / terms, expected, tolerance)
    yield whole(item, "gradient")
    tolerance, factor = context.tolerance("seed_gradient"), terms * context.setting.upstream
    for key, gradient in found.gradients.items():
        wanted = arrays[f"f64_grad/{key}"][None]
        what = f"gradient of {key}"
        item = compare(GRADIENT, what, name, gradient / factor, wanted, tolerance)
        yield whole(item, "gradient")
    if len(case.generated) == 1:
        yield from _seed_statistics(manifest, context, case, name)


def _seed_statistics(
    manifest: GoldenManifest, context: Context, case: FeatureCase, name: str
) -> Iterator[Measurement]:
    """S and λ of a file with one feature, as the means over vectors and temperatures it states."""
    ((key, generated),) = case.generated.items()
    single = LossCase(
        manifest=case.manifest,
        generated=generated,
        positive=case.positive[key],
        unconditional=None if case.unconditional is None else case.unconditional[key],
        unconditional_weight=case.unconditional_weight,
        temperatures=case.temperatures,
    )
    try:
        found = context.loss(single)
    except NotObservable:
        return
    tolerance = context.tolerance("seed_gradient")
    for clauses, quantity, values, key in (
        (SCALE, "mean S", found.feature_scale, "mean_feature_scale"),
        (LAMBDA, "mean λ", found.drift_scale, "mean_drift_scale"),
    ):
        if values is not None:
            expected = float(manifest.stats[key])
            item = compare(clauses, quantity, name, float(values.mean()), expected, tolerance)
            yield whole(item, "drift scale", LAMBDA) if clauses is LAMBDA else item


def run_seed_raw(manifest: GoldenManifest, context: Context) -> Iterator[Measurement]:
    """The vanilla term on raw distances and temperatures (R20)."""
    arrays = arrays_of(manifest)
    generated, positive = arrays["in_generated"][None], arrays["in_positive"][None]
    case = FeatureCase(
        manifest=case_manifest(manifest),
        # Some feature has to be there; only the vanilla term is looked at.
        generated={"pixels": generated[:, :, None]},
        positive={"pixels": positive[:, :, None]},
        generated_samples=generated,
        positive_samples=positive,
        temperatures=tuple(float(t) for t in arrays["temperatures"]),
    )
    context = held_to(context, SEED, case.traits())
    found = context.feature_loss(case)
    if found.raw_loss is None:
        raise NotObservable("the adapter does not show the vanilla term")
    name = f"{manifest.id}: {manifest.exercises}"
    expected, tolerance = float(arrays["f64_loss"]), context.tolerance("seed_loss")
    yield compare("A5-vanilla", "vanilla loss", name, found.raw_loss, expected, tolerance)
    if found.raw_gradient is not None:
        gradient, wanted = found.raw_gradient / context.setting.upstream, arrays["f64_grad"][None]
        tolerance = context.tolerance("seed_gradient")
        item = compare(GRADIENT, "vanilla gradient", name, gradient, wanted, tolerance)
        yield whole(item, "vanilla term", ("A5-vanilla",))


VECTOR_CLAUSES: Mapping[str, tuple[str, ...]] = {
    "stage0.loc": ("A5-a",),
    "stage0.global": ("A5-b",),
    "stage0.patch2": ("A5-c",),
    "stage0.patch4": ("A5-d",),
    "input.x2": ("A5-x2",),
}


def run_seed_vectors(manifest: GoldenManifest, context: Context) -> Iterator[Measurement]:
    """The vectors of maps of 8×8, 7×7 (cropped) and 4×4 locations (R30)."""
    arrays = arrays_of(manifest)
    for side in ("8", "7", "4"):
        case = VectorizeCase(
            manifest=case_manifest(manifest),
            maps={"stage0": arrays[f"in_map/{side}"]},
            inputs=arrays[f"in_image/{side}"],
            statistics=("loc", "global", "patch2", "patch4", "x2"),
        )
        found = held_to(context, SEED, case.traits())
        vectors, name = found.vectorize(case), f"{manifest.id}: {side}×{side} maps"
        for key, clauses in VECTOR_CLAUSES.items():
            expected = arrays[f"f64/{side}/{'input.x2mean' if key == 'input.x2' else key}"]
            got = vectors.get(key, np.empty(0))
            yield compare(clauses, key, name, got, expected, found.tolerance("vectors"))


def _check(manifest: GoldenManifest) -> Check:
    if manifest.set == "release":
        run, clauses = run_release, (*SCALE, *LAMBDA, *LOSS, *GRADIENT, WEIGHTED_SCALE)
    elif manifest.id == "R20":
        run, clauses = run_seed_raw, ("A5-vanilla", *GRADIENT)
    elif manifest.id == "R30":
        run, clauses = (
            run_seed_vectors,
            tuple(n for names in VECTOR_CLAUSES.values() for n in names),
        )
    else:
        run, clauses = run_seed_loss, (*LOSS, *GRADIENT, *SPEAKS_FOR.get(manifest.id, ()))
        if len(manifest.arguments["features"]) == 1:
            clauses = (*SCALE, *LAMBDA, *clauses)
    return Check(
        id=f"{manifest.set}.{manifest.id}",
        title=f"{manifest.set} vector {manifest.id}: {manifest.exercises}",
        clauses=clauses,
        kind="vector",
        run=partial(run, manifest),
    )


CHECKS: tuple[Check, ...] = tuple(
    _check(manifest) for manifest in golden.manifests() if manifest.id[0] in "AR"
)
