"""The release's encoder: its activations (B01–B04), its inventory, its parameter counts (A.3, A.5).

Computed by the authors' release; no reference takes part. A wrong padding, ε, number of groups,
bias, order of patches or tap shows here even where reference and implementation share it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

import numpy as np

from drifting_parity import golden
from drifting_parity.adapters.base import NotObservable
from drifting_parity.cases import Array, EncoderCase, VectorizeCase
from drifting_parity.checks.core import Check, Context, Yield
from drifting_parity.checks.features.encoder import STAGES, clauses_of
from drifting_parity.checks.vectors.cases import arrays_of, case_manifest, held_to
from drifting_parity.golden import GoldenManifest
from drifting_parity.measure import Measurement, compare, within
from drifting_spec import RELEASE, Traits
from drifting_spec.inventory import release_key
from drifting_spec.registry import Tolerance

EXACT = Tolerance("exact", "exact", "any", 0.0, 0.0, "equal or not")
PATCHES: Mapping[str, str] = {"2": "A5-c", "4": "A5-d"}
ENCODER = Traits(level="features", encoder=True, input_statistics=True, patch_remainder=True)
STATISTICS = ("loc", "global", "patch2", "patch4", "x2")


def encoder_case(manifest: GoldenManifest, arrays: Mapping[str, Array]) -> EncoderCase:
    """A file's images [B, H, W, C] → [B, C, H, W] with the parameters of its twin."""
    twin = next(each for each in golden.manifests() if each.id == f"{manifest.id}.params")
    settings = twin.arguments
    return EncoderCase(
        case_manifest(manifest),
        images=np.moveaxis(arrays["in_x"], -1, 1),
        parameters={name.removeprefix("p/"): array for name, array in arrays_of(twin).items()},
        width=int(settings["base_channels"]),
        blocks=tuple(int(count) for count in settings["layers"]),
        patch_size=int(settings["input_patch_size"]),
    )


def run_activations(manifest: GoldenManifest, context: Context) -> Iterator[Measurement]:
    """Every vector of every tapped map: sums over all of it, and the entries that the file has."""
    context, arrays = held_to(context, RELEASE, ENCODER), arrays_of(manifest)
    case = encoder_case(manifest, arrays)
    maps = context.encoder_maps(case)
    vectors = context.vectorize(
        VectorizeCase(case.manifest, maps, case.images, STATISTICS, case.patch_size)
    )
    near = f"{manifest.id}: {manifest.exercises}"
    theirs = {name.removeprefix("stats64/") for name in arrays if name.startswith("stats64/")}
    ours = {release_key(key): key for key in vectors}
    yield within("A5-taps", "keys missing or too many", near, len(theirs ^ set(ours)), 0)
    for name in sorted(theirs & set(ours)):
        key = ours[name]
        yield from _compared(context, name, key, vectors[key], arrays, case.patch_size, near)


def _compared(
    context: Context,
    name: str,
    key: str,
    array: Array,
    arrays: Mapping[str, Array],
    patch_size: int,
    near: str,
) -> Iterator[Measurement]:
    clauses, tolerance = _clauses(key, patch_size), context.tolerance("encoder")
    expected = arrays[f"stats64/{name}"]
    yield compare(clauses, f"sums of {key}", near, checksums(array), expected, tolerance)
    wanted = arrays.get(f"f64/{name}")
    if wanted is None:
        # Kept in float32 alone: only as good as the release's own arithmetic.
        wanted, tolerance = arrays[f"f32/{name}"], context.spec.tolerance("encoder", "float32")
    places = arrays.get(f"tok/{name}")
    shown = array if places is None else array[:, places.astype(np.int64)]
    yield compare(clauses, key, near, shown, wanted, tolerance)


def checksums(array: Array) -> Array:
    """Sum, sum of sizes, sum of squares, and a sum whose weights tell positions apart."""
    flat = array.reshape(-1)
    weights = np.cos(0.37 * np.arange(flat.size) + 0.1)
    return np.asarray([flat.sum(), np.abs(flat).sum(), (flat**2).sum(), (flat * weights).sum()])


def _clauses(key: str, patch_size: int) -> tuple[str, ...]:
    if key == "input.x2":
        return ("A5-x2", "A3-enc-in") if patch_size > 1 else ("A5-x2",)
    name, _, statistic = key.rpartition(".")
    if statistic != "loc":
        return (PATCHES.get(statistic[-1], "A5-b"),)
    extra = ("A3-enc-in",) if patch_size > 1 and name == "stem" else ()
    return (*clauses_of(name), "A5-a", *extra)


def _inventory(context: Context) -> Iterator[Yield]:
    """86 features and 6,734 vectors. Kills a tap, a statistic or a channel count of its own."""
    arrays = golden.load("B-inventory")
    for name, width in (("latent_ablation_256", 256), ("latent_640", 640)):
        keys = [str(key) for key in arrays[f"{name}__has_scale/keys"]]
        theirs = dict(zip(keys, arrays[f"{name}__has_scale/T_D"].tolist(), strict=True))
        found = context.adapter.slot_inventory(width, (4, 32, 32), 1, RELEASE)
        ours = {release_key(key): list(slots) for key, slots in found.items()}
        wrong = sum(ours.get(key) != slots for key, slots in theirs.items())
        wrong += len(set(ours) - set(theirs))
        clauses = ("A5-taps", "A5-total")
        yield within(clauses, "keys with other vectors or channels", name, wrong, 0)
        total = sum(vectors for vectors, _ in ours.values())
        yield within(clauses, "vectors off 6734 by", name, abs(total - 6734), 0)


def _counts(context: Context) -> Iterator[Yield]:
    """340 and 2126 million. Kills bottlenecks (P-02), biases, a missing projection or norm."""
    if context.readings.taps != "release" and not context.adapter.configurable:
        raise NotObservable("needs readings taps=release, and the adapter's cannot be set")
    arrays = golden.load("F")
    for name, width, channels, patch_size in (
        ("latent_ablation_256", 256, 4, 1),
        ("latent_640", 640, 4, 1),
        ("pixel_640", 640, 3, 8),
    ):
        found = context.adapter.parameter_counts(width, channels, patch_size, RELEASE)
        for part, wanted in zip(("encoder", "decoder"), arrays[name], strict=False):
            clauses = ("A3-width", "A3-stages") if part == "encoder" else ("A3-dec-up", "EQ-A3dec")
            got = float(found.get(part, 0))
            yield compare(clauses, f"parameters of the {part}", name, got, float(wanted), EXACT)


CHECKS: tuple[Check, ...] = (
    *(
        Check(
            f"release.{manifest.id}",
            f"release vector {manifest.id}: {manifest.exercises}",
            (
                *(*STAGES, "A3-stem", "A3-norm", "A5-taps", "A5-x2"),
                *("A5-a", "A5-b", "A5-c", "A5-d"),
                *(("A3-enc-in",) if manifest.id == "B02" else ()),
            ),
            "vector",
            partial(run_activations, manifest),
        )
        for manifest in golden.manifests()
        if manifest.id in {"B01", "B02", "B03", "B04"}
    ),
    Check(
        "release.inventory",
        "the release's 86 features at widths 256 and 640",
        ("A5-taps", "A5-total"),
        "vector",
        _inventory,
    ),
    Check(
        "release.parameters",
        "the release's parameter counts at widths 256 and 640",
        ("A3-width", "A3-stages", "A3-dec-up", "EQ-A3dec"),
        "vector",
        _counts,
    ),
)
