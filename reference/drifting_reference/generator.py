"""A.2: the generator, layer by layer, in float64.

Noise and samples are [B, channels, side, side]; tokens [B, T, C]. Parameters are a mapping by the
names of the authors' release, matrices [in, out]. What the text leaves open is as in the release:
how α is embedded and that every style token has a table of its own (J-22, P-36), the widths, the
positions and the biases (J-23), what an in-context token holds and that it is turned (P-37).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, softmax

from drifting_reference.arrays import Array
from drifting_spec import implements

Parameters = Mapping[str, Array]
Indices = NDArray[np.int64]
RotaryPositions = Literal["sequence", "patches"]

EPS: Final = 1e-6
BASE: Final = 10000.0
ALPHA_WAVES: Final = 128
ALPHA_FACTOR: Final = 0.02
ROOT: Final = "LightningDiT_0"


def linear(x: Array, parameters: Parameters, name: str) -> Array:
    """X W + b."""
    return x @ parameters[f"{name}/Dense_0/kernel"] + parameters[f"{name}/Dense_0/bias"]


def silu(x: Array) -> Array:
    """Smooth gate: x / (1 + e^{−x})."""
    return x * expit(x)


@implements("A2-blocks")
def rms_norm(x: Array, weight: Array) -> Array:
    """Normalise: x / √(mean x² + ε) · weight, over the last axis."""
    return x / np.sqrt(np.mean(x**2, axis=-1, keepdims=True) + EPS) * weight


# The conditioning vector.


def alpha_features(alpha: Array) -> Array:
    """128 cosines, then 128 sines, of α·10000^{−k/128}: [B] → [B, 256]."""
    features = np.zeros((len(alpha), 2 * ALPHA_WAVES))
    for k in range(ALPHA_WAVES):
        angle = alpha * BASE ** (-k / ALPHA_WAVES)
        features[:, k], features[:, ALPHA_WAVES + k] = np.cos(angle), np.sin(angle)
    return features


def embedded_alpha(alpha: Array, parameters: Parameters) -> dict[str, Array]:
    """The steps from α to its embedding, before the factor 0.02, by name."""
    features = alpha_features(alpha)
    inner = silu(linear(features, parameters, "TimestepEmbedder_0/TorchLinear_0"))
    outer = linear(inner, parameters, "TimestepEmbedder_0/TorchLinear_1")
    normed = rms_norm(outer, parameters["RMSNorm_0/weight"])
    return {"alpha_features": features, "alpha_mlp": outer, "alpha_normed": normed}


@implements("A2-style")
def style_sum(style: Indices, parameters: Parameters) -> Array:
    """Σ_i table_i[s_i]: [B, style tokens] → [B, D]. A single table serves all tokens (P-36)."""
    total = np.zeros((len(style), parameters["Embed_0/embedding"].shape[1]))
    tables = [name for name in parameters if name.startswith("noise_embeds_")]
    for token in range(style.shape[1]):
        number = token if len(tables) > 1 else 0
        total += parameters[f"noise_embeds_{number}/embedding"][style[:, token]]
    return total


@implements("A2-cond", "A2-style")
def conditioning(
    labels: Indices, alpha: Array, style: Indices, parameters: Parameters
) -> dict[str, Array]:
    """The conditioning vector ``cond`` [B, D] and the steps to it: class + style + 0.02 · α."""
    steps = {"class_embedding": parameters["Embed_0/embedding"][labels]}
    steps |= embedded_alpha(alpha, parameters)
    cond = steps["class_embedding"] + style_sum(style, parameters)
    return steps | {"cond": cond + ALPHA_FACTOR * steps["alpha_normed"]}


# Patches and tokens.


@implements("A2-tokens")
def patches_of(images: Array, side: int) -> Array:
    """Cut into patches, row by row; in a patch (row, column, channel): [B, n², side²·channels]."""
    batch, channels, height, width = images.shape
    patches = np.zeros((batch, (height // side) * (width // side), side * side * channels))
    token = 0
    for top in range(0, height, side):
        for left in range(0, width, side):
            patch = images[:, :, top : top + side, left : left + side]
            patches[:, token] = np.moveaxis(patch, 1, -1).reshape(batch, -1)
            token += 1
    return patches


@implements("A2-unpatch")
def images_of(patches: Array, side: int, channels: int) -> Array:
    """Put square grids of patches back: the inverse of :func:`patches_of`."""
    batch, count, _ = patches.shape
    grid = round(np.sqrt(count))
    images = np.zeros((batch, channels, grid * side, grid * side))
    for token in range(count):
        top, left = side * (token // grid), side * (token % grid)
        patch = patches[:, token].reshape(batch, side, side, channels)
        images[:, :, top : top + side, left : left + side] = np.moveaxis(patch, -1, 1)
    return images


@implements("A2-incontext")
def sequence_of(patches: Array, cond: Array, parameters: Parameters) -> dict[str, Array]:
    """The in-context tokens, then the patches: ``sequence`` [B, K + n², C] and the steps to it.

    An in-context token is the projected conditioning vector plus its position; a projection of K
    times the width gives each its own content (P-37).
    """
    tokens = linear(patches, parameters, f"{ROOT}/TorchLinear_0")
    steps = {"patch_tokens": tokens}
    x = tokens + parameters[f"{ROOT}/pos_embed"][0]
    if f"{ROOT}/cls_embed" not in parameters:
        return steps | {"sequence": x}
    positions = parameters[f"{ROOT}/cls_embed"][0]
    projected = linear(cond, parameters, f"{ROOT}/TorchLinear_1")
    contents = projected.reshape(len(cond), -1, positions.shape[1])
    prefix = np.zeros((len(cond), *positions.shape))
    for place, position in enumerate(positions):
        content = place if contents.shape[1] > 1 else 0
        prefix[:, place] = contents[:, content] + position
    steps["prefix_projection"] = projected
    return steps | {"sequence": np.concatenate([prefix, x], axis=1)}


# Blocks.


@implements("A2-blocks")
def turned(x: Array, places: Array) -> Array:
    """Rotary positions of one head [B, T, E]: entry k turns with entry k + E/2.

    (a, b) → (a cos θ − b sin θ, b cos θ + a sin θ), θ = place · 10000^{−k/(E/2)}.
    """
    half = x.shape[-1] // 2
    out = np.zeros_like(x)
    for k in range(half):
        angle = places * BASE ** (-k / half)
        a, b = x[..., k], x[..., k + half]
        out[..., k] = a * np.cos(angle) - b * np.sin(angle)
        out[..., k + half] = b * np.cos(angle) + a * np.sin(angle)
    return out


@implements("A2-blocks")
def attention(
    x: Array, parameters: Parameters, name: str, heads: int, places: Array
) -> dict[str, Array]:
    """Attend over all tokens; queries and keys normalised, then turned; steps by name."""
    qkv = linear(x, parameters, f"{name}/TorchLinear_0")
    queries, keys, values = np.split(qkv, 3, axis=-1)
    width = x.shape[-1] // heads
    mixed, turned_queries, turned_keys = [], [], []
    for head in range(heads):
        own = slice(head * width, (head + 1) * width)
        q = turned(rms_norm(queries[..., own], parameters[f"{name}/q_norm/weight"]), places)
        k = turned(rms_norm(keys[..., own], parameters[f"{name}/k_norm/weight"]), places)
        logits = q @ np.swapaxes(k, -1, -2) / np.sqrt(width)
        mixed.append(softmax(logits, axis=-1) @ values[..., own])
        turned_queries.append(q)
        turned_keys.append(k)
    out = linear(np.concatenate(mixed, axis=-1), parameters, f"{name}/TorchLinear_1")
    q, k = np.stack(turned_queries, axis=2), np.stack(turned_keys, axis=2)
    return {"qkv": qkv, "q": q, "k": k, "attention": out}


@implements("A2-blocks")
def feed_forward(x: Array, parameters: Parameters, name: str) -> dict[str, Array]:
    """W₂(SiLU(W₁ x) · (W₃ x)), and what W₂ is given."""
    gate = silu(linear(x, parameters, f"{name}/TorchLinear_0"))
    hidden = gate * linear(x, parameters, f"{name}/TorchLinear_1")
    return {"ffn_hidden": hidden, "ffn": linear(hidden, parameters, f"{name}/TorchLinear_2")}


def modulated(x: Array, shift: Array, scale: Array) -> Array:
    """Modulate: x · (1 + scale) + shift, the same for every token of a sample."""
    return x * (1 + scale[:, None]) + shift[:, None]


@implements("A2-blocks", "A2-cond", "S4-arch")
def block(
    x: Array, cond: Array, parameters: Parameters, name: str, heads: int, places: Array
) -> tuple[Array, dict[str, Array]]:
    """Add gated attention, then a gated feed-forward part, each of the modulated norm of x."""
    adaln = linear(silu(cond), parameters, f"{name}/TorchLinear_0")
    shift_a, scale_a, gate_a, shift_f, scale_f, gate_f = np.split(adaln, 6, axis=-1)
    steps = {"adaln": adaln, "norm1": rms_norm(x, parameters[f"{name}/RMSNorm_0/weight"])}
    steps["attention_in"] = modulated(steps["norm1"], shift_a, scale_a)
    steps |= attention(steps["attention_in"], parameters, f"{name}/Attention_0", heads, places)
    x = x + gate_a[:, None] * steps["attention"]
    steps["norm2"] = rms_norm(x, parameters[f"{name}/RMSNorm_1/weight"])
    steps["ffn_in"] = modulated(steps["norm2"], shift_f, scale_f)
    steps |= feed_forward(steps["ffn_in"], parameters, f"{name}/SwiGLUFFN_0")
    return x + gate_f[:, None] * steps["ffn"], steps


@implements("A2-cond")
def final_layer(x: Array, cond: Array, parameters: Parameters) -> dict[str, Array]:
    """The modulated norm of x, projected to the numbers of a patch; steps by name."""
    name = f"{ROOT}/FinalLayer_0"
    adaln = linear(silu(cond), parameters, f"{name}/TorchLinear_0")
    shift, scale = np.split(adaln, 2, axis=-1)
    normed = rms_norm(x, parameters[f"{name}/RMSNorm_0/weight"])
    tokens = linear(modulated(normed, shift, scale), parameters, f"{name}/TorchLinear_1")
    return {"final/norm": normed, "final/adaln": adaln, "final/tokens": tokens}


@implements("EQ-A2", "A2-io", "A2-tokens", "A2-unpatch", "S4-cfg-cond", "S4-pixel")
def generate(
    noise: Array,
    labels: Indices,
    alpha: Array,
    style: Indices,
    parameters: Parameters,
    *,
    patch_size: int,
    heads: int,
    rotary_positions: RotaryPositions = "sequence",
) -> dict[str, Array]:
    """``samples`` and every step to them by name: (ε, c, α) ↦ x with ε = (noise, style).

    ``noise`` [B, channels, side, side], ``labels`` [B], ``alpha`` [B], ``style`` [B, tokens].
    Places count along the whole sequence; under ``rotary_positions='patches'`` from the first
    patch on, and in-context tokens are not turned (P-37).
    """
    steps = conditioning(labels, alpha, style, parameters)
    cond = steps["cond"]
    steps |= sequence_of(patches_of(noise, patch_size), cond, parameters)
    x = steps["sequence"]
    prefix = x.shape[1] - steps["patch_tokens"].shape[1]
    places = np.arange(x.shape[1], dtype=np.float64)
    if rotary_positions == "patches":
        places = np.maximum(places - prefix, 0.0)
    number = 0
    while f"{ROOT}/blocks_{number}/TorchLinear_0/Dense_0/bias" in parameters:
        x, inside = block(x, cond, parameters, f"{ROOT}/blocks_{number}", heads, places)
        steps |= {f"blocks_{number}/{name}": value for name, value in inside.items()}
        steps[f"blocks_{number}"] = x
        number += 1
    steps |= final_layer(x, cond, parameters)
    patches = steps["final/tokens"][:, prefix:]
    return steps | {"samples": images_of(patches, patch_size, noise.shape[1])}
