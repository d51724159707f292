"""The generator: P-37 (its in-context tokens), R-17 (unit queries), J-31 (rounded angles)."""

from __future__ import annotations

import numpy as np
from scipy.special import softmax

from drifting_parity.cases import Array, rounded
from drifting_parity.witnesses.core import witness
from drifting_reference.generator import generate, rms_norm, turned
from drifting_spec.generator import (
    HEAD_WIDTH,
    GeneratorSizes,
    parameter_count,
    parameter_shapes,
    sizes_of_table8,
)

SIZES = GeneratorSizes(8, 4, 2, 32, 2, 2, 5, 32, 16, 4, 8)


@witness("P-37-own")
def parameters_of_the_other_projections() -> float:
    sizes = sizes_of_table8("latent-B/2")
    inputs, outputs = parameter_shapes(sizes)["LightningDiT_0/TorchLinear_1/Dense_0/kernel"]
    own = parameter_count(sizes) + (sizes.prefix_tokens - 1) * (inputs + 1) * outputs
    return own / 1e6


@witness("P-37-rotary")
def samples_when_the_prefix_is_not_turned() -> float:
    # Matrices that keep the size of what passes; α, labels and indices are plain random numbers.
    rng = np.random.default_rng(3)
    parameters: dict[str, Array] = {}
    for name, shape in parameter_shapes(SIZES).items():
        value = rng.standard_normal(shape)
        scale = 1 / np.sqrt(shape[0]) if name.endswith("kernel") else 0.3
        parameters[name] = 1.0 + 0.2 * value if name.endswith("weight") else scale * value
    noise = rng.standard_normal((4, 4, 8, 8))
    alpha = rng.uniform(1.0, 4.0, 4)
    labels, style = rng.integers(5, size=4), rng.integers(8, size=(4, 4))
    whole, patches = (
        generate(
            noise,
            labels,
            alpha,
            style,
            parameters,
            patch_size=SIZES.patch_size,
            heads=SIZES.heads,
            rotary_positions=positions,
        )["samples"]
        for positions in ("sequence", "patches")
    )
    return float(np.linalg.norm(patches - whole) / np.linalg.norm(whole))


@witness("R-17-attention")
def largest_attention_weight_over_the_smallest() -> float:
    # A query of unit length, a key along it and one against it; their logits divided by √d.
    query = rms_norm(np.ones(HEAD_WIDTH), np.ones(HEAD_WIDTH)) / np.sqrt(HEAD_WIDTH)
    logits = np.asarray([query @ query, -query @ query]) / np.sqrt(HEAD_WIDTH)
    weights = softmax(logits)
    return float(weights[0] / weights[1])


@witness("J-31-places")
def places_that_bfloat16_tells_apart() -> float:
    sizes = sizes_of_table8("latent-B/2")
    places = np.arange(sizes.prefix_tokens + sizes.patch_tokens, dtype=np.float64)
    return float(len(np.unique(rounded(places, "bfloat16"))))


@witness("J-31-logits")
def logits_when_angles_are_rounded() -> float:
    # Queries and keys of unit mean square at all 272 places of a sequence.
    rng, places = np.random.default_rng(0), np.arange(272, dtype=np.float64)
    queries, keys = rms_norm(rng.standard_normal((2, 272, HEAD_WIDTH)), np.ones(HEAD_WIDTH))
    exact = turned(queries, places) @ turned(keys, places).T
    coarse = _turned_coarsely(queries, places) @ _turned_coarsely(keys, places).T
    return float(np.linalg.norm(coarse - exact) / np.linalg.norm(exact))


def _turned_coarsely(x: Array, places: Array) -> Array:
    """Turn by angles whose places and values are rounded to bfloat16."""
    half = x.shape[-1] // 2
    near, out = rounded(places, "bfloat16"), np.zeros_like(x)
    for k in range(half):
        angle = rounded(near * 10000.0 ** (-k / half), "bfloat16")
        a, b = x[..., k], x[..., k + half]
        out[..., k] = a * np.cos(angle) - b * np.sin(angle)
        out[..., k + half] = b * np.cos(angle) + a * np.sin(angle)
    return out
