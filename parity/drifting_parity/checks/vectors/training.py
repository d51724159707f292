"""The release's whole training loss (C01–C03) and its guidance scales (D).

C holds the loss of images through the encoder, feature by feature, and its gradient in the
generated samples; α and w are those of the release's run. A wrong weight, tap, statistic, floor or
scope shows here in value or gradient. D holds α by inverse CDF at given uniforms.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from drifting_parity import golden
from drifting_parity.adapters.base import NotObservable
from drifting_parity.cases import Array, EncodedLossCase, EncoderCase
from drifting_parity.checks.core import Check, Context
from drifting_parity.checks.paper.identifiability import absolute
from drifting_parity.checks.vectors.cases import arrays_of, case_manifest, held_to
from drifting_parity.golden import GoldenManifest
from drifting_parity.measure import Measurement, compare, whole, within
from drifting_spec import RELEASE, Traits
from drifting_spec.inventory import VANILLA, release_key

TOTAL = ("A6-sum-features", "A5-sum", "EQ-14")
DIST = ("A7-alpha-dist",)


def loss_case(manifest: GoldenManifest) -> tuple[EncodedLossCase, dict[str, float], Array]:
    """The case, the release's loss of each feature, its gradient [L·N, C0, H0, W0]."""
    arrays = golden.load(manifest.id)
    name = str(manifest.stats["parameters"])
    twin = next(each for each in golden.manifests() if each.id == name)
    settings = twin.arguments

    def images(key: str) -> Array:
        return np.moveaxis(np.asarray(arrays[key], dtype=np.float64), -1, -3)

    encoder = EncoderCase(
        case_manifest(manifest),
        images=images("in_gen_samples"),
        parameters={key.removeprefix("p/"): array for key, array in arrays_of(twin).items()},
        width=int(settings["base_channels"]),
        blocks=tuple(int(count) for count in settings["layers"]),
        patch_size=int(settings["input_patch_size"]),
    )
    others, labels = images("in_negative_samples"), len(arrays["in_labels"])
    count = len(encoder.images) // labels
    alpha = np.asarray(arrays["f64_cfg"], dtype=np.float64)
    case = EncodedLossCase(
        encoder,
        images("in_samples"),
        others,
        (alpha - 1.0) * (count - 1) / others.shape[1],
        tuple(float(each) for each in arrays["R_list"]),
    )
    keys, values = arrays["feature_keys"], arrays["f64_loss_per_feature"]
    losses = {str(key): float(value) for key, value in zip(keys, values, strict=True)}
    return case, losses, images("f64_grad_gen_samples")


def run_loss(manifest: GoldenManifest, context: Context) -> Iterator[Measurement]:
    """Keys, the loss of every feature that is not constant by construction, the gradient."""
    case, losses, gradient = loss_case(manifest)
    traits = Traits(
        level="features",
        encoder=True,
        labels=len(case.positive),
        vectors=64,
        channels=64,
        temperatures=len(case.temperatures),
        weighted=True,
        raw_samples=True,
        input_statistics=True,
        patch_remainder=True,
        pixel_input=case.encoder.patch_size > 1,
    )
    context = held_to(context, RELEASE, traits)
    precision = "f64" if context.setting.dtype == "float64" else "f32"
    found = context.adapter.encoded_loss(case, context.readings, context.setting)
    if found.raw_gradient is None or found.raw_loss is None:
        raise NotObservable("the adapter shows no vanilla term or no gradient in the images")
    near = f"{manifest.id}: {manifest.exercises}"
    ours = {release_key(key): value for key, value in found.terms.items()}
    ours[release_key(VANILLA)] = found.raw_loss
    # The same features under the release's readings, with its keys.
    yield within("A5-taps", "features missing or too many", near, len(set(losses) ^ set(ours)), 0)
    kept = set(losses) & set(ours) - set(manifest.stats["degenerate_keys"])
    allowed = float(manifest.suggested[f"{precision}_loss_per_feature_rel_nondegenerate"])
    worst = max(abs(ours[key] / losses[key] - 1.0) for key in kept)
    clauses = (*TOTAL, "A5-vanilla", "EQ-26")
    what = f"relative error of {len(kept)} features' losses"
    yield whole(within(clauses, what, near, worst, allowed), "gradient", TOTAL)
    error = np.linalg.norm(found.raw_gradient / context.setting.upstream - gradient)
    relative = float(error / np.linalg.norm(gradient))
    allowed = float(manifest.suggested[f"{precision}_grad_rel_l2"])
    clauses = (*TOTAL, "EQ-26", "S3-sg")
    item = within(clauses, "relative l2 error of the gradient", near, relative, allowed)
    yield whole(item, "gradient", TOTAL)


def run_alpha(context: Context) -> Iterator[Measurement]:
    """α at 101 uniforms for n = 1, 3, 5, and with shares of α = 1."""
    arrays = arrays_of(next(each for each in golden.manifests() if each.id == "D"))
    tolerance = absolute(1e-12, "closed forms of numbers of order one; the makers suggest it")
    u = arrays["in_u"]
    for index, n in enumerate(arrays["neg_cfg_pw"]):
        got = context.adapter.guidance_alpha(u, float(n), 0.0)
        yield compare(DIST, "α(u)", f"D, n = {n:g}", got, arrays["f64_cfg"][index], tolerance)
    # There a second uniform decides on α = 1. Here one u does both: beyond the atom it is spread
    # over what is left, so that the same α stands at atom + (1 − atom)·u.
    drawn = float(arrays["u_for_frac2"][0])
    for index, atom in enumerate(arrays["no_cfg_frac"]):
        chosen = arrays["in_frac2"]
        inside = (chosen < 1.0) | (atom < 1.0)
        places = np.where(chosen < atom, chosen, atom + (1.0 - atom) * drawn)[inside]
        got = context.adapter.guidance_alpha(places, 3.0, float(atom))
        wanted = arrays["f64_cfg_no_cfg"][index][inside]
        yield compare(DIST, "α with a share at 1", f"D, atom {atom:g}", got, wanted, tolerance)


def _check(manifest: GoldenManifest) -> Check:
    clauses = (*TOTAL, "A5-vanilla", "A5-taps", "EQ-26", "S3-sg")
    title = f"release vector {manifest.id}: {manifest.exercises}"
    return Check(f"release.{manifest.id}", title, clauses, "vector", partial(run_loss, manifest))


CHECKS: tuple[Check, ...] = (
    *(_check(manifest) for manifest in golden.manifests() if manifest.id[0] == "C"),
    Check("release.D", "release vector D: α by inverse CDF, share at 1", DIST, "vector", run_alpha),
)
