"""Golden files as cases: which inputs and readings belong to what a code base computed.

The release's groups are labels and its features have one vector; the seed repository's files have
one label and several features (A.5, A.6).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from drifting_parity import golden
from drifting_parity.adapters.base import NotObservable
from drifting_parity.cases import Array, FeatureCase, LossCase, Manifest
from drifting_parity.checks.core import Context
from drifting_parity.golden import GoldenManifest
from drifting_spec import SEED, Readings, Traits


def held_to(context: Context, readings: Readings, traits: Traits) -> Context:
    """The context under ``readings``, for double and single precision alone.

    :class:`NotObservable` in narrower dtypes, and for an adapter whose readings are fixed and
    compute something else on such a case.
    """
    if context.setting.dtype not in {"float64", "float32"}:
        raise NotObservable(f"vectors are not comparable in {context.setting.dtype}")
    if context.readings.canonical(traits) == readings.canonical(traits):
        return context
    return context.with_readings(readings)


def case_manifest(manifest: GoldenManifest) -> Manifest:
    """What a case carries of its golden file's manifest."""
    return Manifest(
        id=manifest.id,
        exercises=manifest.exercises,
        source=manifest.source,
        seed=manifest.seed,
        conditioning="ordinary" if manifest.conditioning == "well" else "coincident",
    )


def arrays_of(manifest: GoldenManifest) -> dict[str, Array]:
    """Every array of a golden file in float64; raises :class:`GoldenError` if it was altered."""
    return {name: np.asarray(a, dtype=np.float64) for name, a in golden.load(manifest.id).items()}


def release_case(manifest: GoldenManifest, arrays: Mapping[str, Array]) -> LossCase:
    """Groups become labels, features of one vector: [B, samples, S] → [L, N, 1, C]."""

    def feature(name: str) -> Array | None:
        return arrays[name][:, :, None, :] if name in arrays else None

    generated, positive = feature("in_gen"), feature("in_fixed_pos")
    unconditional = feature("in_fixed_neg")
    if generated is None or positive is None:
        raise golden.GoldenError(f"{manifest.id} holds no in_gen or no in_fixed_pos")
    weight = arrays.get("in_weight_neg")
    if unconditional is not None and weight is None:
        weight = np.ones(unconditional.shape[:2])
    return LossCase(
        manifest=case_manifest(manifest),
        generated=generated,
        positive=positive,
        unconditional=unconditional,
        unconditional_weight=weight,
        generated_weight=arrays.get("in_weight_gen"),
        positive_weight=arrays.get("in_weight_pos"),
        temperatures=tuple(float(t) for t in arrays["R_list"]),
    )


def seed_readings(config: Mapping[str, Any]) -> Readings:
    """The seed repository's settings as readings; the rest are its defaults."""
    readings = SEED.with_reading("temperature_aggregation", config["temperature_aggregation"])
    if not config["share_location_normalization"]:
        readings = readings.with_reading("location_sharing", "none")
    if not config["scale_temperature_by_sqrt_channels"]:
        readings = readings.with_reading("temperature_scaling", "raw")
    return readings


def seed_case(manifest: GoldenManifest, arrays: Mapping[str, Array]) -> FeatureCase:
    """One label; every key's features [samples, V, C] → [1, samples, V, C]."""

    def features(prefix: str) -> dict[str, Array]:
        start = f"in_{prefix}/"
        return {
            name.removeprefix(start): array[None]
            for name, array in arrays.items()
            if name.startswith(start)
        }

    weight = manifest.arguments["unconditional_weight"]
    return FeatureCase(
        manifest=case_manifest(manifest),
        generated=features("generated"),
        positive=features("positive"),
        unconditional=features("unconditional") or None,
        unconditional_weight=None if weight is None else np.array([float(weight)]),
        temperatures=tuple(manifest.arguments["config"]["temperatures"]),
    )
