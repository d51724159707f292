"""From images to feature vectors: the maps of an encoder and the statistics of A.5."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from drifting_spec import PAPER, Readings, implements
from drifting_torch.arguments.modules import check_evaluated
from drifting_torch.arguments.tensors import check_readings, check_tensor
from drifting_torch.features.patches import patchify

INPUT_X2 = "input.x2"


@dataclass(frozen=True)
class FeatureVectorizationConfig:
    """Which vectors of A.5 are formed, and how.

    Attributes
    ----------
    include_per_location
        (a) one vector per location.
    include_global_stats
        (b) mean and std over the map.
    include_patch2_stats, include_patch4_stats
        (c), (d) means and stds of the 2×2 and 4×4 patches.
    include_input_x2_mean
        Mean of x² of the encoder's input, per channel.
    readings
        Read: ``std``, ``patch_remainder``, ``statistics_grouping``, ``x2_statistic``, ``x2_input``.
    input_patch_size
        Side of the patches that the encoder cuts its input into, read under
        ``x2_input='patchified'`` (8 for pixels, 1 for latents).
    """

    include_per_location: bool = True
    include_global_stats: bool = True
    include_patch2_stats: bool = True
    include_patch4_stats: bool = True
    include_input_x2_mean: bool = True
    readings: Readings = PAPER
    input_patch_size: int = 1

    def __post_init__(self) -> None:
        check_readings(self.readings)
        if self.input_patch_size < 1:
            raise ValueError(f"input_patch_size is {self.input_patch_size}, expected at least 1")


def extract_feature_maps(
    encoder: Callable[[Tensor], Tensor | Sequence[Tensor] | Mapping[str, Tensor]], images: Tensor
) -> dict[str, Tensor]:
    """Run ``encoder`` on images [B, C0, H0, W0] and name its maps [B, C, H, W].

    A mapping keeps its names, a sequence is called ``map0``, ``map1`` …, a single tensor ``map0``.
    Gradients pass. Raises ``ValueError`` or ``TypeError`` for outputs that are no such maps, and
    ``ValueError`` for an encoder in training mode, or whose BatchNorm would mix the samples of a
    batch (A3-norm), as in a training step: the features of a sample must be repeatable.
    """
    check_evaluated("encoder", encoder)
    check_tensor("images", images, "B C0 H0 W0")
    found = named_outputs(encoder(images))
    check_maps(found, images)
    return found


def named_outputs(outputs: object) -> dict[str, Tensor]:
    """What an encoder returned by name; what a sequence holds is called ``map0``, ``map1`` ….

    ``ValueError`` for nothing at all, ``TypeError`` for anything but tensors.
    """
    if isinstance(outputs, Tensor):
        outputs = [outputs]
    if isinstance(outputs, Mapping):
        named = {str(key): each for key, each in outputs.items()}
    elif isinstance(outputs, Sequence) and not isinstance(outputs, str):
        named = {f"map{index}": each for index, each in enumerate(outputs)}
    else:
        raise TypeError(
            f"the encoder returned {type(outputs).__name__}, expected a tensor, a sequence or a "
            "mapping of them"
        )
    if not named:
        raise ValueError("the encoder returned nothing, expected at least one map or feature")
    for key, each in named.items():
        if not isinstance(each, Tensor):
            raise TypeError(f"the encoder's {key!r} is {type(each).__name__}, expected a tensor")
    return named


def check_maps(maps: Mapping[str, Tensor], images: Tensor) -> None:
    """Demand maps [B, C, H, W] of as many samples as ``images`` has."""
    for name, each in maps.items():
        check_tensor(f"map {name!r}", each, "B C H W")
        if each.shape[0] != images.shape[0]:
            raise ValueError(
                f"map {name!r} has shape {tuple(each.shape)}, expected {images.shape[0]} samples "
                f"as images {tuple(images.shape)}"
            )


def vectorize_feature_maps(
    maps: Mapping[str, Tensor], config: FeatureVectorizationConfig, inputs: Tensor | None = None
) -> dict[str, Tensor]:
    """Form the vectors of A.5 from maps [B, C, H, W].

    Parameters
    ----------
    maps
        Maps by name.
    config
        Which vectors are wanted.
    inputs
        The encoder's inputs [B, C0, H0, W0], required by ``include_input_x2_mean``.

    Returns
    -------
    dict[str, Tensor]
        Vectors [B, V, C] by key ``<map>.<statistic>``; the statistics are ``loc``, ``mean``,
        ``std``, ``mean2``, ``std2``, ``mean4``, ``std4`` (row-major patches), under
        ``statistics_grouping='mean_with_std'`` merged to ``global``, ``patch2``, ``patch4``
        (means first); ``input.x2`` comes last. Each key is one normalisation group.

    Raises
    ------
    ValueError, TypeError
        For maps that are none, sides that patches do not divide under
        ``patch_remainder='error'``, ``inputs`` missing.
    """
    _check_vectorization(maps, config)
    vectors: dict[str, Tensor] = {}
    for name, each in maps.items():
        vectors.update(_map_vectors(name, check_tensor(f"map {name!r}", each, "B C H W"), config))
    if config.include_input_x2_mean:
        if inputs is None:
            raise ValueError(
                "inputs is None, expected the encoder's inputs [B, C0, H0, W0] because "
                "include_input_x2_mean is true"
            )
        vectors[INPUT_X2] = _input_x2(check_tensor("inputs", inputs, "B C0 H0 W0"), config)
        check_maps(maps, inputs)
    return vectors


def _check_vectorization(maps: object, config: object) -> None:
    if not isinstance(maps, Mapping):
        raise TypeError(f"maps is {type(maps).__name__}, expected a mapping from names to maps")
    if not isinstance(config, FeatureVectorizationConfig):
        hint = ", its .vectorization" if hasattr(config, "vectorization") else ""
        raise TypeError(
            f"config is {type(config).__name__}, expected a FeatureVectorizationConfig{hint}"
        )


@implements("A5-a", "A5-b", "A5-c", "A5-d", "A5-count")
def _map_vectors(name: str, each: Tensor, config: FeatureVectorizationConfig) -> dict[str, Tensor]:
    vectors: dict[str, Tensor] = {}
    if config.include_per_location:
        vectors[f"{name}.loc"] = each.flatten(2).transpose(1, 2)
    if config.include_global_stats:
        whole = each.flatten(2).unsqueeze(1)
        vectors.update(_statistics(f"{name}.", "", "global", whole, config.readings))
    for side, wanted in ((2, config.include_patch2_stats), (4, config.include_patch4_stats)):
        fitting = _fitting(name, each, side, config.readings) if wanted else None
        if fitting is not None:
            patches = _patches(fitting, side)
            vectors.update(
                _statistics(f"{name}.", str(side), f"patch{side}", patches, config.readings)
            )
    return vectors


def _statistics(
    prefix: str, suffix: str, merged: str, cells: Tensor, readings: Readings
) -> dict[str, Tensor]:
    """Means and stds [B, V, C] over the cells [B, V, C, K] of each patch."""
    mean, std = cells.mean(-1), _std(cells, readings)
    if readings.statistics_grouping == "mean_with_std":
        return {prefix + merged: torch.cat([mean, std], dim=1)}
    return {f"{prefix}mean{suffix}": mean, f"{prefix}std{suffix}": std}


def _std(cells: Tensor, readings: Readings) -> Tensor:
    count = cells.shape[-1]
    # In float32 or better: squares of half-precision activations overflow or lose everything.
    wide = cells if cells.dtype == torch.float64 else cells.float()
    squares = (wide - wide.mean(-1, keepdim=True)).square().sum(-1)
    # A single value has no spread under either estimator: 0/0 := 0.
    variance = squares / (max(count - 1, 1) if readings.std == "unbiased" else count)
    if readings.std == "population_eps":
        return (variance + 1e-6).sqrt().to(cells.dtype)
    # The root's slope at 0 is infinite; a constant patch has std 0 and passes no gradient.
    constant = variance == 0
    root = variance.masked_fill(constant, 1.0).sqrt()
    return root.masked_fill(constant, 0.0).to(cells.dtype)


@implements("A5-c", "A5-d")
def _fitting(name: str, each: Tensor, side: int, readings: Readings) -> Tensor | None:
    """The map as far as whole patches cover it; None where the statistic is left out."""
    height, width = each.shape[2:]
    if height % side == 0 and width % side == 0:
        return each
    if readings.patch_remainder == "error":
        raise ValueError(
            f"map {name!r} has {height}×{width} locations, expected multiples of {side} for the "
            f"{side}×{side} patches (patch_remainder is 'error'; 'skip' and 'crop' exist)"
        )
    height, width = height - height % side, width - width % side
    if readings.patch_remainder == "skip" or not height or not width:
        return None
    return each[:, :, :height, :width]


def _patches(each: Tensor, side: int) -> Tensor:
    """Cells [B, V, C, side²] of the side×side patches, row-major."""
    batch, channels, height, width = each.shape
    cells = each.reshape(batch, channels, height // side, side, width // side, side)
    cells = cells.permute(0, 2, 4, 1, 3, 5)
    return cells.reshape(batch, (height // side) * (width // side), channels, side * side)


@implements("A5-x2")
def _input_x2(inputs: Tensor, config: FeatureVectorizationConfig) -> Tensor:
    """Mean of x² per channel [B, 1, C0]."""
    if config.readings.x2_input == "patchified" and config.input_patch_size > 1:
        inputs = patchify(inputs, config.input_patch_size)
    wide = inputs if inputs.dtype == torch.float64 else inputs.float()
    mean = wide.square().mean((2, 3))
    if config.readings.x2_statistic == "rms":
        mean = (mean + 1e-6).sqrt()
    return mean.unsqueeze(1).to(inputs.dtype)


def group_by_label(features: Mapping[str, Tensor], labels: Tensor) -> dict[str, Tensor]:
    """Group features [B, V, C] by label: label-major samples become [L, N, V, C].

    Parameters
    ----------
    features
        Features by key, the samples of each label next to one another.
    labels
        Integer labels [B], as many samples of each; read on the host.

    Returns
    -------
    dict[str, Tensor]
        Views [L, N, V, C] where the strides allow it.

    Raises
    ------
    ValueError, TypeError
        For labels that are not label-major or not equally many, or features of another batch.
    """
    if not isinstance(labels, Tensor) or labels.is_floating_point() or labels.dim() != 1:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"labels is {labels!r}, expected an integer tensor [B]")
    found, counts = torch.unique_consecutive(labels, return_counts=True)
    if len(found) != len(torch.unique(labels)):
        raise ValueError(
            f"labels {labels.tolist()} are not label-major: the samples of a label must be adjacent"
        )
    if len(counts) == 0 or bool((counts != counts[0]).any()):
        raise ValueError(
            f"labels come {counts.tolist()} times each, expected as many samples of every label"
        )
    grouped: dict[str, Tensor] = {}
    for key, value in features.items():
        check_tensor(f"features[{key!r}]", value, "B V C")
        if value.shape[0] != labels.shape[0]:
            raise ValueError(
                f"features[{key!r}] has {value.shape[0]} samples, expected {labels.shape[0]}: one "
                "per label"
            )
        grouped[key] = value.unflatten(0, (len(found), -1))
    return grouped
