"""The masked autoencoder of A.3 around the encoder: mask, decoder, reconstruction loss, λ-ramp.

What pre-training an encoder needs; for the drifting loss the encoder alone is used (A3-enc-only).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from drifting_spec import implements
from drifting_torch.arguments.tensors import check_tensor
from drifting_torch.features.encoder import MAEResNetEncoder, convolution, group_norm
from drifting_torch.features.patches import patchify, unpatchify

MASK_CELL = 2
"""A mask cell covers 2×2 positions of the encoder's grid."""

Averaging = Literal["per_sample", "per_sample_and_channel", "over_batch"]


@implements("A3-mask")
def sample_mask(
    batch: int,
    height: int,
    width: int,
    probability: float = 0.5,
    *,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """Draw masks [B, H, W] of the encoder's grid, true where the input is hidden.

    Each 2×2 cell is masked with ``probability``, independently of all others, so that the number
    masked varies from sample to sample (P-42). ``device`` is the generator's if None, the default
    one without either. ``ValueError`` for odd sides or a probability outside [0, 1].
    """
    if not 0.0 <= probability <= 1.0:
        raise ValueError(f"probability is {probability}, expected a number from 0 to 1")
    if batch < 1 or min(height, width) < MASK_CELL or height % MASK_CELL or width % MASK_CELL:
        raise ValueError(
            f"batch, height, width are {batch}, {height}, {width}, expected at least one sample "
            f"and sides that are multiples of {MASK_CELL}"
        )
    cells = (batch, height // MASK_CELL, width // MASK_CELL)
    if device is None and generator is not None:
        device = generator.device
    mask = torch.rand(cells, generator=generator, device=device) < probability
    return mask.repeat_interleave(MASK_CELL, 1).repeat_interleave(MASK_CELL, 2)


@implements("A3-loss")
def reconstruction_loss(
    images: Tensor,
    reconstruction: Tensor,
    mask: Tensor,
    *,
    patch_size: int = 1,
    averaging: Averaging = "per_sample",
) -> Tensor:
    """Squared error on the masked positions only (A3-loss); how it is averaged is open (P-41).

    Parameters
    ----------
    images, reconstruction
        [B, C0, H0, W0].
    mask
        [B, H, W] on the encoder's grid, H = H0/``patch_size``.
    patch_size
        Side of the encoder's patches; a position of the grid has patch_size²·C0 entries.
    averaging
        ``per_sample``: sum over the entries of a position, mean over a sample's masked positions,
        mean over the batch, as in the release. ``per_sample_and_channel``: the mean over the
        entries as well. ``over_batch``: one mean over all masked entries of the batch.

    Returns
    -------
    Tensor
        Scalar; a sample without a masked position, and a batch without any, counts 0.
    """
    return _averaged(*_masked_errors(images, reconstruction, mask, patch_size), averaging)


def _averaged(errors: Tensor, hidden: Tensor, averaging: Averaging) -> Tensor:
    """The mean over a batch, whichever it is."""
    if averaging == "over_batch":
        return (errors.mean(1) * hidden).sum() / hidden.sum().clamp(min=1.0)
    each = _of_samples(errors, hidden)
    if averaging == "per_sample":
        return each.mean()
    if averaging == "per_sample_and_channel":
        return each.mean() / errors.shape[1]
    raise ValueError(
        f"averaging is {averaging!r}, expected per_sample, per_sample_and_channel or over_batch"
    )


def _masked_errors(
    images: Tensor, reconstruction: Tensor, mask: Tensor, patch_size: int
) -> tuple[Tensor, Tensor]:
    """Squared errors [B, patch_size²·C0, H, W] of all positions, and the mask as numbers."""
    if images.shape != reconstruction.shape:
        raise ValueError(
            f"reconstruction has shape {tuple(reconstruction.shape)}, expected "
            f"{tuple(images.shape)} as images"
        )
    # In float32 or better: squares of half-precision errors overflow or lose everything.
    double = torch.float64 in (images.dtype, reconstruction.dtype)
    wide = torch.float64 if double else torch.float32
    errors = patchify(reconstruction.to(wide) - images.to(wide), patch_size).square()
    _check_mask(mask, errors)
    return errors, mask.to(errors.dtype)


def _of_samples(errors: Tensor, hidden: Tensor) -> Tensor:
    """Each sample's mean over its masked positions of the sum over their entries [B]."""
    return (errors.sum(1) * hidden).sum((1, 2)) / hidden.sum((1, 2)).clamp(min=1.0)


def _check_mask(mask: Tensor, grid: Tensor) -> None:
    wanted = (grid.shape[0], *grid.shape[2:])
    if mask.dtype != torch.bool or tuple(mask.shape) != wanted:
        raise ValueError(
            f"mask has dtype {mask.dtype} and shape {tuple(mask.shape)}, expected a boolean "
            f"tensor {wanted}: one entry per position of the encoder's grid"
        )


@implements("A3-cls-lambda")
def classification_weight(step: int, *, peak: float = 0.1, ramp: int = 1000) -> float:
    """Weight λ of the classification loss at ``step``: peak · min(1, step/ramp) (A3-cls-lambda).

    The loss of the fine-tuning is λ · classification + (1 − λ) · reconstruction (A3-cls), its
    steps counted from 0. ``ValueError`` for a step below 0, a ramp below 1, a peak outside [0, 1].
    """
    if step < 0:
        raise ValueError(f"step is {step}, expected at least 0")
    if not ramp >= 1:
        raise ValueError(f"ramp is {ramp}, expected at least 1")
    if not 0.0 <= peak <= 1.0:
        raise ValueError(f"peak is {peak}, expected a number from 0 to 1")
    return peak * min(1.0, step / ramp)


@implements("A3-dec-up")
class UpsamplingBlock(nn.Module):
    """Bilinear doubling, the encoder's map beside it, GroupNorm, two (3×3, GroupNorm, ReLU).

    ``enlarge=False`` leaves the doubling out: from side 4 to 32 there are three only (P-40).
    """

    def __init__(self, channels: int, skip: int, outputs: int, *, enlarge: bool) -> None:
        super().__init__()
        self.enlarge = enlarge
        self.norm = group_norm(channels + skip)
        self.conv1, self.norm1 = convolution(channels + skip, outputs), group_norm(outputs)
        self.conv2, self.norm2 = convolution(outputs, outputs), group_norm(outputs)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Maps [B, C, H, W] and [B, C', 2H, 2W] → [B, outputs, 2H, 2W]."""
        if self.enlarge:
            x = functional.interpolate(x, size=skip.shape[2:], mode="bilinear", align_corners=False)
        x = self.norm(torch.cat([x, skip], dim=1))
        x = functional.relu(self.norm1(self.conv1(x)))
        return functional.relu(self.norm2(self.conv2(x)))


@implements("EQ-A3dec")
class MAEDecoder(nn.Module):
    """From the encoder's maps back to its grid: bridge, upsampling blocks, 1×1 convolution.

    The upsampling blocks take the final outputs of the stages but the last, the coarsest first,
    and then, without enlarging, the stem (P-40). ``encoder`` gives the widths alone.
    """

    def __init__(self, encoder: MAEResNetEncoder) -> None:
        super().__init__()
        width, stages = encoder.width, len(encoder.blocks)
        channels = width * 2 ** (stages - 1)
        self.bridge = nn.Sequential(
            convolution(channels, channels), group_norm(channels), nn.ReLU()
        )
        blocks: list[UpsamplingBlock] = []
        for stage in reversed(range(stages - 1)):
            outputs = width * 2**stage
            blocks.append(UpsamplingBlock(channels, outputs, outputs, enlarge=True))
            channels = outputs
        blocks.append(UpsamplingBlock(channels, width, width, enlarge=False))
        self.blocks = nn.ModuleList(blocks)
        self.head = nn.Conv2d(width, encoder.patch_size**2 * encoder.in_channels, 1)

    @implements("A3-dec-bridge", "A3-dec-head")
    def forward(self, maps: dict[str, Tensor]) -> Tensor:
        """The encoder's ``all_maps`` → its grid, [B, patch_size²·C0, H, W]."""
        stages = len(self.blocks)
        x = self.bridge(maps[f"stage{stages}.final"])
        skips = [maps[f"stage{stage}.final"] for stage in range(stages - 1, 0, -1)]
        for block, skip in zip(self.blocks, [*skips, maps["stem"]], strict=True):
            x = block(x, skip)
        return self.head(x)


@dataclass(frozen=True)
class ReconstructionOutput:
    """What a masked autoencoder made of a batch.

    Attributes
    ----------
    loss
        Scalar, averaged as asked for; differentiable.
    per_sample
        Each sample's mean over its masked positions [B], of the sum over a position's entries under
        ``per_sample``, of their mean under the other two; 0 where none is masked. Differentiable.
        Their mean is ``loss``, under ``over_batch`` the mean weighted by ``mask_ratio``.
    mask_ratio
        The share of each sample's positions that was masked [B].
    mask
        The masks [B, H, W], true where the input was hidden.
    reconstruction
        [B, C0, H0, W0]; differentiable.
    """

    loss: Tensor
    per_sample: Tensor
    mask_ratio: Tensor
    mask: Tensor
    reconstruction: Tensor


class MaskedAutoencoder(nn.Module):
    """Encoder and decoder of A.3, to pre-train an encoder with.

    ``forward`` gives the reconstruction, :meth:`loss` what is minimised; afterwards ``encoder`` is
    used alone, in eval mode. For the fine-tuning of A3-cls, with a linear head on the last map and
    its cross-entropy ``classification``:

    >>> weight = classification_weight(step)                                 # doctest: +SKIP
    >>> loss = weight * classification + (1 - weight) * model.loss(images)   # doctest: +SKIP
    """

    def __init__(self, encoder: MAEResNetEncoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = MAEDecoder(encoder)

    @implements("A3-mask", "A3-dec-head")
    def forward(self, images: Tensor, mask: Tensor) -> Tensor:
        """Images [B, C0, H0, W0] and mask [B, H, W] → the reconstruction [B, C0, H0, W0]."""
        grid = self.encoder.grid(images)
        _check_mask(mask, grid)
        maps = self.encoder.all_maps(grid.masked_fill(mask.unsqueeze(1), 0.0))
        return unpatchify(self.decoder(maps), self.encoder.patch_size)

    def loss(
        self,
        images: Tensor,
        *,
        probability: float = 0.5,
        averaging: Averaging = "per_sample",
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """The reconstruction loss under freshly drawn masks; ``generator`` is on images' device.

        :meth:`reconstruct` gives each sample's as well.
        """
        return self.reconstruct(
            images, probability=probability, averaging=averaging, generator=generator
        ).loss

    def reconstruct(
        self,
        images: Tensor,
        *,
        probability: float = 0.5,
        averaging: Averaging = "per_sample",
        generator: torch.Generator | None = None,
    ) -> ReconstructionOutput:
        """Reconstruct images [B, C0, H0, W0] under freshly drawn masks: losses and mask ratios.

        ``generator`` is on images' device. Raises as :func:`sample_mask` and
        :func:`reconstruction_loss` do.
        """
        check_tensor("images", images, "B C0 H0 W0")
        batch, _, height, width = images.shape
        side = self.encoder.patch_size
        mask = sample_mask(
            batch,
            height // side,
            width // side,
            probability,
            generator=generator,
            device=images.device,
        )
        found = self(images, mask)
        errors, hidden = _masked_errors(images, found, mask, side)
        loss = _averaged(errors, hidden, averaging)
        each = _of_samples(errors, hidden)
        if averaging != "per_sample":
            each = each / errors.shape[1]
        return ReconstructionOutput(loss, each, hidden.mean((1, 2)), mask, found)
