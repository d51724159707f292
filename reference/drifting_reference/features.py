"""A.5: the vectors that a feature map gives, their number, and the x² feature.

Patches are cut row by row; every statistic is taken channel by channel.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from drifting_reference.arrays import Array, as_array
from drifting_spec import PAPER, Readings, implements


@implements("A5-count")
def vector_count(side: int) -> int:
    """A5-count: n(H) = H² + 2 + 2(H/2)² + 2(H/4)² vectors of an H×H map (H a multiple of 4)."""
    if side < 4 or side % 4:
        raise ValueError(f"side is {side}, expected a positive multiple of 4")
    return side**2 + 2 + 2 * (side // 2) ** 2 + 2 * (side // 4) ** 2


BLOCKS = {32: 3, 16: 4, 8: 6, 4: 3}
"""Side of the map → residual blocks, for each stage of the encoder (A3-stages).

The maps are counted here from A.5's text alone; ``drifting_spec.inventory`` lists them by name.
"""


@implements("A5-taps")
def maps_per_side(readings: Readings = PAPER) -> dict[int, int]:
    """A5-taps: after every second block of a stage, and its final output: {side: maps}.

    A final output that is also an even block counts once (union) or twice (coincident_twice);
    network_output: only the last stage's final output is one; release: final outputs are maps
    of their own (normalised once more), and the stem is tapped.
    """
    maps: dict[int, int] = {}
    for side, blocks in BLOCKS.items():
        every_second = blocks // 2
        final = 1
        if readings.taps == "union":
            final = blocks % 2
        elif readings.taps == "network_output":
            final = blocks % 2 if side == min(BLOCKS) else 0
        stem = 1 if readings.taps == "release" and side == max(BLOCKS) else 0
        maps[side] = every_second + final + stem
    return maps


@implements("A5-total")
def total_vector_count(maps: Mapping[int, int]) -> int:
    """A5-total: Σ over sides of (number of maps) · n(side). ``maps``: side → number."""
    return sum(count * vector_count(side) for side, count in maps.items())


@implements("A5-a")
def location_vectors(feature_map: Array) -> Array:
    """A5-a: the H·W location vectors, row by row. [B, C, H, W] → [B, H·W, C]."""
    _, _, height, width = feature_map.shape
    vectors = [feature_map[:, :, h, w] for h in range(height) for w in range(width)]
    return np.stack(vectors, axis=1)


def mean_of(patch: Array) -> Array:
    """Mean over the locations of a patch [B, C, h, w], by channel → [B, C]."""
    return patch.mean(axis=(2, 3))


@implements("A5-b", "A5-c", "A5-d")
def std_of(patch: Array, readings: Readings = PAPER) -> Array:
    """Take the standard deviation over the locations of a patch [B, C, h, w] → [B, C].

    population: √(Σ(φ − mean)²/n); unbiased: over n − 1 (0 for n = 1); population_eps:
    √(population variance + 1e-6).
    """
    squares = np.sum((patch - mean_of(patch)[:, :, None, None]) ** 2, axis=(2, 3))
    n = patch.shape[2] * patch.shape[3]
    if readings.std == "unbiased":
        return np.sqrt(squares / (n - 1)) if n > 1 else np.zeros(squares.shape)
    if readings.std == "population_eps":
        return np.sqrt(squares / n + 1e-6)
    return np.sqrt(squares / n)


@implements("A5-b", "A5-c", "A5-d")
def patch_statistics(
    feature_map: Array, height: int, width: int, readings: Readings = PAPER
) -> tuple[Array, Array]:
    """Means and stds of the patches of ``height`` × ``width``, row by row, each [B, patches, C]."""
    means: list[Array] = []
    stds: list[Array] = []
    for h in range(0, feature_map.shape[2], height):
        for w in range(0, feature_map.shape[3], width):
            patch = feature_map[:, :, h : h + height, w : w + width]
            means.append(mean_of(patch))
            stds.append(std_of(patch, readings))
    return np.stack(means, axis=1), np.stack(stds, axis=1)


def divisible_map(name: str, feature_map: Array, size: int, readings: Readings) -> Array | None:
    """Apply patch_remainder: the map to cut into size × size patches, None if it is left out.

    error: ``ValueError`` unless both sides are multiples of ``size``; skip: left out; crop: the
    trailing rows and columns are dropped.
    """
    height, width = feature_map.shape[2:]
    if height % size == 0 and width % size == 0:
        return feature_map
    if readings.patch_remainder == "error":
        raise ValueError(
            f"maps[{name!r}] is {height}x{width}, expected sides that are multiples of {size} "
            "(patch_remainder='error')"
        )
    if readings.patch_remainder == "skip" or height < size or width < size:
        return None
    return feature_map[:, :, : height - height % size, : width - width % size]


@implements("A5-x2")
def input_x2(inputs: Array, readings: Readings = PAPER, input_patch_size: int = 1) -> Array:
    """A5-x2: the mean of x² over the encoder input, by channel. [B, C0, H0, W0] → [B, 1, C].

    x2_input=patchified: the input is cut into p × p patches first, C = p·p·C0 in the order (row
    in the patch, column in the patch, channel). x2_statistic=rms: √(mean x² + 1e-6).
    """
    p = input_patch_size if readings.x2_input == "patchified" else 1
    if p < 1 or inputs.shape[2] % p or inputs.shape[3] % p:
        raise ValueError(
            f"inputs has shape {inputs.shape}, expected sides that are multiples of "
            f"input_patch_size {input_patch_size}"
        )
    means: list[Array] = []
    for row in range(p):
        for column in range(p):
            for channel in range(inputs.shape[1]):
                x = inputs[:, channel, row::p, column::p]
                means.append(np.mean(x**2, axis=(1, 2)))
    mean_square = np.stack(means, axis=-1)[:, None, :]
    return np.sqrt(mean_square + 1e-6) if readings.x2_statistic == "rms" else mean_square


@implements("A5-a", "A5-b", "A5-c", "A5-d", "A5-identities")
def vectorize_feature_maps(
    maps: Mapping[str, ArrayLike],
    *,
    include_per_location: bool = True,
    include_global_stats: bool = True,
    include_patch2_stats: bool = True,
    include_patch4_stats: bool = True,
    include_input_x2_mean: bool = False,
    inputs: ArrayLike | None = None,
    input_patch_size: int = 1,
    readings: Readings = PAPER,
) -> dict[str, Array]:
    """A.5: maps {name: [B, C, H, W]} → vectors {name.statistic: [B, V, C]}.

    Statistics: loc; mean and std of the map; mean2, std2, mean4, std4 of its patches. With
    statistics_grouping=mean_with_std the pairs are one key each: global, patch2, patch4, means
    first. ``include_input_x2_mean`` adds ``input.x2`` of ``inputs`` [B, C0, H0, W0]. Raises
    ``ValueError`` for a remainder under patch_remainder=error and for missing ``inputs``.
    """
    vectors: dict[str, Array] = {}
    for name, value in maps.items():
        feature_map = as_array(f"maps[{name!r}]", value, "B", "C", "H", "W")
        if include_per_location:
            vectors[f"{name}.loc"] = location_vectors(feature_map)
        pairs: dict[str, tuple[Array, Array]] = {}
        if include_global_stats:
            height, width = feature_map.shape[2:]
            pairs[""] = patch_statistics(feature_map, height, width, readings)
        for size, included in ((2, include_patch2_stats), (4, include_patch4_stats)):
            cut = divisible_map(name, feature_map, size, readings) if included else None
            if cut is not None:
                pairs[str(size)] = patch_statistics(cut, size, size, readings)
        for size, (means, stds) in pairs.items():
            if readings.statistics_grouping == "mean_with_std":
                key = f"patch{size}" if size else "global"
                vectors[f"{name}.{key}"] = np.concatenate([means, stds], axis=1)
            else:
                vectors[f"{name}.mean{size}"], vectors[f"{name}.std{size}"] = means, stds
    if include_input_x2_mean:
        if inputs is None:
            raise ValueError("inputs is None, expected [B, C0, H0, W0]: the x² feature is on")
        images = as_array("inputs", inputs, "B", "C0", "H0", "W0")
        vectors["input.x2"] = input_x2(images, readings, input_patch_size)
    return vectors
