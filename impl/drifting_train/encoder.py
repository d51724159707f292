"""``drifting-train encoder``: pre-train the encoder of A.3 as a masked autoencoder, small."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from drifting_torch import (
    MAEResNetEncoder,
    MaskedAutoencoder,
    classification_weight,
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
    crop: float = option(
        1.0, "least share of an image that a random crop keeps; 1: none, 0.2: the release", most=1
    )
    flip: bool = option(False, "mirror every second image, drawn by chance, as the release does")
    classification_steps: int = option(
        0, "last steps, in which a linear head learns the classes too: 3000 in A.3", least=0
    )
    classification_peak: float = option(0.1, "greatest weight of that loss", least=0, most=1)
    classification_ramp: int = option(1000, "steps in which it rises from 0", least=1)
    learning_rate: float = option(4e-3, "learning rate after the warm-up", least=0)
    schedule: Literal["constant", "cosine"] = option(
        "cosine", "the learning rate after the warm-up: constant as in the release, or cosine"
    )
    ema_decays: tuple[float, ...] = option(
        (0.99,), "decays of the moving averages; the first is used", least=0, most=0.999999
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.crop <= 0:
            raise TrainError(f"crop is {self.crop}, expected a number above 0")
        if self.classification_steps > self.steps:
            raise TrainError(
                f"classification-steps is {self.classification_steps}, expected at most the "
                f"{self.steps} steps of the run"
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
    """Images [count, C, H, W] with labels: drawn with replacement to train on, and to evaluate."""

    draw: Callable[[int, torch.Generator], tuple[Tensor, Tensor]]
    test: Tensor
    test_labels: Tensor
    classes: int


def source_of(folder: Path | None) -> Source:
    """The images of class folders, or the digits; of folders the first ones are evaluated on."""
    if folder is None:
        held = loaded("drifting_train.digits_data")
        train, test = held.digits()

        def draw(count: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
            rows = torch.randint(len(train), (count,), generator=rng)
            return train.images[rows], train.labels[rows]

        return Source(draw, test.images, test.labels, held.CLASSES)
    data = ClassFolders(folder)
    rows = [(label, index) for label in range(len(data)) for index in range(data.counts[label])]
    rows = rows[:: max(1, len(rows) // 64)][:64]
    test = torch.stack([data.sample(*row) for row in rows])
    return Source(data.draw, test, torch.tensor([label for label, _ in rows]), len(data))


def augmented(images: Tensor, rng: torch.Generator, crop: float, flip: bool) -> Tensor:
    """Random crops of images [B, C, H, W], brought back to their size (A3-aug), mirrored or not.

    A crop keeps a share of the area from ``crop`` to 1, drawn evenly, and of its sides' ratio the
    logarithm is drawn evenly between those of 3/4 and 4/3; its place is drawn evenly inside.
    """
    count = len(images)

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, generator=rng)

    height, width = torch.ones(count), torch.ones(count)
    if crop < 1:
        area, ratio = uniform(crop, 1), uniform(math.log(3 / 4), math.log(4 / 3)).exp()
        height, width = ((area / ratio).sqrt().clamp(max=1), (area * ratio).sqrt().clamp(max=1))
    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 2] = (1 - width) * uniform(-1, 1)
    theta[:, 1, 2] = (1 - height) * uniform(-1, 1)
    theta[:, 0, 0] = width * (torch.where(uniform(0, 1) < 0.5, -1.0, 1.0) if flip else 1.0)
    theta[:, 1, 1] = height
    grid = functional.affine_grid(theta, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, padding_mode="border", align_corners=False)


class ClassifyingAutoencoder(MaskedAutoencoder):
    """A masked autoencoder with the linear head of A3-cls, on the mean of the encoder's last map.

    The head sees images without masks, as the drifting loss does; the text says neither which map
    nor whether they are masked (P-43).
    """

    def __init__(self, encoder: MAEResNetEncoder, classes: int) -> None:
        super().__init__(encoder)
        self.last = f"stage{len(encoder.blocks)}.final"
        self.head = nn.Linear(encoder.width * 2 ** (len(encoder.blocks) - 1), classes)

    def logits(self, images: Tensor) -> Tensor:
        """Images [B, C, H, W] → one number for each class [B, classes]."""
        maps = self.encoder.all_maps(self.encoder.grid(images))
        return self.head(maps[self.last].mean((2, 3)))


class EncoderTask(Task):
    """Trains a masked autoencoder."""

    def __init__(self, settings: EncoderSettings, device: torch.device) -> None:
        if world_size() > 1:
            raise TrainError(f"encoder trains in one process, not in {world_size()}")
        torch.manual_seed(settings.seed)
        self.settings = settings
        self.source = source_of(settings.folder)
        channels, side = self.source.test.shape[1:3]
        encoder = settings.encoder(channels, side)
        self.autoencoder = (
            ClassifyingAutoencoder(encoder, self.source.classes)
            if settings.classification_steps
            else MaskedAutoencoder(encoder)
        )
        super().__init__(settings, self.autoencoder, device)
        self.test_images = self.source.test.to(device)

    def step(self) -> dict[str, float]:
        """One step on images drawn with replacement, under fresh masks.

        In the last ``classification_steps`` the loss is λ · classification + (1 − λ) ·
        reconstruction (A3-cls).
        """
        images, labels = self.source.draw(self.settings.batch, self.rng)
        if self.settings.crop < 1 or self.settings.flip:
            images = augmented(images, self.rng, self.settings.crop, self.settings.flip)
        images = images.to(self.device)
        loss, parts = self._loss(images, self.rng), {}
        since = self.schedule.last_epoch - self.settings.steps + self.settings.classification_steps
        if isinstance(self.autoencoder, ClassifyingAutoencoder) and since >= 0:
            weight = classification_weight(
                since,
                peak=self.settings.classification_peak,
                ramp=self.settings.classification_ramp,
            )
            found = self.autoencoder.logits(images)
            classification = functional.cross_entropy(found, labels.to(self.device))
            parts = {
                "reconstruction_loss": float(loss.detach()),
                "classification_loss": float(classification.detach()),
                "classification_weight": weight,
            }
            loss = weight * classification + (1 - weight) * loss
        self.optimizer.zero_grad()
        loss.backward()
        norm = clip_gradient_norm(
            list(self.model.parameters()), self.settings.gradient_clip or None
        )
        if not bool(norm.isfinite()):
            raise FloatingPointError("the loss or its gradient is not finite")
        self.optimizer.step()
        self.schedule.step()
        self.average.update()
        return {"loss": float(loss.detach()), **parts, "gradient_norm": float(norm)}

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
            found = {}
            if isinstance(self.autoencoder, ClassifyingAutoencoder):
                taken = self.autoencoder.logits(self.test_images).argmax(1).cpu()
                right = taken == self.source.test_labels
                found = {"classification_accuracy": float(right.float().mean())}
        apart = self.test_images - self.test_images.mean(0, keepdim=True)
        entries = self.settings.patch**2 * self.test_images.shape[1]
        return {
            "reconstruction_loss": float(loss),
            "reconstruction_loss_of_the_mean": float(apart.square().mean()) * entries,
            **found,
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
