"""The release's generator: its activations, samples and gradients (G01–G03), its sizes (A.2).

Computed by the authors' release; no reference takes part. What a misreading costs is in the
vectors' index: from 3e-6 (another ε) to 1.4 (a shared codebook) of the samples' norm.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

import numpy as np

from drifting_parity import golden
from drifting_parity.adapters.base import NotObservable
from drifting_parity.cases import Array, GeneratorCase
from drifting_parity.checks.core import Check, Context, Yield
from drifting_parity.checks.generator.drawn import AS_RELEASED, clauses_of, comparable
from drifting_parity.checks.vectors.cases import arrays_of, case_manifest
from drifting_parity.golden import GoldenManifest
from drifting_parity.measure import Measurement, compare
from drifting_spec.generator import GeneratorSizes
from drifting_spec.registry import Tolerance

EXACT = Tolerance("exact", "exact", "any", 0.0, 0.0, "equal or not")


def generator_sizes(manifest: GoldenManifest) -> GeneratorSizes:
    """The release's arguments as sizes."""
    given = manifest.arguments
    return GeneratorSizes(
        input_size=given["input_size"],
        channels=given["in_channels"],
        patch_size=given["patch_size"],
        width=given["hidden_size"],
        depth=given["depth"],
        heads=given["num_heads"],
        classes=given["num_classes"],
        condition_width=given["cond_dim"],
        prefix_tokens=given["n_cls_tokens"],
        style_tokens=given["noise_coords"],
        style_entries=given["noise_classes"],
    )


def generator_case(manifest: GoldenManifest, arrays: Mapping[str, Array]) -> GeneratorCase:
    """A file's inputs, [B, H, W, C] → [B, C, H, W], with the parameters of its twin."""
    twin = next(each for each in golden.manifests() if each.id == f"{manifest.id}.params")
    noise = np.moveaxis(arrays["in_noise"] * arrays["in_temp"], -1, 1)
    return GeneratorCase(
        case_manifest(manifest),
        sizes=generator_sizes(manifest),
        noise=noise,
        labels=arrays["in_labels"].astype(np.int64),
        alpha=np.broadcast_to(arrays["in_alpha"], (len(noise),)).copy(),
        style=arrays["in_style"].astype(np.int64),
        parameters={name.removeprefix("p/"): array for name, array in arrays_of(twin).items()},
        direction=np.moveaxis(arrays["in_direction"], -1, 1),
    )


def run_vector(manifest: GoldenManifest, context: Context) -> Iterator[Measurement]:
    """Every activation that shows, the samples, and every gradient that shows."""
    if context.setting.dtype not in {"float64", "float32"}:
        raise NotObservable(f"vectors are not comparable in {context.setting.dtype}")
    arrays = _numbers(manifest)
    case = generator_case(manifest, arrays)
    observed = context.generate(case)
    near, tolerance = f"{manifest.id}: {manifest.exercises}", context.tolerance("generator")
    steps = comparable(
        {**observed.steps, "samples": np.moveaxis(observed.samples, 1, -1)}, case.sizes
    )
    theirs = {
        name.removeprefix("f64_act/").removeprefix("f64_"): array
        for name, array in arrays.items()
        if name.startswith(("f64_act/", "f64_samples"))
    }
    for name, array in comparable(theirs, case.sizes).items():
        if name in steps:
            clauses = clauses_of(name)
            yield compare(clauses, name, near, steps[name], array, tolerance, AS_RELEASED)
    gradients = dict(observed.gradients)
    if "noise" in gradients:
        gradients["noise"] = np.moveaxis(gradients["noise"], 1, -1)
    tolerance = context.tolerance("generator_gradient")
    for name, array in arrays.items():
        parameter = name.removeprefix("f64_grad/")
        if name.startswith("f64_grad/") and parameter in gradients:
            wanted, clauses = array * context.setting.upstream, _trained(parameter)
            what = f"gradient of {parameter}"
            yield compare(clauses, what, near, gradients[parameter], wanted, tolerance, AS_RELEASED)
    size = abs(context.setting.upstream)
    names = [str(name) for name in golden.load(manifest.id)["grad_norm_names"]]
    for parameter, norm in zip(names, arrays["f64_grad_norms"], strict=True):
        if parameter in gradients:
            got = float(np.linalg.norm(gradients[parameter]))
            what = f"norm of the gradient of {parameter}"
            yield compare(_trained(parameter), what, near, got, norm * size, tolerance, AS_RELEASED)


def _numbers(manifest: GoldenManifest) -> dict[str, Array]:
    """The file's numbers; the names among its arrays are none."""
    return {
        name: np.asarray(array, dtype=np.float64)
        for name, array in golden.load(manifest.id).items()
        if array.dtype.kind != "U"
    }


def _trained(parameter: str) -> tuple[str, ...]:
    """Which clauses the gradient of a parameter speaks for."""
    for start, clauses in (
        ("noise_embeds", ("A2-style",)),
        ("noise", ("EQ-A2", "A2-io")),
        ("LightningDiT_0/blocks", ("A2-blocks",)),
        ("LightningDiT_0/cls_embed", ("A2-incontext",)),
        ("LightningDiT_0/TorchLinear_1", ("A2-incontext",)),
        ("LightningDiT_0/TorchLinear_0", ("A2-io",)),
        ("LightningDiT_0/pos_embed", ("A2-io",)),
    ):
        if parameter.startswith(start):
            return clauses
    return ("A2-cond",)


TOTALS = {
    "latent_ablation": "ablation",
    "latent_sota_B": "latent-B/2",
    "pixel_sota_B": "pixel-B/16",
}
"""The release's configurations whose counts are kept, by Table 8's columns."""


def _counts(context: Context) -> Iterator[Yield]:
    """The release's totals, to the unit. Kills a shared codebook, a bias too many or too few."""
    arrays = golden.load("F")
    for name, column in TOTALS.items():
        wanted = float(arrays[f"generator/{name}"])
        got = float(context.adapter.generator_parameters(column))
        yield compare("A2-params", "parameters", f"{name}, {column}", got, wanted, EXACT)


CHECKS: tuple[Check, ...] = (
    *(
        Check(
            f"release.{manifest.id}",
            f"release vector {manifest.id}: {manifest.exercises}",
            ("EQ-A2", "A2-io", "A2-blocks", "A2-cond", "A2-incontext", "A2-style", "A2-unpatch"),
            "vector",
            partial(run_vector, manifest),
        )
        for manifest in golden.manifests()
        if manifest.id in {"G01", "G02", "G03"}
    ),
    Check(
        "release.generators",
        "the release's parameter counts of the generators",
        ("A2-params",),
        "vector",
        _counts,
    ),
)
