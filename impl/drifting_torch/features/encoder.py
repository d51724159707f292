"""The encoder of A.3: a ResNet with GroupNorm whose maps the drifting loss is computed on.

Its building blocks serve the decoder of ``drifting_torch.mae`` as well.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint as recomputed

from drifting_spec import PAPER, Readings, implements
from drifting_spec.inventory import BLOCKS, InputShape, check_encoder, tapped_maps
from drifting_torch.arguments.tensors import check_readings, check_tensor
from drifting_torch.features.patches import patchify
from drifting_torch.features.release_parameters import below

NORM_EPS = 1e-6
MOST_GROUPS = 32
"""The paper gives neither (P-50): as in the release."""


def group_count(channels: int) -> int:
    """Groups of a GroupNorm: the largest divisor of ``channels`` up to 32 (J-15)."""
    return max(count for count in range(1, MOST_GROUPS + 1) if channels % count == 0)


@implements("A3-norm")
def group_norm(channels: int) -> nn.GroupNorm:
    """GroupNorm where a ResNet has BatchNorm."""
    return nn.GroupNorm(group_count(channels), channels, eps=NORM_EPS)


def convolution(channels: int, outputs: int, side: int = 3, stride: int = 1) -> nn.Conv2d:
    """A convolution without bias, since a GroupNorm follows; keeps sides at stride 1."""
    layer = nn.Conv2d(channels, outputs, side, stride, padding=side // 2, bias=False)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return layer


@implements("A3-stages")
class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut; the shortcut is projected where shapes differ."""

    def __init__(self, channels: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = convolution(channels, outputs, stride=stride)
        self.norm1 = group_norm(outputs)
        self.conv2 = convolution(outputs, outputs)
        self.norm2 = group_norm(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels != outputs:
            projection = convolution(channels, outputs, side=1, stride=stride)
            self.shortcut = nn.Sequential(projection, group_norm(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Maps [B, C, H, W] → [B, C', H', W']."""
        inner = functional.relu(self.norm1(self.conv1(x)))
        return functional.relu(self.norm2(self.conv2(inner)) + self.shortcut(x))


class Stage(nn.Module):
    """A stage's blocks; ``norm`` closes it under the release's reading of the taps (J-06)."""

    def __init__(self, channels: int, outputs: int, blocks: int, stride: int, closed: bool) -> None:
        super().__init__()
        first = BasicBlock(channels, outputs, stride)
        rest = [BasicBlock(outputs, outputs) for _ in range(blocks - 1)]
        self.blocks = nn.ModuleList([first, *rest])
        self.norm: nn.Module = group_norm(outputs) if closed else nn.Identity()


class MAEResNetEncoder(nn.Module):
    """The encoder of A.3: images [B, C0, H0, W0] → the tapped maps [B, C, H, W] by name.

    The input is cut into patches of ``patch_size`` (A3-enc-in; pixels 8, latents 1). A 3×3
    convolution with GroupNorm and ReLU comes first (A3-stem), then stages of basic blocks, each
    further one with half the sides and twice the channels (A3-stages).

    Parameters
    ----------
    width
        Channels of the stem and of stage 1 (A3-width: 256 to 640 in the paper; any here).
    in_channels
        C0 of the images: 4 for latents, 3 for pixels.
    patch_size
        Side of the patches.
    blocks
        Residual blocks of each stage.
    readings
        ``taps`` is read (A5-taps). ``release`` taps the stem as well, and closes each stage with a
        further GroupNorm on the main path, whose output is the stage's final one.
    checkpoint
        Recompute each block's activations in the backward pass instead of keeping them.

    Raises
    ------
    ValueError
        For numbers below 1. ``forward`` raises it for images of other channels, or of sides that
        the patches do not divide.
    """

    def __init__(
        self,
        width: int,
        in_channels: int = 4,
        *,
        patch_size: int = 1,
        blocks: Sequence[int] = BLOCKS,
        readings: Readings = PAPER,
        checkpoint: bool = False,
    ) -> None:
        super().__init__()
        self.readings = check_readings(readings)
        check_encoder(width, blocks, InputShape(patch_size, patch_size, in_channels, patch_size))
        self.width, self.in_channels, self.patch_size = width, in_channels, patch_size
        self.checkpoint = checkpoint
        self.taps = tapped_maps(blocks, readings.taps)
        self.stem = nn.Sequential(
            convolution(patch_size**2 * in_channels, width), group_norm(width), nn.ReLU()
        )
        stages: list[Stage] = []
        for position, count in enumerate(blocks):
            channels = width * 2 ** max(position - 1, 0)
            outputs, stride = width * 2**position, 2 if position else 1
            stages.append(Stage(channels, outputs, count, stride, readings.taps == "release"))
        self.stages = nn.ModuleList(stages)

    @property
    def blocks(self) -> tuple[int, ...]:
        """Residual blocks of each stage."""
        return tuple(len(stage.blocks) for stage in self._stages())

    def _stages(self) -> list[Stage]:
        return [stage for stage in self.stages if isinstance(stage, Stage)]

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """The tapped maps, by the names of ``drifting_spec.inventory.tapped_maps``."""
        maps = self.all_maps(self.grid(images))
        return {name: maps[name] for name in self.taps}

    @implements("A3-enc-in")
    def grid(self, images: Tensor) -> Tensor:
        """The input that the first convolution sees, [B, patch_size²·C0, H, W]."""
        check_tensor("images", images, "B C0 H0 W0")
        if images.shape[1] != self.in_channels:
            raise ValueError(
                f"images has shape {tuple(images.shape)}, expected {self.in_channels} channels as "
                "the encoder's in_channels"
            )
        return patchify(images, self.patch_size)

    @implements("EQ-A3enc", "A3-stem", "A3-stages")
    def all_maps(self, grid: Tensor) -> dict[str, Tensor]:
        """Stem, every block's output, and every stage's final output, by name."""
        x = self.stem(grid)
        maps = {"stem": x}
        for number, stage in enumerate(self._stages(), start=1):
            for index, block in enumerate(stage.blocks, start=1):
                x = self._run(block, x)
                maps[f"stage{number}.block{index}"] = x
            x = stage.norm(x)
            maps[f"stage{number}.final"] = x
        return maps

    def release_parameters(self) -> dict[str, Tensor]:
        """Views of the parameters in the release's layout, by its names below ``encoder``."""
        return {
            release_name(name): each.permute(2, 3, 1, 0) if each.dim() == 4 else each
            for name, each in self.named_parameters()
        }

    def release_description(self) -> str:
        """Say which encoder this is, for the message that parameters do not fit it."""
        taps = self.readings.taps
        return f"an encoder of width {self.width}, blocks {self.blocks}, taps {taps!r}"

    def release_subtree(self, given: dict[str, object]) -> dict[str, object]:
        """Of the parameters of an autoencoder those below ``encoder``."""
        return below(given, "encoder", "encoders")

    def _run(self, block: nn.Module, x: Tensor) -> Tensor:
        if self.checkpoint and torch.is_grad_enabled():
            return recomputed(block, x, use_reentrant=False)  # pyright: ignore[reportReturnType]
        return block(x)


def release_name(name: str) -> str:
    """Translate the name of an encoder's parameter into the release's."""
    parts = name.split(".")
    leaf = {"weight": "scale", "bias": "bias"}[parts.pop()]
    if parts[0] == "stem":
        return "conv1/kernel" if parts[1] == "0" else f"gn1/{leaf}"
    stage = int(parts[1])
    if parts[2] == "norm":
        return f"layer{stage + 1}_norm/{leaf}"
    layers = {"conv1": "conv1/kernel", "conv2": "conv2/kernel"}
    layers |= {"norm1": f"gn1/{leaf}", "norm2": f"gn2/{leaf}"}
    layers |= {"shortcut.0": "proj_conv/kernel", "shortcut.1": f"proj_gn/{leaf}"}
    return f"stages_{stage}/layers_{parts[3]}/{layers['.'.join(parts[4:])]}"
