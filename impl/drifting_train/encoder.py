"""``drifting-train encoder``: pre-train the encoder of A.3 as a masked autoencoder, small."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from drifting_torch import (
    MAEResNetEncoder,
    MaskedAutoencoder,
    clip_gradient_norm,
    reconstruction_loss,
    sample_mask,
)
from drifting_train.checkpoint import load_checkpoint
from drifting_train.errors import TrainError
from drifting_train.folders import ClassFolders
from drifting_train.loading import loaded
from drifting_train.options import option, settings_of
from drifting_train.settings import RunSettings, world_size
from drifting_train.task import Task


@dataclass(frozen=True, kw_only=True)
class EncoderSettings(RunSettings):
    """Settings of ``encoder``."""

    out: Path = option(Path("runs/encoder"), "folder of checkpoint and log")
    steps: int = option(600, "steps to train for, in all", least=1)
    folder: Path | None = option(
        None, "class folders of images or latents to train on; scikit-learn's digits if not given"
    )
    patch: int = option(1, "side of the patches that the input is cut into", least=1)
    batch: int = option(128, "images of a step", least=1)
    width: int = option(16, "channels of the first stage", least=1)
    blocks: tuple[int, ...] = option((1, 1), "residual blocks of each stage", least=1)
    mask_probability: float = option(0.5, "probability that a 2×2 cell is masked", least=0, most=1)
    learning_rate: float = option(4e-3, "learning rate after the warm-up", least=0)
    schedule: Literal["constant", "cosine"] = option(
        "cosine", "the learning rate after the warm-up: constant as in the release, or cosine"
    )
    ema_decays: tuple[float, ...] = option(
        (0.99,), "decays of the moving averages; the first is used", least=0, most=0.999999
    )

    def encoder(self, channels: int, side: int) -> MAEResNetEncoder:
        """The encoder of images of these channels and sides, before training."""
        last = side // self.patch / 2 ** (len(self.blocks) - 1)
        if side % self.patch or last % 4:
            raise TrainError(
                f"blocks is {self.blocks} and patch {self.patch}: the last map of images of side "
                f"{side} would have sides of {last:g}, expected a multiple of 4 for the 4×4 patches"
            )
        return MAEResNetEncoder(self.width, channels, patch_size=self.patch, blocks=self.blocks)


@dataclass(frozen=True)
class Source:
    """Images to train on, drawn [count, C, H, W] with replacement, and some to evaluate on."""

    draw: Callable[[int, torch.Generator], Tensor]
    test: Tensor


def source_of(folder: Path | None) -> Source:
    """The images of class folders, or the digits; of folders the first ones are evaluated on."""
    if folder is None:
        train, test = (each.images for each in loaded("drifting_train.digits_data").digits())

        def draw(count: int, rng: torch.Generator) -> Tensor:
            return train[torch.randint(len(train), (count,), generator=rng)]

        return Source(draw, test)
    data = ClassFolders(folder)
    rows = [(label, index) for label in range(len(data)) for index in range(data.counts[label])]
    test = torch.stack([data.sample(*row) for row in rows[:: max(1, len(rows) // 64)][:64]])
    return Source(lambda count, rng: data.draw(count, rng)[0], test)


class EncoderTask(Task):
    """Trains a masked autoencoder."""

    def __init__(self, settings: EncoderSettings, device: torch.device) -> None:
        if world_size() > 1:
            raise TrainError(f"encoder trains in one process, not in {world_size()}")
        torch.manual_seed(settings.seed)
        self.settings = settings
        self.source = source_of(settings.folder)
        channels, side = self.source.test.shape[1:3]
        self.autoencoder = MaskedAutoencoder(settings.encoder(channels, side))
        super().__init__(settings, self.autoencoder, device)
        self.test_images = self.source.test.to(device)

    def step(self) -> dict[str, float]:
        """One step on images drawn with replacement, under fresh masks."""
        images = self.source.draw(self.settings.batch, self.rng)
        loss = self._loss(images.to(self.device), self.rng)
        self.optimizer.zero_grad()
        loss.backward()
        norm = clip_gradient_norm(
            list(self.model.parameters()), self.settings.gradient_clip or None
        )
        if not bool(norm.isfinite()):
            raise FloatingPointError("the reconstruction loss or its gradient is not finite")
        self.optimizer.step()
        self.schedule.step()
        self.average.update()
        return {"loss": float(loss.detach()), "gradient_norm": float(norm)}

    def _loss(self, images: Tensor, rng: torch.Generator) -> Tensor:
        side = self.settings.patch
        mask = sample_mask(
            len(images),
            images.shape[2] // side,
            images.shape[3] // side,
            self.settings.mask_probability,
            generator=rng,
        ).to(self.device)
        found = self.autoencoder(images, mask)
        return reconstruction_loss(images, found, mask, patch_size=side)

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """The loss on images held for it, and what always answering their mean would cost."""
        rng = torch.Generator().manual_seed(1)
        with self.average.applied(self.decay):
            loss = self._loss(self.test_images, rng)
        apart = self.test_images - self.test_images.mean(0, keepdim=True)
        entries = self.settings.patch**2 * self.test_images.shape[1]
        return {
            "reconstruction_loss": float(loss),
            "reconstruction_loss_of_the_mean": float(apart.square().mean()) * entries,
        }


def encoder_run(path: Path) -> dict[str, Any]:
    """The checkpoint of a run of this command; :class:`TrainError` if it is of another, or none."""
    try:
        held = load_checkpoint(path)
    except TrainError as problem:
        raise TrainError(f"--encoder: {problem} (drifting-train encoder makes one)") from problem
    if held["command"] != "encoder":
        raise TrainError(f"--encoder {path} is of drifting-train {held['command']}")
    return held


def load_averages(encoder: MAEResNetEncoder, held: Mapping[str, Any], path: Path) -> None:
    """Give an encoder the averages of a run; :class:`TrainError` if they do not fit it."""
    try:
        averages = held["task"]["average"]["averages"][held["settings"]["ema_decays"][0]]
        own = {
            name.removeprefix("encoder."): value
            for name, value in averages.items()
            if name.startswith("encoder.")
        }
        encoder.load_state_dict(own)
    except (KeyError, RuntimeError) as problem:
        reason = " ".join(str(problem).split())[:160]
        raise TrainError(f"--encoder {path} does not fit: {reason}") from problem


def trained_encoder(path: Path, channels: int, side: int) -> MAEResNetEncoder:
    """The averaged encoder of a run for images of these channels and sides, frozen, evaluated."""
    held = encoder_run(path)
    settings = settings_of(EncoderSettings, held["settings"], origin=str(path))
    encoder = settings.encoder(channels, side)
    load_averages(encoder, held, path)
    return encoder.eval().requires_grad_(False)
