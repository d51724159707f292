"""A.3: the encoder and the decoder of the masked autoencoder, layer by layer.

Maps are [B, C, H, W]. Parameters are a mapping by name, kernels [row, column, in, out]; the
encoder's names are those of the authors' release. What the text leaves open (P-40, P-50) is as
in the release: GroupNorm of the largest divisor of C up to 32 groups, ε = 1e-6, no bias beside a
norm, a 1×1 projection where shapes differ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from drifting_reference.arrays import Array
from drifting_spec import PAPER, Readings, implements
from drifting_spec.inventory import BLOCKS, tapped_maps

Parameters = Mapping[str, Array]
Shape = tuple[int, ...]

EPS: Final = 1e-6
MOST_GROUPS: Final = 32


def convolve(x: Array, kernel: Array, stride: int = 1) -> Array:
    """Convolve with zero padding, so that stride 1 keeps the sides. [B, C, H, W], kernel as above.

    out(h, w) = Σ_ab x(stride·h + a − p, stride·w + b − p) kernel(a, b), p the half side.
    """
    side, _, _, outputs = kernel.shape
    batch, _, height, width = x.shape
    p = side // 2
    padded = np.pad(x, ((0, 0), (0, 0), (p, p), (p, p)))
    out = np.zeros((batch, outputs, -(-height // stride), -(-width // stride)))
    for a in range(side):
        for b in range(side):
            seen = padded[:, :, a : a + height : stride, b : b + width : stride]
            out += np.moveaxis(np.tensordot(seen, kernel[a, b], axes=(1, 0)), -1, 1)
    return out


@implements("A3-norm")
def group_norm(x: Array, parameters: Parameters, name: str) -> Array:
    """GroupNorm: each group of a sample's channels gets mean 0 and variance 1, then scale, bias."""
    batch, channels, _, _ = x.shape
    groups = max(g for g in range(1, MOST_GROUPS + 1) if channels % g == 0)
    cells = x.reshape(batch, groups, -1)
    mean = cells.mean(axis=-1, keepdims=True)
    variance = np.mean((cells - mean) ** 2, axis=-1, keepdims=True)
    normal = ((cells - mean) / np.sqrt(variance + EPS)).reshape(x.shape)
    scale, bias = parameters[f"{name}/scale"], parameters[f"{name}/bias"]
    return normal * scale[:, None, None] + bias[:, None, None]


def relu(x: Array) -> Array:
    """max(x, 0)."""
    return np.maximum(x, 0.0)


@implements("A3-stages")
def basic_block(x: Array, parameters: Parameters, name: str, stride: int) -> Array:
    """Two 3×3 convolutions, the first with ``stride``; the shortcut projected if shapes differ."""
    y = convolve(x, parameters[f"{name}/conv1/kernel"], stride)
    y = relu(group_norm(y, parameters, f"{name}/gn1"))
    y = group_norm(convolve(y, parameters[f"{name}/conv2/kernel"]), parameters, f"{name}/gn2")
    shortcut = x
    if f"{name}/proj_conv/kernel" in parameters:
        shortcut = convolve(x, parameters[f"{name}/proj_conv/kernel"], stride)
        shortcut = group_norm(shortcut, parameters, f"{name}/proj_gn")
    return relu(y + shortcut)


@implements("A3-enc-in")
def patchify(images: Array, side: int) -> Array:
    """[B, C, H, W] → [B, side²·C, H/side, W/side], channels by row, column, channel."""
    cells = [images[:, :, row::side, column::side] for row in range(side) for column in range(side)]
    return np.concatenate(cells, axis=1)


@implements("A3-dec-head")
def unpatchify(grid: Array, side: int) -> Array:
    """Put the patches back: the inverse of :func:`patchify`."""
    batch, _, height, width = grid.shape
    channels = grid.shape[1] // side**2
    images = np.zeros((batch, channels, height * side, width * side))
    for row in range(side):
        for column in range(side):
            first = (row * side + column) * channels
            images[:, :, row::side, column::side] = grid[:, first : first + channels]
    return images


@implements("EQ-A3enc", "A3-stem", "A3-stages")
def encode(
    images: Array,
    parameters: Parameters,
    *,
    blocks: Sequence[int] = BLOCKS,
    patch_size: int = 1,
    readings: Readings = PAPER,
) -> dict[str, Array]:
    """The stem, every block's output and every stage's final output, by name.

    taps=release: a further GroupNorm closes each stage.
    """
    return encode_grid(
        patchify(images, patch_size), parameters, blocks=blocks, closed=readings.taps == "release"
    )


def encode_grid(
    grid: Array, parameters: Parameters, *, blocks: Sequence[int], closed: bool
) -> dict[str, Array]:
    """Encode a patchified input; ``closed`` stages end with a GroupNorm."""
    x = convolve(grid, parameters["encoder/conv1/kernel"])
    x = relu(group_norm(x, parameters, "encoder/gn1"))
    maps = {"stem": x}
    for stage, count in enumerate(blocks):
        for block in range(count):
            stride = 2 if block == 0 and stage > 0 else 1
            x = basic_block(x, parameters, f"encoder/stages_{stage}/layers_{block}", stride)
            maps[f"stage{stage + 1}.block{block + 1}"] = x
        if closed:
            x = group_norm(x, parameters, f"encoder/layer{stage + 1}_norm")
        maps[f"stage{stage + 1}.final"] = x
    return maps


@implements("A5-taps")
def encoder_maps(
    images: Array,
    parameters: Parameters,
    *,
    blocks: Sequence[int] = BLOCKS,
    patch_size: int = 1,
    readings: Readings = PAPER,
) -> dict[str, Array]:
    """The tapped maps of images [B, C0, H0, W0], by name."""
    maps = encode(images, parameters, blocks=blocks, patch_size=patch_size, readings=readings)
    return {name: maps[name] for name in tapped_maps(blocks, readings.taps)}


@implements("A3-dec-up")
def doubled(x: Array) -> Array:
    """Bilinear ×2: along each axis out(2i) = ¼x(i−1) + ¾x(i), out(2i+1) = ¾x(i) + ¼x(i+1)."""
    for axis in (2, 3):
        x = np.moveaxis(x, axis, 0)
        before, after = np.concatenate([x[:1], x[:-1]]), np.concatenate([x[1:], x[-1:]])
        out = np.zeros((2 * x.shape[0], *x.shape[1:]))
        out[0::2], out[1::2] = before / 4 + 3 * x / 4, 3 * x / 4 + after / 4
        x = np.moveaxis(out, 0, axis)
    return x


@implements("A3-dec-up")
def upsampling_block(x: Array, skip: Array, parameters: Parameters, name: str) -> Array:
    """Concatenate with the skip, GroupNorm, then twice 3×3 convolution, GroupNorm, ReLU."""
    x = group_norm(np.concatenate([x, skip], axis=1), parameters, f"{name}/norm")
    for step in (1, 2):
        x = convolve(x, parameters[f"{name}/conv{step}/kernel"])
        x = relu(group_norm(x, parameters, f"{name}/norm{step}"))
    return x


@implements("EQ-A3dec", "A3-dec-bridge", "A3-dec-up", "A3-dec-head")
def decode(maps: Mapping[str, Array], parameters: Parameters, stages: int = 4) -> dict[str, Array]:
    """Every step of the decoder by name: ``bridge``, ``up1`` …, ``grid``, the output.

    The skips are the final outputs of the stages before the last, the coarsest first; the last
    upsampling block takes the stem and does not enlarge (P-40).
    """
    x = convolve(maps[f"stage{stages}.final"], parameters["decoder/bridge/kernel"])
    x = relu(group_norm(x, parameters, "decoder/bridge_norm"))
    steps = {"bridge": x}
    for position in range(1, stages):
        skip = maps[f"stage{stages - position}.final"]
        x = upsampling_block(doubled(x), skip, parameters, f"decoder/up{position}")
        steps[f"up{position}"] = x
    x = upsampling_block(x, maps["stem"], parameters, f"decoder/up{stages}")
    steps[f"up{stages}"] = x
    head = convolve(x, parameters["decoder/head/kernel"])
    steps["grid"] = head + parameters["decoder/head/bias"][:, None, None]
    return steps


@implements("A3-mask", "EQ-A3dec")
def reconstruct(
    images: Array,
    mask: Array,
    parameters: Parameters,
    *,
    blocks: Sequence[int] = BLOCKS,
    patch_size: int = 1,
    readings: Readings = PAPER,
) -> dict[str, Array]:
    """Every step of the decoder, and ``output`` [B, C0, H0, W0], for input hidden where mask > 0.

    ``mask`` is [B, H, W] on the grid.
    """
    grid = np.where(mask[:, None] > 0, 0.0, patchify(images, patch_size))
    maps = encode_grid(grid, parameters, blocks=blocks, closed=readings.taps == "release")
    steps = decode(maps, parameters, len(blocks))
    return steps | {"output": unpatchify(steps["grid"], patch_size)}


def _norm(shapes: dict[str, Shape], name: str, channels: int) -> None:
    shapes[f"{name}/scale"] = shapes[f"{name}/bias"] = (channels,)


@implements("A3-width", "A3-stages")
def encoder_shapes(
    width: int, in_channels: int, blocks: Sequence[int] = BLOCKS, readings: Readings = PAPER
) -> dict[str, Shape]:
    """Shape of every parameter of the encoder, ``in_channels`` those of its grid."""
    shapes: dict[str, Shape] = {"encoder/conv1/kernel": (3, 3, in_channels, width)}
    _norm(shapes, "encoder/gn1", width)
    channels = width
    for stage, count in enumerate(blocks):
        outputs = width * 2**stage
        for block in range(count):
            name = f"encoder/stages_{stage}/layers_{block}"
            shapes[f"{name}/conv1/kernel"] = (3, 3, channels, outputs)
            shapes[f"{name}/conv2/kernel"] = (3, 3, outputs, outputs)
            _norm(shapes, f"{name}/gn1", outputs)
            _norm(shapes, f"{name}/gn2", outputs)
            if channels != outputs:
                shapes[f"{name}/proj_conv/kernel"] = (1, 1, channels, outputs)
                _norm(shapes, f"{name}/proj_gn", outputs)
            channels = outputs
        if readings.taps == "release":
            _norm(shapes, f"encoder/layer{stage + 1}_norm", outputs)
    return shapes


@implements("A3-width", "EQ-A3dec")
def decoder_shapes(width: int, out_channels: int, stages: int = 4) -> dict[str, Shape]:
    """Shape of every parameter of the decoder, ``out_channels`` those of its grid."""
    channels = width * 2 ** (stages - 1)
    shapes: dict[str, Shape] = {"decoder/bridge/kernel": (3, 3, channels, channels)}
    _norm(shapes, "decoder/bridge_norm", channels)
    for position in range(1, stages + 1):
        outputs = width * 2 ** max(stages - 1 - position, 0)
        name = f"decoder/up{position}"
        _norm(shapes, f"{name}/norm", channels + outputs)
        shapes[f"{name}/conv1/kernel"] = (3, 3, channels + outputs, outputs)
        shapes[f"{name}/conv2/kernel"] = (3, 3, outputs, outputs)
        _norm(shapes, f"{name}/norm1", outputs)
        _norm(shapes, f"{name}/norm2", outputs)
        channels = outputs
    shapes["decoder/head/kernel"], shapes["decoder/head/bias"] = (
        (1, 1, width, out_channels),
        (out_channels,),
    )
    return shapes
