"""Features of images in one call: an encoder's maps vectorised (A.5), its vectors as they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from drifting_torch.arguments.modules import check_evaluated
from drifting_torch.arguments.tensors import check_tensor
from drifting_torch.features.encoder import MAEResNetEncoder
from drifting_torch.features.vectors import (
    FeatureVectorizationConfig,
    check_maps,
    named_outputs,
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
        For an encoder whose outputs are neither, or have another number of samples; in training
        mode, or whose BatchNorm would mix the samples of a batch (A3-norm), as in a training step:
        the features of a sample must be repeatable; and for a :class:`MAEResNetEncoder`
        whose ``patch_size`` is not ``config.input_patch_size`` where x² is that of the patches.
    """
    check_evaluated("encoder", encoder)
    _check_patches(encoder, config)
    named = named_outputs(encoder(images))
    for key, each in named.items():
        if each.dim() not in (3, 4):
            raise ValueError(
                f"the encoder's {key!r} has shape {tuple(each.shape)}, expected a map [B, C, H, W] "
                "or vectors [B, V, C]"
            )
    maps = {key: each for key, each in named.items() if each.dim() == 4}
    given = {key: each for key, each in named.items() if each.dim() == 3}
    for key, each in given.items():
        check_tensor(f"feature {key!r}", each, "B V C")
        if len(each) != len(images):
            raise ValueError(
                f"feature {key!r} has shape {tuple(each.shape)}, expected {len(images)} samples as "
                f"the images {tuple(images.shape)}"
            )
    check_maps(maps, images)
    found = vectorize_feature_maps(maps, config, images)
    if clash := set(found) & set(given):
        raise ValueError(f"the encoder's vectors {sorted(clash)} have names of vectors of its maps")
    return {**found, **given}


def _check_patches(encoder: Encoder, config: FeatureVectorizationConfig) -> None:
    """Under ``x2_input='patchified'`` x² is that of the encoder's patches, and of no others."""
    if not isinstance(encoder, MAEResNetEncoder) or not config.include_input_x2_mean:
        return
    if config.readings.x2_input == "patchified" and encoder.patch_size != config.input_patch_size:
        raise ValueError(
            f"input_patch_size is {config.input_patch_size}, expected {encoder.patch_size} as the "
            "encoder's patch_size: x2_input is 'patchified'"
        )
