"""Encoders, masks and losses broken by hand, each with the checks and clauses it must turn red."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

import drifting_torch
from drifting_parity.adapters import torch_encoder
from drifting_spec import inventory as counted
from drifting_torch import (
    MAEResNetEncoder,
    MaskedAutoencoder,
    sample_mask,
    slot_inventory,
    unpatchify,
)
from drifting_torch.features import encoder, mae


class NoProjectionNorm(encoder.BasicBlock):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        if isinstance(self.shortcut, nn.Sequential):
            self.forward = lambda x: functional.relu(  # type: ignore[method-assign]
                self.norm2(self.conv2(functional.relu(self.norm1(self.conv1(x)))))
                + self.shortcut[0](x)  # pyright: ignore[reportIndexIssue]
            )


class NoReluAfterSum(encoder.BasicBlock):
    def forward(self, x: Tensor) -> Tensor:
        inner = functional.relu(self.norm1(self.conv1(x)))
        return self.norm2(self.conv2(inner)) + self.shortcut(x)


class StrideInSecond(encoder.BasicBlock):
    def __init__(self, channels: int, outputs: int, stride: int = 1) -> None:
        super().__init__(channels, outputs, stride)
        self.conv1.stride, self.conv2.stride = (1, 1), (stride, stride)


class Nearest(mae.UpsamplingBlock):
    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        x = functional.interpolate(x, size=skip.shape[2:], mode="nearest")
        enlarge, self.enlarge = self.enlarge, False
        try:
            return super().forward(x, skip)
        finally:
            self.enlarge = enlarge


class NoNormBeforeConvolution(mae.UpsamplingBlock):
    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        self.norm = nn.Identity()  # type: ignore[assignment]
        return super().forward(x, skip)


def _batch_norm(channels: int) -> nn.Module:
    class Coupled(nn.GroupNorm):
        def forward(self, x: Tensor) -> Tensor:
            return functional.batch_norm(x, None, None, self.weight, self.bias, True)

    return Coupled(1, channels)


def _fewer_groups(channels: int) -> int:
    return max(count for count in range(1, 9) if channels % count == 0)


def _same_padding(channels: int, outputs: int, side: int = 3, stride: int = 1) -> nn.Conv2d:
    """At stride 2 the zeros come after the last row and column alone."""

    class After(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            if self.stride == (2, 2) and self.kernel_size == (3, 3):
                padded = functional.pad(x, (0, 1, 0, 1))
                return functional.conv2d(padded, self.weight, None, 2)
            return super().forward(x)

    return After(channels, outputs, side, stride, padding=side // 2, bias=False)


def _permuted(images: Tensor, side: int) -> Tensor:
    """PyTorch's own order: channel, row, column."""
    return functional.pixel_unshuffle(images, side)


def _one_mask(batch: int, *arguments: Any, **options: Any) -> Tensor:
    return sample_mask(1, *arguments, **options).expand(batch, -1, -1)


def _exact_half(batch: int, height: int, width: int, **options: Any) -> Tensor:
    order = torch.rand(batch, height * width // 4, generator=options["generator"]).argsort(1)
    cells = (order < height * width // 8).reshape(batch, height // 2, width // 2)
    return cells.repeat_interleave(2, 1).repeat_interleave(2, 2)


def _single_cells(batch: int, height: int, width: int, **options: Any) -> Tensor:
    return torch.rand(batch, height, width, generator=options["generator"]) < 0.5


def _everywhere(images: Tensor, reconstruction: Tensor, mask: Tensor) -> Tensor:
    return (images - reconstruction).square().sum(1).mean()


def _absolute(images: Tensor, reconstruction: Tensor, mask: Tensor) -> Tensor:
    errors = (images - reconstruction).abs().sum(1) * mask
    return (errors.sum((1, 2)) / mask.sum((1, 2)).clamp(min=1)).mean()


def _unguarded(images: Tensor, reconstruction: Tensor, mask: Tensor) -> Tensor:
    errors = (images - reconstruction).square().sum(1) * mask
    return (errors.sum((1, 2)) / mask.sum((1, 2))).mean()


def _odd_taps(blocks: Any = counted.BLOCKS, taps: Any = "union") -> tuple[str, ...]:
    return tuple(name.replace("block2", "block1") for name in counted.tapped_maps(blocks, taps))


def _plus_stem(blocks: Any = counted.BLOCKS, taps: Any = "union") -> tuple[str, ...]:
    return ("stem", *(name for name in counted.tapped_maps(blocks, taps) if name != "stem"))


class Coarse(encoder.Stage):
    """Closes every stage under no reading: the norm is skipped."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        if isinstance(self.norm, nn.GroupNorm):
            self.norm.forward = lambda x: x  # type: ignore[method-assign]


def _masked_input(case: Any, readings: Any, setting: Any) -> Any:
    x = case.images.copy()
    x[:, :, ::2] = 0.0
    return REAL_MAPS(case.changed(images=x), readings, setting)


def _other_each_time(case: Any, readings: Any, setting: Any) -> Any:
    noise = np.random.default_rng().normal(size=case.images.shape)
    return REAL_MAPS(case.changed(images=case.images + 1e-3 * noise), readings, setting)


def _unmasked_reconstruction(self: MaskedAutoencoder, x: Tensor, mask: Tensor) -> Tensor:
    maps = self.encoder.all_maps(self.encoder.grid(x))
    return unpatchify(self.decoder(maps), self.encoder.patch_size)


def _all_masked(self: MaskedAutoencoder, x: Tensor, mask: Tensor) -> Tensor:
    maps = self.encoder.all_maps(torch.zeros_like(self.encoder.grid(x)))
    return unpatchify(self.decoder(maps), self.encoder.patch_size)


def _enlarged_output(grid: Tensor, side: int) -> Tensor:
    return unpatchify(grid, side).repeat_interleave(2, 2)


REAL_MAPS = torch_encoder.encoder_maps

VARIANTS: dict[str, tuple[Any, str, Any, dict[str, str]]] = {
    # What is replaced, by what, and which clause each check must turn red.
    "bias": (
        encoder,
        "convolution",
        lambda c, o, side=3, stride=1: nn.Conv2d(c, o, side, stride, padding=side // 2),
        {"release.parameters": "A3-width", "release.B01": "A3-stages"},
    ),
    "eps": (
        encoder,
        "NORM_EPS",
        1e-5,
        {
            "release.B01": "A3-stages",
            "encoder.closed_form": "A3-stages",
            "decoder.closed_form": "A3-dec-up",
        },
    ),
    "groups": (
        encoder,
        "group_count",
        _fewer_groups,
        {
            "release.B03": "A3-stages",
            "release.B04": "A3-stages",
            "encoder.closed_form": "A3-stages",
        },
    ),
    "batch-norm": (
        encoder,
        "group_norm",
        _batch_norm,
        {"encoder.uncoupled": "A3-norm", "release.B01": "A3-norm"},
    ),
    "padding": (
        encoder,
        "convolution",
        _same_padding,
        {"release.B01": "A3-stages", "release.B02": "A3-stages"},
    ),
    "no-projection-norm": (
        encoder,
        "BasicBlock",
        NoProjectionNorm,
        {"release.B03": "A3-stages", "encoder.closed_form": "A3-stages"},
    ),
    "no-relu": (encoder, "BasicBlock", NoReluAfterSum, {"release.B02": "A3-stages"}),
    "stride-in-second": (encoder, "BasicBlock", StrideInSecond, {"release.B01": "A3-stages"}),
    "odd-taps": (
        encoder,
        "tapped_maps",
        _odd_taps,
        {"encoder.taps": "A5-taps", "encoder.closed_form": "A5-taps", "release.B01": "A5-taps"},
    ),
    "stem-too": (encoder, "tapped_maps", _plus_stem, {"encoder.taps": "A5-taps"}),
    "no-closing-norm": (
        encoder,
        "Stage",
        Coarse,
        {"release.B01": "A3-norm", "release.B04": "A3-stages"},
    ),
    "patch-order": (
        encoder,
        "patchify",
        _permuted,
        {"release.B02": "A3-enc-in", "encoder.closed_form": "A3-enc-in"},
    ),
    "patch-order-2": (drifting_torch, "patchify", _permuted, {"encoder.patches": "A3-enc-in"}),
    "patches-back": (
        drifting_torch,
        "unpatchify",
        lambda grid, side: functional.pixel_shuffle(grid, side),
        {"encoder.patches": "A3-dec-head"},
    ),
    "inventory": (
        drifting_torch,
        "slot_inventory",
        lambda width, **options: slot_inventory(width + 1, **options),
        {"release.inventory": "A5-total"},
    ),
    "wide": (
        drifting_torch,
        "MAEResNetEncoder",
        lambda width, *a, **o: MAEResNetEncoder(2 * width, *a, **o),
        {"release.parameters": "A3-width", "encoder.taps": "A3-width"},
    ),
    "masked-input": (
        torch_encoder,
        "encoder_maps",
        _masked_input,
        {"encoder.unmasked": "A3-enc-only"},
    ),
    "noisy": (
        torch_encoder,
        "encoder_maps",
        _other_each_time,
        {"encoder.uncoupled": "A3-enc-only"},
    ),
    "nearest": (mae, "UpsamplingBlock", Nearest, {"decoder.closed_form": "A3-dec-up"}),
    "no-norm": (
        mae,
        "UpsamplingBlock",
        NoNormBeforeConvolution,
        {"decoder.closed_form": "A3-dec-up"},
    ),
    "enlarged": (
        mae,
        "unpatchify",
        _enlarged_output,
        {"decoder.sides": "A3-dec-head", "decoder.closed_form": "EQ-A3dec"},
    ),
    "mask-ignored": (
        MaskedAutoencoder,
        "forward",
        _unmasked_reconstruction,
        {"autoencoder.hidden": "A3-mask"},
    ),
    "all-masked": (MaskedAutoencoder, "forward", _all_masked, {"autoencoder.hidden": "A3-mask"}),
    "one-mask": (drifting_torch, "sample_mask", _one_mask, {"autoencoder.masks": "A3-mask"}),
    "exact-half": (drifting_torch, "sample_mask", _exact_half, {"autoencoder.masks": "A3-mask"}),
    "single-cells": (
        drifting_torch,
        "sample_mask",
        _single_cells,
        {"autoencoder.masks": "A3-mask"},
    ),
    "sixty-percent": (
        drifting_torch,
        "sample_mask",
        lambda *a, **o: sample_mask(*a, 0.6, **o),
        {"autoencoder.masks": "A3-mask"},
    ),
    "loss-everywhere": (
        drifting_torch,
        "reconstruction_loss",
        _everywhere,
        {"autoencoder.loss": "A3-loss"},
    ),
    "loss-absolute": (
        drifting_torch,
        "reconstruction_loss",
        _absolute,
        {"autoencoder.loss": "A3-loss"},
    ),
    "loss-unguarded": (
        drifting_torch,
        "reconstruction_loss",
        _unguarded,
        {"autoencoder.loss": "A3-loss"},
    ),
    "ramp": (
        drifting_torch,
        "classification_weight",
        lambda step: mae.classification_weight(step, ramp=3000),
        {"autoencoder.ramp": "A3-cls-lambda"},
    ),
}
