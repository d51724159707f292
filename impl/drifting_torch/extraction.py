"""Features of images in one call: an encoder's maps vectorised (A.5), its vectors as they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from drifting_torch._validation import check_tensor
from drifting_torch.features import (
    FeatureVectorizationConfig,
    extract_feature_maps,
    vectorize_feature_maps,
)

Outputs = Tensor | Sequence[Tensor] | Mapping[str, Tensor]
Encoder = Callable[[Tensor], Outputs]


def extract_features(
    encoder: Encoder, images: Tensor, config: FeatureVectorizationConfig
) -> dict[str, Tensor]:
    """Vectors [B, V, C] by key from images [B, ...].

    Parameters
    ----------
    encoder
        Returns a tensor, a sequence or a mapping of them: maps [B, C, H, W], which are vectorised
        as ``config`` says, or vectors [B, V, C], taken as they are.
    images
        What it encodes; [B, C0, H0, W0] where it returns maps or x² is wanted.
    config
        Which vectors are formed of maps, and whether x² of the images is one more feature.

    Returns
    -------
    dict[str, Tensor]
        The vectors of the maps and x², then those that the encoder returned.

    Raises
    ------
    ValueError, TypeError
        For an encoder whose outputs are neither, or have another number of samples.
    """
    named = _named(encoder(images))
    maps = {key: each for key, each in named.items() if each.dim() != 3}
    given = {key: each for key, each in named.items() if each.dim() == 3}
    for key, each in given.items():
        check_tensor(f"feature {key!r}", each, "B V C")
        if len(each) != len(images):
            raise ValueError(
                f"feature {key!r} has shape {tuple(each.shape)}, expected {len(images)} samples as "
                f"the images {tuple(images.shape)}"
            )
    if maps:
        maps = _checked(maps, images)
    found = vectorize_feature_maps(maps, config, images)
    if clash := set(found) & set(given):
        raise ValueError(f"the encoder's vectors {sorted(clash)} have names of vectors of its maps")
    return {**found, **given}


def _checked(maps: dict[str, Tensor], images: Tensor) -> dict[str, Tensor]:
    def encoded(images: Tensor) -> dict[str, Tensor]:
        del images
        return maps

    return extract_feature_maps(encoded, images)


def _named(outputs: object) -> dict[str, Tensor]:
    """Outputs by name; those of a sequence are called ``map0``, ``map1`` and so on."""
    if isinstance(outputs, Tensor):
        outputs = [outputs]
    if isinstance(outputs, Mapping):
        named = {str(key): each for key, each in outputs.items()}
    elif isinstance(outputs, Sequence):
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
